"""Who stands on a volume that is about to be deleted."""

from collections.abc import Collection, Mapping
from dataclasses import replace

import pytest

from controller.errors import PermanentError, TransientError
from controller.execution.in_use import InUse
from controller.observed.domain import DiskConfig, DomainState, DomainView
from controller.observed.host import HostView, PoolView, VolumeView
from tests.factories import a_domain, a_guest, a_host

OLD = "web1-964c2e34-system.qcow2"


class World:
    def __init__(self) -> None:
        pools = {
            "default": PoolView("default", "/pool", True, 1, 1),
            "other": PoolView("other", "/other", True, 1, 1),
            "off": PoolView("off", "/off", False, 1, 1),
        }
        self.view = a_host(pools=pools)
        self.there = {("default", OLD): volume("default", OLD)}
        self.unscanned: dict[tuple[str, str], VolumeView] = {}
        self.scannable = True
        self.domains: dict[str, DomainView] = {}
        self.users: dict[str, frozenset[str]] = {}
        self.now = 0.0
        self.asked = 0
        self.in_use = InUse(self, clock=lambda: self.now)

    def host(self, host: str) -> HostView:
        return self.view

    def domain(self, host: str, name: str) -> DomainView | None:
        return self.domains.get(name)

    def volume(self, host: str, pool: str, name: str) -> VolumeView | None:
        return self.there.get((pool, name))

    def absent(self, host: str, pool: str, names: Collection[str]) -> frozenset[str]:
        if not self.scannable:
            return frozenset()
        self.there |= self.unscanned
        return frozenset(name for name in names if (pool, name) not in self.there)

    def scanned_volumes(self, host: str, pool: str) -> list[VolumeView]:
        assert pool != "off"
        return [view for view in self.there.values() if view.pool == pool]

    def file_users(self, host: str) -> Mapping[str, frozenset[str]]:
        self.asked += 1
        return self.users

    def check(self) -> None:
        self.in_use.check("local", "web1", "default", OLD)

    def refused(self) -> str:
        with pytest.raises(PermanentError) as caught:
            self.check()
        assert caught.value.reason == "VolumeInUse"
        return str(caught.value)


def volume(pool: str, name: str, backing: str | None = None) -> VolumeView:
    return VolumeView(pool, name, f"/{pool}/{name}", "qcow2", 1, 0, backing)


def web1(disk: DiskConfig) -> DomainView:
    view = a_domain(a_guest(), DomainState.SHUTOFF)
    return replace(view, config=replace(view.config, disks=(disk,)))


def deleted(view: DomainView) -> DomainView:
    owner = view.ownership
    assert owner is not None
    return replace(view, ownership=replace(owner, record=replace(owner.record, deleting=True)))


@pytest.fixture
def world() -> World:
    return World()


def test_one_that_libvirt_does_not_know_yet_is_looked_for_before_it_is_deleted(
    world: World,
) -> None:
    world.users = {f"/default/{OLD}": frozenset({"other"})}
    world.there, world.unscanned = {}, world.there
    assert "domain other uses it" in world.refused()


def test_one_that_cannot_be_looked_for_is_not_deleted(world: World) -> None:
    """The deletion may find it: so it waits until it can be told who uses it."""
    world.there, world.unscanned, world.scannable = {}, world.there, False
    with pytest.raises(TransientError) as caught:
        world.check()
    assert caught.value.reason == "PoolBusy"
    world.scannable, world.unscanned = True, {}
    world.check()


def test_one_that_nobody_else_uses_may_go(world: World) -> None:
    world.users = {"/default/web1-new": frozenset({"web1"}), "/x": frozenset({"other"})}
    world.there["default", "other"] = volume("default", "other", "/pool/base")
    world.check()


@pytest.mark.parametrize("path", [f"/default/{OLD}", f"/linked/{OLD}"])
def test_an_overlay_in_any_pool_holds_it(world: World, path: str) -> None:
    world.there["other", "clone"] = volume("other", "clone", path)
    assert f"volume default/{OLD} is not deleted: volume other/clone is an overlay of it" in (
        world.refused()
    )


def test_another_domain_holds_it_and_is_named(world: World) -> None:
    world.users = {f"/default/{OLD}": frozenset({"web1", "theirs"})}
    assert "domain theirs uses it" in world.refused()


def test_its_own_guest_holds_it(world: World) -> None:
    """An operator attached the retired disk to the guest itself, to copy files from it."""
    world.domains["web1"] = web1(DiskConfig("disk-system", "default", "web1-new"))
    world.users = {f"/default/{OLD}": frozenset({"web1"})}
    assert "domain web1 uses it" in world.refused()
    world.domains["web1"] = deleted(world.domains["web1"])
    assert "domain web1 uses it" in world.refused(), "also while the guest is deleted"
    del world.domains["web1"]
    assert "domain web1 uses it" in world.refused()


@pytest.mark.parametrize("place", [("default", OLD), ("", f"/default/{OLD}")])
def test_a_disk_goes_with_its_deleted_guest(world: World, place: tuple[str, str]) -> None:
    guest = web1(DiskConfig("disk-system", *place))
    world.users = {f"/default/{OLD}": frozenset({"web1"})}
    world.domains["web1"] = deleted(guest)
    world.check()
    for other in (
        guest,
        replace(deleted(guest), live=guest.config, state=DomainState.RUNNING),
        replace(deleted(guest), uuid="5a34f5a2-59dc-4d34-b1c0-d4cb0a5b6a36"),  # a clone
    ):
        world.domains["web1"] = other
        world.refused()
    world.domains["web1"] = deleted(guest)
    world.now += 2.0
    world.users = {f"/default/{OLD}": frozenset({"web1", "theirs"})}
    assert "domain theirs uses it" in world.refused()


def test_one_that_is_gone_already_is_not_asked_about(world: World) -> None:
    world.there.clear()
    world.check()
    assert world.asked == 0


def test_an_answer_is_kept_for_a_moment_only(world: World) -> None:
    world.check()
    world.check()
    assert world.asked == 1
    world.now += 2.0
    world.users = {f"/default/{OLD}": frozenset({"theirs"})}
    assert "theirs" in world.refused()
