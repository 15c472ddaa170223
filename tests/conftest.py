"""What every test may use: golden files and a free port."""

import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.factories import NOW


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write what the code produces now into the golden files instead of comparing",
    )
    parser.addoption(
        "--long", action="store_true", help="the tests that take minutes, and no others"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    long = bool(config.getoption("--long"))
    others = [item for item in items if (item.get_closest_marker("long") is not None) is not long]
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in set(others)]


@pytest.fixture
def stopped_clock(monkeypatch: pytest.MonkeyPatch) -> float:
    """The time of day stands still at ``factories.NOW``, for whoever asks ``time.time``.

    What took the function itself before (as the default of an argument) must be given a clock.
    """
    monkeypatch.setattr(time, "time", lambda: NOW)
    return NOW


@pytest.fixture(scope="session")
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Whether golden files are to be rewritten."""
    return bool(request.config.getoption("--update-golden"))


@pytest.fixture(scope="session")
def golden(update_golden: bool) -> Callable[[Path, str], None]:
    """``golden(file, text)`` compares the text, or rewrites the file (``--update-golden``)."""

    def compare(file: Path, text: str) -> None:
        if update_golden:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
            return
        if not file.exists():
            pytest.fail(f"{file} is missing: run pytest --update-golden and look at what it wrote")
        assert text == file.read_text(encoding="utf-8"), (
            f"differs from {file}; if that is meant: pytest --update-golden"
        )

    return compare


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Gives TCP ports of 127.0.0.1 that were free a moment ago, each call another one."""
    given: set[int] = set()

    def give() -> int:
        while True:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port: int = probe.getsockname()[1]
            if port not in given:
                given.add(port)
                return port

    return give
