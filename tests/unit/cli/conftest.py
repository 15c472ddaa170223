"""The commands against a real web server on a real unix socket that shows a made-up world."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from controller.cli.app import app
from controller.cli.client.client import Client
from controller.telemetry import logging
from controller.web.server import WebServer
from tests.unit.web.support import World, a_world

Cli = Callable[..., Result]


@pytest.fixture(autouse=True)
def quiet_daemon() -> None:
    """The daemon's log is another process's in real life; here it must not stand in the output."""
    logging.configure("error")


@pytest.fixture(autouse=True)
def _no_time_passes(stopped_clock: float) -> None:
    """What is shown as an age is the same at any time of any day."""


@pytest.fixture
def world() -> Iterator[World]:
    made = a_world()
    yield made
    made.journal.close()


@pytest.fixture
def directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Everything the settings name lies in here."""
    with TemporaryDirectory(prefix="gk") as text:
        path = Path(text)
        (path / "desired").mkdir()
        (path / "settings.toml").write_text(
            f"""
desired_dir = "{path}/desired"
state_dir = "{path}/state"
cache_dir = "{path}/cache"
images_dir = "{path}/images"
socket = "{path}/gk.sock"
listen = ""
[hosts.local]
uri = "test:///default"
pool = "default-pool"
"""
        )
        monkeypatch.setenv("GUESTKEEPER_CONFIG", str(path / "settings.toml"))
        yield path


@pytest.fixture
def cli(directory: Path) -> Cli:
    """``cli("get", "-o", "wide")``; never raises what a command did not mean to end with."""

    def run(*arguments: str) -> Result:
        result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


Meanwhile = Callable[..., None]


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Meanwhile:
    """``meanwhile(change)``: it happens when a command first waits for something to happen, however
    long that takes it. With ``leave`` somebody presses Ctrl-C when it waits the next time.
    """

    def arrange(change: Callable[[], object], *, leave: bool = False) -> None:
        get, waits = Client.get, itertools.count()

        def asking(client: Client, path: str, **parameters: Any) -> Any:
            if path == "wait" or "wait" in parameters:
                number = next(waits)
                if number == 0:
                    change()
                elif leave:
                    raise KeyboardInterrupt
            return get(client, path, **parameters)

        monkeypatch.setattr(Client, "get", asking)

    return arrange


@pytest.fixture
def daemon(world: World, directory: Path) -> Iterator[WebServer]:
    server = WebServer(world.application, listen="", socket=directory / "gk.sock")
    server.start()
    yield server
    server.stop()
