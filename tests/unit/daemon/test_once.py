"""One pass without a daemon ends when nothing more comes of waiting, and not before."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from controller.daemon.once import _ended, _queued
from controller.desired.effective import EffectiveGuest
from controller.loop.status import GuestStatus, StatusStore
from controller.observed.domain import (
    DomainState,
    GuestRecord,
    Replacement,
    ReplacePhase,
    StateReason,
    SystemDisk,
)
from controller.observed.guest import Fleet, Operation
from controller.observed.image import ImageState
from tests import factories as make
from tests.unit.web.support import a_status

NEW = "base-2"
NEWER = make.a_ready_image(base=NEW, base_path=f"/pool/{NEW}")
AUTOMATIC = {"replace": "Automatic", "restart": "Automatic"}
NEVER = [{"cron": "0 3 29 2 *", "duration": "1m", "timeZone": "UTC"}]


def a_house(operation: Operation | None = None) -> Any:
    return SimpleNamespace(operations=SimpleNamespace(current=lambda _: operation))


def told(guest: EffectiveGuest, **seen: Any) -> GuestStatus:
    now = make.NOW
    inside = make.an_inside(guest, looked_at=now)
    domain = seen.pop("domain", None) or make.a_domain(guest, started_at=now - 60)
    return a_status(guest, make.observed(domain, inside=inside, **seen), StatusStore(), now)


def remembering(
    guest: EffectiveGuest, state: DomainState = DomainState.RUNNING, **memory: Any
) -> Any:
    return make.a_domain(guest, state, record=GuestRecord(**memory), started_at=make.NOW - 60)


def as_wanted() -> GuestStatus:
    return told(make.a_guest())


def waits_for_approval() -> GuestStatus:
    return told(make.a_guest(), image=NEWER)


def failed_to_be_replaced() -> GuestStatus:
    guest = make.a_guest()
    domain = remembering(guest, refused=NEW, refused_why="not ready")
    return told(guest, image=NEWER, domain=domain)


def waits_for_a_window() -> GuestStatus:
    guest = make.a_guest(updatePolicy={**AUTOMATIC, "maintenanceWindows": NEVER})
    return told(guest, image=NEWER)


def waits_for_a_restart() -> GuestStatus:
    guest = make.a_guest()
    domain = make.a_domain(guest, started_at=make.NOW - 60)
    assert domain.live is not None
    return told(guest, domain=replace(domain, live=replace(domain.live, firmware="efi")))


def suspended() -> GuestStatus:
    guest = make.a_guest()
    return told(guest, image=NEWER, domain=remembering(guest, suspended=True))


def with_every_other_suspended() -> GuestStatus:
    return told(make.a_guest(), image=NEWER, fleet=Fleet(suspended=True))


def off_and_waiting_for_approval() -> GuestStatus:
    guest = make.a_guest(runStrategy="Halted")
    record = GuestRecord(finished=True)
    domain = make.a_domain(guest, DomainState.SHUTOFF, StateReason.SHUTDOWN, record=record)
    return told(guest, image=NEWER, domain=domain)


def paused() -> GuestStatus:
    guest = make.a_guest()
    return told(guest, domain=make.a_domain(guest, DomainState.PAUSED, StateReason.USER))


@pytest.mark.parametrize(
    "status",
    [
        as_wanted,
        waits_for_approval,
        failed_to_be_replaced,
        waits_for_a_window,
        waits_for_a_restart,
        suspended,
        with_every_other_suspended,
        off_and_waiting_for_approval,
        paused,
    ],
)
def test_what_waits_for_somebody_has_ended(status: Callable[[], GuestStatus]) -> None:
    made = status()
    assert _ended(a_house(), made), made.plan
    assert not _queued(made)


def is_replaced() -> GuestStatus:
    guest = make.a_guest()
    old, new = SystemDisk("default", "old"), SystemDisk("default", "new", NEW)
    ongoing = Replacement(new, old, "image", ReplacePhase.CONFIRMING, make.NOW)
    domain = remembering(guest, replacement=replace(ongoing, swapped_at=make.NOW, agent=True))
    return told(guest, image=NEWER, domain=replace(domain, agent_connected=False))


def is_stopped_for_a_cold_boot() -> GuestStatus:
    guest, now = make.a_guest(), make.NOW
    domain = remembering(
        guest, restart_requested=now, stop_for="restart", shutdown_requested=now, stop_run=1
    )
    return told(guest, domain=domain)


def waits_for_its_new_image() -> GuestStatus:
    guest = make.a_guest(updatePolicy=AUTOMATIC, image=make.an_image("debian13"))
    older = make.a_domain(make.a_guest(), started_at=make.NOW - 60)
    domain = replace(make.a_domain(guest, started_at=make.NOW - 60), ownership=older.ownership)
    preparing = make.a_ready_image(
        name="debian13", state=ImageState.PREPARING, base=None, message="uploading"
    )
    return told(guest, image=preparing, domain=domain)


@pytest.mark.parametrize(
    "status", [is_replaced, is_stopped_for_a_cold_boot, waits_for_its_new_image]
)
def test_what_goes_on_by_itself_has_not_ended(status: Callable[[], GuestStatus]) -> None:
    made = status()
    assert made.plan.steps == ()
    assert not _ended(a_house(), made), made.plan


def test_a_guest_that_is_worked_on_has_not_ended() -> None:
    assert not _ended(a_house(Operation("LookInside", 0.0)), as_wanted())


def test_a_guest_whose_turn_comes_later_is_asked_again() -> None:
    guest = make.a_guest(updatePolicy=AUTOMATIC)
    status = told(guest, image=NEWER, fleet=Fleet(hold="web0 comes first"))
    assert _ended(a_house(), status)
    assert _queued(status)
