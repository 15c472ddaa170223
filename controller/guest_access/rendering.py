"""Render the input of a guest's shell: the scripts, followed by calls of their functions.

No value is ever pasted into a script: each is one quoted word of a call, and file contents are
base64 in here-documents. So no name, path or content can become a command.
"""

import base64
import re
import shlex
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources
from typing import Final

from controller.desired.effective import EffectiveGuest, EffectiveService, RenderedFile
from controller.errors import PermanentError
from controller.observed.inside_facts import Asked

SHELL: Final = ("/bin/sh", "-s")
"""The command that reads the rendered text from its standard input."""

_REGULAR: Final = 0o100000
_KEY = re.compile(r"(?:^|\s)(AAAA[0-9A-Za-z+/]{16,}={0,3})(?=\s|$)")


def asked(guest: EffectiveGuest) -> Asked:
    """Everything that a look at the guest reads, without duplicates."""
    services = guest.services
    return Asked(
        hostname=guest.hostname,
        packages=_distinct(name for service in services for name in service.packages),
        files=_distinct(file.path for service in services for file in service.files),
        units=_distinct(service.unit for service in services if service.unit is not None),
    )


def keys_of(text: str, label: str) -> list[str]:
    """The public keys in the text of an ``authorized_keys`` or ``.pub`` file, one per line.

    Raises ``PermanentError`` for a line that is no key; the message does not show the line.
    """
    lines = [line.strip() for line in text.splitlines()]
    keys = [" ".join(line.split()) for line in lines if line and not line.startswith("#")]
    for number, key in enumerate(keys, 1):
        if _KEY.search(key) is None:
            raise PermanentError(
                f"line {number} of {label} is no SSH public key; give the .pub file of a key",
                reason="InvalidSSHKey",
            )
    return keys


def look_script(family: str, what: Asked, keys: Sequence[str]) -> bytes:
    """The script of a look, as input of ``SHELL``; ``parse_look`` reads its output."""
    calls = ["gk_look_begin", _packages_call(family, what), *_ask_calls(what, keys)]
    return _joined([script_source("look.sh"), *calls, "gk_look_end"])


def apply_script(
    family: str,
    what: Asked,
    keys: Sequence[str],
    services: Sequence[EffectiveService],
    token: str,
) -> bytes:
    """The script that applies identity and ``services``; ``parse_apply`` reads its output.

    It is input of ``SHELL``. ``token`` is a random word that nobody in the guest can guess.
    """
    parts = [
        script_source("look.sh"),
        script_source("apply.sh"),
        script_source("service.sh"),
        f"gk_ask_packages() {{\n{_packages_call(family, what)}\n}}",
        "gk_ask() {\n" + "\n".join(_ask_calls(what, keys)) + "\n}",
        _call("gk_apply_begin", token, family),
        _call("gk_hostname", what.hostname),
        _call("gk_ssh_keys", *(word for key in keys for word in (_blob(key), key))),
    ]
    for service in services:
        parts.append(
            _call("gk_service_begin", service.name, service.unit or "", service.on_change.value)
        )
        if service.packages:
            parts.append(_call("gk_packages", *service.packages))
        parts += [_file_call(file) for file in service.files]
        parts += ["gk_files", "gk_service_end"]
    parts += ["gk_apply_end", "exit 0"]
    return _joined(parts)


def _packages_call(family: str, what: Asked) -> str:
    return _call("gk_look_packages", family, *what.packages)


def _ask_calls(what: Asked, keys: Sequence[str]) -> list[str]:
    return [
        "gk_look_host",
        _call("gk_look_keys", *(_blob(key) for key in keys)),
        _call("gk_look_files", *what.files),
        _call("gk_look_units", *what.units),
    ]


def _file_call(file: RenderedFile) -> str:
    call = _call(
        "gk_file",
        file.path,
        file.owner,
        file.group,
        f"{file.mode:o}",
        f"stat\t{_REGULAR | file.mode:x}\t{file.owner}\t{file.group}\t{file.path}",
        _sum_line(file),
    )
    content = base64.encodebytes(file.content).decode()
    return f"{call} <<'GK_EOF'\n{content}GK_EOF"


def _sum_line(file: RenderedFile) -> str:
    """The line that sha256sum(1) prints for the file as it should be."""
    escaped = file.path.replace("\\", "\\\\").replace("\r", "\\r")
    mark = "\\" if escaped != file.path else ""
    return f"{mark}{file.sha256}  {escaped}"


def _call(function: str, *words: str) -> str:
    for word in words:
        if "\n" in word or "\0" in word:
            # The schema refuses these; they would break the scripts' line-based output, too.
            raise PermanentError(f"a newline cannot be part of {word!r}", reason="InvalidValue")
    return " ".join([function, *(shlex.quote(word) for word in words)])


def _blob(key: str) -> str:
    match = _KEY.search(key)
    if match is None:
        raise PermanentError("this is no SSH public key", reason="InvalidSSHKey")
    return match[1]


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


@cache
def script_source(name: str) -> str:
    """A script without its comments: under TCG every byte through the agent counts."""
    text = (resources.files(__package__) / "scripts" / name).read_text(encoding="utf-8")
    lines = (line for line in text.splitlines() if not re.match(r"\s*(#|$)", line))
    return "\n".join(lines)


def _joined(parts: Iterable[str]) -> bytes:
    return ("\n".join(parts) + "\n").encode(errors="surrogateescape")
