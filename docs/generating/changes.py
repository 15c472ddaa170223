"""docs/reference/changes.md: what it takes to change each field of a Guest."""

from collections.abc import Iterator
from typing import Any

from controller.desired.schema.fields import Change
from controller.desired.schema.guest import GuestSpec, UpdatePolicy
from controller.desired.schema.json_schema import change_class
from controller.desired.schema.tree import fields
from controller.planning.compare.changes import FieldChange
from controller.planning.compare.impact import disruption
from docs.generating import field_types
from docs.generating.markdown import code, page, table

_HEAD = """
Every field of a Guest has a class that says what changing it on an existing guest takes, whether
you change the document or somebody changes the domain behind the daemon's back. `guestkeeper plan`
shows before it happens: the field, from what to what, the class, the disruption, and what it waits
for.
"""

_MEANING = {
    Change.GUEST: ("applied inside the guest", "Done at once, by one apply."),
    Change.LIVE: (
        "applied to the running domain",
        "Done at once and read again to see that it is so. On a host that cannot change devices of"
        " a running domain it is staged, as `restart` is.",
    ),
    Change.RESTART: (
        "needs a cold boot; a guest's own reboot is none",
        "Written into the definition and staged: `RestartRequired` names the fields until"
        " `guestkeeper restart NAME`, or until the guest is off for another reason. With"
        " `updatePolicy.restart: Automatic` the daemon restarts it, inside `maintenanceWindows`"
        " where there are any.",
    ),
    Change.REPLACE: (
        "needs a new system disk",
        "Prepared beside the running guest, then it waits for `guestkeeper approve NAME`"
        " (`Synced` is False, reason `ReplaceRequired`). With `updatePolicy.replace: Automatic` it"
        " is done by itself, inside `maintenanceWindows` where there are any, and no more guests of"
        " an image at a time than its `rollout.maxParallel`.",
    ),
    Change.IMMUTABLE: (
        "cannot be changed on a guest that exists",
        "Refused: `Synced` is False, reason `ChangeRefused`, and says why.",
    ),
    Change.CONTROLLER: (
        "changes what the daemon does, nothing on the guest",
        "Taken up at once.",
    ),
}

_OFF = """
A guest that is off notices nothing: every change is made before its next start. A change that is
refused holds back nothing else: other changes of the same document are carried out, and `Synced`
stays False until the old value is put back.

Some values of a field take more than the field's class:
"""

_MORE = (
    (
        "`cpu.vcpus` lowered, or raised above the `cpu.max` that the domain was started with",
        "`restart`: a vCPU that is taken from a running guest may never go",
    ),
    ("`memory.size` above the `memory.max` that the domain was started with", "`restart`"),
    (
        "`systemDisk.size` or `disks[].size` lowered",
        "refused: what is beyond a disk's end is lost",
    ),
    (
        "an interface added, removed or changed that has `user`, before or after",
        "`restart`: QEMU's own network stands among QEMU's arguments",
    ),
)

_TAIL = """
A replacement keeps the UUID, the MAC addresses and the data disks. The old system disk is kept for
`updatePolicy.retiredDiskTTL`; `guestkeeper rollback NAME` puts it back. If the guest is not ready
with the new disk within `updatePolicy.progressDeadline`, the daemon puts the old one back itself
and says `ReplaceFailed`.

A data disk that is taken out of the document leaves the domain; its volume stays in the pool.

A Service document's fields have the class `guest`, its `probes` have `controller`. An Image
document's have the class `replace` for the guests that exist, but `boot` (`restart`: kernel, initrd
and their arguments under a disk that stays) and `rollout` (`controller`); of an
unattended install only what the installed disk depends on: the answer file, the installer's
location, `delivery`, `disk.size`, `builder.firmware`, `osFamily`, `cloudInit`.
"""


def text() -> str:
    """The page."""
    rows = []
    for path in _paths(GuestSpec, ""):
        change = change_class(path)
        rows.append((code(path), code(change.value), _disruption(change)))
    meanings = [
        (code(change.value), meaning, done, _disruption(change))
        for change, (meaning, done) in ((change, _MEANING[change]) for change in Change)
    ]
    return page(
        "Changes",
        _HEAD,
        table(("Class", "Meaning", "What is done", "Disruption"), meanings),
        _OFF,
        table(("Change", "Takes"), _MORE),
        _TAIL,
        "## Fields of a Guest's `spec`",
        table(("Field", "Class", "Disruption"), rows),
    )


def _disruption(change: Change) -> str:
    """As ``guestkeeper plan`` says it of a guest that runs."""
    return disruption(FieldChange("", "", "", change), UpdatePolicy()).text


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
            yield from _paths(inner, f"{path}[]." if is_list else f"{path}.")


def _declares(model: Any) -> bool:
    """Does any field below declare a class of its own?"""
    return any(field_types.change_of(field) is not None for field in fields(model).values())
