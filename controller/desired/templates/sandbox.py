"""Render files from Jinja2 templates in a sandbox: no access to the system, bounded, reproducible.

Strict: an undefined variable is an error, never an empty string in a configuration file. Sandboxed:
templates cannot use Python's own attributes or change anything, and a result that would be huge is
refused before it is made. Authors of templates are trusted with root anyway, so the bounds are
against mistakes; a template that loops without end over small things is not caught.

The same text and variables give the same bytes in every process: see ``plain_values``.
"""

import functools
import re
import traceback
from collections.abc import Callable, Iterable, Mapping, Set
from typing import Any, Final

import jinja2
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from controller.desired.templates.exact_text import ExactText
from controller.desired.templates.plain_comments import CommentError, PlainComments
from controller.desired.templates.plain_values import (
    GLOBALS,
    Method,
    UnprintableError,
    printable,
    same,
    tame,
    tamed,
)

MAX_OUTPUT_BYTES: Final = 1024 * 1024
_MAX_NUMBER = 1 << 20
_MAX_POWER_BITS = 4096
FILENAME: Final = "<guestkeeper template>"
"""The file name that Python shows for a template; with several, the template's name follows."""
_BOUNDED = frozenset({"center", "indent", "wordwrap", "batch", "slice", "truncate", "format"})
_RANDOM = "random"
_WIDE_FORMAT = re.compile(r"[0-9]{6,}")


class TemplateError(ValueError):
    """A template that cannot be rendered; ``line`` is a line of it, 1-based, 0 if unknown.

    ``file`` names the template if there are several, and is empty otherwise.
    """

    def __init__(self, message: str, line: int = 0, file: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.file = file

    def __str__(self) -> str:
        if not self.file:
            return f"template line {self.line}: {self.message}" if self.line else self.message
        return f"{self.file}{f' line {self.line}' if self.line else ''}: {self.message}"


class Sandbox(ImmutableSandboxedEnvironment):
    """An environment whose templates cannot reach the system or make huge results."""

    intercepted_binops = frozenset({"+", "-", "*", "**", "%"})

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Get a key before an attribute: ``values.items`` is the user's item, not the method."""
        if isinstance(obj, Mapping) and attribute in obj:
            return tame(obj[attribute])
        return tame(super().getattr(obj, attribute))

    def getitem(self, obj: Any, argument: Any) -> Any:
        return tame(super().getitem(obj, argument))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "**":
            _bound_power(left, right)
        elif operator == "*":
            _bound_product(left, right)
        elif operator == "%" and isinstance(left, str):
            _bound_format(left)
        elif operator == "+" and isinstance(left, str | list | tuple):
            _bound(len(left) + (len(right) if hasattr(right, "__len__") else 0))
        result = super().call_binop(context, operator, left, right)
        if isinstance(result, Set):  # of keys, in no fixed order
            return [item for item in left if item in result]
        return result

    def call(self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        _bound_arguments(args, kwargs)
        if isinstance(__obj, Method):
            __obj = __obj.call
        method = getattr(__obj, "__wrapped__", __obj)  # the sandbox wraps str.format
        owner = getattr(method, "__self__", None)
        if isinstance(owner, str) and getattr(method, "__name__", "") in ("format", "format_map"):
            _bound_format(owner)
        return tame(super().call(__context, __obj, *args, **kwargs))


def _bound(size: int) -> None:
    if size > _MAX_NUMBER:
        raise SecurityError(f"it would make more than {_MAX_NUMBER} characters or items")


def _bound_product(left: Any, right: Any) -> None:
    for many, times in ((left, right), (right, left)):
        if isinstance(many, str | list | tuple) and isinstance(times, int):
            _bound(len(many) * max(times, 0))
    if isinstance(left, int) and isinstance(right, int):
        _bound_bits(left.bit_length() + right.bit_length())


def _bound_power(left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        _bound_bits(left.bit_length() * max(right, 0))


def _bound_bits(bits: int) -> None:
    if bits > _MAX_POWER_BITS:
        raise SecurityError(f"it would make a number of more than {_MAX_POWER_BITS} bits")


def _bound_format(text: str) -> None:
    if _WIDE_FORMAT.search(text):
        raise SecurityError("it would pad to a width of more than five digits")


def _bound_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    for argument in (*args, *kwargs.values()):
        if isinstance(argument, int) and abs(argument) > _MAX_NUMBER:
            raise SecurityError(f"the number {str(argument)[:20]} is too large for a call")


def _bounded_filter(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    if name not in _BOUNDED:
        return function

    @functools.wraps(function)
    def bounded(*args: Any, **kwargs: Any) -> Any:
        if name != "format":
            _bound_arguments(args, kwargs)
        elif args and isinstance(args[0], str):
            _bound_format(args[0])
        return function(*args, **kwargs)

    return bounded


def sandbox(loader: jinja2.BaseLoader | None = None) -> Sandbox:
    """A new sandbox; with ``loader`` its templates can include others.

    Without ``loader`` every byte outside of tags is kept. With it (answer files) Jinja2 converts
    line ends, as installers want.
    """
    environment = Sandbox(
        finalize=printable,
        extensions=[PlainComments] if loader is not None else [PlainComments, ExactText],
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,
        cache_size=0 if loader is None else 100,
        loader=loader,
    )
    environment.globals.pop("lipsum", None)
    range_: Any = environment.globals["range"]
    environment.globals.update(GLOBALS)
    environment.globals["range"] = Method(range_, "range")
    environment.filters.pop(_RANDOM)
    environment.tests["sameas"] = same
    for name, function in environment.filters.items():
        environment.filters[name] = _bounded_filter(tamed(function), name)
    return environment


_ENVIRONMENT = sandbox()

# What an expression may raise when it runs, and the compiler if it is too deeply nested.
RAISED: Final = (
    jinja2.TemplateError,
    ArithmeticError,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    RuntimeError,
    MemoryError,
    AssertionError,
    SyntaxError,
    NameError,
    OSError,
    ImportError,
    StopIteration,
)


@functools.lru_cache(maxsize=512)
def compile_template(text: str) -> jinja2.Template:
    """The compiled template; raises ``TemplateError`` with the line of a syntax error."""
    try:
        code = _ENVIRONMENT.compile(text, name=None, filename=FILENAME)
    except jinja2.TemplateSyntaxError as error:
        raise TemplateError(syntax_message(error), error.lineno) from error
    except RAISED as error:
        raise TemplateError(TOO_DEEP) from error
    return jinja2.Template.from_code(_ENVIRONMENT, code, _ENVIRONMENT.globals, None)


def render(text: str, variables: Mapping[str, Any]) -> bytes:
    """Render ``text`` with ``variables``, as UTF-8; raises ``TemplateError``.

    At most ``MAX_OUTPUT_BYTES``. Text without tags is returned as it is.
    """
    if "{{" not in text and "{%" not in text and "{#" not in text:
        return encode(text)
    template = compile_template(text)
    try:
        return encode(joined(template.generate(dict(variables)), MAX_OUTPUT_BYTES))
    except TemplateError:
        raise
    except RAISED as error:
        _, line = place(error)
        message = explain(error, text_of(text, line), "guest, service and values")
        raise TemplateError(message, line) from error


def joined(pieces: Iterable[str], limit: int) -> str:
    """The joined pieces of a rendering; raises ``TemplateError`` beyond ``limit`` characters."""
    kept: list[str] = []
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > limit:
            raise TemplateError(f"gives more than {limit // 1024} KiB; shorten it")
        kept.append(piece)
    return "".join(kept)


def encode(text: str) -> bytes:
    """A rendering as UTF-8; raises ``TemplateError`` beyond ``MAX_OUTPUT_BYTES``."""
    try:
        content = text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise TemplateError("gives text that is not Unicode; correct its escapes") from error
    if len(content) > MAX_OUTPUT_BYTES:
        raise TemplateError(f"gives more than {MAX_OUTPUT_BYTES // 1024} KiB; shorten it")
    return content


def place(error: BaseException) -> tuple[str, int]:
    """File name and line of the template that raised; Jinja2 puts them into the traceback."""
    found = ("", 0)
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename.startswith(FILENAME):
            found = (frame.filename, frame.lineno or 0)
    return found


def text_of(text: str, line: int) -> str:
    """Line ``line`` of the template ``text``; '' if it has none."""
    lines = text.splitlines()
    return lines[line - 1] if 0 < line <= len(lines) else ""


_NO_CHANCE = (
    "random would give another file at each start of the daemon; write out what you want, such as"
    " | first"
)


def _no_random(message: str) -> bool:
    return message.startswith(f"No filter named '{_RANDOM}'")


TOO_DEEP: Final = "is nested too deeply; simplify it"


def syntax_message(error: jinja2.TemplateSyntaxError) -> str:
    if isinstance(error, CommentError):
        return error.message or ""
    if _no_random(error.message or ""):
        return _NO_CHANCE
    message = (error.message or "syntax error").rstrip(".")
    return f"{_lower(message)}; correct it"


def explain(error: BaseException, written: str, has: str) -> str:
    """The message for an error at the line ``written``; ``has`` names the variables there are."""
    message = str(error).splitlines()[0] if str(error) else type(error).__name__
    if isinstance(error, UnprintableError):
        return message
    if _no_random(message):
        return _NO_CHANCE
    if isinstance(error, jinja2.UndefinedError):
        missing = re.fullmatch(r"'(.+)' is undefined", message)
        if missing is not None:
            if missing[1] == "peers":
                return "peers is not supported yet; remove it"
            return (
                f"{missing[1]} is undefined; a template has {has}"
                f" (did you mean values.{missing[1]}?)"
            )
        attribute = re.fullmatch(r"'.*' has no attribute '(.+)'", message)
        if attribute is not None:
            full = re.search(rf"[\w.]+\.{re.escape(attribute[1])}\b", written)
            name = full[0] if full is not None else f".{attribute[1]}"
            return f"{name} is undefined; correct it, or give it under values:"
        return f"{message}; give it under values:"
    if isinstance(error, SecurityError):
        return f"is not allowed: {_lower(message).rstrip('.')}; remove it"
    if isinstance(error, jinja2.TemplateNotFound) or "no loader" in message:
        return "include, import and extends are not supported; write the text out"
    return f"{_lower(message)}; correct the expression"


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:] if message[1:2].islower() else message
