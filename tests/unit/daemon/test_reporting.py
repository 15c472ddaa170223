"""What is told an operator, and what is counted, as guests go through their lives."""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from controller.daemon.reporting import Reporting
from controller.execution.executor import Subject
from controller.journal.journal import Journal
from controller.loop.status import StatusStore
from controller.observed.domain import (
    DomainState,
    DomainView,
    GuestRecord,
    NicConfig,
    Replacement,
    ReplacePhase,
    StateReason,
    SystemDisk,
)
from controller.observed.guest import Fleet
from controller.planning import steps
from controller.planning.deletion.orphan import plan_orphan
from controller.planning.planner import plan
from controller.planning.steps import Step, update_record
from controller.telemetry.metrics import Metrics
from tests import factories as make

NOW = make.NOW
GUEST = make.a_guest(interfaces=[{"name": "lan", "network": "default"}])
OLD, NEW = SystemDisk("default", "old", "base-1"), SystemDisk("default", "new", "base-2")


class Told:
    """A telling with what it tells to."""

    def __init__(self) -> None:
        self.metrics = Metrics("1")
        self.journal = Journal(":memory:")
        self.telling = Reporting(self.journal, self.metrics, clock=lambda: NOW)
        self.store = StatusStore(self.telling.on_status, self.telling.on_drop)

    def did(self, domain: DomainView | None, step: Step, *, done: bool = True) -> None:
        subject = Subject(GUEST.name, "local", GUEST)
        self.telling.on_step(subject, make.observed(domain), step, done)

    def counted(self, name: str) -> dict[str, float]:
        """What stands between the braces -> how often; without the guest's name."""
        body = self.metrics.render()[0].decode()
        found = re.findall(rf"^guestkeeper_{name}{{(.*)}} (\S+)$", body, re.MULTILINE)
        return {
            ",".join(one for one in labels.split(",") if one != 'guest="web1"'): float(number)
            for labels, number in found
        }

    def events(self) -> list[tuple[str, bool]]:
        assert self.journal.flush()
        return [(event.reason, event.warning) for event in self.journal.events()]


@pytest.fixture
def told() -> Iterator[Told]:
    made = Told()
    yield made
    made.journal.close()


def off(reason: StateReason = StateReason.SHUTDOWN, **memory: Any) -> DomainView:
    return make.a_domain(GUEST, DomainState.SHUTOFF, reason, record=GuestRecord(**memory))


def running(live: Any = None, **memory: Any) -> DomainView:
    domain = make.a_domain(GUEST, record=GuestRecord(**memory))
    return replace(domain, live=live(domain.live)) if live is not None else domain


# --- Starts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("domain", "reason"),
    [
        (off(StateReason.CRASHED), "crashed"),
        (off(), "shutdown"),
        (off(stop_for="restart"), "restart"),
        (off(StateReason.DESTROYED, stop_for="replace"), "replace"),
        (off(StateReason.CRASHED, stop_for="replace"), "crashed"),
        (off(stop_for="halt"), "shutdown"),
    ],
)
def test_a_start_is_counted_by_what_it_was_stopped_for(
    told: Told, domain: DomainView, reason: str
) -> None:
    told.did(domain, steps.StartDomain("it is off"))
    assert told.counted("guest_restarts_total") == {f'reason="{reason}"': 1}


def test_a_first_start_is_no_restart_and_a_failed_one_neither(told: Told) -> None:
    told.did(None, steps.StartDomain("it is new"))
    told.did(off(), steps.StartDomain("it is off"), done=False)
    assert told.counted("guest_restarts_total") == {}
    assert told.counted("guest_start_failures_total") == {"": 1}


# --- Replacements ---------------------------------------------------------------------------------


def replacing(phase: ReplacePhase, why: str = "image") -> DomainView:
    return running(replacement=Replacement(NEW, OLD, why, phase, NOW - 40))


def cold_swap(domain: DomainView) -> steps.DefineDomain:
    assert domain.ownership is not None
    noted = (("replacement", None), ("approved", ""))
    return steps.DefineDomain(domain.config, domain.ownership, new=False, record=noted)


@pytest.mark.parametrize(
    ("phase", "why", "refused", "result", "seconds"),
    [
        (ReplacePhase.CONFIRMING, "image", "", "success", 40),
        (ReplacePhase.CONFIRMING, "rollback", "", "rolled-back", 40),
        (ReplacePhase.RETURNING, "image", NEW.base, "failed", 40),
        (ReplacePhase.PREPARING, "image", "", "cancelled", None),
    ],
)
def test_the_end_of_a_replacement_is_counted_and_timed(
    told: Told, phase: ReplacePhase, why: str, refused: str, result: str, seconds: float | None
) -> None:
    domain = replacing(phase, why)
    told.did(domain, update_record(start_attempts=1))
    told.did(domain, update_record(replacement=domain.ownership.record.replacement))  # type: ignore[union-attr]
    assert told.counted("guest_replacements_total") == {}
    told.did(domain, update_record(replacement=None, approved="", refused=refused))
    assert told.counted("guest_replacements_total") == {f'result="{result}"': 1}
    timed = told.counted("guest_phase_transition_seconds_sum")
    assert timed == ({} if seconds is None else {'phase="Replacing"': seconds})


def test_a_guest_that_stays_off_is_replaced_with_its_definition(told: Told) -> None:
    domain = replacing(ReplacePhase.PREPARING)
    told.did(domain, cold_swap(domain))
    assert told.counted("guest_replacements_total") == {'result="success"': 1}


def test_what_was_not_written_down_has_not_ended(told: Told) -> None:
    told.did(replacing(ReplacePhase.CONFIRMING), update_record(replacement=None), done=False)
    told.did(running(), update_record(replacement=None))
    assert told.counted("guest_replacements_total") == {}


# --- Drift ----------------------------------------------------------------------------------------


def without_nics(config: Any) -> Any:
    return replace(config, nics=())


def unplugged(config: Any) -> Any:
    return replace(config, nics=tuple(replace(nic, link="down") for nic in config.nics))


def with_another(config: Any) -> Any:
    extra = NicConfig("nic-spy", "network", "default", "52:54:00:00:00:01")
    return replace(config, nics=(*config.nics, extra))


@pytest.mark.parametrize(
    ("live", "step", "field"),
    [
        (lambda config: replace(config, vcpus=0), steps.SetVcpus(1), "cpu.vcpus"),
        (lambda config: replace(config, memory=2**20), steps.SetMemory(1), "memory.size"),
        (lambda config: replace(config, title="mine"), steps.SetTitle("", ""), "title"),
        (without_nics, steps.PlugDevice("nic-lan"), "interfaces[lan]"),
        (with_another, steps.UnplugDevice("nic-spy"), "interfaces[spy]"),
        (unplugged, steps.UpdateDevice("nic-lan"), "interfaces[lan].link"),
    ],
)
def test_what_only_the_running_domain_had_otherwise_is_drift(
    told: Told, live: Any, step: Step, field: str
) -> None:
    told.did(running(live), step)
    assert told.counted("guest_drift_total") == {f'field="{field}"': 1}


def test_what_differs_in_both_is_counted_once(told: Told) -> None:
    domain = running(unplugged)
    assert domain.live is not None
    both = replace(domain, config=domain.live)
    wanted = domain.config
    assert both.ownership is not None
    told.did(both, steps.DefineDomain(wanted, both.ownership, new=False))
    told.did(both, steps.UpdateDevice("nic-lan"))
    assert told.counted("guest_drift_total") == {'field="interfaces[lan].link"': 1}


def test_autostart_that_somebody_turned_is_drift(told: Told) -> None:
    told.did(running(), steps.SetAutostart(False))
    assert told.counted("guest_drift_total") == {'field="autostart"': 1}


def test_what_a_document_changed_is_no_drift(told: Told) -> None:
    domain = running(without_nics)
    assert domain.ownership is not None
    older = replace(domain, ownership=replace(domain.ownership, digest="older"))
    told.did(older, steps.PlugDevice("nic-lan"))
    assert told.counted("guest_drift_total") == {}


# --- News -----------------------------------------------------------------------------------------


def gone(told: Told, **fleet: Any) -> None:
    seen = Fleet(**fleet)
    record = GuestRecord(orphaned_since=NOW - 5)
    domain = make.a_domain(make.a_guest(deletionPolicy="Delete"), record=record)
    made = plan_orphan("web1", domain, seen, NOW, make.POLICY)
    told.store.put(GUEST, make.observed(domain, fleet=seen), made, NOW)


def there(told: Told, **seen: Any) -> None:
    domain = seen.pop("domain", None) or running()
    record = domain.ownership.record
    observed = make.observed(domain, inside=make.an_inside(GUEST), **seen)
    made = plan(GUEST, observed, record, NOW, make.POLICY)
    told.store.put(GUEST, observed, made, NOW)


def test_a_document_that_vanishes_and_a_deletion_that_is_held_back_are_news(told: Told) -> None:
    there(told)
    gone(told)
    gone(told, deletions=12)
    gone(told, deletions=13)
    assert told.events() == [
        ("GuestReady", False),
        ("DocumentVanished", True),
        ("DeletionBlocked", True),
    ]


def test_that_a_replacement_waits_or_failed_is_news(told: Told) -> None:
    newer = make.a_ready_image(base="base-2", base_path="/pool/base-2")
    there(told)
    there(told, image=newer)
    there(told, image=newer)
    refused = running(refused="base-2", refused_why="not ready within 900 s")
    there(told, image=newer, domain=refused)
    assert told.events() == [
        ("GuestReady", False),
        ("ReplaceRequired", False),
        ("ReplaceFailed", True),
    ]


def test_a_staged_change_is_news(told: Told) -> None:
    there(told)
    domain = running()
    assert domain.live is not None
    there(told, domain=replace(domain, live=replace(domain.live, firmware="efi")))
    assert told.events() == [("GuestReady", False), ("RestartRequired", False)]


def test_what_a_new_daemon_finds_waiting_is_no_news(told: Told) -> None:
    gone(told, deletions=12)
    assert told.events() == []
