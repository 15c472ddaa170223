"""A field's type and bounds in words, read from what is declared beside it in the schema."""

import types
import typing
from collections.abc import Iterator
from enum import Enum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, TypeAdapter, ValidationError, WithJsonSchema
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from controller.desired.schema.fields import Change, Matching, Name, NotYet, Only, Printable
from controller.desired.schema.quantities import (
    LONGEST_DURATION,
    Lasting,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)

_NAME = typing.get_args(Name)[1]
_BAD = ("\0", "/..", "")
_PLAIN = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    type(None): "nothing",
}


def type_words(annotation: Any, metadata: tuple[Any, ...] | list[Any] = ()) -> str:
    """``list of size``, ``one of a, b``, ``mapping``; models by their name."""
    for mark in metadata:
        if mark is _NAME:
            return "name"
        if isinstance(mark, BeforeValidator) and mark.func is parse_size:
            return "size"
        if isinstance(mark, BeforeValidator) and mark.func is parse_duration:
            return "duration"
        if isinstance(mark, WithJsonSchema):
            return "text"
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return type_words(arguments[0], arguments[1:])
    if origin in (typing.Union, types.UnionType):
        words = [type_words(arg) for arg in arguments if arg is not type(None)]
        return " or ".join(words)
    if origin is list:
        return f"list of {type_words(arguments[0])}" if arguments[0] is not Any else "list"
    if origin is dict:
        inner = type_words(arguments[1])
        return "mapping" if arguments[1] is Any else f"mapping of text to {inner}"
    if origin is Literal:
        return "one of " + ", ".join(f"`{arg}`" for arg in arguments)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return "one of " + ", ".join(f"`{member.value}`" for member in annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation.__name__
    return _PLAIN.get(annotation, "anything")


def model_of(annotation: Any) -> type[BaseModel] | None:
    """The model that a field holds, alone or in a list."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is not None:
        return next((found for arg in arguments if (found := model_of(arg)) is not None), None)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return None


def is_text_form(annotation: Any, metadata: Any = ()) -> bool:
    """Whether a model's documents write it as text (a forward)."""
    if any(isinstance(mark, WithJsonSchema) for mark in metadata):
        return True
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is Annotated:
        return is_text_form(arguments[0], arguments[1:])
    return any(is_text_form(arg) for arg in arguments)


def bounds_words(annotation: Any, metadata: Any = ()) -> str:
    """What a value has to be, '' where its type says it all."""
    return "; ".join(dict.fromkeys(_bounds(annotation, metadata)))


def _bounds(annotation: Any, metadata: Any = ()) -> Iterator[str]:
    many = typing.get_origin(annotation) is list
    for mark in metadata:
        yield from _bound(mark, many)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        yield from _bounds(arguments[0], arguments[1:])
    elif origin is dict:
        yield from _bounds(arguments[1])
    elif origin is not None and origin is not Literal:
        for arg in arguments:
            yield from _bounds(arg)


def _bound(mark: Any, many: bool) -> Iterator[str]:
    if isinstance(mark, FieldInfo):
        for inner in mark.metadata:
            yield from _bound(inner, many)
    elif isinstance(mark, Lasting):
        yield from _span(mark)
    elif isinstance(mark, Printable) and not mark.lines:
        yield "one line"
    elif isinstance(mark, Matching):
        if mark is not _NAME:  # told once, at the head of the page
            yield matching_words(mark)
    elif isinstance(mark, WithJsonSchema) and mark.json_schema and "anyOf" not in mark.json_schema:
        # Sizes and durations, which have two forms, are told at the head of the page, too.
        examples = mark.json_schema.get("examples", [])
        yield "such as " + ", ".join(f"`{example}`" for example in examples)
    for attribute, words in (
        ("ge", "at least {}"),
        ("le", "at most {}"),
        ("min_length", "at least {} item"),
        ("max_length", "at most {} items" if many else "at most {} characters"),
    ):
        value = getattr(mark, attribute, None)
        if value is not None and not isinstance(mark, FieldInfo):
            yield words.format(f"{value:g}" if isinstance(value, float) else value)


def _span(mark: Lasting) -> Iterator[str]:
    if mark.least:
        yield f"at least {format_duration(mark.least)}"
    if mark.most < LONGEST_DURATION:
        yield f"at most {format_duration(mark.most)}"


def matching_words(mark: Matching) -> str:
    """The rule in the words that a wrong value is refused with."""
    adapter: TypeAdapter[Any] = TypeAdapter(Annotated[str, mark])
    for bad in _BAD:
        try:
            adapter.validate_python(bad)
        except ValidationError as error:
            return _statement(error.errors()[0]["msg"])
    raise AssertionError(f"{mark}: no value is refused")


def _statement(message: str) -> str:
    """``must be a path`` as ``a path``."""
    for start, instead in (("must be ", ""), ("must not contain ", "no "), ("must ", "has to ")):
        if message.startswith(start):
            return instead + message.removeprefix(start).replace(" ..", " `..`")
    return message


def default_words(field: FieldInfo) -> str:
    """The default as a document would write it; 'required' where there is none."""
    if field.default is PydanticUndefined:
        return "**required**"
    value = field.default
    kind = type_words(field.annotation, field.metadata)
    if value is None or value in ([], {}, ""):
        return ""
    if isinstance(value, BaseModel):
        return ""
    if isinstance(value, Enum):
        return f"`{value.value}`"
    if kind == "size":
        return f"`{format_size(value)}`"
    if kind == "duration":
        return f"`{format_duration(value)}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def change_of(field: FieldInfo) -> Change | None:
    return next((mark for mark in field.metadata if isinstance(mark, Change)), None)


def refused(field: FieldInfo) -> str:
    """'' where all of it is built; else what is refused as "not supported yet"."""
    for mark in field.metadata:
        if mark is NotYet:
            return "not supported yet"
        if isinstance(mark, Only):
            return "so far only " + ", ".join(f"`{value}`" for value in mark.allowed)
    return ""
