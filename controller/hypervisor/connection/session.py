"""The connections between one connect of a host and one loss, and how each of them ends.

A connection may be closed only when no call is under way on it: libvirt would free it below that
call. One that calls are stuck on is therefore retired, which nobody hears of any more, and closed
when the last of them has come back, however late.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import TypeVar

import libvirt
import structlog

from controller.errors import HostUnreachableError
from controller.hypervisor.connection.callbacks import never_raises
from controller.hypervisor.connection.config import Role

T = TypeVar("T")
log = structlog.get_logger(__name__)
_SPARE = 2
"""Connections kept open for the next streams."""
_REASONS = {
    libvirt.VIR_CONNECT_CLOSE_REASON_ERROR: "the connection broke",
    libvirt.VIR_CONNECT_CLOSE_REASON_EOF: "libvirtd closed the connection or stopped",
    libvirt.VIR_CONNECT_CLOSE_REASON_KEEPALIVE: "libvirtd does not answer (keepalive)",
    libvirt.VIR_CONNECT_CLOSE_REASON_CLIENT: "closed by the daemon itself",
}


class Line:
    """One connection, with the calls that are under way on it. Thread-safe."""

    def __init__(self, connection: libvirt.virConnect) -> None:
        self.connection = connection
        self.stuck = 0
        """Calls on it that passed their deadline, whether they came back later or not."""
        self._lock = threading.Lock()
        self._under_way = 0
        self._retired = False
        self._closing = False

    def run(self, function: Callable[[libvirt.virConnect], T]) -> T:
        """``function`` with the connection; whatever it asks of a closed one raises
        ``HostUnreachableError``.
        """
        with self._lock:
            closed = self._closing
            if not closed:
                self._under_way += 1
        if closed:  # what only lets go of a stream has to be done all the same
            return function(_Closed())
        try:
            return function(self.connection)
        finally:
            with self._lock:
                self._under_way -= 1

    def watch(self, gone: Callable[[str], None]) -> None:
        """``gone(why)`` when it ends by itself and is not retired. Raises ``libvirtError``."""

        def closed(_connection: libvirt.virConnect, reason: int, _opaque: object) -> None:
            if not self._retired:
                gone(_REASONS.get(reason, "the connection was closed"))

        self.connection.registerCloseCallback(never_raises(closed), None)

    def retire(self) -> None:
        """It is to be closed; what is under way on it goes on."""
        self._retired = True

    def may_close(self) -> bool:
        """True where nothing is under way on it, and then nothing begins any more."""
        with self._lock:
            if self._under_way:
                return False
            self._closing = True
            return True

    def close(self) -> None:
        """Speaks to libvirtd, and so may hang."""
        close(self.connection)


class _Closed:
    """Stands where a connection was: whoever still holds the session learns that it is gone."""

    def __getattr__(self, name: str) -> object:
        raise HostUnreachableError("the connection was closed meanwhile")


class Session:
    """One line for each role, and those of streams, from one connect to one loss.

    Never reused after.
    """

    def __init__(self, connections: Mapping[Role, libvirt.virConnect]) -> None:
        one = {id(connection): Line(connection) for connection in connections.values()}
        self._lines = {role: one[id(connection)] for role, connection in connections.items()}
        self._lock = threading.Lock()
        self._spare: list[Line] = []  # of streams that have ended
        self.why = ""
        self._lost = threading.Event()

    @property
    def connections(self) -> Mapping[Role, libvirt.virConnect]:
        return {role: line.connection for role, line in self._lines.items()}

    @property
    def lost(self) -> bool:
        return self._lost.is_set()

    def line(self, role: Role) -> Line:
        return self._lines[role]

    def lines(self) -> Iterable[Line]:
        """Each once, without those that streams have."""
        with self._lock:
            lines = (*self._lines.values(), *self._spare)
        return {id(line): line for line in lines}.values()

    def spare(self) -> Line | None:
        """A line that no stream has any more; it is the caller's then."""
        with self._lock:
            return self._spare.pop() if self._spare else None

    def keep(self, line: Line) -> bool:
        """Keeps it for the next stream; False where it is to be closed instead."""
        with self._lock:
            kept = not self.lost and len(self._spare) < _SPARE
            if kept:
                self._spare.append(line)
            return kept

    def watch(self) -> None:
        """Whichever line ends by itself, the session is lost. Raises ``libvirtError``."""
        for line in self.lines():
            line.watch(self.lose)

    def replace(self, role: Role, fresh: Line) -> Line:
        """Calls go to ``fresh`` from now on; returns the line that they went to before."""
        old, self._lines[role] = self._lines[role], fresh
        old.retire()
        return old

    def lose(self, why: str) -> None:
        """Marks it lost, once; the first reason is the one that is told."""
        with self._lock:
            if not self._lost.is_set():
                self.why = why
                self._lost.set()

    def wait_lost(self, timeout: float) -> bool:
        return self._lost.wait(timeout)


def close(connection: libvirt.virConnect) -> None:
    """Lets go of what holds the connection, and its socket, open: every callback does."""
    # It is let go before the daemon is told, which is likely gone.
    for identity in list(getattr(connection, "domainEventCallbackID", ())):
        with suppress(libvirt.libvirtError):
            connection.domainEventDeregisterAny(identity)
    with suppress(libvirt.libvirtError):
        connection.unregisterCloseCallback()
    try:
        connection.close()
    except libvirt.libvirtError as error:
        log.debug("connection not closed cleanly", error=str(error))
