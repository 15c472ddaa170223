"""A listing of pools or networks that hangs: the host stays, with what was last known of them."""

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from controller.errors import HostUnreachableError
from controller.hypervisor.connection.config import HostConfig
from controller.hypervisor.connection.deadlines import DeadlineError
from controller.hypervisor.connection.link import HostLink
from controller.hypervisor.hypervisor import Hypervisor
from controller.hypervisor.networks import Networks
from controller.hypervisor.storage.pools import Pools
from controller.observed.host import PoolView
from tests.waiting import wait_until

POOL = PoolView("default", "/pool", True, 2, 1)
HANGS = DeadlineError("h: it did not answer within 15 s")
LOST = HostUnreachableError("the connection is closed")


class Link:
    """As far as both know a host's link: every listing ends as ``answer`` says."""

    def __init__(self, found: object) -> None:
        self.config = HostConfig(name="h", uri="test:///default")
        self.asked = 0
        self.answer: Callable[[], object] = lambda: found

    def call(self, *_: Any, **__: Any) -> object:
        self.asked += 1
        return self.answer()

    def fail(self, error: Exception) -> None:
        def failing() -> object:
            raise error

        self.answer = failing


class World:
    def __init__(self, kind: type[Pools] | type[Networks]) -> None:
        self.link = Link({"default": POOL if kind is Pools else True})
        self.now = 1000.0
        self.listing = kind(cast(HostLink, self.link), lambda: self.now)

    def known(self) -> list[str]:
        return list(self.listing.views() or {})


@pytest.fixture(params=[Pools, Networks])
def world(request: pytest.FixtureRequest) -> World:
    return World(request.param)


def test_what_hangs_is_as_last_known_and_is_asked_about_ever_less_often(world: World) -> None:
    assert world.known() == ["default"]
    world.link.fail(HANGS)
    world.now += 30
    for pause in (30, 60, 120, 240, 300, 300):
        asked = world.link.asked
        assert world.known() == ["default"]
        assert world.link.asked == asked + 1
        world.now += pause - 1
        assert world.known() == ["default"]
        assert world.link.asked == asked + 1
        world.now += 1
    world.link.answer = dict
    assert world.known() == []


def test_a_host_that_is_lost_is_told(world: World) -> None:
    world.known()
    world.link.fail(LOST)
    world.now += 30
    for _ in range(2):
        with pytest.raises(HostUnreachableError, match="closed"):
            world.listing.views()


def test_one_asks_for_all(world: World) -> None:
    world.known()
    world.now += 30
    found, inside, go = world.link.answer, threading.Event(), threading.Event()

    def slow() -> object:
        inside.set()
        go.wait(10)
        return found()

    world.link.answer = slow
    told: list[str] = []
    threading.Thread(target=lambda: told.extend(world.known()), daemon=True).start()
    assert inside.wait(10)
    asked = world.link.asked
    assert world.known() == ["default"]
    assert world.link.asked == asked
    go.set()
    wait_until(lambda: told == ["default"], 10, "the one that asks to be told")


def test_a_pool_that_hangs_says_so_until_it_answers() -> None:
    world = World(Pools)
    world.known()
    found = world.link.answer
    world.link.fail(HANGS)
    world.now += 30
    pools = cast(Pools, world.listing)
    assert pools.views()["default"].why == str(HANGS)
    world.link.answer = found
    world.now += 30
    assert pools.views()["default"] == POOL


@pytest.mark.parametrize("what", ["pools", "networks"])
@pytest.mark.parametrize(("error", "reachable"), [(HANGS, True), (LOST, False)])
def test_only_a_host_that_is_lost_is_not_reachable(
    what: str, error: Exception, reachable: bool
) -> None:
    hypervisor = Hypervisor([HostConfig(name="h", uri="test:///default")])

    def listing(of: str) -> Callable[[], object]:
        def views() -> object:
            if of == what:
                raise error
            return {}

        return views

    one: Any = hypervisor._hosts["h"]
    one.link = SimpleNamespace(reachable=True, why="", connecting=False)
    one.storage = SimpleNamespace(pools=listing("pools"), known_pools=dict)
    one.networks = SimpleNamespace(views=listing("networks"), known=dict)
    assert hypervisor.host("h").reachable is reachable
