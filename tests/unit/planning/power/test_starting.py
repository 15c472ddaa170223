"""Should a guest that is off be started? Whatever it was stopped for, and whoever stopped it."""

from dataclasses import replace
from typing import Any

import pytest

from controller.errors import (
    GuestkeeperError,
    HostBusyError,
    HostUnreachableError,
    PermanentError,
    TransientError,
)
from controller.observed.domain import DomainState, GuestRecord, StateReason
from controller.planning.conditions import Printable
from controller.planning.plan import Plan
from controller.planning.planner import plan
from controller.planning.steps import step_name
from tests.factories import NOW, POLICY, a_domain, a_guest, a_ready_image, observed
from tests.fakes import Daemon
from tests.unit.loop.test_replacing import Site, guest
from tests.unit.loop.test_replacing_hard import breaks, passes, vanishes, wishes

STRATEGIES = ["Always", "RerunOnFailure", "Manual", "Halted"]


def of(strategy: str, reason: StateReason, **memory: Any) -> Plan:
    wanted = a_guest(runStrategy=strategy)
    domain = a_domain(wanted, DomainState.SHUTOFF, reason, record=GuestRecord(**memory))
    assert domain.ownership is not None
    seen = observed(domain, image=a_ready_image())
    return plan(wanted, seen, domain.ownership.record, NOW, POLICY)


def starts(made: Plan) -> bool:
    return "StartDomain" in [step_name(step) for step in made.steps]


def test_a_crashed_domain_whose_qemu_is_kept_is_powered_off_before_it_is_started() -> None:
    wanted = guest()
    domain = a_domain(wanted, DomainState.CRASHED, StateReason.PANICKED)
    assert domain.ownership is not None
    kept = replace(domain, live=domain.config, run=7)
    made = plan(wanted, observed(kept), domain.ownership.record, NOW, POLICY)
    assert [step_name(step) for step in made.steps] == ["DestroyDomain"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_guest_that_was_migrated_away_is_not_started_a_second_time(strategy: str) -> None:
    assert not starts(of(strategy, StateReason.MIGRATED))


@pytest.mark.parametrize("stop_for", ["restart", "replace"])
@pytest.mark.parametrize(
    ("strategy", "ago", "expected"),
    [
        ("Always", 60, True),
        ("RerunOnFailure", 60, True),
        ("Manual", 60, True),
        ("Manual", 30 * 86400, False),
        ("Manual", -60, True),  # the clock was set back since
        ("Manual", -30 * 86400, False),
        ("Halted", 60, False),
    ],
)
def test_what_was_stopped_to_come_up_again_does_unless_that_is_long_ago(
    stop_for: str, strategy: str, ago: float, expected: bool
) -> None:
    made = of(
        strategy,
        StateReason.SHUTDOWN,
        stop_for=stop_for,
        shutdown_requested=NOW - ago,
        stop_run=1,
    )
    assert starts(made) is expected


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("attempts", [0, 2, 3])
def test_a_promised_start_is_tried_thrice_whatever_the_run_strategy(
    strategy: str, attempts: int
) -> None:
    made = of(
        strategy,
        StateReason.SHUTDOWN,
        starting=True,
        start_attempts=attempts,
        last_start_attempt=NOW - 1000,
    )
    kept_on = strategy == "Always"
    assert starts(made) is (strategy != "Halted" and (attempts < 3 or kept_on))


def test_a_wish_from_before_it_was_halted_does_not_start_it_a_month_later() -> None:
    site = Site()
    wishes(site, restart_requested=site.world.now)
    site.world.deaf.add("web1")
    site.daemon.reconcile("web1")
    site.world.stop("web1", StateReason.SHUTDOWN)
    site.documents.guests["web1"] = guest(runStrategy="Halted")
    site.settle()
    site.world.now += 30 * 86400
    site.world.effects.clear()
    site.documents.guests["web1"] = guest(runStrategy="Manual")
    site.settle()
    assert site.downs() == []


@pytest.mark.parametrize("happens", [vanishes, breaks])
def test_a_cold_boot_that_began_ends_without_its_document(happens: Any) -> None:
    site = Site()
    wishes(site, restart_requested=site.world.now)
    site.daemon.reconcile("web1")
    assert site.domain.state is DomainState.SHUTOFF
    happens(site.documents)
    passes(site, 10, step=100.0)
    assert site.domain.state is DomainState.RUNNING
    site.world.stop("web1", StateReason.SHUTDOWN)
    passes(site, 10, step=100.0)
    assert site.domain.state is DomainState.SHUTOFF, "once"


@pytest.mark.parametrize(
    "error",
    [
        HostBusyError("too many calls", retry_after=2),
        HostUnreachableError("no answer in time", reason="DeadlineExceeded"),
        TransientError("no thread", reason="NoThread", retry_after=5),
        TransientError("cannot acquire state change lock", reason="Busy"),
    ],
)
@pytest.mark.parametrize("strategy", ["Always", "Manual"])
def test_a_start_that_was_refused_is_none_and_breaks_no_promise(
    error: GuestkeeperError, strategy: str
) -> None:
    site = Site(guest(runStrategy=strategy))
    site.world.start("local", "web1")
    site.settle()
    wishes(site, restart_requested=site.world.now)
    site.world.fail["start"] = error
    site.daemon.reconcile("web1")
    attempts = site.record.start_attempts
    for _ in range(8):  # as often as any promise is kept
        site.daemon = Daemon(site.world, site.documents)
        passes(site, 20, step=60.0)
    assert site.domain.state is DomainState.SHUTOFF
    assert site.record.start_attempts == attempts
    assert site.plan.printable is not Printable.CRASH_LOOP
    site.world.fail.clear()
    site.world.now += 400
    passes(site, 10, step=10.0)
    assert site.domain.state is DomainState.RUNNING
    assert site.record.restart_requested is None


def test_a_start_that_was_tried_and_failed_counts() -> None:
    site = Site(guest(runStrategy="Manual"))
    site.world.start("local", "web1")
    site.settle()
    wishes(site, restart_requested=site.world.now)
    site.world.fail["start"] = PermanentError("no such device", reason="StartFailed")
    passes(site, 60, step=60.0)
    assert site.record.start_attempts == 3, "as often as a promise is kept"
    assert site.plan.printable is Printable.STOPPED


def test_a_host_that_was_away_for_a_night_in_the_middle_of_a_restart_costs_no_guest() -> None:
    site = Site(guest(runStrategy="Manual"))
    site.world.start("local", "web1")
    site.settle()
    wishes(site, restart_requested=site.world.now)
    site.daemon.reconcile("web1")
    assert site.domain.state is DomainState.SHUTOFF
    site.world.now += 9 * 3600
    site.daemon = Daemon(site.world, site.documents)
    passes(site, 5)
    assert site.domain.state is DomainState.RUNNING


@pytest.mark.parametrize("lives", [1, 3])
def test_a_cold_boot_that_does_not_help_is_not_done_again_whoever_dies_meanwhile(
    lives: int,
) -> None:
    boots = {"updatePolicy": {"restart": "Automatic"}, "cpu": {"vcpus": 1, "max": 4}}
    site = Site(guest(**boots))
    boots["cpu"] = {"vcpus": 1, "max": 8}
    site.documents.guests["web1"] = guest(**boots)
    real = site.world.start

    def stubborn(host: str, name: str) -> None:
        """What starts is not as it is defined."""
        real(host, name)
        live = replace(site.domain.config, max_vcpus=4)
        site.world.domains["web1"] = replace(site.domain, live=live)

    site.world.start = stubborn  # type: ignore[method-assign]
    before = site.world.runs
    for _ in range(lives):
        site.daemon = Daemon(site.world, site.documents)
        passes(site, 30)
    assert site.world.runs == before + 1
    assert "a cold boot did not apply it" in site.plan.sentence + str(site.plan.conditions)


def test_a_start_that_is_refused_again_and_again_is_tried_ever_more_rarely() -> None:
    site = Site()
    site.world.fail["start"] = TransientError("cannot acquire state change lock", reason="Busy")
    site.world.stop("web1", StateReason.CRASHED)
    site.world.calls.clear()
    end = site.world.now + 3600
    while site.world.now < end:
        passes(site, 1, step=20.0)
    starts = [call for call in site.world.calls if call[1].startswith("start")]
    assert 5 < len(starts) <= 25
    assert "cannot acquire state change lock" in site.plan.sentence
