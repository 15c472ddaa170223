"""docs/reference/documents.md: every kind and field."""

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel

from controller.desired.files.trusted_read import MAX_DOCUMENT_BYTES, MAX_SOURCE_BYTES
from controller.desired.schema.documents import DOCUMENTS
from controller.desired.schema.fields import Name
from controller.desired.schema.model import API_VERSION
from controller.desired.schema.tree import fields
from docs.generating import field_types
from docs.generating.markdown import anchor, code, first_paragraph, page, table
from docs.generating.words import FIELDS

_NAME = field_types.matching_words(get_args(Name)[1])
_HEAD = f"""
A file `*.yaml` or `*.yml` holds one or more documents, divided by `---`. Every document has
`apiVersion: {API_VERSION}`, `kind`, `metadata` and `spec`. A guest's identity is `metadata.name`;
the file's name and place mean nothing.

- A file may have {MAX_DOCUMENT_BYTES // 1024} KiB, a file named by `source:`
  {MAX_SOURCE_BYTES // 1024} KiB.
- An unknown field, a duplicate key and a field that is marked *not supported yet* are errors. Any
  error leaves the document's last good version in force.
- A **size** is a number with `Ki`, `Mi`, `Gi`, `Ti` (powers of 1024), `K`, `M`, `G`, `T` (powers of
  1000), or bytes. A **duration** is such as `30s`, `45m`, `2h`, `1h30m`, or seconds.
- A **name** is {_NAME}.
- **Change** is the field's change class, see [changes](changes.md). A field without one has the
  class of the field that it stands in.
- `guestkeeper schema` prints the same as JSON Schema, for editors.
"""


def text() -> str:
    """The page."""
    parts = [_HEAD]
    shared: list[type[BaseModel]] = []
    for kind, document in DOCUMENTS.items():
        spec = document.model_fields["spec"].annotation
        parts.append(f"## {kind}\n\n{first_paragraph(getattr(spec, '__doc__', None))}")
        parts.extend(_model(spec, f"{kind}.spec", shared))
    parts.append("## Shared by several")
    parts.append(
        "`metadata` of every document, and the parts that more than one kind uses.\n\n"
        + _section(DOCUMENTS["Guest"].model_fields["metadata"].annotation, "metadata")
    )
    done: set[type[BaseModel]] = set()
    for model in shared:
        if model not in done:
            done.add(model)
            parts.append(_section(model, model.__name__))
    return page("Documents", *parts)


_SHARED = ("Probe", "HttpGet", "TcpSocket", "ExecProbe", "SystemdUnitProbe", "GuestAgentPing")
_SHARED_MODELS = (*_SHARED, "File", "SecretRef", "InstallLocation", "IsoVolume", "IoTune")


def _model(model: Any, path: str, shared: list[type[BaseModel]]) -> Iterator[str]:
    yield _section(model, path)
    for name, field in fields(model).items():
        inner = field_types.model_of(field.annotation)
        if inner is None or field_types.is_text_form(field.annotation, field.metadata):
            continue
        if inner.__name__ in _SHARED_MODELS:
            _gather(inner, shared)
            continue
        is_list = "list of" in field_types.type_words(field.annotation)
        yield from _model(inner, f"{path}.{name}{'[]' if is_list else ''}", shared)


def _gather(model: type[BaseModel], shared: list[type[BaseModel]]) -> None:
    shared.append(model)
    for field in fields(model).values():
        inner = field_types.model_of(field.annotation)
        if inner is not None:
            _gather(inner, shared)


def _section(model: Any, title: str) -> str:
    rows = [_row(model, name, field) for name, field in fields(model).items()]
    doc = first_paragraph(model.__doc__) if model.__doc__ != BaseModel.__doc__ else ""
    intro = f"{doc}\n\n" if doc and not title.endswith(".spec") else ""
    if not rows:
        return f"### `{title}`\n\n{intro}It has no fields; write `{{}}`."
    return f"### `{title}`\n\n{intro}" + table(
        ("Field", "Type", "Default", "Change", "Meaning"), rows
    )


def words_of(model: Any, name: str) -> str:
    """What is written about a field in ``words.py``; raises ``KeyError`` where nothing is."""
    for owner in model.__mro__:
        if f"{owner.__name__}.{name}" in FIELDS:
            return FIELDS[f"{owner.__name__}.{name}"]
    raise KeyError(f"docs/generating/words.py has no words for {model.__name__}.{name}")


def _row(model: Any, name: str, field: Any) -> tuple[str, str, str, str, str]:
    words = words_of(model, name)
    refused = field_types.refused(field)
    bounds = field_types.bounds_words(field.annotation, field.metadata)
    kind = field_types.type_words(field.annotation, field.metadata)
    inner = field_types.model_of(field.annotation)
    if field_types.is_text_form(field.annotation, field.metadata):
        kind = kind.replace("Forward", "text")
    elif inner is not None and inner.__name__ in _SHARED_MODELS:
        kind = kind.replace(inner.__name__, f"[{inner.__name__}](#{anchor(inner.__name__)})")
    elif inner is not None:
        kind = kind.replace(inner.__name__, "mapping")
    change = field_types.change_of(field)
    meaning = [words]
    if bounds:
        meaning.append(f"{bounds[:1].upper()}{bounds[1:]}.")
    if refused == "not supported yet":
        meaning = [f"*Not supported yet.* {words}"]
    elif refused:
        meaning.append(f"*{refused[:1].upper()}{refused[1:]}.*")
    default = field_types.default_words(field) if refused != "not supported yet" else ""
    return (code(name), kind, default, code(change.value) if change else "", " ".join(meaning))
