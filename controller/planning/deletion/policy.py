"""Facts about a guest whose document is gone: which policy applies, whether it is approved, what
prevents its end.
"""

from enum import StrEnum

from controller.observed.domain import DomainState, DomainView, GuestRecord
from controller.planning.plan import Policy
from controller.planning.power.stopping import StopFor

_OFF = (DomainState.SHUTOFF, DomainState.CRASHED)


class Ending(StrEnum):
    """The ``deletionPolicy`` of a guest whose document is gone; the mildest first."""

    RETAIN = "Retain"
    STOP = "Stop"
    DELETE = "Delete"


_ENDINGS = {one.value: one for one in Ending}
_MILDEST_FIRST = tuple(Ending)


def ending(record: GuestRecord, policy: Policy, last: str = "") -> Ending:
    """The policy that applies; Retain if this daemon did not manage the guest or knows no policy.

    ``last`` is the policy in the document as last read, '' if it was never read. The policy in the
    record may be older, so the milder of the two counts.
    """
    if record.controller != policy.controller:
        return Ending.RETAIN
    noted = _ENDINGS.get(record.deletion_policy, Ending.RETAIN)
    return min(noted, _ENDINGS.get(last, noted), key=_MILDEST_FIRST.index)


def of_another(record: GuestRecord, policy: Policy) -> bool:
    """True if another daemon manages the guest."""
    return record.controller not in ("", policy.controller)


def approved(record: GuestRecord) -> bool:
    """True if an operator approved after this disappearance of the document began."""
    since, when = record.orphaned_since, record.deletion_approved
    return since is not None and when is not None and when >= since


def is_ending(domain: DomainView, policy: Policy, last: str = "") -> bool:
    """True if the guest would be stopped or deleted sooner or later, so the deletion guard counts
    it.

    It also counts suspended guests, which may be resumed, and approved ones: approving some must
    not make room for others. ``last`` as in ``ending``.
    """
    record = domain.record
    end = ending(record, policy, last)
    if end is Ending.RETAIN:
        return False
    return end is Ending.DELETE or not (is_off(domain) or was_stopped(domain, record))


def awaits_approval(domain: DomainView, policy: Policy, last: str = "") -> bool:
    """True if its stop or deletion needs an operator's approval once the deletion guard blocks.

    ``last`` as in ``ending``.
    """
    record = domain.record
    return is_ending(domain, policy, last) and not record.suspended and not approved(record)


def is_off(domain: DomainView) -> bool:
    """True if it is certainly off: QEMU may still hold a crashed domain's disks."""
    return domain.state in _OFF and domain.live is None and domain.run is None


def was_stopped(domain: DomainView, record: GuestRecord) -> bool:
    """True if it runs again after we stopped it because its document was gone."""
    asked, since = record.shutdown_requested, record.orphaned_since
    return (
        domain.state.active
        and record.stop_for == StopFor.DELETE
        and asked is not None
        and since is not None
        and asked >= since
        and record.stop_run != domain.run
    )


def hindrance(domain: DomainView) -> str:
    """Why neither its power nor its disks may be touched now; '' if they may."""
    if domain.state is DomainState.UNKNOWN:
        return "its state is not known"
    if domain.state in (DomainState.PAUSED, DomainState.PMSUSPENDED):
        return f"it is {domain.state}; to go on: {domain.go_on}, or virsh destroy {domain.name}"
    if domain.state in _OFF and not is_off(domain):
        return f"its QEMU is still there; to go on: virsh destroy {domain.name}"
    if domain.running_job:
        return "a job of its domain is running (backup, migration)"
    return ""
