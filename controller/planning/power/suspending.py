"""Plans for a suspended guest: everything is still reported, nothing is done."""

from dataclasses import replace

from controller.observed.domain import GuestRecord
from controller.planning.conditions import ConditionType, Health, true
from controller.planning.plan import Plan
from controller.planning.steps import UpdateRecord


def suspended(made: Plan, record: GuestRecord, noted: tuple[UpdateRecord, ...] = ()) -> Plan:
    """``made`` without its steps, because an operator suspended the guest.

    ``noted`` is written all the same: record updates that are needed later.
    """
    resume = f"guestkeeper resume {made.guest}" if record.suspended else "guestkeeper resume --all"
    message = f"suspended by an operator; to go on: {resume}"
    return replace(
        made,
        sentence=f"doing nothing: {message}",
        steps=noted,
        conditions=(*made.conditions, true(ConditionType.SUSPENDED, "Suspended", message)),
        health=Health.SUSPENDED,
    )
