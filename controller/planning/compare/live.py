"""Plans the steps that make a running domain like its definition, without a stop.

``DefineDomain`` comes first, so the definition is already as wanted, and a step only names the
device to update. Changes that are impossible on a running domain wait for a cold boot.
"""

from dataclasses import dataclass, replace

from controller.desired.schema.fields import Change
from controller.observed.domain import DiskConfig, DomainConfig, NicConfig
from controller.planning.compare.changes import FieldChange, config_changes
from controller.planning.steps import (
    PlugDevice,
    SetIoTune,
    SetMemory,
    SetTitle,
    SetVcpus,
    Step,
    UnplugDevice,
    UpdateDevice,
)
from controller.planning.wanted.domain import SEED, SYSTEM

_DEVICES = ("disks[", "interfaces[", "cdroms[", "systemDisk", "domain.seed")


@dataclass(frozen=True, slots=True)
class LivePlan:
    """``changes`` are carried out by ``steps``; ``left`` need a cold boot."""

    steps: tuple[Step, ...] = ()
    changes: tuple[FieldChange, ...] = ()
    left: tuple[FieldChange, ...] = ()


NOTHING = LivePlan()


def plan_live(
    live: DomainConfig | None, wanted: DomainConfig, *, hotplug: bool, busy: bool
) -> LivePlan:
    """The live changes of a running domain. ``hotplug``: whether the host can change devices of a
    running domain. ``busy``: a long action runs, so nothing is unplugged.
    """
    if live is None or live == wanted:
        return NOTHING
    changes = config_changes(live, wanted)
    now = tuple(
        change
        for change in changes
        if change.change is Change.LIVE and (hotplug or not change.path.startswith(_DEVICES))
    )
    left = tuple(
        change if change.change is not Change.LIVE else replace(change, change=Change.RESTART)
        for change in changes
        if change not in now
    )
    paths = {change.path for change in now}
    steps: list[Step] = []
    if paths & {"title", "description"}:
        steps.append(SetTitle(wanted.title, wanted.description))
    if "cpu.vcpus" in paths:
        steps.append(SetVcpus(wanted.vcpus))
    if "memory.size" in paths:
        steps.append(SetMemory(wanted.memory))
    if hotplug:
        device_steps, unplugged = _devices(live, wanted)
        steps += device_steps
        if not busy:
            steps += unplugged[:1]  # one at a time; the next plan has the next one
    return LivePlan(tuple(steps), now, left)


def _devices(live: DomainConfig, wanted: DomainConfig) -> tuple[list[Step], list[Step]]:
    """The steps that change and attach devices, and those that detach."""
    steps: list[Step] = []
    unplugged: list[Step] = []
    old_disks = {disk.alias: disk for disk in live.disks}
    new_disks = {disk.alias: disk for disk in wanted.disks}
    for alias in sorted({*old_disks, *new_disks}):
        one, other = _disk(alias, old_disks.get(alias), new_disks.get(alias))
        steps += one
        unplugged += other
    old_nics = {nic.alias: nic for nic in live.nics}
    new_nics = {nic.alias: nic for nic in wanted.nics}
    for alias in sorted({*old_nics, *new_nics}):
        one, other = _nic(alias, old_nics.get(alias), new_nics.get(alias))
        steps += one
        unplugged += other
    return steps, unplugged


def _disk(
    alias: str, old: DiskConfig | None, new: DiskConfig | None
) -> tuple[list[Step], list[Step]]:
    if alias.startswith("cdrom-"):
        changed = old is not None and new is not None and old.place != new.place
        return ([UpdateDevice(alias)] if changed and alias != SEED else []), []
    if old is None:
        return ([PlugDevice(alias)] if alias != SYSTEM else []), []
    if new is None:
        return [], ([UnplugDevice(alias)] if alias != SYSTEM else [])
    return ([SetIoTune(alias)] if old.io_tune != new.io_tune else []), []


def _nic(alias: str, old: NicConfig | None, new: NicConfig | None) -> tuple[list[Step], list[Step]]:
    if "user" in ((old and old.kind), (new and new.kind)):
        return [], []
    if old is None:
        return [PlugDevice(alias)], []
    if new is None or (old.mac, old.model, old.kind) != (new.mac, new.model, new.kind):
        return [], [UnplugDevice(alias)]
    return ([UpdateDevice(alias)] if old != new else []), []
