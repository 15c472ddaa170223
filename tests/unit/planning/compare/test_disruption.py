"""What each class of change costs a guest, and which word it waits for."""

import pytest

from controller.desired.schema.fields import Change
from controller.desired.schema.guest import UpdatePolicy
from controller.planning.compare.changes import FieldChange
from controller.planning.compare.impact import Disruption, Needs, disruption

STAGED = UpdatePolicy()
AUTOMATIC = UpdatePolicy(restart="Automatic", replace="Automatic")
SWAP = "stop, swap of the system disk, boot"


def cost(change: Change, policy: UpdatePolicy = STAGED, **state: bool) -> Disruption:
    return disruption(FieldChange("path", "old", "new", change), policy, **state)


@pytest.mark.parametrize(
    ("change", "told", "needs"),
    [
        (Change.CONTROLLER, "none", Needs.NOTHING),
        (Change.GUEST, "none, applied inside the guest", Needs.NOTHING),
        (Change.LIVE, "none, applied to the running guest", Needs.NOTHING),
        (Change.RESTART, "cold boot", Needs.RESTART),
        (Change.REPLACE, SWAP, Needs.APPROVE),
        (Change.IMMUTABLE, "refused", Needs.NOTHING),
    ],
)
def test_every_class_of_change_has_its_cost(change: Change, told: str, needs: Needs) -> None:
    assert cost(change) == Disruption(told, needs)


def test_every_class_is_known() -> None:
    assert all(cost(change).text for change in Change)


def test_what_is_done_by_itself_needs_nobody() -> None:
    assert cost(Change.RESTART, AUTOMATIC) == Disruption("cold boot")
    assert cost(Change.REPLACE, AUTOMATIC) == Disruption(SWAP)


def test_a_guest_that_is_off_is_not_disturbed() -> None:
    assert cost(Change.RESTART, running=False) == Disruption("none")
    assert cost(Change.LIVE, running=False) == Disruption("none")
    replaced = cost(Change.REPLACE, running=False)
    assert replaced == Disruption("swap of the system disk", Needs.APPROVE)
    assert cost(Change.IMMUTABLE, running=False) == Disruption("refused")


def test_a_guest_that_is_made_costs_nothing() -> None:
    assert {cost(change, exists=False) for change in Change} == {Disruption("none")}
