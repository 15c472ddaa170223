"""As which targets a guest has its disks and drives, beside what else is in its domain."""

from dataclasses import replace

import pytest

from controller.desired.schema import guest as schema
from controller.observed.domain import DomainView
from controller.planning.wanted.domain import wanted_config
from tests.factories import POLICY, a_domain, a_guest, a_host

DATA = schema.Disk.model_validate({"name": "data", "size": "1Gi"})
TOOLS = schema.Cdrom.model_validate({"name": "tools"})
BARE, FULL = a_guest(), a_guest(disks=[DATA], cdroms=[TOOLS])


def with_others(domain: DomainView, *targets: str, where: str) -> DomainView:
    """Somebody attached devices of theirs."""
    config = getattr(domain, where)
    taken = {disk.target for disk in config.disks}.union(targets)
    return replace(domain, **{where: replace(config, taken=frozenset(taken))})


def targets(domain: DomainView) -> dict[str, str]:
    wanted = wanted_config(FULL, a_host(), domain, None, POLICY.seed)
    return {disk.alias: disk.target for disk in wanted.disks if disk.alias != "cdrom-seed"}


@pytest.mark.parametrize("where", ["config", "live"])
def test_a_new_disk_makes_room_for_one_that_is_not_ours(where: str) -> None:
    domain = with_others(a_domain(BARE), "vdb", "vdc", "sdb", where=where)
    assert targets(domain) == {"disk-system": "vda", "disk-data": "vdd", "cdrom-tools": "sdc"}


def test_a_disk_that_is_there_keeps_its_target() -> None:
    domain = with_others(a_domain(FULL), "vdz", where="config")
    assert targets(domain) == {"disk-system": "vda", "disk-data": "vdb", "cdrom-tools": "sdb"}


@pytest.mark.parametrize(("taken", "target"), [((), "vdb"), (("vdb",), "vdc")])
def test_a_lost_disk_gets_its_target_back_unless_another_device_has_it(
    taken: tuple[str, ...], target: str
) -> None:
    domain = a_domain(FULL)
    rest = tuple(disk for disk in domain.config.disks if disk.alias != "disk-data")
    domain = replace(domain, config=replace(domain.config, disks=rest), live=None)
    assert targets(with_others(domain, *taken, where="config"))["disk-data"] == target
