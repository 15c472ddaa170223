"""A guest that has its domain: what of its definition, inside and services is not as wanted.

Hardware changes are written into the persistent definition at once and take effect with the next
cold boot (``RestartRequired`` names them); changes inside are applied; what this version can not
carry out is refused by name and touches nothing.
"""

from dataclasses import dataclass, replace

from controller.desired.effective import EffectiveGuest
from controller.desired.schema import Change
from controller.observed.domain import DomainConfig, DomainView, Memory, Ownership
from controller.observed.guest import Observed
from controller.observed.inside import InsideView
from controller.planning.changes import FieldChange, config_changes, spec_changes, spec_document
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
from controller.planning.domain import (
    SEED,
    holds_seed,
    missing_disks,
    seed_volume,
    unused_seed,
    wanted_config,
    wanted_volumes,
)
from controller.planning.image import build_beside, outdated_base, outdated_message
from controller.planning.inside import InsidePlan, plan_inside, wants_inside
from controller.planning.plan import Plan, Policy
from controller.planning.probes import probe_targets
from controller.planning.services import service_states, services_ready
from controller.planning.steps import (
    CreateVolume,
    DefineDomain,
    DeleteSeed,
    EjectSeed,
    RecordApplied,
    RecordMemory,
    Step,
)

C = ConditionType
AGENT_BUDGET = 600.0
"""Seconds from the start of the domain in which a missing agent is still starting."""


@dataclass(frozen=True, slots=True)
class Pending:
    """What the domain's definition lacks. ``refused`` is what this version does not carry out.

    ``outdated`` says that its system disk was made from an older content of its image.
    """

    steps: tuple[Step, ...]
    changes: tuple[FieldChange, ...]
    refused: tuple[FieldChange, ...]
    restart: tuple[FieldChange, ...]
    outdated: tuple[FieldChange, ...] = ()


_NOTHING = Pending((), (), (), ())


def pending(
    desired: EffectiveGuest, observed: Observed, domain: DomainView, policy: Policy
) -> Pending:
    """Compares definition, running domain and last-applied spec with the wanted ones."""
    owner = domain.ownership
    assert owner is not None  # noqa: S101 - the caller refused foreign domains
    wanted = wanted_config(desired, observed.host, domain, None, policy.seed)
    live = _settled(domain.live, wanted)
    same = domain.config == wanted and (live is None or live == wanted) and domain.persistent
    outdated = outdated_base(owner, observed.image)
    if same and owner.digest == desired.digest and not outdated:
        return _NOTHING
    refused = tuple(change for change in spec_changes(owner.spec, desired) if _refused(change))
    outdated = outdated or tuple(one for one in refused if one.path.startswith("image."))
    refused = tuple(change for change in refused if not change.path.startswith("image."))
    if outdated or any(change.path == "image" for change in refused):
        # What belongs to the refused image stays as the present one has it.
        wanted = replace(wanted, boot=domain.config.boot)
        live = _settled(domain.live, wanted)
    changes = config_changes(domain.config, wanted)
    if not domain.persistent:
        changes = (FieldChange("definition", "", "persistent", Change.LIVE), *changes)
    steps: list[Step] = []
    if changes:
        absent = missing_disks(desired, domain)
        steps += [
            CreateVolume(volume.pool, volume.volume, volume.size)
            for volume in wanted_volumes(desired, observed.host, domain, policy.seed)
            if volume.alias in absent
            and volume.size is not None
            and volume.volume not in observed.volumes
        ]
        steps.append(DefineDomain(wanted, owner, new=False))
    restart = config_changes(live, wanted) if live is not None else ()
    return Pending(tuple(steps), changes, refused, restart, outdated)


def _settled(live: DomainConfig | None, wanted: DomainConfig) -> DomainConfig | None:
    """A guest has all of its maximum until its balloon driver is there; that is no difference."""
    if live is None or live.memory != live.max_memory or wanted.memory == wanted.max_memory:
        return live
    return replace(live, memory=wanted.memory)


def _refused(change: FieldChange) -> bool:
    if change.change in (Change.REPLACE, Change.IMMUTABLE):
        return True
    return change.path.startswith(("disks[", "systemDisk")) and change.path.endswith("size")


def sync_of(
    desired: EffectiveGuest,
    observed: Observed,
    domain: DomainView,
    todo: Pending,
    inside: InsidePlan | None,
) -> tuple[Sync, Condition]:
    """The sync axis and its condition."""
    if todo.refused:
        fields = _fields(todo.refused, with_class=True)
        message = f"this version does not carry out a change of {fields}; put the old value back"
        return Sync.OUT_OF_SYNC, false(C.SYNCED, "ChangeNotSupported", message)
    if todo.changes:
        message = f"not as wanted: {_fields(todo.changes)}"
        return Sync.OUT_OF_SYNC, false(C.SYNCED, "DefinitionOutdated", message)
    if inside is not None and inside.changes:
        message = f"not as wanted: {_fields(inside.changes)}"
        return Sync.OUT_OF_SYNC, false(C.SYNCED, "ConfigurationOutdated", message)
    if todo.outdated:
        message = outdated_message(desired, observed.image)
        return Sync.OUT_OF_SYNC, false(C.SYNCED, "ImageOutdated", message)
    if todo.restart:
        message = f"takes effect with the next cold boot: {_fields(todo.restart)}"
        return Sync.OUT_OF_SYNC, false(C.SYNCED, "RestartRequired", message)
    owner = domain.ownership
    applied = owner is not None and owner.digest == desired.digest
    known = inside is not None and inside.known is not None and not inside.personalising
    if applied or known or not wants_inside(desired):
        return Sync.SYNCED, true(C.SYNCED, "Synced")
    message = "its inside is not configured yet: waiting for the guest agent"
    return Sync.OUT_OF_SYNC, false(C.SYNCED, "WaitingForAgent", message)


def _fields(changes: tuple[FieldChange, ...], *, with_class: bool = False) -> str:
    names = [f"{c.path} ({c.change})" if with_class else c.path for c in changes]
    unique = list(dict.fromkeys(names))
    more = f" and {len(unique) - 5} more" if len(unique) > 5 else ""
    return ", ".join(unique[:5]) + more


def plan_running(
    desired: EffectiveGuest,
    observed: Observed,
    domain: DomainView,
    memory: Memory,
    now: float,
    policy: Policy,
) -> Plan:
    """A running domain: definition first, then its inside, then what the probes say."""
    todo = pending(desired, observed, domain, policy)
    inside = plan_inside(desired, observed, domain, now)
    owner = domain.ownership
    assert owner is not None  # noqa: S101 - the caller refused foreign domains
    sync, synced = sync_of(desired, observed, domain, todo, inside)
    steps: list[Step] = list(todo.steps)
    steps += _remove_seed(desired, observed, domain, inside, policy)
    if sync is Sync.SYNCED and owner.digest != desired.digest and not holds_seed(domain):
        steps.append(_record(desired, owner))
    if memory.finished:  # somebody started it again
        steps.append(RecordMemory(replace(memory, finished=False)))
    if inside.step is not None:
        steps.append(inside.step)
    if not steps:
        steps += build_beside(desired, observed, now)

    provisioned = _provisioned(desired, domain, inside)
    probing = owner.digest != "" or (inside.known is not None and not inside.changes)
    if provisioned.status is not Status.TRUE:
        probing = False
    targets = probe_targets(desired, observed.host, domain, inside.known) if probing else ()
    states = service_states(desired, observed, inside, applied=owner.digest != "")
    ready = services_ready(states)
    agent = _agent(domain, now, policy)
    late = agent.reason == "AgentNotConnected"
    if ready.status is not Status.TRUE and late and wants_inside(desired):
        message = f"{ready.message}; {agent.message}" if ready.message else agent.message
        ready = false(C.SERVICES_READY, "AgentNotConnected", message)
    health, printable = _axes(ready, todo)
    return Plan(
        guest=desired.name,
        sentence=_sentence(steps, ready, synced, todo),
        steps=tuple(steps),
        changes=_distinct(
            (*todo.refused, *todo.changes, *todo.outdated, *todo.restart, *inside.changes)
        ),
        conditions=(
            _ready(provisioned, ready),
            synced,
            provisioned,
            true(C.RUNNING, "DomainRunning"),
            agent,
            ready,
            *_restart_required(todo),
        ),
        sync=sync,
        health=health,
        printable=printable,
        probes=targets,
        services_ready=tuple((state.service, state.ready) for state in states),
        recheck_at=_recheck(inside, agent, domain, now, policy),
    )


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
        return [DeleteSeed(*seed)] if seed[1] in observed.volumes else []
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
        message = "its inside was not seen yet: waiting for the guest agent"
        return false(C.PROVISIONED, "WaitingForAgent", message)
    if seeded and known is not None and known.cloud_init == "error":
        message = "cloud-init ended with an error; see /var/log/cloud-init.log in the guest"
        return false(C.PROVISIONED, "CloudInitFailed", message)
    return true(C.PROVISIONED, "Provisioned")


def _agent(domain: DomainView, now: float, policy: Policy) -> Condition:
    if domain.agent_connected:
        return true(C.AGENT_CONNECTED, "AgentConnected")
    since = domain.started_at or policy.daemon_started
    if now - since < AGENT_BUDGET:
        return false(C.AGENT_CONNECTED, "AgentStarting", "the guest agent has not connected yet")
    message = "the guest agent does not connect; install and enable qemu-guest-agent in the image"
    return false(C.AGENT_CONNECTED, "AgentNotConnected", message)


def _ready(provisioned: Condition, services: Condition) -> Condition:
    for found in (provisioned, services):
        if found.status is not Status.TRUE:
            return Condition(C.READY, found.status, found.reason, found.message)
    return true(C.READY, "Ready")


def _restart_required(todo: Pending) -> tuple[Condition, ...]:
    if not todo.restart:
        return ()
    message = f"shut it down and let it start again to apply {_fields(todo.restart)}"
    return (true(C.RESTART_REQUIRED, "DefinitionChanged", message),)


def _axes(ready: Condition, todo: Pending) -> tuple[Health, Printable]:
    if ready.status is Status.TRUE:
        return Health.HEALTHY, Printable.RESTART_REQUIRED if todo.restart else Printable.HEALTHY
    if ready.reason in ("ApplyFailed", "ProbeFailed", "AgentNotConnected", "LookFailed"):
        return Health.DEGRADED, Printable.DEGRADED
    return Health.PROGRESSING, Printable.STARTING


def _sentence(steps: list[Step], ready: Condition, synced: Condition, todo: Pending) -> str:
    if steps:
        return "; ".join(str(step) for step in steps)
    if todo.refused or (todo.outdated and ready.status is Status.TRUE):
        return f"doing nothing: {synced.message}"
    if todo.restart and ready.status is Status.TRUE:
        return f"nothing to do until a cold boot, which applies {_fields(todo.restart)}"
    if ready.status is Status.TRUE:
        return "nothing to do: it is as wanted and healthy"
    return f"waiting: {ready.message or ready.reason}"


def _distinct(changes: tuple[FieldChange, ...]) -> tuple[FieldChange, ...]:
    return tuple({change.path: change for change in changes}.values())


def _recheck(
    inside: InsidePlan, agent: Condition, domain: DomainView, now: float, policy: Policy
) -> float | None:
    times = [inside.recheck_at] if inside.recheck_at is not None else []
    if agent.reason == "AgentStarting":
        times.append((domain.started_at or policy.daemon_started) + AGENT_BUDGET)
    later = [time for time in times if time > now]
    return min(later) if later else None
