"""Checks whether a running guest could be started again, before it is stopped for a restart.

A volume, base, pool, network or address that it was started with may be gone. Then it is left
running, and the reason is reported. The *definition* counts, because the start would use that.
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
"""Seconds until the next check: the obstacle may go away without an event of this guest."""


def no_comeback(observed: Observed, domain: DomainView, *, new_disk: bool = False) -> str:
    """Why the guest would not start again, and what to do; '' if no obstacle is known.

    ``new_disk``: it gets another system disk, so problems of the present one and its base do not
    matter.
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
        # A pool at another path than in the settings does not prevent a start.
        if trouble is not None and trouble.reason != "PoolElsewhere":
            return trouble.message
    network = network_trouble(observed, domain)
    if network is not None:
        return network.message
    clash = cannot_start(domain.config, observed)
    return told(*clash) if clash is not None else ""
