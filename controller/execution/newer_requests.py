"""An operator's wishes and the loop write the same notes; a wish that came later is not lost.

What the loop writes down was planned from an older look. So of the fields that hold wishes it
changes those only that still are as they were looked at.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from controller.observed.domain import GuestRecord
from controller.observed.guest import Observed

_WISHES = (
    "approved", "approved_now", "restart_requested", "rollback", "suspended", "deletion_approved",
)  # fmt: skip
"""Fields of ``GuestRecord`` that hold an operator's wish until the loop has carried it out."""


def unless_requested_since(
    observed: Observed, changes: tuple[tuple[str, Any], ...]
) -> Callable[[GuestRecord], GuestRecord]:
    """The change, without fields in which a wish was noted since the plan was made."""
    domain = observed.domain
    planned_from = domain.record if domain is not None else GuestRecord()

    def change(record: GuestRecord) -> GuestRecord:
        newer = [f for f in _WISHES if getattr(record, f) != getattr(planned_from, f)]
        return replace(record, **{f: value for f, value in changes if f not in newer})

    return change
