"""Cache of a host's domains, kept up to date by events and checked by one bulk call.

Reading the XML of every domain at every look would cost seconds on a large host. So it is read
once when the host connects, and later only for domains named by an event, a write of our own or
the slow, deep resync. The steady state costs one bulk call, however many domains there are.

Longer than other modules on purpose: all code that reads or changes the entries, under one lock.
"""

import queue
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial

import structlog

from controller.errors import (
    GuestkeeperError,
    HostBusyError,
    HostUnreachableError,
    TransientError,
)
from controller.hypervisor.connection import events
from controller.hypervisor.connection.concurrency import Places
from controller.hypervisor.connection.config import OnEvent, Role
from controller.hypervisor.connection.events import AGENT_CONNECTED, AGENT_DISCONNECTED
from controller.hypervisor.connection.link import HostLink
from controller.hypervisor.connection.session import Session
from controller.hypervisor.domains.address_book import AddressBook, uses_of
from controller.hypervisor.domains.reading import (
    STATES,
    Read,
    Unreadable,
    bulk,
    list_all,
    read_many,
    read_one,
    reason_of,
)
from controller.observed.addresses import AddressUse
from controller.observed.build import INFIX
from controller.observed.domain import DomainConfig, DomainState, DomainView

log = structlog.get_logger(__name__)
BULK_TIMEOUT, READ_TIMEOUT = 30.0, 10.0
_CHUNK = 200  # domains whose XML is read under one deadline
_READ_AGAIN = 10.0

RELISTED = "relisted"
_NO_STATE = (-1, -1)

Subscription = queue.SimpleQueue[tuple[str, str]]


class _Entry:
    __slots__ = (
        "again",
        "agent_touched",
        "identity",
        "panicked",
        "raw",
        "read",
        "started",
        "started_at",
        "touched",
        "unreadable",
        "view",
    )

    def __init__(self, touched: int) -> None:
        self.touched = touched  # the index's serial when something last happened to the domain
        self.read = -1  # the serial when its XML was last read
        self.agent_touched = -1
        self.raw = _NO_STATE
        self.view: DomainView | None = None
        self.identity: int | None = None
        self.started = -1  # the serial of its last started event
        self.started_at: float | None = None
        self.panicked = False
        self.unreadable = ""  # why it cannot be read; logged once
        self.again = 0.0  # monotonic time before which a search for an address does not read it

    @property
    def dirty(self) -> bool:
        return self.view is None or self.read < self.touched


class HostIndex:
    """The domains of one host. Thread-safe; callbacks are called outside of its lock."""

    def __init__(
        self,
        link: HostLink,
        on_event: OnEvent,
        *,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._link = link
        self._host = link.config.name
        self._on_event = on_event
        self._now = now
        self._monotonic = monotonic
        self._places = Places(link.config.name)
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}
        self._subscriptions: dict[str, list[Subscription]] = {}
        self._writers: dict[str, frozenset[str]] = {}  # domain -> bases that are its own disks
        self._addresses = AddressBook()
        self._serial = 0
        self.xml_reads = 0
        """The number of domain XML documents read from libvirt so far."""

    # --- What is known ----------------------------------------------------------------------------

    def domain(self, name: str) -> DomainView | None:
        """The domain, or None; its XML is read only if something happened to it.

        Raises ``HostUnreachableError`` if nothing is known, also while the host is lost,
        ``HostBusyError`` while other readings on the host do not return, and ``TransientError``:
        ``DomainUnreadable`` for a domain that exists but cannot be read (it must not be taken for
        a missing one), without such a reason for one that keeps changing while it is read.
        """
        self._link.ensure_reachable()  # what was known before may be outdated
        with self._lock:
            entry = self._entries.get(name)
            if entry is None:
                return None
            if not entry.dirty:
                return entry.view
        return self._refresh(name)

    def owned(self) -> Collection[str]:
        """The names of domains with our ownership element, without those that cannot be read.

        Raises ``HostUnreachableError`` and ``HostBusyError``.
        """
        self._link.ensure_reachable()
        with self._lock:
            unread = [name for name, entry in self._entries.items() if entry.view is None]
        for name in unread:
            self._try(name)
        with self._lock:
            return frozenset(
                name
                for name, entry in self._entries.items()
                if entry.view is not None and entry.view.ownership is not None
            )

    def written_bases(self) -> Mapping[str, frozenset[str]]:
        """Image bases (file names) that running domains, ours or not, have as disks, with those.

        From the cache; mostly empty. Raises ``HostUnreachableError`` and ``HostBusyError``.
        """
        self._link.ensure_reachable()
        with self._lock:
            dirty = [name for name in self._writers if self._is_dirty(name)]
        for name in dirty:
            self._try(name)
        with self._lock:
            found: dict[str, frozenset[str]] = {}
            for name, bases in self._writers.items():
                for base in bases if name in self._entries else ():
                    found[base] = found.get(base, frozenset()) | {name}
            return found

    def _is_dirty(self, name: str) -> bool:
        entry = self._entries.get(name)
        return entry is not None and entry.dirty

    def address_users(self, name: str, addresses: Collection[str]) -> tuple[AddressUse, ...]:
        """Domains other than ``name``, ours or not, that have one of ``addresses``.

        Raises ``HostUnreachableError``, and ``HostBusyError`` while one of them cannot be read.
        """
        self._link.ensure_reachable()
        with self._lock:
            now = self._monotonic()
            may = self._addresses.strangers | self._addresses.holders(addresses)
            # A domain that cannot be read is retried when something happens to it, or later.
            unread = {
                one for one in may if self._entries[one].dirty and self._entries[one].again <= now
            }
        for one in unread - {name}:
            self._try(one)
        with self._lock:
            holders = sorted(self._addresses.holders(addresses) - {name})
            views = [self._entries[one].view for one in holders]
        return tuple(use for view in views if view is not None for use in uses_of(view, addresses))

    def panicked(self, name: str) -> bool:
        """Whether an event said that the domain's kernel panicked since it was last started."""
        with self._lock:
            entry = self._entries.get(name)
            return entry is not None and entry.panicked

    def touch(self, name: str) -> None:
        """Marks the domain as dirty after a write of our own: its XML is read at the next look."""
        with self._lock:
            self._touch(name)

    def doubt(self, name: str) -> None:
        """As ``touch``, for a change that libvirt has no event for; ignores unknown domains."""
        with self._lock:
            if name in self._entries:
                self._touch(name)

    def _touch(self, name: str) -> _Entry:
        self._serial += 1
        entry = self._entries.get(name)
        if entry is None:
            entry = self._entries[name] = _Entry(self._serial)
        entry.touched, entry.again = self._serial, 0.0
        if entry.view is None or entry.view.ownership is None:
            self._addresses.strangers.add(name)
        return entry

    # --- Events -----------------------------------------------------------------------------------

    def connected(self, session: Session) -> None:
        """Registers the events, then lists all domains, so that no change in between is missed."""
        self._link.call_in(
            session,
            Role.EVENTS,
            "register events",
            lambda connection: events.register(connection, self._happened),
            READ_TIMEOUT,
        )
        self._relist(session)
        with self._lock:
            subscriptions = [
                subscription for some in self._subscriptions.values() for subscription in some
            ]
        for subscription in subscriptions:
            subscription.put((RELISTED, ""))

    def _happened(self, name: str, kind: str, device: str = "") -> None:
        with self._lock:
            if kind in (AGENT_CONNECTED, AGENT_DISCONNECTED):
                self._agent(name, kind == AGENT_CONNECTED)
            else:
                entry = self._touch(name)
                if kind == "started":
                    entry.started, entry.started_at = entry.touched, self._now()
                    entry.panicked = False
                elif kind == "panicked":
                    entry.panicked = True
                elif kind == "block-job":  # it may make a base the domain's own disk
                    self._writers.setdefault(name, frozenset())
            subscriptions = list(self._subscriptions.get(name, ()))
        for subscription in subscriptions:
            subscription.put((kind, device))
        self._on_event(self._host, name, kind)

    @contextmanager
    def listen(self, name: str) -> Iterator[Subscription]:
        """Subscribes to the domain's events from now on: (kind, device) in a queue.

        ``("relisted", "")`` after the host was reconnected: events may have been lost.
        """
        subscription: Subscription = queue.SimpleQueue()
        with self._lock:
            self._subscriptions.setdefault(name, []).append(subscription)
        try:
            yield subscription
        finally:
            with self._lock:
                self._subscriptions[name].remove(subscription)
                if not self._subscriptions[name]:
                    del self._subscriptions[name]

    def _agent(self, name: str, connected: bool) -> None:
        entry = self._entries.get(name)
        if entry is None:
            entry = self._touch(name)
        self._serial += 1
        entry.agent_touched = self._serial
        if entry.view is not None:
            entry.view = replace(entry.view, agent_connected=connected)

    # --- Looking ----------------------------------------------------------------------------------

    def resync(self, *, deep: bool = False) -> frozenset[str]:
        """Checks all domains with one bulk call; returns names that changed, appeared or vanished.

        ``deep`` also reads every domain's XML again, for changes that libvirt has no event for.
        Raises ``HostUnreachableError``.
        """
        with self._lock:
            began = self._serial
        stats = self._link.call(Role.LOOK, "list domains", bulk, BULK_TIMEOUT)
        changed = self._merge(stats, began)
        if deep:
            with self._lock:
                names = list(self._entries)
            changed |= self._read_again(names)
        return frozenset(changed)

    def _merge(self, stats: list[tuple[str, tuple[int, int]]], began: int) -> set[str]:
        changed: set[str] = set()
        with self._lock:
            entries = self._entries
            for name, raw in stats:
                entry = entries.get(name)
                if entry is None or (entry.raw != raw and entry.touched <= began):
                    # The definition may have changed with the state: all of it is read again.
                    self._touch(name).raw = raw
                    changed.add(name)
            if len(entries) != len(stats):
                listed = {name for name, _ in stats}
                for name in [name for name in entries if name not in listed]:
                    if entries[name].touched <= began:
                        self._drop(name)
                        changed.add(name)
        return changed

    def _read_again(self, names: Iterable[str]) -> set[str]:
        changed = set()
        for name in names:
            with self._lock:
                entry = self._entries.get(name)
                before = entry.view if entry is not None else None
            if self._try(name, patient=True) != before:
                changed.add(name)
        return changed

    def _try(self, name: str, *, patient: bool = False) -> DomainView | None:
        """``_refresh`` for one domain of many; None also if only this one cannot be read now."""
        try:
            return self._refresh(name, patient=patient)
        except (HostUnreachableError, HostBusyError):
            raise
        except GuestkeeperError as error:
            log.debug("domain left out", host=self._host, domain=name, why=str(error))
            return None

    def _refresh(self, name: str, *, patient: bool = False) -> DomainView | None:
        """Reads one domain anew, and again if something happened to it in the meantime.

        Callers that also serve other hosts are not ``patient``: they take one of the few places,
        or get ``HostBusyError``.
        """
        for _ in range(3):
            with self._lock:
                began = self._serial
            with nullcontext() if patient else self._places.take("read domain"):
                read = self._link.call(
                    Role.LOOK, "read domain", partial(read_one, name=name), READ_TIMEOUT
                )
            with self._lock:
                if read is None:
                    entry = self._entries.get(name)
                    if entry is not None and entry.touched <= began:
                        self._drop(name)
                        return None
                    if entry is None:
                        return None
                elif isinstance(read, Unreadable):
                    self._store_unreadable(name, read)
                    raise TransientError(
                        f"domain {name} on host {self._host} cannot be read: {read.why}",
                        reason="DomainUnreadable",
                        retry_after=_READ_AGAIN,
                    )
                else:
                    entry = self._store(name, read, began)
                    if not entry.dirty:
                        return entry.view
        # It changes faster than it can be read; its next event will queue it again.
        raise TransientError(f"host {self._host}: domain {name} keeps changing", retry_after=1.0)

    def _relist(self, session: Session) -> None:
        with self._lock:
            began = self._serial
        listed = self._link.call_in(session, Role.LOOK, "list domains", list_all, BULK_TIMEOUT)
        for at in range(0, len(listed), _CHUNK):
            chunk = listed[at : at + _CHUNK]
            reads = self._link.call_in(
                session,
                Role.LOOK,
                "read domains",
                partial(read_many, listed=chunk),
                BULK_TIMEOUT,
            )
            # The lock is held only briefly, so that looks and events go on in between.
            for name, read in reads:
                with self._lock:
                    if isinstance(read, Unreadable):
                        self._store_unreadable(name, read)
                    elif read is not None:
                        self._store(name, read, began)
        names = {one.name for one in listed}
        with self._lock:
            for name in [name for name in self._entries if name not in names]:
                if self._entries[name].touched <= began:
                    self._drop(name)

    def _drop(self, name: str) -> None:
        del self._entries[name]
        self._addresses.forget(name)

    def _store(self, name: str, read: Read, began: int) -> _Entry:
        """Puts a reading that began at serial ``began`` into the index. Under the lock."""
        entry = self._entries.get(name)
        if entry is None:
            entry = self._entries[name] = _Entry(began)
        if entry.read > began:
            return entry  # a reading that began later was stored first
        self.xml_reads += 1 if read.live is None else 2
        live = read.live
        state = STATES.get(read.raw[0], DomainState.UNKNOWN)
        self._note_start(entry, read, began)
        agent = live is not None and live.agent_connected
        if entry.agent_touched > began and entry.view is not None:
            agent = entry.view.agent_connected
        entry.raw, entry.identity = read.raw, read.identity
        entry.read = began
        entry.unreadable = ""
        entry.view = DomainView(
            name=name,
            uuid=read.uuid,
            state=state,
            reason=reason_of(read.raw, entry.panicked),
            ownership=read.inactive.ownership,
            config=read.inactive.config,
            live=_same(live.config, read.inactive.config) if live is not None else None,
            persistent=read.persistent,
            agent_connected=agent,
            started_at=entry.started_at,
            running_job=read.job,
            run=read.identity if read.identity >= 0 else None,
            autostart=read.autostart,
            saved=read.saved,
        )
        self._note_writer(name, live.config.writes if live is not None else frozenset())
        self._addresses.note(entry.view)
        if entry.dirty and entry.view.ownership is None:  # something happened while it was read
            self._addresses.strangers.add(name)
        return entry

    def _note_writer(self, name: str, bases: frozenset[str]) -> None:
        known = self._writers.pop(name, frozenset())
        if bases:
            self._writers[name] = bases
        if bases - known and INFIX not in name:  # builders may: they make the base
            log.warning("domain writes to a base", host=self._host, domain=name, base=min(bases))

    def _store_unreadable(self, name: str, read: Unreadable) -> None:
        """Keeps the domain in the index, to be read again at the next look. Under the lock."""
        entry = self._touch(name)
        entry.again = self._monotonic() + _READ_AGAIN
        if entry.unreadable != read.why:
            entry.unreadable = read.why
            log.warning("domain cannot be read", host=self._host, domain=name, why=read.why)

    def _note_start(self, entry: _Entry, read: Read, began: int) -> None:
        """Sets the start of this run: by its event, else now if libvirt's number of it is new."""
        if entry.started > began:
            return
        if read.identity == -1:
            entry.started_at = None
        elif entry.identity not in (None, read.identity) and entry.started <= entry.read:
            entry.started_at = self._now()


def _same(live: DomainConfig, config: DomainConfig) -> DomainConfig:
    """``config`` if ``live`` equals it, to save memory: most domains run as they are defined."""
    beside = ("taken", "writes", "addresses", "around")  # fields that == leaves out
    same = all(getattr(live, name) == getattr(config, name) for name in beside)
    # A backing chain longer than one base is somebody's snapshot: only the live XML shows it.
    chained = any(disk.chained for disk in live.disks)
    return config if same and live == config and not chained else live
