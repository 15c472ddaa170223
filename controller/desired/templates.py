"""Files' contents from their templates: Jinja2 that cannot reach out, run away or guess.

Strict: an undefined variable is an error, never an empty string in a configuration file. Sandboxed:
no attribute of Python's own, nothing is changed by a template, and what would make it huge is
refused before it is made. Who writes templates is trusted with root anyway (DESIGN section 8), so
the bounds are against slips; a template that loops without end over small things is not caught.
"""

import functools
import re
import traceback
from collections.abc import Callable, Mapping
from typing import Any, Final

import jinja2
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_OUTPUT_BYTES: Final = 1024 * 1024
_MAX_NUMBER = 1 << 20
_MAX_POWER_BITS = 4096
_FILENAME = "<guestkeeper template>"
_WIDE_FORMAT = re.compile(r"[0-9]{6,}")


class TemplateError(ValueError):
    """A template that cannot be rendered; ``line`` is the template's own, 1-based, 0 unknown."""

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.line = line

    def __str__(self) -> str:
        return f"template line {self.line}: {self.message}" if self.line else self.message


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def getattr(self, obj: Any, attribute: str) -> Any:
        """``values.items`` is the user's own item, not the method of the same name."""
        if isinstance(obj, Mapping) and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "**":
            _bound_power(left, right)
        elif operator == "*":
            _bound_product(left, right)
        elif operator == "%" and isinstance(left, str):
            _bound_format(left)
        elif operator == "+" and isinstance(left, str | list | tuple):
            _bound(len(left) + (len(right) if hasattr(right, "__len__") else 0))
        return super().call_binop(context, operator, left, right)

    def call(self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        _bound_arguments(args, kwargs)
        method = getattr(__obj, "__wrapped__", __obj)  # the sandbox wraps str.format
        owner = getattr(method, "__self__", None)
        if isinstance(owner, str) and getattr(method, "__name__", "") in ("format", "format_map"):
            _bound_format(owner)
        return super().call(__context, __obj, *args, **kwargs)


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
    @functools.wraps(function)
    def bounded(*args: Any, **kwargs: Any) -> Any:
        if name in ("center", "indent", "wordwrap", "batch", "slice", "truncate"):
            _bound_arguments(args, kwargs)
        elif name == "format" and args and isinstance(args[0], str):
            _bound_format(args[0])
        return function(*args, **kwargs)

    return bounded


def _environment() -> _Environment:
    environment = _Environment(
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False, cache_size=0
    )
    environment.globals.pop("lipsum", None)
    for name in ("center", "indent", "wordwrap", "batch", "slice", "truncate", "format"):
        environment.filters[name] = _bounded_filter(environment.filters[name], name)
    return environment


_ENVIRONMENT = _environment()

# Everything an expression may raise when it runs, and the compiler when it is too deeply nested.
_RAISED = (
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
        code = _ENVIRONMENT.compile(text, name=None, filename=_FILENAME)
    except jinja2.TemplateSyntaxError as error:
        message = (error.message or "syntax error").rstrip(".")
        raise TemplateError(f"{_lower(message)}; correct it", error.lineno) from error
    except _RAISED as error:
        raise TemplateError("is nested too deeply; simplify it") from error
    return jinja2.Template.from_code(_ENVIRONMENT, code, _ENVIRONMENT.globals, None)


def render(text: str, variables: Mapping[str, Any]) -> bytes:
    """``text`` with ``variables`` put in, as UTF-8; raises ``TemplateError``.

    At most ``MAX_OUTPUT_BYTES``. What is no template comes back as it is.
    """
    if "{{" not in text and "{%" not in text and "{#" not in text:
        return _encode(text)
    template = compile_template(text)
    pieces: list[str] = []
    size = 0
    try:
        for piece in template.generate(dict(variables)):
            size += len(piece)
            if size > MAX_OUTPUT_BYTES:
                raise TemplateError(f"gives more than {MAX_OUTPUT_BYTES // 1024} KiB; shorten it")
            pieces.append(piece)
    except TemplateError:
        raise
    except _RAISED as error:
        line = _line(error)
        raise TemplateError(_explain(error, _text_of(text, line)), line) from error
    return _encode("".join(pieces))


def _encode(text: str) -> bytes:
    try:
        content = text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise TemplateError("gives text that is not Unicode; correct its escapes") from error
    if len(content) > MAX_OUTPUT_BYTES:
        raise TemplateError(f"gives more than {MAX_OUTPUT_BYTES // 1024} KiB; shorten it")
    return content


def _line(error: BaseException) -> int:
    """The template's line that raised: Jinja2 rewrites its frames to the template's lines."""
    lines = [
        frame.lineno or 0
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == _FILENAME
    ]
    return lines[-1] if lines else 0


def _text_of(text: str, line: int) -> str:
    lines = text.splitlines()
    return lines[line - 1] if 0 < line <= len(lines) else ""


def _explain(error: BaseException, written: str) -> str:
    message = str(error).splitlines()[0] if str(error) else type(error).__name__
    if isinstance(error, jinja2.UndefinedError):
        missing = re.fullmatch(r"'(.+)' is undefined", message)
        if missing is not None:
            if missing[1] == "peers":
                return "peers is not supported yet; remove it"
            return (
                f"{missing[1]} is undefined; a template has guest, service and values"
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
