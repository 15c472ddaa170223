"""The domain a guest should have, as a ``DomainConfig``, and which of its volumes may be missing.

What an existing domain already has and a document leaves open (UUID, MAC addresses, volume names,
the kernel of the image it was made from) is kept, so planning twice in a row changes nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from controller.desired.effective import EffectiveGuest
from controller.desired.schema import Accelerator, Interface
from controller.observed.domain import (
    BootConfig,
    DiskConfig,
    DomainConfig,
    DomainView,
    NicConfig,
)
from controller.observed.host import HostView
from controller.observed.image import ImageView
from controller.planning.identity import guest_uuid, nic_mac, volume_name

SYSTEM = "disk-system"
SEED = "cdrom-seed"


@dataclass(frozen=True, slots=True)
class WantedVolume:
    """A volume a guest's disk is on. ``size`` in bytes; None: as large as the image."""

    alias: str
    pool: str
    volume: str
    size: int | None


def wanted_volumes(
    guest: EffectiveGuest, host: HostView, domain: DomainView | None, seed: str
) -> tuple[WantedVolume, ...]:
    """The disks' volumes, system disk first; an existing domain's own names win."""
    uid = domain.uuid if domain else guest_uuid(seed, guest.name)
    there = {disk.alias: disk for disk in domain.config.disks} if domain else {}

    def wanted(alias: str, disk: str, pool: str | None, size: int | None) -> WantedVolume:
        has = there.get(alias)
        if has is not None and has.volume is not None:
            return WantedVolume(alias, has.pool, has.volume, size)
        name = volume_name(guest.name, uid, disk)
        return WantedVolume(alias, pool or host.default_pool, name, size)

    system, disks = guest.spec.system_disk, guest.spec.disks
    return (
        wanted(SYSTEM, "system", system.pool, system.size),
        *(wanted(f"disk-{disk.name}", disk.name, disk.pool, disk.size) for disk in disks),
    )


def seed_volume(
    guest: EffectiveGuest, host: HostView, domain: DomainView | None, seed: str
) -> tuple[str, str] | None:
    """(pool, volume) of the guest's cloud-init seed; None where its image has no cloud-init."""
    if not guest.image.spec.cloud_init:
        return None
    uid = domain.uuid if domain else guest_uuid(seed, guest.name)
    pool = guest.spec.system_disk.pool or host.default_pool
    return pool, volume_name(guest.name, uid, "seed", "iso")


def holds_seed(domain: DomainView) -> bool:
    """Is a cloud-init seed in the domain's drive?"""
    return any(disk.alias == SEED and disk.volume for disk in domain.config.disks)


def unused_seed(guest: EffectiveGuest, domain: DomainView) -> bool:
    """May an ejected seed be left over? Only until the guest's spec was once applied whole."""
    owner = domain.ownership
    return (
        guest.image.spec.cloud_init
        and owner is not None
        and not owner.digest
        and not holds_seed(domain)
    )


def missing_disks(guest: EffectiveGuest, domain: DomainView | None) -> frozenset[str]:
    """Aliases of disks the domain does not have yet: their volumes must be looked at."""
    wanted = {SYSTEM, *(f"disk-{disk.name}" for disk in guest.spec.disks)}
    return frozenset(wanted - {disk.alias for disk in domain.config.disks} if domain else wanted)


def wanted_config(
    guest: EffectiveGuest,
    host: HostView,
    domain: DomainView | None,
    image: ImageView | None,
    seed: str,
) -> DomainConfig:
    """The domain as the documents want it. ``image`` is needed only where ``domain`` is None."""
    uid = domain.uuid if domain else guest_uuid(seed, guest.name)
    spec = guest.spec
    disks = tuple(
        DiskConfig(wanted.alias, wanted.pool, wanted.volume, target=_target(index))
        for index, wanted in enumerate(wanted_volumes(guest, host, domain, seed))
    )
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
        disks=(*disks, *_seed_drive(guest, host, domain, seed)),
        nics=tuple(_nic(nic, uid, domain) for nic in spec.interfaces),
        title=domain.config.title if domain else "",
    )


def _target(index: int) -> str:
    letters = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        letters = chr(ord("a") + rest) + letters
    return f"vd{letters}"


def _accelerator(guest: EffectiveGuest, host: HostView) -> str:
    asked = guest.spec.accelerator
    if asked is Accelerator.AUTO:
        return "kvm" if host.kvm else "tcg"
    return asked.value


def _boot(
    guest: EffectiveGuest, domain: DomainView | None, image: ImageView | None
) -> BootConfig | None:
    wanted = guest.image.spec.boot
    if domain is not None:
        # The kernel belongs to the system disk's image; another image means another disk.
        has = domain.config.boot
        if has is None or wanted is None:
            return has
        return BootConfig(has.kernel, has.initrd, wanted.args)
    if wanted is None or image is None or image.kernel_path is None:
        return None
    return BootConfig(image.kernel_path, image.initrd_path, wanted.args)


def _seed_drive(
    guest: EffectiveGuest, host: HostView, domain: DomainView | None, seed: str
) -> Iterator[DiskConfig]:
    volume = seed_volume(guest, host, None, seed)
    if domain is not None:
        yield from (disk for disk in domain.config.disks if disk.alias == SEED)
    elif volume is not None:
        yield DiskConfig(SEED, *volume, format="raw", device="cdrom", target="sda")


def _nic(nic: Interface, uid: str, domain: DomainView | None) -> NicConfig:
    alias = f"nic-{nic.name}"
    there = {has.alias: has.mac for has in domain.config.nics} if domain else {}
    mac = nic.mac or there.get(alias) or nic_mac(uid, nic.name)
    if nic.network is not None:
        return NicConfig(alias, "network", nic.network, mac)
    if nic.bridge is not None:
        return NicConfig(alias, "bridge", nic.bridge, mac)
    forwards = nic.user.forwards if nic.user is not None else []
    return NicConfig(alias, "user", "", mac, tuple(str(forward) for forward in forwards))
