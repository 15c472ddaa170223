"""Determines which volumes may be deleted with a guest, or as an old system disk; data disks never.

The domain's definition and its metadata may both have been edited by hand, so a volume that either
of them calls a data disk stays, even if the other calls it a system disk.
"""

from collections.abc import Iterator

from controller.observed.domain import DomainView, GuestRecord, SystemDisk
from controller.planning.steps import DeleteVolume
from controller.planning.wanted.domain import SEED, SYSTEM
from controller.planning.wanted.names import volume_name


def doomed_volumes(domain: DomainView) -> Iterator[DeleteVolume]:
    """The steps that delete a guest's present, former and planned system disks, and its seed.

    Volumes of its other disks are left out, whatever the metadata says; so are bases. The record
    counts: if the definition names another system volume, somebody else put that in.
    """
    record = domain.record
    kept = set(_kept(domain))
    bases = _bases(domain, record)
    for pool, volume, why in _candidates(domain, record):
        if pool and volume and (pool, volume) not in kept and volume not in bases:
            kept.add((pool, volume))
            yield DeleteVolume(pool, volume, why)


def may_delete(domain: DomainView, record: GuestRecord, pool: str, volume: str) -> bool:
    """True if a guest that stays does not need the volume.

    It needs every volume that its definition, running domain or metadata uses, even one listed as
    retired, and the bases of all its system disks. ``record`` is the domain's.
    """
    used = {one.place for one in record.volumes}
    if record.replacement is not None:
        used.add(record.replacement.back.place)
    for config in (domain.config, domain.live):
        for disk in config.disks if config is not None else ():
            used.add((disk.pool, disk.volume or ""))
    free = (pool, volume) not in used and volume not in _bases(domain, record)
    return free and pool != "" and volume != ""


def _bases(domain: DomainView, record: GuestRecord) -> set[str]:
    bases = {disk.base for disk in _system_disks(record)}
    if domain.ownership is not None:
        bases.add(domain.ownership.base)
    return bases


def _candidates(domain: DomainView, record: GuestRecord) -> Iterator[tuple[str, str, str]]:
    system = _system_volume(domain, record)
    if system is not None:
        yield *system, "the system disk of a deleted guest"
    for disk in _system_disks(record):
        yield disk.pool, disk.volume, "another system disk of a deleted guest"
    seed = volume_name(domain.name, domain.uuid, "seed", "iso")
    for drive in domain.config.disks:
        if drive.alias != SEED:
            continue
        if drive.volume == seed:
            yield drive.pool, seed, "the cloud-init seed of a deleted guest"
        elif drive.volume is None and system is not None and not _was_applied(domain):
            yield system[0], seed, "the cloud-init seed of a deleted guest"  # just ejected


def _system_volume(domain: DomainView, record: GuestRecord) -> tuple[str, str] | None:
    for one in record.volumes:
        if one.alias == SYSTEM:
            return one.pool, one.volume
    for disk in domain.config.disks:
        if disk.alias == SYSTEM and disk.volume is not None:
            return disk.pool, disk.volume
    return None


def _system_disks(record: GuestRecord) -> Iterator[SystemDisk]:
    """The system disks of a replacement under way, and the retired ones."""
    if record.replacement is not None:
        yield record.replacement.to
        yield record.replacement.back
    for retired in record.retired:
        yield retired.disk


def _kept(domain: DomainView) -> Iterator[tuple[str, str | None]]:
    """(pool, volume) of the guest's data disks and media."""
    for one in domain.record.volumes:
        if one.alias != SYSTEM:
            yield one.pool, one.volume
    for config in (domain.config, domain.live):
        for disk in config.disks if config is not None else ():
            if disk.alias not in (SYSTEM, SEED):
                yield disk.pool, disk.volume


def out_of_reach(domain: DomainView) -> str:
    """The path of a system disk that is in no pool; '' if it is in one."""
    system = _system_volume(domain, domain.record)
    return system[1] if system is not None and not system[0] else ""


def _was_applied(domain: DomainView) -> bool:
    """True if the spec was once applied whole; then a used seed is already deleted."""
    return domain.ownership is not None and domain.ownership.digest != ""
