"""Clients that are idle, slow or too many, and scrapes that hang: others are served regardless."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request

from controller.observed.host import HostView
from controller.web import scrapes as scrapes_module
from controller.web.connections import Bounds
from controller.web.scrapes import MAX_WAITING, Scrapes
from controller.web.server import OWN, PUBLIC, WebServer
from tests.unit.web.support import World
from tests.waiting import wait_until

Serve = Callable[..., WebServer]
GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
SCRAPE = GET.replace(b"/healthz", b"/metrics")
REQUEST = Request({"type": "http"})


@pytest.fixture
def serve(world: World, directory: Path) -> Iterator[Serve]:
    """Starts a server of the world, with some of what it shows changed."""
    made: list[WebServer] = []

    def start(public: Bounds = PUBLIC, own: Bounds = OWN, **shown: Any) -> WebServer:
        made.append(
            WebServer(
                replace(world.application, **shown),
                listen="127.0.0.1:0",
                socket=directory / "gk.sock",
                public=public,
                own=own,
            )
        )
        made[-1].start()
        return made[-1]

    yield start
    for server in made:
        server.stop()


@pytest.fixture
def connect() -> Iterator[Callable[[WebServer], socket.socket]]:
    """Opens a TCP connection that the test may forget."""
    with contextlib.ExitStack() as stack:

        def open_one(server: WebServer) -> socket.socket:
            assert server.address is not None
            return stack.enter_context(socket.create_connection(server.address, timeout=60))

        yield open_one


@pytest.fixture
def unix(directory: Path) -> Iterator[httpx.Client]:
    """A client of the unix socket."""
    transport = httpx.HTTPTransport(uds=str(directory / "gk.sock"))
    with httpx.Client(transport=transport, base_url="http://guestkeeper", timeout=60) as client:
        yield client


Connect = Callable[[WebServer], socket.socket]


def url(server: WebServer, path: str) -> str:
    assert server.address is not None
    return f"http://127.0.0.1:{server.address[1]}{path}"


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def is_closed(client: socket.socket) -> bool:
    """Has the server ended this connection? Whatever it said before is thrown away."""
    client.setblocking(False)
    try:
        while client.recv(65536):
            pass
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True
    return True


def test_a_client_that_asks_nothing_is_not_kept(serve: Serve, connect: Connect) -> None:
    server = serve(public=Bounds(64, patience=0.3))
    client = connect(server)
    wait_until(lambda: is_closed(client), 10, "the idle connection is closed")


def test_a_client_that_says_its_request_in_drops_is_not_kept(
    serve: Serve, connect: Connect
) -> None:
    client = connect(serve(public=Bounds(64, patience=0.5)))
    client.sendall(b"GET /healthz HTTP/1.1\r\n")

    def closed() -> bool:
        with contextlib.suppress(ConnectionError):
            client.setblocking(True)
            client.sendall(b"X: y\r\n")
        return is_closed(client)

    wait_until(closed, 10, "the slow connection is closed")


def test_a_client_that_begins_a_second_request_only_is_not_kept(
    serve: Serve, connect: Connect
) -> None:
    server = serve(public=Bounds(64, patience=0.5))

    def answered() -> socket.socket | None:
        client = connect(server)
        with contextlib.suppress(ConnectionError):  # too late already, on a busy machine
            client.sendall(GET)
            if client.recv(65536).startswith(b"HTTP/1.1 200"):
                client.sendall(GET[:20])
                return client
        return None

    client = wait_until(answered, 60, "a first request is answered")
    wait_until(lambda: is_closed(client), 10, "the connection is closed")


def test_a_client_that_does_not_read_its_answer_is_not_kept(serve: Serve, connect: Connect) -> None:
    whole = 64 * 2**20
    server = serve(Bounds(64, 0.3, unread=0.5), metrics=lambda: (b"x" * whole, "text/plain"))
    before = descriptors()
    client = connect(server)
    client.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert client.recv(1) == b"H"
    wait_until(lambda: descriptors() == before + 1, 10, "the server's descriptor is free")
    read = 0
    with contextlib.suppress(ConnectionResetError):
        while block := client.recv(2**20):
            read += len(block)
    assert read < whole


def test_a_client_that_reads_slowly_gets_its_whole_answer(serve: Serve, connect: Connect) -> None:
    server = serve(Bounds(64, patience=0.2), metrics=lambda: (b"x" * 2**24, "text/plain"))
    client = connect(server)
    client.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    paused = threading.Event()
    read = len(client.recv(2**16))
    paused.wait(1.0)  # five times the patience with clients who ask nothing
    while block := client.recv(2**20):
        read += len(block)
    assert read > 2**24


def test_hundreds_of_idle_clients_take_few_descriptors_and_nobodys_health_check(
    serve: Serve, connect: Connect
) -> None:
    server = serve(public=Bounds(64, patience=60))
    before = descriptors()
    clients = [connect(server) for _ in range(300)]
    assert httpx.get(url(server, "/healthz"), timeout=60).status_code == 200
    wait_until(lambda: descriptors() <= before + 300 + 64, 10, "the others are closed")
    assert sum(map(is_closed, clients)) >= 300 - 64


def test_clients_that_are_being_answered_are_not_ended_for_new_ones(
    serve: Serve, directory: Path
) -> None:
    asked, answer = threading.Barrier(3), threading.Event()

    def hosts() -> list[HostView]:
        asked.wait(60)
        assert answer.wait(60)
        return []

    serve(own=Bounds(2, patience=60), hosts=hosts)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(3)]
        for client in clients[:2]:
            client.connect(str(directory / "gk.sock"))
            client.sendall(b"GET /api/v1/hosts HTTP/1.1\r\nHost: localhost\r\n\r\n")
        asked.wait(60)
        clients[2].connect(str(directory / "gk.sock"))
        wait_until(lambda: is_closed(clients[2]), 10, "the third connection is refused")
        answer.set()
        for client in clients[:2]:
            client.settimeout(60)
            assert client.recv(65536).startswith(b"HTTP/1.1 200")


def test_a_request_that_takes_longer_than_the_patience_with_idle_clients_is_answered(
    serve: Serve, world: World, unix: httpx.Client
) -> None:
    serve(own=Bounds(64, patience=0.1))
    query = {"timeout": 1, "version": world.store.version}
    assert unix.get("/api/v1/wait", params=query).status_code == 200


def said(client: socket.socket) -> bytes:
    """What the server has said so far, without waiting; it stays to be read."""
    client.setblocking(False)
    try:
        return client.recv(65536, socket.MSG_PEEK)
    except BlockingIOError:
        return b""


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_is_told_at_once_while_scrapes_hang(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """However slow the machine is: nobody here gives up by the clock, and the scrapes hang until
    health was told.
    """
    monkeypatch.setattr(scrapes_module, "PATIENCE", 600.0)
    hang, busy, most = threading.Event(), [0], [0]

    def metrics() -> tuple[bytes, str]:
        busy[0] += 1
        most[0] = max(most[0], busy[0])
        assert hang.wait(600)
        busy[0] -= 1
        return b"", "text/plain"

    server = serve(Bounds(64, patience=600), metrics=metrics)
    clients = [connect(server) for _ in range(45)]
    try:
        for client in clients:
            client.sendall(SCRAPE)
        # All but the one that hangs and those that wait for it are sent away.
        sent_away = 45 - 1 - MAX_WAITING
        wait_until(lambda: sum(map(bool, map(said, clients))) >= sent_away, 60, "503 for others")
        wait_until(lambda: busy == [1], 60, "the first one reads the metrics")
        asking = connect(server)
        asking.settimeout(60)
        asking.sendall(GET.replace(b"/healthz", path.encode()))
        assert asking.recv(65536).startswith(b"HTTP/1.1 200")
        assert busy == [1], "the scrapes still hang"
    finally:
        hang.set()
    wait_until(lambda: all(map(said, clients)), 60, "everybody has an answer")
    codes = [said(client).split()[1] for client in clients]
    assert codes.count(b"200") == 1 + MAX_WAITING
    assert codes.count(b"503") == sent_away
    assert most == [1]


def test_a_scrape_waits_for_the_one_before_it_but_not_for_ever() -> None:
    hang = threading.Event()

    def read() -> tuple[bytes, str]:
        assert hang.wait(60)
        return b"up 1\n", "text/plain"

    async def scenario() -> None:
        scrapes = Scrapes(read, patience=0.05)
        first = asyncio.create_task(scrapes.answer(REQUEST))
        await asyncio.sleep(0)
        refused = await scrapes.answer(REQUEST)
        assert refused.status_code == 503
        assert b"an earlier scrape" in refused.body
        hang.set()
        assert (await first).body == b"up 1\n"
        assert (await scrapes.answer(REQUEST)).status_code == 200

    asyncio.run(scenario())


def test_a_scrape_that_fails_does_not_hold_up_the_next() -> None:
    answers = iter([ValueError("no"), (b"up 1\n", "text/plain")])

    def read() -> tuple[bytes, str]:
        answer = next(answers)
        if isinstance(answer, ValueError):
            raise answer
        return answer  # type: ignore[return-value]

    async def scenario() -> None:
        scrapes = Scrapes(read, patience=0.05)
        with pytest.raises(ValueError, match="no"):
            await scrapes.answer(REQUEST)
        assert (await scrapes.answer(REQUEST)).body == b"up 1\n"

    asyncio.run(scenario())
