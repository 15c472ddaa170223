"""Keeps the connections to one host open: connect, watch, reconnect with back-off.

libvirtd restarts, hosts reboot, networks hang. One thread per host keeps its connections open.
Callers either get a live session, or at once an error with the reason why the host is not
reachable, so that nothing is decided because an answer is missing.
"""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import libvirt
import structlog

from controller.errors import (
    GuestkeeperError,
    HostBusyError,
    HostUnreachableError,
    PermanentError,
)
from controller.hypervisor.connection.callbacks import never_raises
from controller.hypervisor.connection.closing import Closing
from controller.hypervisor.connection.config import HostConfig, OnCall, OnHost, Role
from controller.hypervisor.connection.deadlines import DeadlineError, Deadlines
from controller.hypervisor.connection.event_loop import ensure_running
from controller.hypervisor.connection.session import Line, Session, close
from controller.hypervisor.errors.translate import lost, translate

T = TypeVar("T")
log = structlog.get_logger(__name__)

_KEEPALIVE = (5, 3)  # seconds between probes, unanswered probes: a hung daemon shows in 20 s
_NOT_YET = "not connected yet"
_STUCK_CALLS = 3
"""libvirtd handles five calls per connection; with this many stuck, the connection is replaced."""
_WORKERS = {
    Role.EVENTS: 2,
    Role.LOOK: 4,
    Role.STORAGE: 6,
    Role.ACT: 16,
    Role.AGENT: 24,
    Role.SILENT: 8,
}


@dataclass(frozen=True, slots=True)
class Pace:
    """Timeouts and pauses of one host, in seconds."""

    open: float = 20.0
    look: float = 30.0
    """For the domain list that proves a new connection of ``Role.LOOK``."""
    close: float = 3.0
    turn: float = 1.0
    """Between two checks for connections to replace or close."""
    first: float = 0.2
    last: float = 15.0
    """Between two attempts to connect: doubling from ``first`` to ``last``."""
    stuck: float = 10.0
    """The first pause after too many attempts that hang; see ``Deadlines``."""


class HostLink:
    """One host. ``connected`` prepares a new session (events, lists) before it is announced."""

    def __init__(
        self,
        config: HostConfig,
        *,
        connected: Callable[["HostLink", Session], None],
        on_host: OnHost,
        on_call: OnCall,
        keepalive: tuple[int, int] = _KEEPALIVE,
        pace: Pace = Pace(),
    ) -> None:
        self.config = config
        self._connected = connected
        self._on_host = never_raises(on_host)
        self._on_call = never_raises(on_call)
        self._keepalive = keepalive
        self._deadlines = {
            role: Deadlines(f"{config.name}-{role}", workers=_WORKERS[role]) for role in Role
        }
        self._pace = pace
        # An open that hangs is given up and retried; while opens stay stuck, ever more rarely.
        self._opener = Deadlines(f"{config.name}-open", workers=3, abandoned=3, pause=pace.stuck)
        self._closing = Closing(config.name, pace.close, pace.stuck)
        self._full: dict[Role, Line] = {}  # lines to replace: too many calls are stuck on them
        self._renew_at = 0.0
        self._renewals = 0  # failed replacements in a row
        self._session: Session | None = None
        self._why = _NOT_YET
        self._stop = threading.Event()
        self._settled = threading.Event()
        self._thread: threading.Thread | None = None

    # --- Life -------------------------------------------------------------------------------------

    def start(self) -> None:
        """Starts the thread that keeps the host connected; returns at once."""
        ensure_running()
        self._thread = threading.Thread(
            target=self._run, name=f"host-{self.config.name}", daemon=True
        )
        self._thread.start()

    def wait_settled(self, timeout: float) -> bool:
        """Waits until the first attempt has succeeded or failed, at most ``timeout`` seconds."""
        return self._settled.wait(timeout)

    def settle(self) -> None:
        """Ends the wait for the first attempt, as if it had ended."""
        self._settled.set()

    @property
    def connecting(self) -> bool:
        """Whether the first attempt to connect has not ended yet."""
        return not self._settled.is_set()

    def stop(self, timeout: float = 5.0) -> None:
        """Disconnects; waits at most ``timeout`` seconds, plus ``Pace.close`` for the closing."""
        self._stop.set()
        session = self._session
        if session is not None:
            session.lose("stopped")
        if self._thread is not None:
            self._thread.join(timeout)
        self._closing.sweep()
        self._closing.wait(self._pace.close)

    @property
    def reachable(self) -> bool:
        session = self._session
        return session is not None and not session.lost

    @property
    def why(self) -> str:
        """Why the host is not reachable."""
        session = self._session
        if session is None:
            return self._why
        return session.why

    @property
    def stuck_calls(self) -> int:
        """The number of calls that passed their deadline and have not returned."""
        calls = sum(one.abandoned for one in (*self._deadlines.values(), self._opener))
        return calls + self._closing.stuck

    # --- Calls ------------------------------------------------------------------------------------

    def ensure_reachable(self) -> Session:
        """The live session. Raises ``HostUnreachableError`` with the reason if there is none."""
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
        """Runs ``function`` with the connection of ``role``; ``timeout`` in seconds.

        Raises ``HostUnreachableError`` while the host is lost, as ``Deadlines.call``,
        ``PermanentError(reason="ReadOnly")`` for ``Role.ACT`` on a read-only host, and libvirt's
        errors as ``translate`` returns them.
        """
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
        line: Line | None = None,
    ) -> T:
        """``call`` in a session that may not be announced yet; on ``line`` if one is given."""
        if role is Role.ACT and self.config.read_only:
            raise PermanentError(
                f"host {self.config.name} is only looked at: {operation} is not done",
                reason="ReadOnly",
            )
        used: list[Line] = []

        def run() -> T:
            used.append(line or session.line(role))
            return used[-1].run(function)

        began = time.monotonic()
        code = "ok"
        try:
            return self._deadlines[role].call(operation, run, timeout, late=late)
        except libvirt.libvirtError as error:
            gone = lost(error, used[-1].connection)
            agent = role in (Role.AGENT, Role.SILENT)
            translated = translate(error, self.config.name, operation, gone=gone, agent=agent)
            code = translated.reason
            if gone:
                session.lose(error.get_error_message() or str(error))
            raise translated from error
        except GuestkeeperError as error:
            code = error.reason
            if isinstance(error, DeadlineError) and used and line is None:
                self._passed(role, used[-1])
            raise
        finally:
            self._on_call(self.config.name, operation, code, time.monotonic() - began)

    def _passed(self, role: Role, line: Line) -> None:
        """Counts a call that did not return; marks its connection if too many are stuck on it."""
        line.stuck += 1
        if line.stuck >= _STUCK_CALLS and not self.config.in_process:
            self._full[role] = line  # the host's thread replaces it; no caller waits for that

    def open_line(self, session: Session, operation: str) -> Line:
        """Opens another connection in the session, for this caller only; see ``StreamLine``.

        With libvirt's test driver, returns the only connection. Raises as ``call``.
        """
        if self.config.in_process:
            return session.line(Role.ACT)

        def open_it() -> Line:
            line = Line(self._fresh())
            try:
                line.watch(session.lose)
            except libvirt.libvirtError:
                line.close()
                raise
            return line

        return self._opened(operation, open_it, Line.close)

    def close_line(self, line: Line) -> None:
        """Closes a line of ``open_line`` once no call is running on it; returns at once."""
        if not self.config.in_process:
            self._closing.add([line])

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
            self._closing.sweep()
            if connected:
                failures = 0
                continue
            self._stop.wait(self._backoff(failures))
            failures += 1

    def _keep(self) -> bool:
        """Connects, and keeps the session until it is lost; False if connecting failed."""
        session = self._connect()
        if session is None:
            return False
        try:
            self._session = session
            log.info("host connected", host=self.config.name, uri=self.config.uri)
            self._on_host(self.config.name, True, "")
            self._settled.set()
            while not session.wait_lost(self._pace.turn):
                self._tend(session)
            self._why = session.why
        finally:
            session.lose(self._why)
            self._session = None
            self._full.clear()
            self._closing.add(session.lines())
        if not self._stop.is_set():
            log.warning("host lost", host=self.config.name, why=session.why)
            self._on_host(self.config.name, False, session.why)
        return True

    def _tend(self, session: Session) -> None:
        """Replaces a connection with too many stuck calls, and closes retired ones."""
        if self._full and time.monotonic() >= self._renew_at:
            role, line = next(iter(self._full.items()))
            if session.line(role) is line:
                self._renew(session, role)
            if session.line(role) is not line:
                self._full.pop(role, None)
        self._closing.sweep()

    def _renew(self, session: Session, role: Role) -> None:
        """Opens a new connection for ``role``. One for ``Role.LOOK`` must first list domains."""
        if role is Role.EVENTS:
            session.lose("libvirtd took no registration of events in time")
            return
        fresh = None
        try:
            fresh = self.open_line(session, f"open {role}")
            if role is Role.LOOK:
                self._prove(fresh)
        except (GuestkeeperError, libvirt.libvirtError) as error:
            if fresh is not None:
                self._closing.add([fresh])
            self._renew_at = time.monotonic() + self._backoff(self._renewals)
            self._renewals += 1
            log.warning(
                "connection not replaced", host=self.config.name, role=str(role), why=str(error)
            )
            if role is Role.LOOK:
                # Nothing is known about this host until its domains are listed anew.
                session.lose(f"calls did not answer in time, and no other does: {error}")
            return
        self._renewals = 0
        log.warning("connection replaced", host=self.config.name, role=str(role))
        self._closing.add([session.replace(role, fresh)])

    def _prove(self, line: Line) -> None:
        """Lists all domains (``virConnectListAllDomains``): fails if libvirtd or a domain hangs."""
        self._deadlines[Role.LOOK].call(
            "list domains", lambda: line.run(lambda one: one.listAllDomains(0)), self._pace.look
        )

    def _connect(self) -> Session | None:
        session: Session | None = None
        try:
            session = self._open()
            self._connected(self, session)
            if session.lost:
                raise HostUnreachableError(session.why)
        except HostBusyError as error:  # nothing was tried: the reason from before still holds
            self._failed(session, str(error) if self._why == _NOT_YET else self._why)
        except GuestkeeperError as error:
            self._failed(session, str(error))
        except Exception as error:  # our bug or libvirt's: reported and retried like other errors
            log.exception("host could not be prepared", host=self.config.name)
            self._failed(session, f"an unexpected failure while it was connected: {error!r}")
        else:
            return session
        return None

    def _failed(self, session: Session | None, why: str) -> None:
        """Cleans up after a failed attempt to connect; reports it once per reason."""
        if session is not None:
            session.lose(why)
            why = session.why
            self._closing.add(session.lines())
        if why != self._why:
            log.warning("host not reachable", host=self.config.name, why=why)
            self._why = why
            self._settled.set()  # first: the callback's receiver may read ``connecting``
            self._on_host(self.config.name, False, why)

    def _open(self) -> Session:
        if self.config.in_process:
            # Each open of the test driver has domains of its own, so the roles share one.
            one = self._opened("open", self._fresh, close)
            return Session(dict.fromkeys(Role, one))
        connections: dict[Role, libvirt.virConnect] = {}
        try:
            for role in Role:
                connections[role] = self._opened(f"open {role}", self._fresh, close)
            session = Session(connections)
            session.watch()
        except Exception as error:
            self._closing.add(Line(connection) for connection in connections.values())
            if isinstance(error, libvirt.libvirtError):
                why = error.get_error_message() or "it was lost while it was set up"
                raise HostUnreachableError(f"connection to {self.config.uri}: {why}") from error
            raise
        return session

    def _fresh(self) -> libvirt.virConnect:
        connection = libvirt.open(self.config.uri)
        if not self.config.in_process:
            connection.setKeepAlive(*self._keepalive)
        return connection

    def _opened(self, operation: str, open_it: Callable[[], T], late: Callable[[T], None]) -> T:
        try:
            return self._opener.call(operation, open_it, self._pace.open, late=late)
        except libvirt.libvirtError as error:
            raise HostUnreachableError(
                f"cannot connect to {self.config.uri}: {error.get_error_message() or error}"
            ) from error

    def _backoff(self, failures: int) -> float:
        """Seconds before the next attempt: doubling, capped, with jitter (0.5 to 1 of it)."""
        seconds: float = min(self._pace.last, self._pace.first * 2.0 ** min(failures, 10))
        return seconds * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
