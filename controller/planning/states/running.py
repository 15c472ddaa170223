"""Plans for a guest whose domain runs: differences in its definition, its inside and its services.

Each difference is carried out in the mildest way that works: inside the guest, on the running
domain, else as ``planning.downtime`` decides (a cold boot, another system disk), or it is refused.
"""

from typing import Any

from controller.desired.effective import EffectiveGuest
from controller.desired.schema.guest import RunStrategy
from controller.observed.domain import DomainView, GuestRecord, Ownership
from controller.observed.guest import Observed
from controller.observed.inside import InsideView
from controller.planning.compare.changes import FieldChange, spec_document
from controller.planning.compare.image import build_beside
from controller.planning.compare.moved_disks import on_base
from controller.planning.conditions import (
    Condition,
    ConditionType,
    Health,
    Printable,
    Status,
    Sync,
    false,
    true,
)
from controller.planning.deletion.orphan import returned
from controller.planning.differences import AGENT_BUDGET, Pending, is_booting, pending
from controller.planning.downtime import ChangeDecision, decide_change
from controller.planning.host.trouble import storage_trouble
from controller.planning.inside.probe_targets import probe_targets
from controller.planning.inside.readiness import service_states, services_ready
from controller.planning.inside.schedule import InsidePlan, plan_inside, wants_inside
from controller.planning.plan import Plan, Policy, earliest
from controller.planning.power.stopping import NOT_STOPPED, StopFor, stop_is_over
from controller.planning.replacement.system_disks import expired
from controller.planning.steps import (
    LONG,
    DeleteSeed,
    EjectSeed,
    RecordApplied,
    Step,
    UpdateRecord,
    update_record,
)
from controller.planning.wanted.domain import SEED, holds_seed, seed_volume, unused_seed

C = ConditionType


def sync_of(
    desired: EffectiveGuest,
    domain: DomainView,
    todo: Pending,
    change: ChangeDecision,
    inside: InsidePlan | None,
) -> tuple[Sync, Condition]:
    """The sync axis and its condition, which names the most important difference."""
    found: tuple[str, str] | None = None
    if todo.failing is not None:
        found = todo.failing
    elif todo.refused:
        found = "ChangeRefused", "; ".join(one.why for one in todo.refused)
    elif todo.astray:
        found = "DiskIsBase" if on_base(domain) else "DiskMoved", todo.astray
    elif todo.changes:
        found = "DefinitionOutdated", f"not as wanted: {_fields(todo.changes)}"
    elif inside is not None and inside.changes and inside.refused is not None:
        found = inside.refused.reason, inside.refused.message
    elif inside is not None and inside.changes:
        found = "ConfigurationOutdated", f"not as wanted: {_fields(inside.changes)}"
    elif change.reason:
        found = change.reason, change.message
    if found is not None:
        return Sync.OUT_OF_SYNC, false(C.SYNCED, *found)
    owner = domain.ownership
    applied = owner is not None and owner.digest == desired.digest
    known = inside is not None and inside.known is not None and not inside.personalising
    if applied or known or not wants_inside(desired):
        return Sync.SYNCED, true(C.SYNCED, "Synced")
    if inside is not None and inside.refused is not None:
        refused = inside.refused
        return Sync.OUT_OF_SYNC, false(C.SYNCED, refused.reason, refused.message)
    message = "its inside is not configured yet: waiting for the guest agent"
    return Sync.OUT_OF_SYNC, false(C.SYNCED, "WaitingForAgent", message)


def _fields(changes: tuple[FieldChange, ...]) -> str:
    unique = list(dict.fromkeys(change.path for change in changes))
    more = f" and {len(unique) - 5} more" if len(unique) > 5 else ""
    return ", ".join(unique[:5]) + more


def sync_record(
    desired: EffectiveGuest, domain: DomainView, record: GuestRecord, policy: Policy
) -> UpdateRecord | None:
    """The update of the guest's record, None for none: it always has what is needed once the
    document is gone; notes that are over (a stop of another run, an absence) are cleared.
    """
    back = returned(record)
    noted: dict[str, Any] = dict(back.changes) if back is not None else {}
    if record.controller != policy.controller:
        noted["controller"] = policy.controller
    if record.deletion_policy != desired.spec.deletion_policy:
        noted["deletion_policy"] = desired.spec.deletion_policy
    if domain.run is None:
        return update_record(**noted) if noted else None
    stop_for = noted.get("stop_for", record.stop_for)
    if record.replacement is None and stop_for:
        wanted = stop_for != StopFor.HALT or desired.spec.run_strategy is RunStrategy.HALTED
        over = domain.started_at is not None and (record.stopped_at or 0) < domain.started_at
        if record.stop_run != domain.run or over or not wanted:
            noted |= stop_is_over(stop_for, record)
    if record.starting:
        noted["starting"] = False
    if record.finished:  # somebody started it again
        noted["finished"] = False
    if domain.agent_connected and not record.agent_seen:
        noted["agent_seen"] = True
    return update_record(**noted) if noted else None


def plan_running(
    desired: EffectiveGuest,
    observed: Observed,
    domain: DomainView,
    record: GuestRecord,
    now: float,
    policy: Policy,
) -> Plan:
    """The plan for a running domain: definition first, then its inside, then the probes."""
    todo = pending(desired, observed, domain, now, policy)
    inside = plan_inside(desired, observed, domain, now)
    owner = domain.ownership
    assert owner is not None  # noqa: S101 - the caller refused foreign domains
    change = decide_change(desired, observed, domain, record, todo, now, policy)
    sync, synced = sync_of(desired, domain, todo, change, inside)
    steps: list[Step] = []
    kept = sync_record(desired, domain, record, policy)
    if kept is not None:
        steps.append(kept)
    steps += _long_last(todo.steps, before=True)
    steps += _remove_seed(desired, observed, domain, inside, policy)
    if sync is Sync.SYNCED and owner.digest != desired.digest and not holds_seed(domain):
        steps.append(_record(desired, owner))
    over, expires_at = expired(desired, observed, domain, record, now, policy)
    steps += over
    if record.restarted_for and not todo.restart and record.replacement is None:
        steps.append(update_record(restarted_for=""))
    if _called_off(record, change):
        steps.append(update_record(**NOT_STOPPED))
    long = _long_last(todo.steps, before=False)
    if long:
        steps += long
    elif inside.step is not None:
        steps.append(inside.step)
    if not steps:
        steps += change.steps
    waited = todo.outdated is not None
    if not steps and (waited or owner.base):  # an adopted guest's disk is not from an image of ours
        steps += build_beside(desired, observed, now, wanted=waited)

    provisioned = _provisioned(desired, domain, inside)
    probing = owner.digest != "" or (inside.known is not None and not inside.changes)
    if provisioned.status is not Status.TRUE:
        probing = False
    whole = provisioned
    trouble = storage_trouble(desired, observed, domain)
    if trouble is not None:  # the probes do not notice it
        provisioned = false(C.PROVISIONED, trouble.reason, trouble.message)
    targets = probe_targets(desired, observed.host, domain, inside.known) if probing else ()
    states = service_states(desired, observed, inside, applied=owner.digest != "")
    ready = services_ready(states)
    agent = _agent(domain, inside, now, policy)
    late = agent.reason == "AgentNotConnected"
    if ready.status is not Status.TRUE and late and wants_inside(desired):
        message = f"{ready.message}; {agent.message}" if ready.message else agent.message
        ready = false(C.SERVICES_READY, "AgentNotConnected", message)
    health, printable = _axes(ready, todo)
    if trouble is not None:
        health, printable = Health.DEGRADED, Printable.DEGRADED
    if change.reason == "Restarting":  # we stop it on purpose
        health, printable, targets = Health.PROGRESSING, Printable.STOPPING, ()
    return Plan(
        guest=desired.name,
        sentence=_sentence(steps, provisioned if trouble is not None else ready, synced),
        steps=tuple(steps),
        changes=_distinct(
            (
                *(one.change for one in todo.refused),
                *todo.changes,
                *(todo.outdated.changes if todo.outdated is not None else ()),
                *todo.restart,
                *inside.changes,
            )
        ),
        conditions=(
            _ready(provisioned, ready),
            synced,
            provisioned,
            true(C.RUNNING, "DomainRunning"),
            agent,
            ready,
            *_restart_required(todo, change),
        ),
        sync=sync,
        health=health,
        printable=printable,
        probes=targets,
        services_ready=tuple((state.service, state.ready) for state in states),
        serves=_ready(whole, ready).status is Status.TRUE,
        replace_to=change.replace_to,
        recheck_at=_recheck(
            (inside.recheck_at, change.recheck_at, expires_at, todo.retry_at),
            agent,
            domain,
            now,
            policy,
        ),
    )


def _called_off(record: GuestRecord, change: ChangeDecision) -> bool:
    """True if a stop was planned and recorded, but never requested, and is not planned any more.

    Then it is removed from the record: whoever shuts the guest down after that wants it off.
    """
    return (
        record.stop_for in (StopFor.RESTART, StopFor.REPLACE)
        and record.shutdown_requested is None
        and record.replacement is None
        and change.reason != "Restarting"
    )


def _long_last(steps: tuple[Step, ...], *, before: bool) -> list[Step]:
    """The short steps (``before``) or the long ones, which must be last in a plan."""
    return [step for step in steps if isinstance(step, LONG) != before]


def _record(desired: EffectiveGuest, owner: Ownership) -> RecordApplied:
    generation = owner.generation + 1 if owner.digest else owner.generation
    return RecordApplied(generation, desired.digest, spec_document(desired))


def _remove_seed(
    desired: EffectiveGuest,
    observed: Observed,
    domain: DomainView,
    inside: InsidePlan,
    policy: Policy,
) -> list[Step]:
    seed = seed_volume(desired, observed.host, domain, policy.seed)
    if seed is None:
        return []
    if unused_seed(desired, domain):
        return [DeleteSeed(*seed)] if seed in observed.volumes else []
    known = inside.known
    if known is None or inside.personalising or known.cloud_init == "error":
        return []
    return [
        step
        for disk in domain.config.disks
        if disk.alias == SEED and disk.volume is not None
        for step in (EjectSeed(disk.alias), DeleteSeed(disk.pool, disk.volume))
    ]


def _provisioned(desired: EffectiveGuest, domain: DomainView, inside: InsidePlan) -> Condition:
    if inside.personalising:
        return false(C.PROVISIONED, "Personalising", "cloud-init is at work in the guest")
    known: InsideView | None = inside.known
    seeded = holds_seed(domain)
    owner = domain.ownership
    never_applied = owner is not None and not owner.digest
    if known is None and (seeded or (never_applied and wants_inside(desired))):
        if inside.refused is not None:
            return false(C.PROVISIONED, inside.refused.reason, inside.refused.message)
        message = "its inside was not seen yet: waiting for the guest agent"
        return false(C.PROVISIONED, "WaitingForAgent", message)
    if seeded and known is not None and known.cloud_init == "error":
        message = "cloud-init ended with an error; see /var/log/cloud-init.log in the guest"
        return false(C.PROVISIONED, "CloudInitFailed", message)
    return true(C.PROVISIONED, "Provisioned")


def _agent(domain: DomainView, inside: InsidePlan, now: float, policy: Policy) -> Condition:
    if inside.refused is not None:
        return true(C.AGENT_CONNECTED, inside.refused.reason, inside.refused.message)
    if domain.agent_connected:
        return true(C.AGENT_CONNECTED, "AgentConnected")
    if is_booting(domain, now, policy):
        return false(C.AGENT_CONNECTED, "AgentStarting", "the guest agent has not connected yet")
    message = "the guest agent does not connect; install and enable qemu-guest-agent in the image"
    return false(C.AGENT_CONNECTED, "AgentNotConnected", message)


def _ready(provisioned: Condition, services: Condition) -> Condition:
    for found in (provisioned, services):
        if found.status is not Status.TRUE:
            return Condition(C.READY, found.status, found.reason, found.message)
    return true(C.READY, "Ready")


def _restart_required(todo: Pending, change: ChangeDecision) -> tuple[Condition, ...]:
    if not todo.restart:
        return ()
    message = f"takes effect with the next cold boot: {_fields(todo.restart)}"
    if change.waits:
        message = f"{message}; {change.waits}"
    return (true(C.RESTART_REQUIRED, "DefinitionChanged", message),)


_DEGRADED = (
    "ApplyFailed", "ProbeFailed", "AgentNotConnected", "LookFailed", "GuestExecDisabled",
    "FilesystemsFrozen",
)  # fmt: skip


def _axes(ready: Condition, todo: Pending) -> tuple[Health, Printable]:
    if ready.status is Status.TRUE:
        return Health.HEALTHY, Printable.RESTART_REQUIRED if todo.restart else Printable.HEALTHY
    if ready.reason in _DEGRADED:
        return Health.DEGRADED, Printable.DEGRADED
    return Health.PROGRESSING, Printable.STARTING


def _sentence(steps: list[Step], ready: Condition, synced: Condition) -> str:
    if steps:
        return "; ".join(str(step) for step in steps)
    if ready.type is C.PROVISIONED:
        return f"doing nothing: {ready.message}"
    if ready.status is not Status.TRUE:
        return f"waiting: {ready.message or ready.reason}"
    if synced.status is not Status.TRUE:
        return f"doing nothing: {synced.message}"
    return "nothing to do: it is as wanted and healthy"


def _distinct(changes: tuple[FieldChange, ...]) -> tuple[FieldChange, ...]:
    return tuple({change.path: change for change in changes}.values())


def _recheck(
    times: tuple[float | None, ...],
    agent: Condition,
    domain: DomainView,
    now: float,
    policy: Policy,
) -> float | None:
    if agent.reason == "AgentStarting":
        times = (*times, (domain.started_at or policy.daemon_started) + AGENT_BUDGET)
    return earliest(*(time for time in times if time is not None and time > now))
