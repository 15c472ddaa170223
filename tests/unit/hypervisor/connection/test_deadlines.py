"""A call comes back in time, or is left behind; it never holds up another."""

import threading

import pytest

from controller.errors import HostBusyError, HostUnreachableError, TransientError
from controller.hypervisor.connection.deadlines import DeadlineError, Deadlines
from tests.waiting import wait_until


def test_a_call_returns_what_the_function_returns() -> None:
    one = Deadlines("host")
    assert one.call("add", lambda: 1 + 1, 5) == 2
    assert one.abandoned == 0


def test_what_the_function_raises_is_raised_to_the_caller() -> None:
    def fail() -> None:
        raise ZeroDivisionError("no")

    with pytest.raises(ZeroDivisionError, match="no"):
        Deadlines("host").call("fail", fail, 5)


def test_a_passed_deadline_tells_that_nothing_was_learnt() -> None:
    hold = threading.Event()
    one = Deadlines("host")
    with pytest.raises(HostUnreachableError, match=r"host: look did not answer within 0\.05 s"):
        one.call("look", hold.wait, 0.05)
    assert (one.abandoned, one.workers) == (1, 0)
    hold.set()
    wait_until(lambda: one.abandoned == 0, 5, "the stuck worker came back")


def test_one_worker_serves_again_and_again() -> None:
    one = Deadlines("host")
    threads = {one.call("who", threading.current_thread, 5) for _ in range(20)}
    assert len(threads) == 1


def test_a_stuck_call_holds_up_no_other_even_with_one_worker() -> None:
    hold = threading.Event()
    one = Deadlines("host", workers=1)
    for _ in range(3):
        with pytest.raises(DeadlineError):
            one.call("look", hold.wait, 0.02)
        assert one.call("add", lambda: 2, 5) == 2
    assert one.abandoned == 3
    hold.set()
    wait_until(lambda: one.abandoned == 0, 5, "the stuck workers came back")
    assert one.workers <= 1, "the surplus ends"
    assert one.call("add", lambda: 3, 5) == 3


def test_a_host_that_swallows_calls_is_refused_further_ones() -> None:
    hold = threading.Event()
    one = Deadlines("host", workers=4, abandoned=2)
    for _ in range(2):
        with pytest.raises(DeadlineError):
            one.call("look", hold.wait, 0.02)
    with pytest.raises(HostBusyError, match="2 calls are stuck, add is not tried"):
        one.call("add", lambda: 1, 5)
    hold.set()
    wait_until(lambda: one.abandoned == 0, 5, "the stuck workers came back")
    assert one.call("add", lambda: 1, 5) == 1


def test_calls_that_never_come_back_do_not_refuse_others_for_ever() -> None:
    now, hold = 0.0, threading.Event()
    one = Deadlines("host", workers=4, abandoned=2, pause=10, clock=lambda: now)
    for _ in range(2):
        with pytest.raises(DeadlineError):
            one.call("look", hold.wait, 0.02)
    now = 9.0
    with pytest.raises(HostBusyError) as caught:
        one.call("add", lambda: 1, 5)
    assert caught.value.retry_after == 2
    now = 10.0
    assert one.call("add", lambda: 1, 5) == 1, "one is tried, and it came back"
    assert [one.call("add", lambda: 2, 5) for _ in range(5)] == [2] * 5, "so others may"
    assert one.abandoned == 2
    hold.set()


def test_as_long_as_every_try_is_swallowed_they_grow_rare() -> None:
    now, hold, tried = 0.0, threading.Event(), []
    one = Deadlines("host", workers=4, abandoned=2, pause=10, clock=lambda: now)

    def swallowed() -> None:
        tried.append(now)
        hold.wait()

    while now < 3600:
        with pytest.raises(TransientError):
            one.call("open", swallowed, 0.02)
        now += 5
    assert tried[:6] == [0, 5, 15, 35, 75, 155]
    assert len(tried) == one.abandoned < 20
    hold.set()
    wait_until(lambda: one.abandoned == 0, 5, "they came back")
    assert one.call("add", lambda: 1, 5) == 1


def test_waiting_for_a_worker_counts_against_the_deadline() -> None:
    hold, busy = threading.Event(), threading.Event()
    one = Deadlines("host", workers=1)

    def occupy() -> None:
        busy.set()
        hold.wait()

    thread = threading.Thread(target=one.call, args=("occupy", occupy, 30))
    thread.start()
    busy.wait(60)
    with pytest.raises(HostBusyError, match="no worker was free for add"):
        one.call("add", lambda: 1, 0.05)
    hold.set()
    thread.join(60)
    assert one.call("add", lambda: 1, 5) == 1


def test_a_late_result_is_handed_over_to_be_cleaned_up() -> None:
    hold = threading.Event()
    late: list[str] = []
    one = Deadlines("host")

    def open_it() -> str:
        hold.wait()
        return "connection"

    with pytest.raises(DeadlineError):
        one.call("open", open_it, 0.02, late=late.append)
    hold.set()
    wait_until(lambda: late == ["connection"], 5, "the late result was cleaned up")


def test_many_callers_share_the_workers() -> None:
    one = Deadlines("host", workers=3)
    results: list[int] = []
    threads = [
        threading.Thread(target=lambda n=n: results.append(one.call("n", lambda: n, 10)))
        for n in range(50)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(results) == list(range(50))
    assert one.workers <= 3


def test_where_no_thread_can_be_made_no_worker_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    one = Deadlines("host", workers=1)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        for _ in range(3):
            with pytest.raises(TransientError, match="no thread could be made for add") as caught:
                one.call("add", lambda: 1, 5)
            assert caught.value.reason == "NoThread"
    assert (one.workers, one.abandoned) == (0, 0)
    assert one.call("add", lambda: 1, 5) == 1
