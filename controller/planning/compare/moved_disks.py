"""Messages about a disk on another file than recorded: a snapshot, a copy, or a mistake.

This is reported, never undone, because what the guest wrote since is only in that file. How to
bring the disk back depends on its backing files, and a wrong command destroys data: ``virsh
blockcommit`` without a base merges into the bottom of the chain, which backs disks of other guests.
"""

import shlex
from collections.abc import Mapping

from controller.observed.base_names import file_name, is_base_name
from controller.observed.domain import DiskConfig, DiskVolume, DomainView
from controller.observed.host import PoolView
from controller.planning.compare.changes import disk_path, medium


def on_base(domain: DomainView) -> tuple[DiskConfig, ...]:
    """The domain's disks that are the base of an image itself: it writes, or will write, to it."""
    running = domain.live if domain.live is not None else domain.config
    return tuple(
        disk
        for disk in running.disks
        if disk.device == "disk" and is_base_name(file_name(disk.volume or ""))
    )


def told_on_base(domain: DomainView, disk: DiskConfig, pools: Mapping[str, PoolView]) -> str:
    """The message about one of ``on_base``: what it means, and how to give it a file of its own."""
    message = (
        f"{disk_path(disk.alias)} is {medium(disk)}, the base of an image, on which the disks of"
        " other guests stand: what it writes spoils them, and no guest is made from that base"
    )
    noted = next((one for one in domain.record.volumes if one.alias == disk.alias), None)
    name = noted.volume if noted is not None else f"{domain.name}-{disk.alias}.qcow2"
    pool = noted.pool if noted is not None else disk.pool
    path = volume_path(pools.get(pool), f"{_stem(name)}-own.qcow2")
    if path is None:
        return f"{message}. {no_pool(pool)}"
    own = shlex.quote(path)
    if domain.live is not None:
        return (
            f"{message}. To give it a file of its own: virsh blockcopy {domain.name} {disk.target}"
            f" {own} --format qcow2 --transient-job --wait --pivot"
        )
    file = volume_path(pools.get(disk.pool), disk.volume or "") if disk.pool else disk.volume or ""
    if file is None:
        return f"{message}. It is not started. {no_pool(disk.pool)}"
    return (
        f"{message}. It is not started. To give it a file of its own: qemu-img convert -O qcow2"
        f" {shlex.quote(file)} {own}; then put that path in its place: virsh edit {domain.name}"
    )


def told_moved(domain: DomainView, alias: str, pools: Mapping[str, PoolView]) -> str:
    """The message about one of ``moved_disks``: where it is, and how to bring it back."""
    noted = next(one for one in domain.record.volumes if one.alias == alias)
    disk = _other(domain, noted)
    message = (
        f"{disk_path(alias)} is on {_where(disk)}, not on {noted.pool}/{noted.volume}: a snapshot"
        " or a copy; it is left as it is"
    )
    if disk is None:
        return message
    base = volume_path(pools.get(noted.pool), noted.volume)
    if base is None:
        return f"{message}. {no_pool(noted.pool)}"
    if domain.live is None:
        return f"{message}. While it runs it is told how to merge it"
    if base in disk.below or f"{noted.pool}/{noted.volume}" in disk.below:
        return (
            f"{message}. To merge it: virsh blockcommit {domain.name} {disk.target} --base"
            f" {shlex.quote(base)} --active --wait --pivot"
        )
    return f"{message}. It does not stand on that volume: there is nothing to merge"


def _other(domain: DomainView, noted: DiskVolume) -> DiskConfig | None:
    for config in (domain.live, domain.config):
        disk = config.disk(noted.alias) if config is not None else None
        if disk is not None and disk.place != noted.place:
            return disk
    return None


def _where(disk: DiskConfig | None) -> str:
    if disk is None or disk.volume is None:
        return "another volume"
    return medium(disk)


def volume_path(pool: PoolView | None, volume: str) -> str | None:
    """The path of a volume, existing or not; None if its pool does not exist."""
    return f"{pool.path.rstrip('/')}/{volume}" if pool is not None else None


def no_pool(name: str) -> str:
    """The message given instead of a command that needs a path in a pool that does not exist."""
    return f"Storage pool {name} is not there, so no path in it can be told: virsh pool-list --all"


def _stem(volume: str) -> str:
    return volume.removesuffix(".qcow2").removesuffix(".raw")
