"""Render answer files of unattended installs, and find the template line of a rendered line.

The sandbox is that of services' files; in addition, snippets can be included. A check finds a
problem on a line of the rendering, but the line to correct is in a template; so a second rendering,
made only then, has marks that say where its lines are from.
"""

import base64
import functools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import jinja2
from jinja2.ext import Extension
from jinja2.lexer import Token, TokenStream

from controller.desired.answers.templates import TemplateFile, TemplateSet
from controller.desired.templates.sandbox import (
    FILENAME,
    MAX_OUTPUT_BYTES,
    RAISED,
    TOO_DEEP,
    Sandbox,
    TemplateError,
    encode,
    explain,
    joined,
    place,
    sandbox,
    syntax_message,
    text_of,
)

VARIABLES: Final = "values, image, install, root_password_hash and authorized_keys_base64"
# Private-use characters, so that no text of a template is taken for a mark.
_MARK = re.compile("\ue000([^\ue001:]*):([0-9]+)\ue001")
_LEADING = re.compile(f"(?:{_MARK.pattern})+")
_MARKED_TIMES = 8
_UNMARK = "_unmark"

Place = tuple[str, int]
"""Label and line (1-based) of a template."""


_OTHER_BREAKS = re.compile("[\r\v\f\x1c-\x1e\x85\u2028\u2029]")
"""Ends of lines for ``str.splitlines``, and so for pykickstart: the checks here would miss a line
that begins after one of them."""


def render_answer(templates: TemplateSet, variables: Mapping[str, Any]) -> str:
    """The answer file; raises ``TemplateError`` that names the template and its line.

    ``templates`` must be complete. At most ``MAX_OUTPUT_BYTES``.
    """
    text = _render(sandbox(_loader(templates.files)), templates, variables, MAX_OUTPUT_BYTES)
    try:
        encode(text)
    except TemplateError as error:
        raise TemplateError(error.message, 0, templates.files[templates.root].label) from error
    strange = _OTHER_BREAKS.search(text)
    if strange is not None:
        line = text.count("\n", 0, strange.start()) + 1
        raise TemplateError(
            f"line {line} of the answer file has the character U+{ord(strange[0]):04X}, which some"
            " readers take for the end of a line; remove it",
            0,
            templates.files[templates.root].label,
        )
    return text


def line_places(
    templates: TemplateSet, variables: Mapping[str, Any], answer: str
) -> list[Place] | None:
    """The place that each line of ``answer`` is from; None if that is not certain.

    It is not certain if a template processes its own text, and the marks in it change the result.
    Text captured by ``{% set %}`` counts as being from where it is put.
    """
    environment = sandbox(_loader(templates.files))
    environment.filters["b64encode"] = _b64encode
    for name, function in environment.filters.items():
        environment.filters[name] = _mark_keeping(function)
    environment.filters[_UNMARK] = _unmarked
    environment.add_extension(_Marks)
    try:
        marked = _render(environment, templates, variables, MAX_OUTPUT_BYTES * _MARKED_TIMES)
    except TemplateError:
        return None
    if _unmarked(marked) != answer:
        return None
    files = templates.files
    return [(files[name].label, line) for name, line in _marks_of(marked, templates.root)]


def _render(
    environment: Sandbox, templates: TemplateSet, variables: Mapping[str, Any], limit: int
) -> str:
    environment.filters.setdefault("b64encode", _b64encode)
    files = templates.files
    try:
        for name in files:  # also those that are included conditionally
            environment.get_template(name)
        pieces = environment.get_template(templates.root).generate(dict(variables))
        return joined(pieces, limit)
    except TemplateError as error:
        raise TemplateError(error.message, 0, files[templates.root].label) from error
    except jinja2.TemplateSyntaxError as error:
        label = files[error.name or templates.root].label
        raise TemplateError(syntax_message(error), error.lineno, label) from error
    except RAISED as error:
        filename, line = place(error)
        name = filename.removeprefix(f"{FILENAME} ")
        file = files.get(name)
        if file is None:
            raise TemplateError(TOO_DEEP, 0, files[templates.root].label) from error
        message = explain(error, text_of(file.text, line), VARIABLES)
        raise TemplateError(message, line, file.label) from error


def _loader(files: Mapping[str, TemplateFile]) -> jinja2.BaseLoader:
    """A loader of texts by name, with the file name that tracebacks show; reads no files."""

    def load(name: str) -> tuple[str, str, Callable[[], bool]] | None:
        file = files.get(name)
        return (file.text, f"{FILENAME} {name}", lambda: True) if file is not None else None

    return jinja2.FunctionLoader(load)


def _b64encode(text: Any) -> str:
    if isinstance(text, jinja2.Undefined):
        str(text)  # raises, because it is undefined
    if not isinstance(text, str):
        raise TypeError(f"b64encode takes text, not {type(text).__name__}")
    return base64.b64encode(text.encode()).decode()


# --- Marks ----------------------------------------------------------------------------------------


class _Marks(Extension):
    """Puts a mark of its place before every line of a template's own text and every value."""

    def filter_stream(self, stream: TokenStream) -> Iterator[Token]:
        """The stream with marks put into and beside its text."""
        setting: list[Token] | None = None
        for token in stream:
            if token.type == "block_begin":
                setting = []
            elif setting is not None:
                setting.append(token)
                if token.type in ("block_end", "pipe"):
                    if setting[0].test("name:set") and not _has(setting, "assign"):
                        yield Token(token.lineno, "pipe", "|")
                        yield Token(token.lineno, "name", _UNMARK)
                    setting = None
            if token.type == "data":
                lines = enumerate(str(token.value).split("\n"), token.lineno)
                text = "\n".join(_mark(stream.name, line) + part for line, part in lines)
                yield Token(token.lineno, "data", text)
                continue
            if token.type == "variable_begin":
                yield Token(token.lineno, "data", _mark(stream.name, token.lineno))
            yield token


def _has(tokens: list[Token], type_: str) -> bool:
    return any(token.type == type_ for token in tokens)


def _mark_keeping(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a filter see no marks; they stay if it keeps the lines of its text (``indent``)."""
    position = 1 if hasattr(function, "jinja_pass_arg") else 0

    @functools.wraps(function)
    def keeping(*args: Any, **kwargs: Any) -> Any:
        if len(args) <= position or not isinstance(args[position], str):
            return function(*args, **kwargs)
        marked = args[position].split("\n")
        text = "\n".join(_unmarked(line) for line in marked)
        result = function(*args[:position], text, *args[position + 1 :], **kwargs)
        lines = result.split("\n") if isinstance(result, str) else []
        if len(lines) != len(marked):
            return result
        pairs = zip(marked, lines, strict=True)
        return "\n".join(_leading(old) + new for old, new in pairs)

    return keeping


def _leading(line: str) -> str:
    found = _LEADING.match(line)
    return found[0] if found is not None else ""


def _mark(name: str | None, line: int) -> str:
    return f"\ue000{(name or '').encode().hex()}:{line}\ue001"


def _unmarked(text: Any) -> Any:
    return _MARK.sub("", text) if isinstance(text, str) else text


def _marks_of(marked: str, root: str) -> Iterator[Place]:
    """Name and line for each line of a marked rendering."""
    current = (root, 1)
    for line in marked.split("\n"):
        found = [(bytes.fromhex(mark[1]).decode(), int(mark[2])) for mark in _MARK.finditer(line)]
        leading = _MARK.findall(_leading(line))
        if leading:
            yield found[len(leading) - 1]
        else:
            yield current  # the later lines of a value
        current = found[-1] if found else current
