"""A guest's changes and its record as JSON: what changes cost and wait for, and what the domain's
metadata says of suspensions, restarts, replacements and deletions.
"""

from controller.loop.status import GuestStatus
from controller.observed.domain import GuestRecord, Replacement, RetiredDisk, SystemDisk
from controller.planning.compare.impact import Needs, disruption
from controller.planning.conditions import ConditionType, Status
from controller.planning.power.stopping import StopFor
from controller.web.values import Json, when


def changes(status: GuestStatus) -> list[Json]:
    """The guest's changes by field; ``needs`` is the command that an operator has to give first."""
    guest, domain = status.guest, status.observed.domain
    found = []
    for change in status.plan.changes:
        view: Json = {
            "path": change.path,
            "old": change.old,
            "new": change.new,
            "class": str(change.change),
            "disruption": None,
            "needs": None,
        }
        if guest is not None:
            cost = disruption(
                change,
                guest.spec.update_policy,
                exists=domain is not None,
                running=domain is not None and domain.state.active,
            )
            view["disruption"] = cost.text
            if cost.needs and not _given(cost.needs, _record(status)):
                view["needs"] = str(cost.needs)
        found.append(view)
    return found


def _given(needs: Needs, record: GuestRecord) -> bool:
    """Has an operator given that command already?"""
    if needs is Needs.APPROVE:
        return bool(record.approved) or record.replacement is not None
    return record.restart_requested is not None or record.stop_for == StopFor.RESTART


def life(status: GuestStatus) -> Json:
    """The record of a guest; ``approval`` is the base whose replacement waits for approval."""
    record = _record(status)
    return {
        "suspended": record.suspended or status.observed.fleet.suspended,
        "suspended_alone": record.suspended,
        "approval": status.plan.replace_to or None,
        "approved": record.approved or None,
        "restart_requested_at": when(record.restart_requested),
        "replacement": _replacement(record.replacement),
        "retired": [_retired(status, disk) for disk in record.retired],
        "refused": {"base": record.refused, "why": record.refused_why} if record.refused else None,
        "deletion": _deletion(status, record),
    }


def _record(status: GuestStatus) -> GuestRecord:
    domain = status.observed.domain
    return domain.record if domain is not None and domain.ours else GuestRecord()


def _replacement(ongoing: Replacement | None) -> Json | None:
    if ongoing is None:
        return None
    return {
        "phase": str(ongoing.phase),
        "why": ongoing.why,
        "since": when(ongoing.since),
        "swapped_at": when(ongoing.swapped_at),
        "from": _disk(ongoing.back),
        "to": _disk(ongoing.to),
        "failure": ongoing.failure or None,
    }


def _retired(status: GuestStatus, disk: RetiredDisk) -> Json:
    """A retired disk; ``until`` is None while no document says how long it is kept."""
    guest = status.guest
    ttl = guest.spec.update_policy.retired_disk_ttl if guest is not None else None
    return {
        **_disk(disk.disk),
        "why": disk.why,
        "since": when(disk.since),
        "until": when(disk.since + ttl) if ttl is not None else None,
    }


def _disk(disk: SystemDisk) -> Json:
    return {"pool": disk.pool, "volume": disk.volume, "base": disk.base or None}


def _deletion(status: GuestStatus, record: GuestRecord) -> Json | None:
    """What happens to a guest whose document is gone; None for a guest that has its document."""
    orphaned = status.plan.condition(ConditionType.ORPHANED)
    if orphaned is None or orphaned.status is Status.FALSE:
        return None
    return {
        "policy": record.deletion_policy or None,
        "since": when(record.orphaned_since),
        "reason": orphaned.reason,
        "approved_at": when(record.deletion_approved),
        "deleting": record.deleting,
    }
