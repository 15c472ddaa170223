"""A host that hangs keeps a few callers; one that is well is waited for."""

import threading
import time

import pytest

from controller.errors import TransientError
from controller.hypervisor.connection import concurrency as places_module
from controller.hypervisor.connection.concurrency import PLACES, Places
from tests.waiting import wait_until


class Callers:
    """Threads that hold a place until they are let go."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self.holding = 0
        self.let_go = threading.Event()

    def hold(self, number: int) -> None:
        def call() -> None:
            with self.places.take("start"):
                self.holding += 1
                self.let_go.wait(60)

        for _ in range(number):
            threading.Thread(target=call, daemon=True).start()
        wait_until(lambda: self.holding == number, 5, "they hold their places")


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> float:
    """Long enough for a busy machine."""
    monkeypatch.setattr(places_module, "PATIENCE", 100.0)
    return 100.0


def test_where_nothing_moves_the_next_is_told_at_once(patient: float) -> None:
    now = 0.0
    callers = Callers(Places("nfs", monotonic=lambda: now))
    callers.hold(PLACES)
    now = patient + 0.1
    began = time.monotonic()
    with pytest.raises(TransientError, match="host nfs is busy: 3 other calls") as caught:
        callers.places.take("start").__enter__()
    assert time.monotonic() - began < patient / 2
    assert (caught.value.reason, caught.value.retry_after) == ("HostBusy", 2.0)
    callers.let_go.set()


@pytest.mark.usefixtures("patient")
def test_while_calls_come_and_go_the_next_waits_for_its_place() -> None:
    callers = Callers(Places("local"))
    callers.hold(PLACES)
    threading.Timer(0.1, callers.let_go.set).start()
    with callers.places.take("start"):
        assert callers.let_go.is_set()


def test_a_wait_has_an_end() -> None:
    callers = Callers(Places("local"))
    callers.hold(PLACES)
    with pytest.raises(TransientError):
        callers.places.take("start").__enter__()
    callers.let_go.set()


def test_a_call_that_fails_gives_its_place_back() -> None:
    places = Places("local")
    for _ in range(2 * PLACES):
        with pytest.raises(ZeroDivisionError), places.take("start"):
            raise ZeroDivisionError
