"""What an operator decides about a guest's life, as JSON: what its changes cost and wait for, and
what its domain's metadata remembers of suspensions, replacements and deletions.
"""

from controller.loop.status import GuestStatus
from controller.observed.domain import Memory, Replacement, RetiredDisk, SystemDisk
from controller.planning.compare.impact import Needs, disruption
from controller.planning.conditions import ConditionType, Status
from controller.planning.power.stopping import StopFor
from controller.web.values import Json, when


def changes(status: GuestStatus) -> list[Json]:
    """Field by field; ``needs`` is the command that an operator has to give first."""
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
            if cost.needs and not _given(cost.needs, _memory(status)):
                view["needs"] = str(cost.needs)
        found.append(view)
    return found


def _given(needs: Needs, memory: Memory) -> bool:
    """Was that command given already?"""
    if needs is Needs.APPROVE:
        return bool(memory.approved) or memory.replacement is not None
    return memory.restart_requested is not None or memory.stop_for == StopFor.RESTART


def life(status: GuestStatus) -> Json:
    """``approval`` is the base that a replacement to it waits for an operator's word."""
    memory = _memory(status)
    return {
        "suspended": memory.suspended or status.observed.fleet.suspended,
        "suspended_alone": memory.suspended,
        "approval": status.plan.replace_to or None,
        "approved": memory.approved or None,
        "restart_requested_at": when(memory.restart_requested),
        "replacement": _replacement(memory.replacement),
        "retired": [_retired(status, disk) for disk in memory.retired],
        "refused": {"base": memory.refused, "why": memory.refused_why} if memory.refused else None,
        "deletion": _deletion(status, memory),
    }


def _memory(status: GuestStatus) -> Memory:
    domain = status.observed.domain
    return domain.memory if domain is not None and domain.ours else Memory()


def _replacement(going: Replacement | None) -> Json | None:
    if going is None:
        return None
    return {
        "phase": str(going.phase),
        "why": going.why,
        "since": when(going.since),
        "swapped_at": when(going.swapped_at),
        "from": _disk(going.back),
        "to": _disk(going.to),
        "failure": going.failure or None,
    }


def _retired(status: GuestStatus, disk: RetiredDisk) -> Json:
    """``until`` is None while no document says how long it is kept."""
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


def _deletion(status: GuestStatus, memory: Memory) -> Json | None:
    """What becomes of a guest whose document is gone; None of one that has its document."""
    orphaned = status.plan.condition(ConditionType.ORPHANED)
    if orphaned is None or orphaned.status is Status.FALSE:
        return None
    return {
        "policy": memory.deletion_policy or None,
        "since": when(memory.orphaned_since),
        "reason": orphaned.reason,
        "approved_at": when(memory.deletion_approved),
        "deleting": memory.deleting,
    }
