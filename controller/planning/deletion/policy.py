"""What is seen of a guest whose document is gone: whose it is, what becomes of it, what hinders."""

from enum import StrEnum

from controller.observed.domain import DomainState, DomainView, GuestRecord
from controller.planning.plan import Policy
from controller.planning.power.stopping import StopFor

_OFF = (DomainState.SHUTOFF, DomainState.CRASHED)


class Ending(StrEnum):
    """What becomes of a guest whose document is gone: ``deletionPolicy``; the mildest first."""

    RETAIN = "Retain"
    STOP = "Stop"
    DELETE = "Delete"


_ENDINGS = {one.value: one for one in Ending}
_MILDEST_FIRST = tuple(Ending)


def ending(record: GuestRecord, policy: Policy, last: str = "") -> Ending:
    """Whoever did not look after it, or knows no policy of it, leaves it as it is.

    ``last`` is the policy of its document as that was last read, '' where that was never read. The
    domain may know of an earlier one only, so the milder of the two counts.
    """
    if record.controller != policy.controller:
        return Ending.RETAIN
    noted = _ENDINGS.get(record.deletion_policy, Ending.RETAIN)
    return min(noted, _ENDINGS.get(last, noted), key=_MILDEST_FIRST.index)


def of_another(record: GuestRecord, policy: Policy) -> bool:
    """Does another daemon look after it?"""
    return record.controller not in ("", policy.controller)


def approved(record: GuestRecord) -> bool:
    """Did an operator approve this very disappearance?"""
    since, when = record.orphaned_since, record.deletion_approved
    return since is not None and when is not None and when >= since


def is_ending(domain: DomainView, policy: Policy, last: str = "") -> bool:
    """Does the deletion guard count it: would it be stopped or deleted, sooner or later?

    Also one that is suspended, which may be resumed, and one that was approved: that others were
    told to go is no leave for the rest. ``last`` as in ``ending``.
    """
    record = domain.record
    end = ending(record, policy, last)
    if end is Ending.RETAIN:
        return False
    return end is Ending.DELETE or not (is_off(domain) or was_stopped(domain, record))


def awaits_approval(domain: DomainView, policy: Policy, last: str = "") -> bool:
    """Does its end need an operator's word once the deletion guard says no?

    ``last`` as in ``ending``.
    """
    record = domain.record
    return is_ending(domain, policy, last) and not record.suspended and not approved(record)


def is_off(domain: DomainView) -> bool:
    """Known to be: QEMU may still hold a crashed domain's disks."""
    return domain.state in _OFF and domain.live is None and domain.run is None


def was_stopped(domain: DomainView, record: GuestRecord) -> bool:
    """Does it run though it was stopped since its document is gone: did somebody start it?"""
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
    """Why neither its power nor its disks may be touched now; '' where they may."""
    if domain.state is DomainState.UNKNOWN:
        return "its state is not known"
    if domain.state in (DomainState.PAUSED, DomainState.PMSUSPENDED):
        return f"it is {domain.state}; to go on: {domain.go_on}, or virsh destroy {domain.name}"
    if domain.state in _OFF and not is_off(domain):
        return f"its QEMU is still there; to go on: virsh destroy {domain.name}"
    if domain.running_job:
        return "a job of its domain is running (backup, migration)"
    return ""
