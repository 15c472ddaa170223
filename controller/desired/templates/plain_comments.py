"""Accept only clear comments in templates; refuse a ``{#`` that may be text.

Jinja2 takes everything between ``{#`` and ``#}`` for a comment: a shell script that measures
``${#1}`` and cuts ``${2%#}`` would lose what is in between.
"""

import re
from collections.abc import Iterator
from typing import Final

from jinja2 import TemplateSyntaxError
from jinja2.ext import Extension

_DECORATION: Final = "-+#=*~!:"
_BREAK = re.compile(r"\r\n|\r|\n")
_AHEAD = re.compile(r"[^\s}]*\Z")
_BEHIND = re.compile(r"[^\s{]*")
_OPEN_EXPANSION = re.compile(r"\$\{[^}]*\Z")


class CommentError(TemplateSyntaxError):
    """A ``{#`` that is more likely text; the message has the remedy."""


class PlainComments(Extension):
    """Refuses comments that may be meant as text."""

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        """``source`` unchanged; raises ``CommentError``."""
        if "{#" in source:
            flaw = _flaw(self.environment.lexer.tokeniter(source, name, filename), source)
            if flaw is not None:
                raise CommentError(flaw[1], flaw[0], name, filename)
        return source


def _flaw(pieces: Iterator[tuple[int, str, str]], source: str) -> tuple[int, str] | None:
    """The line of the first comment that may be meant as text, and the message; or None."""
    text = "\n".join(_BREAK.split(source))
    before = begin = inside = ""
    place = start = 0
    try:
        for _, kind, value in pieces:
            at = max(text.find(value, place), place)
            place = at + len(value)
            if kind == "data":
                before = value
            elif kind == "comment_begin":
                begin, start, inside = value, at, ""
            elif kind == "comment":
                inside = value
            elif kind == "comment_end" and _is_text(before, begin, inside):
                return _told(text, start, _LOST, _APART)
            else:
                before = begin = ""
    except TemplateSyntaxError as error:
        if "end of comment" not in (error.message or ""):
            return None  # reported when the whole is parsed
    return _told(text, start, _ENDLESS) if begin else None


_LOST: Final = "begins a comment, and all from there to `#}` would be lost"
_ENDLESS: Final = "begins a comment that has no end"
_APART: Final = "; if it is a comment, write {# ... #} with spaces inside"


def _told(text: str, start: int, what: str, otherwise: str = "") -> tuple[int, str]:
    """The line of the ``{#`` at ``start``, and the message with the text around it."""
    ahead, behind = _AHEAD.search(text, 0, start), _BEHIND.match(text, start + 2)
    word = f"{ahead[0] if ahead else ''}{{#{behind[0] if behind else ''}"
    raw = f"{{% raw %}}{word}{{% endraw %}}"
    line = text.count("\n", 0, start) + 1
    return line, f"`{{#` {what}; if `{word}` is text, write {raw}{otherwise}"


def _is_text(before: str, begin: str, text: str) -> bool:
    """Whether a comment looks like shell code, or begins without a space."""
    if before.endswith("$") or _OPEN_EXPANSION.search(text):
        return True
    first = text[:1]
    return begin == "{#" and first != "" and not first.isspace() and first not in _DECORATION
