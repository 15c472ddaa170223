"""Text that comes out of guests, made fit to be kept, told and shown. Pure.

Nobody vouches for a guest: what it says may steer a terminal, turn the reading direction of a line,
break an encoder, or fill the memory. So every string of a guest passes here, where it is read, and
no other room has to think of it: it is printable, valid Unicode and bounded from then on.
"""

import re
from collections import deque
from collections.abc import Iterable
from typing import Final

MAX_LINE: Final = 300
"""Characters of one line of a guest."""
MAX_LINES: Final = 20
"""Lines of what a command printed."""
MAX_MESSAGE: Final = 4096
"""Bytes, as UTF-8, of a message made of such lines."""

_CUT: Final = "…"
_COLOUR: Final = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


def printable(text: str, limit: int = MAX_LINE) -> str:
    """One line of at most ``limit`` characters; what cannot be shown becomes U+FFFD.

    That is what ``str.isprintable`` says: control, format (so bidirectional) and private
    characters, surrogates. A tab or newline becomes a blank.
    """
    cut = text[:limit] if len(text) <= limit else text[: limit - 1] + _CUT
    if cut.isprintable():
        return cut
    return "".join(c if c.isprintable() else " " if c in "\t\n" else "\ufffd" for c in cut)


def last_lines(lines: Iterable[str]) -> str:
    """The last lines of what a command printed, without empty ones, progress bars and colours."""
    kept: deque[str] = deque(maxlen=MAX_LINES)
    for line in lines:
        shown = line.rstrip("\r").rpartition("\r")[2][: 4 * MAX_LINE]
        if clean := printable(_COLOUR.sub("", shown)).rstrip():
            kept.append(clean)
    return "\n".join(kept)


def ending(text: str, size: int) -> str:
    """``text``, or the end of it that fits in ``size`` bytes of UTF-8."""
    encoded = text.encode()
    if len(encoded) <= size:
        return text
    room = max(size - len(_CUT.encode()), 0)
    return _CUT + encoded[len(encoded) - room :].decode(errors="ignore")
