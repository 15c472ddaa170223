"""What a guest's domain lacks: its definition, its disks' sizes, the running domain, its image.

One comparison of everything outside the guest, that every state of a domain is planned from.
"""

from dataclasses import dataclass, replace

from controller.desired.effective import EffectiveGuest
from controller.desired.quantities import format_size
from controller.desired.schema import Change
from controller.observed.domain import DomainConfig, DomainView
from controller.observed.guest import Observed
from controller.planning.changes import (
    FieldChange,
    config_changes,
    disk_path,
    spec_changes,
)
from controller.planning.domain import missing_disks, placed, wanted_config, wanted_volumes
from controller.planning.image import Outdated, outdated
from controller.planning.live import NOTHING, LivePlan, plan_live
from controller.planning.plan import Policy
from controller.planning.steps import (
    CreateVolume,
    DefineDomain,
    GrowDisk,
    SetAutostart,
    Step,
    remember,
)

AGENT_BUDGET = 600.0
"""Seconds from the start of the domain in which a missing agent is still starting."""
_ROUNDING = 2**20
"""Bytes by which a disk may be larger than asked for: formats round up."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A change that is not carried out, and why."""

    change: FieldChange
    why: str


@dataclass(frozen=True, slots=True)
class Pending:
    """``changes`` are carried out by ``steps``; ``restart`` waits for a cold boot."""

    steps: tuple[Step, ...] = ()
    changes: tuple[FieldChange, ...] = ()
    refused: tuple[Refused, ...] = ()
    restart: tuple[FieldChange, ...] = ()
    outdated: Outdated | None = None


def pending(
    desired: EffectiveGuest, observed: Observed, domain: DomainView, now: float, policy: Policy
) -> Pending:
    """Compares definition, running domain and last-applied spec with the wanted ones."""
    owner = domain.ownership
    assert owner is not None  # noqa: S101 - the caller refused foreign domains
    asked = spec_changes(owner.spec, desired) if owner.digest != desired.digest else ()
    old_image = outdated(owner, observed.image, asked)
    wanted = wanted_config(desired, observed.host, domain, None, policy.seed)
    if old_image is not None:
        # What belongs to the other image comes with its disk.
        wanted = replace(wanted, boot=domain.config.boot)
    steps: list[Step] = []
    changes = list(config_changes(domain.config, wanted))
    if not domain.persistent:
        changes.insert(0, FieldChange("definition", "", "persistent", Change.LIVE))
    written = placed(wanted)
    if changes:
        steps += _new_volumes(desired, observed, domain, policy)
        steps.append(DefineDomain(wanted, owner, new=False, memory=tuple(written.items())))
    elif any(getattr(owner.memory, name) != value for name, value in written.items()):
        steps.append(remember(**written))
    if domain.autostart != desired.spec.autostart:
        steps.append(SetAutostart(desired.spec.autostart))
        changes.append(
            FieldChange(
                "autostart", _yes(domain.autostart), _yes(desired.spec.autostart), Change.LIVE
            )
        )
    growing, grown, refused = _sizes(desired, observed, domain, policy)
    steps += growing
    changes += grown
    live = NOTHING
    if domain.live is not None:
        live = plan_live(
            _settled(domain.live, wanted, booting=is_booting(domain, now, policy)),
            wanted,
            hotplug=observed.host.hotplug,
            busy=observed.operation is not None,
        )
    known = {change.path for change in changes}
    changes += [change for change in live.changes if change.path not in known]
    return Pending(
        (*steps, *live.steps),
        _only(changes, live),
        (*_immutable(asked), *refused),
        live.left,
        old_image,
    )


def _only(changes: list[FieldChange], live: LivePlan) -> tuple[FieldChange, ...]:
    """A change that is written down now and takes effect later is told as what it waits for."""
    later = {change.path: change for change in live.left}
    return tuple(later.get(change.path, change) for change in changes)


def _yes(value: bool) -> str:
    return "true" if value else "false"


def _new_volumes(
    desired: EffectiveGuest, observed: Observed, domain: DomainView, policy: Policy
) -> list[Step]:
    absent = missing_disks(desired, domain)
    return [
        CreateVolume(volume.pool, volume.volume, volume.size)
        for volume in wanted_volumes(desired, observed.host, domain, policy.seed)
        if volume.alias in absent
        and volume.size is not None
        and volume.place not in observed.volumes
    ]


def _sizes(
    desired: EffectiveGuest, observed: Observed, domain: DomainView, policy: Policy
) -> tuple[list[Step], list[FieldChange], list[Refused]]:
    """Disks that are smaller than wanted grow; one that is larger stays, and that is said."""
    steps: list[Step] = []
    changes: list[FieldChange] = []
    refused: list[Refused] = []
    for volume in wanted_volumes(desired, observed.host, domain, policy.seed):
        there = observed.volumes.get(volume.place)
        if there is None or volume.size is None:
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
    """May what runs in it not be up yet? Once its agent answers it is; and every boot ends."""
    since = domain.started_at if domain.started_at is not None else policy.daemon_started
    return not domain.agent_connected and now - since < AGENT_BUDGET


def _settled(live: DomainConfig, wanted: DomainConfig, *, booting: bool) -> DomainConfig:
    """A guest has all of its maximum until its balloon driver is there: no difference till then."""
    full = live.memory == live.max_memory > wanted.memory
    return replace(live, memory=wanted.memory) if booting and full else live
