"""Check a kickstart for what ksvalidator does not: passwords, power-off, success marker."""

import shlex
from collections.abc import Iterator, Sequence
from typing import Final

from controller.desired.answers.rules import Finding, is_hash, missing_marker, plain_password

_OFF: Final = frozenset({"poweroff", "shutdown"})
_LINES: Final = frozenset({"%include", "%ksappend"})
_ENDS: Final = _OFF | {"reboot", "halt"}
_INSTEAD: Final = "write --iscrypted and a hash (openssl passwd -6)"
_ROOT_INSTEAD: Final = f"{_INSTEAD}, or --iscrypted {{{{ root_password_hash }}}}"


def kickstart_findings(answer: str) -> Iterator[Finding]:
    """Everything that is wrong with the kickstart ``answer`` except its syntax."""
    end, end_line = "", 0
    scripts: list[str] = []
    for line, words, section in _commands(answer):
        if not words:
            yield Finding(line, "has a quote that is not closed; close it")
            continue
        if section:
            scripts += [words[0]] if section != "%onerror" else []
            continue
        command = words[0]
        yield from _passwords(line, words)
        if command in _ENDS:
            end, end_line = command, line
    if end not in _OFF:
        silent = "does not say how it ends, so it halts until a key is pressed"
        remedy = "write poweroff instead" if end else "write poweroff on a line of its own"
        yield Finding(end_line, f"{f'ends with {end}' if end else silent}; {remedy}")
    remedy = 'end it with {% include "snippets/ks-success.ks.j2" %}'
    yield from missing_marker("\n".join(scripts), remedy)


def _commands(answer: str) -> Iterator[tuple[int, list[str], str]]:
    """Line, words and section of each command; no words if a quote is open.

    A line inside a section is one word, with the section's name.
    """
    section = ""
    for number, line in enumerate(answer.split("\n"), 1):
        start = line.split(maxsplit=1)[:1]
        if start == ["%end"]:
            section = ""
        elif section:
            yield number, [line], section
        elif start and start[0].startswith("%") and start[0] not in _LINES:
            section = start[0]
        else:
            try:
                words = shlex.split(line, comments=True)
            except ValueError:
                yield number, [], ""
                continue
            if words:
                yield number, words, ""


def _passwords(line: int, words: Sequence[str]) -> Iterator[Finding]:
    command = words[0]
    crypted = _given(words, "--iscrypted")
    if _given(words, "--plaintext"):
        yield plain_password(line, f"{command} --plaintext", _instead(command))
        return
    for option in ("--password", "--passphrase"):
        for value in _values(words, option):
            if option == "--passphrase":
                yield plain_password(line, f"{command} {option}", "leave the disk unencrypted")
            elif command in ("user", "bootloader") and not (crypted and _hashed(command, value)):
                yield plain_password(line, f"{command} {option}", _instead(command))
    if command in ("rootpw", "sshpw"):
        loose = [word for word in _operands(words) if not (crypted and is_hash(word))]
        if loose:
            yield plain_password(line, command, _instead(command))


def _hashed(command: str, value: str) -> bool:
    return is_hash(value) or (command == "bootloader" and value.startswith("grub.pbkdf2."))


def _instead(command: str) -> str:
    if command == "bootloader":
        return "write --iscrypted and a hash (grub2-mkpasswd-pbkdf2)"
    return _ROOT_INSTEAD if command == "rootpw" else _INSTEAD


def _is(word: str, option: str) -> bool:
    """Whether ``word`` is ``option``, which pykickstart also accepts abbreviated."""
    return len(word) > len("--pa") and option.startswith(word)


def _given(words: Sequence[str], option: str) -> bool:
    return any(_is(word, option) for word in words[1:])


def _values(words: Sequence[str], option: str) -> Iterator[str]:
    for index, word in enumerate(words[1:], 1):
        name, equals, value = word.partition("=")
        if not _is(name, option):
            continue
        if equals:
            yield value
        elif index + 1 < len(words):
            yield words[index + 1]


def _operands(words: Sequence[str]) -> list[str]:
    """The words that are neither options nor the value of sshpw's --username."""
    found = []
    previous = ""
    for word in words[1:]:
        if not word.startswith("--") and not (previous and "--username".startswith(previous)):
            found.append(word)
        previous = word if word.startswith("--") else ""
    return found
