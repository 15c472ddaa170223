"""What would cut off a job of a domain is refused while it runs."""

from typing import cast

import libvirt
import pytest

from controller.errors import TransientError
from controller.hypervisor.domains.jobs import refuse_during_job
from tests.unit.hypervisor.domains.test_reading import BACKUP, MIRROR, Domain


@pytest.mark.parametrize(
    "domain",
    [Domain(active=True, job=BACKUP), Domain(active=True, mirror=MIRROR)],
    ids=["backup", "copy of a disk"],
)
def test_a_job_is_not_cut_off(domain: Domain) -> None:
    with pytest.raises(TransientError, match="a job of domain web1 runs") as caught:
        refuse_during_job(cast(libvirt.virDomain, domain))
    assert (caught.value.reason, caught.value.retry_after) == ("JobRunning", 10)


def test_without_a_job_it_goes_on() -> None:
    refuse_during_job(cast(libvirt.virDomain, Domain(active=True)))
