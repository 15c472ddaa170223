"""Whose turn it is in a roll-out, from the facts about its guests."""

from dataclasses import replace
from typing import Any

import pytest

from controller.observed.domain import DomainState, GuestRecord, Replacement, ReplacePhase
from controller.planning.fleet.rollout import Peer, hold_in, is_able, queue_of
from tests.factories import NOW, a_domain, a_guest
from tests.unit.planning.deletion.test_orphans import disk

NEW = "gk-base-debian12-new.qcow2"


def peer(name: str, *, able: bool = True, base: str = NEW, **memory: Any) -> Peer:
    owner = a_domain(a_guest(name), record=GuestRecord(**memory)).ownership
    assert owner is not None
    return Peer(name, owner, base, automatic=True, able=able)


def hold(name: str, peers: list[Peer], max_parallel: int) -> str:
    return hold_in(name, queue_of(peers), max_parallel)[0]


def replacing(name: str) -> Peer:
    ongoing = Replacement(disk("n"), disk("o"), "image", ReplacePhase.PREPARING, NOW)
    return peer(name, replacement=ongoing)


def test_the_first_by_name_goes_first() -> None:
    peers = [peer("b"), peer("a"), peer("c")]
    assert hold("a", peers, 1) == ""
    assert hold("b", peers, 1) == "a comes first (rollout.maxParallel 1)"
    assert hold("b", peers, 2) == ""
    assert hold("c", peers, 2) == "a comes first (rollout.maxParallel 2)"


def test_one_that_is_being_replaced_counts_wherever_it_stands() -> None:
    assert hold("a", [peer("a"), replacing("z")], 1).startswith("z comes first")
    assert hold("a", [peer("a"), replacing("z")], 2) == ""


def test_one_that_cannot_go_is_not_waited_for() -> None:
    assert hold("b", [peer("a", able=False)], 1) == ""
    assert hold("b", [peer("a", base="gk-base-debian12-abc.qcow2")], 1) == ""


def test_a_failure_stops_the_others_and_says_why() -> None:
    why = "an operator went back from it"
    failed = peer("c", refused=NEW, refused_why=why)
    told = hold("b", [peer("b"), failed], 5)
    assert "c did not keep its new disk (an operator went back from it)" in told
    assert "guestkeeper approve b" in told
    assert hold("c", [peer("b"), failed], 5) == ""


def test_who_is_about_to_go_counts_and_who_was_passed_over_does_not() -> None:
    queue = queue_of([peer("a"), peer("b"), peer("c")])
    assert hold_in("c", queue, 1, busy=["b"])[0].startswith("b comes first")
    assert hold_in("b", queue, 1, passed={"a"}) == ("", ())
    assert hold_in("b", queue, 1) == ("a comes first (rollout.maxParallel 1)", ("a",))


@pytest.mark.parametrize(
    ("changes", "memory", "able"),
    [
        ({}, {}, True),
        ({"state": DomainState.SHUTOFF}, {}, True),
        ({"state": DomainState.PAUSED}, {}, False),
        ({"running_job": True}, {}, False),
        ({}, {"suspended": True}, False),
        ({}, {"rollback": True}, False),
    ],
)
def test_what_stands_in_the_way(
    changes: dict[str, Any], memory: dict[str, Any], able: bool
) -> None:
    domain = a_domain(a_guest("a"), record=GuestRecord(**memory))
    assert is_able(replace(domain, **changes)) is able
