"""A domain's console or channel as a stream of bytes, from now on.

libvirt's streams have no flow control: all output of a guest is read and buffered in this process.
So it is buffered here, where it is counted. If a guest writes more than is read, either the oldest
bytes are dropped (a log) or the stream is closed, so that the guest's own write blocks until the
port is opened again (a channel on which every line counts).
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from enum import StrEnum

import libvirt
import structlog

from controller.errors import (
    GuestkeeperError,
    HostUnreachableError,
    PermanentError,
    TransientError,
)
from controller.hypervisor.connection.callbacks import never_raises
from controller.hypervisor.connection.config import Role
from controller.hypervisor.connection.link import HostLink
from controller.hypervisor.connection.stream_line import StreamLine, abort, take
from controller.hypervisor.domains.guarded_writes import Guard

log = structlog.get_logger(__name__)

_BLOCK = 65536
BACKLOG = 4 << 20  # bytes kept for a slow reader
_TIMEOUT = 15.0
_WRITE_SECONDS = 5.0
_PAUSE = 0.02  # seconds before the next try to send to a stream that took nothing
_LOST_LOOK = 0.5
"""Seconds between a reader's checks for a lost connection: libvirt does not end the streams of a
lost connection, they only fall silent."""

Attach = Callable[[libvirt.virDomain, libvirt.virStream], None]


class Overflow(StrEnum):
    """What happens when the buffer for a slow reader is full (``BACKLOG``)."""

    DROP_OLDEST = "drop-oldest"
    HANG_UP = "hang-up"  # close; buffered bytes are still read, the guest's next write blocks


class Console:
    """An open port: iterate over it to read; close it, or leave its ``with``, to end it.

    Safe to read, write and close from different threads.
    """

    def __init__(self, line: StreamLine, stream: libvirt.virStream, overflow: Overflow) -> None:
        self._line = line
        self._session = line.session
        self._stream = stream
        self._overflow = overflow
        self._changed = threading.Condition()
        self._blocks: deque[bytes] = deque()
        self._held = 0
        self._ended = False
        self._closed = False
        self._writing = threading.Lock()

    def __enter__(self) -> "Console":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[bytes]:
        """Yields blocks of bytes until the stream ends, see ``read``, or is closed."""
        while True:
            block = self.read(1.0)
            if block is None:
                return
            if block:
                yield block

    def read(self, timeout: float) -> bytes | None:
        """The next bytes; b'' if none came within ``timeout`` seconds, None at the stream's end.

        It ends when the domain stops, another client takes the port, or the connection is lost;
        bytes that arrived before are returned first.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            while not self._blocks:
                if self._session.lost and not self._ended:
                    self._take_rest()
                    continue
                if self._ended:
                    return None
                left = deadline - time.monotonic()
                if left <= 0:
                    return b""
                self._changed.wait(min(left, _LOST_LOOK))
            block = self._blocks.popleft()
            self._held -= len(block)
            return block

    def write(self, data: bytes) -> None:
        """Sends a few bytes to the guest (``virStreamSend``).

        Raises ``TransientError``: ``ChannelClosed`` after the stream's end, ``ChannelBlocked`` if
        not all is taken within 5 s (some of ``data`` may have been sent), and as ``HostLink.call``.
        """
        if self._session.lost:
            raise HostUnreachableError(f"the connection was lost: {self._session.why}")
        if self._ended:
            raise TransientError("the channel is closed", reason="ChannelClosed")
        with self._writing:  # so that the lines of two writers do not mix
            self._line.call(
                Role.ACT, "write channel", lambda _: _send(self._stream, data), _TIMEOUT
            )

    def close(self) -> None:
        """Ends the stream, also in libvirt if that is possible. Never raises for a lost host."""
        with self._changed:
            if self._closed:
                return
            self._closed = self._ended = True
            self._changed.notify_all()
        self._let_go()

    def listen(self) -> None:
        """Starts to receive bytes, first those that came since the port was opened."""
        self._stream.eventAddCallback(
            libvirt.VIR_STREAM_EVENT_READABLE
            | libvirt.VIR_STREAM_EVENT_ERROR
            | libvirt.VIR_STREAM_EVENT_HANGUP,
            never_raises(self._ready),
            None,
        )

    # --- What comes in ----------------------------------------------------------------------------

    def _ready(self, _stream: libvirt.virStream, events: int, _opaque: object) -> None:
        """Callback in libvirt's event thread: receives available bytes, never blocks."""
        with self._changed:
            if events & libvirt.VIR_STREAM_EVENT_READABLE:
                self._take()
            else:
                self._ended = True
            ended, full = self._ended, self._held > BACKLOG
            self._changed.notify_all()
        if ended:
            _forget(self._stream)
        if full:
            # In a thread: it waits for an answer of libvirtd, which would delay all events.
            threading.Thread(target=self._let_go, name="hang-up", daemon=True).start()

    def _take(self) -> bool:
        """Receives one block from the stream; False if there is none. Under the lock."""
        try:
            block = self._stream.recv(_BLOCK)
        except libvirt.libvirtError as error:
            log.debug("stream ended", error=str(error))
            block = b""
        if isinstance(block, int):  # -2: no bytes available after all
            return False
        if not block or self._closed:
            self._ended = True
            return False
        self._blocks.append(block)
        self._held += len(block)
        while self._overflow is Overflow.DROP_OLDEST and self._held > BACKLOG:
            self._held -= len(self._blocks.popleft())
        if self._held > BACKLOG:
            log.warning("channel hung up: more came than was read", unread=self._held)
            self._ended = True
        return True

    def _take_rest(self) -> None:
        """Receives what libvirt still has buffered of a lost connection. Under the lock."""
        while not self._ended and self._take():
            pass
        self._ended = True

    def _let_go(self) -> None:
        """Ends stream and line; also of a lost connection, which the stream would keep open."""
        try:
            self._line.call(Role.ACT, "close console", lambda _: _end(self._stream), _TIMEOUT)
        except GuestkeeperError as error:
            log.debug("stream left behind", why=str(error))
        self._line.close()


def _anybody(_domain: libvirt.virDomain) -> None:
    """Default guard that accepts every domain, as reading a port does not change the domain."""


def open_stream(
    link: HostLink,
    name: str,
    operation: str,
    attach: Attach,
    *,
    overflow: Overflow = Overflow.DROP_OLDEST,
    guard: Guard = _anybody,
) -> Console:
    """Opens a stream, which ``attach`` connects to a port. No byte is lost before it is read.

    Raises as ``guard``, ``PermanentError(reason='NotRunning')`` for a domain that is off, and as
    ``HostLink.call``.
    """
    line = take(link)

    def open_it(connection: libvirt.virConnect) -> Console:
        domain = connection.lookupByName(name)
        guard(domain)
        if not domain.isActive():
            raise PermanentError(f"domain {name} is not running", reason="NotRunning")
        stream = connection.newStream(libvirt.VIR_STREAM_NONBLOCK)
        attach(domain, stream)
        console = Console(line, stream, overflow)
        console.listen()
        return console

    try:
        return line.call(Role.ACT, operation, open_it, _TIMEOUT, late=Console.close)
    except BaseException:
        line.close()
        raise


def open_console(link: HostLink, name: str) -> Console:
    """Opens the first serial port (``virDomainOpenConsole`` with ``SAFE``).

    Raises as ``open_stream``, and libvirt's error if another client has the console open.
    """

    def attach(domain: libvirt.virDomain, stream: libvirt.virStream) -> None:
        domain.openConsole(None, stream, libvirt.VIR_DOMAIN_CONSOLE_SAFE)

    return open_stream(link, name, "open console", attach)


# --- The calls themselves -------------------------------------------------------------------------


def _send(stream: libvirt.virStream, data: bytes) -> None:
    deadline = time.monotonic() + _WRITE_SECONDS
    sent = 0
    while sent < len(data):
        try:
            took = stream.send(data[sent:])
        except libvirt.libvirtError as error:
            # Translated here: the end of a stream must not look like the end of the connection.
            raise TransientError(f"the channel closed: {error}", reason="ChannelClosed") from error
        if took > 0:
            sent += took
        elif time.monotonic() >= deadline:
            raise TransientError(
                f"the channel took {sent} of {len(data)} bytes", reason="ChannelBlocked"
            )
        else:
            time.sleep(_PAUSE)


def _end(stream: libvirt.virStream) -> None:
    _forget(stream)
    abort(stream)


def _forget(stream: libvirt.virStream) -> None:
    try:
        stream.eventRemoveCallback()
    except libvirt.libvirtError as error:
        log.debug("stream's callback not removed", error=str(error))
