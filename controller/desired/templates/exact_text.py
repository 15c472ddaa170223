"""Keep a template's own text byte for byte, including its line ends.

Jinja2 converts all line ends to one kind; here a Windows file keeps its own, as a file without tags
does.
"""

import re
from collections.abc import Iterator

from jinja2.ext import Extension
from jinja2.lexer import Token, TokenStream

# Jinja2 takes these for white space, so they may be within tags, too.
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
        """``source`` with its carriage returns escaped, so that Jinja2 does not change them."""
        return source.replace(_ESCAPE, _ESCAPE + _ITSELF).replace("\r", _ESCAPE + _RETURN)

    def filter_stream(self, stream: TokenStream) -> Iterator[Token]:
        """The stream with the escaped carriage returns restored."""
        for token in stream:
            if token.type in ("data", "string") and _ESCAPE in token.value:
                text = _ESCAPED.sub(lambda found: _BACK[found[1]], token.value)
                yield Token(token.lineno, token.type, text)
            else:
                yield token
