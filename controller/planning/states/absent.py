"""Plans the creation of a guest that has no domain: image, disks, seed, definition, start.

Every name is derived, and each observation shows which volumes exist, so an interrupted creation
continues where it stopped.
"""

from dataclasses import replace

from controller.desired.effective import EffectiveGuest
from controller.desired.schema.guest import RunStrategy
from controller.desired.schema.quantities import format_size
from controller.observed.domain import GuestRecord, Ownership
from controller.observed.guest import Observed
from controller.observed.host import VolumeView
from controller.observed.image import ImageState, ImageView
from controller.planning.conditions import ConditionType, Health, Printable, Sync, false, true
from controller.planning.host.addresses import LOOK_AGAIN, address_trouble, newcomer
from controller.planning.host.trouble import pool_trouble, spoiled
from controller.planning.plan import Plan, Policy
from controller.planning.steps import (
    CreateSeed,
    CreateVolume,
    DefineDomain,
    PrepareImage,
    SetAutostart,
    StartDomain,
    Step,
)
from controller.planning.wanted.domain import (
    SEED,
    WantedVolume,
    placed,
    wanted_config,
    wanted_nics,
    wanted_volumes,
)

C = ConditionType


def plan_creation(desired: EffectiveGuest, observed: Observed, now: float, policy: Policy) -> Plan:
    """The steps up to and including the first start, or why they have to wait."""
    if observed.elsewhere is not None:
        message = (
            f"its domain is on host {observed.elsewhere}; host can not be changed (immutable): put"
            f" host: {observed.elsewhere} back, or give the guest another name"
        )
        return _waiting(desired, "HostChanged", message, now + 60, Health.DEGRADED)
    if observed.unseen_host is not None:
        message = (
            f"host {observed.unseen_host} has not answered since the daemon started, and may have"
            " this guest; mend it, or take it out of the settings"
        )
        return _waiting(desired, "HostUnseen", message, now + 10, Health.PROGRESSING)
    volumes = wanted_volumes(desired, observed.host, None, policy.seed)
    failure = observed.failure
    if failure is not None and failure.digest == desired.digest and now < failure.retry_at:
        message = f"{failure.step} failed: {failure.message}; it is tried again later"
        return _waiting(desired, failure.reason, message, failure.retry_at, Health.DEGRADED)
    for volume in volumes:
        trouble = pool_trouble(observed.host, volume.pool)
        if trouble is not None:
            return _waiting(desired, trouble.reason, trouble.message, now + 30, Health.DEGRADED)

    clash = newcomer(wanted_nics(desired, None, policy.seed), observed)
    if clash is not None:
        taken = address_trouble(*clash)
        return _waiting(desired, taken.reason, taken.message, now + LOOK_AGAIN, Health.DEGRADED)

    image = observed.image
    pool_name = volumes[0].pool
    if image is None or image.state is not ImageState.READY:
        return _image(desired, image, pool_name, now)
    system = volumes[0]
    if system.size is not None and system.size < image.capacity:
        message = (
            f"systemDisk.size {format_size(system.size)} is smaller than the disk of image"
            f" {image.name}; write at least {format_size(image.capacity)}"
        )
        return _waiting(desired, "SystemDiskTooSmall", message, None, Health.DEGRADED)
    bad = spoiled(desired, image)
    if bad and system.place not in observed.volumes:
        return _waiting(desired, "BaseChanged", bad, now + 60, Health.DEGRADED)
    unclear = _several_disks(observed, system) or _of_other_content(observed, system, image)
    if unclear:
        return _waiting(desired, "SystemDisksUnclear", unclear, now + 60, Health.DEGRADED)
    return _create(desired, observed, image, volumes, now, policy)


def _several_disks(observed: Observed, system: WantedVolume) -> str:
    """The message if several system disks exist: which one was in use was recorded only in the
    domain, which is gone. '' if it is clear.
    """
    stem = system.volume.removesuffix(".qcow2")
    there = sorted(
        name
        for pool, name in observed.volumes
        if pool == system.pool and name.startswith(stem) and name != system.volume
    )
    if not there:
        return ""
    first = f"{system.volume}, " if system.place in observed.volumes else ""
    return (
        f"its domain is gone, and in pool {system.pool} its system disk may be any of"
        f" ({first}{', '.join(there)}): keep the one it shall have as {system.volume} and move"
        " the others away (virsh vol-clone, virsh vol-delete)"
    )


def _of_other_content(observed: Observed, system: WantedVolume, image: ImageView) -> str:
    """The message if an existing disk is of another base, whose kernel it needs; else ''."""
    there = observed.volumes.get(system.place)
    if there is None or image.kernel_path is None or _base_of(there, image) == image.base:
        return ""
    return (
        f"its domain is gone, and its system disk {system.pool}/{system.volume} is of another"
        f" content of image {image.name} ({_base_of(there, image) or 'none known'}), whose kernel"
        " is not known any more: put that image back, or move the disk away (virsh vol-clone, virsh"
        " vol-delete)"
    )


def _base_of(there: VolumeView | None, image: ImageView) -> str:
    """The base that backs the existing disk, or will back the disk to be made."""
    if there is None:
        return image.base or ""
    return (there.backing or "").rpartition("/")[2]


def _image(desired: EffectiveGuest, image: ImageView | None, pool: str, now: float) -> Plan:
    name = desired.spec.image
    prepare = PrepareImage(pool, name)
    if image is None or image.state is ImageState.MISSING:
        message = f"image {name} is not in pool {pool} yet; preparing it"
        return _waiting(desired, "ImagePreparing", message, None, Health.PROGRESSING, prepare)
    if image.state is ImageState.PREPARING:
        message = f"image {name}: {image.message or 'being prepared'}"
        return _waiting(desired, "ImagePreparing", message, None, Health.PROGRESSING)
    if image.stalled:
        return _stalled(desired, image)
    message = f"image {name}: {image.message}"
    reason = image.reason or "ImageFailed"
    if image.retry_at is None or now >= image.retry_at:
        return _waiting(desired, reason, message, None, Health.DEGRADED, prepare)
    return _waiting(desired, reason, message, image.retry_at, Health.DEGRADED)


def _stalled(desired: EffectiveGuest, image: ImageView) -> Plan:
    """The plan if every attempt to install the image failed: nothing is done, all is reported."""
    message = stalled_message(image)
    made = _waiting(desired, image.reason, message, None, Health.DEGRADED)
    return replace(
        made,
        conditions=(*made.conditions, true(C.STALLED, image.reason, message)),
        printable=Printable.STALLED,
    )


def stalled_message(image: ImageView) -> str:
    """Why the last attempt failed, what to do, and the end of the installer's log."""
    message = (
        f"image {image.name}: {image.message}. It is not tried again before: guestkeeper retry"
        f" {image.name}. The whole log: guestkeeper logs image/{image.name}"
    )
    return f"{message}\n{image.log_tail}" if image.log_tail else message


def _waiting(
    desired: EffectiveGuest,
    reason: str,
    message: str,
    recheck_at: float | None,
    health: Health,
    *steps: Step,
) -> Plan:
    degraded = health is Health.DEGRADED
    return Plan(
        guest=desired.name,
        sentence=message,
        steps=steps,
        conditions=(
            false(C.READY, reason, message),
            false(C.SYNCED, reason, message),
            false(C.PROVISIONED, reason, message),
            false(C.RUNNING, "NotDefined", "there is no domain yet"),
        ),
        sync=Sync.OUT_OF_SYNC,
        health=health,
        printable=Printable.DEGRADED if degraded else Printable.INSTALLING,
        recheck_at=recheck_at,
    )


def _create(
    desired: EffectiveGuest,
    observed: Observed,
    image: ImageView,
    volumes: tuple[WantedVolume, ...],
    now: float,
    policy: Policy,
) -> Plan:
    steps: list[Step] = []
    for index, wanted in enumerate(volumes):
        if wanted.place in observed.volumes:
            continue
        overlay = (image.base_path or "", image.base_format) if index == 0 else None
        size = wanted.size or image.capacity
        steps.append(CreateVolume(wanted.pool, wanted.volume, size, overlay))
    config = wanted_config(desired, observed.host, None, image, policy.seed)
    # Always made anew: an existing seed may be incomplete, from an interrupted creation.
    steps += [
        CreateSeed(disk.pool, disk.volume, config.uuid)
        for disk in config.disks
        if disk.alias == SEED and disk.volume is not None
    ]
    owner = Ownership(
        uid=config.uuid,
        name=desired.name,
        generation=1,
        digest="",
        spec="",
        created=now,
        base=_base_of(observed.volumes.get(volumes[0].place), image),
        record=GuestRecord(
            controller=policy.controller,
            deletion_policy=desired.spec.deletion_policy,
            **placed(config),
        ),
    )
    steps.append(DefineDomain(config, owner, new=True))
    if desired.spec.autostart:
        steps.append(SetAutostart(on=True))
    again = volumes[0].place in observed.volumes
    if desired.spec.run_strategy in (RunStrategy.ALWAYS, RunStrategy.RERUN_ON_FAILURE):
        steps.append(StartDomain("it was defined again" if again else "it is new"))
    message = (
        "its definition is gone and its system disk is there: defining it again"
        if again
        else f"creating it from image {image.name}"
    )
    return Plan(
        guest=desired.name,
        sentence=message,
        steps=tuple(steps),
        conditions=(
            false(C.READY, "Creating", message),
            false(C.SYNCED, "Creating", message),
            false(C.PROVISIONED, "Creating", message),
            false(C.RUNNING, "NotDefined", "there is no domain yet"),
        ),
        sync=Sync.OUT_OF_SYNC,
        health=Health.MISSING,
        printable=Printable.STARTING,
    )
