"""Where a disk is, in the words of documents: a volume of a pool, however the domain says it.

libvirt takes a disk as ``<source pool volume>`` and as ``<source file>``, and both may mean the
same file. Comparing them needs one of the two words, and a document knows pools only. So what is
the path of something in a pool's directory is told as that volume, before anything is compared: by
whoever looks at a domain, once. The path is kept beside it, for the definition says no other.
"""

import re
from collections.abc import Mapping
from dataclasses import replace

from controller.observed.domain import DiskConfig, DomainConfig, DomainView
from controller.observed.host import PoolView


def located(config: DomainConfig, pools: Mapping[str, PoolView]) -> DomainConfig:
    """``config`` with pool and volume where a disk is given by a path in a pool's directory.

    Where several pools have that directory, the first by name. Paths in none stay as they are.
    """
    if all(_is_located(disk) for disk in config.disks):
        return config
    names: dict[str, str] = {}
    for name, pool in sorted(pools.items()):
        names.setdefault(pool.path.rstrip("/"), name)
    return replace(config, disks=tuple(_disk(disk, names) for disk in config.disks))


def located_view(domain: DomainView, pools: Mapping[str, PoolView]) -> DomainView:
    """``located`` of both definitions."""
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
