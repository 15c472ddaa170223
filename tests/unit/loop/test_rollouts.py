"""Roll-outs over many guests: never one too many, nobody waits for ever, cheap for thousands."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from controller.desired.effective import EffectiveGuest
from controller.errors import HostUnreachableError
from controller.loop.rollouts import PATIENCE, Rollouts
from controller.observed.domain import DomainView, Replacement, ReplacePhase, SystemDisk
from tests.factories import NOW, a_domain, a_guest, a_ready_image
from tests.growing import ABOUT_AS_MUCH, cost_of_ten_times

NEW = "gk-base-debian12-new.qcow2"
IMAGE = a_ready_image(base=NEW)
AUTOMATIC = {"replace": "Automatic"}


class World:
    """Domains of the image's guests."""

    def __init__(self) -> None:
        self.guests: dict[str, EffectiveGuest] = {}
        self.domains: dict[str, DomainView] = {}
        self.lost: set[str] = set()
        self.now = 0.0
        self.epoch = NOW
        self.asked = 0
        self.rollouts = Rollouts(
            self,  # type: ignore[arg-type]
            lambda: self.guests,
            clock=lambda: self.epoch,
            monotonic=lambda: self.now,
        )

    def domain(self, host: str, name: str) -> DomainView | None:
        self.asked += 1
        if name in self.lost:
            raise HostUnreachableError("lost")
        return self.domains.get(name)

    def has(self, *names: str, policy: dict[str, Any] | None = None, **fields: Any) -> None:
        for name in names:
            guest = a_guest(name, updatePolicy={**AUTOMATIC, **(policy or {})}, **fields)
            self.guests[name] = guest
            self.domains[name] = a_domain(guest)

    def remembers(self, name: str, **changes: Any) -> None:
        domain = self.domains[name]
        assert domain.ownership is not None
        record = replace(domain.ownership.record, **changes)
        self.domains[name] = replace(domain, ownership=replace(domain.ownership, record=record))

    def begins(self, name: str) -> None:
        disk = SystemDisk("default", name)
        ongoing = Replacement(disk, disk, "image", ReplacePhase.PREPARING, NOW)
        self.remembers(name, replacement=ongoing)

    def hold(self, name: str) -> str:
        return self.rollouts.hold(self.guests[name], IMAGE)


@pytest.fixture
def world() -> World:
    world = World()
    world.has("a", "b", "c")
    return world


def test_the_first_goes_and_the_others_hear_of_it(world: World) -> None:
    assert world.hold("b").startswith("a comes first")
    assert world.hold("a") == ""
    world.begins("a")
    assert world.hold("b").startswith("a comes first")


def test_who_was_let_go_counts_before_its_domain_says_so(world: World) -> None:
    world.remembers("a", suspended=True)
    assert world.hold("b") == ""
    world.remembers("a", suspended=False)
    assert world.hold("a").startswith("b comes first")
    assert world.hold("c").startswith("b comes first")
    assert world.hold("b") == "", "it is its turn still"


def test_an_approved_one_that_began_a_moment_ago_counts(world: World) -> None:
    assert world.hold("b").startswith("a comes first")  # the facts are known from here on
    world.begins("c")
    assert world.hold("a").startswith("c comes first")


def test_an_approved_one_counts_before_it_begins(world: World) -> None:
    world.remembers("c", approved=NEW)
    world.hold("c")
    assert world.hold("a").startswith("c comes first")


@pytest.mark.parametrize(
    "fields",
    [
        {"systemDisk": {"size": "1Gi"}},
        {"policy": {"maintenanceWindows": [{"cron": "0 3 1 1 *", "duration": "1h"}]}},
        {"policy": {"replace": "Manual"}},
    ],
)
def test_one_that_cannot_go_holds_nobody(world: World, fields: dict[str, Any]) -> None:
    world.has("a", **fields)
    world.hold("a")
    assert world.hold("b") == ""


def test_one_on_a_lost_host_holds_nobody(world: World) -> None:
    world.lost.add("a")
    assert world.hold("b") == ""


def test_whoever_does_not_take_its_turn_is_waited_for_only_so_long(world: World) -> None:
    for passed in range(int(PATIENCE / 15) + 1):
        assert world.hold("b").startswith("a comes first"), passed
        world.hold("a")
        world.now += 15
    world.now += 1
    assert world.hold("b") == ""
    world.begins("b")
    assert world.hold("c").startswith("b comes first")
    assert world.hold("a").startswith("b comes first")


def test_a_failure_is_told_with_its_reason(world: World) -> None:
    world.remembers("c", refused=NEW, refused_why="not ready within 900 s")
    assert "c did not keep its new disk (not ready within 900 s)" in world.hold("a")


def test_what_waiting_costs_grows_with_the_guests_and_no_faster() -> None:
    def waiting(count: int) -> Callable[[], None]:
        world = World()
        world.has("a")
        guest, domain = world.guests["a"], world.domains["a"]
        owner = domain.ownership
        assert owner is not None
        for number in range(count):
            name = f"g{number:05}"
            world.guests[name] = replace(guest, name=name)
            world.domains[name] = replace(domain, name=name, ownership=replace(owner, name=name))

        def all_wait() -> None:
            world.asked = 0
            for number in range(1, count):
                assert world.hold(f"g{number:05}")
            assert world.asked < 3 * count

        return all_wait

    assert cost_of_ten_times(waiting, 1000) < ABOUT_AS_MUCH
