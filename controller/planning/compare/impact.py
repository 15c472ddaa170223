"""What carrying out a change costs a guest, and which word of an operator it waits for.

Told before it happens (``guestkeeper plan``): the class of a change says what it takes, the guest's
``updatePolicy`` whether that is done by itself.
"""

from dataclasses import dataclass
from enum import StrEnum

from controller.desired.schema.fields import Change
from controller.desired.schema.guest import UpdatePolicy
from controller.planning.compare.changes import FieldChange


class Needs(StrEnum):
    """The command that an operator gives, so that a change is carried out."""

    NOTHING = ""
    RESTART = "restart"
    APPROVE = "approve"


@dataclass(frozen=True, slots=True)
class Disruption:
    """``text`` is what the guest notices; ``needs`` which command it waits for."""

    text: str
    needs: Needs = Needs.NOTHING


_NONE = Disruption("none")


def disruption(
    change: FieldChange, policy: UpdatePolicy, *, exists: bool = True, running: bool = True
) -> Disruption:
    """Of one change of a guest that ``exists`` and is ``running``, or not."""
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
