"""What changes nothing is not done for ever: whatever it is, its pauses grow, which is told."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from controller.desired.effective import EffectiveGuest
from controller.errors import HostBusyError, HostUnreachableError
from controller.observed.domain import (
    DomainConfig,
    DomainState,
    DomainView,
    Ownership,
    StateReason,
)
from controller.observed.inside import InsideView
from controller.planning.conditions import ConditionType, Sync
from controller.planning.repetition import FREE, QUIET, pause
from tests.fakes import Daemon
from tests.unit.loop.test_replacing import Site, guest
from tests.unit.loop.test_replacing_hard import passes, vanishes, wishes

HOUR = 3600.0
OFTEN = 30
"""Times in an hour that something may be done in vain: three at once, six in growing pauses up to
five minutes, and then one in five minutes."""


def never_defined(site: Site) -> EffectiveGuest:
    """libvirt takes the definition, and gives back another."""
    real = site.world.define

    def define(host: str, config: DomainConfig, ownership: Ownership) -> None:
        real(host, config, ownership)
        has = site.domain
        site.world.domains["web1"] = replace(has, config=replace(has.config, max_vcpus=3))

    site.world.define = define  # type: ignore[method-assign]
    return guest(cpu={"vcpus": 1, "max": 4})


def defined_back_and_forth(site: Site) -> EffectiveGuest:
    """Another definition each time, as long as somebody has an answer to each."""
    real, times = site.world.define, iter(range(10**6))

    def define(host: str, config: DomainConfig, ownership: Ownership) -> None:
        real(host, config, ownership)
        has = site.domain
        other = replace(has.config, title=f"{next(times)}", max_vcpus=3)
        site.world.domains["web1"] = replace(has, config=other)

    site.world.define = define  # type: ignore[method-assign]
    return guest(cpu={"vcpus": 1, "max": 4})


def never_noted(site: Site) -> EffectiveGuest:
    real = site.world.set_ownership

    def set_ownership(host: str, name: str, ownership: Ownership) -> None:
        record = replace(ownership.record, agent_seen=False)
        real(host, name, replace(ownership, record=record))

    site.world.set_ownership = set_ownership  # type: ignore[method-assign]
    set_ownership("local", "web1", site.domain.ownership)  # type: ignore[arg-type]
    return guest()


def never_titled(site: Site) -> EffectiveGuest:
    site.world.set_title = _does_nothing(site, "set_title")  # type: ignore[method-assign]
    return guest(title="other")


def never_autostarted(site: Site) -> EffectiveGuest:
    site.world.set_autostart = _does_nothing(site, "set_autostart")  # type: ignore[method-assign]
    return guest(autostart=True)


def never_grown(site: Site) -> EffectiveGuest:
    site.world.grow_volume = _does_nothing(site, "grow_volume")  # type: ignore[method-assign]
    return guest_with("2Gi")


def guest_with(size: str) -> EffectiveGuest:
    wanted = guest()
    (disk,) = wanted.spec.disks
    disks = [disk.model_copy(update={"size": {"2Gi": 2 * 2**30}[size]})]
    spec = wanted.spec.model_copy(update={"disks": disks})
    return replace(wanted, spec=spec, digest=f"{wanted.digest}-{size}")


def never_powered_off(site: Site) -> EffectiveGuest:
    site.world.deaf.add("web1")
    site.world.destroy = _does_nothing(site, "destroy")  # type: ignore[method-assign]
    return guest(runStrategy="Halted")


def never_seen_inside(site: Site) -> EffectiveGuest:
    """What a look finds is always of an earlier run."""
    real = site.world.look

    def look(wanted: EffectiveGuest, domain: DomainView) -> InsideView:
        return replace(real(wanted, domain), looked_at=0.0)

    site.world.look = look  # type: ignore[method-assign]
    site.world.stop("web1", StateReason.CRASHED)
    return guest()


def _does_nothing(site: Site, name: str) -> Callable[..., None]:
    def call(*_: object, **__: object) -> None:
        with site.world._effect(f"{name} web1"):
            pass

    return call


VAIN = {
    "define": never_defined,
    "define anew": defined_back_and_forth,
    "set_ownership": never_noted,
    "set_title": never_titled,
    "set_autostart": never_autostarted,
    "grow_volume": never_grown,
    "destroy": never_powered_off,
    "look": never_seen_inside,
}


def an_hour(site: Site) -> None:
    """Looked at as soon as it asks for, and once a minute at least."""
    end = site.world.now + HOUR
    for _ in range(5000):
        result = site.daemon.reconcile("web1")
        site.world.now += min(result.after if result.after is not None else 0.05, 60.0)
        if site.world.now >= end:
            return
    raise AssertionError(f"5,000 looks and the hour is not over: {site.plan.sentence}")


@pytest.mark.parametrize("name", VAIN)
def test_what_is_done_in_vain_is_done_ever_more_rarely_and_told(name: str) -> None:
    site = Site()
    call = name.partition(" ")[0]
    site.documents.guests["web1"] = VAIN[name](site)
    site.world.effects.clear()
    an_hour(site)
    done = [one for one in site.world.effects if one.startswith(call)]
    assert FREE < len(done) <= OFTEN
    if site.domain.state is DomainState.RUNNING and name != "destroy":
        assert site.plan.sync is Sync.OUT_OF_SYNC
        assert site.reason() == "StepRepeated", site.plan.sentence
        assert "guestkeeper events web1" in site.plan.sentence


def test_another_document_an_operator_and_another_guest_wait_for_nothing() -> None:
    site = Site()
    real = site.world.define
    site.documents.guests["web1"] = never_defined(site)
    an_hour(site)
    assert site.reason() == "StepRepeated"
    site.world.define = real  # type: ignore[method-assign]
    site.documents.guests["web1"] = guest(cpu={"vcpus": 1, "max": 8})
    passes(site, 3, step=1.0)
    assert site.domain.config.max_vcpus == 8
    site.documents.guests["web1"] = never_defined(site)
    an_hour(site)
    site.world.define = real  # type: ignore[method-assign]
    wishes(site, restart_requested=site.world.now)
    passes(site, 6, step=1.0)
    assert site.domain.config.max_vcpus == 4


def test_a_document_that_is_changed_back_and_forth_is_followed_each_time() -> None:
    site = Site()
    one, other = guest(title="one", autostart=True), guest(title="other")
    for number in range(20):
        wanted = one if number % 2 else other
        site.documents.guests["web1"] = wanted
        passes(site, 6, step=1.0)
        assert site.domain.config.title == wanted.spec.title
        assert site.plan.sync is Sync.SYNCED, site.plan.sentence


def test_it_is_mended_by_itself_in_five_minutes_at_most() -> None:
    site = Site()
    real = site.world.define
    site.documents.guests["web1"] = never_defined(site)
    an_hour(site)
    site.world.define = real  # type: ignore[method-assign]
    until = site.world.now + 300
    while site.world.now < until:
        passes(site, 1)
    assert site.domain.config.max_vcpus == 4


def test_what_nothing_leans_on_holds_up_nothing_else() -> None:
    site = Site()
    never_titled(site)
    site.documents.guests["web1"] = guest(title="other")
    an_hour(site)
    site.world.insides["web1"] = replace(site.world.insides["web1"], hostname="x")
    site.world.now += 400
    passes(site, 5)
    assert site.world.insides["web1"].hostname == "web1"


def test_a_guest_that_is_stopped_and_started_a_lot_is_not_held_up() -> None:
    site = Site(guest(runStrategy="Always"))
    site.world.effects.clear()
    for _ in range(12):  # it does its work in two minutes and powers itself off
        site.world.now += 120
        site.world.stop("web1", StateReason.SHUTDOWN)
        passes(site, 6, step=1.0)
        assert site.domain.state is DomainState.RUNNING
        assert not site.record.starting


def test_a_disappeared_guest_that_cannot_be_powered_off_is_told_too() -> None:
    site = Site(guest(deletionPolicy="Delete"))
    site.world.deaf.add("web1")
    site.world.destroy = _does_nothing(site, "destroy")  # type: ignore[method-assign]
    vanishes(site.documents)
    site.world.effects.clear()
    told: set[str] = set()
    for _ in range(200):
        passes(site, 1, step=20.0)
        found = site.plan.condition(ConditionType.ORPHANED)
        assert found is not None
        told.add(found.message)
    assert FREE < site.world.effects.count("destroy web1") <= OFTEN
    assert [one for one in told if "power off the domain" in one and "was done" in one]


def test_a_start_that_nobody_knows_the_end_of_waits_longer_each_time() -> None:
    site = Site()
    site.world.fail["start"] = HostUnreachableError("no answer", reason="DeadlineExceeded")
    site.world.stop("web1", StateReason.CRASHED)
    site.world.calls.clear()
    an_hour(site)
    assert FREE < len(site.world.calls) <= OFTEN
    assert site.record.start_attempts <= 1


def test_a_host_that_refuses_is_asked_again_ever_later_until_it_does_not() -> None:
    site = Site()
    site.world.fail["define"] = HostBusyError("too many calls", retry_after=2)
    site.documents.guests["web1"] = guest(title="other")
    waits = [site.daemon.reconcile("web1").after for _ in range(7)]
    assert waits == [2, 4, 8, 16, 30, 30, 30]
    site.world.fail.clear()
    site.settle()
    site.world.fail["define"] = HostBusyError("too many calls", retry_after=2)
    site.documents.guests["web1"] = guest(title="third")
    assert site.daemon.reconcile("web1").after == 2


def test_pauses_grow_and_end_before_what_was_done_is_forgotten() -> None:
    pauses = [pause(times) for times in range(1, 12)]
    assert pauses == [0, 0, 10, 20, 40, 80, 160, 300, 300, 300, 300]
    assert max(pauses) < QUIET


def test_a_restarted_daemon_begins_anew() -> None:
    site = Site()
    real = site.world.define
    site.documents.guests["web1"] = never_defined(site)
    an_hour(site)
    site.world.define = real  # type: ignore[method-assign]
    site.daemon = Daemon(site.world, site.documents)
    passes(site, 2, step=1.0)
    assert site.domain.config.max_vcpus == 4
