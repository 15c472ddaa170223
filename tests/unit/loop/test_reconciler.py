"""The loop over a world in memory: what state it leaves, not which calls it makes."""

import pytest

from controller.errors import (
    GuestkeeperError,
    HostBusyError,
    HostUnreachableError,
    PermanentError,
    TransientError,
)
from controller.observed.domain import DomainState, StateReason
from controller.observed.health import ProbeStatus, ProbeView
from controller.observed.host import HostView
from controller.observed.image import ImageView
from controller.planning.conditions import Health, Printable, Sync
from tests.factories import a_file, a_guest, a_probe, a_service, an_image
from tests.fakes import Daemon, Documents, FakeWorld, KilledError

WEB = a_service(files=(a_file(),), probes=())
GUEST = a_guest(services=(WEB,), disks=[{"name": "data", "size": "1Gi"}])


@pytest.fixture
def world() -> FakeWorld:
    return FakeWorld()


@pytest.fixture
def daemon(world: FakeWorld) -> Daemon:
    return Daemon(world, Documents(GUEST))


def test_a_document_becomes_a_running_configured_guest(world: FakeWorld, daemon: Daemon) -> None:
    daemon.settle("web1")
    assert world.domains["web1"].state is DomainState.RUNNING
    assert len(world.volumes_there) == 2
    status = daemon.status.get("web1")
    assert status is not None
    assert (status.plan.sync, status.plan.health) == (Sync.SYNCED, Health.HEALTHY)
    owner = world.domains["web1"].ownership
    assert owner is not None
    assert owner.digest == GUEST.digest


def test_a_settled_guest_stays_untouched(world: FakeWorld, daemon: Daemon) -> None:
    daemon.settle("web1")
    effects = list(world.effects)
    for _ in range(5):
        daemon.reconcile("web1")
    assert world.effects == effects


def test_the_drift_interval_costs_one_look_and_nothing_else(
    world: FakeWorld, daemon: Daemon
) -> None:
    daemon.settle("web1")
    effects = len(world.effects)
    world.now += GUEST.spec.drift_interval + 1
    daemon.settle("web1")
    assert world.effects[effects:] == ["look web1"]


def test_a_killed_guest_is_started_again_at_once(world: FakeWorld, daemon: Daemon) -> None:
    daemon.settle("web1")
    world.now += 60
    world.stop("web1", StateReason.CRASHED)
    daemon.reconcile("web1")
    assert world.domains["web1"].state is DomainState.RUNNING


def test_a_guest_that_keeps_dying_waits_longer_each_time_also_across_daemons(
    world: FakeWorld,
) -> None:
    documents = Documents(GUEST)
    Daemon(world, documents).settle("web1")
    waits = []
    for _ in range(8):
        world.stop("web1", StateReason.CRASHED)
        died = world.now
        while world.domains["web1"].state is not DomainState.RUNNING:
            result = Daemon(world, documents).reconcile("web1")  # every pass a new daemon
            world.now += result.after or 0.0
        waits.append(round(world.now - died))
    assert waits == [0, 10, 40, 90, 160, 250, 300, 300]


def test_a_looping_guest_says_so(world: FakeWorld, daemon: Daemon) -> None:
    daemon.settle("web1")
    for _ in range(2):
        world.stop("web1", StateReason.CRASHED)
        daemon.reconcile("web1")
    status = daemon.status.get("web1")
    assert status is not None
    assert status.plan.printable is Printable.CRASH_LOOP
    assert "waits for 10 s" in status.plan.sentence


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("image", [an_image(), an_image(cloudInit=True)])
def test_killed_at_any_effect_a_new_daemon_ends_in_the_same_world(moment: str, image) -> None:  # type: ignore[no-untyped-def]
    guest = a_guest(services=(WEB,), image=image, disks=[{"name": "data", "size": "1Gi"}])
    calm = FakeWorld()
    Daemon(calm, Documents(guest)).settle("web1")
    for number in range(len(calm.effects)):
        world = FakeWorld()
        world.kill_at = (number, moment)
        with pytest.raises(KilledError):
            Daemon(world, Documents(guest)).settle("web1")
        Daemon(world, Documents(guest)).settle("web1")
        assert set(world.volumes_there) == set(calm.volumes_there)
        assert {n: d.config for n, d in world.domains.items()} == {
            n: d.config for n, d in calm.domains.items()
        }
        assert world.domains["web1"].state is DomainState.RUNNING
        creates = [effect for effect in world.effects if effect.startswith("create_volume")]
        assert len(creates) == len(set(creates)), "a volume was made twice"


def test_an_unreachable_host_is_no_data_and_nothing_is_done(
    world: FakeWorld, daemon: Daemon
) -> None:
    daemon.settle("web1")
    effects = len(world.effects)
    world.stop("web1", StateReason.CRASHED)
    world.view = HostView("local", "test:///", reachable=False, why="connection refused")
    daemon.reconcile("web1")
    status = daemon.status.get("web1")
    assert status is not None
    assert (status.plan.sync, status.plan.health) == (Sync.UNKNOWN, Health.UNKNOWN)
    assert len(world.effects) == effects


def test_a_host_that_is_too_busy_to_be_looked_at_changes_nothing_that_is_told(
    world: FakeWorld, daemon: Daemon
) -> None:
    daemon.settle("web1")
    before = daemon.status.get("web1")
    world.unreadable = HostBusyError("host local is busy", retry_after=3.0)
    result = daemon.reconcile("web1")
    assert (result.word, result.after) == ("requeue_after", 3.0)
    assert daemon.status.get("web1") is before
    world.unreadable = None
    daemon.settle("web1")
    assert daemon.status.get("web1") is not None


def test_a_guest_that_was_never_seen_says_that_its_host_is_too_busy(
    world: FakeWorld, daemon: Daemon
) -> None:
    world.unreadable = HostBusyError("host local is busy", retry_after=3.0)
    assert daemon.reconcile("web1").after == 3.0
    status = daemon.status.get("web1")
    assert status is not None
    assert status.plan.health is Health.UNKNOWN
    assert "host local is busy" in status.plan.sentence
    assert world.effects == []


def test_a_guest_of_a_host_that_is_being_connected_waits_and_nothing_is_told(
    world: FakeWorld, daemon: Daemon
) -> None:
    world.view = HostView("local", "test:///", reachable=False, why="not yet", connecting=True)
    assert daemon.reconcile("web1").word == "success"
    assert daemon.status.get("web1") is None
    assert world.effects == []


def test_a_failed_step_is_told_and_tried_again_when_its_time_has_come(
    world: FakeWorld, daemon: Daemon
) -> None:
    world.fail["define"] = TransientError("libvirt says no", reason="DefineRefused")
    daemon.reconcile("web1")
    result = daemon.reconcile("web1")
    status = daemon.status.get("web1")
    assert status is not None
    assert "libvirt says no" in status.plan.sentence
    assert result.word == "error"
    before = len(world.effects)
    daemon.reconcile("web1")
    assert len(world.effects) == before, "it was tried before its time"
    world.fail.clear()
    world.now += result.after or 0
    daemon.settle("web1")
    assert world.domains["web1"].state is DomainState.RUNNING


def test_a_pass_that_may_not_act_tells_and_asks_for_another(
    world: FakeWorld, daemon: Daemon
) -> None:
    result = daemon.reconciler.reconcile("web1", False)
    assert result.word == "requeue"
    assert world.effects == []
    assert daemon.status.get("web1") is not None


def test_a_busy_host_is_no_failure_of_the_guest(world: FakeWorld, daemon: Daemon) -> None:
    world.fail["define"] = HostBusyError("three calls are under way", retry_after=2)
    daemon.reconcile("web1")
    result = daemon.reconcile("web1")
    assert (result.word, result.after) == ("requeue_after", 2)
    assert daemon.knowledge.failure("web1") is None
    assert not [reason for _, reason in world.events if reason == "HostBusy"]


def test_a_look_that_fails_is_told_and_tried_again(world: FakeWorld, daemon: Daemon) -> None:
    daemon.settle("web1")
    world.unreadable = TransientError("its XML cannot be read", reason="DomainUnreadable")
    result = daemon.reconcile("web1")
    status = daemon.status.get("web1")
    assert status is not None
    assert "cannot be read" in status.plan.sentence
    assert status.plan.steps == ()
    assert result.word == "error"
    world.unreadable = None
    daemon.settle("web1")
    assert daemon.knowledge.failure("web1") is None


@pytest.mark.parametrize(
    "error",
    [
        TransientError("cannot open the base: Input/output error", reason="StorageFailed"),
        HostUnreachableError("no answer within 15 s", reason="DeadlineExceeded"),
        PermanentError("no access to the base", reason="AccessDenied"),
    ],
)
def test_a_guest_that_crashed_starts_though_its_base_cannot_be_looked_at_now(
    world: FakeWorld, daemon: Daemon, monkeypatch: pytest.MonkeyPatch, error: GuestkeeperError
) -> None:
    daemon.settle("web1")

    def view_image() -> ImageView:
        raise error

    monkeypatch.setattr(world, "view_image", view_image)
    world.now += 60
    world.stop("web1", StateReason.CRASHED)
    daemon.settle("web1")
    assert world.domains["web1"].state is DomainState.RUNNING
    status = daemon.status.get("web1")
    assert status is not None
    assert (status.plan.sync, status.plan.health) == (Sync.SYNCED, Health.HEALTHY)


def test_a_failed_apply_degrades_its_service_and_waits(world: FakeWorld, daemon: Daemon) -> None:
    world.fail["apply"] = PermanentError("nginx -t said no", reason="ApplyFailed")
    for _ in range(4):
        daemon.reconcile("web1")
    status = daemon.status.get("web1")
    assert status is not None
    assert status.plan.health is Health.DEGRADED
    ready = status.condition("ServicesReady")
    assert ready is not None
    assert (ready[0].reason, ready[0].message) == ("ApplyFailed", "nginx -t said no")
    looks = world.effects.count("look web1")
    daemon.reconcile("web1")
    assert world.effects.count("look web1") == looks


def test_a_vanished_document_leaves_its_guest_alone_and_says_so(
    world: FakeWorld, daemon: Daemon
) -> None:
    daemon.settle("web1")
    effects = len(world.effects)
    del daemon.documents.guests["web1"]
    daemon.documents.orphans["web1"] = GUEST
    world.stop("web1", StateReason.CRASHED)
    daemon.reconcile("web1")
    status = daemon.status.get("web1")
    assert status is not None
    assert status.condition("Orphaned") is not None
    assert world.effects[effects:] == ["set_ownership web1"], "since when it is noted, no more"
    assert world.domains["web1"].state is DomainState.SHUTOFF


def test_an_orphan_of_an_earlier_daemon_is_listed_too(world: FakeWorld, daemon: Daemon) -> None:
    daemon.settle("web1")
    later = Daemon(world, Documents())
    later.reconcile("web1")
    status = later.status.get("web1")
    assert status is not None
    assert status.guest is None
    assert status.condition("Orphaned") is not None


def test_a_document_broken_since_before_the_daemon_is_told_as_broken_not_as_gone(
    world: FakeWorld, daemon: Daemon
) -> None:
    daemon.settle("web1")
    later = Daemon(world, Documents())
    later.documents.broken["web1"] = ("guests.yaml:6: spec.memroy: unknown field",)
    later.reconcile("web1")
    synced = later.status.get("web1").condition("Synced")  # type: ignore[union-attr]
    assert synced is not None
    assert synced[0].reason == "DocumentInvalid"
    assert "guests.yaml:6" in synced[0].message


def test_since_is_kept_until_the_status_moves(world: FakeWorld, daemon: Daemon) -> None:
    daemon.settle("web1")
    first = daemon.status.get("web1").condition("Ready")  # type: ignore[union-attr]
    world.now += 100
    daemon.reconcile("web1")
    assert daemon.status.get("web1").condition("Ready") == first  # type: ignore[union-attr]


def test_probes_run_once_the_service_is_configured(world: FakeWorld) -> None:
    service = a_service(probes=(a_probe(),))
    guest = a_guest(
        services=(service,),
        interfaces=[{"name": "lan", "user": {"forwards": ["0.0.0.0:18080:80/tcp"]}}],
    )
    daemon = Daemon(world, Documents(guest))
    daemon.reconcile("web1")
    daemon.reconcile("web1")
    assert world.targets["web1"] == ()
    daemon.settle("web1")
    (target,) = world.targets["web1"]
    assert (target.address, target.port, target.inside) == ("127.0.0.1", 18080, False)


def test_a_failing_probe_asks_for_one_look_and_degrades_the_guest(world: FakeWorld) -> None:
    guest = a_guest(services=(a_service(probes=(a_probe(httpGet={"port": 80, "from": "guest"}),)),))
    daemon = Daemon(world, Documents(guest))
    daemon.settle("web1")
    world.now += 20
    view = ProbeView("web", "http", ProbeStatus.FAILURE, "connection refused", world.now)
    world.probe_views["web1"] = {("web", "http"): view}
    looks = world.effects.count("look web1")
    daemon.reconcile("web1")
    world.probe_views["web1"] = {("web", "http"): view}
    world.now += 1
    daemon.reconcile("web1")
    world.probe_views["web1"] = {("web", "http"): view}
    daemon.reconcile("web1")
    assert world.effects.count("look web1") == looks + 1
    status = daemon.status.get("web1")
    assert status is not None
    assert status.plan.health is Health.DEGRADED
    assert "connection refused" in status.plan.sentence
