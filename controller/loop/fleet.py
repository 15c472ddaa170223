"""Facts about all guests that a plan for one needs: whether all are suspended, and how many would
be stopped or deleted (for the deletion guard).

Orphans (our domains without a document) are found by asking every host, because the daemon may
never have seen the document: it may have vanished while the daemon was off. This costs a pass over
all names, so it is done for orphans only, and the result is kept for a moment.

The count errs towards more: a host that does not answer counts as in its last answer, and an orphan
that cannot be read counts unless it was last seen to stay.
"""

import itertools
import os
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import structlog

from controller.desired.catalog.snapshot import Snapshot
from controller.errors import GuestkeeperError, HostBusyError, HostUnreachableError
from controller.observed.domain import DomainView
from controller.observed.guest import Fleet
from controller.planning.deletion.policy import Ending, awaits_approval, is_ending, of_another
from controller.planning.plan import Policy

log = structlog.get_logger(__name__)
_KEPT = 1.0
"""Seconds for which a count is reused: many orphans are observed in a row."""
_ENDING = (Ending.STOP, Ending.DELETE)
_THERE = "its document is there"
_ONE_LOOK = "the directory was not read often enough yet"


class Hosts(Protocol):
    """The calls used from the hypervisor adapter."""

    def hosts(self) -> Collection[str]: ...

    def owned(self, host: str) -> Collection[str]: ...

    def domain(self, host: str, name: str) -> DomainView | None: ...


@dataclass(frozen=True, slots=True)
class Limit:
    """Guests that may be stopped or deleted without approval: a number or a share, the larger."""

    number: int
    percent: int

    def of(self, guests: int) -> int:
        return max(self.number, guests * self.percent // 100)


@dataclass(frozen=True, slots=True)
class Orphan:
    """A domain of ours without a document.

    ``ends``: it would be stopped or deleted sooner or later, so the deletion guard counts it.
    ``awaits``: if the guard blocks, its end needs an operator's approval.
    """

    host: str
    domain: DomainView
    awaits: bool
    ends: bool = False


@dataclass(frozen=True, slots=True)
class Census:
    """The counts over all hosts.

    ``guests``: number of our domains. ``deletions``: those that the deletion guard counts.
    ``awaiting``: names of those that need approval if it blocks; ``blocked``: of those that it
    blocked before. ``unheard``: a host that has not answered since the daemon started, or ''.
    """

    guests: int
    orphans: tuple[Orphan, ...]
    deletions: int
    awaiting: tuple[str, ...]
    blocked: tuple[str, ...]
    unheard: str


@dataclass(frozen=True, slots=True)
class _Heard:
    """A host's last answer: names of our domains, orphans, and names of the guests that would be
    stopped or deleted.

    ``asked`` is the number of the query; later queries have higher numbers.
    """

    asked: int
    guests: frozenset[str]
    orphans: tuple[Orphan, ...]
    ends: frozenset[str]

    def stays(self, name: str) -> bool:
        """True if ``name`` was an orphan that is neither stopped nor deleted."""
        return any(one.domain.name == name and not one.ends for one in self.orphans)


class Fleets:
    """Thread-safe. ``snapshot`` returns the desired state as of the last scan of the documents."""

    def __init__(
        self,
        hosts: Hosts,
        snapshot: Callable[[], Snapshot],
        policy: Policy,
        limit: Limit,
        state_dir: Path,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hosts = hosts
        self._snapshot = snapshot
        self._policy = policy
        self._limit = limit
        self._suspended = state_dir / "suspended"
        self._clock = clock
        self._kept: tuple[Snapshot, float, Census] | None = None
        self._heard: dict[str, _Heard] = {}
        self._hearing = threading.Lock()
        self._questions = itertools.count()
        self._writing = threading.Lock()

    def of(self, name: str) -> Fleet:
        """The ``Fleet`` for guest ``name``; for a guest with a document nothing is counted.

        The document is checked again, because it may have come back since the caller read it.
        """
        snapshot = self._snapshot()
        if name in snapshot.guests or snapshot.document_problems(name):
            return Fleet(suspended=self.suspended, uncertain=_THERE)
        census = self.census()
        last = snapshot.orphans.get(name)
        return Fleet(
            suspended=self.suspended,
            uncertain=snapshot.uncertain or ("" if snapshot.quiet else _ONE_LOOK),
            empty=snapshot.empty or name in snapshot.lost,
            deletions=census.deletions,
            max_deletions=self._limit.of(census.guests),
            unheard=census.unheard,
            absent=snapshot.absent(name, self._clock()),
            last_policy=last.spec.deletion_policy if last is not None else "",
        )

    # --- Deletions --------------------------------------------------------------------------------

    def hear(self, host: str) -> None:
        """Asks only ``host``, so that this answer counts when the host does not answer later."""
        try:
            self._listen(host, self._snapshot())
        except (HostUnreachableError, HostBusyError) as error:
            log.debug("orphans of a host are not known", host=host, why=str(error))

    def census(self) -> Census:
        """The count of all orphans, at most ``_KEPT`` seconds old."""
        snapshot, kept = self._snapshot(), self._kept
        if kept is not None and kept[0] is snapshot and 0 <= self._clock() - kept[1] < _KEPT:
            return kept[2]
        began = self._clock()
        census = self._count(snapshot)
        self._kept = (snapshot, began, census)
        return census

    def deletions_blocked(self) -> tuple[str, ...]:
        """Names of the guests that wait for ``approve --deletions``: because too many would be
        stopped or deleted, the directory is empty, or the place of their documents is lost.
        """
        snapshot, census = self._snapshot(), self.census()
        awaiting = census.awaiting
        held = {
            name
            for name, guest in snapshot.guests.items()
            if (snapshot.empty or name in snapshot.lost) and guest.spec.deletion_policy in _ENDING
        }
        if snapshot.empty:
            return tuple(sorted(held.union(awaiting)))
        held |= snapshot.lost.intersection(awaiting)
        if snapshot.uncertain:
            return tuple(sorted(held))
        over = census.deletions > self._limit.of(census.guests)
        return tuple(sorted(held.union(awaiting if over or census.unheard else census.blocked)))

    def to_approve(self) -> tuple[Orphan, ...]:
        """The orphans whose stop or deletion needs an operator's approval; counted anew."""
        self._kept = None
        return tuple(orphan for orphan in self.census().orphans if orphan.awaits)

    def _count(self, snapshot: Snapshot) -> Census:
        guests: set[str] = set()
        orphans: list[Orphan] = []
        ends: set[str] = set()
        silent: set[str] = set()
        unheard = ""
        for host in self._hosts.hosts():
            try:
                heard = self._listen(host, snapshot)
            except (HostUnreachableError, HostBusyError) as error:
                log.debug("orphans of a host are not known", host=host, why=str(error))
                silent.add(host)
                if host in self._heard:
                    ends |= self._heard[host].ends - snapshot.guests.keys()
                else:
                    unheard = unheard or host
                continue
            guests |= heard.guests
            orphans += heard.orphans
            ends |= heard.ends
        unseen = {
            name
            for name, guest in snapshot.orphans.items()
            if guest.spec.host in silent and guest.spec.deletion_policy in _ENDING
        }
        awaiting = {one.domain.name for one in orphans if one.awaits}
        blocked = [
            one.domain.name for one in orphans if one.awaits and one.domain.record.deletion_blocked
        ]
        return Census(
            guests=len(guests),
            orphans=tuple(orphans),
            deletions=len(ends | unseen),
            awaiting=tuple(sorted(awaiting | unseen)),
            blocked=tuple(sorted(blocked)),
            unheard=unheard,
        )

    def _listen(self, host: str, snapshot: Snapshot) -> _Heard:
        """Asks the host and keeps its answer, unless the answer to a later query is kept."""
        asked = next(self._questions)
        guests: set[str] = set()
        orphans: list[Orphan] = []
        ends: set[str] = set()
        before = self._heard.get(host)
        for name in self._hosts.owned(host):
            if name in snapshot.guests:
                guests.add(name)
            elif not snapshot.document_problems(name):
                try:
                    orphan = self._orphan(host, name, snapshot)
                except (HostUnreachableError, HostBusyError):
                    raise
                except GuestkeeperError as error:
                    log.debug("orphan cannot be read", host=host, guest=name, why=str(error))
                    guests.add(name)
                    if before is None or not before.stays(name):
                        ends.add(name)
                    continue
                if orphan is not None:
                    guests.add(name)
                    orphans.append(orphan)
                    if orphan.ends:
                        ends.add(name)
        heard = _Heard(asked, frozenset(guests), tuple(orphans), frozenset(ends))
        with self._hearing:
            last = self._heard.get(host)
            if last is None or last.asked < asked:
                self._heard[host] = heard
        return heard

    def _orphan(self, host: str, name: str, snapshot: Snapshot) -> Orphan | None:
        """The orphan of this name; None if the domain is absent, foreign or another daemon's."""
        last = snapshot.orphans.get(name)
        policy = last.spec.deletion_policy if last is not None else ""
        domain = self._hosts.domain(host, name)
        owner = domain.ownership if domain is not None and domain.ours else None
        if domain is None or owner is None:
            return None
        if of_another(owner.record, self._policy):
            return None
        awaits = awaits_approval(domain, self._policy, policy)
        return Orphan(host, domain, awaits, is_ending(domain, self._policy, policy))

    # --- Suspending all guests --------------------------------------------------------------------

    @property
    def suspended(self) -> bool:
        """True if an operator has suspended all guests."""
        try:
            os.stat(self._suspended)  # noqa: PTH116 - asked for every guest of every resync
        except (FileNotFoundError, NotADirectoryError):
            return False
        except PermissionError:  # ``guestkeeper plan`` of an ordinary user, which changes nothing
            return False
        return True

    def suspend_all(self) -> None:
        """Suspends all guests: they are only observed, also after a restart. Raises ``OSError``."""
        with self._writing:
            new = self._suspended.with_name(".suspended.new")
            with new.open("w", encoding="ascii") as file:
                file.write("every guest is suspended; to go on: guestkeeper resume --all\n")
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._suspended)

    def resume_all(self) -> None:
        """Ends ``suspend_all``. Guests suspended by name stay suspended. Raises ``OSError``."""
        with self._writing:
            self._suspended.unlink(missing_ok=True)
