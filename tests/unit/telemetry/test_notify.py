"""What arrives at systemd's socket."""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.telemetry.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    name = str(tmp_path / "notify") if request.param == "path" else f"@guestkeeper-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + name[1:] if name.startswith("@") else name)
        listener.settimeout(60)
        yield listener, name


def test_the_states_arrive(systemd: tuple[socket.socket, str]) -> None:
    listener, name = systemd
    notifier = Notifier({"NOTIFY_SOCKET": name})

    def said() -> list[str]:
        return listener.recv(4096).decode().split("\n")

    assert notifier.ready("2\nguests")
    assert said() == ["READY=1", "STATUS=2 guests"]
    assert notifier.watchdog()
    assert said() == ["WATCHDOG=1"]
    assert notifier.stopping()
    assert said() == ["STOPPING=1"]
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert notifier.reloading()
    reloading, stamp = said()
    assert reloading == "RELOADING=1"
    assert before <= int(stamp.removeprefix("MONOTONIC_USEC=")) <= before + 5_000_000


@pytest.mark.parametrize("address", ["", "/nowhere/notify", "vsock:2:1234", "@nobody-listens"])
def test_without_a_service_manager_nothing_happens(address: str) -> None:
    assert not Notifier({"NOTIFY_SOCKET": address}).ready()
    assert not Notifier({}).watchdog()


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_fed_twice_as_often_as_asked(
    environment: dict[str, str], seconds: float | None
) -> None:
    assert Notifier(environment).watchdog_interval() == seconds
