"""Checks that a domain is still in the run that a caller wants to end.

A call may be stuck for minutes, abandoned by its caller, and continue when the guest has long been
started again. So the run is checked right before the act, in the same worker.
"""

import libvirt

from controller.errors import HostBusyError


def refuse_another_run(domain: libvirt.virDomain, run: int | None) -> None:
    """Raises ``HostBusyError(reason='RunChanged')`` if ``run`` (``virDomainGetID``) has ended and
    another has begun; None means any run.
    """
    if run is not None and domain.ID() not in (run, -1):
        raise HostBusyError(
            f"domain {domain.name()} was started anew meanwhile: that run is left alone",
            reason="RunChanged",
            retry_after=1.0,
        )
