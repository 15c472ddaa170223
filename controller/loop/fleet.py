"""What one decision has to know of all guests: are they suspended, and how many would go?

A domain of ours without a document is found by asking every host, as the daemon may never have seen
that document: it vanished while the daemon was off. Asking costs a pass over all names, so it is
done for orphans only, and its answer is kept for a moment.
"""

import os
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import structlog

from controller.desired.snapshot import Snapshot
from controller.errors import GuestkeeperError, HostBusyError, HostUnreachableError
from controller.observed.domain import DomainView
from controller.observed.guest import Fleet
from controller.planning.orphans import Ending, awaits_approval
from controller.planning.plan import Policy

log = structlog.get_logger(__name__)
_KEPT = 1.0
"""Seconds for which a count is good: many orphans are looked at in a row."""
_ENDING = (Ending.STOP, Ending.DELETE)


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
    """A domain of ours without a document. ``awaits``: it would be stopped or deleted unasked."""

    host: str
    domain: DomainView
    awaits: bool


@dataclass(frozen=True, slots=True)
class Census:
    """``guests`` counts our domains. ``unseen`` are names of guests that would go, too, whose host
    gives no answer.
    """

    guests: int
    orphans: tuple[Orphan, ...]
    unseen: tuple[str, ...]

    @property
    def awaiting(self) -> tuple[str, ...]:
        """Names of the guests that the deletion guard counts."""
        seen = {orphan.domain.name for orphan in self.orphans if orphan.awaits}
        return tuple(sorted(seen.union(self.unseen)))


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
        self._writing = threading.Lock()

    def of(self, name: str) -> Fleet:
        """For one guest; of one that has its document nothing has to be counted."""
        snapshot = self._snapshot()
        if name in snapshot.guests:
            return Fleet(suspended=self.suspended)
        census = self.census()
        return Fleet(
            suspended=self.suspended,
            uncertain=snapshot.uncertain,
            empty=snapshot.empty,
            deletions=len(census.awaiting),
            max_deletions=self._limit.of(census.guests),
        )

    # --- Deletions --------------------------------------------------------------------------------

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
        because the directory is empty.
        """
        snapshot, census = self._snapshot(), self.census()
        awaiting = census.awaiting
        if snapshot.empty:
            held = {
                name
                for name, guest in snapshot.guests.items()
                if guest.spec.deletion_policy in _ENDING
            }
            return tuple(sorted(held.union(awaiting)))
        if snapshot.uncertain or len(awaiting) <= self._limit.of(census.guests):
            return ()
        return awaiting

    def to_approve(self) -> tuple[Orphan, ...]:
        """The orphans whose end an operator's word releases; asked anew."""
        self._kept = None
        return tuple(orphan for orphan in self.census().orphans if orphan.awaits)

    def _count(self, snapshot: Snapshot) -> Census:
        ours: set[str] = set()
        orphans: list[Orphan] = []
        lost: set[str] = set()
        for host in self._hosts.hosts():
            try:
                for name in self._hosts.owned(host):
                    if name in snapshot.guests:
                        ours.add(name)
                    elif not snapshot.document_problems(name):
                        orphan = self._orphan(host, name)
                        if orphan is not None:
                            ours.add(name)
                            orphans.append(orphan)
            except (HostUnreachableError, HostBusyError) as error:
                log.debug("orphans of a host are not known", host=host, why=str(error))
                lost.add(host)
        unseen = tuple(
            name
            for name, guest in snapshot.orphans.items()
            if guest.spec.host in lost and guest.spec.deletion_policy in _ENDING
        )
        return Census(len(ours), tuple(orphans), unseen)

    def _orphan(self, host: str, name: str) -> Orphan | None:
        """None for a domain of somebody else."""
        try:
            domain = self._hosts.domain(host, name)
        except (HostUnreachableError, HostBusyError):
            raise
        except GuestkeeperError as error:  # it cannot be read, so it is not deleted either
            log.debug("orphan cannot be read", host=host, guest=name, why=str(error))
            return None
        owner = domain.ownership if domain is not None and domain.ours else None
        if domain is None or owner is None:
            return None
        if owner.memory.controller not in ("", self._policy.controller):
            return None
        return Orphan(host, domain, awaits_approval(domain, self._policy))

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
