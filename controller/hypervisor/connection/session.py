"""The connections of a host from one connect to the next loss, and how each of them ends.

A connection may be closed only when no call is running on it: libvirt would free it during that
call. So a connection with stuck calls is retired (its end is no longer reported), and closed when
the last of these calls has returned, however late.
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
    """One connection, which counts the calls running on it. Thread-safe."""

    def __init__(self, connection: libvirt.virConnect) -> None:
        self.connection = connection
        self.stuck = 0
        """Calls on it that passed their deadline, whether they returned later or not."""
        self._lock = threading.Lock()
        self._under_way = 0
        self._retired = False
        self._closing = False

    def run(self, function: Callable[[libvirt.virConnect], T]) -> T:
        """Runs ``function`` with the connection; if that is closed, its methods raise
        ``HostUnreachableError``.
        """
        with self._lock:
            closed = self._closing
            if not closed:
                self._under_way += 1
        if closed:  # a function that only releases a stream must run all the same
            return function(_Closed())
        try:
            return function(self.connection)
        finally:
            with self._lock:
                self._under_way -= 1

    def watch(self, gone: Callable[[str], None]) -> None:
        """Calls ``gone(why)`` when a line not retired ends by itself. Raises ``libvirtError``."""

        def closed(_connection: libvirt.virConnect, reason: int, _opaque: object) -> None:
            if not self._retired:
                gone(_REASONS.get(reason, "the connection was closed"))

        self.connection.registerCloseCallback(never_raises(closed), None)

    def retire(self) -> None:
        """Marks the line as one to be closed; calls running on it continue."""
        self._retired = True

    def may_close(self) -> bool:
        """True if no call is running on it; from then on none can begin."""
        with self._lock:
            if self._under_way:
                return False
            self._closing = True
            return True

    def close(self) -> None:
        """Closes the connection. Calls libvirtd, and so may hang."""
        close(self.connection)


class _Closed:
    """Replaces a closed connection: every access raises ``HostUnreachableError``."""

    def __getattr__(self, name: str) -> object:
        raise HostUnreachableError("the connection was closed meanwhile")


class Session:
    """One line for each role, and spare lines for streams, from one connect to the next loss.

    Never reused after it is lost.
    """

    def __init__(self, connections: Mapping[Role, libvirt.virConnect]) -> None:
        one = {id(connection): Line(connection) for connection in connections.values()}
        self._lines = {role: one[id(connection)] for role, connection in connections.items()}
        self._lock = threading.Lock()
        self._spare: list[Line] = []  # lines of streams that have ended
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
        """All lines, each once, without those in use by streams."""
        with self._lock:
            lines = (*self._lines.values(), *self._spare)
        return {id(line): line for line in lines}.values()

    def spare(self) -> Line | None:
        """Takes a line that no stream uses any more, or None; it is the caller's from then on."""
        with self._lock:
            return self._spare.pop() if self._spare else None

    def keep(self, line: Line) -> bool:
        """Keeps ``line`` for the next stream; False if the caller must close it instead."""
        with self._lock:
            kept = not self.lost and len(self._spare) < _SPARE
            if kept:
                self._spare.append(line)
            return kept

    def watch(self) -> None:
        """Marks the session lost when any of its lines ends by itself. Raises ``libvirtError``."""
        for line in self.lines():
            line.watch(self.lose)

    def replace(self, role: Role, fresh: Line) -> Line:
        """Sends the role's calls to ``fresh`` from now on; returns the old line, retired."""
        old, self._lines[role] = self._lines[role], fresh
        old.retire()
        return old

    def lose(self, why: str) -> None:
        """Marks the session lost; only the first reason is kept."""
        with self._lock:
            if not self._lost.is_set():
                self.why = why
                self._lost.set()

    def wait_lost(self, timeout: float) -> bool:
        return self._lost.wait(timeout)


def close(connection: libvirt.virConnect) -> None:
    """Removes all callbacks, because each keeps the connection and its socket open; closes it."""
    # libvirt drops each callback before it calls libvirtd, which is probably gone.
    for identity in list(getattr(connection, "domainEventCallbackID", ())):
        with suppress(libvirt.libvirtError):
            connection.domainEventDeregisterAny(identity)
    with suppress(libvirt.libvirtError):
        connection.unregisterCloseCallback()
    try:
        connection.close()
    except libvirt.libvirtError as error:
        log.debug("connection not closed cleanly", error=str(error))
