"""Begins replacements and rollbacks of a guest's system disk, and expires retired system disks.

A volume cannot be renamed through libvirt, so each new system disk has a name of its own, and a
retired one is listed in the guest's record until its retention time is over.
"""

from dataclasses import replace
from datetime import UTC, datetime

from controller.desired.effective import EffectiveGuest
from controller.desired.schema.quantities import format_size
from controller.observed.domain import (
    BootConfig,
    DiskConfig,
    DomainConfig,
    DomainView,
    GuestRecord,
    Replacement,
    ReplacePhase,
    RetiredDisk,
    SystemDisk,
)
from controller.observed.guest import Observed
from controller.observed.image import ImageView
from controller.planning.differences import waits_alone
from controller.planning.plan import Policy
from controller.planning.steps import DeleteRetired, Step, UpdateRecord, update_record
from controller.planning.volumes.deletable import may_delete
from controller.planning.wanted.domain import SEED, SYSTEM, seed_volume
from controller.planning.wanted.names import volume_name

SEEN = 600.0
"""Seconds that a daemon must be up before it deletes by a time that an earlier daemon recorded: its
clock may be wrong at first and corrected soon after."""


def current_disk(domain: DomainView, *, base: str) -> SystemDisk:
    """The system disk in the domain's definition."""
    disk = domain.config.disk(SYSTEM)
    boot = domain.config.boot
    return SystemDisk(
        pool=disk.pool if disk is not None else "",
        volume=(disk.volume or "") if disk is not None else "",
        base=base,
        kernel=boot.kernel if boot is not None else "",
        initrd=(boot.initrd or "") if boot is not None else "",
        args=boot.args if boot is not None else "",
        format=disk.format if disk is not None else "qcow2",
    )


def begin(
    desired: EffectiveGuest, domain: DomainView, record: GuestRecord, image: ImageView, now: float
) -> UpdateRecord:
    """The record update that begins a replacement by a disk of ``image``, which is READY.

    The volume's name has the time in seconds, so it is never that of an earlier attempt.
    """
    owner = domain.ownership
    assert owner is not None  # noqa: S101 - the caller refused foreign domains
    back = current_disk(domain, base=owner.base)
    made = datetime.fromtimestamp(now, UTC).strftime("%Y%m%d%H%M%S")
    boot = desired.image.spec.boot
    to = SystemDisk(
        pool=back.pool,
        volume=volume_name(desired.name, domain.uuid, f"system-{made}"),
        base=image.base or "",
        kernel=image.kernel_path or "",
        initrd=image.initrd_path or "",
        args=boot.args if boot is not None and image.kernel_path else "",
    )
    agent = record.agent_seen or domain.agent_connected
    began = Replacement(to, back, "image", ReplacePhase.PREPARING, now, agent)
    return update_record(replacement=began)


def rollback_disk(record: GuestRecord) -> RetiredDisk | None:
    """The disk for a rollback, the last retired one that worked; None if there is none."""
    good = [disk for disk in record.retired if disk.why != "failed"]
    return max(good, key=lambda disk: disk.since, default=None)


def begin_rollback(domain: DomainView, record: GuestRecord, now: float) -> UpdateRecord:
    """The record update that begins a rollback, or drops the request if there is no such disk."""
    owner = domain.ownership
    assert owner is not None  # noqa: S101 - the caller refused foreign domains
    last = rollback_disk(record)
    if last is None:
        return update_record(rollback=False)
    back = current_disk(domain, base=owner.base)
    agent = record.agent_seen or domain.agent_connected
    began = Replacement(last.disk, back, "rollback", ReplacePhase.PREPARING, now, agent)
    rest = tuple(disk for disk in record.retired if disk != last)
    return update_record(replacement=began, rollback=False, retired=rest)


def too_small(desired: EffectiveGuest, image: ImageView) -> str:
    """Why the wanted size is too small for a disk from the image; '' if it is not."""
    size = desired.spec.system_disk.size
    if size is None or size >= image.capacity:
        return ""
    return (
        f"systemDisk.size {format_size(size)} is smaller than the disk of image {image.name};"
        f" write at least {format_size(image.capacity)}"
    )


def bound_disk(domain: DomainView) -> str:
    """Why the system disk may not be replaced, because it could not be put back as it is; '' if it
    may.
    """
    disk = domain.config.disk(SYSTEM)
    if disk is None or not disk.bound:
        return ""
    return (
        f"its system disk {disk.target} has <{'>, <'.join(disk.bound)}> in its definition, which no"
        " document can say, and so it could not be put in again as it is; swap that disk by hand:"
        f" virsh edit {domain.name}"
    )


def expired(
    desired: EffectiveGuest,
    observed: Observed,
    domain: DomainView,
    record: GuestRecord,
    now: float,
    policy: Policy,
) -> tuple[list[Step], float | None]:
    """Steps to delete expired retired disks, and when the next one expires (epoch seconds, None for
    never). No steps during a replacement.

    A disk expires when both the daemon's and the host's clock say so, because a clock may have been
    changed; for a time that an earlier daemon recorded, not before ``SEEN``. Of the disks that
    failed only the last is kept, for examination.
    """
    if record.replacement is not None:
        return [], None
    ttl = desired.spec.update_policy.retired_disk_ttl
    back = rollback_disk(record) if record.rollback else None
    failed = [one for one in record.retired if one.why == "failed"]
    steps: list[Step] = []
    later: list[float] = []
    for one in record.retired:
        if one == back or not may_delete(domain, record, *one.disk.place):
            continue
        superseded = one in failed[:-1]
        ends = one.since + ttl + max(0.0, -observed.clock_ahead)
        if one.since < policy.daemon_started:
            ends = max(ends, policy.daemon_started + min(SEEN, ttl))
        if superseded or now >= ends:
            why = "a later one failed too" if superseded else f"it was {one.why}, {ttl:.0f} s ago"
            step = DeleteRetired(one, why)
            if not waits_alone(step, observed.failure, desired.digest, now):
                steps.append(step)
        else:
            later.append(ends)
    return steps, min(later) if later else None


def config_on(
    desired: EffectiveGuest,
    observed: Observed,
    domain: DomainView,
    disk: SystemDisk,
    policy: Policy,
    *,
    seeded: bool,
) -> DomainConfig:
    """The domain's definition with only the system disk (and its kernel) replaced by ``disk``.
    Other changes come before or after. ``seeded``: with the cloud-init seed in its drive.
    """
    has = domain.config
    boot = BootConfig(disk.kernel, disk.initrd or None, disk.args) if disk.kernel else None
    seed = seed_volume(desired, observed.host, domain, policy.seed) if seeded else None
    disks = [
        replace(one, pool=disk.pool, volume=disk.volume, format=disk.format, path="")
        if one.alias == SYSTEM
        else one
        for one in has.disks
        if one.alias != SEED
    ]
    drives = [replace(one, volume=None) for one in has.disks if one.alias == SEED]
    if seed is not None:
        target = drives[0].target if drives else "sda"
        drives = [DiskConfig(SEED, *seed, format="raw", device="cdrom", target=target)]
    return replace(has, boot=boot, disks=(*disks, *drives))
