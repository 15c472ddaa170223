"""Jobs of a domain, which last: a backup, a migration, a save, a copy of a disk.

No event tells that one has begun. So what would cut it off, or be lost by it, asks right before it
acts, in the same worker, whatever the index believed.
"""

import libvirt

from controller.errors import TransientError
from controller.hypervisor.errors.translate import lost
from controller.observed.domain_xml import parse_domain

_AGAIN = 10.0
_RUNS = (libvirt.VIR_DOMAIN_JOB_BOUNDED, libvirt.VIR_DOMAIN_JOB_UNBOUNDED)


def has_job(domain: libvirt.virDomain) -> bool:
    """``virDomainGetJobInfo``, which takes no job itself; disks' own jobs are not in it."""
    try:
        return domain.jobInfo()[0] in _RUNS
    except libvirt.libvirtError as error:
        if lost(error, domain.connect()):
            raise
        return False


def refuse_during_job(domain: libvirt.virDomain) -> None:
    """Raises ``TransientError(reason='JobRunning')`` while an active domain has a job."""
    if has_job(domain) or parse_domain(domain.XMLDesc(0)).block_job:
        raise TransientError(
            f"a job of domain {domain.name()} runs (a backup, a migration, a copy of a disk):"
            " nothing is done to it until it has ended (virsh domjobinfo, virsh blockjob)",
            reason="JobRunning",
            retry_after=_AGAIN,
        )
