"""Rules for every answer file, whatever its installer: no secret, a power-off, a success marker.

No installer reports these mistakes in time: a password in plain text installs well and stays in
git; without an explicit power-off the build waits for a key until its timeout; without the success
marker no build could ever succeed.
"""

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from controller.desired.effective import ROOT_PASSWORD_HASH

MARKER_CHANNEL: Final = "org.guestkeeper.build.0"
"""The virtio-serial port of the success marker; the same as in ``observed.build``."""
_BASE64 = re.compile(r"[A-Za-z0-9+/]{40,}={0,2}")


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """A problem at a ``line`` of the answer file, 1-based; 0 means the file as a whole."""

    line: int
    message: str
    secret: bool = False
    """The line contains something that must not be quoted."""


def is_hash(value: str) -> bool:
    """Whether it is a hash of crypt(3), a locked password (``!``, ``*``), or the placeholder."""
    return value.startswith(("$", "!", "*")) or value == ROOT_PASSWORD_HASH


def plain_password(line: int, what: str, remedy: str) -> Finding:
    """The finding that ``what`` holds a plain password; ``remedy`` is what to write instead."""
    return Finding(line, f"{what} has a password in plain text; {remedy}", secret=True)


def missing_marker(scripts: str, remedy: str) -> Iterator[Finding]:
    """A finding if the ``scripts``, also those in base64, never report success."""
    if any(MARKER_CHANNEL in text for text in _texts(scripts)):
        return
    wrong = f"never says success (on the port {MARKER_CHANNEL}), so no build of it would count"
    yield Finding(0, f"{wrong}; {remedy}")


def _texts(answer: str) -> Iterator[str]:
    for line in answer.split("\n"):
        # Comments do not count, except the scripts that a preseed carries at its end.
        if line.lstrip().startswith("#") and not line.startswith("#| "):
            continue
        yield line
        for match in _BASE64.finditer(line):
            text = match[0][: len(match[0]) // 4 * 4]
            yield base64.b64decode(text, validate=False).decode("utf-8", "replace")
