"""Walk the schema's models as a tree: the fields at a path, and what is declared beside them.

Suggestions for unknown fields, the change class of a path and the JSON Schema's annotations all
need the same walk.
"""

import types
import typing
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo


def unwrap(annotation: Any) -> Any:
    """The annotation without ``Annotated`` and ``| None``."""
    while True:
        origin = typing.get_origin(annotation)
        if origin is typing.Annotated:
            annotation = typing.get_args(annotation)[0]
        elif origin in (typing.Union, types.UnionType):
            rest = [arg for arg in typing.get_args(annotation) if arg is not type(None)]
            if len(rest) != 1:
                return annotation
            annotation = rest[0]
        else:
            return annotation


def item(annotation: Any) -> Any:
    """The type of the items of a list, mapping or tuple; any other annotation as it is."""
    annotation = unwrap(annotation)
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) in (list, dict, tuple) and arguments:
        return unwrap(arguments[1] if typing.get_origin(annotation) is dict else arguments[0])
    return annotation


def fields(model: Any) -> dict[str, FieldInfo]:
    """A model's fields by their names in documents; empty for anything but a model."""
    model = unwrap(model)
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return {}
    return {field.alias or name: field for name, field in model.model_fields.items()}


def allowed_fields(document: type, path: Sequence[str | int]) -> list[str]:
    """The names of the fields that a document has at ``path``."""
    model: Any = document
    for part in path:
        if isinstance(part, int):
            model = item(model)
            continue
        field = fields(model).get(part)
        if field is None:
            return []
        model = field.annotation
    return list(fields(model))


def home_of(document: type, name: str, here: Sequence[str]) -> tuple[str, ...] | None:
    """The path (top, spec or metadata) that has a field ``name``; None if none, or if ``here``."""
    if name in here:
        return None
    top = fields(document)
    if name in top:
        return ()
    for section in ("spec", "metadata"):
        if section in top and name in fields(top[section].annotation):
            return (section,)
    return None
