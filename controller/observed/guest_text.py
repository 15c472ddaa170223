"""Text that comes out of guests, made fit to be kept, told and shown. Pure.

Nobody vouches for a guest: what it says may steer a terminal, turn the reading direction of a line,
break an encoder, or fill the memory. So every string of a guest passes here, where it is read, and
no other room has to think of it: it is printable, valid Unicode and bounded from then on.
"""

import codecs
import re
import unicodedata
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
_LONGEST_SEQUENCE: Final = 1024
_STRING: Final = r"[\]PX^_][^\x07\x1b\x9c\n]*"  # OSC, DCS, SOS, PM, APC (ECMA-48, 8.3)
_PARAMETERS: Final = r"[0-?]*[ -/]*"
_SEQUENCE: Final = re.compile(
    rf"(?:\x1b\[|\x9b){_PARAMETERS}[@-~]|\x1b{_STRING}(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-OQ-WYZ\\`-~]|\x00"
)
_BEGUN: Final = re.compile(rf"(?:(?:\x1b\[|\x9b){_PARAMETERS}|\x1b(?:{_STRING}\x1b?|[ -/]*)|\r+)\Z")
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


def harmless(text: str, kept: str = "") -> str:
    """``text``, in which what steers a terminal or turns a line around is written out (``\\x1b``).

    ``kept`` are control characters that stay, such as the newline. The lengths may differ.
    """
    if text.isprintable():
        return text
    return "".join(c if c in kept or _is_plain(c) else _code(c) for c in text)


def _is_plain(char: str) -> bool:
    return char.isprintable() or unicodedata.category(char) == "Zs"


def _code(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


class ConsoleText:
    """What a console says, piece by piece, as text that steers no terminal.

    Whole escape sequences (colours, cursor moves, titles, the clipboard) are left out, as a reader
    of lines would have it; anything else that is no text becomes U+FFFD. A sequence may be cut by
    the pieces anywhere.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._begun = ""

    def feed(self, block: bytes) -> str:
        """The text of ``block``, but for the sequence that may go on in the next one."""
        text = self._begun + self._decoder.decode(block)
        self._begun = ""
        begun = _BEGUN.search(text)
        if begun is not None and len(begun[0]) <= _LONGEST_SEQUENCE:
            text, self._begun = text[: begun.start()], begun[0]
        return _readable(text)

    def end(self) -> str:
        """What was held back."""
        text = self._begun + self._decoder.decode(b"", final=True)
        self._begun = ""
        return _readable(text)


def _readable(text: str) -> str:
    lines = re.sub(r"\r+\n?", "\n", _SEQUENCE.sub("", text))
    return "".join(c if c in "\n\t" or _is_plain(c) else "\ufffd" for c in lines)
