"""Check a preseed file: debconf's lines, no plain password, power-off, success marker."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from controller.desired.answers.rules import Finding, is_hash, missing_marker, plain_password
from controller.desired.text.problems import suggestion

_TYPES: Final = frozenset(
    {
        "boolean",
        "error",
        "multiselect",
        "note",
        "password",
        "seen",
        "select",
        "string",
        "text",
        "title",
    }
)
_OFF: Final = "debian-installer/exit/poweroff"
_LINE = re.compile(r"\s*(\S+)\s+(\S+)\s+(\S+)(?:\s(.*))?", re.DOTALL)
_CRYPTED = "-crypted"
_CARRIED = re.compile(r"^#[|>] ?", re.MULTILINE)
"""The prefix of the lines of a script that the preseed file carries as comments."""


@dataclass(frozen=True, slots=True)
class _Answer:
    line: int
    name: str
    type: str
    value: str


def preseed_findings(answer: str) -> Iterator[Finding]:
    """Everything that is wrong with the preseed file ``answer``."""
    end: _Answer | None = None
    for number, text in _lines(answer):
        item = _parsed(number, text)
        if isinstance(item, Finding):
            yield item
            continue
        yield from _checked(item)
        if item.name == _OFF:
            end = item
    if end is None or end.value != "true":
        line = end.line if end is not None else 0
        wrong = (
            f"sets {_OFF} to {end.value}" if end is not None else "does not power off at its end"
        )
        yield Finding(line, f"{wrong}; write d-i {_OFF} boolean true")
    yield from missing_marker(
        _CARRIED.sub("", answer),
        "end its preseed/late_command as the preseeds that come with guestkeeper do",
    )


def _lines(answer: str) -> Iterator[tuple[int, str]]:
    """The number of each line's first line, and the line joined with its continuations."""
    start, kept = 0, ""
    for number, line in enumerate(answer.split("\n"), 1):
        if not kept and (not line.strip() or line.lstrip().startswith("#")):
            continue
        start = start if kept else number
        if line.endswith("\\"):
            kept += line[:-1] + " "
            continue
        yield start, kept + line
        kept = ""
    if kept.strip():
        yield start, kept


def _parsed(number: int, text: str) -> _Answer | Finding:
    match = _LINE.fullmatch(text)
    if match is None:
        form = "OWNER NAME TYPE VALUE, such as d-i clock-setup/utc boolean true"
        return Finding(
            number, f"is not a line for debconf; write {form}, and end a continued line with \\"
        )
    _, name, type_, value = match.groups(default="")
    if type_ not in _TYPES:
        tip = suggestion(type_, _TYPES, listing="write one of")
        return Finding(number, f'"{type_[:40]}" is no type that debconf has; {tip}')
    return _Answer(number, name, type_, value.strip())


def _checked(item: _Answer) -> Iterator[Finding]:
    name, value = item.name, item.value
    if item.type in ("boolean", "seen") and value not in ("true", "false"):
        yield Finding(item.line, f"{name} must be true or false; correct it")
    if item.type != "password" or not value:
        return
    if name.endswith(_CRYPTED):
        if not is_hash(value):
            yield plain_password(item.line, name, "write a hash (openssl passwd -6)")
        return
    base = name.removesuffix("-again")
    if base == "passwd/root-password":
        remedy = "write d-i passwd/root-password-crypted password {{ root_password_hash }}"
    elif base in ("passwd/user-password", "grub-installer/password"):
        remedy = f"write d-i {base}{_CRYPTED} password and a hash"
    else:
        remedy = "remove it"
    yield plain_password(item.line, name, remedy)
