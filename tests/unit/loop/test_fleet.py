"""What is known of all guests: how many would go, who may be approved, and a wish about all."""

import threading
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controller.desired.catalog.snapshot import Snapshot
from controller.desired.effective import EffectiveGuest
from controller.desired.text.problems import Problem
from controller.errors import HostUnreachableError, TransientError
from controller.loop.fleet import Fleets, Limit
from controller.observed.domain import DomainState, DomainView, GuestRecord
from controller.observed.guest import Fleet
from tests.factories import NOW, POLICY, a_domain, a_guest

ME = replace(POLICY, controller="me")


class World:
    """Hosts and documents."""

    def __init__(self, state_dir: Path) -> None:
        self.domains: dict[str, dict[str, DomainView]] = {"a": {}, "b": {}}
        self.lost: set[str] = set()
        self.unreadable: set[str] = set()
        self.snapshot = Snapshot(uncertain="")
        self.now = 0.0
        self.asked = 0
        self.read: list[str] = []
        self.state_dir = state_dir
        self.fleets = self.daemon(Limit(1, 10))

    def daemon(self, limit: Limit) -> Fleets:
        return Fleets(
            self, lambda: self.snapshot, ME, limit, self.state_dir, clock=lambda: self.now
        )

    def hosts(self) -> Collection[str]:
        return self.domains

    def owned(self, host: str) -> Collection[str]:
        self.asked += 1
        if host in self.lost:
            raise HostUnreachableError("lost")
        return frozenset(self.domains[host])

    def domain(self, host: str, name: str) -> DomainView | None:
        self.read.append(name)
        if name in self.unreadable:
            raise TransientError("unreadable")
        return self.domains[host].get(name)

    def has(self, name: str, policy: str = "Delete", host: str = "a", **memory: Any) -> None:
        fields = {"controller": "me", "deletion_policy": policy, **memory}
        domain = a_domain(a_guest(name))
        owner = domain.ownership
        assert owner is not None
        self.domains[host][name] = replace(
            domain, ownership=replace(owner, record=GuestRecord(**fields))
        )

    def wants(self, *guests: EffectiveGuest, **fields: Any) -> None:
        documents = {guest.name: guest for guest in guests}
        self.snapshot = replace(self.snapshot, guests=documents, **fields)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_guest_with_its_document_costs_nothing_and_sees_no_count(world: World) -> None:
    world.has("gone")
    world.wants(a_guest("web1"), uncertain="something", empty=True)
    assert world.fleets.of("web1") == Fleet(uncertain="its document is there")
    assert world.asked == 0


def test_what_would_go_unasked_is_counted_over_all_hosts(world: World) -> None:
    world.has("one")
    world.has("two", "Stop", host="b")
    world.has("kept", "Retain")
    world.has("approved", orphaned_since=1.0, deletion_approved=2.0)
    world.has("suspended", suspended=True)
    world.has("foreign", controller="you")
    world.has("unread")
    world.unreadable.add("unread")
    world.has("here")
    world.wants(a_guest("here"))
    fleet = world.fleets.of("one")
    assert (fleet.deletions, fleet.max_deletions) == (5, 1), "one, two, and these"
    assert world.fleets.deletions_blocked() == ("one", "two")
    assert [one.domain.name for one in world.fleets.to_approve()] == ["one", "two"]
    assert {one.host for one in world.fleets.to_approve()} == {"a", "b"}


def test_a_clone_and_an_unmarked_domain_are_nobodys_orphans(world: World) -> None:
    world.has("clone")
    clone = world.domains["a"]["clone"]
    world.domains["a"]["clone"] = replace(clone, uuid="11111111-1111-1111-1111-111111111111")
    assert world.fleets.census().orphans == ()


def test_a_finished_stop_does_not_count(world: World) -> None:
    world.has("off", "Stop")
    off = replace(world.domains["a"]["off"], state=DomainState.SHUTOFF, live=None, run=None)
    world.domains["a"]["off"] = off
    assert world.fleets.of("off").deletions == 0


def test_a_document_that_cannot_be_used_is_no_orphan(world: World) -> None:
    world.has("broken")
    problems = {"broken": (Problem("a.yaml", 1, "", "bad"),)}
    world.snapshot = Snapshot(uncertain="a.yaml", guest_problems=problems)
    assert world.fleets.census().orphans == ()


@pytest.mark.parametrize(
    ("guests", "limit", "most"),
    [(5, Limit(1, 10), 1), (25, Limit(1, 10), 2), (25, Limit(5, 10), 5), (25, Limit(0, 0), 0)],
)
def test_the_limit_is_a_number_or_a_share_of_the_guests_there_are(
    world: World, guests: int, limit: Limit, most: int
) -> None:
    for number in range(guests):
        world.has(f"g{number}")
    world.wants(*(a_guest(f"g{number}") for number in range(1, guests)))
    assert world.daemon(limit).of("g0").max_deletions == most
    # Documents of guests that are not made yet make no room.
    world.wants(*(a_guest(f"x{number}") for number in range(200)))
    assert world.daemon(limit).of("g0").max_deletions == most


def test_orphans_on_a_silent_host_count_too(world: World) -> None:
    world.has("one")
    gone = [a_guest(f"b{n}", host="b", deletionPolicy="Delete") for n in range(3)]
    kept = a_guest("kept", host="b")
    world.lost.add("b")
    world.wants(orphans={guest.name: guest for guest in (*gone, kept)})
    assert world.fleets.of("one").deletions == 4
    assert world.fleets.deletions_blocked() == ("b0", "b1", "b2", "one")


def test_a_host_that_was_never_heard_may_have_any_number_of_them(world: World) -> None:
    world.has("one")
    world.has("two", host="b")
    world.lost.add("b")
    assert (world.fleets.of("one").deletions, world.fleets.of("one").unheard) == (1, "b")
    assert world.fleets.deletions_blocked() == ("one",)
    world.lost.clear()
    world.now += 1.0
    assert (world.fleets.of("one").deletions, world.fleets.of("one").unheard) == (2, "")
    world.lost.add("b")
    world.now += 1.0
    assert (world.fleets.of("one").deletions, world.fleets.of("one").unheard) == (2, "")
    assert [one.domain.name for one in world.fleets.to_approve()] == ["one"]


def test_one_that_cannot_be_read_for_a_moment_counts_as_it_last_did(world: World) -> None:
    world.has("one")
    world.has("kept", "Retain")
    assert world.fleets.of("one").deletions == 1
    world.has("new")
    world.unreadable |= {"one", "kept", "new"}
    world.now += 1.0
    assert world.fleets.of("one").deletions == 2


def test_one_that_was_held_back_before_still_waits(world: World) -> None:
    world.has("one", deletion_blocked=True)
    assert world.fleets.of("one").deletions == 1
    assert world.fleets.deletions_blocked() == ("one",)


def test_the_milder_policy_counts(world: World) -> None:
    world.has("one")
    world.has("two", "Retain")
    documents = (a_guest("one"), a_guest("two", deletionPolicy="Delete"))
    world.wants(orphans={guest.name: guest for guest in documents})
    assert world.fleets.of("one").last_policy == "Retain"
    assert (world.fleets.of("two").deletions, world.fleets.deletions_blocked()) == (0, ())


def test_an_absence_is_as_long_as_this_daemon_saw_it(world: World) -> None:
    world.has("one")
    world.now = 1000.0
    assert world.fleets.of("one").absent == 0.0, "nothing was believed yet"
    world.wants(believed_since=100.0)
    assert world.fleets.of("one").absent == 900.0
    world.wants(believed_since=100.0, gone={"one": 300.0})
    assert world.fleets.of("one").absent == 700.0


def test_what_the_directory_says_of_itself_is_passed_on(world: World) -> None:
    world.has("one")
    world.wants(uncertain="broken")
    assert world.fleets.of("one").uncertain == "broken"
    assert world.fleets.deletions_blocked() == ()
    world.wants(uncertain="no documents", empty=True)
    assert world.fleets.of("one").empty
    assert world.fleets.deletions_blocked() == ("one",)


def test_guests_of_an_emptied_directory_wait_for_approval(world: World) -> None:
    delete, keep = a_guest("go", deletionPolicy="Delete"), a_guest("stay")
    world.wants(delete, keep, uncertain="no documents", empty=True)
    assert world.fleets.deletions_blocked() == ("go",)


def test_before_the_first_scan_nothing_is_certain(world: World) -> None:
    world.snapshot = Snapshot()
    assert world.fleets.of("one").uncertain


def test_the_count_is_kept_for_a_moment_but_not_over_a_scan_or_an_approval(world: World) -> None:
    world.has("one")
    assert world.fleets.of("one").deletions == 1
    world.has("two")
    assert world.fleets.of("one").deletions == 1
    world.snapshot = replace(world.snapshot, scanned_at=1.0)
    assert world.fleets.of("one").deletions == 2
    world.has("three")
    world.now += 1.0
    assert world.fleets.of("one").deletions == 3
    world.has("four")
    assert len(world.fleets.to_approve()) == 4


def test_ten_thousand_guests_are_counted_once_for_all_that_ask(world: World) -> None:
    shared = a_domain(a_guest("g"))
    names = [f"g{number}" for number in range(10_000)]
    world.domains["a"] = dict.fromkeys(names, shared)
    world.has("gone")
    guest = a_guest("g")
    world.snapshot = replace(world.snapshot, guests=dict.fromkeys(names, guest))
    for _ in range(100):
        assert world.fleets.of("gone").max_deletions == 1000
        world.fleets.of("g7")
    assert world.asked == len(world.domains)
    assert world.read == ["gone"], "no guest that has its document"


def test_a_host_is_heard_without_another_being_asked(world: World) -> None:
    """It comes in the host's own thread: one that hangs may not hold up another's."""
    world.has("one", "Delete", host="a")
    world.lost = {"b"}
    world.fleets.hear("a")
    assert world.asked == 1
    world.lost = {"a", "b"}
    world.fleets.hear("a")  # gone again: it counts as it was
    assert world.fleets.of("one").deletions == 1


def test_what_a_slow_host_was_asked_before_does_not_replace_what_it_said_since(
    world: World,
) -> None:
    """A document that was never good in this daemon's life; then its file is removed."""
    world.has("one", "Delete", host="a")
    later = world.snapshot
    world.snapshot = replace(later, guest_problems={"one": (Problem("f", 1, "", "wrong"),)})
    let_go, asked, owned = threading.Event(), threading.Event(), world.owned

    def slow(host: str) -> Collection[str]:
        answer = owned(host)
        if threading.current_thread().name == "slow":
            asked.set()
            let_go.wait(60)
        return answer

    world.owned = slow  # type: ignore[method-assign]
    hearing = threading.Thread(target=world.fleets.hear, args=("a",), name="slow")
    hearing.start()
    assert asked.wait(60)
    world.snapshot = later
    assert world.fleets.of("one").deletions == 1
    let_go.set()
    hearing.join()
    world.lost, world.now = {"a"}, 10.0
    assert world.fleets.of("other").deletions == 1


# --- All of them ----------------------------------------------------------------------------------


def test_a_wish_about_all_guests_outlives_the_daemon(world: World) -> None:
    world.wants(a_guest("web1"))
    assert not world.fleets.suspended
    world.fleets.suspend_all()
    world.fleets.suspend_all()
    assert world.daemon(Limit(1, 10)).of("web1").suspended
    assert world.fleets.of("gone").suspended
    world.fleets.resume_all()
    world.fleets.resume_all()
    assert not world.daemon(Limit(1, 10)).suspended
    assert list(world.state_dir.iterdir()) == []


def test_without_a_state_directory_nobody_is_suspended(tmp_path: Path) -> None:
    assert not World(tmp_path / "none").fleets.suspended


def test_the_time_of_an_orphan_is_of_no_account_to_the_guard(world: World) -> None:
    world.has("young", orphaned_since=NOW)
    world.has("old", orphaned_since=1.0)
    assert world.fleets.of("young").deletions == 2


def test_a_lost_place_makes_its_guest_wait_for_a_word(world: World) -> None:
    world.wants(lost=frozenset({"one"}), uncertain="team: is gone")
    assert world.fleets.of("one").empty
    assert world.fleets.of("one").uncertain == "team: is gone"
    assert not world.fleets.of("two").empty


def test_what_was_read_once_is_not_believed(world: World) -> None:
    world.wants(quiet=False)
    assert "not read often enough" in world.fleets.of("one").uncertain
