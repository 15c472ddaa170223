"""Who has an address is told by those that were read, and others are read for it."""

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from controller.errors import HostBusyError
from controller.hypervisor.connection.config import HostConfig
from controller.hypervisor.connection.link import HostLink
from controller.hypervisor.domains.index import HostIndex
from controller.hypervisor.domains.reading import Read, Unreadable
from controller.observed.domain_xml import parse_domain
from tests.waiting import wait_until

MAC = "52:54:00:aa:00:01"
XML = f"""<domain type='qemu'><name>stranger</name><devices>
<interface type='network'><source network='default'/><mac address='{MAC}'/></interface>
</devices></domain>"""
READ = Read("u", (5, 0), -1, True, False, False, parse_domain(XML), None, False)


class Link:
    """As far as an index knows a host's link; every reading of a domain ends as ``answer`` says."""

    def __init__(self) -> None:
        self.config = cast(HostConfig, SimpleNamespace(name="h"))
        self.asked = 0
        self.answer: Callable[[], Read | Unreadable | None] = lambda: READ

    def ensure_reachable(self) -> None:
        """It is."""

    def call(self, *_: Any, **__: Any) -> Read | Unreadable | None:
        self.asked += 1
        return self.answer()


class World:
    def __init__(self) -> None:
        self.link = Link()
        self.now = 1000.0
        self.index = HostIndex(
            cast(HostLink, self.link), lambda *_: None, monotonic=lambda: self.now
        )
        self.index.touch("stranger")

    def users(self, name: str = "web1") -> list[str]:
        return [use.holder for use in self.index.address_users(name, [MAC])]


@pytest.fixture
def world() -> World:
    return World()


def test_a_stranger_that_could_not_be_read_is_read_by_the_next_that_asks(world: World) -> None:
    def busy() -> None:
        raise HostBusyError("no worker was free")

    world.link.answer = busy
    for _ in range(2):
        with pytest.raises(HostBusyError):
            world.users()
    world.link.answer = lambda: READ
    assert world.users() == ["stranger"]
    asked = world.link.asked
    assert world.users() == ["stranger"]
    assert world.link.asked == asked, "it was read, and nothing happened to it since"


def test_who_asks_while_a_stranger_is_being_read_does_not_take_the_address_for_free(
    world: World,
) -> None:
    inside, go = threading.Event(), threading.Event()

    def slow() -> Read:
        inside.set()
        go.wait(10)
        return READ

    world.link.answer = slow
    first: list[str] = []
    thread = threading.Thread(target=lambda: first.extend(world.users("web1")), daemon=True)
    thread.start()
    assert inside.wait(10)
    world.link.answer = lambda: READ
    assert world.users("web2") == ["stranger"]
    go.set()
    wait_until(lambda: first == ["stranger"], 10, "the first to be told too")


def test_a_stranger_that_changes_while_it_is_read_is_read_again_by_the_next(world: World) -> None:
    def restless() -> Read:
        world.index.touch("stranger")
        return READ

    world.link.answer = restless
    world.users()
    asked = world.link.asked
    world.link.answer = lambda: None
    assert world.users() == []
    assert world.link.asked > asked


def test_a_stranger_that_is_unreadable_is_not_read_at_each_look(world: World) -> None:
    world.link.answer = lambda: Unreadable("its XML is broken")
    assert world.users() == []
    asked = world.link.asked
    world.now += 9
    assert world.users() == []
    assert world.link.asked == asked
    world.now += 1
    world.users()
    assert world.link.asked > asked, "it is tried again after a pause"
    world.link.answer = lambda: READ
    world.index.touch("stranger")  # something happened to it
    assert world.users() == ["stranger"]


def test_a_stranger_that_is_gone_has_no_address(world: World) -> None:
    world.link.answer = lambda: None
    assert world.users() == []
    asked = world.link.asked
    assert world.users() == []
    assert world.link.asked == asked
