"""docs/reference/changes.md: what it takes to change each field of a Guest."""

from collections.abc import Iterator
from typing import Any

from controller.desired.json_schema import change_class
from controller.desired.schema import Change, GuestSpec
from controller.desired.schema_tree import fields
from docs.generating import field_types
from docs.generating.markdown import code, page, table

_HEAD = """
Every field of a Guest has a class that says what changing it on an existing guest takes.
`guestkeeper plan` prints it beside each difference. A Service document's fields have the class
`guest`, an Image document's the class `replace` for the guests that exist; of an unattended install
only what the installed disk depends on: the answer file, the installer's location, `delivery`,
`disk.size`, `builder.firmware`, `osFamily`, `cloudInit`.

The class is a property of the field; what this version does with it is less than the class allows:
"""

_MEANING = {
    Change.GUEST: ("applied inside the guest", "done at once, by one apply"),
    Change.LIVE: (
        "can be applied to the running domain",
        "written into the definition; takes effect with the next cold boot, as `restart` does",
    ),
    Change.RESTART: (
        "needs a cold boot; a guest's own reboot is none",
        "written into the definition; `RestartRequired` names the fields until the next cold boot",
    ),
    Change.REPLACE: (
        "needs a new system disk",
        "refused: `Synced` is False, reason `ChangeNotSupported`; for a changed Image"
        " `ImageOutdated`",
    ),
    Change.IMMUTABLE: ("cannot be changed", "refused: `ChangeNotSupported`"),
    Change.CONTROLLER: ("changes what the daemon does", "taken up at once"),
}

_TAIL = """
A disk's `size` has the class `live`, but changing the size of a disk that exists is refused in this
version. A data disk that is added is made at once and appears with the next cold boot; one that is
taken out of the document leaves the definition the same way, and its volume stays in the pool.

A change of a field that is refused holds back nothing else: other changes of the same document are
carried out, and `Synced` stays False until the old value is put back.
"""


def text() -> str:
    """The page."""
    rows = [(code(path), code(change_class(path).value)) for path in _paths(GuestSpec, "")]
    meanings = [(code(change.value), *_MEANING[change]) for change in Change]
    return page(
        "Changes",
        _HEAD,
        table(("Class", "Meaning", "In this version"), meanings),
        _TAIL,
        "## Fields of a Guest's `spec`",
        table(("Field", "Class"), rows),
    )


def _paths(model: Any, before: str) -> Iterator[str]:
    for name, field in fields(model).items():
        if field_types.refused(field) == "not supported yet":
            continue
        path = f"{before}{name}"
        inner = field_types.model_of(field.annotation)
        text_form = field_types.is_text_form(field.annotation, field.metadata)
        classed = field_types.change_of(field) is not None
        deeper = inner is not None and not text_form and _declares(inner)
        if classed or not deeper:
            yield path
        if deeper:
            is_list = "list of" in field_types.type_words(field.annotation)
            yield from _paths(inner, f"{path}[].".replace("[].", "[]." if is_list else "."))


def _declares(model: Any) -> bool:
    """Does any field below declare a class of its own?"""
    return any(field_types.change_of(field) is not None for field in fields(model).values())
