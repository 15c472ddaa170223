"""Is a running guest asked to shut down, waited for or powered off? By what was asked, and when."""

from dataclasses import replace

import pytest

from controller.desired.effective import EffectiveGuest
from controller.errors import (
    GuestkeeperError,
    HostBusyError,
    HostUnreachableError,
    PermanentError,
    TransientError,
)
from controller.observed.domain import DomainState, GuestRecord, StateReason
from controller.observed.guest import Observed
from controller.planning.planner import plan
from controller.planning.power.stopping import StopFor, asked_to_stop, stop
from controller.planning.steps import step_name
from tests.factories import NOW, POLICY, a_domain, a_guest, a_ready_image, observed
from tests.fakes import Daemon
from tests.unit.loop.test_replacing import Site, guest
from tests.unit.loop.test_replacing_hard import passes, vanishes, wishes

ASK, WAIT, PLUG = ["UpdateRecord", "ShutdownDomain"], [], ["DestroyDomain"]


@pytest.mark.parametrize(
    ("ago", "steps"),
    [(-60, ASK), (0, WAIT), (119, WAIT), (120, PLUG), (700, PLUG), (720, ASK), (10**7, ASK)],
)
def test_a_request_counts_from_its_moment_until_long_after_its_deadline(
    ago: float, steps: list[str]
) -> None:
    domain = a_domain(a_guest(), started_at=None)
    record = GuestRecord(stop_for="restart", shutdown_requested=NOW - ago, stop_run=1)
    made = stop(domain, record, StopFor.RESTART, timeout=120, now=NOW)
    assert [step_name(step) for step in made.steps] == steps


@pytest.mark.parametrize(
    ("why", "run", "started_at", "since", "asked"),
    [
        (StopFor.RESTART, 1, NOW - 500, NOW - 900, True),
        (StopFor.RESTART, 1, None, NOW - 900, True),
        (StopFor.HALT, 1, NOW - 500, NOW - 900, False),  # it was for something else
        (StopFor.RESTART, 2, NOW - 500, NOW - 900, False),  # another run
        (StopFor.RESTART, 1, NOW - 50, NOW - 900, False),  # which began after it was asked
        (StopFor.RESTART, 1, None, NOW - 50, False),  # and may have, before the daemon started
    ],
)
def test_only_a_request_to_this_very_run_for_this_very_purpose_counts(
    why: StopFor, run: int, started_at: float | None, since: float, asked: bool
) -> None:
    domain = replace(a_domain(a_guest(), started_at=started_at), run=run)
    record = GuestRecord(stop_for="restart", shutdown_requested=NOW - 100, stop_run=1)
    assert asked_to_stop(domain, record, why, since=since) is asked


def test_a_guest_that_its_rebooted_host_started_is_asked_anew() -> None:
    wanted = a_guest(runStrategy="Halted", autostart=True)
    record = GuestRecord(stop_for="halt", shutdown_requested=NOW - 130, stop_run=1)
    domain = a_domain(wanted, record=record, started_at=NOW - 20)
    assert domain.ownership is not None
    seen = observed(domain, image=a_ready_image())
    made = plan(wanted, seen, domain.ownership.record, NOW, POLICY)
    assert [step_name(step) for step in made.steps] == ASK


def test_a_reboot_of_its_host_is_the_cold_boot_that_it_was_asked_for() -> None:
    site = Site()
    wishes(site, restart_requested=site.world.now)
    site.world.deaf.add("web1")
    site.daemon.reconcile("web1")
    assert site.record.stop_for == "restart"
    site.world.now += 20
    site.world.stop("web1", StateReason.OTHER)
    site.world.runs = 0  # libvirt counts its runs anew
    site.world.deaf.clear()
    site.daemon = Daemon(site.world, site.documents)
    site.world.now += 60
    site.world.effects.clear()
    passes(site, 40, step=30.0)
    assert site.downs() == ["start"]


def test_a_guest_that_cannot_even_be_asked_is_not_powered_off_for_that() -> None:
    site = Site()
    site.world.fail["shutdown"] = PermanentError("no ACPI", reason="NotSupported")
    wishes(site, restart_requested=site.world.now)
    passes(site, 3, step=1.0)
    assert "destroy" not in site.downs()
    site.world.fail.clear()
    site.world.now += 30
    site.world.effects.clear()
    passes(site, 60, step=30.0)
    assert site.downs()[-1] == "start"
    assert site.plan.settled


def test_a_suspension_that_comes_between_look_and_act_keeps_everything() -> None:
    site = Site(guest(deletionPolicy="Delete", runStrategy="Halted"))
    site.settle()
    vanishes(site.documents)
    site.daemon.reconcile("web1")
    site.world.now += 700
    look = site.daemon.reconciler._look
    real = look.at_orphan

    def meanwhile(name: str, known: object) -> Observed | None:
        seen = real(name, known)  # type: ignore[arg-type]
        wishes(site, suspended=True)
        return seen

    look.at_orphan = meanwhile  # type: ignore[method-assign]
    there = dict(site.world.volumes_there)
    passes(site, 5)
    assert "web1" in site.world.domains
    assert site.world.volumes_there == there


@pytest.mark.parametrize(
    "error",
    [
        HostBusyError("too many calls", retry_after=2),
        HostUnreachableError("no answer in time", reason="DeadlineExceeded"),
        TransientError("a job runs", reason="JobRunning"),
    ],
)
@pytest.mark.parametrize("wish", ["restart", "halt"])
def test_a_guest_that_was_not_asked_for_an_hour_serves_on_and_is_asked_then(
    error: GuestkeeperError, wish: str
) -> None:
    site = Site()
    site.world.fail["shutdown"] = error
    if wish == "restart":
        wishes(site, restart_requested=site.world.now)
    else:
        site.documents.guests["web1"] = guest(runStrategy="Halted")
    site.world.effects.clear()
    passes(site, 200, step=20.0)
    assert site.domain.state is DomainState.RUNNING
    assert site.downs() == []
    assert site.record.shutdown_requested is None
    site.world.fail.clear()
    site.world.now += 400
    passes(site, 10, step=20.0)
    assert site.downs() == (["shutdown", "start"] if wish == "restart" else ["shutdown"])


def test_it_has_its_whole_time_from_when_the_call_came_back() -> None:
    site = Site()
    site.world.deaf.add("web1")
    wishes(site, restart_requested=site.world.now)
    real = site.world.shutdown

    def slow(host: str, name: str, run: int | None) -> None:
        real(host, name, run)
        site.world.now += 25

    site.world.shutdown = slow  # type: ignore[method-assign]
    site.daemon.reconcile("web1")
    assert site.record.shutdown_requested == site.world.now
    site.world.now += 119
    site.daemon.reconcile("web1")
    assert site.domain.state is DomainState.RUNNING


def test_a_run_that_began_after_the_look_is_not_powered_off() -> None:
    site = Site()
    site.world.deaf.add("web1")
    wishes(site, restart_requested=site.world.now)
    site.daemon.reconcile("web1")
    site.world.now += 130
    look = site.daemon.reconciler._look
    real = look.at

    def meanwhile(wanted: EffectiveGuest) -> Observed:
        seen = real(wanted)
        site.world.stop("web1", StateReason.SHUTDOWN)
        site.world.start("local", "web1")
        return seen

    look.at = meanwhile  # type: ignore[method-assign]
    run = site.world.runs
    site.daemon.reconcile("web1")
    assert site.domain.run == run + 1
    assert site.domain.state is DomainState.RUNNING


def test_a_cold_boot_that_was_called_off_before_it_was_asked_for_leaves_nothing_behind() -> None:
    site = Site(guest(runStrategy="Manual"))
    site.world.start("local", "web1")
    site.settle()
    site.world.fail["shutdown"] = HostBusyError("too many calls", retry_after=2)
    boots = {"updatePolicy": {"restart": "Automatic"}, "cpu": {"vcpus": 1, "max": 8}}
    site.documents.guests["web1"] = guest(runStrategy="Manual", **boots)
    passes(site, 5, step=2.0)
    assert site.record.stop_for == "restart"
    site.documents.guests["web1"] = guest(runStrategy="Manual", cpu={"vcpus": 1, "max": 8})
    passes(site, 5, step=2.0)
    assert site.record.stop_for == ""
    site.world.stop("web1", StateReason.SHUTDOWN)  # by whoever uses it
    site.world.fail.clear()
    passes(site, 5, step=30.0)
    assert site.domain.state is DomainState.SHUTOFF


def test_what_an_older_version_wrote_down_before_it_asked_powers_nobody_off() -> None:
    site = Site()
    wishes(
        site,
        restart_requested=site.world.now,
        stop_for="restart",
        stop_run=site.domain.run,
        shutdown_requested=site.world.now,
    )
    site.world.now += 300
    site.daemon = Daemon(site.world, site.documents)  # the new version
    site.world.effects.clear()
    passes(site, 5)
    assert site.downs() == ["shutdown", "start"]
