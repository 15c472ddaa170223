"""Logs: for people on a terminal, JSON lines otherwise, and everybody's in one form."""

import io
import json
import logging
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import structlog

from controller.telemetry.logging import configure


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_without_a_terminal_each_line_is_json_with_the_key_values() -> None:
    stream = io.StringIO()
    configure("info", stream=stream)
    structlog.get_logger("controller.loop").info("starting domain", guest="web-1", attempt=2)
    (line,) = lines(stream)
    assert line["message"] == "starting domain"
    assert (line["guest"], line["attempt"], line["level"]) == ("web-1", 2, "info")
    assert line["logger"] == "controller.loop"
    stamp = datetime.fromisoformat(str(line["timestamp"]))
    assert stamp.tzinfo == UTC
    assert str(line["timestamp"]).endswith("Z")


def test_on_a_terminal_lines_are_for_people_and_coloured() -> None:
    stream = Terminal()
    configure("info", stream=stream)
    structlog.get_logger().info("starting domain", guest="web-1")
    assert "starting domain" in stream.getvalue()
    assert "\x1b[" in stream.getvalue()


def test_no_word_of_a_guest_steers_the_terminal_that_the_log_is_on() -> None:
    stream = Terminal()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_COLOR", "1")
        configure("info", stream=stream)
    evil = "\x1b]0;title\x07\u202e\x9b2J"
    log = structlog.get_logger()
    log.info("it said", guest=evil)
    logging.getLogger("other").warning("it said %s", evil)
    try:
        raise ValueError(evil)
    except ValueError:
        log.exception("it said")
    said = stream.getvalue()
    assert said.count("\\x1b]0;title") == 3
    assert said.replace("\n", "").isprintable()


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    configure("info", stream=stream)
    structlog.get_logger().info("starting domain", guest="web-1")
    assert "guest=web-1" in stream.getvalue()
    assert "\x1b[" not in stream.getvalue()


def test_the_level_is_kept_and_may_change_at_a_reload() -> None:
    stream = io.StringIO()
    log = structlog.get_logger("controller")
    configure("warning", stream=stream)
    log.info("hidden")
    configure("debug", stream=stream)
    log.debug("shown")
    assert [line["message"] for line in lines(stream)] == ["shown"]


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="none of debug, info, warning, error"):
        configure("loud")


def test_lines_of_libraries_come_in_the_same_form() -> None:
    stream = io.StringIO()
    logging.getLogger("uvicorn.error").addHandler(logging.StreamHandler(io.StringIO()))
    configure("info", stream=stream)
    logging.getLogger("uvicorn.error").info("Started server process [%d]", 42)
    logging.getLogger("uvicorn.access").info("GET /metrics")
    logging.getLogger("httpx").info("HTTP Request: GET")
    logging.getLogger("watchdog.observers").warning("inotify limit", extra={"limit": 8})
    first, second = lines(stream)
    assert (first["message"], first["logger"]) == ("Started server process [42]", "uvicorn.error")
    assert (second["message"], second["limit"]) == ("inotify limit", 8)


def test_warnings_are_logged() -> None:
    stream = io.StringIO()
    configure("info", stream=stream)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.warn("old thing", DeprecationWarning, stacklevel=1)
    assert "old thing" in str(lines(stream)[0]["message"])


def test_an_exception_is_one_json_line_with_its_traceback() -> None:
    stream = io.StringIO()
    configure("info", stream=stream)
    try:
        raise ZeroDivisionError("a bug")
    except ZeroDivisionError:
        structlog.get_logger().exception("reconcile panicked", guest="web-1")
    (line,) = lines(stream)
    assert "ZeroDivisionError: a bug" in str(line["exception"])


def test_values_that_are_no_json_are_written_as_text() -> None:
    stream = io.StringIO()
    configure("info", stream=stream)
    structlog.get_logger().info("seen", guests={"web-1"}, raw=b"\xff")
    assert lines(stream)[0]["guests"] == "{'web-1'}"


def test_context_of_the_thread_is_in_every_line() -> None:
    stream = io.StringIO()
    configure("info", stream=stream)
    with structlog.contextvars.bound_contextvars(reconcile_id="r1"):
        structlog.get_logger().info("planning")
    assert lines(stream)[0]["reconcile_id"] == "r1"
