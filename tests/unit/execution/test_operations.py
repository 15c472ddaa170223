"""Long actions beside the loop: one a key, a few at once, and nothing keeps a key for ever."""

import threading

import pytest

from controller.errors import TransientError
from controller.execution.operations import Operations
from tests.waiting import wait_until


class Ends:
    """What the operations told: whose action ended, and whose panicked."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.panicked: list[str] = []

    def operations(self, workers: int = 2) -> Operations:
        return Operations(
            workers, on_done=self.done.append, on_panic=self.panicked.append, clock=lambda: 7.0
        )


@pytest.fixture
def ends() -> Ends:
    return Ends()


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """From here on no thread can be made."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    return monkeypatch


def test_an_action_runs_once_for_its_key_and_its_end_is_told(ends: Ends) -> None:
    hold = threading.Event()
    one = ends.operations()
    assert one.start("web1", "LookInside", lambda: bool(hold.wait(60)))
    current = one.current("web1")
    assert current is not None
    assert (current.name, current.since) == ("LookInside", 7.0)
    assert not one.start("web1", "ApplyInside", lambda: None)
    hold.set()
    wait_until(lambda: ends.done == ["web1"], 5, "its end was told")
    assert one.current("web1") is None


def test_where_no_thread_can_be_made_nothing_is_kept_and_it_may_be_tried_again(
    ends: Ends, no_threads: pytest.MonkeyPatch
) -> None:
    one = ends.operations()
    for _ in range(3):
        with pytest.raises(TransientError, match="no thread could be made for web1") as caught:
            one.start("web1", "LookInside", lambda: None)
        assert (caught.value.reason, caught.value.retry_after) == ("NoThread", 5.0)
        assert one.current("web1") is None
    no_threads.undo()
    assert one.start("web1", "LookInside", lambda: None)
    wait_until(lambda: ends.done == ["web1"], 5, "it ran")


def test_where_no_thread_can_be_made_those_that_run_and_wait_stay(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold, ran = threading.Event(), threading.Event()
    one = ends.operations(workers=2)
    one.start("web1", "LookInside", lambda: bool(hold.wait(60)))

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(TransientError):
            one.start("web2", "LookInside", ran.set)
    assert one.current("web1") is not None
    assert one.start("web2", "LookInside", ran.set)
    assert ran.wait(60)
    hold.set()
    wait_until(lambda: sorted(ends.done) == ["web1", "web2"], 5, "both ended")


def test_a_panic_is_told_and_the_worker_goes_on(ends: Ends) -> None:
    one = ends.operations(workers=1)
    for number in range(3):
        one.start(f"web{number}", "LookInside", lambda: 1 // 0)
    wait_until(lambda: len(ends.done) == 3, 5, "all ended")
    assert ends.panicked == ends.done == ["web0", "web1", "web2"]


def test_a_callback_that_panics_ends_no_worker() -> None:
    done: list[str] = []

    def bad(key: str) -> None:
        done.append(key)
        raise ZeroDivisionError

    one = Operations(1, on_done=bad, on_panic=bad)
    for number in range(3):
        one.start(f"web{number}", "LookInside", lambda: 1 // 0)
    wait_until(lambda: len(done) == 6, 20, "every callback was called")
    assert one.stop(5)


def test_stopping_drops_what_waits_and_waits_for_what_runs(ends: Ends) -> None:
    hold, ran, runs = threading.Event(), threading.Event(), threading.Event()
    one = ends.operations(workers=1)
    one.start("web1", "LookInside", lambda: runs.set() or bool(hold.wait(60)))
    assert runs.wait(60)
    one.start("web2", "LookInside", ran.set)
    assert not one.stop(0.0)
    assert (one.current("web1") is not None, one.current("web2")) == (True, None)
    assert not one.start("web3", "LookInside", ran.set)
    hold.set()
    assert one.stop(5)
    assert not ran.is_set()
