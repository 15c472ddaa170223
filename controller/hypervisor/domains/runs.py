"""Which run of a domain is meant: who ends one says so.

A call may be stuck for minutes, given up by whoever made it, and go on when the guest was long
started anew. So it is asked right before the act, in the same worker.
"""

import libvirt

from controller.errors import HostBusyError


def refuse_another_run(domain: libvirt.virDomain, run: int | None) -> None:
    """Raises ``HostBusyError(reason='RunChanged')`` where ``run`` (``virDomainGetID``) is over and
    another has begun; None is any.
    """
    if run is not None and domain.ID() not in (run, -1):
        raise HostBusyError(
            f"domain {domain.name()} was started anew meanwhile: that run is left alone",
            reason="RunChanged",
            retry_after=1.0,
        )
