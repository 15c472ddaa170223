"""A guest and its installed image: not built yet, given up, and newer than the guest's disk."""

from dataclasses import replace

from controller.observed.domain import GuestRecord
from controller.observed.guest import Observed
from controller.observed.image import ImageState, ImageView
from controller.planning.conditions import Health, Printable, Sync
from controller.planning.plan import Plan
from controller.planning.planner import plan
from controller.planning.steps import DefineDomain, step_name
from tests.factories import (
    NOW,
    POLICY,
    a_domain,
    a_guest,
    a_ready_image,
    an_inside,
    an_install_image,
    observed,
)

OLD = "gk-base-rocky9-old.qcow2"
GUEST = a_guest(image=an_install_image())
STALLED = a_ready_image(
    name="rocky9",
    state=ImageState.FAILED,
    base=None,
    stalled=True,
    reason="InstallFailed",
    message="the installer reported a failure (phase: packages): no package nginx",
    log_tail="Error: nothing provides nginx",
)


def planned(seen: Observed) -> Plan:
    return plan(GUEST, seen, GuestRecord(), NOW, POLICY)


def running(image: ImageView | None, base: str = OLD, guest=GUEST) -> Plan:  # type: ignore[no-untyped-def]
    """A guest that is as wanted in all but its base."""
    domain = a_domain(guest)
    assert domain.ownership is not None
    owner = replace(domain.ownership, base=base)
    seen = observed(replace(domain, ownership=owner), inside=an_inside(guest), image=image)
    return plan(GUEST, seen, owner.record, NOW, POLICY)


def says(made: Plan, type: str) -> str:
    found = next(one for one in made.conditions if one.type == type)
    return f"{found.status}/{found.reason}: {found.message}"


def test_an_image_that_was_given_up_is_not_tried_and_its_log_and_remedy_are_told() -> None:
    made = planned(observed(image=STALLED))
    assert made.steps == ()
    assert made.printable is Printable.STALLED
    assert made.health is Health.DEGRADED
    for type in ("Provisioned", "Synced"):
        assert says(made, type).startswith("False/InstallFailed")
    stalled = says(made, "Stalled")
    assert stalled.startswith("True/InstallFailed")
    assert "guestkeeper retry rocky9" in stalled
    assert "guestkeeper logs image/rocky9" in stalled
    assert stalled.endswith("Error: nothing provides nginx")


def test_a_new_guest_remembers_the_base_it_was_made_from() -> None:
    made = planned(observed(image=a_ready_image(name="rocky9", base=OLD)))
    (define,) = (step for step in made.steps if isinstance(step, DefineDomain))
    assert define.ownership.base == OLD


def test_a_guest_of_the_present_base_is_synced() -> None:
    made = running(a_ready_image(name="rocky9", base=OLD))
    assert made.sync is Sync.SYNCED
    assert made.steps == ()


def test_a_guest_of_an_older_base_goes_on_and_waits_for_approval() -> None:
    made = running(a_ready_image(name="rocky9", base="gk-base-rocky9-new.qcow2"))
    assert made.sync is Sync.OUT_OF_SYNC
    assert says(made, "Synced").startswith("False/ReplaceRequired")
    assert "guestkeeper approve web1" in says(made, "Synced")
    assert made.replace_to == "gk-base-rocky9-new.qcow2"
    assert made.steps == ()
    assert made.printable is Printable.HEALTHY
    (change,) = made.changes
    assert (change.path, change.old, change.new) == ("image.base", OLD, "gk-base-rocky9-new.qcow2")
    assert str(change.change) == "replace"


def test_a_guest_whose_base_is_not_known_is_not_called_outdated() -> None:
    assert running(a_ready_image(name="rocky9", base="gk-new.qcow2"), base="").sync is Sync.SYNCED


def test_a_changed_content_is_built_beside_and_the_guest_is_outdated_at_once() -> None:
    older = a_guest(image=an_install_image(answer="# older\npoweroff\n"))
    missing = a_ready_image(name="rocky9", state=ImageState.MISSING, base=None)
    made = running(missing, guest=older)
    assert says(made, "Synced").startswith("False/ImageOutdated")
    assert "not built yet" in says(made, "Synced")
    assert [step_name(step) for step in made.steps] == ["PrepareImage"]


def test_what_is_being_built_or_was_given_up_is_not_asked_for() -> None:
    older = a_guest(image=an_install_image(answer="# older\npoweroff\n"))
    building = a_ready_image(name="rocky9", state=ImageState.PREPARING, base=None, message="x %")
    for image in (building, STALLED):
        made = running(image, guest=older)
        assert made.steps == ()
        assert says(made, "Synced").startswith("False/ImageOutdated")


def test_how_an_image_is_built_is_nothing_to_its_guests() -> None:
    other = a_guest(image=an_install_image(builder={"vcpus": 8}, timeout="5h", retries=3))
    made = running(a_ready_image(name="rocky9", base=OLD), guest=other)
    assert made.sync is Sync.SYNCED
