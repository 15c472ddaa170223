"""A host's connections: opened, watched, lost, opened again.

libvirtd restarts, hosts reboot, networks hang. One thread a host keeps the connections up by
itself, with backoff; everybody else either gets a live session or is told at once, with the
reason, that the host is not reachable, so that nothing is ever decided on silence.
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
"""Of the five calls a connection has room for, so many stuck ones make it be replaced."""
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
    """Seconds that a host is given, and that pass before it is tried again."""

    open: float = 20.0
    look: float = 30.0
    """For the list that proves a fresh connection for looks."""
    close: float = 3.0
    turn: float = 1.0
    """How often what is to be replaced or closed is looked for."""
    first: float = 0.2
    last: float = 15.0
    """Between two attempts to connect: doubling from ``first`` to ``last``."""
    stuck: float = 10.0
    """After too many attempts that hang, at first; see ``Deadlines``."""


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
        # An open that hangs is given up and tried again; of those that hang on, ever more rarely.
        self._opener = Deadlines(f"{config.name}-open", workers=3, abandoned=3, pause=pace.stuck)
        self._closing = Closing(config.name, pace.close, pace.stuck)
        self._full: dict[Role, Line] = {}  # lines that are to be replaced
        self._renew_at = 0.0
        self._renewals = 0  # that failed in a row
        self._session: Session | None = None
        self._why = _NOT_YET
        self._stop = threading.Event()
        self._settled = threading.Event()
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

    def settle(self) -> None:
        """Whoever waits for the first attempt waits no more."""
        self._settled.set()

    @property
    def connecting(self) -> bool:
        """Has its first attempt not ended yet?"""
        return not self._settled.is_set()

    def stop(self, timeout: float = 5.0) -> None:
        """Disconnects; waits at most ``timeout`` seconds."""
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
        """What is wrong while it is not reachable."""
        session = self._session
        if session is None:
            return self._why
        return session.why

    @property
    def stuck_calls(self) -> int:
        """Calls past their deadline that have not come back."""
        calls = sum(one.abandoned for one in (*self._deadlines.values(), self._opener))
        return calls + self._closing.stuck

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
        """``call`` in a session that need not be announced yet; on ``line`` if one is given."""
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
        """A call did not come back: keep its connection from filling up with such calls."""
        line.stuck += 1
        if line.stuck >= _STUCK_CALLS and not self.config.in_process:
            self._full[role] = line  # the host's thread replaces it; nobody else waits for that

    def open_line(self, session: Session, operation: str) -> Line:
        """A further connection of the session, for whom it is opened alone; see ``StreamLine``.

        On libvirt's test driver it is the one that there is. Raises as ``call``.
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
        """Closes what ``open_line`` opened, once nothing is under way on it; returns at once."""
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
        """One session from its beginning to its loss; False where none came to be."""
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
        """Replaces what is full of stuck calls, and closes what was replaced."""
        if self._full and time.monotonic() >= self._renew_at:
            role, line = next(iter(self._full.items()))
            if session.line(role) is line:
                self._renew(session, role)
            if session.line(role) is not line:
                self._full.pop(role, None)
        self._closing.sweep()

    def _renew(self, session: Session, role: Role) -> None:
        """Another connection for ``role``. One for looks has to prove that looking works."""
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
                # Nothing is known of this host until it is listed anew.
                session.lose(f"calls did not answer in time, and no other does: {error}")
            return
        self._renewals = 0
        log.warning("connection replaced", host=self.config.name, role=str(role))
        self._closing.add([session.replace(role, fresh)])

    def _prove(self, line: Line) -> None:
        """``virConnectListAllDomains``: a libvirtd that hangs, or any of its domains, fails it."""
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
        except HostBusyError as error:  # nothing was tried: what was wrong before still is
            self._failed(session, str(error) if self._why == _NOT_YET else self._why)
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
            self._closing.add(session.lines())
        if why != self._why:
            log.warning("host not reachable", host=self.config.name, why=why)
            self._why = why
            self._settled.set()  # before anybody looks at what this is told for
            self._on_host(self.config.name, False, why)

    def _open(self) -> Session:
        if self.config.in_process:
            # Every open of the test driver is a world of its own: the roles share one.
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
