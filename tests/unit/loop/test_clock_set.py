"""The host's clock is set: nobody is powered off, deleted, kept waiting or left off by that."""

import time
from dataclasses import replace

import pytest

from controller.errors import PermanentError
from controller.observed.domain import DomainState, StateReason
from tests.fakes import Daemon
from tests.unit.loop.test_replacing import NEW, Site, guest
from tests.unit.loop.test_replacing_hard import passes, wishes

HOUR, DAY = 3600.0, 86400.0
SETS = [-8 * DAY, -HOUR, -60.0, 300.0, HOUR, 8 * DAY]


def restarted(site: Site) -> None:
    site.daemon = Daemon(site.world, site.documents)


def running(wanted) -> Site:  # type: ignore[no-untyped-def]
    site = Site(wanted)
    site.world.start("local", "web1")
    site.settle()
    site.world.effects.clear()
    return site


@pytest.mark.parametrize("by", SETS)
def test_a_guest_that_was_asked_to_shut_down_has_its_whole_time(by: float) -> None:
    site = running(guest())
    site.world.deaf.add("web1")
    wishes(site, restart_requested=site.world.clock())
    site.daemon.reconcile("web1")
    site.world.now += 3
    site.world.ahead += by
    for _ in range(10):
        site.world.now += 11
        site.daemon.reconcile("web1")
    assert site.downs() == ["shutdown"], "113 s of 120 s are over"
    site.world.now += 14
    passes(site, 5)
    assert site.downs() == ["shutdown", "destroy", "start"]


@pytest.mark.parametrize("by", SETS)
@pytest.mark.parametrize("died", [False, True])
def test_a_restart_by_an_operator_ends_in_a_guest_that_runs(by: float, died: bool) -> None:
    site = running(guest(runStrategy="Manual"))
    site.world.deaf.add("web1")
    wishes(site, restart_requested=site.world.clock())
    site.daemon.reconcile("web1")
    site.world.now += 3
    site.world.stop("web1", StateReason.SHUTDOWN)
    if died and abs(by) <= HOUR:  # whoever starts with a clock of last week knows of no promise
        restarted(site)
    site.world.ahead += by
    site.world.now += 5
    passes(site, 5)
    assert site.domain.state is DomainState.RUNNING


@pytest.mark.parametrize("by", SETS)
def test_a_step_that_failed_waits_for_as_long_as_it_says(by: float) -> None:
    site = running(guest())
    site.world.fail["define"] = PermanentError("no", reason="DefineRefused")
    site.documents.guests["web1"] = guest(title="other")
    result = site.daemon.reconcile("web1")
    assert result.after == pytest.approx(10)
    tries = len([call for call in site.world.calls if call[1].startswith("define")])
    site.world.ahead += by
    site.world.now += 8
    site.daemon.reconcile("web1")
    assert len([call for call in site.world.calls if call[1].startswith("define")]) == tries
    site.world.fail.clear()
    site.world.now += 3
    passes(site, 3, step=1.0)
    assert site.domain.config.title == "other"


def retired(ttl: str = "7d") -> Site:
    """A guest whose disk was replaced a moment ago; the old one is kept for a week."""
    site = Site(guest(updatePolicy={"replace": "Automatic", "retiredDiskTTL": ttl}))
    site.world.base = NEW
    site.settle()
    assert len(site.record.retired) == 1
    return site


def kept(site: Site) -> bool:
    return bool(site.record.retired)


@pytest.mark.parametrize("by", [8 * DAY, 80 * DAY])
def test_a_clock_that_is_wrong_for_a_day_costs_no_retired_disk(by: float) -> None:
    site = retired()
    site.world.now += 5 * DAY
    site.world.ahead += by
    for _ in range(24):
        site.world.now += HOUR
        passes(site, 2)
        assert kept(site)
    site.world.ahead -= by
    site.world.now += 3 * DAY
    passes(site, 3)
    assert not kept(site), "its week is over"


def test_a_daemon_that_starts_with_a_wrong_clock_deletes_nothing_before_it_is_set_right() -> None:
    site = retired()
    site.world.now += HOUR
    site.world.ahead = 8 * DAY
    restarted(site)
    passes(site, 5, step=60.0)
    site.world.ahead = 0.0
    for _ in range(48):
        site.world.now += HOUR
        passes(site, 1)
        assert kept(site)


def test_a_daemon_that_is_restarted_daily_comes_to_delete_it() -> None:
    site = retired()
    for _ in range(6):
        site.world.now += DAY
        restarted(site)
        passes(site, 2)
        assert kept(site)
    site.world.now += DAY + HOUR
    restarted(site)
    passes(site, 1)
    assert kept(site), "it has just started"
    site.world.now += 601
    passes(site, 2)
    assert not kept(site)


def test_what_a_clock_noted_that_was_behind_is_not_deleted_early_by_the_next_daemon() -> None:
    site = Site(guest(updatePolicy={"replace": "Automatic", "retiredDiskTTL": "2d"}))
    site.world.ahead = 5 * DAY  # as where the time came from the network after the start
    site.world.base = NEW
    site.settle()
    site.world.now += HOUR
    restarted(site)
    site.world.now += HOUR
    passes(site, 3)
    assert kept(site)


def test_a_maintenance_window_is_by_the_clock_that_everybody_sees() -> None:
    night = {"maintenanceWindows": [{"cron": "0 3 * * *", "duration": "1h"}]}
    policy = {"restart": "Automatic", **night}
    site = Site(guest(updatePolicy=policy, cpu={"vcpus": 1, "max": 4}))
    while time.gmtime(site.world.now)[3:5] != (12, 0):
        site.world.now += 60
    restarted(site)
    site.documents.guests["web1"] = guest(updatePolicy=policy, cpu={"vcpus": 1, "max": 8})
    passes(site, 5)
    site.world.effects.clear()
    site.world.ahead = 15.5 * HOUR
    site.world.now += 60
    passes(site, 5)
    assert site.downs() == ["shutdown", "start"], "it is half past three"


@pytest.mark.parametrize("by", SETS)
def test_a_replacement_has_its_whole_time_to_become_ready(by: float) -> None:
    wanted = guest(updatePolicy={"replace": "Automatic", "progressDeadline": "10m"})
    site = Site(wanted)
    site.world.base = NEW
    site.world.broken.add(NEW)
    passes(site, 12, step=0.1)
    assert site.record.replacement is not None
    assert site.record.replacement.swapped_at is not None
    site.world.ahead += by
    for _ in range(18):
        site.world.now += 30
        site.daemon.reconcile("web1")
    assert site.base() == NEW, "9 of 10 minutes are over"
    for _ in range(6):
        site.world.now += 30
        passes(site, 3, step=5.0)
    assert site.base() != NEW


def test_a_deadline_from_a_clock_that_was_ahead_is_no_deadline_of_next_week() -> None:
    site = Site(guest(updatePolicy={"replace": "Automatic", "progressDeadline": "10m"}))
    site.world.base = NEW
    site.world.broken.add(NEW)
    passes(site, 12, step=0.1)
    ongoing = site.record.replacement
    assert ongoing is not None
    assert ongoing.swapped_at is not None
    wishes(site, replacement=replace(ongoing, swapped_at=ongoing.swapped_at + 7 * DAY))
    restarted(site)
    for _ in range(30):
        site.world.now += 30
        passes(site, 3, step=5.0)
    assert site.base() != NEW
