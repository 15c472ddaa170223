"""The work queue's promises, each as a sentence."""

import threading

import pytest

from controller.loop.queue import BASE_DELAY, MAX_DELAY, WorkQueue


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(clock: Clock) -> WorkQueue:
    return WorkQueue(clock)


def take(queue: WorkQueue) -> str | None:
    return queue.get(timeout=0)


def test_adds_of_one_key_collapse_into_one_run(queue: WorkQueue) -> None:
    queue.add("a")
    queue.add("a")
    assert take(queue) == "a"
    queue.done("a")
    assert take(queue) is None


def test_a_key_in_work_is_not_handed_to_a_second_worker(queue: WorkQueue) -> None:
    queue.add("a")
    assert take(queue) == "a"
    queue.add("a")
    assert take(queue) is None


def test_an_add_during_the_run_leads_to_one_more_run(queue: WorkQueue) -> None:
    queue.add("a")
    take(queue)
    queue.add("a")
    queue.add("a")
    queue.done("a")
    assert take(queue) == "a"
    queue.done("a")
    assert take(queue) is None


def test_a_low_key_waits_behind_all_others(queue: WorkQueue) -> None:
    queue.add("resync", low=True)
    queue.add("event")
    assert [take(queue), take(queue)] == ["event", "resync"]


def test_an_event_lifts_a_low_key_and_it_still_runs_once(queue: WorkQueue) -> None:
    queue.add("a", low=True)
    queue.add("b", low=True)
    queue.add("b")
    assert [take(queue), take(queue), take(queue)] == ["b", "a", None]


def test_low_keys_leave_workers_free_for_urgent_ones(queue: WorkQueue) -> None:
    queue.add_all(["r1", "r2", "r3"], low=True)
    assert [take(queue), take(queue)] == ["r1", None]
    queue.add("event")
    assert take(queue) == "event"
    assert (queue.is_low("r1"), queue.is_low("event")) == (True, False)
    queue.done("r1")
    assert take(queue) == "r2"


def test_a_low_key_lifted_by_an_event_is_taken_though_the_low_ones_are_full(
    queue: WorkQueue,
) -> None:
    queue.add_all(["r1", "r2", "r3"], low=True)
    take(queue)
    queue.add("r3")
    assert take(queue) == "r3"


def test_the_first_key_goes_before_all_that_wait(queue: WorkQueue) -> None:
    queue.add("a")
    queue.add_first("heartbeat")
    assert [take(queue), take(queue)] == ["heartbeat", "a"]


def test_a_low_add_during_the_run_is_not_lost(queue: WorkQueue) -> None:
    queue.add("a")
    take(queue)
    queue.add("a", low=True)
    queue.done("a")
    assert take(queue) == "a"


def test_a_delayed_key_comes_when_its_time_has_come(queue: WorkQueue, clock: Clock) -> None:
    queue.add_after("a", 5)
    assert take(queue) is None
    clock.now = 5
    assert take(queue) == "a"


def test_of_two_delayed_adds_the_earlier_counts(queue: WorkQueue, clock: Clock) -> None:
    queue.add_after("a", 10)
    queue.add_after("a", 3)
    queue.add_after("a", 8)
    clock.now = 3
    assert take(queue) == "a"
    queue.done("a")
    clock.now = 20
    assert take(queue) is None


def test_each_failure_doubles_the_wait_up_to_the_cap(queue: WorkQueue, clock: Clock) -> None:
    waits = []
    for _ in range(20):
        queue.add_rate_limited("a")
        began = clock.now
        while take(queue) is None:
            clock.now += BASE_DELAY / 2 if clock.now - began < 1 else 1
        waits.append(clock.now - began)
        queue.done("a")
    assert waits[:4] == pytest.approx([BASE_DELAY * 2**n for n in range(4)], abs=BASE_DELAY)
    assert waits[-1] == pytest.approx(MAX_DELAY, abs=1.5)


def test_forgetting_begins_with_the_shortest_wait_again(queue: WorkQueue, clock: Clock) -> None:
    for _ in range(10):
        queue.add_rate_limited("a")
    clock.now = 1000
    take(queue)
    queue.done("a")
    queue.forget("a")
    queue.add_rate_limited("a")
    clock.now += BASE_DELAY
    assert take(queue) == "a"


def test_a_waiting_worker_is_woken_by_an_add() -> None:
    import time

    queue = WorkQueue(time.monotonic)
    got: list[str | None] = []
    worker = threading.Thread(target=lambda: got.append(queue.get(timeout=60)))
    worker.start()
    queue.add("a")
    worker.join(60)
    assert got == ["a"]


def test_closing_wakes_every_waiting_worker() -> None:
    import time

    queue = WorkQueue(time.monotonic)
    got: list[str | None] = []
    workers = [threading.Thread(target=lambda: got.append(queue.get())) for _ in range(3)]
    for worker in workers:
        worker.start()
    queue.close()
    for worker in workers:
        worker.join(60)
    assert got == [None] * 3


def test_stats_tell_depth_and_the_longest_run(clock: Clock) -> None:
    adds: list[int] = []
    queue = WorkQueue(clock, on_add=lambda: adds.append(1))
    queue.add("a")
    queue.add("b")
    take(queue)
    clock.now = 7
    stats = queue.stats()
    assert (stats.depth, len(adds)) == (1, 2)
    assert stats.longest_running_seconds == 7


def test_many_workers_never_share_a_key_and_lose_none() -> None:
    import time

    queue = WorkQueue(time.monotonic)
    busy: set[str] = set()
    lock = threading.Lock()
    runs: dict[str, int] = {}
    clashes: list[str] = []

    def work() -> None:
        while (key := queue.get(timeout=60)) is not None:
            with lock:
                if key in busy:
                    clashes.append(key)
                busy.add(key)
            with lock:
                busy.discard(key)
                runs[key] = runs.get(key, 0) + 1
                finished = sum(runs.values()) >= 1 and key == "last"
            queue.done(key)
            if finished:
                queue.close()

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for round_ in range(200):
        queue.add(f"k{round_ % 7}", low=round_ % 2 == 0)
    queue.add("last", low=True)
    for worker in workers:
        worker.join(60)
    assert not clashes
    assert set(runs) == {"last", *(f"k{n}" for n in range(7))}
