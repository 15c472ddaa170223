"""The web server (uvicorn): the API on a unix socket and the metrics on TCP, in one thread.

The sockets are bound in the caller's thread, so that what is wrong (a port in use, a daemon that
already runs, a directory that is not writable) is an error of ``start()`` with the name of the
setting, and not a line in a log later.
"""

import asyncio
import contextlib
import math
import os
import socket
import stat
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog
import uvicorn
from starlette.types import ASGIApp

from controller.errors import PermanentError
from controller.web.api import Api, public_app
from controller.web.application import Application
from controller.web.connections import Bounds, bounded
from controller.web.host_names import HostNames

log = structlog.get_logger(__name__)

SOCKET_MODE = 0o660
PUBLIC = Bounds(64)
OWN = Bounds(256, unread=None)
"""``PUBLIC`` is for TCP, which anybody on the machine may use; ``OWN`` is for the unix socket,
which its file mode protects."""
_LONGEST_PATH = 107  # bytes in sockaddr_un, without the closing NUL
_GRACE = 2  # seconds that running requests have when the daemon stops


class ListenError(PermanentError):
    """The server cannot listen; the message names the setting and the remedy."""

    reason = "ListenFailed"


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the daemon handles signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class WebServer:
    """``listen`` is ADDRESS:PORT, or '' for no TCP; ``names`` are further names that requests may
    have as ``Host`` (see ``host_names``).
    """

    def __init__(
        self,
        application: Application,
        *,
        listen: str,
        socket: Path,
        names: Sequence[str] = (),
        public: Bounds = PUBLIC,
        own: Bounds = OWN,
    ) -> None:
        self._api = Api(application)
        public_routes = public_app(application, self._api.scrapes)
        self._public = HostNames(public_routes, listen=listen, names=names)
        self._bounds = (public, own)
        self._listen = listen
        self._path = socket
        self._identity: tuple[int, int] | None = None
        self._sockets: list[tuple[ASGIApp, _Socket, Bounds]] = []
        self._servers: list[_Server] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._failed: BaseException | None = None
        self.address: tuple[str, int] | None = None
        """The TCP address in use; differs from ``listen`` for port 0."""

    def start(self, timeout: float = 10.0) -> None:
        """Start to serve; returns when both sockets answer, raises ``ListenError`` if not within
        ``timeout`` seconds.
        """
        try:
            if self._listen:
                tcp = _bind_tcp(self._listen)
                self._sockets.append((self._public, tcp, self._bounds[0]))
                self.address = tcp.getsockname()[:2]
            bound = bind_unix(self._path)
            self._identity = bound.identity
            self._sockets.append((self._api.starlette, bound.socket, self._bounds[1]))
        except ListenError:
            self._close_sockets()
            raise
        self._servers = [_Server(_config(app, bounds)) for app, _, bounds in self._sockets]
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)
        self._thread.start()
        deadline = time.monotonic() + timeout
        while not all(server.started for server in self._servers):
            if not self._thread.is_alive() or time.monotonic() > deadline:
                why = self._failed or "it did not begin to serve in time"
                self.stop(1.0)
                raise ListenError(f"the web server could not be started: {why}")
            time.sleep(0.005)
        log.info("web server listening", socket=str(self._path), listen=self._listen or None)

    def stop(self, timeout: float = 5.0) -> bool:
        """End long polls, let running requests finish; False if not within ``timeout`` seconds."""
        thread, loop = self._thread, self._loop
        stopped = True
        if thread is not None:
            for server in self._servers:
                server.should_exit = True
            if loop is not None:
                with contextlib.suppress(RuntimeError):  # the loop has ended already
                    loop.call_soon_threadsafe(self._api.close)
            thread.join(timeout)
            stopped = not thread.is_alive()
            self._thread = None
        self._close_sockets()
        if not stopped:
            log.warning("web server did not stop in time", timeout=timeout)
        return stopped

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - raised by start(), logged after that
            self._failed = error
            log.error("web server ended", error=str(error))

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        await asyncio.gather(
            *(
                server.serve(sockets=[listening])
                for server, (_, listening, _) in zip(self._servers, self._sockets, strict=True)
            )
        )

    def _close_sockets(self) -> None:
        for _, listening, _ in self._sockets:
            listening.close()
        self._sockets = []
        if self._identity is not None:
            _unlink_own(self._path, self._identity)
            self._identity = None


def _config(app: ASGIApp, bounds: Bounds) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="asyncio",
        http=bounded(bounds),  # type: ignore[arg-type] # it is only called
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=bounds.connections,  # also how many are accepted at once, before they are counted
        timeout_keep_alive=math.ceil(bounds.patience),
        timeout_graceful_shutdown=_GRACE,
    )


_Socket = socket.socket


def _bind_tcp(listen: str) -> socket.socket:
    host, _, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ListenError(
            f"setting listen: `{listen}` is not ADDRESS:PORT; write such as 127.0.0.1:9750, or ''"
            " for no metrics over TCP"
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, int(port)))
        listening.listen(PUBLIC.connections)
    except OSError as error:
        listening.close()
        raise ListenError(
            f"setting listen: cannot listen on {listen}: {error.strerror}; choose another port"
            " by GUESTKEEPER_LISTEN or in the settings file, or stop what uses it"
        ) from error
    listening.setblocking(False)
    return listening


@dataclass(frozen=True, slots=True)
class Bound:
    """A listening unix socket; ``identity`` is its file's (device, inode)."""

    socket: socket.socket
    identity: tuple[int, int]


def bind_unix(path: Path) -> Bound:
    """Listen on ``path``, replacing a socket that a dead daemon left. Raises ``ListenError``.

    The file is made under another name, gets its mode and is then renamed into place: so nobody
    can connect before it has its mode, and there is no moment without a socket.
    """
    temporary = path.with_name(f".{os.getpid()}.sock")
    if max(len(os.fsencode(path)), len(os.fsencode(temporary))) > _LONGEST_PATH:
        raise ListenError(
            f"setting socket: {path} is longer than the {_LONGEST_PATH} bytes a unix socket's path"
            " may have; choose a shorter one"
        )
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        _refuse_other(path)
        temporary.unlink(missing_ok=True)
        listening.bind(str(temporary))
        temporary.chmod(SOCKET_MODE)
        # With a full backlog, a unix socket refuses clients at once; TCP would let them wait.
        listening.listen(OWN.connections)
        temporary.rename(path)
        status = path.stat()
    except OSError as error:
        listening.close()
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise ListenError(
            f"setting socket: cannot listen on {path}: {error.strerror}; choose another path by"
            " GUESTKEEPER_SOCKET or in the settings file"
        ) from error
    except ListenError:
        listening.close()
        raise
    listening.setblocking(False)
    return Bound(listening, (status.st_dev, status.st_ino))


def socket_answers(path: Path, timeout: float = 1.0) -> bool:
    """Does a process listen on ``path``? A busy one counts, a left-over file does not.

    Waits at most ``timeout`` seconds.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(timeout)
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            return False
        except OSError:
            # A process listens that does not accept now (EAGAIN), or we may not connect (EACCES).
            return True
    return True


def _refuse_other(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ListenError(
            f"setting socket: {path} exists and is no socket; remove it or choose another path"
        )
    if socket_answers(path):
        raise ListenError(
            f"a daemon already answers on {path}; stop it first (systemctl stop guestkeeper), or"
            " give this one another socket by GUESTKEEPER_SOCKET"
        )


def _unlink_own(path: Path, identity: tuple[int, int]) -> None:
    """Remove our socket file, but not that of a daemon that has replaced it since."""
    with contextlib.suppress(OSError):
        status = path.lstat()
        if (status.st_dev, status.st_ino) == identity:
            path.unlink()
