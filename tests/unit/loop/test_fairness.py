"""Hosts that hang, are slow, or have hung guests leave the others what they need.

What hangs here waits for an event that the test holds, so nothing is judged by the clock.
"""

import threading
import time
from collections.abc import Iterator

import pytest

from controller.desired.catalog.snapshot import Snapshot
from controller.execution.operations import Operations
from controller.lanes import Lane, Lanes, lane_of_guest
from controller.loop.queue import WorkQueue
from controller.loop.reconciler import Result
from controller.loop.status import StatusStore
from controller.loop.triggers import Resync, Triggers
from controller.loop.workers import Workers
from tests.waiting import wait_until

HOSTS = ("dead", "slow", "well1", "well2", "well3")
WORKERS = 8
GUESTS = 1000


class Loop:
    """Queue and workers over five hosts; passes on sick hosts wait to be let go."""

    def __init__(self, *sick: str) -> None:
        self.sick = sick
        self.hold = threading.Event()
        self.done: list[str] = []
        self.low: list[str] = []
        self.in_pass: list[str] = []
        lanes = Lanes(WORKERS, slow=0.05, places=3)
        self.queue = WorkQueue(
            time.monotonic, lanes=lanes, lane_of=lambda name: Lane(name.partition("-")[0])
        )
        self.workers = Workers(
            self.queue, self.reconcile, WORKERS, spare=lanes.most(len(HOSTS)) - WORKERS
        )
        self.most = lanes.most(len(HOSTS))
        self.workers.start()

    def reconcile(self, name: str, act: bool) -> Result:
        self.in_pass.append(name)
        if name.startswith(self.sick):
            self.hold.wait(60)
        self.in_pass.remove(name)
        (self.done if act else self.low).append(name)
        return Result("success")

    def held(self) -> int:
        return sum(name.startswith(self.sick) for name in list(self.in_pass))


@pytest.fixture
def loop() -> Iterator[Loop]:
    one = Loop("dead", "slow")
    yield one
    one.hold.set()
    assert one.workers.stop(10)


def guests(*hosts: str) -> list[str]:
    return [f"{host}-{number}" for number in range(GUESTS // len(HOSTS)) for host in hosts]


def test_hosts_whose_passes_hang_keep_no_worker_from_the_guests_of_others(loop: Loop) -> None:
    for name in guests(*HOSTS):
        loop.queue.add(name)
    well = set(guests("well1", "well2", "well3"))
    wait_until(lambda: well <= set(loop.done), 30, "every guest of the well hosts was looked at")
    assert not loop.hold.is_set()
    for _ in range(3):  # and again, with the sick ones known
        loop.done.clear()
        loop.queue.add_all(well)
        wait_until(lambda: well <= set(loop.done), 30, "and again")
    assert loop.workers.count <= loop.most
    assert loop.held() <= 2 * WORKERS, "the others wait in the queue, not in workers"
    loop.hold.set()
    wait_until(lambda: set(guests("dead", "slow")) <= set(loop.done), 60, "in the end all were")


def test_a_sick_host_that_is_known_has_few_passes_at_once(loop: Loop) -> None:
    loop.queue.add_all(guests("dead", "well1"))
    wait_until(lambda: set(guests("well1")) <= set(loop.done), 30, "the well ones are done")
    held = loop.held()
    loop.queue.add_all(guests("slow", "well1"))
    wait_until(lambda: loop.held() > held, 30, "the next sick host has its passes")
    assert held <= WORKERS
    assert loop.held() <= 2 * WORKERS


def test_a_hanging_look_of_the_resync_holds_up_no_other(loop: Loop) -> None:
    well = set(guests("well1", "well2"))
    loop.queue.add_all(["dead-1", "slow-1", *well], low=True)
    wait_until(lambda: well <= set(loop.low), 30, "the resync went on")
    beat_through(loop)


def beat_through(loop: Loop) -> None:
    beat = loop.workers.last_beat
    loop.workers.probe_progress()
    wait_until(lambda: loop.workers.last_beat > beat, 10, "the heartbeat comes through")


def test_with_all_hosts_hanging_the_heartbeat_comes_through_and_workers_are_bounded() -> None:
    loop = Loop(*HOSTS)
    try:
        loop.queue.add_all(guests(*HOSTS))
        wait_until(lambda: loop.held() >= WORKERS, 30, "all workers hang")
        for _ in range(5):
            beat_through(loop)
        assert loop.workers.count <= loop.most
    finally:
        loop.hold.set()
        loop.queue.close()
        assert loop.workers.stop(30)


def test_the_loop_is_stalled_without_heartbeats_and_by_a_pass_that_never_ends() -> None:
    now = 0.0
    queue = WorkQueue(lambda: now)
    hold, begun, passed = threading.Event(), threading.Event(), threading.Event()

    def reconcile(name: str, _: bool) -> Result:
        (begun if name == "stuck" else passed).set()
        if name == "stuck":
            hold.wait(60)
        return Result("success")

    workers = Workers(queue, reconcile, 2, clock=lambda: now)
    workers.start()
    queue.add("stuck")
    assert begun.wait(10)
    assert workers.stalled() == ""
    now = 3601.0
    assert workers.stalled() == "no worker was free for 3601 s"
    workers.probe_progress()
    wait_until(lambda: workers.last_beat == now, 10, "the heartbeat came through")
    assert workers.stalled() == "a pass over a guest has been going on for 3601 s"
    hold.set()
    queue.add("web1")
    assert passed.wait(10)
    wait_until(lambda: workers.stalled() == "", 10, "it has ended")
    assert workers.stop(10)


# --- long actions ---------------------------------------------------------------------------------


class Actions:
    """Looks inside: those into hung guests wait to be let go."""

    def __init__(self, workers: int = 16) -> None:
        self.hold = threading.Event()
        self.done: list[str] = []
        self.running: set[str] = set()
        self.operations = Operations(workers, on_done=self.done.append, slow=0.05)

    def start(self, key: str, lane: Lane, *, hung: bool = False) -> None:
        def action() -> None:
            self.running.add(key)
            if hung:
                self.hold.wait(60)
            self.running.discard(key)

        assert self.operations.start(key, "LookInside", action, lane)


@pytest.fixture
def actions() -> Iterator[Actions]:
    one = Actions()
    yield one
    one.hold.set()
    assert one.operations.stop(30)


def test_hanging_looks_into_a_hosts_guests_leave_the_threads_to_the_other_hosts(
    actions: Actions,
) -> None:
    hung = [f"hung{number}" for number in range(300)]
    well = [f"web{number}" for number in range(700)]
    for name in hung:
        actions.start(name, Lane("sick"), hung=True)
    for number, name in enumerate(well):
        actions.start(name, Lane(f"well{number % 4}"))
    wait_until(lambda: set(well) <= set(actions.done), 30, "every well guest was looked into")
    assert len(actions.running) <= 32
    assert actions.operations.threads <= 16 + 5 * 12


def test_guests_known_to_be_silent_wait_in_a_line_and_not_in_the_threads(actions: Actions) -> None:
    silent = [f"hung{number}" for number in range(300)]
    well = [f"web{number}" for number in range(700)]
    for name in silent:
        actions.start(name, lane_of_guest("one", silent=True), hung=True)
    for name in well:
        actions.start(name, lane_of_guest("one", silent=False))
    wait_until(lambda: set(well) <= set(actions.done), 30, "every well guest was looked into")
    assert len(actions.running) == 4
    assert all(actions.operations.current(name) for name in silent)
    actions.hold.set()
    wait_until(lambda: set(silent) <= set(actions.done), 30, "in the end all were")


def test_one_action_that_lasts_leaves_even_a_single_thread_to_others() -> None:
    actions = Actions(workers=1)
    actions.start("image", Lane("one", "images"), hung=True)
    wait_until(lambda: "image" in actions.running, 10, "it runs")
    actions.start("web1", Lane("one"))
    wait_until(lambda: "web1" in actions.done, 10, "the other was done")
    actions.hold.set()
    assert actions.operations.stop(10)


# --- the resync -----------------------------------------------------------------------------------


class Hosts:
    """Their bulk looks; that of ``dead`` waits to be let go."""

    def __init__(self) -> None:
        self.hold = threading.Event()
        self.looks: list[str] = []

    def hosts(self) -> list[str]:
        return list(HOSTS)

    def resync(self, host: str, *, deep: bool = False) -> set[str]:
        self.looks.append(host)
        if host == "dead":
            self.hold.wait(60)
        return {f"{host}-changed"}


def test_a_host_whose_bulk_look_hangs_keeps_no_other_from_its_resync() -> None:
    hosts = Hosts()
    told: list[str] = []
    triggers = Triggers(WorkQueue(time.monotonic), lambda: Snapshot(), StatusStore())
    triggers.on_event = lambda _host, name, _kind: told.append(name)  # type: ignore[method-assign]
    triggers.all = lambda: told.append("all")  # type: ignore[method-assign]
    resync = Resync(hosts, triggers, 60, 600)
    try:
        resync.once()
        well = {f"{host}-changed" for host in HOSTS if host != "dead"}
        assert set(told) == {"all", *well}
        resync.once()
        assert hosts.looks.count("dead") == 1, "it is not asked twice at a time"
        assert hosts.looks.count("slow") == 2
    finally:
        hosts.hold.set()
    wait_until(lambda: "dead-changed" in told, 10, "what changed there is told in the end")
