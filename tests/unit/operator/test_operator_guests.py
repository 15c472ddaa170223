"""An operator's wishes: what is noted of them, what is told, and what is refused with a way out."""

from collections.abc import Collection
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from controller.errors import GuestkeeperError, HostUnreachableError, PermanentError
from controller.observed.domain import (
    DomainState,
    DomainView,
    GuestRecord,
    Replacement,
    ReplacePhase,
    RetiredDisk,
    StateReason,
    SystemDisk,
)
from controller.observed.guest import Fleet, Observed
from controller.operator.answers import NotNowError
from controller.planning.conditions import ConditionType
from controller.planning.deletion.orphan import plan_orphan
from tests import factories as make
from tests.unit.web.support import World, a_status

NEW = "gk-base-debian12-new.qcow2"
NIGHTLY = [{"cron": "0 3 * * *", "duration": "1m", "timeZone": "UTC"}]


class Office(World):
    """A world whose guests a requests acts on."""

    def has(self, name: str = "web1", domain: DomainView | None = None, **fields: Any) -> None:
        """A guest of that document; by default it runs and is as wanted."""
        memory, seen = fields.pop("record", None), fields.pop("seen", {})
        guest = make.a_guest(name, **fields)
        self.guests(*self.snapshot.guests.values(), guest)
        domain = domain or make.a_domain(guest, record=memory, started_at=self.now - 60)
        inside = make.an_inside(guest, looked_at=self.now)
        a_status(guest, make.observed(domain, inside=inside, **seen), self.store, self.now)

    def lost(self, name: str = "old1", policy: str = "Delete", **memory: Any) -> None:
        """A guest whose document is gone."""
        guest = make.a_guest(name, deletionPolicy=policy)
        known = {"orphaned_since": self.now - 60, **memory}
        domain = make.a_domain(guest, record=GuestRecord(**known), started_at=self.now)
        fleet = Fleet(deletions=12)
        made = plan_orphan(name, domain, fleet, self.now, make.POLICY)
        self.store.put(guest, make.observed(domain, fleet=fleet), made, self.now)

    def record(self, name: str = "web1") -> GuestRecord:
        domain = self.metadata.domain("local", name)
        assert domain is not None
        assert domain.ownership is not None
        return domain.ownership.record

    def events(self, name: str) -> list[str]:
        assert self.journal.flush()
        return [event.reason for event in self.journal.events(name)]

    def refusal(self, wish: str, *arguments: Any, **more: Any) -> str:
        if wish == "approve" and len(arguments) == 1:
            arguments = (*arguments, NEW)
        with pytest.raises(NotNowError) as refused:
            getattr(self.requests, wish)(*arguments, **more)
        assert self.metadata.written == []
        assert self.reconciled == []
        return str(refused.value)


@pytest.fixture
def office() -> Any:
    made = Office()
    yield made
    made.journal.close()


ONE_GUEST = ("suspend", "resume", "restart", "approve", "rollback", "retry")


# --- What every wish needs ------------------------------------------------------------------------


@pytest.mark.parametrize("wish", ONE_GUEST)
def test_a_guest_without_a_domain_has_nowhere_to_note_a_wish(office: Office, wish: str) -> None:
    office.has()
    guest = office.snapshot.guests["web1"]
    a_status(guest, make.observed(image=make.a_ready_image()), office.store, office.now)
    assert "web1 has no domain yet" in office.refusal(wish, "web1")


def test_one_that_was_undefined_while_it_was_suspended_is_made_anew_once_it_is_resumed(
    office: Office,
) -> None:
    office.has()
    office.requests.suspend("web1")
    office.reconciled.clear()
    guest = office.snapshot.guests["web1"]
    seen = make.observed(image=make.a_ready_image(), held=True)
    status = a_status(guest, seen, office.store, office.now)
    assert status.plan.steps == ()
    assert status.plan.is_true(ConditionType.SUSPENDED)
    assert "made anew" in office.requests.resume("web1")
    assert office.reconciled == ["web1"]
    assert not office.holds.held("web1")


@pytest.mark.parametrize("wish", ONE_GUEST)
def test_a_foreign_domain_is_for_adopting(office: Office, wish: str) -> None:
    domain = replace(make.a_domain(make.a_guest()), ownership=None)
    office.has(domain=domain)
    assert office.refusal(wish, "web1").endswith("to take it over: guestkeeper adopt web1")


@pytest.mark.parametrize("wish", ONE_GUEST)
def test_where_the_host_is_silent_nothing_is_noted(office: Office, wish: str) -> None:
    office.has()
    lost = Observed(make.a_host(reachable=False, why="connection refused"))
    a_status(office.snapshot.guests["web1"], lost, office.store, office.now)
    shown = [NEW] if wish == "approve" else []
    with pytest.raises(HostUnreachableError, match=r"host local of web1 does not answer \(conn"):
        getattr(office.requests, wish)("web1", *shown)
    assert office.metadata.written == []


@pytest.mark.parametrize("wish", ONE_GUEST)
def test_a_guest_that_was_never_looked_at_is_told_so(office: Office, wish: str) -> None:
    assert "try again in a moment" in office.refusal(wish, "web1")


@pytest.mark.parametrize("wish", ["restart", "approve", "rollback", "retry"])
def test_nothing_is_done_to_a_suspended_guest(office: Office, wish: str) -> None:
    office.has(record=GuestRecord(suspended=True))
    assert office.refusal(wish, "web1").endswith("first: guestkeeper resume web1")
    office.has("web2")
    office.fleet.suspended = True
    assert office.refusal(wish, "web2").endswith("first: guestkeeper resume --all")


@pytest.mark.parametrize("wish", ["restart", "approve", "rollback", "retry"])
def test_nothing_is_done_to_a_guest_without_a_document(office: Office, wish: str) -> None:
    office.lost()
    assert "the document of old1 is gone" in office.refusal(wish, "old1")


@pytest.mark.parametrize("wish", ["restart", "approve", "rollback"])
def test_a_replacement_under_way_comes_first(office: Office, wish: str) -> None:
    disk = SystemDisk("default", "web1-system.qcow2")
    ongoing = Replacement(disk, disk, "image", ReplacePhase.CONFIRMING, office.now)
    office.has(record=GuestRecord(replacement=ongoing))
    assert "is under way (confirming)" in office.refusal(wish, "web1")


# --- suspend, resume ------------------------------------------------------------------------------


def test_a_suspended_guest_is_left_alone_until_it_is_resumed(office: Office) -> None:
    office.has()
    assert "to go on: guestkeeper resume web1" in office.requests.suspend("web1")
    assert office.record().suspended
    status = office.store.get("web1")
    assert status is not None
    assert status.plan.is_true(ConditionType.SUSPENDED)
    assert "already" in office.requests.suspend("web1")
    assert "looked after again" in office.requests.resume("web1")
    assert not office.record().suspended
    assert office.reconciled == ["web1", "web1"]
    assert office.events("web1") == ["GuestSuspended", "GuestResumed"]


def test_an_orphan_can_be_suspended(office: Office) -> None:
    office.lost()
    office.requests.suspend("old1")
    assert office.record("old1").suspended


def test_what_is_not_suspended_cannot_be_resumed(office: Office) -> None:
    office.has()
    assert office.refusal("resume", "web1").startswith("web1 is not suspended")
    assert office.refusal("resume_all") == "the guests are not suspended as a whole"
    office.has("web2", record=GuestRecord(suspended=True))
    assert office.refusal("resume_all").endswith("to go on with web2: guestkeeper resume web2")


def test_all_guests_are_suspended_and_resumed_at_once(office: Office) -> None:
    office.has(record=GuestRecord(suspended=True))
    office.has("web2")
    assert "guestkeeper resume --all" in office.requests.suspend_all()
    assert office.fleet.suspended
    assert "every guest is suspended" in office.requests.resume("web1")
    assert "every guest is suspended" in office.requests.resume("web2")
    office.requests.suspend("web1")
    assert office.requests.resume_all().endswith("still suspended by name: web1")
    assert not office.fleet.suspended
    assert office.reconciled[0] == office.reconciled[-1] == "*"


def test_a_state_directory_that_is_full_is_told(office: Office) -> None:
    office.fleet.full = True
    with pytest.raises(PermanentError, match=r"state_dir.*No space left") as refused:
        office.requests.suspend_all()
    assert refused.value.reason == "StateDirUnusable"


# --- restart --------------------------------------------------------------------------------------


def test_a_cold_boot_is_asked_for(office: Office) -> None:
    office.has(shutdownTimeout="90s")
    assert office.requests.restart("web1") == (
        "web1 is asked to shut down now (it has 90 s), and started again"
    )
    assert office.record().restart_requested == office.now
    assert office.reconciled == ["web1"]
    assert office.events("web1") == ["RestartRequested"]


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (DomainState.SHUTOFF, "web1 is off (shutoff), so there is nothing to restart"),
        (DomainState.CRASHED, "web1 is off (crashed), so there is nothing to restart"),
        (DomainState.PAUSED, "first: virsh resume web1"),
    ],
)
def test_only_a_running_guest_can_be_restarted(
    office: Office, state: DomainState, told: str
) -> None:
    office.has(domain=make.a_domain(make.a_guest(), state, StateReason.USER))
    assert told in office.refusal("restart", "web1")


def test_a_guest_that_shall_be_off_is_not_restarted(office: Office) -> None:
    office.has(runStrategy="Halted")
    assert "change that in guests.yaml" in office.refusal("restart", "web1")


# --- approve --------------------------------------------------------------------------------------


def outdated(office: Office, **fields: Any) -> None:
    """Its image has another base by now."""
    image = make.a_ready_image(base=NEW, base_path=f"/pool/{NEW}")
    office.has(seen={"image": image}, **fields)


def test_the_base_of_the_present_plan_is_approved(office: Office) -> None:
    outdated(office)
    assert NEW in office.requests.approve("web1", NEW)
    assert (office.record().approved, office.record().approved_now) == (NEW, False)
    assert office.events("web1") == ["ReplacementApproved"]
    status = office.store.get("web1")
    assert status is not None
    assert status.plan.replace_to == ""


def test_an_approval_waits_for_the_window_unless_it_says_now(office: Office) -> None:
    outdated(office, updatePolicy={"maintenanceWindows": NIGHTLY})
    assert "guestkeeper approve web1 --now" in office.requests.approve("web1", NEW)
    assert "as soon as" not in office.requests.approve("web1", NEW, now=True)
    assert office.record().approved_now


@pytest.mark.parametrize("shown", ["gk-base-debian12-older.qcow2", ""])
def test_what_nobody_was_shown_is_not_approved(office: Office, shown: str) -> None:
    outdated(office)
    told = office.refusal("approve", "web1", shown)
    assert f"a system disk of {NEW} that web1 waits" in told
    assert (shown or "no base was named") in told


def test_where_nothing_waits_nothing_is_approved(office: Office) -> None:
    office.has()
    assert office.refusal("approve", "web1").startswith("nothing of web1 waits for approval")


def test_what_failed_can_be_approved_again(office: Office) -> None:
    outdated(office, record=GuestRecord(refused=NEW, refused_why="not ready"))
    office.requests.approve("web1", NEW)
    assert office.record().approved == NEW


# --- rollback, retry ------------------------------------------------------------------------------


def retired(volume: str, since: float, why: str) -> RetiredDisk:
    return RetiredDisk(SystemDisk("default", volume), since, why)


def test_the_last_disk_that_worked_comes_back(office: Office) -> None:
    disks = (
        retired("one", 1, "replaced"),
        retired("two", 2, "replaced"),
        retired("three", 3, "failed"),
    )
    office.has(record=GuestRecord(retired=disks))
    assert "boots from default/two" in office.requests.rollback("web1")
    assert office.record().rollback
    assert office.events("web1") == ["RollbackRequested"]


def test_without_an_earlier_disk_there_is_no_way_back(office: Office) -> None:
    office.has()
    assert office.refusal("rollback", "web1").endswith("to go back to: none is kept")
    office.has("web2", record=GuestRecord(retired=(retired("one", 1, "failed"),)))
    assert office.refusal("rollback", "web2").endswith("the one that is kept did not come up")


def test_a_base_that_failed_is_tried_again(office: Office) -> None:
    failed = {"refused": NEW, "refused_why": "not ready within 900 s"}
    office.has(record=GuestRecord(**failed))
    assert "guestkeeper approve web1" in office.requests.retry("web1")
    assert (office.record().refused, office.record().refused_why) == ("", "")
    automatic = {"updatePolicy": {"replace": "Automatic"}}
    office.has("web2", record=GuestRecord(**failed), **automatic)
    assert "once more" in office.requests.retry("web2")
    assert office.events("web2") == ["RetryRequested"]


def test_where_nothing_failed_nothing_is_tried_again(office: Office) -> None:
    office.has()
    assert office.refusal("retry", "web1").startswith("nothing of web1 is held back")


# --- deletions ------------------------------------------------------------------------------------


def test_the_ends_of_orphans_are_approved(office: Office) -> None:
    office.lost()
    office.lost("old2", "Stop")
    office.lost("old3", "Retain")
    office.has()
    assert [(one.guest, one.policy) for one in office.requests.deletions()] == [
        ("old1", "Delete"),
        ("old2", "Stop"),
    ]
    told = office.requests.approve_deletions(())
    assert told["old1"].startswith(
        "old1 is stopped and deleted with its system disk once its document was gone"
    )
    assert told["old2"].startswith("old2 is stopped once its document was gone")
    for name in ("old1", "old2"):
        record = office.record(name)
        assert record.deletion_approved == office.now
        assert record.orphaned_since == office.now - 60
    assert office.record("old3").deletion_approved is None
    assert office.requests.deletions() == []
    assert office.believed == 1


def test_only_those_that_were_shown_are_approved(office: Office) -> None:
    office.lost()
    office.lost("old2")
    assert list(office.requests.approve_deletions(["old2"])) == ["old2"]
    assert [one.guest for one in office.requests.deletions()] == ["old1"]


def test_who_has_a_document_is_not_deleted(office: Office) -> None:
    office.has()
    assert "no guest whose document is gone" in office.refusal("approve_deletions", ())
    office.lost()
    told = office.refusal("approve_deletions", ["old1", "web1"])
    assert told.startswith("web1 does not wait to be stopped or deleted")


def test_of_an_empty_directory_every_guest_is_asked_about(office: Office) -> None:
    """What is not believed to be gone is not noted before an operator says so."""
    office.has(deletionPolicy="Delete")
    office.has("web2")
    office.snapshot = replace(office.snapshot, empty=True, uncertain="it has no documents")
    assert [(one.guest, one.policy) for one in office.requests.deletions()] == [
        ("web1", "Delete"),
        ("web2", "Retain"),
    ]
    told = office.requests.approve_deletions(())
    assert told["web2"] == "web2 stays as it is, and nobody looks after it"
    assert office.record().orphaned_since == office.record().deletion_approved == office.now
    assert office.record("web2").deletion_approved is None
    assert office.believed == 1


def test_of_a_lost_place_its_guests_are_asked_about_and_only_they(office: Office) -> None:
    for name in ("web1", "web2", "web3"):
        office.has(name, deletionPolicy="Delete")
    office.snapshot = replace(
        office.snapshot, lost=frozenset({"web1", "web2"}), uncertain="team: is gone"
    )
    assert [one.guest for one in office.requests.deletions()] == ["web1", "web2"]
    assert list(office.requests.approve_deletions(["web2"])) == ["web2"]
    assert (office.believed, office.meant) == (1, ["web2"])
    assert office.record("web1").deletion_approved is None
    assert office.record("web2").deletion_approved == office.now


def test_what_cannot_be_known_to_be_gone_is_not_approved(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Office, __: Collection[str]) -> None:
        raise PermanentError("the directory may be unmounted", reason="DirectoryUncertain")

    monkeypatch.setattr(Office, "_believe", refuse)
    office.lost()
    with pytest.raises(GuestkeeperError, match="may be unmounted"):
        office.requests.approve_deletions(())
    assert office.metadata.written == []


def test_nothing_is_deleted_while_every_guest_is_suspended(office: Office) -> None:
    office.lost()
    office.fleet.suspended = True
    assert "guestkeeper resume --all" in office.refusal("approve_deletions", ())


def test_guests_of_other_hosts_keep_their_place(office: Office) -> None:
    """The wish goes to the host that has the domain."""
    guest = make.a_guest("far1", host="far")
    office.snapshot = replace(office.snapshot, guests=MappingProxyType({"far1": guest}))
    seen = replace(make.observed(make.a_domain(guest)), host=make.a_host(name="far"))
    a_status(guest, seen, office.store, office.now)
    office.requests.suspend("far1")
    assert office.record("far1").suspended
