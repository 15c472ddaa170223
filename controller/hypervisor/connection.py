"""A host's connections: opened, watched, lost, opened again.

libvirtd restarts, hosts reboot, networks hang. One thread a host keeps the connections up by
itself, with backoff; everybody else either gets a live session or is told at once, with the
reason, that the host is not reachable, so that nothing is ever decided on silence.
"""

import random
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import TypeVar

import libvirt
import structlog

from controller.errors import GuestkeeperError, HostUnreachableError, PermanentError
from controller.hypervisor.deadlines import DeadlineError, Deadlines
from controller.hypervisor.event_loop import ensure_running
from controller.hypervisor.host_config import HostConfig, OnCall, OnHost, Role
from controller.hypervisor.shield import shielded
from controller.hypervisor.translate import lost, translate

T = TypeVar("T")
log = structlog.get_logger(__name__)

OPEN_TIMEOUT = 20.0
_KEEPALIVE = (5, 3)  # seconds between probes, unanswered probes: a hung daemon shows in 20 s
_FIRST_BACKOFF, _LAST_BACKOFF = 0.2, 15.0
_STUCK_CALLS = 3
"""Of the five calls a connection has room for, so many stuck ones make it be replaced."""
_WORKERS = {Role.EVENTS: 2, Role.LOOK: 4, Role.ACT: 16, Role.AGENT: 24}


class Session:
    """The connections between one connect and one loss. Never reused after."""

    def __init__(self, connections: Mapping[Role, libvirt.virConnect]) -> None:
        self.connections = dict(connections)
        self.stuck = dict.fromkeys(Role, 0)
        self.why = ""
        self._lost = threading.Event()

    @property
    def lost(self) -> bool:
        return self._lost.is_set()

    def lose(self, why: str) -> None:
        """Marks it lost, once; the first reason is the one that is told."""
        if not self._lost.is_set():
            self.why = why
            self._lost.set()

    def wait_lost(self, timeout: float) -> bool:
        return self._lost.wait(timeout)


class HostLink:
    """One host. ``connected`` prepares a new session (register, list) before it is announced."""

    def __init__(
        self,
        config: HostConfig,
        *,
        connected: Callable[["HostLink", Session], None],
        on_host: OnHost,
        on_call: OnCall,
        keepalive: tuple[int, int] = _KEEPALIVE,
    ) -> None:
        self.config = config
        self._connected = connected
        self._on_host = shielded(on_host)
        self._on_call = shielded(on_call)
        self._keepalive = keepalive
        self._deadlines = {
            role: Deadlines(f"{config.name}-{role}", workers=_WORKERS[role]) for role in Role
        }
        # An open that hangs is given up and tried again, but never more than three at a time.
        self._opener = Deadlines(f"{config.name}-open", workers=3, abandoned=3)
        self._session: Session | None = None
        self._why = "not connected yet"
        self._stop = threading.Event()
        self._settled = threading.Event()
        self._renew_lock = threading.Lock()
        self._thread: threading.Thread | None = None

    # --- Life -------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begins to keep the host connected; returns at once."""
        ensure_running()
        self._thread = threading.Thread(
            target=self._run, name=f"host-{self.config.name}", daemon=True
        )
        self._thread.start()

    def wait_settled(self, timeout: float) -> bool:
        """Waits until the first attempt succeeded or failed, at most ``timeout`` seconds."""
        return self._settled.wait(timeout)

    def stop(self, timeout: float = 5.0) -> None:
        """Disconnects; waits at most ``timeout`` seconds."""
        self._stop.set()
        session = self._session
        if session is not None:
            session.lose("stopped")
        if self._thread is not None:
            self._thread.join(timeout)

    @property
    def reachable(self) -> bool:
        session = self._session
        return session is not None and not session.lost

    @property
    def why(self) -> str:
        """What is wrong while it is not reachable."""
        session = self._session
        if session is None:
            return self._why
        return session.why

    @property
    def stuck_calls(self) -> int:
        """Calls past their deadline that have not come back."""
        return sum(one.abandoned for one in (*self._deadlines.values(), self._opener))

    # --- Calls ------------------------------------------------------------------------------------

    def ensure_reachable(self) -> Session:
        """The live session. Raises ``HostUnreachableError`` with the reason while it is lost."""
        session = self._session
        if session is None or session.lost:
            raise HostUnreachableError(f"host {self.config.name} is not reachable: {self.why}")
        return session

    def call(
        self,
        role: Role,
        operation: str,
        function: Callable[[libvirt.virConnect], T],
        timeout: float,
        *,
        late: Callable[[T], None] | None = None,
    ) -> T:
        """Runs ``function`` with the connection of ``role``, under a deadline of seconds.

        Raises ``HostUnreachableError`` while the host is lost and when the deadline passes,
        ``PermanentError(reason="ReadOnly")`` for an act on a host that is only looked at, and
        whatever ``translate`` makes of libvirt's error.
        """
        if role is Role.ACT and self.config.read_only:
            raise PermanentError(
                f"host {self.config.name} is only looked at: {operation} is not done",
                reason="ReadOnly",
            )
        session = self.ensure_reachable()
        return self.call_in(session, role, operation, function, timeout, late=late)

    def call_in(
        self,
        session: Session,
        role: Role,
        operation: str,
        function: Callable[[libvirt.virConnect], T],
        timeout: float,
        *,
        late: Callable[[T], None] | None = None,
    ) -> T:
        """``call`` in a session that need not be announced yet."""
        connection = session.connections[role]
        began = time.monotonic()
        code = "ok"
        try:
            return self._deadlines[role].call(
                operation, lambda: function(connection), timeout, late=late
            )
        except libvirt.libvirtError as error:
            gone = lost(error, connection)
            agent = role is Role.AGENT
            translated = translate(error, self.config.name, operation, gone=gone, agent=agent)
            code = translated.reason
            if gone:
                session.lose(error.get_error_message() or str(error))
            raise translated from error
        except GuestkeeperError as error:
            code = error.reason
            if isinstance(error, DeadlineError):
                self._passed(session, role, operation, connection)
            raise
        finally:
            self._on_call(self.config.name, operation, code, time.monotonic() - began)

    def _passed(
        self, session: Session, role: Role, operation: str, connection: libvirt.virConnect
    ) -> None:
        """A call did not come back: keep its connection from filling up with such calls."""
        with self._renew_lock:
            session.stuck[role] += 1
            full = session.stuck[role] >= _STUCK_CALLS
            if not full or session.connections[role] is not connection or self.config.in_process:
                return
            session.stuck[role] = 0
        if role in (Role.EVENTS, Role.LOOK):
            # Looking does not work: nothing is known of this host until it is listed anew.
            session.lose(f"{operation} and other calls did not answer in time")
            return
        try:
            fresh = self._open_one(role)
        except GuestkeeperError as error:
            session.lose(str(error))
            return
        log.warning("connection replaced", host=self.config.name, role=str(role))
        with self._renew_lock:
            session.connections[role] = fresh
        _watch(fresh, session)

    # --- Keeping it up ----------------------------------------------------------------------------

    def _run(self) -> None:
        failures = 0
        while not self._stop.is_set():
            connected = False
            try:
                connected = self._keep()
            except Exception as error:  # without this thread the host would be lost for ever
                log.exception("host's thread panicked", host=self.config.name)
                self._why = f"an unexpected failure: {error!r}"
            self._settled.set()
            if connected:
                failures = 0
                continue
            self._stop.wait(_backoff(failures))
            failures += 1

    def _keep(self) -> bool:
        """One session from its beginning to its loss; False where none came to be."""
        session = self._connect()
        if session is None:
            return False
        try:
            self._session = session
            log.info("host connected", host=self.config.name, uri=self.config.uri)
            self._on_host(self.config.name, True, "")
            self._settled.set()
            while not session.wait_lost(1.0):
                pass
            self._why = session.why
        finally:
            session.lose(self._why)
            self._session = None
            self._close(session)
        if not self._stop.is_set():
            log.warning("host lost", host=self.config.name, why=session.why)
            self._on_host(self.config.name, False, session.why)
        return True

    def _connect(self) -> Session | None:
        session: Session | None = None
        try:
            session = self._open()
            self._connected(self, session)
            if session.lost:
                raise HostUnreachableError(session.why)
        except GuestkeeperError as error:
            self._failed(session, str(error))
        except Exception as error:  # ours or libvirt's bug: told, and tried again like any other
            log.exception("host could not be prepared", host=self.config.name)
            self._failed(session, f"an unexpected failure while it was connected: {error!r}")
        else:
            return session
        return None

    def _failed(self, session: Session | None, why: str) -> None:
        """No session came to be: says so, once a reason, and lets go of what there is of it."""
        if session is not None:
            session.lose(why)
            why = session.why
            self._close(session)
        if why != self._why:
            log.warning("host not reachable", host=self.config.name, why=why)
            self._why = why
            self._on_host(self.config.name, False, why)

    def _open(self) -> Session:
        if self.config.in_process:
            # Every open of the test driver is a world of its own: the roles share one.
            one = self._open_one(Role.EVENTS)
            return Session(dict.fromkeys(Role, one))
        connections: dict[Role, libvirt.virConnect] = {}
        try:
            for role in Role:
                connections[role] = self._open_one(role)
        except Exception:
            self._close(Session(connections))
            raise
        session = Session(connections)
        for connection in connections.values():
            _watch(connection, session)
        return session

    def _open_one(self, role: Role) -> libvirt.virConnect:
        def open_it() -> libvirt.virConnect:
            connection = libvirt.open(self.config.uri)
            if not self.config.in_process:
                connection.setKeepAlive(*self._keepalive)
            return connection

        operation = f"open {role}"
        try:
            return self._opener.call(operation, open_it, OPEN_TIMEOUT, late=_close_one)
        except libvirt.libvirtError as error:
            raise HostUnreachableError(
                f"cannot connect to {self.config.uri}: {error.get_error_message() or error}"
            ) from error

    def _close(self, session: Session) -> None:
        """Closing speaks to the daemon too: it is given a few seconds, then left behind."""
        connections = {id(one): one for one in session.connections.values()}
        session.connections = {role: _Closed(self.config.name) for role in Role}
        for connection in connections.values():
            try:
                self._opener.call("close", partial(_close_one, connection), 3.0)
            except GuestkeeperError as error:
                log.debug("connection left behind", host=self.config.name, why=str(error))
            except Exception:  # the others still want to be closed
                log.exception("closing a connection panicked", host=self.config.name)


class _Closed:
    """Stands where a connection was: whoever still holds the session learns that it is gone."""

    def __init__(self, host: str) -> None:
        self._host = host

    def __getattr__(self, name: str) -> object:
        raise HostUnreachableError(f"host {self._host}: the connection was closed meanwhile")


def _watch(connection: libvirt.virConnect, session: Session) -> None:
    reasons = {
        libvirt.VIR_CONNECT_CLOSE_REASON_ERROR: "the connection broke",
        libvirt.VIR_CONNECT_CLOSE_REASON_EOF: "libvirtd closed the connection or stopped",
        libvirt.VIR_CONNECT_CLOSE_REASON_KEEPALIVE: "libvirtd does not answer (keepalive)",
        libvirt.VIR_CONNECT_CLOSE_REASON_CLIENT: "closed by the daemon itself",
    }

    def closed(_connection: libvirt.virConnect, reason: int, _opaque: object) -> None:
        session.lose(reasons.get(reason, "the connection was closed"))

    try:
        connection.registerCloseCallback(shielded(closed), None)
    except libvirt.libvirtError as error:
        session.lose(error.get_error_message() or "the connection was lost while it was set up")


def _close_one(connection: libvirt.virConnect) -> None:
    # Each registered callback holds the connection, and its socket, open.
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


def _backoff(failures: int) -> float:
    """Seconds before the next attempt: doubling, capped, with jitter (0.5 to 1 of it)."""
    seconds: float = min(_LAST_BACKOFF, _FIRST_BACKOFF * 2.0 ** min(failures, 10))
    return seconds * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
