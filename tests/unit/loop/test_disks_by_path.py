"""An adopted guest, whose disks libvirt knows by their paths: everything that is done to a disk by
its pool and volume is done to it, too, and the definition goes on saying the path.
"""

from dataclasses import replace

import pytest

from controller.observed.domain import DiskConfig, DomainConfig, DomainView
from controller.planning.conditions import ConditionType
from tests.factories import a_guest, a_service
from tests.fakes import Daemon, Documents, FakeWorld
from tests.unit.loop.test_replacing import DISK, NEW, SERVICES, Site


def _by_path(config: DomainConfig) -> DomainConfig:
    """As libvirt tells it: of a disk with a path there is no pool."""

    def told(disk: DiskConfig) -> DiskConfig:
        return replace(disk, pool="", volume=disk.path, path="") if disk.path else disk

    return replace(config, disks=tuple(told(disk) for disk in config.disks))


def _with_paths(config: DomainConfig) -> DomainConfig:
    return replace(
        config, disks=tuple(replace(disk, path=f"/pool/{disk.volume}") for disk in config.disks)
    )


class PathWorld(FakeWorld):
    """One that names disks by their paths where the definition does."""

    def domain(self, host: str, name: str) -> DomainView | None:
        found = super().domain(host, name)
        if found is None:
            return None
        live = _by_path(found.live) if found.live is not None else None
        return replace(found, config=_by_path(found.config), live=live)

    def adopted(self, name: str) -> None:
        found = self.domains[name]
        assert found.live is not None
        self.domains[name] = replace(
            found, config=_with_paths(found.config), live=_with_paths(found.live)
        )


class PathSite(Site):
    """A converged guest whose definition was somebody else's."""

    def __init__(self) -> None:
        self.world = PathWorld()
        self.documents = Documents(a_guest(services=SERVICES, disks=[DISK]))
        self.daemon = Daemon(self.world, self.documents)
        self.settle()
        self.world.adopted("web1")
        self.daemon = Daemon(self.world, self.documents)
        self.world.effects.clear()
        self.settle()
        self.before = self.domain

    def paths(self) -> dict[str, str]:
        return {disk.alias: disk.path for disk in self.domain.config.disks}


def test_a_disk_by_its_path_is_as_wanted() -> None:
    site = PathSite()
    assert [one for one in site.world.effects if not one.startswith("look")] == []
    assert site.plan.settled, site.plan.sentence


@pytest.mark.parametrize("alias", ["disk-data", "disk-system"])
def test_a_grown_size_is_done_and_not_only_recorded(alias: str) -> None:
    site = PathSite()
    disk = next(one for one in site.domain.config.disks if one.alias == alias)
    data = {**DISK, "size": "5Gi"} if alias == "disk-data" else DISK
    system = {"size": "5Gi"} if alias == "disk-system" else {}
    site.documents.guests["web1"] = a_guest(services=SERVICES, disks=[data], systemDisk=system)
    site.settle()
    assert site.world.volumes_there["default", disk.volume or ""].capacity == 5 * 2**30
    assert site.plan.settled, site.plan.sentence
    assert site.paths() == {one.alias: one.path for one in site.before.config.disks}


def test_an_approved_replacement_comes_to_its_end_and_the_other_disks_keep_their_paths() -> None:
    site = PathSite()
    site.world.base = NEW
    site.settle()
    site.approve()
    assert site.plan.settled, site.plan.sentence
    assert site.base() == NEW
    assert site.downs() == ["shutdown", "start"]
    paths = site.paths()
    assert paths["disk-data"] == "/pool/" + (site.before.config.disks[1].volume or "")
    assert paths["disk-system"] == ""
    (retired,) = site.record.retired
    old = site.before.config.disks[0]
    assert retired.disk.place == ("default", old.volume)
    site.daemon.executor.record("local", "web1", rollback=True)
    site.settle()
    assert site.system() == old.volume
    assert site.record.replacement is None


def test_another_title_leaves_every_path_as_it_is() -> None:
    site = PathSite()
    site.documents.guests["web1"] = a_guest(services=SERVICES, disks=[DISK], title="new")
    site.settle()
    assert site.domain.config.title == "new"
    assert site.paths() == {one.alias: one.path for one in site.before.config.disks}


@pytest.mark.parametrize("wish", ["approve", "rollback"])
def test_a_disk_that_could_not_be_put_in_again_as_it_is_stays_in(wish: str) -> None:
    """It is encrypted: by its pool and volume alone the guest would read noise."""
    site = PathSite()

    def bound(config: DomainConfig) -> DomainConfig:
        disks = (replace(config.disks[0], bound=("encryption",)), *config.disks[1:])
        return replace(config, disks=disks)

    has = site.domain
    assert has.live is not None
    site.world.domains["web1"] = replace(has, config=bound(has.config), live=bound(has.live))
    site.world.base = NEW
    if wish == "approve":
        site.daemon.executor.record("local", "web1", approved=NEW)
    else:
        site.daemon.executor.record("local", "web1", rollback=True)
    site.settle()
    assert site.downs() == []
    assert site.system() == site.before.config.disks[0].volume
    found = site.plan.condition(ConditionType.SYNCED)
    assert found is not None
    assert found.reason == "ChangeRefused"
    assert "<encryption>" in found.message
    assert not site.record.rollback


def test_the_service_of_a_guest_on_paths_is_looked_after() -> None:
    site = PathSite()
    other = a_service(packages=("other",))
    site.documents.guests["web1"] = a_guest(services=(other,), disks=[DISK])
    site.settle()
    assert site.plan.settled, site.plan.sentence


def test_a_definition_that_was_pointed_elsewhere_goes_back_to_the_path_that_runs() -> None:
    site = PathSite()
    has = site.domain
    disks = (replace(has.config.disks[0], volume="other.qcow2", path=""), *has.config.disks[1:])
    other = replace(has.config, disks=disks)
    site.world.domains["web1"] = replace(has, config=other)
    site.settle()
    assert site.paths() == {one.alias: one.path for one in site.before.config.disks}
