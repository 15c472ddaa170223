"""``plan(desired, observed, memory, now)``: every decision the daemon can take, and nothing else.

One branch for each thing a guest can be: on a silent host, orphaned, somebody else's, not there
yet, off, paused, running. Each gives the whole answer: the steps in order, what to say in
conditions, and when to look again. A crash between two steps is survived by planning again.
"""

from dataclasses import replace

from controller.desired.effective import EffectiveGuest
from controller.desired.schema import RunStrategy
from controller.observed.domain import DomainState, DomainView, Memory, StateReason
from controller.observed.guest import Failure, Observed
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
from controller.planning.creating import plan_creation
from controller.planning.keeping import pending, plan_running, sync_of
from controller.planning.plan import Plan, Policy
from controller.planning.starting import backoff, decide_start
from controller.planning.steps import (
    DestroyDomain,
    RecordMemory,
    ShutdownDomain,
    StartDomain,
    Step,
    step_name,
)

C = ConditionType


def plan(
    desired: EffectiveGuest,
    observed: Observed,
    memory: Memory,
    now: float,
    policy: Policy,
    *,
    orphaned: bool = False,
) -> Plan:
    """The plan for one guest. ``now`` is epoch seconds; ``memory`` comes from the domain."""
    made = _decide(desired, observed, memory, now, policy, orphaned=orphaned)
    return _hold(made, desired, observed.failure, now) if observed.failure else made


def _decide(
    desired: EffectiveGuest,
    observed: Observed,
    memory: Memory,
    now: float,
    policy: Policy,
    *,
    orphaned: bool,
) -> Plan:
    domain = observed.domain
    if not observed.host.reachable:
        return _no_data(desired, observed)
    if domain is not None and not domain.ours:
        return _conflict(desired, domain)
    if orphaned:
        return orphan(desired.name, domain)
    if domain is None:
        return plan_creation(desired, observed, now, policy)
    if domain.state in (DomainState.SHUTOFF, DomainState.CRASHED):
        return _off(desired, observed, domain, memory, now, policy)
    if domain.state is DomainState.SHUTDOWN:
        return _stopping(desired, "it is shutting down", now + 5)
    if domain.state in (DomainState.PAUSED, DomainState.PMSUSPENDED):
        return _paused(desired, domain)
    if domain.state is DomainState.UNKNOWN:
        return _no_data(desired, observed)
    if desired.spec.run_strategy is RunStrategy.HALTED:
        return _halt(desired, domain, memory, now, policy)
    return plan_running(desired, observed, domain, memory, now, policy)


_OWN_BACKOFF = ("StartDomain", "RecordMemory", "LookInside", "ApplyInside")


def _hold(made: Plan, desired: EffectiveGuest, failure: Failure, now: float) -> Plan:
    """A step that failed waits for its next try, and what follows it waits with it."""
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
    """Nothing was learnt, so nothing is done."""
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
        " Guestkeeper's; it is left alone. Rename the guest, or the domain with virsh domrename"
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


def orphan(name: str, domain: DomainView | None, problems: tuple[str, ...] = ()) -> Plan:
    """A guest whose document is gone, or was never usable: left alone, and said so."""
    if domain is None:
        return Plan(guest=name, sentence="doing nothing: neither document nor domain is left")
    running = domain.state.active
    left = f"domain {domain.name} is left as it is ({domain.state})"
    if problems:
        message = f"its document cannot be used ({problems[0]}); {left}"
        why = false(C.SYNCED, "DocumentInvalid", message)
        orphaned = false(C.ORPHANED, "DocumentInvalid", message)
    else:
        message = f"its document is gone; {left}"
        why = unknown(C.SYNCED, "Orphaned", message)
        orphaned = true(C.ORPHANED, "DocumentVanished", message)
    return Plan(
        guest=name,
        sentence=f"doing nothing: {message}",
        conditions=(
            orphaned,
            unknown(C.READY, why.reason, message),
            why,
            true(C.RUNNING, "DomainRunning")
            if running
            else false(C.RUNNING, "DomainOff", f"the domain is {domain.state}"),
        ),
        sync=Sync.OUT_OF_SYNC if problems else Sync.UNKNOWN,
        printable=Printable.UNKNOWN,
    )


def _off(
    desired: EffectiveGuest,
    observed: Observed,
    domain: DomainView,
    memory: Memory,
    now: float,
    policy: Policy,
) -> Plan:
    """Off: bring the definition up to date (nothing needs a restart now), then start if due."""
    todo = pending(desired, observed, domain, policy)
    sync, synced = sync_of(desired, observed, domain, todo, None)
    start = decide_start(desired.spec.run_strategy, domain, memory, now)
    provisioned = true(C.PROVISIONED, "Defined")
    steps: list[Step] = list(todo.steps)
    if start.due is None:
        message = f"off, as wanted: {start.why}"
        if domain.reason is StateReason.SHUTDOWN and not memory.finished:
            steps.append(RecordMemory(replace(memory, finished=True)))
        return Plan(
            guest=desired.name,
            sentence=message,
            steps=tuple(steps),
            changes=todo.changes,
            conditions=(
                false(C.READY, "Off", message),
                synced,
                provisioned,
                false(C.RUNNING, "Off", message),
            ),
            sync=sync,
            health=Health.SUSPENDED,
            printable=Printable.STOPPED,
        )
    looping = now < start.due
    attempt = start.memory.start_attempts
    held = observed.failure
    if looping:
        message = f"{start.why}; start number {attempt} waits for {backoff(attempt - 1):.0f} s"
        reason = "CrashLoopBackOff"
    else:
        message = f"{start.why}; starting it"
        reason = "Starting"
        steps += [RecordMemory(start.memory), StartDomain(start.why)]
    if held is not None and held.step == "StartDomain":
        message += f"; the last start failed: {held.message}"
    return Plan(
        guest=desired.name,
        sentence=message,
        steps=tuple(steps),
        changes=todo.changes,
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
        printable=Printable.CRASH_LOOP if looping else Printable.STARTING,
        recheck_at=start.due if looping else None,
    )


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
    desired: EffectiveGuest, domain: DomainView, memory: Memory, now: float, policy: Policy
) -> Plan:
    """Ask once, wait for ``shutdownTimeout``, then pull the plug. Asked-when is in the metadata.

    A request from before the domain's start was another run's; one from the future, another
    clock's. Neither may cost a guest its orderly shutdown.
    """
    asked = memory.shutdown_requested
    timeout = desired.spec.shutdown_timeout
    started = domain.started_at if domain.started_at is not None else policy.daemon_started
    if asked is None or not started <= asked <= now:
        wish = RecordMemory(Memory(shutdown_requested=now))
        message = "it runs and should be halted; asking it to shut down"
        return _stopping(desired, message, now + timeout, (wish, ShutdownDomain()))
    if now < asked + timeout:
        message = f"asked to shut down {now - asked:.0f} s ago; it has {timeout:.0f} s"
        return _stopping(desired, message, asked + timeout)
    message = f"it did not shut down within {timeout:.0f} s; powering it off"
    return _stopping(desired, message, now + 5, (DestroyDomain("shutdown timed out"),))


def _paused(desired: EffectiveGuest, domain: DomainView) -> Plan:
    if domain.reason is StateReason.IO_ERROR:
        reason, health = "PausedByIOError", Health.DEGRADED
        message = (
            "QEMU paused it because a disk could not be written; make room in its pool or mend the"
            f" disk, then: virsh resume {domain.name}"
        )
    else:
        reason, health = "Paused", Health.SUSPENDED
        message = f"somebody paused it; it is left alone. To go on: virsh resume {domain.name}"
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
