"""Run one probe from the host over the network, as cheaply as real HTTP can be spoken.

Thousands of these run in one event loop, so they are asyncio protocols with h11 (the parser below
httpx and uvicorn) and no HTTP client above it. Measured on one core: httpx 1.1 to 1.4 ms of CPU a
probe, h11 on a bare protocol 0.2 ms, a hand-written status line parser 0.1 ms; the last does not
know interim responses and chunks, and is not needed to stay below the budget.

Each check makes a new connection (a kept one would prove yesterday's health), uses no proxy from
the environment, follows no redirects (a 3xx is an answer, and counts as success), and does **not
verify TLS certificates**: a probe checks whether an address answers, while a certificate is issued
for a name and verified by the service's clients. So headers of an https probe must not carry
secrets worth stealing.

Every check returns ``(ok, message)``; ``ok`` None means that nothing was learnt about the guest,
because the cause is not in the guest.
"""

import asyncio
import errno
import ipaddress
import os
import socket
import ssl
from functools import lru_cache
from http import HTTPStatus
from typing import cast

import h11

from controller import __version__
from controller.observed.health import ProbeTarget

Outcome = tuple[bool | None, str]

_MAX_BODY = 10 * 1024  # bytes read of an answer before hanging up, as the kubelet does
_MAX_HEAD = 16 * 1024
_TCP_LINGER = 0.25  # seconds; see tcp_socket

# Errors of the host itself, which say nothing about the guest. A missing answer to ARP
# (EHOSTUNREACH) is none of them: it is a failure of the guest.
_LOCAL_TROUBLE = frozenset(
    {
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOBUFS,
        errno.ENOMEM,
        errno.EADDRNOTAVAIL,
        errno.EADDRINUSE,
        errno.ENETUNREACH,
        errno.ENETDOWN,
        errno.EACCES,
        errno.EPERM,
        errno.EAFNOSUPPORT,
    }
)


async def run(target: ProbeTarget) -> Outcome:
    """Run an ``httpGet`` or ``tcpSocket`` probe from the host, within ``target.timeout`` seconds.

    Network errors become results; nothing but cancellation is raised for them.
    """
    if target.port is None:
        return None, f"{target.kind} has no port"
    if target.address is None:
        return None, no_address(target)
    if target.kind == "httpGet":
        return await _http_get(target, target.address, target.port)
    return await _tcp_socket(target, target.address, target.port)


def no_address(target: ProbeTarget) -> str:
    """Why a probe from the host cannot run, and what to write instead."""
    return (
        f"the host knows no address of {target.guest} for port {target.port}: write"
        f" {target.kind}.from: guest, or a forward to port {target.port} under the interface's"
        " user.forwards"
    )


def _where(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


# --- httpGet --------------------------------------------------------------------------------------


async def _http_get(target: ProbeTarget, address: str, port: int) -> Outcome:
    where = _where(address, port)
    try:
        request = _request(target, where)
    except h11.LocalProtocolError as error:
        return None, f"the request cannot be sent: {error}; correct httpGet.path or headers"
    tls, server_name = None, None
    if target.scheme == "https":
        tls, server_name = _unverified_tls(), _header(target, "host").partition(":")[0] or None
    loop = asyncio.get_running_loop()
    answer = _Answer(loop, request)
    url = f"{target.scheme}://{where}{target.path}"
    try:
        async with asyncio.timeout(target.timeout):
            await loop.create_connection(
                lambda: answer, address, port, ssl=tls, server_hostname=server_name
            )
            await answer.done
    except TimeoutError:
        # A complete head is an answer; a body that never ends (a stream) is no failure.
        if answer.status is None:
            return False, f"no answer from {url} within {target.timeout:g} s"
    except OSError as error:
        return _trouble(error, url)
    finally:
        answer.hang_up()
    return answer.verdict(url)


def _header(target: ProbeTarget, name: str) -> str:
    return next((value for key, value in target.headers if key.lower() == name), "")


@lru_cache(maxsize=8192)
def _request(target: ProbeTarget, where: str) -> h11.Request:
    defaults = {
        "host": where,
        "user-agent": f"guestkeeper-probe/{__version__}",
        "accept": "*/*",
        "connection": "close",
    }
    given = {name.lower() for name, _ in target.headers}
    headers = [(name, value) for name, value in defaults.items() if name not in given]
    headers += target.headers
    try:
        encoded = [(name.encode("ascii"), value.encode("utf-8")) for name, value in headers]
    except UnicodeEncodeError as error:
        raise h11.LocalProtocolError(f"header name is not ASCII: {error.object!r}") from error
    return h11.Request(method=b"GET", target=target.path or "/", headers=encoded)


@lru_cache(maxsize=1)
def _unverified_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class _Answer(asyncio.Protocol):
    """One request and the head of its answer; ``done`` is set once enough was read to judge."""

    def __init__(self, loop: asyncio.AbstractEventLoop, request: h11.Request) -> None:
        self.done: asyncio.Future[None] = loop.create_future()
        self.status: int | None = None
        self.error = ""
        self._request = request
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD)
        self._transport: asyncio.Transport | None = None
        self._body = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        data = self._http.send(self._request) or b""
        self._transport.write(data + (self._http.send(h11.EndOfMessage()) or b""))

    def data_received(self, data: bytes) -> None:
        self._read(data)

    def eof_received(self) -> None:
        self._read(b"")

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            self._finish(f"closed the connection: {_reason(exc)}")
        self._finish("closed the connection without an answer")

    def hang_up(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def verdict(self, url: str) -> Outcome:
        if self.status is None:
            return False, f"{url} {self.error}"
        try:
            phrase = " " + HTTPStatus(self.status).phrase
        except ValueError:
            phrase = ""
        return 200 <= self.status < 400, f"{url} answered {self.status}{phrase}"

    def _read(self, data: bytes) -> None:
        if self.done.done():
            return
        try:
            self._http.receive_data(data)
            while True:
                event = self._http.next_event()
                if event is h11.NEED_DATA or event is h11.PAUSED:
                    break
                if isinstance(event, h11.Response):
                    self.status = event.status_code
                elif isinstance(event, h11.Data):
                    self._body += len(event.data)
                elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
                    self._finish("closed the connection without an answer")
                    break
            if self._body >= _MAX_BODY:
                self._finish("")
        except h11.RemoteProtocolError as error:
            if data:
                self._finish(f"did not answer in HTTP: {error}")
            else:
                self._finish("closed the connection without a complete HTTP answer")

    def _finish(self, error: str) -> None:
        if not self.done.done():
            self.error = error
            self.done.set_result(None)


# --- tcpSocket ------------------------------------------------------------------------------------


async def _tcp_socket(target: ProbeTarget, address: str, port: int) -> Outcome:
    """Connect, then close the connection.

    On a loopback address QEMU's user networking accepts, before it knows whether the guest will;
    if the guest refuses, QEMU closes. So there the connection must also stay open for a moment
    (0.25 s, at most half the timeout), or bring data. A guest that does not react at all is not
    detected this way; a probe with ``from: guest`` detects it.
    """
    where = _where(address, port)
    loop = asyncio.get_running_loop()
    held = _Held(loop)
    try:
        async with asyncio.timeout(target.timeout):
            await loop.create_connection(lambda: held, address, port)
    except TimeoutError:
        return False, f"no connection to {where} within {target.timeout:g} s"
    except OSError as error:
        return _trouble(error, where)
    try:
        if _is_loopback(address):
            done, _ = await asyncio.wait({held.lost}, timeout=min(_TCP_LINGER, target.timeout / 2))
            if done and held.lost.result():
                return False, f"{where} closed the connection at once"
    finally:
        held.hang_up()
    return True, f"{where} accepted a connection"


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


class _Held(asyncio.Protocol):
    """A connection held open; ``lost`` is True if the peer closed it, False if it sent data."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.lost: asyncio.Future[bool] = loop.create_future()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:  # noqa: ARG002 - asyncio's signature
        self._finish(lost=False)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._finish(lost=True)

    def hang_up(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _finish(self, *, lost: bool) -> None:
        if not self.lost.done():
            self.lost.set_result(lost)


# --- Errors ---------------------------------------------------------------------------------------


def _trouble(error: OSError, where: str) -> Outcome:
    if isinstance(error, socket.gaierror):
        return None, f"cannot look up {where}: {_reason(error)}"
    if isinstance(error, ssl.SSLError):
        return False, f"{where}: TLS failed: {error.reason or error}"
    if error.errno in _LOCAL_TROUBLE:
        return None, f"the host cannot connect to {where}: {_reason(error)}"
    return False, f"{where}: {_reason(error)}"


def _reason(error: BaseException) -> str:
    """The system's error text, because asyncio's repeats the address as a Python tuple."""
    number = getattr(error, "errno", None)
    if isinstance(number, int) and number > 0:
        return os.strerror(number).lower()
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
