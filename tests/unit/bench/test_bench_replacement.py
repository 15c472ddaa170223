"""What is counted as the downtime of a replacement, and what it is held to."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import perf_counter

import pytest

from bench.replacement import Down, results
from bench.served import Served

PAGE = b"configured\n"


def _down(page: float, *, any: float | None = None) -> Down:
    parts = {"stop": 1.0, "off": 0.5, "boot": 8.0, "inside": page - 9.5}
    return Down(page, page if any is None else any, **parts, work=page)


def test_the_page_that_the_document_asks_for_is_held_to_the_floor() -> None:
    floors = [_down(10.0), _down(9.0), _down(30.0)]
    made = results([_down(13.0), _down(12.0), _down(99.0)], floors)
    held = [one for one in made if one.bound is not None]
    assert [(one.value, one.floor, one.bound) for one in held] == [(13.0, 10.0, 13.0)]
    assert "document's page" in held[0].name
    assert held[0].holds


def test_any_other_page_served_early_does_not_make_the_bound_hold() -> None:
    made = results([_down(14.0, any=11.0)], [_down(10.0)])
    assert [one.name for one in made if not one.holds] == [made[0].name]
    assert (made[1].value, made[1].bound) == (11.0, None)


class _Page(BaseHTTPRequestHandler):
    answer = (200, PAGE)

    def do_GET(self) -> None:
        status, body = self.answer
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def _serving(status: int, body: bytes) -> Iterator[int]:
    page = type("Page", (_Page,), {"answer": (status, body)})
    server = ThreadingHTTPServer(("127.0.0.1", 0), page)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def _asking(port: int) -> Iterator[Served]:
    served = Served(port)
    served.start()
    try:
        yield served
    finally:
        served.stop()


def test_a_200_is_seen_soon_and_again_and_again() -> None:
    with _serving(200, PAGE) as port, _asking(port) as served:
        first = served.first(PAGE, 0.0, 5)
        second = served.first(PAGE, first + 0.001, 5)
        third = served.first(None, second + 0.001, 5)
        assert served.last(PAGE, second) == second < third <= perf_counter()


def test_another_page_is_a_200_but_not_the_page() -> None:
    with _serving(200, b"Welcome to nginx!\n") as port, _asking(port) as served:
        assert served.first(None, 0.0, 5)
        with pytest.raises(TimeoutError, match="did not serve"):
            served.first(PAGE, 0.0, 0.1)
        with pytest.raises(LookupError, match="had not served yet"):
            served.last(PAGE, perf_counter())


def test_an_error_is_no_200() -> None:
    with _serving(503, PAGE) as port, _asking(port) as served, pytest.raises(TimeoutError):
        served.first(None, 0.0, 0.2)
