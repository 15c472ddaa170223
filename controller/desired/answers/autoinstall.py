"""Check an autoinstall file: it must be cloud-config for Ubuntu's installer, without secrets."""

from collections.abc import Iterator
from typing import Any, Final

from controller.desired.answers.rules import Finding, is_hash, missing_marker, plain_password
from controller.desired.text.problems import format_path
from controller.desired.text.yaml_errors import YamlSyntaxError
from controller.desired.text.yaml_nodes import Lines, Path, RawDocument, decode, parse

_HEADER: Final = "#cloud-config"
_PASSWORDS: Final = frozenset({"password", "passwd", "hashed_passwd", "plain_text_passwd"})
_RANDOM: Final = frozenset({"R", "RANDOM"})
_REMEDIES: Final = {"storage": "leave the disk unencrypted", "network": "remove it"}
_INSTEAD: Final = "write a hash (openssl passwd -6), or {{ root_password_hash }}"


def autoinstall_findings(answer: str) -> Iterator[Finding]:
    """Everything that is wrong with the autoinstall file ``answer``."""
    if not answer.lstrip().startswith(_HEADER):
        yield Finding(0, f"is no cloud-config; begin it with the line {_HEADER}")
    try:
        documents = parse(decode(answer.encode()))
    except YamlSyntaxError as error:
        yield Finding(error.line, error.message)
        return
    if len(documents) != 1 or not isinstance(documents[0].data, dict):
        yield Finding(0, "is not one YAML mapping; write autoinstall: and its fields")
        return
    document = documents[0]
    for flaw in document.flaws:
        yield Finding(flaw.line, f"{format_path(flaw.path)}: {flaw.message}")
    yield from _contents(document)
    yield from _secrets(document.data, document.lines)
    yield from missing_marker(
        answer, "end its late-commands as the autoinstall template that comes with guestkeeper does"
    )


def _contents(document: RawDocument) -> Iterator[Finding]:
    autoinstall, lines = document.data.get("autoinstall"), document.lines
    if not isinstance(autoinstall, dict):
        place = lines.at(("autoinstall",)).line if "autoinstall" in document.data else 0
        yield Finding(place, "has no mapping autoinstall; write autoinstall: and its fields")
        return
    version = autoinstall.get("version")
    if isinstance(version, bool) or version != 1:
        line = lines.at(("autoinstall", "version")).line
        yield Finding(line, "autoinstall.version must be 1; write version: 1")
    if autoinstall.get("shutdown") != "poweroff":
        path = ("autoinstall", "shutdown")
        wrong = "restarts" if "shutdown" not in autoinstall else "does not power off"
        yield Finding(
            lines.at(path).line, f"{wrong} at its end; write shutdown: poweroff below autoinstall"
        )


def _secrets(data: Any, lines: Lines) -> Iterator[Finding]:
    """Plain passwords anywhere: the installer's, cloud-init's, of disks, of networks."""
    pending: list[tuple[Path, Any]] = [((), data)]
    while pending:
        path, value = pending.pop()
        if isinstance(value, list):
            pending += [((*path, index), item) for index, item in enumerate(value)]
        elif isinstance(value, dict):
            for key, item in value.items():
                here = (*path, key)
                if key in _PASSWORDS and _is_plain(key, item):
                    remedy = _REMEDIES.get(str(here[1]) if len(here) > 1 else "", _INSTEAD)
                    yield plain_password(lines.at(here).line, format_path(here), remedy)
                elif key == "chpasswd" and isinstance(item, dict):
                    yield from _chpasswd(here, item, lines)
                pending.append((here, item))


def _is_plain(key: str, value: Any) -> bool:
    if value is None or isinstance(value, dict | list | bool) or value == "":
        return False
    return key == "plain_text_passwd" or not is_hash(str(value))


def _chpasswd(path: Path, value: dict[str, Any], lines: Lines) -> Iterator[Finding]:
    """Plain passwords in cloud-init's ``list`` of ``user:password``, a list or lines of text."""
    entries = value.get("list")
    if isinstance(entries, str):
        entries = entries.splitlines()
    if not isinstance(entries, list):
        return
    for entry in entries:
        user, colon, password = str(entry).partition(":")
        if colon and password not in _RANDOM and not is_hash(password):
            here = (*path, "list")
            what = f"{format_path(here)} of {user.strip()}"
            yield plain_password(lines.at(here).line, what, _INSTEAD)
