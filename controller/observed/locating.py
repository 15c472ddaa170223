"""Convert a disk's path to the pool and volume that documents know.

libvirt takes a disk as ``<source pool volume>`` and as ``<source file>``, and both may mean the
same file. To compare them one form is needed, and documents know only pools. So a path in a pool's
directory is replaced by its volume, once, right after a domain was observed and before anything is
compared. The path is kept beside it, because the definition has only the path.
"""

import re
from collections.abc import Mapping
from dataclasses import replace

from controller.observed.domain import DiskConfig, DomainConfig, DomainView
from controller.observed.host import PoolView


def located(config: DomainConfig, pools: Mapping[str, PoolView]) -> DomainConfig:
    """``config`` with pool and volume where a disk is given by a path in a pool's directory.

    If several pools have that directory, the first by name is taken. Other paths stay as they are.
    """
    if all(_is_located(disk) for disk in config.disks):
        return config
    names: dict[str, str] = {}
    for name, pool in sorted(pools.items()):
        names.setdefault(pool.path.rstrip("/"), name)
    return replace(config, disks=tuple(_disk(disk, names) for disk in config.disks))


def located_view(domain: DomainView, pools: Mapping[str, PoolView]) -> DomainView:
    """``located`` for the definition and the live XML."""
    config = located(domain.config, pools)
    live = located(domain.live, pools) if domain.live is not None else None
    if config is domain.config and live is domain.live:
        return domain
    return replace(domain, config=config, live=live)


def _is_located(disk: DiskConfig) -> bool:
    return bool(disk.pool) or disk.volume is None


def _disk(disk: DiskConfig, names: Mapping[str, str]) -> DiskConfig:
    if _is_located(disk) or disk.volume is None:
        return disk
    directory, slash, volume = re.sub("//+", "/", disk.volume).rpartition("/")
    pool = names.get(directory)
    if not (slash and directory and volume) or pool is None:
        return disk
    return replace(disk, pool=pool, volume=volume, path=disk.volume)
