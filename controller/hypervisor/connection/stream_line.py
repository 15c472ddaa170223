"""A separate connection for each stream: an upload, a download, a console.

libvirt's client library loses answers, or its connection, when other threads make calls on a
connection with an open stream. Seen with 9.0.0, in Debian 12: with 8 threads that uploaded on one
connection, each run ended within 3,000 uploads, by a call that never returned or by "client socket
is closed"; on connections of their own 22,000 uploads succeeded, and so did 120,000 calls of 8
threads on one connection without streams. So no other call is made on a stream's connection.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import BinaryIO, TypeVar

import libvirt
import structlog

from controller.errors import TransientError
from controller.hypervisor.connection.config import Role
from controller.hypervisor.connection.link import HostLink
from controller.hypervisor.connection.session import Line, Session

T = TypeVar("T")
log = structlog.get_logger(__name__)

CHUNK = 1 << 20  # bytes sent to a stream under one deadline
_CHUNK_TIMEOUT = 30.0
_BLOCK = 1 << 18


class StreamLine:
    """A line for one stream alone, until it is given back or closed. Made by ``take``."""

    def __init__(self, link: HostLink, session: Session, line: Line) -> None:
        self._link = link
        self.session = session
        self._line = line
        self._closed = False

    def call(
        self,
        role: Role,
        operation: str,
        function: Callable[[libvirt.virConnect], T],
        timeout: float,
        *,
        late: Callable[[T], None] | None = None,
    ) -> T:
        """As ``HostLink.call``, on this line; ``role`` selects the workers."""
        return self._link.call_in(
            self.session, role, operation, function, timeout, late=late, line=self._line
        )

    def give_back(self) -> None:
        """Releases the line for the next stream; for a stream that ended without error."""
        if not self.session.keep(self._line):
            self.close()

    def close(self) -> None:
        """Closes the line as soon as no call is running on it; returns at once. Idempotent.

        A console that opens after its deadline is given up twice: by its caller, and when it opens.
        """
        if not self._closed:
            self._closed = True
            self._link.close_line(self._line)


def take(link: HostLink) -> StreamLine:
    """A line of the host's current session, for one stream. Raises as ``HostLink.call``."""
    session = link.ensure_reachable()
    return StreamLine(link, session, session.spare() or link.open_line(session, "open stream"))


@contextmanager
def stream_line(link: HostLink) -> Iterator[StreamLine]:
    """``take`` as a context: the line is given back at the end, or closed after an error."""
    line = take(link)
    try:
        yield line
    except BaseException:
        line.close()
        raise
    line.give_back()


def send(
    line: StreamLine,
    sink: libvirt.virStream,
    stream: BinaryIO,
    size: int,
    progress: Callable[[int], None],
) -> None:
    """Sends ``size`` bytes of ``stream`` into ``sink``, each chunk as a call of its own.

    ``progress`` gets the number of bytes sent so far. Raises ``TransientError`` if ``stream`` ends
    early, and as ``HostLink.call``.
    """

    def send_all(_connection: libvirt.virConnect, data: bytes) -> None:
        sent = 0
        while sent < len(data):
            sent += sink.send(data[sent:] if sent else data)

    sent = 0
    while sent < size:
        chunk = stream.read(min(CHUNK, size - sent))
        if not chunk:
            raise TransientError(f"the source ended after {sent} of {size} bytes")
        line.call(Role.ACT, "upload", partial(send_all, data=chunk), _CHUNK_TIMEOUT)
        sent += len(chunk)
        progress(sent)


# --- Run by a worker ------------------------------------------------------------------------------


def receive(source: libvirt.virStream) -> bytes:
    """Reads the stream to its end, and finishes it. Raises ``libvirtError``."""
    received = bytearray()
    try:
        while block := source.recv(_BLOCK):
            received += block
        source.finish()
    except libvirt.libvirtError:
        abort(source)
        raise
    return bytes(received)


def abort(stream: libvirt.virStream) -> None:
    """Ends the stream early; a failure is only logged."""
    try:
        stream.abort()
    except libvirt.libvirtError as error:
        log.debug("stream not closed cleanly", error=str(error))
