"""JSON Schema of the documents for editors, and the change class of a field by its path.

Both are read from the declarations of the fields, so they cannot contradict the daemon.
"""

import re
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import BaseModel, Field, TypeAdapter

from controller.desired.schema.documents import Document, GuestDocument
from controller.desired.schema.fields import Change, NotYet, Only
from controller.desired.schema.tree import fields, item

_PART = re.compile(r"\.?([A-Za-z_][A-Za-z0-9_]*)|\[[^\]]*\]|\.[0-9]+")


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a document of any kind.

    ``x-guestkeeper-change`` is a field's change class, which its children inherit.
    ``x-guestkeeper-supported`` is false for a field that is not implemented yet; where only some
    values are, it is the list of those.
    """
    adapter: TypeAdapter[Any] = TypeAdapter(Annotated[Document, Field(discriminator="kind")])
    schema = adapter.json_schema(by_alias=True, mode="validation")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "Guestkeeper document"
    definitions = schema.get("$defs", {})
    for model in _models():
        properties = definitions.get(model.__name__, {}).get("properties", {})
        for name, field in fields(model).items():
            if name in properties:
                properties[name].update(_extensions(field.metadata))
    return schema


def change_class(path: str) -> Change:
    """The change class of ``path`` in a Guest's spec, such as ``disks[data].size``, ``memory.max``.

    It is the class of the nearest field on the path that declares one. Raises ``KeyError`` for a
    path that the schema does not have or that has no class.
    """
    model: Any = fields(GuestDocument)["spec"].annotation
    found: Change | None = None
    for part in _parts(path):
        if part is None:
            model = item(model)
            continue
        known = fields(model)
        if part not in known:
            if known:
                raise KeyError(path)
            break  # inside values: or the like, where names are the user's
        field = known[part]
        found = next((mark for mark in field.metadata if isinstance(mark, Change)), found)
        model = field.annotation
    if found is None:
        raise KeyError(path)
    return found


def _parts(path: str) -> Iterator[str | None]:
    """The names of fields in ``path``; None for an item, in brackets or by its number."""
    position = 0
    path = path.removeprefix("spec.")
    while position < len(path):
        match = _PART.match(path, position)
        if match is None:
            raise KeyError(path)
        yield match[1]
        position = match.end()


def _extensions(metadata: list[Any]) -> dict[str, Any]:
    extensions: dict[str, Any] = {}
    for mark in metadata:
        if isinstance(mark, Change):
            extensions["x-guestkeeper-change"] = mark.value
        elif mark is NotYet:
            extensions["x-guestkeeper-supported"] = False
        elif isinstance(mark, Only):
            extensions["x-guestkeeper-supported"] = list(mark.allowed)
    return extensions


def _models() -> list[type[BaseModel]]:
    pending: list[Any] = list(Document.__args__)
    seen: list[type[BaseModel]] = []
    while pending:
        model = pending.pop()
        if model in seen or not fields(model):
            continue
        seen.append(model)
        pending += [item(field.annotation) for field in fields(model).values()]
    return seen
