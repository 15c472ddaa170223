"""An operator's wishes and the loop write the same notes; a wish that came later is not lost.

What the loop writes down was planned from an older look. So of the fields that hold wishes it
changes those only that still are as they were looked at.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from controller.observed.domain import Memory
from controller.observed.guest import Observed

_WISHES = (
    "approved", "approved_now", "restart_requested", "rollback", "suspended", "deletion_approved",
)  # fmt: skip
"""Fields of ``Memory`` that hold an operator's wish until the loop has carried it out."""


def unless_wished(
    observed: Observed, changes: tuple[tuple[str, Any], ...]
) -> Callable[[Memory], Memory]:
    """The change, without fields in which a wish was noted since the plan was made."""
    domain = observed.domain
    planned_from = domain.memory if domain is not None else Memory()

    def change(memory: Memory) -> Memory:
        newer = [f for f in _WISHES if getattr(memory, f) != getattr(planned_from, f)]
        return replace(memory, **{f: value for f, value in changes if f not in newer})

    return change
