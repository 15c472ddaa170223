"""What one decision has to know of all guests: are they suspended, and how many would go?

A domain of ours without a document is found by asking every host, as the daemon may never have seen
that document: it vanished while the daemon was off. Asking costs a pass over all names, so it is
done for orphans only, and its answer is kept for a moment.

The count errs towards more: who does not answer, or cannot be read, counts as it last did.
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
"""Seconds for which a count is good: many orphans are looked at in a row."""
_ENDING = (Ending.STOP, Ending.DELETE)
_THERE = "its document is there"
_ONE_LOOK = "the directory was not read often enough yet"


class Hosts(Protocol):
    """What is asked of the hypervisor room."""

    def hosts(self) -> Collection[str]: ...

    def owned(self, host: str) -> Collection[str]: ...

    def domain(self, host: str, name: str) -> DomainView | None: ...


@dataclass(frozen=True, slots=True)
class Limit:
    """Guests that may be stopped or deleted unasked: the larger of a number and a share of all."""

    number: int
    percent: int

    def of(self, guests: int) -> int:
        return max(self.number, guests * self.percent // 100)


@dataclass(frozen=True, slots=True)
class Orphan:
    """A domain of ours without a document. ``awaits``: it would be stopped or deleted unasked;
    ``ends``: it would be, sooner or later.
    """

    host: str
    domain: DomainView
    awaits: bool
    ends: bool = False


@dataclass(frozen=True, slots=True)
class Census:
    """``guests`` counts our domains, ``deletions`` those that the deletion guard counts.

    ``awaiting`` names those of them that need an operator's word where it says no; ``blocked``,
    those that it held back before. ``unheard`` is a host that was not heard yet.
    """

    guests: int
    orphans: tuple[Orphan, ...]
    deletions: int
    awaiting: tuple[str, ...]
    blocked: tuple[str, ...]
    unheard: str


@dataclass(frozen=True, slots=True)
class _Heard:
    """What one host said last: names of our domains, orphans, and names of those that would go.

    ``asked``: the number of the question that it answers; later questions have higher ones.
    """

    asked: int
    guests: frozenset[str]
    orphans: tuple[Orphan, ...]
    ends: frozenset[str]

    def stays(self, name: str) -> bool:
        """Was it an orphan that is neither stopped nor deleted?"""
        return any(one.domain.name == name and not one.ends for one in self.orphans)


class Fleets:
    """Thread-safe. ``snapshot`` gives the desired state as of the last scan."""

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
        """For one guest; of one that has its document nothing has to be counted.

        Whoever asks about an orphan may have read the documents before this one came back.
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
        """Asks that host alone, so that it counts as it was when it does not answer later."""
        try:
            self._listen(host, self._snapshot())
        except (HostUnreachableError, HostBusyError) as error:
            log.debug("orphans of a host are not known", host=host, why=str(error))

    def census(self) -> Census:
        """All orphans, as of a moment ago at most."""
        snapshot, kept = self._snapshot(), self._kept
        if kept is not None and kept[0] is snapshot and 0 <= self._clock() - kept[1] < _KEPT:
            return kept[2]
        began = self._clock()
        census = self._count(snapshot)
        self._kept = (snapshot, began, census)
        return census

    def deletions_blocked(self) -> tuple[str, ...]:
        """Names of the guests that wait for ``approve --deletions``, because too many would go or
        because the directory is empty, or the place that their documents were in is lost.
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
        """The orphans whose end an operator's word releases; asked anew."""
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
        """Asks the host; what it says is kept, unless who asked later was answered before."""
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
        """None for a domain of somebody else."""
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

    # --- Leave them all alone ---------------------------------------------------------------------

    @property
    def suspended(self) -> bool:
        """Does an operator want every guest left alone?"""
        try:
            os.stat(self._suspended)  # noqa: PTH116 - asked for every guest of every resync
        except (FileNotFoundError, NotADirectoryError):
            return False
        except PermissionError:  # of ``guestkeeper plan`` by anybody, which touches nothing
            return False
        return True

    def suspend_all(self) -> None:
        """From now on every guest is only looked at, also after a restart. Raises ``OSError``."""
        with self._writing:
            new = self._suspended.with_name(".suspended.new")
            with new.open("w", encoding="ascii") as file:
                file.write("every guest is suspended; to go on: guestkeeper resume --all\n")
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._suspended)

    def resume_all(self) -> None:
        """Those suspended by their names stay so. Raises ``OSError``."""
        with self._writing:
            self._suspended.unlink(missing_ok=True)
