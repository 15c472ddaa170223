"""Finds problems with a guest's storage and networks that it does not notice while it runs.

QEMU keeps the files open that it was started with, so damage to them shows only at the next start,
when it is too late. So it is reported as soon as it is observed.
"""

import shlex
from collections.abc import Container
from dataclasses import dataclass

from controller.desired.effective import EffectiveGuest
from controller.observed.base_names import marker_name
from controller.observed.domain import DomainView
from controller.observed.guest import Observed
from controller.observed.host import HostView
from controller.observed.image import ImageView
from controller.planning.compare.changes import disk_path
from controller.planning.compare.moved_disks import no_pool, on_base, told_on_base, volume_path
from controller.planning.wanted.domain import SYSTEM


@dataclass(frozen=True, slots=True)
class Trouble:
    """``reason`` is for conditions; ``message`` says what is wrong and what to do."""

    reason: str
    message: str
    remedy: str = ""
    """The end of the message, what to do, if it is also shown alone."""


def storage_trouble(
    desired: EffectiveGuest, observed: Observed, domain: DomainView
) -> Trouble | None:
    """The worst problem with the storage, or else the networks, of a guest that has a domain."""
    bases = on_base(domain)
    if bases:
        pools = observed.host.pools
        told = "; ".join(told_on_base(domain, disk, pools) for disk in bases)
        return Trouble("DiskIsBase", told)
    return (
        _base(desired, observed, domain)
        or volume_trouble(observed, domain)
        or _pools(observed, domain)
        or network_trouble(observed, domain)
    )


def base_place(observed: Observed, domain: DomainView) -> tuple[str, str]:
    """(pool, volume) of the base that backs the system disk; the volume is '' if it has none."""
    owner = domain.ownership
    return _system_pool(observed, domain), owner.base if owner is not None else ""


def volume_trouble(
    observed: Observed, domain: DomainView, among: Container[tuple[str, str]] | None = None
) -> Trouble | None:
    """The volumes that are gone, of those in ``among`` if given; QEMU may have them still open."""
    missing = [one for one in sorted(observed.missing) if among is None or one in among]
    if not missing:
        return None
    base = base_place(observed, domain)
    running = domain.live if domain.live is not None else domain.config
    told = []
    for pool, volume in missing:
        if (pool, volume) == base:
            told.append(
                f"base {pool}/{volume}, on which its system disk stands, is gone: it cannot start"
                " again before that is back, from a backup, or uploaded anew by the daemon"
            )
            continue
        disk = next((one for one in running.disks if one.place == (pool, volume)), None)
        what = disk_path(disk.alias) if disk is not None else "a disk of it"
        message = f"volume {pool}/{volume} of {what} is gone"
        if disk is not None and domain.live is not None:
            path = volume_path(observed.host.pools.get(pool), volume)
            message += ": what it holds is lost when the guest stops. " + (
                f"To keep it: virsh blockcopy {domain.name} {disk.target} {shlex.quote(path)}"
                f" --format {disk.format} --transient-job --wait --pivot"
                if path is not None
                else no_pool(pool)
            )
        told.append(message)
    return Trouble("VolumeMissing", "; ".join(told))


def network_trouble(observed: Observed, domain: DomainView) -> Trouble | None:
    """A libvirt network of the guest that does not exist or is not active."""
    networks, host = observed.host.networks, observed.host.name
    for nic in domain.config.nics:
        if nic.kind != "network" or networks is None or networks.get(nic.source):
            continue
        if nic.source not in networks:
            message = (
                f"host {host} has no network {nic.source}, which its {nic.alias} is on; define it"
                " again; what there is: virsh net-list --all"
            )
            return Trouble("NetworkMissing", message)
        message = (
            f"network {nic.source} of host {host}, which its {nic.alias} is on, is not active; to"
            f" start it: virsh net-start {shlex.quote(nic.source)}"
        )
        return Trouble("NetworkInactive", message)
    return None


def pool_trouble(host: HostView, name: str) -> Trouble | None:
    """Why volumes in that pool cannot be created or read; None if they can."""
    pool, name = host.pools.get(name), shlex.quote(name)
    if pool is None:
        message = (
            f"host {host.name} has no pool {name}; make it: virsh pool-define-as {name} dir"
            f" --target DIRECTORY; then: virsh pool-start {name}; or name it in the settings under"
            f" [hosts.{host.name}.pools]"
        )
        return Trouble("PoolMissing", message)
    if pool.wanted_path:
        ends = f"virsh pool-undefine {name}"
        if pool.active:
            ends = f"virsh pool-destroy {name}; virsh pool-undefine {name}"
        remedy = (
            f"write {pool.path} under [hosts.{host.name}.pools]; or, if nobody needs that pool (its"
            f" files stay): {ends}"
        )
        message = (
            f"pool {name} of host {host.name} is at {pool.path}, and the settings have"
            f" {pool.wanted_path}: nothing is put into it; {remedy}"
        )
        return Trouble("PoolElsewhere", message, remedy)
    if not pool.active:
        why = f" ({pool.why})" if pool.why else ""
        message = (
            f"pool {name} of host {host.name} is not active{why}; what is in it cannot be told. See"
            f" that {pool.path or 'its directory'} is there and mounted, then: virsh pool-start"
            f" {name}"
        )
        return Trouble("PoolInactive", message)
    return None


def _pools(observed: Observed, domain: DomainView) -> Trouble | None:
    pools = dict.fromkeys(disk.pool for disk in domain.config.disks if disk.pool)
    found = (pool_trouble(observed.host, pool) for pool in pools)
    return next((trouble for trouble in found if trouble is not None), None)


def _base(desired: EffectiveGuest, observed: Observed, domain: DomainView) -> Trouble | None:
    """The problem with the base that backs the system disk."""
    owner = domain.ownership
    if owner is None or not owner.base:
        return None
    pool = _system_pool(observed, domain)
    base = observed.volumes.get((pool, owner.base))
    marker = observed.volumes.get((pool, marker_name(owner.base)))
    changed = base is not None and marker is not None and base.written_after(marker)
    if not changed and not observed.base_writers:
        return None
    ready = desired.image.install is None and observed.image is not None
    again = ready and observed.image is not None and observed.image.base == owner.base
    message = _changed(pool, owner.base, observed.base_writers, again=again)
    return Trouble("BaseChanged", message)


def spoiled(desired: EffectiveGuest, image: ImageView) -> str:
    """Why no disk may be made from the image's base; '' if it may."""
    if not image.spoiled:
        return ""
    again = desired.image.install is None
    return _changed(image.pool, image.base or "", image.written_by, again=again)


def _changed(pool: str, base: str, writers: tuple[str, ...], *, again: bool) -> str:
    """``again``: the daemon can upload that base anew."""
    message = (
        f"base {pool}/{base} was written to after it was made, and no guest is made from it: what"
        " stands on it may read what was never in the image"
    )
    if writers:
        return (
            f"{message}. It is the disk of domain {', '.join(writers)}, which has to get a disk of"
            " its own first"
        )
    if again:
        marker, place = shlex.quote(marker_name(base)), shlex.quote(pool)
        return f"{message}. To have it uploaded anew: virsh vol-delete {marker} --pool {place}"
    return f"{message}. Put it back from a backup, with its time of change (cp --preserve)"


def _system_pool(observed: Observed, domain: DomainView) -> str:
    for one in domain.record.volumes:
        if one.alias == SYSTEM:
            return one.pool
    disk = domain.config.disk(SYSTEM)
    return disk.pool if disk is not None else observed.host.default_pool
