"""A template's own text comes out byte for byte.

Jinja2 makes one kind of line end of all; a file of Windows keeps its own here, as it does where it
has no tag.
"""

import re
from collections.abc import Iterator

from jinja2.ext import Extension
from jinja2.lexer import Token, TokenStream

# Both are white space to Jinja2, so that they may stand within tags, too.
_ESCAPE, _RETURN, _ITSELF = "\x1f", "\x1c", "\x1d"
_ESCAPED = re.compile(f"{_ESCAPE}([{_RETURN}{_ITSELF}])")
_BACK = {_RETURN: "\r", _ITSELF: _ESCAPE}


class ExactText(Extension):
    """Keeps every carriage return outside of tags."""

    def preprocess(
        self,
        source: str,
        name: str | None,  # noqa: ARG002 - Jinja2's signature
        filename: str | None = None,  # noqa: ARG002
    ) -> str:
        """``source`` without a carriage return that Jinja2 could change."""
        return source.replace(_ESCAPE, _ESCAPE + _ITSELF).replace("\r", _ESCAPE + _RETURN)

    def filter_stream(self, stream: TokenStream) -> Iterator[Token]:
        """The stream with text as it was written."""
        for token in stream:
            if token.type in ("data", "string") and _ESCAPE in token.value:
                text = _ESCAPED.sub(lambda found: _BACK[found[1]], token.value)
                yield Token(token.lineno, token.type, text)
            else:
                yield token
