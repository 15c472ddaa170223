"""A guest without a document: what is done to it, when, and what never is."""

from dataclasses import replace
from typing import Any

import pytest

from controller.observed.domain import (
    DiskConfig,
    DiskVolume,
    DomainState,
    DomainView,
    GuestRecord,
    Replacement,
    ReplacePhase,
    RetiredDisk,
    StateReason,
    SystemDisk,
)
from controller.observed.guest import Failure, Fleet
from controller.planning.conditions import Printable, Status
from controller.planning.deletion.orphan import finish_deletion, plan_orphan, returned
from controller.planning.deletion.policy import (
    Ending,
    approved,
    awaits_approval,
    ending,
    is_ending,
)
from controller.planning.plan import Plan
from controller.planning.steps import StartDomain, UpdateRecord, step_name, update_record
from controller.planning.volumes.deletable import doomed_volumes, may_delete
from tests.factories import NOW, POLICY, a_domain, a_guest, an_image

ME = replace(POLICY, controller="me", prune_grace=600.0, daemon_started=NOW - 5000)
GUEST = a_guest(disks=[{"name": "data", "size": "1Gi"}])
GONE = NOW - 700  # its grace is over
DUE = NOW - 100


def an_orphan(
    policy: str = "Delete",
    state: DomainState = DomainState.RUNNING,
    *,
    run: int | None = 7,
    since: float | None = GONE,
    guest: Any = GUEST,
    **memory: Any,
) -> DomainView:
    fields = {"controller": "me", "deletion_policy": policy, "orphaned_since": since, **memory}
    domain = a_domain(guest, state, StateReason.SHUTDOWN)
    owner = domain.ownership
    assert owner is not None
    return replace(
        domain,
        ownership=replace(owner, record=GuestRecord(**fields)),
        run=run if state.active else None,
    )


def planned(domain: DomainView | None, now: float = NOW, fleet: Fleet | None = None) -> Plan:
    return plan_orphan("web1", domain, fleet or Fleet(), now, ME)


def names(made: Plan) -> list[str]:
    return [step_name(step) for step in made.steps]


def orphaned(made: Plan) -> tuple[str, str]:
    found = next(one for one in made.conditions if one.type == "Orphaned")
    return found.status.value, found.reason


def changed(made: Plan) -> dict[str, Any]:
    return {
        key: value
        for step in made.steps
        if isinstance(step, UpdateRecord)
        for key, value in step.changes
    }


def deleted(made: Plan) -> list[str]:
    return [step.volume for step in made.steps if step_name(step) == "DeleteVolume"]  # type: ignore[union-attr]


# --- Before anything happens ----------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["Retain", "Stop", "Delete", "", "Later"])
def test_at_first_sight_it_is_only_written_down(policy: str) -> None:
    made = planned(an_orphan(policy, since=None))
    assert made.steps == (update_record(orphaned_since=NOW),)
    assert orphaned(made) == ("True", "DocumentVanished")
    assert "its document is gone" in made.sentence


@pytest.mark.parametrize(("policy", "what"), [("Stop", "is stopped"), ("Delete", "are deleted")])
def test_until_the_grace_is_over_nothing_is_done_and_it_is_said_when(
    policy: str, what: str
) -> None:
    made = planned(an_orphan(policy, since=NOW - 599))
    assert made.steps == ()
    assert made.recheck_at == NOW + 1
    assert f"{what} at 2027-01-15 08:00:01 UTC" in made.sentence


def test_a_disappearance_in_the_future_is_another_clocks_and_begins_anew() -> None:
    made = planned(an_orphan(since=NOW + 9000))
    assert made.steps == (update_record(orphaned_since=NOW),)


@pytest.mark.parametrize("state", [DomainState.RUNNING, DomainState.SHUTOFF])
@pytest.mark.parametrize("policy", ["Retain", "", "Later"])
def test_a_retained_guest_is_left_for_ever(policy: str, state: DomainState) -> None:
    made = planned(an_orphan(policy, state, since=NOW - 3000))
    assert (made.steps, made.recheck_at) == ((), None)
    assert "deletionPolicy Retain" in made.sentence
    assert f"({state})" in made.sentence


def test_nothing_is_left_to_say_where_there_is_no_domain() -> None:
    assert planned(None).steps == ()


# --- What holds it back ---------------------------------------------------------------------------

EVERY_STATE = [state for state in DomainState]  # noqa: C416 - a list of the enum, as parameters
HELD = {
    "unreadable directory": (Fleet(uncertain="a.yaml:1: broken"), {}, "DirectoryUncertain"),
    "empty directory": (Fleet(empty=True, uncertain="no documents"), {}, "DirectoryUncertain"),
    "empty and believed, but not for it": (Fleet(empty=True), {}, "DirectoryUncertain"),
    "approved before it vanished": (
        Fleet(empty=True),
        {"deletion_approved": GONE - 1},
        "DirectoryUncertain",
    ),
    "too many": (Fleet(deletions=2, max_deletions=1), {}, "DeletionBlocked"),
    "a host that was not heard": (Fleet(deletions=1, unheard="b"), {}, "DeletionBlocked"),
    "one of too many before": (Fleet(deletions=1), {"deletion_blocked": True}, "DeletionBlocked"),
    "not seen to be gone for long": (Fleet(absent=599.0), {}, "DocumentVanished"),
    "its last document says so": (Fleet(last_policy="Retain"), {}, "DocumentVanished"),
    "another daemon's": (Fleet(), {"controller": "you"}, "OtherController"),
    "suspended": (Fleet(), {"suspended": True}, "DocumentVanished"),
    "all suspended": (Fleet(suspended=True), {}, "DocumentVanished"),
    "nobody's": (Fleet(), {"controller": ""}, "DocumentVanished"),
}


@pytest.mark.parametrize("since", [None, GONE, NOW - 1])
@pytest.mark.parametrize("policy", ["Retain", "Stop", "Delete"])
@pytest.mark.parametrize("state", EVERY_STATE)
@pytest.mark.parametrize("why", HELD)
def test_what_holds_it_back_holds_everything_back(
    why: str, state: DomainState, policy: str, since: float | None
) -> None:
    fleet, memory, _ = HELD[why]
    made = planned(an_orphan(policy, state, since=since, **memory), fleet=fleet)
    noted = {"orphaned_since", "deletion_blocked"}
    assert changed(made).keys() <= noted or policy == "Stop"
    assert not {*names(made)} & {"ShutdownDomain", "DestroyDomain", "DeleteVolume"}
    assert "UndefineDomain" not in names(made)
    assert "deleting" not in changed(made)


@pytest.mark.parametrize("why", HELD)
def test_what_holds_it_back_is_said(why: str) -> None:
    fleet, memory, reason = HELD[why]
    made = planned(an_orphan(**memory), fleet=fleet)
    assert orphaned(made)[1] == reason
    assert made.printable is Printable.UNKNOWN


def test_a_blocked_deletion_tells_how_many_the_limit_and_the_way_out() -> None:
    made = planned(an_orphan(), fleet=Fleet(deletions=12, max_deletions=3))
    assert "12 guests would be stopped or deleted" in made.sentence
    assert "at most 3" in made.sentence
    assert "guestkeeper approve --deletions" in made.sentence


def test_that_it_was_one_of_too_many_is_written_down_until_it_is_back() -> None:
    made = planned(an_orphan(), fleet=Fleet(deletions=2))
    assert changed(made) == {"deletion_blocked": True}
    assert planned(an_orphan(deletion_blocked=True), fleet=Fleet(deletions=2)).steps == ()
    assert changed(planned(an_orphan(suspended=True), fleet=Fleet(deletions=2)))
    assert planned(an_orphan(), fleet=Fleet(deletions=1, unheard="b")).steps == ()
    approved_since = an_orphan(deletion_blocked=True, deletion_approved=GONE)
    assert names(planned(approved_since, fleet=Fleet(deletions=2))) == [
        "UpdateRecord",
        "ShutdownDomain",
    ]
    assert returned(GuestRecord(deletion_blocked=True)) == update_record(deletion_blocked=False)


@pytest.mark.parametrize(
    ("fleet", "memory", "why"),
    [
        (Fleet(deletions=1, unheard="b"), {}, "host b was not heard since the daemon started"),
        (Fleet(deletions=1), {"deletion_blocked": True}, "it was one of more than 1"),
    ],
)
def test_why_one_alone_is_blocked_is_told(fleet: Fleet, memory: dict[str, Any], why: str) -> None:
    sentence = planned(an_orphan(**memory), fleet=fleet).sentence
    assert why in sentence
    assert "guestkeeper approve --deletions" in sentence


def test_the_grace_is_of_an_absence_that_this_daemon_saw() -> None:
    made = planned(an_orphan(), fleet=Fleet(absent=100.0))
    assert (made.steps, made.recheck_at) == ((), NOW + 500)


@pytest.mark.parametrize("since", [0.0, 86400.0 * 365, NOW - 3601])
def test_a_disappearance_before_the_guest_was_made_begins_anew(since: float) -> None:
    assert planned(an_orphan(since=since)).steps == (update_record(orphaned_since=NOW),)


# --- A stop of ours that was cut off --------------------------------------------------------------

CUT_OFF = {"stop_for": "restart", "shutdown_requested": NOW - 20, "stop_run": 7}


@pytest.mark.parametrize(
    "memory", [CUT_OFF, {**CUT_OFF, "stop_for": "replace"}, {"starting": True}]
)
@pytest.mark.parametrize(
    ("policy", "fleet", "problems"),
    [
        ("Retain", Fleet(), ()),
        ("Retain", Fleet(uncertain="x"), ()),
        ("Retain", Fleet(), ("bad",)),
        ("Delete", Fleet(deletions=9), ()),
        ("Stop", Fleet(absent=1.0), ()),
    ],
)
def test_what_we_took_down_for_something_else_is_put_up_again(
    memory: dict[str, Any], policy: str, fleet: Fleet, problems: tuple[str, ...]
) -> None:
    off = an_orphan(policy, DomainState.SHUTOFF, **memory)
    made = plan_orphan("web1", off, fleet, NOW, ME, problems=problems)
    start = made.steps[-1]
    assert isinstance(start, StartDomain)
    noted = dict(start.noted)
    assert (noted["stop_for"], noted["starting"]) == ("", True)
    assert "starting it" in made.sentence
    runs = an_orphan(policy, **{**memory, "starting": True, "stop_run": 6})
    after = plan_orphan("web1", runs, fleet, NOW, ME, problems=problems)
    assert changed(after)["starting"] is False
    assert "StartDomain" not in names(after)


@pytest.mark.parametrize(
    ("state", "memory", "fleet"),
    [
        (DomainState.SHUTOFF, {"controller": "you"}, Fleet()),
        (DomainState.SHUTOFF, {"suspended": True}, Fleet()),
        (DomainState.SHUTOFF, {}, Fleet(suspended=True)),
        (DomainState.SHUTOFF, {"stop_for": "halt"}, Fleet()),
        (DomainState.SHUTOFF, {"stop_for": ""}, Fleet()),
        (DomainState.SHUTOFF, {"deletion_policy": "Delete"}, Fleet()),
        (DomainState.PAUSED, {}, Fleet()),
    ],
)
def test_nothing_else_is_started(state: DomainState, memory: dict[str, Any], fleet: Fleet) -> None:
    policy = memory.pop("deletion_policy", "Retain")
    made = planned(an_orphan(policy, state, **{**CUT_OFF, **memory}), fleet=fleet)
    assert "StartDomain" not in names(made)


def test_a_retained_guest_is_not_blocked_by_others() -> None:
    made = planned(an_orphan("Retain"), fleet=Fleet(deletions=12, max_deletions=3))
    assert orphaned(made) == ("True", "DocumentVanished")


@pytest.mark.parametrize("fleet", [Fleet(deletions=9), Fleet(empty=True, uncertain="empty")])
def test_an_approved_deletion_goes_on_once_its_grace_is_over(fleet: Fleet) -> None:
    waiting = planned(an_orphan(since=NOW - 10, deletion_approved=NOW - 5), fleet=fleet)
    assert waiting.steps == ()
    due = planned(an_orphan(deletion_approved=GONE), fleet=fleet)
    assert names(due) == ["UpdateRecord", "ShutdownDomain"]


def test_approval_does_not_help_a_directory_that_cannot_be_read() -> None:
    made = planned(an_orphan(deletion_approved=NOW), fleet=Fleet(uncertain="x"))
    assert orphaned(made) == ("Unknown", "DirectoryUncertain")


@pytest.mark.parametrize("suspended", [False, True])
def test_a_document_that_cannot_be_used_is_there(suspended: bool) -> None:
    domain = an_orphan(suspended=suspended)
    made = plan_orphan("web1", domain, Fleet(), NOW, ME, problems=("web.yaml:3: bad",))
    assert made.steps == ()
    assert orphaned(made) == ("False", "DocumentInvalid")
    assert any(one.type == "Suspended" for one in made.conditions) is suspended


def test_a_domain_that_is_not_ours_is_never_an_orphan() -> None:
    foreign = replace(an_orphan(), ownership=None)
    clone = replace(an_orphan(), uuid="11111111-1111-1111-1111-111111111111")
    assert [planned(one).steps for one in (foreign, clone)] == [(), ()]


def test_without_a_word_of_this_daemon_nothing_is_written_into_the_domain() -> None:
    for controller in ("", "you"):
        assert planned(an_orphan(since=None, controller=controller)).steps == ()


@pytest.mark.parametrize(
    "fields",
    [
        {"state": DomainState.PAUSED},
        {"state": DomainState.PMSUSPENDED},
        {"state": DomainState.UNKNOWN},
        {"running_job": True},
        {"state": DomainState.CRASHED, "run": 7},
    ],
)
@pytest.mark.parametrize("policy", ["Stop", "Delete"])
@pytest.mark.parametrize("memory", [{}, {"deleting": True}])
def test_what_cannot_be_seen_to_be_safe_is_not_done(
    policy: str, fields: dict[str, Any], memory: dict[str, Any]
) -> None:
    made = planned(replace(an_orphan(policy, **memory), **fields))
    assert made.steps == ()
    assert orphaned(made) == ("True", "DeletionHeld")
    assert made.recheck_at == NOW + 30


@pytest.mark.parametrize("state", [DomainState.RUNNING, DomainState.SHUTOFF])
def test_in_an_empty_directory_that_is_meant_a_retained_guest_is_let_go(state: DomainState) -> None:
    made = planned(an_orphan("Retain", state), fleet=Fleet(empty=True))
    assert orphaned(made) == ("True", "DocumentVanished")


@pytest.mark.parametrize(
    ("step", "state", "left"),
    [
        ("ShutdownDomain", DomainState.RUNNING, []),
        ("DeleteVolume", DomainState.SHUTOFF, ["UpdateRecord"]),
        ("UndefineDomain", DomainState.SHUTOFF, ["UpdateRecord", "DeleteVolume"]),
    ],
)
def test_what_failed_waits_and_what_follows_it_waits_with_it(
    step: str, state: DomainState, left: list[str]
) -> None:
    failure = Failure(step, "Busy", "the pool is busy", NOW - 1, 1, NOW + 9, "")
    made = plan_orphan("web1", an_orphan(state=state), Fleet(), NOW, ME, failure=failure)
    assert (names(made), made.recheck_at) == (left, NOW + 9)
    assert f"{step} failed: the pool is busy" in made.sentence
    due = plan_orphan("web1", an_orphan(state=state), Fleet(), NOW + 9, ME, failure=failure)
    assert step in names(due)


# --- Stop -----------------------------------------------------------------------------------------

ASKED = {"shutdown_requested": NOW - 20, "stop_for": "delete", "stop_run": 7}


@pytest.mark.parametrize(
    ("policy", "printable"), [("Stop", Printable.STOPPING), ("Delete", Printable.TERMINATING)]
)
def test_it_is_asked_waited_for_and_then_powered_off(policy: str, printable: Printable) -> None:
    asking = planned(an_orphan(policy))
    assert names(asking) == ["UpdateRecord", "ShutdownDomain"]
    assert changed(asking) == {
        "stop_for": "delete",
        "stop_run": 7,
        "stop_wanted": NOW,
    }, "that it was asked is known once the call came back"
    waiting = planned(an_orphan(policy, DomainState.SHUTDOWN, **ASKED))
    assert (waiting.steps, waiting.recheck_at) == ((), NOW + 100)
    late = planned(an_orphan(policy, **ASKED), now=NOW + 101)
    assert names(late) == ["DestroyDomain"]
    assert {one.printable for one in (asking, waiting, late)} == {printable}


def test_a_request_of_before_the_daemon_started_costs_nobody_an_orderly_shutdown() -> None:
    late = replace(ME, daemon_started=NOW - 10)
    made = plan_orphan("web1", an_orphan(**ASKED), Fleet(), NOW + 101, late)
    assert names(made) == ["UpdateRecord", "ShutdownDomain"]


def test_the_documents_own_timeout_counts_where_it_is_known() -> None:
    domain = an_orphan(**ASKED)
    made = plan_orphan("web1", domain, Fleet(), NOW, ME, shutdown_timeout=10.0)
    assert names(made) == ["DestroyDomain"]


def test_a_guest_that_goes_down_by_itself_is_waited_for() -> None:
    made = planned(an_orphan(state=DomainState.SHUTDOWN))
    assert (made.steps, made.recheck_at) == ((), NOW + 5)


def test_a_stopped_guest_is_left_off() -> None:
    made = planned(an_orphan("Stop", DomainState.SHUTOFF, **ASKED))
    assert made.steps == ()
    assert made.printable is Printable.STOPPED
    assert not awaits_approval(an_orphan("Stop", DomainState.SHUTOFF), ME)


def test_a_guest_found_off_counts_as_stopped_and_whoever_starts_it_keeps_it() -> None:
    found = planned(an_orphan("Stop", DomainState.SHUTOFF))
    memory = changed(found)
    assert memory == {"shutdown_requested": NOW, "stop_for": "delete", "stop_run": None}
    started = an_orphan("Stop", **memory)
    made = planned(started, now=NOW + 1000)
    assert made.steps == ()
    assert "started again since" in made.sentence
    assert not awaits_approval(started, ME)


def test_a_stopped_guest_does_not_come_back_with_its_host() -> None:
    made = planned(replace(an_orphan("Stop"), autostart=True))
    assert names(made) == ["SetAutostart", "UpdateRecord", "ShutdownDomain"]


# --- Delete ---------------------------------------------------------------------------------------


def test_no_plan_both_stops_a_guest_and_deletes_its_disks() -> None:
    for state in DomainState:
        for now in (NOW, NOW + 10_000):
            for memory in ({}, ASKED, {"deleting": True}, {"deleting": True, **ASKED}):
                made = planned(an_orphan("Delete", state, **memory), now=now)
                if "DeleteVolume" in names(made) or "UndefineDomain" in names(made):
                    assert state in (DomainState.SHUTOFF, DomainState.CRASHED)
                    assert not {"ShutdownDomain", "DestroyDomain"} & {*names(made)}


def test_volumes_go_before_the_domain_and_after_it_is_written_down() -> None:
    domain = an_orphan(state=DomainState.SHUTOFF)
    made = planned(domain)
    assert names(made) == ["UpdateRecord", "DeleteVolume", "UndefineDomain"]
    assert changed(made) == {"deleting": True}
    assert deleted(made) == [f"web1-{domain.uuid[:8]}-system.qcow2"]
    assert orphaned(made) == ("True", "Deleting")
    assert made.printable is Printable.TERMINATING


@pytest.mark.parametrize("fleet", [Fleet(), Fleet(uncertain="x"), Fleet(deletions=9)])
@pytest.mark.parametrize("problems", [(), ("bad",)])
def test_a_deletion_that_began_is_finished_whatever_comes(
    fleet: Fleet, problems: tuple[str, ...]
) -> None:
    domain = an_orphan(state=DomainState.SHUTOFF, deleting=True, since=None)
    made = plan_orphan("web1", domain, fleet, NOW, ME, problems=problems)
    assert names(made) == ["DeleteVolume", "UndefineDomain"]
    assert made.steps == finish_deletion("web1", domain, NOW, ME).steps


def test_a_deletion_that_began_waits_for_an_operator_and_is_never_another_daemons() -> None:
    domain = an_orphan(state=DomainState.SHUTOFF, deleting=True, suspended=True)
    assert planned(domain).steps == ()
    others = an_orphan(state=DomainState.SHUTOFF, deleting=True, controller="you")
    assert planned(others).steps == ()
    assert finish_deletion("web1", others, NOW, ME).steps == ()


def test_one_that_was_started_while_it_is_deleted_is_stopped_first() -> None:
    made = finish_deletion("web1", an_orphan(deleting=True), NOW, ME)
    assert names(made) == ["UpdateRecord", "ShutdownDomain"]


def disk(volume: str, base: str = "gk-base-x.qcow2") -> SystemDisk:
    return SystemDisk("default", volume, base)


def test_every_system_disk_it_had_goes_and_nothing_else() -> None:
    domain = an_orphan(
        state=DomainState.SHUTOFF,
        volumes=(
            DiskVolume("disk-system", "default", "now.qcow2"),
            DiskVolume("disk-data", "default", "data.qcow2"),
        ),
        retired=(
            RetiredDisk(disk("old.qcow2"), NOW, "replaced"),
            RetiredDisk(disk("bad.qcow2"), NOW, "failed"),
            RetiredDisk(disk("data.qcow2"), NOW, "a lie in the metadata"),
        ),
        replacement=Replacement(
            disk("next.qcow2"), disk("now.qcow2"), "image", ReplacePhase.PREPARING, NOW
        ),
    )
    volumes = [one.volume for one in doomed_volumes(domain)]
    assert volumes == ["now.qcow2", "next.qcow2", "old.qcow2", "bad.qcow2"]


def with_disks(domain: DomainView, *disks: DiskConfig) -> DomainView:
    kept = [one for one in domain.config.disks if one.alias not in {new.alias for new in disks}]
    return replace(domain, config=replace(domain.config, disks=(*kept, *disks)))


def test_a_volume_that_somebody_else_put_in_is_not_deleted() -> None:
    domain = an_orphan(
        state=DomainState.SHUTOFF,
        volumes=(DiskVolume("disk-system", "default", "ours.qcow2"),),
    )
    swapped = with_disks(domain, DiskConfig("disk-system", "default", "theirs.qcow2"))
    assert [one.volume for one in doomed_volumes(swapped)] == ["ours.qcow2"]


@pytest.mark.parametrize("alias", ["disk-data", "cdrom-tools", "disk-unknown"])
def test_whatever_another_disk_is_on_stays(alias: str) -> None:
    domain = an_orphan(state=DomainState.SHUTOFF)
    system = next(one for one in domain.config.disks if one.alias == "disk-system")
    both = with_disks(domain, DiskConfig(alias, "default", system.volume, target="vdz"))
    assert list(doomed_volumes(both)) == []


def test_of_a_guest_that_stays_nothing_goes_that_it_uses() -> None:
    domain = an_orphan(
        volumes=(DiskVolume("disk-data", "default", "data.qcow2"),),
        retired=(RetiredDisk(disk("old.qcow2", "gk-base-old.qcow2"), NOW, "replaced"),),
        replacement=Replacement(
            disk("next.qcow2"), disk("back.qcow2"), "image", ReplacePhase.PREPARING, NOW
        ),
    )
    owner = domain.ownership
    assert owner is not None
    system = next(one.volume for one in domain.config.disks if one.alias == "disk-system")
    kept = ("data.qcow2", "gk-base-old.qcow2", "gk-base-x.qcow2", owner.base, "back.qcow2", "")
    for volume in (*kept, system or ""):
        assert not may_delete(domain, owner.record, "default", volume), volume
    for volume in ("old.qcow2", "next.qcow2"):
        assert may_delete(domain, owner.record, "default", volume), volume


def test_a_base_is_never_deleted_with_a_guest() -> None:
    domain = an_orphan(
        state=DomainState.SHUTOFF,
        volumes=(DiskVolume("disk-system", "default", "gk-base-x.qcow2"),),
        retired=(RetiredDisk(disk("old.qcow2"), NOW, "replaced"),),
    )
    assert [one.volume for one in doomed_volumes(domain)] == ["old.qcow2"]


def test_a_system_disk_in_no_pool_stays_and_is_told() -> None:
    domain = with_disks(
        an_orphan(state=DomainState.SHUTOFF), DiskConfig("disk-system", "", "/srv/x.qcow2")
    )
    made = planned(domain)
    assert deleted(made) == []
    assert "/srv/x.qcow2 is in no pool" in made.sentence


def test_the_seed_goes_and_a_medium_that_somebody_put_into_its_drive_does_not() -> None:
    domain = an_orphan(state=DomainState.SHUTOFF, guest=a_guest(image=an_image(cloudInit=True)))
    seed = f"web1-{domain.uuid[:8]}-seed.iso"
    assert [one.volume for one in doomed_volumes(domain)][1:] == [seed]
    theirs = DiskConfig("cdrom-seed", "iso", "rescue.iso", "raw", "cdrom", "sda")
    assert len(list(doomed_volumes(with_disks(domain, theirs)))) == 1
    empty = with_disks(domain, replace(theirs, volume=None))
    assert len(list(doomed_volumes(empty))) == 1, "it was used, and deleted then"
    owner = empty.ownership
    assert owner is not None
    young = replace(empty, ownership=replace(owner, digest=""))
    assert [one.volume for one in doomed_volumes(young)][1:] == [seed]


# --- Coming back, and the guard -------------------------------------------------------------------


def test_a_guest_that_was_never_away_has_nothing_written_down() -> None:
    assert returned(GuestRecord()) is None
    assert returned(GuestRecord(stop_for="halt", shutdown_requested=NOW)) is None


@pytest.mark.parametrize(
    ("memory", "changes"),
    [
        ({"orphaned_since": NOW}, {"orphaned_since": None}),
        (
            {"orphaned_since": NOW, "deletion_approved": NOW},
            {"orphaned_since": None, "deletion_approved": None},
        ),
        ({"stop_for": "delete", "stop_run": 7}, {"stop_for": "restart"}),
        ({"stop_for": "delete", "stop_run": None}, {"stop_for": ""}),
    ],
)
def test_a_guest_that_came_back_forgets_that_it_was_gone(
    memory: dict[str, Any], changes: dict[str, Any]
) -> None:
    assert returned(GuestRecord(**memory)) == update_record(**changes)


def test_only_who_looked_after_it_ends_it() -> None:
    record = GuestRecord(controller="me", deletion_policy="Delete")
    assert ending(record, ME) is Ending.DELETE
    assert ending(replace(record, controller="you"), ME) is Ending.RETAIN
    assert ending(replace(record, controller=""), ME) is Ending.RETAIN


@pytest.mark.parametrize(
    ("memory", "counts"),
    [
        ({}, True),
        ({"policy": "Stop"}, True),
        ({"policy": "Retain"}, False),
        ({"since": None}, True),
        ({"deletion_approved": NOW}, False),
        ({"deletion_approved": GONE - 1}, True),
        ({"suspended": True}, False),
        ({"deleting": True}, True),
        ({"controller": "you"}, False),
    ],
)
def test_the_guard_counts_what_would_go_unasked(memory: dict[str, Any], counts: bool) -> None:
    assert awaits_approval(an_orphan(**memory), ME) is counts


@pytest.mark.parametrize("memory", [{"suspended": True}, {"deletion_approved": NOW}])
def test_the_guard_counts_also_what_needs_no_word_of_an_operator(memory: dict[str, Any]) -> None:
    assert is_ending(an_orphan(**memory), ME)
    assert not awaits_approval(an_orphan(**memory), ME)


@pytest.mark.parametrize(
    ("noted", "last", "counts"),
    [
        ("Delete", "Retain", "Retain"),
        ("Retain", "Delete", "Retain"),
        ("Delete", "Stop", "Stop"),
        ("Stop", "Delete", "Stop"),
        ("Delete", "", "Delete"),
        ("Delete", "Later", "Delete"),
    ],
)
def test_the_milder_of_what_is_noted_and_what_was_last_read_counts(
    noted: str, last: str, counts: str
) -> None:
    assert ending(GuestRecord(controller="me", deletion_policy=noted), ME, last) == counts


def test_an_approval_is_of_the_disappearance_it_followed() -> None:
    assert approved(GuestRecord(orphaned_since=5, deletion_approved=5))
    assert not approved(GuestRecord(orphaned_since=5, deletion_approved=4))
    assert not approved(GuestRecord(deletion_approved=4))


def test_every_condition_of_a_doubtful_orphan_is_unknown_but_whether_it_runs() -> None:
    made = planned(an_orphan(), fleet=Fleet(uncertain="x"))
    statuses = {one.type.value: one.status for one in made.conditions}
    assert statuses.pop("Running") is Status.TRUE
    assert set(statuses.values()) == {Status.UNKNOWN}
