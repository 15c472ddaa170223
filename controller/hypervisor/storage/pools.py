"""Storage pools of a host: created and started as the settings say, and observed.

A pool that is not usable (its directory is gone, its file system is not mounted, the name is taken
by another pool) does not affect the host or its other pools: its view says why.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace

import structlog

from controller.errors import GuestkeeperError, PermanentError
from controller.hypervisor.connection.config import Role
from controller.hypervisor.connection.deadlines import DeadlineError
from controller.hypervisor.connection.link import HostLink
from controller.hypervisor.connection.session import Session
from controller.hypervisor.storage.calls import ensure_pool, other_path, read_pools
from controller.observed.host import PoolView

log = structlog.get_logger(__name__)
TIMEOUT = 15.0
_INTERVAL = 30.0
_LAST_RETRY = 300.0
_NEVER = -1e9


class Pools:
    """The pools of one host. Thread-safe. ``monotonic`` in seconds."""

    def __init__(self, link: HostLink, monotonic: Callable[[], float]) -> None:
        self._link = link
        self._config = link.config
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._views: Mapping[str, PoolView] = {}
        self._read_at = _NEVER
        self._reading = False
        self._failed: dict[str, GuestkeeperError] = {}
        """Pools of the settings that have not been usable since the host was connected, and why."""
        self._pause, self._retry_at = _INTERVAL, 0.0
        self._hung, self._ask_at = _INTERVAL, _NEVER

    def connected(self, session: Session) -> None:
        """Ensures the pools of the settings and reads all pools; part of connecting.

        On a read-only host no pool is created or started. If one pool hangs, and so the call that
        reads all, the old views stay. Without old views raises ``DeadlineError``: the host is then
        not connected, as nothing would be known about its other pools.
        """
        wanted = () if self._config.read_only else self._config.pools
        tried = {name: self._ensure(session, name) for name in wanted}
        hangs: DeadlineError | None = None
        views: Mapping[str, PoolView] = {}
        try:
            views = self._link.call_in(session, Role.STORAGE, "read pools", read_pools, TIMEOUT)
        except DeadlineError as error:
            if session.lost or not self._views:
                raise
            hangs = error
        with self._lock:
            self._failed = {}
            self._note(tried)
            self._pause, self._retry_at = _INTERVAL, self._monotonic() + _INTERVAL
            if hangs is None:
                self._keep(views)
            else:
                self._hang(hangs)

    def views(self) -> Mapping[str, PoolView]:
        """All pools, at most half a minute old. Raises as ``HostLink.call``.

        While one pool hangs, and so the call that reads all, the views stay as last known, say so,
        and are read ever less often.
        """
        with self._lock:
            now = self._monotonic()
            known = bool(self._views)
            fresh = now - self._read_at < _INTERVAL or now < self._ask_at
            if fresh or (known and self._reading):
                return self._views  # one caller asks for all, to spare a slow host
            self._reading = True
            due = self._due(now)
        tried: Mapping[str, GuestkeeperError | None] = {}
        try:
            if due:
                session = self._link.ensure_reachable()
                tried = {name: self._ensure(session, name) for name in due}
            views = self._link.call(Role.STORAGE, "read pools", read_pools, TIMEOUT)
        except DeadlineError as error:
            with self._lock:
                self._note(tried)
                self._hang(error)
                return self._views
        finally:
            with self._lock:
                self._reading = False
        with self._lock:
            self._note(tried)
            self._keep(views)
            return self._views

    def _note(self, tried: Mapping[str, GuestkeeperError | None]) -> None:
        """Stores which pools of the settings are usable, and which not. Under the lock."""
        for name, error in tried.items():
            self._failed.pop(name, None)
            if error is not None:
                self._failed[name] = error

    def _hang(self, error: DeadlineError) -> None:
        """Keeps the last views, with the note that they may be old. Under the lock.

        A pool that has just failed is shown as inactive; nothing is known of one without answer.
        """
        log.warning("pools not read", host=self._config.name, why=str(error))
        self._ask_at = self._monotonic() + self._hung
        self._hung = min(2 * self._hung, _LAST_RETRY)
        views = dict(self._views)
        for name, view in views.items():
            failed = self._failed.get(name)
            if failed is None or isinstance(failed, DeadlineError):
                views[name] = replace(view, why=view.why or str(error))
            else:
                views[name] = replace(view, active=False, why=str(failed))
        self._views = views

    def known(self) -> Mapping[str, PoolView]:
        """The last known pools, for a host that cannot be asked."""
        with self._lock:
            return self._views

    def changed(self) -> None:
        """Makes the next ``views`` read the pools again."""
        with self._lock:
            self._read_at = _NEVER

    def _due(self, now: float) -> tuple[str, ...]:
        """The unusable pools to try again now, with growing pauses. Under the lock.

        Only pools that never ran since the host was connected: others were stopped on purpose.
        """
        if self._config.read_only or not self._failed or now < self._retry_at:
            return ()
        self._retry_at = now + self._pause
        self._pause = min(2 * self._pause, _LAST_RETRY)
        return tuple(self._failed)

    def _ensure(self, session: Session, name: str) -> GuestkeeperError | None:
        """Creates and starts a pool of the settings if needed; the error, None if it is active."""
        path = self._config.pools[name]
        try:
            self._link.call_in(
                session, Role.ACT, "ensure pool", lambda one: ensure_pool(one, name, path), TIMEOUT
            )
        except GuestkeeperError as error:
            if session.lost:
                raise
            log.warning("pool cannot be had", host=self._config.name, pool=name, why=str(error))
            return error
        return None

    def _keep(self, views: Mapping[str, PoolView]) -> None:
        """Stores the views, with what is wrong with the pools of the settings. Under the lock."""
        kept = dict(views)
        for name, path in self._config.pools.items():
            view = kept.get(name)
            if view is not None and view.path and other_path(view.path, path):
                kept[name] = replace(view, wanted_path=path)
                self._failed.setdefault(name, PermanentError("it is at another path"))
            elif name in self._failed and (view is None or not view.active):
                found = view or PoolView(name, path, active=False, capacity=0, available=0)
                kept[name] = replace(found, why=str(self._failed[name]))
        self._views, self._read_at = kept, self._monotonic()
        self._hung, self._ask_at = _INTERVAL, _NEVER
