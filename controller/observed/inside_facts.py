"""Parse the output of ``look.sh`` and ``apply.sh``. Pure.

The beginning of each line says what it is. Lines of ``sha256sum`` and ``systemctl show`` are in
those programs' own formats. Any other line is an error, because facts that are half understood
would look like drift that does not exist.

A guest may print anything. Whatever it is, the parser raises nothing but ``FactsError``, takes time
in proportion to its length, and keeps only what was asked for, printable and bounded.
"""

import json
import re
import stat
from collections import deque
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from controller.observed.guest_text import MAX_LINES, last_lines, printable
from controller.observed.inside import FileFact, InsideView, UnitFact

MAX_ADDRESSES = 64
MAX_FAILURES = 10
MAX_PENDING = 256


class FactsError(ValueError):
    """The output is not that of the scripts, or it is cut off."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a look is asked for. ``hostname`` decides which of two different names is reported."""

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
    """What an apply printed. ``view`` is None when ``busy``: another apply held the lock.

    ``failures`` are the first ten; ``more`` is how many came after them.
    """

    view: InsideView | None
    failures: tuple[Failure, ...]
    busy: bool = False
    more: int = 0


@dataclass(slots=True)
class _Facts:
    """The facts read so far, of those that were ``asked``."""

    asked: Asked
    boot_id: str = ""
    hostnames: tuple[str, str] = ("", "")
    versions: dict[str, str | None] = field(default_factory=dict)
    stats: dict[str, tuple[int, str, str] | None] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    units: dict[str, UnitFact] = field(default_factory=dict)
    missing_keys: int = 0
    addresses: dict[str, None] = field(default_factory=dict)
    cloud_init: str = ""
    cloud_json: list[str] = field(default_factory=list)
    pending: dict[str, None] = field(default_factory=dict)
    ran: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.versions = dict.fromkeys(self.asked.packages)
        self.stats = dict.fromkeys(self.asked.files)
        self.units = {unit: UnitFact(unit, "inactive", "") for unit in self.asked.units}


@dataclass(slots=True)
class _Failed:
    """A failure whose output is still being read."""

    service: str
    action: str
    exit_code: int
    output: deque[str] = field(default_factory=lambda: deque(maxlen=4 * MAX_LINES))


_HASH = re.compile(r"(\\?)([0-9a-f]{64}) [ *](.*)")
_PROPERTY = re.compile(r"([A-Z][A-Za-z]+)=(.*)")
_DIGITS = {10: re.compile(r"[0-9]{1,10}"), 16: re.compile(r"[0-9A-Fa-f]{1,8}")}
_INET6 = re.compile(r"[0-9A-Fa-f]{32}")
_TENTATIVE_OR_FAILED = 0x40 | 0x08  # IFA_F_TENTATIVE, IFA_F_DADFAILED (linux/if_addr.h)


def parse_look(text: str, asked: Asked, looked_at: float) -> InsideView:
    """The view in the output of a look. Raises ``FactsError``."""
    lines = text.split("\n")
    if lines[0] != "guestkeeper-look\t1":
        raise _unlike("a look begins otherwise", lines[0])
    return _view(lines[1:], asked, looked_at)


def parse_apply(text: str, asked: Asked, looked_at: float) -> Applied:
    """The failures and the view in the output of an apply. Raises ``FactsError``."""
    lines = text.split("\n")
    if lines[0] != "guestkeeper-apply\t1":
        raise _unlike("an apply begins otherwise", lines[0])
    failures: list[_Failed] = []
    count = 0
    for number, line in enumerate(lines[1:], 1):
        tag, _, rest = line.partition("\t")
        if line == "busy":
            return Applied(None, (), busy=True)
        if line == "guestkeeper-look\t1":
            view = _view(lines[number + 1 :], asked, looked_at)
            told = tuple(
                Failure(each.service, each.action, each.exit_code, last_lines(each.output))
                for each in failures
            )
            return Applied(view, told, more=count - len(told))
        if tag == "error":
            service, code, action = _fields(line, rest, 3)
            failed = _Failed(printable(service), printable(action), _number(line, code))
            count += 1
            if count <= MAX_FAILURES:
                failures.append(failed)
        elif tag == "output" and count:
            if count <= MAX_FAILURES:
                failures[-1].output.append(rest)
        else:
            raise _unlike("an apply prints no such line", line)
    raise FactsError("the output of an apply is cut off")


def _view(lines: list[str], asked: Asked, looked_at: float) -> InsideView:
    facts = _Facts(asked)
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
        packages=facts.versions,
        files={path: _file(facts, path) for path in asked.files},
        units=facts.units,
        missing_ssh_keys=facts.missing_keys,
        addresses=tuple(facts.addresses),
        cloud_init=_cloud_init(facts),
        pending=tuple(facts.pending),
    )


def _end_block(facts: _Facts, block: dict[str, str]) -> None:
    for name in block.get("Names", "").split():
        if name in facts.units:
            active, enabled = block.get("ActiveState", ""), block.get("UnitFileState", "")
            ran = active == "inactive" and _has_run(block, noted=name in facts.ran)
            facts.units[name] = UnitFact(name, printable(active), printable(enabled), ran)


def _has_run(block: dict[str, str], *, noted: bool) -> bool:
    """Whether a oneshot unit ended well; the same rule as in ``service.sh``."""
    if (block.get("Type"), block.get("RemainAfterExit")) != ("oneshot", "no"):
        return False
    ended = block.get("ExecMainExitTimestampMonotonic", "")[:1] in tuple("123456789")
    return noted or (ended and block.get("Result") == "success")


def _read(facts: _Facts, line: str) -> None:
    tag, tab, rest = line.partition("\t")
    if not tab:
        _read_foreign(facts, line)
    elif tag == "boot":
        facts.boot_id = printable(rest)
    elif tag == "hostname":
        running, static = _fields(line, rest, 2)
        facts.hostnames = (printable(running), printable(static.strip()))
    elif tag == "address":
        _read_inet(facts, rest)
    elif tag == "inet6":
        _read_inet6(facts, line, rest)
    elif tag == "cloud-init":
        if rest not in ("disabled", "result", "running"):
            raise _unlike("a look prints no such line", line)
        facts.cloud_init = rest
    elif tag == "cloud-json":
        facts.cloud_json.append(rest)
    elif tag == "pending":
        if len(facts.pending) < MAX_PENDING:
            facts.pending[printable(rest)] = None
    elif tag == "ran":
        if rest in facts.units:
            facts.ran.add(rest)
    elif tag == "keys-missing":
        facts.missing_keys = _number(line, rest)
    elif tag == "package":
        _read_package(facts, *_fields(line, rest, 4))
    elif tag == "stat":
        mode, owner, group, path = _fields(line, rest, 4)
        found = (_number(line, mode, 16), printable(owner), printable(group))
        if path in facts.stats:
            facts.stats[path] = found
    else:
        _read_foreign(facts, line)


def _read_foreign(facts: _Facts, line: str) -> None:
    match = _HASH.fullmatch(line)
    if match is None:
        raise _unlike("a look prints no such line", line)
    path = _unescaped(match[3]) if match[1] else match[3]
    if path in facts.stats:
        facts.hashes[path] = match[2]


def _read_package(facts: _Facts, name: str, status: str, architecture: str, version: str) -> None:
    names = [name, f"{name}:{architecture}", f"{name}.{architecture}"]
    if architecture == "all":  # apt accepts any architecture for it; dnf only noarch
        names += [each for each in facts.versions if each.partition(":")[0] == name]
    for asked in names:
        if status == "installed" and facts.versions.get(asked, "") is None:
            facts.versions[asked] = printable(version)


def _read_inet(facts: _Facts, rest: str) -> None:
    """Read an IPv4 address from look.sh; ignore what is none, as /proc may have another format."""
    try:
        _keep(facts, IPv4Address(rest))
    except ValueError:
        return


def _read_inet6(facts: _Facts, line: str, rest: str) -> None:
    """A line of /proc/net/if_inet6: address, index, prefix, scope, flags (hex), device."""
    fields = rest.split()
    if len(fields) != 6 or _INET6.fullmatch(fields[0]) is None:
        raise _unlike("no line of if_inet6", line)
    if (
        _number(line, fields[3], 16) == 0
        and not _number(line, fields[4], 16) & _TENTATIVE_OR_FAILED
    ):
        _keep(facts, IPv6Address(bytes.fromhex(fields[0])))


def _keep(facts: _Facts, address: IPv4Address | IPv6Address) -> None:
    """Keep an address that may be the guest's own and reachable from elsewhere.

    Probes connect to it, so a guest must not name the daemon's own machine. Reserved are also
    ``::/8`` with the IPv4-mapped addresses: ``::ffff:127.0.0.1`` reaches loopback.
    """
    if len(facts.addresses) < MAX_ADDRESSES and not (
        address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address.is_unspecified
        or address.is_reserved
    ):
        facts.addresses[str(address)] = None


def _unescaped(path: str) -> str:
    """Undo the escapes in a path of sha256sum(1), which puts a backslash before the digest then."""
    return re.sub(r"\\(.)", lambda match: {"n": "\n", "r": "\r"}.get(match[1], match[1]), path)


def _fields(line: str, rest: str, count: int) -> list[str]:
    fields = rest.split("\t", count - 1)
    if len(fields) != count:
        raise _unlike("a line has too few fields", line)
    return fields


def _number(line: str, text: str, base: int = 10) -> int:
    if _DIGITS[base].fullmatch(text) is None:
        raise _unlike("a line has no number where it should", line)
    return int(text, base)


def _unlike(what: str, line: str) -> FactsError:
    return FactsError(f"{what}: `{printable(line, 80)}`")


def _file(facts: _Facts, path: str) -> FileFact:
    found = facts.stats[path]
    if found is None:
        return FileFact(path, None)
    mode, owner, group = found
    digest = facts.hashes.get(path) if stat.S_ISREG(mode) else None
    return FileFact(path, digest, owner, group, stat.S_IMODE(mode))


def _cloud_init(facts: _Facts) -> str:
    if facts.cloud_init != "result":
        return facts.cloud_init
    try:
        errors = json.loads("\n".join(facts.cloud_json))["v1"]["errors"]
    except (ValueError, KeyError, TypeError, RecursionError):
        # The look came while cloud-init was writing it.
        return "running"
    return "error" if errors else "done"
