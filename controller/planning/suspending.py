"""A guest that an operator wants left alone: everything is still told, nothing is done."""

from dataclasses import replace

from controller.observed.domain import Memory
from controller.planning.conditions import ConditionType, Health, true
from controller.planning.plan import Plan


def suspended(made: Plan, memory: Memory) -> Plan:
    """``made``, of which nothing is done: an operator wants the guest left alone."""
    resume = f"guestkeeper resume {made.guest}" if memory.suspended else "guestkeeper resume --all"
    message = f"suspended by an operator; to go on: {resume}"
    return replace(
        made,
        sentence=f"doing nothing: {message}",
        steps=(),
        conditions=(*made.conditions, true(ConditionType.SUSPENDED, "Suspended", message)),
        health=Health.SUSPENDED,
    )
