"""A world and a server that shows it."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest

from controller.web.server import WebServer
from tests.unit.web.support import World, a_world


@pytest.fixture(autouse=True)
def _no_time_passes(stopped_clock: float) -> None:
    """Whatever time of day it is."""


@pytest.fixture
def world() -> Iterator[World]:
    made = a_world()
    yield made
    made.journal.close()


@pytest.fixture
def directory() -> Iterator[Path]:
    # Short: a unix socket's path has 107 bytes at most, and pytest's own directories are long.
    with TemporaryDirectory(prefix="gk") as path:
        yield Path(path)


@pytest.fixture
def server(world: World, directory: Path) -> Iterator[WebServer]:
    made = WebServer(world.application, listen="127.0.0.1:0", socket=directory / "gk.sock")
    made.start()
    yield made
    made.stop()


@pytest.fixture
def http(server: WebServer, directory: Path) -> Iterator[httpx.Client]:
    transport = httpx.HTTPTransport(uds=str(directory / "gk.sock"))
    with httpx.Client(transport=transport, base_url="http://guestkeeper", timeout=120) as client:
        yield client
