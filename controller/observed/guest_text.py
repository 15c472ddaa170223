"""Clean text from guests so that it can be stored, logged and shown. Pure.

A guest is not trusted: its text may control a terminal, turn the reading direction of a line, break
an encoder, or fill the memory. So every string of a guest is cleaned here when it is read; from
then on it is printable, valid Unicode and bounded, and no other code has to care.
"""

import codecs
import re
import unicodedata
from collections import deque
from collections.abc import Iterable
from typing import Final

MAX_LINE: Final = 300
"""Most characters of one line of a guest."""
MAX_LINES: Final = 20
"""Most lines of a command's output."""
MAX_MESSAGE: Final = 4096
"""Most bytes, as UTF-8, of a message made of such lines."""

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
    """One line of at most ``limit`` characters; unprintable characters become U+FFFD.

    Unprintable is what ``str.isprintable`` says: control, format (so bidirectional) and private-use
    characters, surrogates. A tab or newline becomes a blank.
    """
    cut = text[:limit] if len(text) <= limit else text[: limit - 1] + _CUT
    if cut.isprintable():
        return cut
    return "".join(c if c.isprintable() else " " if c in "\t\n" else "\ufffd" for c in cut)


def last_lines(lines: Iterable[str]) -> str:
    """The last lines of a command's output, without empty ones, progress bars and colours."""
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
    """``text`` with escapes (``\\x1b``) for what controls a terminal or turns a line around.

    ``kept`` are control characters that stay, such as the newline. The length may change.
    """
    if text.isprintable():
        return text
    return "".join(c if c in kept or _is_plain(c) else _code(c) for c in text)


def _is_plain(char: str) -> bool:
    return char.isprintable() or unicodedata.category(char) == "Zs"


def _code(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


class ConsoleText:
    """Decodes console output, block by block, to text that does not control a terminal.

    Whole escape sequences (colours, cursor moves, titles, the clipboard) are left out, as a reader
    of lines expects; anything else that is not text becomes U+FFFD. A sequence may be split between
    blocks anywhere.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._begun = ""

    def feed(self, block: bytes) -> str:
        """The text of ``block``, except a sequence that may go on in the next block."""
        text = self._begun + self._decoder.decode(block)
        self._begun = ""
        begun = _BEGUN.search(text)
        if begun is not None and len(begun[0]) <= _LONGEST_SEQUENCE:
            text, self._begun = text[: begun.start()], begun[0]
        return _readable(text)

    def end(self) -> str:
        """The rest that ``feed`` held back."""
        text = self._begun + self._decoder.decode(b"", final=True)
        self._begun = ""
        return _readable(text)


def _readable(text: str) -> str:
    lines = re.sub(r"\r+\n?", "\n", _SEQUENCE.sub("", text))
    return "".join(c if c in "\n\t" or _is_plain(c) else "\ufffd" for c in lines)
