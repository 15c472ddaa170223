"""``plan(desired, observed, record, now, policy)``: makes every decision about a guest that has a
document.

One branch for each state: unreachable host, foreign domain, no domain yet, being deleted, off,
paused, running, in a replacement. Each returns the whole plan: the steps in order, the conditions,
and when to plan again. After a crash between two steps, planning again continues.
"""

from dataclasses import replace

from controller.desired.effective import EffectiveGuest
from controller.desired.schema.guest import RunStrategy
from controller.observed.domain import DomainState, DomainView, GuestRecord, StateReason
from controller.observed.guest import Failure, Observed
from controller.planning.compare.changes import FieldChange
from controller.planning.compare.image import build_beside
from controller.planning.compare.moved_disks import on_base
from controller.planning.conditions import (
    Condition,
    ConditionType,
    Health,
    Printable,
    Sync,
    false,
    true,
    unknown,
)
from controller.planning.deletion.orphan import finish_deletion
from controller.planning.differences import Pending, pending
from controller.planning.downtime import decide_change
from controller.planning.host.addresses import LOOK_AGAIN, address_trouble, cannot_start
from controller.planning.plan import Plan, Policy, earliest
from controller.planning.power.starting import (
    backoff,
    decide_start,
    refused_until,
    unable_to_start,
)
from controller.planning.power.stopping import StopFor, stop
from controller.planning.power.suspending import suspended
from controller.planning.repetition import hold_repeated
from controller.planning.replacement.phases import is_begun, plan_replacement
from controller.planning.replacement.system_disks import expired
from controller.planning.states.absent import plan_creation
from controller.planning.states.running import plan_running, sync_of, sync_record
from controller.planning.steps import LONG, DestroyDomain, Step, step_name, update_record

C = ConditionType


def plan(
    desired: EffectiveGuest, observed: Observed, record: GuestRecord, now: float, policy: Policy
) -> Plan:
    """The plan for one guest. ``now`` is epoch seconds; ``record`` is the domain's."""
    made = _plan(desired, observed, record, now, policy)
    return hold_repeated(made, observed, now)


def _plan(
    desired: EffectiveGuest, observed: Observed, record: GuestRecord, now: float, policy: Policy
) -> Plan:
    made = _decide(desired, observed, record, now, policy)
    if observed.failure is not None:
        made = _hold(made, desired, observed.failure, now)
    if observed.held and observed.domain is None:
        record = replace(record, suspended=True)
    alone = record.suspended or observed.fleet.suspended
    if not alone and made.printable is not Printable.PAUSED:
        return made
    # To update the record, which is needed once the document is gone, does not affect the guest.
    domain, kept = observed.domain, None
    if domain is not None and domain.ours and observed.host.reachable:
        kept = sync_record(desired, domain, record, policy)
    steps = (kept,) if kept is not None else ()
    return suspended(made, record, steps) if alone else replace(made, steps=steps or made.steps)


def _decide(
    desired: EffectiveGuest, observed: Observed, record: GuestRecord, now: float, policy: Policy
) -> Plan:
    domain = observed.domain
    if not observed.host.reachable:
        return _no_data(desired, observed)
    if domain is not None and not domain.ours:
        return _conflict(desired, domain)
    if domain is None:
        return plan_creation(desired, observed, now, policy)
    if record.deleting:
        return finish_deletion(
            desired.name,
            domain,
            now,
            policy,
            shutdown_timeout=desired.spec.shutdown_timeout,
            failure=observed.failure,
        )
    if domain.state is DomainState.SHUTDOWN:
        return _stopping(desired, "it is shutting down", now + 5)
    if domain.state in (DomainState.PAUSED, DomainState.PMSUSPENDED):
        return _paused(desired, domain)
    if domain.state is DomainState.UNKNOWN:
        return _no_data(desired, observed)
    off = domain.state in (DomainState.SHUTOFF, DomainState.CRASHED)
    if off and domain.run is not None:
        message = "it crashed, and its QEMU is kept: powering it off"
        return _stopping(desired, message, now + 5, (DestroyDomain("it crashed"),))
    halted = desired.spec.run_strategy is RunStrategy.HALTED
    if record.replacement is not None and (is_begun(record) or off or not halted):
        usual = (_off if off else plan_running)(desired, observed, domain, record, now, policy)
        return plan_replacement(desired, observed, domain, record, usual, now, policy)
    if off:
        return _off(desired, observed, domain, record, now, policy)
    if halted:
        return _halt(desired, observed, domain, record, now, policy)
    return plan_running(desired, observed, domain, record, now, policy)


_OWN_BACKOFF = ("StartDomain", "UpdateRecord", "LookInside", "ApplyInside")


def _hold(made: Plan, desired: EffectiveGuest, failure: Failure, now: float) -> Plan:
    """``made`` without a failed step that waits for its retry, and without the steps after it."""
    names = [step_name(step) for step in made.steps]
    if (
        failure.step in _OWN_BACKOFF
        or failure.step not in names
        or failure.digest != desired.digest
        or now >= failure.retry_at
    ):
        return made
    message = f"{failure.step} failed: {failure.message}"
    conditions = tuple(
        false(C.SYNCED, failure.reason, message) if found.type is C.SYNCED else found
        for found in made.conditions
    )
    return replace(
        made,
        sentence=f"{message}; it is tried again later",
        steps=made.steps[: names.index(failure.step)],
        conditions=conditions,
        sync=Sync.OUT_OF_SYNC,
        recheck_at=min(failure.retry_at, made.recheck_at or failure.retry_at),
    )


def _no_data(desired: EffectiveGuest, observed: Observed) -> Plan:
    if observed.host.reachable:
        return unseen(desired, "NoState", "the domain's state is not known")
    return unseen(desired, "HostUnreachable", observed.host.why)


def unseen(desired: EffectiveGuest, reason: str, why: str) -> Plan:
    """The plan if nothing could be observed: all conditions are unknown, and nothing is done."""
    types = (C.READY, C.SYNCED, C.PROVISIONED, C.RUNNING, C.AGENT_CONNECTED, C.SERVICES_READY)
    return Plan(
        guest=desired.name,
        sentence=f"doing nothing: host {desired.spec.host} gives no data ({why})",
        conditions=tuple(unknown(type, reason, why) for type in types),
        probes=(),
    )


def _conflict(desired: EffectiveGuest, domain: DomainView) -> Plan:
    message = (
        f"host {desired.spec.host} has a domain {domain.name} ({domain.uuid}) that is not"
        f" Guestkeeper's; it is left alone. To take it over: guestkeeper adopt {desired.name}; or"
        " rename the guest, or the domain with virsh domrename"
    )
    return Plan(
        guest=desired.name,
        sentence=f"doing nothing: {message}",
        conditions=(
            false(C.READY, "NameConflict", message),
            false(C.SYNCED, "NameConflict", message),
            false(C.PROVISIONED, "NameConflict", message),
        ),
        sync=Sync.OUT_OF_SYNC,
        health=Health.MISSING,
        printable=Printable.DEGRADED,
    )


def _off(
    desired: EffectiveGuest,
    observed: Observed,
    domain: DomainView,
    record: GuestRecord,
    now: float,
    policy: Policy,
) -> Plan:
    """The plan for a domain that is off: update the definition, then start it if due."""
    todo = pending(desired, observed, domain, now, policy)
    start = decide_start(desired.spec.run_strategy, domain, record, now)
    change = decide_change(desired, observed, domain, record, todo, now, policy)
    sync, synced = sync_of(desired, domain, todo, change, None)
    provisioned = true(C.PROVISIONED, "Defined")
    kept = sync_record(desired, domain, record, policy)
    steps: list[Step] = [kept] if kept is not None else []
    steps += (step for step in todo.steps if not isinstance(step, LONG))
    over, expires_at = expired(desired, observed, domain, record, now, policy)
    steps += over
    if start.due is None:
        message = f"off, as wanted: {start.why}"
        if domain.reason is StateReason.SHUTDOWN and not record.finished:
            steps.append(update_record(finished=True))
        if not steps:
            steps += change.steps
        if not steps and todo.outdated is not None:
            steps += build_beside(desired, observed, now, wanted=True)
        return Plan(
            guest=desired.name,
            sentence=message if change.message == "" else f"{message}; {change.message}",
            steps=tuple(steps),
            changes=_all_changes(todo),
            conditions=(
                false(C.READY, "Off", message),
                synced,
                provisioned,
                false(C.RUNNING, "Off", message),
            ),
            sync=sync,
            health=Health.SUSPENDED,
            printable=Printable.STOPPED,
            replace_to=change.replace_to,
            recheck_at=earliest(change.recheck_at, expires_at, todo.retry_at),
        )
    if on_base(domain):
        # It would write to the base, and so damage the disks of other guests.
        return _held_off(desired, "DiskIsBase", todo.astray, tuple(steps), todo, synced)
    clash = cannot_start(domain.config, observed)
    if clash is not None:
        taken = address_trouble(*clash)
        held_off = _held_off(desired, taken.reason, taken.message, tuple(steps), todo, synced)
        return replace(held_off, recheck_at=earliest(now + LOOK_AGAIN, todo.retry_at))
    if change.steps:  # it gets its other disk before it starts
        message = f"off; {change.message}"
        return Plan(
            guest=desired.name,
            sentence=message,
            steps=(*steps, *change.steps),
            changes=_all_changes(todo),
            conditions=(false(C.READY, "Off", message), synced, provisioned),
            sync=sync,
            health=Health.PROGRESSING,
            printable=Printable.REPLACING,
        )
    looping, refused = now < start.due, refused_until(observed.failure, now)
    attempt = start.attempts
    held = observed.failure
    if looping:
        message = f"{start.why}; start number {attempt} waits for {backoff(attempt - 1):.0f} s"
        reason = "CrashLoopBackOff"
    else:
        message = f"{start.why}; starting it"
        reason = "Starting"
        if refused is None:
            steps.append(start.step(record))
    unable = unable_to_start(domain, held)
    if unable is not None and looping:  # it never ran, so this is no crash loop
        reason, why = unable
        message = f"{why}; start number {attempt} waits for {backoff(attempt - 1):.0f} s"
    elif unable is not None and held is not None:
        message += f"; the last start failed: {unable[1]}"
    return Plan(
        guest=desired.name,
        sentence=message,
        steps=tuple(steps),
        changes=_all_changes(todo),
        conditions=(
            false(C.READY, reason, message),
            synced,
            provisioned,
            false(C.RUNNING, reason, message),
            false(C.AGENT_CONNECTED, "NotRunning"),
            false(C.SERVICES_READY, "NotRunning", message),
        ),
        sync=sync,
        health=Health.DEGRADED if looping else Health.PROGRESSING,
        printable=_word(looping=looping, ran=unable is None),
        recheck_at=start.due if looping else refused,
    )


def _held_off(
    desired: EffectiveGuest,
    reason: str,
    message: str,
    steps: tuple[Step, ...],
    todo: Pending,
    synced: Condition,
) -> Plan:
    """The plan for a guest that should start but must not, because others would suffer."""
    return Plan(
        guest=desired.name,
        sentence=f"not starting it: {message}",
        steps=steps,
        changes=_all_changes(todo),
        conditions=(
            false(C.READY, reason, message),
            synced,
            true(C.PROVISIONED, "Defined"),
            false(C.RUNNING, reason, message),
            false(C.AGENT_CONNECTED, "NotRunning"),
            false(C.SERVICES_READY, "NotRunning", message),
        ),
        sync=Sync.OUT_OF_SYNC,
        health=Health.DEGRADED,
        printable=Printable.DEGRADED,
        recheck_at=todo.retry_at,
    )


def _word(*, looping: bool, ran: bool) -> Printable:
    if not looping:
        return Printable.STARTING
    return Printable.CRASH_LOOP if ran else Printable.DEGRADED


def _all_changes(todo: Pending) -> tuple[FieldChange, ...]:
    outdated = todo.outdated.changes if todo.outdated is not None else ()
    return (*(one.change for one in todo.refused), *todo.changes, *outdated)


def _stopping(
    desired: EffectiveGuest, message: str, recheck_at: float, steps: tuple[Step, ...] = ()
) -> Plan:
    return Plan(
        guest=desired.name,
        sentence=message,
        steps=steps,
        conditions=(
            false(C.READY, "Stopping", message),
            unknown(C.SYNCED, "Stopping", message),
            true(C.PROVISIONED, "Defined"),
            false(C.RUNNING, "Stopping", message),
        ),
        sync=Sync.UNKNOWN,
        health=Health.SUSPENDED,
        printable=Printable.STOPPING,
        recheck_at=recheck_at,
    )


def _halt(
    desired: EffectiveGuest,
    observed: Observed,
    domain: DomainView,
    record: GuestRecord,
    now: float,
    policy: Policy,
) -> Plan:
    """Asks for a shutdown once, waits for ``shutdownTimeout``, then powers the guest off."""
    timeout = desired.spec.shutdown_timeout
    since = policy.daemon_started
    halting = stop(
        domain,
        record,
        StopFor.HALT,
        timeout=timeout,
        now=now,
        since=since,
        failure=observed.failure,
    )
    message = f"it runs and should be halted; {halting.message}"
    return _stopping(desired, message, halting.recheck_at, halting.steps)


def _paused(desired: EffectiveGuest, domain: DomainView) -> Plan:
    if domain.state is DomainState.PMSUSPENDED:
        reason, health = "Asleep", Health.SUSPENDED
        message = f"it sleeps (suspended to RAM); it is left alone. To wake it: {domain.go_on}"
    elif domain.reason is StateReason.IO_ERROR:
        reason, health = "PausedByIOError", Health.DEGRADED
        message = (
            "QEMU paused it because a disk could not be written; make room in its pool or mend the"
            f" disk, then: {domain.go_on}"
        )
    else:
        reason, health = "Paused", Health.SUSPENDED
        message = f"somebody paused it; it is left alone. To go on: {domain.go_on}"
    conditions: tuple[Condition, ...] = (
        false(C.READY, reason, message),
        unknown(C.SYNCED, reason, message),
        true(C.PROVISIONED, "Defined"),
        false(C.RUNNING, reason, message),
    )
    return Plan(
        guest=desired.name,
        sentence=f"doing nothing: {message}",
        conditions=conditions,
        health=health,
        printable=Printable.PAUSED,
    )
