"""The replacement of a guest's system disk, from the new disk beside the running guest to the
confirmation that it works, or back.

UUID, MAC addresses and data disks stay: only the system disk (and the kernel that belongs to it) is
swapped, while the guest is off. How far it has come stands in the domain's metadata, written with
or before each step, so a daemon that dies between any two goes on, forward or back.
"""

from collections.abc import Iterator
from dataclasses import replace

from controller.desired.effective import EffectiveGuest
from controller.desired.schema import RunStrategy
from controller.observed.domain import (
    DomainState,
    DomainView,
    Memory,
    Replacement,
    ReplacePhase,
    RetiredDisk,
)
from controller.observed.guest import Observed
from controller.observed.image import ImageState, ImageView
from controller.planning.conditions import (
    ConditionType,
    Health,
    Printable,
    Status,
    Sync,
    false,
)
from controller.planning.disk_swap import config_on
from controller.planning.domain import placed, seed_volume
from controller.planning.plan import Plan, Policy
from controller.planning.steps import (
    CreateSeed,
    CreateVolume,
    DefineDomain,
    DeleteVolume,
    StartDomain,
    Step,
    remember,
)
from controller.planning.stopping import StopFor, stop

C = ConditionType
STARTS = 2
"""Starts that a new system disk gets before the old one comes back."""
SILENT_TIMEOUT = 30.0
"""Seconds that a guest without agent has to shut down before it gets its old disk back."""
_ENDED = (
    ("approved", ""), ("approved_now", False), ("replacement", None), ("start_attempts", 0),
    ("shutdown_requested", None), ("stop_for", ""), ("stop_run", None), ("restart_requested", None),
)  # fmt: skip


# --- A replacement under way ----------------------------------------------------------------------


def plan_replacement(
    desired: EffectiveGuest,
    observed: Observed,
    domain: DomainView,
    memory: Memory,
    usual: Plan,
    now: float,
    policy: Policy,
) -> Plan:
    """What comes next. ``usual`` is the plan of the guest were it not being replaced.

    For a domain that runs or is off; others (paused, shutting down) are waited for.
    """
    going = memory.replacement
    assert going is not None  # noqa: S101 - the caller looked
    off = domain.state in (DomainState.SHUTOFF, DomainState.CRASHED)
    match going.phase:
        case ReplacePhase.PREPARING:
            return _prepare(desired, observed, domain, memory, going, usual, now, policy, off=off)
        case ReplacePhase.STOPPING if off:
            return _swap(desired, observed, domain, memory, going, usual, now, policy)
        case ReplacePhase.STOPPING:
            timeout = desired.spec.shutdown_timeout
            return _stop(domain, memory, going, usual, now, timeout)
        case ReplacePhase.CONFIRMING:
            return _confirm(desired, domain, memory, going, usual, now, off=off)
        case ReplacePhase.RETURNING if off:
            return _swap_back(desired, observed, domain, memory, going, usual, now, policy)
        case ReplacePhase.RETURNING:
            timeout = desired.spec.shutdown_timeout
            if not domain.agent_connected:
                timeout = min(timeout, SILENT_TIMEOUT)
            return _stop(domain, memory, going, usual, now, timeout)
        case ReplacePhase.RETURNED:
            return _returned(desired, going, usual, now, off=off)


def _told(
    usual: Plan,
    going: Replacement,
    message: str,
    *steps: Step,
    recheck_at: float | None = None,
    down: bool = True,
) -> Plan:
    """``usual`` with the replacement's words on it; ``down``: the guest does not serve."""
    reason = "Replacing"
    replaced = {C.SYNCED: false(C.SYNCED, reason, message)}
    if down:
        replaced[C.READY] = false(C.READY, reason, message)
        replaced[C.SERVICES_READY] = false(C.SERVICES_READY, reason, message)
    kept = tuple(replaced.get(found.type, found) for found in usual.conditions)
    return replace(
        usual,
        sentence=f"{_what(going)}: {message}",
        steps=steps,
        conditions=kept,
        sync=Sync.OUT_OF_SYNC,
        health=Health.PROGRESSING if down else usual.health,
        printable=Printable.REPLACING,
        probes=() if down else usual.probes,
        recheck_at=recheck_at,
        replace_to="",
    )


def _what(going: Replacement) -> str:
    if going.phase in (ReplacePhase.RETURNING, ReplacePhase.RETURNED):
        return f"its old system disk comes back ({going.failure})"
    if going.why == "rollback":
        return f"going back to system disk {going.to.volume}"
    return f"its system disk is replaced by one of {going.to.base}"


def _prepare(
    desired: EffectiveGuest,
    observed: Observed,
    domain: DomainView,
    memory: Memory,
    going: Replacement,
    usual: Plan,
    now: float,
    policy: Policy,
    *,
    off: bool,
) -> Plan:
    """Beside the running guest: whatever takes time is done before it stops."""
    image = observed.image
    made = (going.to.pool, going.to.volume) in observed.volumes
    if going.why == "image" and not _still_wanted(going, image):
        steps: list[Step] = []
        if made:
            steps.append(DeleteVolume(going.to.pool, going.to.volume, "another image is wanted"))
        steps.append(remember(replacement=None))
        return _told(usual, going, "another image is wanted by now", *steps, down=False)
    if going.why == "rollback" and not made:
        message = f"volume {going.to.pool}/{going.to.volume} is gone"
        return _told(usual, going, message, remember(replacement=None), down=False)
    if domain.running_job:
        message = "waiting for a job of its domain (backup, migration)"
        return _told(usual, going, message, recheck_at=now + 10, down=False)
    steps = list(_new_disk(desired, observed, domain, going, policy))
    if off:
        return _told(
            usual, going, "swapping the disk of the guest, which is off",
            *steps, *_put_in(desired, observed, domain, memory, going, now, policy, cold=True),
        )  # fmt: skip
    halting = stop(domain, memory, StopFor.REPLACE, timeout=desired.spec.shutdown_timeout, now=now)
    phase = remember(replacement=replace(going, phase=ReplacePhase.STOPPING))
    message = "its new disk is there; " + halting.message
    return _told(
        usual, going, message, *steps, phase, *halting.steps, recheck_at=halting.recheck_at
    )


def _still_wanted(going: Replacement, image: ImageView | None) -> bool:
    return image is not None and image.state is ImageState.READY and image.base == going.to.base


def _new_disk(
    desired: EffectiveGuest,
    observed: Observed,
    domain: DomainView,
    going: Replacement,
    policy: Policy,
) -> Iterator[Step]:
    image = observed.image
    if going.why != "image" or image is None:
        return
    if (going.to.pool, going.to.volume) not in observed.volumes:
        size = desired.spec.system_disk.size or image.capacity
        backing = (image.base_path or "", image.base_format)
        yield CreateVolume(going.to.pool, going.to.volume, size, backing)
    seed = seed_volume(desired, observed.host, domain, policy.seed)
    if seed is not None:
        yield CreateSeed(*seed, f"{domain.uuid}-{going.to.volume}")


def _put_in(
    desired: EffectiveGuest,
    observed: Observed,
    domain: DomainView,
    memory: Memory,
    going: Replacement,
    now: float,
    policy: Policy,
    *,
    cold: bool,
) -> Iterator[Step]:
    """The swap itself, one call; then the start. ``cold``: it was off all the time."""
    owner = domain.ownership
    assert owner is not None  # noqa: S101 - the caller refused foreign domains
    config = config_on(desired, observed, domain, going.to, policy, seeded=going.why == "image")
    stays_off = cold and desired.spec.run_strategy in (RunStrategy.HALTED, RunStrategy.MANUAL)
    noted = placed(config)
    if stays_off or desired.spec.run_strategy is RunStrategy.HALTED:
        noted |= dict(_ENDED) | _kept(going, memory, now)
    else:
        phase = replace(going, phase=ReplacePhase.CONFIRMING, swapped_at=now)
        noted |= {"replacement": phase, "start_attempts": 1, "last_start_attempt": now}
    yield DefineDomain(
        config,
        owner,
        new=False,
        marks=(("base", going.to.base), ("digest", ""), ("spec", "")),
        memory=tuple(noted.items()),
        why=f"its system disk is {going.to.volume} now",
    )
    if noted["replacement"] is not None:
        yield StartDomain("its system disk was replaced")


def _swap(
    desired: EffectiveGuest,
    observed: Observed,
    domain: DomainView,
    memory: Memory,
    going: Replacement,
    usual: Plan,
    now: float,
    policy: Policy,
) -> Plan:
    steps = _put_in(desired, observed, domain, memory, going, now, policy, cold=False)
    return _told(usual, going, "it is off; swapping the disk", *steps)


def _stop(
    domain: DomainView,
    memory: Memory,
    going: Replacement,
    usual: Plan,
    now: float,
    timeout: float,
) -> Plan:
    halting = stop(domain, memory, StopFor.REPLACE, timeout=timeout, now=now)
    return _told(usual, going, halting.message, *halting.steps, recheck_at=halting.recheck_at)


def _kept(going: Replacement, memory: Memory, now: float) -> dict[str, object]:
    """What is noted of a replacement that worked."""
    back = going.why == "rollback"
    retired = RetiredDisk(going.back, now, "rolled-back" if back else "replaced")
    refused = going.back.base if back else ""
    why = f"an operator went back from it to {going.to.base}" if back else ""
    return {
        "retired": (*memory.retired, retired),
        "refused": refused,
        "refused_why": why,
    }


def _confirm(
    desired: EffectiveGuest,
    domain: DomainView,
    memory: Memory,
    going: Replacement,
    usual: Plan,
    now: float,
    *,
    off: bool,
) -> Plan:
    deadline = (going.swapped_at or now) + desired.spec.update_policy.progress_deadline
    if off:
        if memory.start_attempts >= STARTS:
            return _give_up(usual, going, f"it went off again ({domain.reason})")
        if now >= deadline:
            return _give_up(usual, going, "it could not be started in time")
        again = remember(start_attempts=memory.start_attempts + 1, last_start_attempt=now)
        start = StartDomain("its system disk was replaced")
        return _told(usual, going, "starting it", again, start, recheck_at=deadline)
    ready, synced = usual.condition(C.READY), usual.condition(C.SYNCED)
    works = usual.is_true(C.READY) and (domain.agent_connected or not going.agent)
    unconfigured = synced is not None and synced.reason in (
        "ConfigurationOutdated", "WaitingForAgent",
    )  # fmt: skip
    if works and not unconfigured:
        noted = dict(_ENDED) | _kept(going, memory, now)
        ended = remember(**noted)
        return _told(usual, going, "it works", ended, *usual.steps, down=False)
    if now >= deadline:
        message = ready.message if ready is not None and ready.status is not Status.TRUE else ""
        waited = f"not ready within {now - (going.swapped_at or now):.0f} s"
        return _give_up(usual, going, f"{waited}: {message}" if message else waited)
    recheck = min(deadline, usual.recheck_at or deadline)
    message = "waiting until it is ready"
    told = _told(usual, going, message, *usual.steps, recheck_at=recheck, down=False)
    return replace(told, health=Health.PROGRESSING)


def _give_up(usual: Plan, going: Replacement, why: str) -> Plan:
    failed = replace(going, phase=ReplacePhase.RETURNING, failure=why)
    return _told(usual, failed, "stopping it", remember(replacement=failed))


def _swap_back(
    desired: EffectiveGuest,
    observed: Observed,
    domain: DomainView,
    memory: Memory,
    going: Replacement,
    usual: Plan,
    now: float,
    policy: Policy,
) -> Plan:
    owner = domain.ownership
    assert owner is not None  # noqa: S101 - the caller refused foreign domains
    config = config_on(desired, observed, domain, going.back, policy, seeded=False)
    noted = placed(config) | {
        "replacement": replace(going, phase=ReplacePhase.RETURNED),
        "refused": going.to.base,
        "refused_why": going.failure,
        "retired": (*memory.retired, RetiredDisk(going.to, now, "failed")),
        "start_attempts": 0,
        "last_start_attempt": None,
    }
    define = DefineDomain(
        config,
        owner,
        new=False,
        marks=(("base", going.back.base), ("digest", ""), ("spec", "")),
        memory=tuple(noted.items()),
        why=f"its system disk is {going.back.volume} again",
    )
    return _told(usual, going, "it is off; putting the old disk back", define)


def _returned(
    desired: EffectiveGuest, going: Replacement, usual: Plan, now: float, *, off: bool
) -> Plan:
    """The old disk is in: from its start on it is a guest like any other."""
    if off and desired.spec.run_strategy is not RunStrategy.HALTED:
        steps = (StartDomain("its old system disk is back"),)
        return _told(usual, going, "starting it", *steps, recheck_at=now + 30)
    return _told(usual, going, "it is done", remember(**dict(_ENDED)))
