"""A page in a browser cannot have the metrics by making its own name mean this machine."""

import socket
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest

from controller.web.server import WebServer
from tests.unit.web.support import World

PATHS = ("/metrics", "/healthz", "/readyz", "/nothing")


def status(server: WebServer, head: str) -> int:
    """The status of a request with exactly these lines."""
    assert server.address is not None
    with socket.create_connection(server.address, timeout=60) as client:
        client.sendall(head.replace("\n", "\r\n").encode() + b"\r\n\r\n")
        return int(client.makefile("rb").readline().split()[1])


def asked_as(server: WebServer, host: str, path: str = "/healthz") -> int:
    return status(server, f"GET {path} HTTP/1.1\nHost: {host}\nConnection: close")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "host",
    ["attacker.example", "attacker.example:9750", "127.0.0.1.attacker.example", "10.0.0.9", "[::2]",
     "localhost.attacker.example", "notlocalhost", "[", ":9750", "127.0.0.1@attacker.example"],
)  # fmt: skip
def test_a_foreign_name_is_refused_whatever_is_asked(
    server: WebServer, host: str, path: str
) -> None:
    assert asked_as(server, host, path) == 421


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.1:1", "127.8.8.8", "localhost", "LOCALHOST.:9750", "gk.localhost",
     "[::1]", "[::1]:9750", "[::ffff:127.0.0.1]"],
)  # fmt: skip
def test_loopback_by_any_of_its_names_is_answered(server: WebServer, host: str) -> None:
    assert asked_as(server, host) == 200


def test_two_hosts_are_not_one_of_them(server: WebServer) -> None:
    head = "GET /healthz HTTP/1.1\nHost: localhost\nHost: attacker.example\nConnection: close"
    assert status(server, head) in (400, 421)


def test_who_names_no_host_is_no_browser(server: WebServer) -> None:
    assert status(server, "GET /healthz HTTP/1.0") == 200


@pytest.mark.parametrize(
    ("names", "host", "wanted"),
    [
        (["gk.example.org"], "gk.example.org:9750", 200),
        (["GK.example.org."], "gk.EXAMPLE.org", 200),
        (["gk.example.org"], "other.example.org", 421),
        (["2001:db8::1"], "[2001:DB8:0::1]:9750", 200),
        (["*"], "anything.example", 200),
    ],
)
def test_a_setting_allows_more_names(
    world: World, directory: Path, names: Sequence[str], host: str, wanted: int
) -> None:
    server = WebServer(
        world.application, listen="127.0.0.1:0", socket=directory / "gk.sock", names=names
    )
    server.start()
    try:
        assert asked_as(server, host) == wanted
    finally:
        server.stop()


def test_listening_everywhere_it_is_asked_by_the_address_that_was_reached(
    world: World, directory: Path
) -> None:
    server = WebServer(world.application, listen="0.0.0.0:0", socket=directory / "gk.sock")
    server.start()
    try:
        assert asked_as(server, "127.0.0.1") == 200
        assert asked_as(server, "attacker.example") == 421
    finally:
        server.stop()


def test_the_unix_socket_is_asked_by_any_name(http: httpx.Client) -> None:
    assert http.get("/healthz", headers={"Host": "attacker.example"}).status_code == 200
