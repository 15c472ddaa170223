"""Keeps the loop from overwriting an operator's newer request in a guest's record.

The loop's writes were planned from an older observation. So of the fields that hold requests, it
changes only those that are still as they were observed.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from controller.observed.domain import GuestRecord
from controller.observed.guest import Observed

_REQUESTS = (
    "approved", "approved_now", "restart_requested", "rollback", "suspended", "deletion_approved",
)  # fmt: skip
"""Fields of ``GuestRecord`` that hold an operator's request until the loop has carried it out."""


def unless_requested_since(
    observed: Observed, changes: tuple[tuple[str, Any], ...]
) -> Callable[[GuestRecord], GuestRecord]:
    """Returns a function that applies ``changes`` to a record, without the request fields that
    changed after the plan was made.
    """
    domain = observed.domain
    planned_from = domain.record if domain is not None else GuestRecord()

    def change(record: GuestRecord) -> GuestRecord:
        newer = [f for f in _REQUESTS if getattr(record, f) != getattr(planned_from, f)]
        return replace(record, **{f: value for f, value in changes if f not in newer})

    return change
