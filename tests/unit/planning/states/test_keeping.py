"""What a domain is told of its guest at any time, for the day on which its document is gone."""

from dataclasses import replace
from typing import Any

import pytest

from controller.observed.domain import DomainState, GuestRecord, StateReason
from controller.observed.guest import Failure, Fleet
from controller.planning.plan import Plan
from controller.planning.planner import plan
from controller.planning.steps import UpdateRecord, step_name
from tests.factories import NOW, POLICY, a_domain, a_guest, a_ready_image, observed


def kept(domain_of: str = "Delete", now_wants: str = "Delete", **fields: Any) -> Plan:
    """The plan of a guest whose document was gone, or wanted something else, a while ago."""
    state = fields.pop("state", DomainState.RUNNING)
    fleet = fields.pop("fleet", Fleet())
    domain = a_domain(
        a_guest(deletionPolicy=domain_of), state, StateReason.USER, record=GuestRecord(**fields)
    )
    assert domain.ownership is not None
    seen = observed(domain, image=a_ready_image(), fleet=fleet)
    wanted = a_guest(deletionPolicy=now_wants)
    return plan(wanted, seen, domain.ownership.record, NOW, POLICY)


def noted(made: Plan) -> dict[str, Any]:
    return {
        name: value
        for step in made.steps
        if isinstance(step, UpdateRecord)
        for name, value in step.changes
    }


UNTOUCHED: list[dict[str, Any]] = [
    {"suspended": True},
    {"fleet": Fleet(suspended=True)},
    {"state": DomainState.PAUSED},
]


@pytest.mark.parametrize("fields", UNTOUCHED)
def test_what_is_left_alone_still_learns_what_its_document_says(fields: dict[str, Any]) -> None:
    made = kept("Delete", "Retain", orphaned_since=NOW - 10**6, **fields)
    assert noted(made) == {"deletion_policy": "Retain", "orphaned_since": None}
    assert [step_name(step) for step in made.steps] == ["UpdateRecord"]
    assert kept("Retain", "Retain", **fields).steps == ()


@pytest.mark.parametrize(
    "state", [DomainState.RUNNING, DomainState.SHUTOFF], ids=["running", "off"]
)
def test_so_does_one_that_is_looked_after(state: DomainState) -> None:
    made = noted(kept("Delete", "Retain", orphaned_since=NOW - 10**6, state=state))
    assert (made["deletion_policy"], made["orphaned_since"]) == ("Retain", None)


def test_a_deletion_that_began_does_not_lose_its_domain_before_its_disks() -> None:
    wanted = a_guest(deletionPolicy="Delete")
    domain = a_domain(wanted, DomainState.SHUTOFF, record=GuestRecord(deleting=True))
    assert domain.ownership is not None
    busy = Failure("DeleteVolume", "Busy", "busy", NOW - 1, 1, NOW + 60, wanted.digest)
    seen = observed(domain, image=a_ready_image())
    made = plan(wanted, seen, domain.ownership.record, NOW, POLICY)
    assert [step_name(step) for step in made.steps][-1] == "UndefineDomain"
    waits = plan(wanted, replace(seen, failure=busy), domain.ownership.record, NOW, POLICY)
    assert waits.steps == ()
    assert waits.recheck_at == busy.retry_at
