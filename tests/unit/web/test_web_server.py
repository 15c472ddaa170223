"""Starting and stopping: what is in the way is told, what is left over is replaced."""

import contextlib
import socket
import stat
from pathlib import Path

import pytest

from controller.web.server import ListenError, WebServer, bind_unix, socket_answers
from tests.unit.web.support import World


def a_server(world: World, path: Path, listen: str = "") -> WebServer:
    return WebServer(world.application, listen=listen, socket=path)


def names(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


def test_the_socket_is_for_owner_and_group_and_gone_after_the_stop(
    world: World, directory: Path
) -> None:
    path = directory / "made" / "for" / "it" / "gk.sock"
    server = a_server(world, path)
    server.start()
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert socket_answers(path)
    assert names(path.parent) == ["gk.sock"]
    assert server.stop()
    assert not path.exists()


def test_the_socket_of_a_dead_daemon_is_replaced(world: World, directory: Path) -> None:
    path = directory / "gk.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    assert not socket_answers(path)
    server = a_server(world, path)
    server.start()
    assert socket_answers(path)
    server.stop()


def test_two_hundred_commands_may_knock_while_the_daemon_has_no_time_for_them(
    directory: Path,
) -> None:
    path = directory / "gk.sock"
    bound = bind_unix(path)
    with bound.socket, contextlib.ExitStack() as clients:
        for _ in range(200):
            client = clients.enter_context(socket.socket(socket.AF_UNIX))
            client.settimeout(5)  # as every client's: one that may not wait is refused at once
            client.connect(str(path))


def test_a_living_daemon_is_left_alone(world: World, directory: Path, server: WebServer) -> None:
    with pytest.raises(ListenError, match=r"a daemon already answers on .*stop it first"):
        a_server(world, directory / "gk.sock").start()
    assert socket_answers(directory / "gk.sock")


def test_a_stop_leaves_the_socket_of_a_successor(world: World, directory: Path) -> None:
    path = directory / "gk.sock"
    first = a_server(world, path)
    first.start()
    path.unlink()
    second = a_server(world, path)
    second.start()
    first.stop()
    assert socket_answers(path)
    second.stop()


def test_a_file_that_is_no_socket_is_not_removed(world: World, directory: Path) -> None:
    path = directory / "gk.sock"
    path.write_text("mine")
    with pytest.raises(ListenError, match="exists and is no socket"):
        a_server(world, path).start()
    assert path.read_text() == "mine"


def test_a_port_in_use_names_the_setting_and_leaves_no_socket(
    world: World, directory: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ListenError, match=f"setting listen: cannot listen on {listen}"):
            a_server(world, directory / "gk.sock", listen).start()
    assert names(directory) == []


@pytest.mark.parametrize("listen", ["9750", "localhost", "127.0.0.1:http", "127.0.0.1:99999"])
def test_an_address_that_is_none_is_refused_with_an_example(
    world: World, directory: Path, listen: str
) -> None:
    with pytest.raises(ListenError, match=r"not ADDRESS:PORT; write such as 127.0.0.1:9750"):
        a_server(world, directory / "gk.sock", listen).start()


def test_a_path_too_long_for_a_socket_is_refused(world: World, directory: Path) -> None:
    with pytest.raises(ListenError, match="longer than the 107 bytes"):
        a_server(world, directory / ("x" * 120)).start()


def test_a_directory_that_is_a_file_is_an_error_of_the_setting(
    world: World, directory: Path
) -> None:
    (directory / "file").write_text("")
    with pytest.raises(ListenError, match="setting socket: cannot listen on"):
        a_server(world, directory / "file" / "gk.sock").start()


def test_without_a_listen_address_there_is_no_tcp(world: World, directory: Path) -> None:
    server = a_server(world, directory / "gk.sock")
    server.start()
    assert server.address is None
    server.stop()


def asked(path: Path, url: str) -> socket.socket:
    """A request that is on its way."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(60)
    connection.connect(str(path))
    connection.sendall(f"GET {url} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return connection


def read_to_end(connection: socket.socket) -> bytes:
    text = b""
    with contextlib.suppress(ConnectionResetError):
        while block := connection.recv(65536):
            text += block
    connection.close()
    return text


def test_stopping_ends_long_polls_and_consoles(world: World, directory: Path) -> None:
    path = directory / "gk.sock"
    server = a_server(world, path)
    server.start()
    polls = [
        asked(path, f"/api/v1/wait?timeout=600&version={world.store.version}"),
        asked(path, "/api/v1/events?wait=600&after=2"),
    ]
    console = asked(path, "/api/v1/guests/web1/console?follow=1")
    assert b"200 OK" in console.recv(65536)
    assert server.stop(60)
    for connection in (*polls, console):
        read_to_end(connection)
    assert world.consoles_closed == 1


def test_a_server_stopped_before_its_start_is_no_trouble(world: World, directory: Path) -> None:
    assert a_server(world, directory / "gk.sock").stop()
