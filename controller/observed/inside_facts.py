"""Reads what ``look.sh`` and ``apply.sh`` print. Pure.

Every line tells by its beginning what it is. Lines of ``sha256sum``, ``systemctl show`` and ``ip``
are those programs' own. A line that is none of these is an error: facts half understood would be
drift that is not there.
"""

import json
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv6Address

from controller.observed.inside import FileFact, InsideView, UnitFact

MAX_OUTPUT_LINES = 20


class FactsError(ValueError):
    """The output is not what the scripts print, or it is cut off."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a look was asked for. ``hostname`` decides which of two differing names is told."""

    hostname: str
    packages: tuple[str, ...]
    files: tuple[str, ...]
    units: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """A command of an apply that failed; ``service`` is '' for hostname and SSH keys."""

    service: str
    action: str
    exit_code: int
    output: str


@dataclass(frozen=True, slots=True)
class Applied:
    """What an apply printed. ``view`` is None when ``busy``: another apply held the lock."""

    view: InsideView | None
    failures: tuple[Failure, ...]
    busy: bool = False


@dataclass(slots=True)
class _Facts:
    """What was read so far."""

    boot_id: str = ""
    hostnames: tuple[str, str] = ("", "")
    packages: list[tuple[str, str, str, str]] = field(default_factory=list)
    stats: dict[str, tuple[int, str, str]] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    units: dict[str, dict[str, str]] = field(default_factory=dict)
    missing_keys: int = 0
    addresses: list[str] = field(default_factory=list)
    cloud_init: str = ""
    cloud_json: list[str] = field(default_factory=list)
    pending: list[str] = field(default_factory=list)


_HASH = re.compile(r"(\\?)([0-9a-f]{64}) [ *](.*)")
_PROPERTY = re.compile(r"([A-Z][A-Za-z]+)=(.*)")
_NOT_GLOBAL = ("127.", "169.254.")
_TENTATIVE_OR_FAILED = 0x40 | 0x08  # IFA_F_TENTATIVE, IFA_F_DADFAILED (linux/if_addr.h)


def parse_look(text: str, asked: Asked, looked_at: float) -> InsideView:
    """The view in the output of a look. Raises ``FactsError``."""
    lines = text.split("\n")
    if lines[0] != "guestkeeper-look\t1":
        raise FactsError(f"a look begins otherwise: {lines[0][:80]!r}")
    return _view(lines[1:], asked, looked_at)


def parse_apply(text: str, asked: Asked, looked_at: float) -> Applied:
    """The failures and the view in the output of an apply. Raises ``FactsError``."""
    lines = text.split("\n")
    if lines[0] != "guestkeeper-apply\t1":
        raise FactsError(f"an apply begins otherwise: {lines[0][:80]!r}")
    failures: list[tuple[str, str, int, list[str]]] = []
    for number, line in enumerate(lines[1:], 1):
        tag, _, rest = line.partition("\t")
        if line == "busy":
            return Applied(None, (), busy=True)
        if line == "guestkeeper-look\t1":
            view = _view(lines[number + 1 :], asked, looked_at)
            return Applied(
                view,
                tuple(
                    Failure(service, action, code, _printed(output))
                    for service, action, code, output in failures
                ),
            )
        if tag == "error":
            service, code, action = _fields(line, rest, 3)
            failures.append((service, action, _number(line, code), []))
        elif tag == "output" and failures:
            failures[-1][3].append(rest)
        else:
            raise FactsError(f"an apply prints no such line: {line[:80]!r}")
    raise FactsError("the output of an apply is cut off")


def _printed(lines: Iterable[str]) -> str:
    """A command's last lines as text: progress bars and control characters taken out."""
    shown = (line.rstrip("\r").rpartition("\r")[2] for line in lines)
    clean = ("".join(c if c.isprintable() else " " for c in line).rstrip() for line in shown)
    return "\n".join([line for line in clean if line][-MAX_OUTPUT_LINES:])


def _view(lines: list[str], asked: Asked, looked_at: float) -> InsideView:
    facts = _Facts()
    block: dict[str, str] = {}
    ended = False
    for line in lines:
        if line == "look-end":
            ended = True
            break
        if (prop := _PROPERTY.fullmatch(line)) is not None:
            block[prop[1]] = prop[2]
            continue
        if block:
            _end_block(facts, block)
            block = {}
        if line:
            _read(facts, line)
    if block:
        _end_block(facts, block)
    if not ended:
        raise FactsError("the output of a look is cut off")
    running, static = facts.hostnames
    return InsideView(
        looked_at=looked_at,
        boot_id=facts.boot_id,
        hostname=static if running == asked.hostname else running,
        packages={name: _version(facts, name) for name in asked.packages},
        files={path: _file(facts, path) for path in asked.files},
        units={unit: _unit(facts, unit) for unit in asked.units},
        missing_ssh_keys=facts.missing_keys,
        addresses=tuple(facts.addresses),
        cloud_init=_cloud_init(facts),
        pending=tuple(facts.pending),
    )


def _end_block(facts: _Facts, block: dict[str, str]) -> None:
    for name in block.get("Names", "").split():
        facts.units[name] = block


def _read(facts: _Facts, line: str) -> None:
    tag, tab, rest = line.partition("\t")
    if not tab:
        _read_foreign(facts, line)
    elif tag == "boot":
        facts.boot_id = rest
    elif tag == "hostname":
        running, static = _fields(line, rest, 2)
        facts.hostnames = (running, static.strip())
    elif tag == "address":
        if not rest.startswith(_NOT_GLOBAL) and rest not in facts.addresses:
            facts.addresses.append(rest)
    elif tag == "inet6":
        _read_inet6(facts, line, rest)
    elif tag == "cloud-init":
        facts.cloud_init = rest
    elif tag == "cloud-json":
        facts.cloud_json.append(rest)
    elif tag == "pending":
        facts.pending.append(rest)
    elif tag == "keys-missing":
        facts.missing_keys = _number(line, rest)
    elif tag == "package":
        name, status, architecture, version = _fields(line, rest, 4)
        facts.packages.append((name, status, architecture, version))
    elif tag == "stat":
        mode, owner, group, path = _fields(line, rest, 4)
        facts.stats[path] = (_number(line, mode, 16), owner, group)
    else:
        _read_foreign(facts, line)


def _read_foreign(facts: _Facts, line: str) -> None:
    if (match := _HASH.fullmatch(line)) is not None:
        facts.hashes[_unescaped(match[3]) if match[1] else match[3]] = match[2]
    else:
        raise FactsError(f"a look prints no such line: {line[:80]!r}")


def _read_inet6(facts: _Facts, line: str, rest: str) -> None:
    """A line of /proc/net/if_inet6: address, index, prefix, scope, flags (hex), device."""
    fields = rest.split()
    if len(fields) != 6 or len(fields[0]) != 32:
        raise FactsError(f"no line of if_inet6: {line[:80]!r}")
    if (
        _number(line, fields[3], 16) == 0
        and not _number(line, fields[4], 16) & _TENTATIVE_OR_FAILED
    ):
        facts.addresses.append(str(IPv6Address(_number(line, fields[0], 16))))


def _unescaped(path: str) -> str:
    """sha256sum(1) marks a line whose path it had to escape by a backslash before the digest."""
    return re.sub(r"\\(.)", lambda match: {"n": "\n", "r": "\r"}.get(match[1], match[1]), path)


def _fields(line: str, rest: str, count: int) -> list[str]:
    fields = rest.split("\t", count - 1)
    if len(fields) != count:
        raise FactsError(f"a line has too few fields: {line[:80]!r}")
    return fields


def _number(line: str, text: str, base: int = 10) -> int:
    try:
        return int(text, base)
    except ValueError as error:
        raise FactsError(f"a line has no number where it should: {line[:80]!r}") from error


def _version(facts: _Facts, asked: str) -> str | None:
    for name, status, architecture, version in facts.packages:
        names = (name, f"{name}:{architecture}", f"{name}.{architecture}")
        if asked in names and status == "installed":
            return version
    return None


def _file(facts: _Facts, path: str) -> FileFact:
    if path not in facts.stats:
        return FileFact(path, None)
    mode, owner, group = facts.stats[path]
    digest = facts.hashes.get(path) if stat.S_ISREG(mode) else None
    return FileFact(path, digest, owner, group, stat.S_IMODE(mode))


def _unit(facts: _Facts, unit: str) -> UnitFact:
    block = facts.units.get(unit)
    if block is None:
        return UnitFact(unit, "inactive", "")
    return UnitFact(unit, block.get("ActiveState", ""), block.get("UnitFileState", ""))


def _cloud_init(facts: _Facts) -> str:
    if facts.cloud_init != "result":
        return facts.cloud_init
    try:
        errors = json.loads("\n".join(facts.cloud_json))["v1"]["errors"]
    except (ValueError, KeyError, TypeError):
        # Looked at in the moment in which cloud-init wrote it.
        return "running"
    return "error" if errors else "done"
