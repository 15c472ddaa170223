"""Could a guest that runs be started again? Asked before it is stopped to come up anew.

What it was started with may be gone since: a volume, a base, a pool, a network, an address. Then it
is left running, and why is told. What it is *defined* with counts: with that it would start.
"""

from dataclasses import replace

from controller.observed.domain import DomainView
from controller.observed.guest import Observed
from controller.planning.compare.moved_disks import on_base, told_on_base
from controller.planning.host.addresses import cannot_start, told
from controller.planning.host.trouble import (
    base_place,
    network_trouble,
    pool_trouble,
    volume_trouble,
)
from controller.planning.wanted.domain import SYSTEM

LOOK_AGAIN = 60.0
"""Seconds: what is in the way may go without an event of this guest."""


def no_comeback(observed: Observed, domain: DomainView, *, new_disk: bool = False) -> str:
    """Why it would not start again, with what mends it; '' where nothing is known to be in the way.

    ``new_disk``: it gets another system disk, so what is wrong with that and its base is no matter.
    """
    defined = replace(domain, live=None)
    host = observed.host
    bases = [disk for disk in on_base(defined) if not (new_disk and disk.alias == SYSTEM)]
    if bases:
        return "; ".join(told_on_base(domain, disk, host.pools) for disk in bases)
    disks = [one for one in domain.config.disks if not (new_disk and one.alias == SYSTEM)]
    needed = {(one.pool, one.volume) for one in disks if one.volume is not None}
    if not new_disk:
        needed.add(base_place(observed, domain))
    gone = volume_trouble(observed, domain, needed)
    if gone is not None:
        return gone.message
    for pool in dict.fromkeys(one.pool for one in disks if one.pool):
        trouble = pool_trouble(host, pool)
        # One at another place than the settings say starts all the same.
        if trouble is not None and trouble.reason != "PoolElsewhere":
            return trouble.message
    network = network_trouble(observed, domain)
    if network is not None:
        return network.message
    clash = cannot_start(domain.config, observed)
    return told(*clash) if clash is not None else ""
