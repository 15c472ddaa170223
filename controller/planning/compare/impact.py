"""How a change disrupts a guest, and which operator command it waits for.

Shown before it happens (``guestkeeper plan``). The class of a change says what it takes; the
guest's ``updatePolicy`` says whether that is done automatically.
"""

from dataclasses import dataclass
from enum import StrEnum

from controller.desired.schema.fields import Change
from controller.desired.schema.guest import UpdatePolicy
from controller.planning.compare.changes import FieldChange


class Needs(StrEnum):
    """The command that an operator must give before a change is carried out."""

    NOTHING = ""
    RESTART = "restart"
    APPROVE = "approve"


@dataclass(frozen=True, slots=True)
class Disruption:
    """``text`` is the effect on the guest; ``needs`` the command that the change waits for."""

    text: str
    needs: Needs = Needs.NOTHING


_NONE = Disruption("none")


def disruption(
    change: FieldChange, policy: UpdatePolicy, *, exists: bool = True, running: bool = True
) -> Disruption:
    """The disruption by one change; ``exists`` and ``running`` describe the guest."""
    kind = change.change
    if not exists or kind is Change.CONTROLLER:
        return _NONE
    if kind is Change.IMMUTABLE:
        return Disruption("refused")
    if kind is Change.REPLACE:
        swap = "stop, swap of the system disk, boot" if running else "swap of the system disk"
        return Disruption(swap, Needs.APPROVE if policy.replace == "Manual" else Needs.NOTHING)
    if not running:
        return _NONE
    if kind is Change.RESTART:
        return Disruption(
            "cold boot", Needs.RESTART if policy.restart == "Staged" else Needs.NOTHING
        )
    where = "inside the guest" if kind is Change.GUEST else "to the running guest"
    return Disruption(f"none, applied {where}")
