"""Compares a guest's domain with the wanted one: definition, disk sizes, running domain, image.

One comparison of everything outside the guest, used to plan for every state of a domain.
"""

from dataclasses import dataclass, replace

from controller.desired.effective import EffectiveGuest
from controller.desired.schema.fields import Change
from controller.desired.schema.quantities import format_size
from controller.observed.addresses import AddressUse
from controller.observed.base_names import is_base_name
from controller.observed.domain import DomainConfig, DomainView, NicConfig
from controller.observed.guest import Failure, Observed
from controller.planning.compare.changes import (
    FieldChange,
    config_changes,
    disk_path,
    nic_path,
    spec_changes,
)
from controller.planning.compare.fitting import fitted, unballooned
from controller.planning.compare.image import Outdated, outdated
from controller.planning.compare.live import NOTHING, LivePlan, plan_live
from controller.planning.compare.moved_disks import on_base, told_moved, told_on_base
from controller.planning.host.addresses import LOOK_AGAIN, told, without_clashes
from controller.planning.plan import Policy
from controller.planning.steps import (
    ALONE,
    CreateVolume,
    DefineDomain,
    GrowDisk,
    SetAutostart,
    Step,
    step_name,
    update_record,
)
from controller.planning.wanted.domain import (
    WantedVolume,
    missing_disks,
    moved_disks,
    placed,
    wanted_config,
    wanted_volumes,
)

AGENT_BUDGET = 600.0
"""Seconds from the domain's start in which a missing agent counts as still starting."""
_ROUNDING = 2**20
"""Bytes by which a disk may be larger than asked for: formats round up."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A change that is not carried out, and why."""

    change: FieldChange
    why: str


@dataclass(frozen=True, slots=True)
class Pending:
    """``changes`` are carried out by ``steps``; ``restart`` waits for a cold boot.

    ``failing``: reason and message of a step that waits for its retry. ``moved``: aliases of disks
    that are on another volume than recorded.
    """

    steps: tuple[Step, ...] = ()
    changes: tuple[FieldChange, ...] = ()
    refused: tuple[Refused, ...] = ()
    restart: tuple[FieldChange, ...] = ()
    astray: str = ""
    """The message about ``moved``, and about disks that are a base."""
    outdated: Outdated | None = None
    moved: tuple[str, ...] = ()
    failing: tuple[str, str] | None = None
    retry_at: float | None = None


def pending(
    desired: EffectiveGuest, observed: Observed, domain: DomainView, now: float, policy: Policy
) -> Pending:
    """Compares definition, running domain and last-applied spec with the wanted ones."""
    owner = domain.ownership
    assert owner is not None  # noqa: S101 - the caller refused foreign domains
    asked = spec_changes(owner.spec, desired) if owner.digest != desired.digest else ()
    old_image = outdated(owner, observed.image, asked)
    moved = moved_disks(domain)
    volumes = wanted_volumes(desired, observed.host, domain, policy.seed)
    wanted = wanted_config(desired, observed.host, domain, observed.image, policy.seed)
    if old_image is not None:
        # Kernel and arguments of the other image come with its disk.
        wanted = replace(wanted, boot=domain.config.boot)
    asked_for = wanted
    wanted, unfit = fitted(domain, wanted)
    wanted, clashes = without_clashes(domain, wanted, observed)
    steps: list[Step] = []
    changes = list(config_changes(domain.config, wanted))
    if not domain.persistent:
        changes.insert(0, FieldChange("definition", "", "persistent", Change.LIVE))
    written = placed(wanted, owner.record, moved)
    if changes:
        steps += _new_volumes(desired, observed, domain, volumes)
        steps.append(DefineDomain(wanted, owner, new=False, record=tuple(written.items())))
    elif any(getattr(owner.record, name) != value for name, value in written.items()):
        steps.append(update_record(**written))
    if domain.autostart != desired.spec.autostart:
        steps.append(SetAutostart(desired.spec.autostart))
        changes.append(
            FieldChange(
                "autostart", _yes(domain.autostart), _yes(desired.spec.autostart), Change.LIVE
            )
        )
    growing, grown, refused = _sizes(observed, volumes)
    steps += growing
    changes += grown
    live = NOTHING
    if domain.live is not None:
        runs = _settled(domain.live, wanted, booting=is_booting(domain, now, policy))
        live = plan_live(
            unballooned(domain, _unmoved(runs, wanted), wanted),
            wanted,
            hotplug=observed.host.hotplug,
            busy=observed.operation is not None,
        )
    known = {change.path for change in changes}
    changes += [change for change in live.changes if change.path not in known]
    every = (*steps, *live.steps)
    failure = observed.failure
    waits = [step for step in every if waits_alone(step, failure, desired.digest, now)]
    return Pending(
        tuple(step for step in every if step not in waits),
        _only(changes, live, running=domain.live is not None),
        (
            *_immutable(asked),
            *refused,
            *(Refused(*one) for one in unfit),
            *_clashing(domain.config, asked_for, clashes),
        ),
        live.left,
        _astray(domain, moved, observed),
        old_image,
        moved,
        (failure.reason, f"{failure.step} failed: {failure.message}")
        if waits and failure
        else None,
        failure.retry_at if waits and failure else (now + LOOK_AGAIN if clashes else None),
    )


def _astray(domain: DomainView, moved: tuple[str, ...], observed: Observed) -> str:
    bases = on_base(domain)
    there = {disk.alias for disk in bases}
    pools = observed.host.pools
    told = [told_on_base(domain, disk, pools) for disk in bases]
    told += [told_moved(domain, alias, pools) for alias in moved if alias not in there]
    return "; ".join(told)


def _clashing(
    has: DomainConfig, wanted: DomainConfig, clashes: tuple[tuple[NicConfig, AddressUse], ...]
) -> list[Refused]:
    """The changes of interfaces that wait for an address that another domain has."""
    found = []
    for nic, use in clashes:
        path = nic_path(nic.alias)
        for change in config_changes(has, wanted):
            if change.path == path or change.path.startswith(f"{path}."):
                found.append(Refused(change, told(nic, use)))
    return found


def waits_alone(step: Step, failure: Failure | None, digest: str, now: float) -> bool:
    """True if this step failed, its retry is not due, and no other step depends on it."""
    return (
        failure is not None
        and isinstance(step, ALONE)
        and step_name(step) == failure.step
        and digest == failure.digest
        and now < failure.retry_at
    )


def _unmoved(live: DomainConfig, wanted: DomainConfig) -> DomainConfig:
    """``live`` with each disk's wanted volume: another one is a snapshot or copy, which is reported
    (``_astray``), never undone.
    """
    places = {disk.alias: disk for disk in wanted.disks if disk.device == "disk"}
    disks = tuple(
        replace(disk, pool=places[disk.alias].pool, volume=places[disk.alias].volume)
        if disk.alias in places
        else disk
        for disk in live.disks
    )
    return replace(live, disks=disks)


def _only(changes: list[FieldChange], live: LivePlan, *, running: bool) -> tuple[FieldChange, ...]:
    """The changes, with the class to report: a change that is defined now and takes effect later
    has the class that it waits for; one that the running domain does not need is LIVE.
    """
    later = {change.path: change for change in live.left}

    def told(change: FieldChange) -> FieldChange:
        if running and change.change is Change.RESTART:
            change = replace(change, change=Change.LIVE)
        return later.get(change.path, change)

    return tuple(told(change) for change in changes)


def _yes(value: bool) -> str:
    return "true" if value else "false"


def _new_volumes(
    desired: EffectiveGuest,
    observed: Observed,
    domain: DomainView,
    volumes: tuple[WantedVolume, ...],
) -> list[Step]:
    absent = missing_disks(desired, domain)
    return [
        CreateVolume(volume.pool, volume.volume, volume.size)
        for volume in volumes
        if volume.alias in absent
        and volume.size is not None
        and volume.place not in observed.volumes
    ]


def _sizes(
    observed: Observed, volumes: tuple[WantedVolume, ...]
) -> tuple[list[Step], list[FieldChange], list[Refused]]:
    """Steps to grow disks that are smaller than wanted; larger ones stay and are reported."""
    steps: list[Step] = []
    changes: list[FieldChange] = []
    refused: list[Refused] = []
    for volume in volumes:
        there = observed.volumes.get(volume.place)
        if there is None or volume.size is None or is_base_name(volume.volume):
            continue
        path = f"{disk_path(volume.alias)}.size"
        old, new = format_size(there.capacity), format_size(volume.size)
        change = FieldChange(path, old, new, Change.LIVE)
        if there.capacity < volume.size:
            steps.append(GrowDisk(volume.alias, volume.pool, volume.volume, volume.size))
            changes.append(change)
        elif there.capacity >= volume.size + _ROUNDING:
            why = f"{path}: a disk cannot be made smaller; write {old}"
            refused.append(Refused(replace(change, change=Change.IMMUTABLE), why))
    return steps, changes, refused


def _immutable(asked: tuple[FieldChange, ...]) -> list[Refused]:
    return [
        Refused(
            change,
            f"{change.path} can not be changed (immutable): write {change.old or 'nothing'} again",
        )
        for change in asked
        if change.change is Change.IMMUTABLE
    ]


def is_booting(domain: DomainView, now: float, policy: Policy) -> bool:
    """True while the guest may still be booting: until its agent answers, at most
    ``AGENT_BUDGET`` seconds.
    """
    since = domain.started_at if domain.started_at is not None else policy.daemon_started
    return not domain.agent_connected and now - since < AGENT_BUDGET


def _settled(live: DomainConfig, wanted: DomainConfig, *, booting: bool) -> DomainConfig:
    """``live`` with the wanted memory while the guest boots: until its balloon driver works, a
    guest has its maximum, which is no difference.
    """
    full = live.memory == live.max_memory > wanted.memory
    return replace(live, memory=wanted.memory) if booting and full else live
