"""Computes the wanted domain of a guest, as a ``DomainConfig``, and its volumes.

What an existing domain has and a document leaves open (UUID, MAC addresses, volume names, the
kernel of the image it was made from) is kept, so planning twice in a row changes nothing.
"""

import itertools
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from controller.desired.effective import EffectiveGuest
from controller.desired.schema import guest as schema
from controller.desired.schema.fields import can_be_said
from controller.desired.schema.guest import Interface
from controller.desired.schema.model import Accelerator
from controller.observed.domain import (
    NO_LIMITS,
    BootConfig,
    DiskConfig,
    DiskVolume,
    DomainConfig,
    DomainView,
    GuestRecord,
    IoTune,
    NicAddress,
    NicConfig,
)
from controller.observed.host import HostView
from controller.observed.image import ImageView
from controller.observed.surroundings import letters
from controller.planning.wanted.names import guest_uuid, nic_mac, volume_name

SYSTEM = "disk-system"
SEED = "cdrom-seed"


@dataclass(frozen=True, slots=True)
class WantedVolume:
    """The volume of a guest's disk. ``size`` in bytes; None: as large as the image."""

    alias: str
    pool: str
    volume: str
    size: int | None

    @property
    def place(self) -> tuple[str, str]:
        return self.pool, self.volume


def wanted_volumes(
    guest: EffectiveGuest, host: HostView, domain: DomainView | None, seed: str
) -> tuple[WantedVolume, ...]:
    """The volumes of the guest's disks, system disk first.

    For a disk of an existing domain the recorded volume counts; if the disk was moved since (a
    snapshot, a copy) or is not recorded, its present volume; else a derived name.
    """
    uid = domain.uuid if domain else guest_uuid(seed, guest.name)
    owner = domain.ownership if domain else None
    there = _places(domain.config) if domain is not None else {}
    if domain is not None and owner is not None:
        moved = moved_disks(domain)
        there |= {
            one.alias: one.place
            for one in owner.record.volumes
            if one.alias not in moved or one.alias not in there
        }

    def wanted(alias: str, disk: str, pool: str | None, size: int | None) -> WantedVolume:
        if alias in there:
            has = there[alias]
            return WantedVolume(alias, has[0], has[1], size)
        name = volume_name(guest.name, uid, disk)
        return WantedVolume(alias, pool or host.default_pool, name, size)

    system, disks = guest.spec.system_disk, guest.spec.disks
    return (
        wanted(SYSTEM, "system", system.pool, system.size),
        *(wanted(f"disk-{disk.name}", disk.name, disk.pool, disk.size) for disk in disks),
    )


def _places(config: DomainConfig) -> dict[str, tuple[str, str]]:
    return {
        disk.alias: (disk.pool, disk.volume)
        for disk in config.disks
        if disk.device == "disk" and disk.volume is not None
    }


def moved_disks(domain: DomainView) -> tuple[str, ...]:
    """Aliases of disks that are on another volume than recorded, and must stay there.

    An external snapshot or a block copy does that, and what the guest wrote since is only there. If
    only the definition was changed and the domain runs as before, that does not count.
    """
    owner = domain.ownership
    if owner is None:
        return ()
    defined = _places(domain.config)
    running = _places(domain.live) if domain.live is not None else defined
    return tuple(
        one.alias
        for one in owner.record.volumes
        if running.get(one.alias, defined.get(one.alias)) not in (None, one.place)
    )


def placed(
    config: DomainConfig, record: GuestRecord | None = None, moved: Collection[str] = ()
) -> dict[str, Any]:
    """The fields of ``GuestRecord`` that are written together with a definition.

    For ``moved`` disks the entry in ``record`` stays.
    """
    kept = {one.alias: one for one in record.volumes} if record is not None else {}
    return {
        "volumes": tuple(
            kept[disk.alias]
            if disk.alias in moved
            else DiskVolume(disk.alias, disk.pool, disk.volume, disk.format, disk.target)
            for disk in config.disks
            if disk.device == "disk" and disk.volume is not None
        ),
        "macs": tuple(NicAddress(nic.alias, nic.mac) for nic in config.nics),
    }


def seed_volume(
    guest: EffectiveGuest, host: HostView, domain: DomainView | None, seed: str
) -> tuple[str, str] | None:
    """(pool, volume) of the guest's cloud-init seed; None if its image has no cloud-init."""
    if not guest.image.spec.cloud_init:
        return None
    uid = domain.uuid if domain else guest_uuid(seed, guest.name)
    pool = guest.spec.system_disk.pool or host.default_pool
    return pool, volume_name(guest.name, uid, "seed", "iso")


def holds_seed(domain: DomainView) -> bool:
    """True if a cloud-init seed is in the domain's drive."""
    return any(disk.alias == SEED and disk.volume for disk in domain.config.disks)


def unused_seed(guest: EffectiveGuest, domain: DomainView) -> bool:
    """True if an ejected seed may still exist: only until the spec was once applied whole."""
    owner = domain.ownership
    return (
        guest.image.spec.cloud_init
        and owner is not None
        and not owner.digest
        and not holds_seed(domain)
    )


def missing_disks(guest: EffectiveGuest, domain: DomainView | None) -> frozenset[str]:
    """Aliases of wanted disks that the domain does not have yet; all if there is no domain."""
    wanted = {SYSTEM, *(f"disk-{disk.name}" for disk in guest.spec.disks)}
    return frozenset(wanted - {disk.alias for disk in domain.config.disks} if domain else wanted)


def wanted_config(
    guest: EffectiveGuest,
    host: HostView,
    domain: DomainView | None,
    image: ImageView | None,
    seed: str,
) -> DomainConfig:
    """The domain as the documents want it.

    ``image`` is required if ``domain`` is None. Its kernel is wanted for a domain whose system disk
    is of the same content; else the domain's kernel stays.
    """
    uid = domain.uuid if domain else guest_uuid(seed, guest.name)
    spec = guest.spec
    return DomainConfig(
        name=guest.name,
        uuid=uid,
        accelerator=_accelerator(guest, host),
        vcpus=spec.cpu.vcpus,
        max_vcpus=spec.cpu.max or spec.cpu.vcpus,
        memory=spec.memory.size,
        max_memory=spec.memory.max or spec.memory.size,
        firmware=spec.firmware.value,
        boot=_boot(guest, domain, image),
        disks=(
            *_disks(guest, host, domain, seed),
            *_seed_drive(guest, host, domain, seed),
            *_drives(guest, host, domain),
        ),
        nics=wanted_nics(guest, domain, seed),
        title=_text(spec.title, domain.config.title if domain else "", lines=False),
        description=_text(
            spec.description, domain.config.description if domain else "", lines=True
        ),
    )


def _text(wanted: str | None, has: str, *, lines: bool) -> str:
    """The wanted title or description. ``has`` stays if the document sets none and could not
    express it, or if they differ only in surrounding space.
    """
    unsaid = wanted is None and bool(has) and not can_be_said(has, lines=lines)
    return has if unsaid or has.strip() == (wanted or "") else wanted or ""


def _disks(
    guest: EffectiveGuest, host: HostView, domain: DomainView | None, seed: str
) -> Iterator[DiskConfig]:
    """The wanted disks. Existing ones keep their target, because guests name them by it.

    A disk that was lost gets its recorded target back, unless another device has it.
    """
    there = {disk.alias: disk for disk in domain.config.disks} if domain else {}
    live = domain.live if domain is not None else None
    runs = {disk.alias: disk for disk in live.disks} if live is not None else {}
    owner = domain.ownership if domain is not None else None
    moved = moved_disks(domain) if domain is not None else ()
    written = owner.record.volumes if owner is not None else ()
    noted = {one.alias: one for one in written if one.alias not in moved}
    specs: tuple[schema.SystemDisk | schema.Disk, ...]
    specs = (guest.spec.system_disk, *guest.spec.disks)
    places = wanted_volumes(guest, host, domain, seed)
    others = _targets(domain) - {disk.target for one in _configs(domain) for disk in one.disks}
    kept = {one.alias: _kept(there.get(one.alias), noted.get(one.alias), others) for one in places}
    taken = {disk.target for disk in there.values()} | {target for _, target in kept.values()}
    free = _free_targets("vd", taken | _targets(domain))
    for wanted, spec in zip(places, specs, strict=True):
        format, target = kept[wanted.alias]
        yield DiskConfig(
            wanted.alias,
            wanted.pool,
            wanted.volume,
            format=format or "qcow2",
            target=target or next(free),
            cache=spec.cache or "",
            io_tune=_io_tune(spec.io_tune),
            path=_path(there.get(wanted.alias), wanted.place)
            or _path(runs.get(wanted.alias), wanted.place),
        )


def _configs(domain: DomainView | None) -> tuple[DomainConfig, ...]:
    found = (domain.config, domain.live) if domain is not None else ()
    return tuple(config for config in found if config is not None)


def _targets(domain: DomainView | None) -> frozenset[str]:
    """The targets of all devices, ours or not, in the definition or the running domain."""
    return frozenset(target for config in _configs(domain) for target in config.taken)


def _kept(
    has: DiskConfig | None, noted: DiskVolume | None, others: Collection[str]
) -> tuple[str, str]:
    """Format and target that a disk keeps, '' if unknown.

    The record wins, except for a target that ``others`` have.
    """
    format = has.format if has is not None and has.volume is not None else ""
    target = has.target if has is not None else ""
    if noted is None:
        return format, target
    wanted = noted.target if noted.target not in others else ""
    return noted.format or format, wanted or target


def _drives(
    guest: EffectiveGuest, host: HostView, domain: DomainView | None
) -> Iterator[DiskConfig]:
    """The wanted CD-ROM drives. Existing ones keep their target; so does one that is only in the
    running domain, unless the definition has another device there by now.
    """
    there: dict[str, DiskConfig] = {}
    if domain is not None:
        defined = {disk.alias: disk for disk in domain.config.disks}
        running = domain.live.disks if domain.live is not None else ()
        free_still = (disk for disk in running if disk.target not in domain.config.taken)
        there = {disk.alias: disk for disk in free_still} | defined
    taken = {disk.target for disk in there.values()} | _targets(domain)
    free = _free_targets("sd", taken)
    next(free)  # reserved for the seed, whether there is one or not
    for drive in guest.spec.cdroms:
        alias = f"cdrom-{drive.name}"
        has = there.get(alias)
        yield DiskConfig(
            alias,
            drive.pool or host.default_pool,
            drive.volume,
            format="raw",
            device="cdrom",
            target=has.target if has is not None else next(free),
            cache=has.cache if has is not None else "",
            io_tune=has.io_tune if has is not None else NO_LIMITS,
            path=_path(has, (drive.pool or host.default_pool, drive.volume)),
        )


def _path(has: DiskConfig | None, place: tuple[str, str | None]) -> str:
    """The path by which the definition names a disk, if it stays on that volume; else ''."""
    return has.path if has is not None and has.place == place else ""


def _free_targets(prefix: str, taken: Collection[str]) -> Iterator[str]:
    """Free targets with that prefix, in order; ``sda`` always comes first, for the seed."""
    for index in itertools.count():
        target = f"{prefix}{letters(index)}"
        if target not in taken or (prefix == "sd" and index == 0):
            yield target


def _io_tune(limits: schema.IoTune | None) -> IoTune:
    if limits is None:
        return NO_LIMITS
    return IoTune(**{name: value or 0 for name, value in limits.model_dump().items()})


def _accelerator(guest: EffectiveGuest, host: HostView) -> str:
    asked = guest.spec.accelerator
    if asked is Accelerator.AUTO:
        return "kvm" if host.kvm else "tcg"
    return asked.value


def _boot(
    guest: EffectiveGuest, domain: DomainView | None, image: ImageView | None
) -> BootConfig | None:
    wanted = guest.image.spec.boot
    if domain is not None and not _is_of(domain, image):
        # The kernel belongs to the system disk's image; another image means another disk.
        has = domain.config.boot
        if has is None or wanted is None:
            return has
        return BootConfig(has.kernel, has.initrd, wanted.args)
    if wanted is None or image is None or image.kernel_path is None:
        return None
    return BootConfig(image.kernel_path, image.initrd_path, wanted.args)


def _is_of(domain: DomainView, image: ImageView | None) -> bool:
    """True if the system disk was made from the image's present content."""
    owner = domain.ownership
    return image is not None and owner is not None and bool(owner.base) and owner.base == image.base


def _seed_drive(
    guest: EffectiveGuest, host: HostView, domain: DomainView | None, seed: str
) -> Iterator[DiskConfig]:
    volume = seed_volume(guest, host, None, seed)
    if domain is not None:
        yield from (disk for disk in domain.config.disks if disk.alias == SEED)
    elif volume is not None:
        yield DiskConfig(SEED, *volume, format="raw", device="cdrom", target="sda")


def wanted_nics(
    guest: EffectiveGuest, domain: DomainView | None, seed: str
) -> tuple[NicConfig, ...]:
    """The guest's interfaces, each with the MAC address that it has or gets."""
    uid = domain.uuid if domain else guest_uuid(seed, guest.name)
    there = {has.alias: has.mac for has in domain.config.nics} if domain else {}
    if domain is not None and domain.ownership is not None:
        there |= {one.alias: one.mac for one in domain.ownership.record.macs}
    return tuple(_nic(nic, uid, there) for nic in guest.spec.interfaces)


def _nic(nic: Interface, uid: str, there: Mapping[str, str]) -> NicConfig:
    alias = f"nic-{nic.name}"
    mac = nic.mac or there.get(alias) or nic_mac(uid, nic.name)
    if nic.user is not None:
        return NicConfig(alias, "user", "", mac, tuple(str(one) for one in nic.user.forwards))
    kind, source = ("network", nic.network) if nic.network else ("bridge", nic.bridge or "")
    return NicConfig(alias, kind, source, mac, model=nic.model, link=nic.link)
