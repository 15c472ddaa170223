"""Checks for running jobs of a domain: a backup, a migration, a save, a copy of a disk.

No event says that a job has begun. So an action that would abort a job, or be undone by one, checks
right before it, in the same worker, whatever the index says.
"""

import libvirt

from controller.errors import TransientError
from controller.hypervisor.errors.translate import lost
from controller.observed.domain_xml import parse_domain

_AGAIN = 10.0
_RUNS = (libvirt.VIR_DOMAIN_JOB_BOUNDED, libvirt.VIR_DOMAIN_JOB_UNBOUNDED)


def has_job(domain: libvirt.virDomain) -> bool:
    """Whether it has a job, not a block job (``virDomainGetJobInfo``, which takes none itself)."""
    try:
        return domain.jobInfo()[0] in _RUNS
    except libvirt.libvirtError as error:
        if lost(error, domain.connect()):
            raise
        return False


def refuse_during_job(domain: libvirt.virDomain) -> None:
    """Raises ``TransientError(reason='JobRunning')`` while a running domain has any kind of job."""
    if has_job(domain) or parse_domain(domain.XMLDesc(0)).block_job:
        raise TransientError(
            f"a job of domain {domain.name()} runs (a backup, a migration, a copy of a disk):"
            " nothing is done to it until it has ended (virsh domjobinfo, virsh blockjob)",
            reason="JobRunning",
            retry_after=_AGAIN,
        )
