"""Who may begin: fairness between hosts, for work that a bounded number of threads does.

Work belongs to a lane: a host, or those guests of a host whose agents did not answer of late.
What hangs keeps its thread, for nobody can take it away. So what takes longer than ``slow`` does
not count against the bound any more: another thread may be made instead. In return its lane is
suspect, and only a few of a suspect lane are worked on at a time, until one of them is quick again.
So a lane that hangs costs a few threads of its own, and the others have the bound to themselves.
"""

import sys
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Generic, TypeVar

T = TypeVar("T")


SILENT = "guests whose agents did not answer"


@dataclass(frozen=True, slots=True)
class Lane:
    """A host's, or one part of its work. ``suspect`` ones are so from the beginning."""

    host: str
    part: str = ""
    suspect: bool = False


def lane_of_guest(host: str, *, silent: bool) -> Lane:
    """``silent``: its agent did not answer when it was last spoken to."""
    return Lane(host, SILENT, suspect=True) if silent else Lane(host)


class _Work:
    __slots__ = ("began", "lane", "outside")

    def __init__(self, lane: Lane, began: float, outside: bool) -> None:
        self.lane = lane
        self.began = began
        self.outside = outside


class Lanes:
    """Not thread-safe: it is used under its owner's lock. Times are monotonic seconds.

    ``bound`` is how many quick ones are worked on at a time, ``places`` how many of one lane that
    has become slow, ``few`` how many of one that was suspect from the beginning. Where there are
    several lanes, none may have the whole bound.
    """

    def __init__(
        self,
        bound: int = sys.maxsize,
        *,
        slow: float = 1.0,
        places: int = sys.maxsize,
        few: int = 4,
    ) -> None:
        self.bound = bound
        self._slow = slow
        self._places = places
        self._few = few
        self._share = bound - bound // 4
        self._work: dict[str, _Work] = {}
        self._known: set[Lane] = set()
        self._suspects: set[Lane] = set()

    def most(self, lanes: int) -> int:
        """Threads that so many lanes may need when all of them hang."""
        return self.bound + lanes * max(self._share, self._few)

    def may_begin(self, lane: Lane, now: float) -> bool:
        """Is there room for one more of ``lane``?"""
        self._settle(now)
        self._known.add(lane)
        here = [work for work in self._work.values() if work.lane == lane]
        if self._suspect(lane):
            return len(here) < (self._few if lane.suspect else self._places)
        outside = sum(work.outside for work in here)
        if outside >= self._places:
            return False
        quick = sum(not work.outside for work in self._work.values())
        share = self.bound if len(self._known) == 1 else self._share
        return quick < self.bound and len(here) - outside < share

    def begin(self, key: str, lane: Lane, now: float) -> None:
        self._work[key] = _Work(lane, now, outside=self._suspect(lane))

    def end(self, key: str, now: float) -> None:
        self._settle(now)
        work = self._work.pop(key, None)
        if work is not None and now - work.began < self._slow:
            self._suspects.discard(work.lane)

    def is_slow(self, key: str, now: float) -> bool:
        """Has the work on ``key`` taken long?"""
        work = self._work.get(key)
        return work is not None and now - work.began >= self._slow

    def changes_at(self) -> float | None:
        """When, by time alone, there may be more room than now."""
        return min(
            (work.began + self._slow for work in self._work.values() if not work.outside),
            default=None,
        )

    def _suspect(self, lane: Lane) -> bool:
        return lane.suspect or lane in self._suspects

    def _settle(self, now: float) -> None:
        for work in self._work.values():
            if not work.outside and now - work.began >= self._slow:
                work.outside = True
                self._suspects.add(work.lane)


class Lined(Generic[T]):
    """What waits, in lanes that take turns; within a lane first come, first served.

    Not thread-safe: it is used under its owner's lock.
    """

    def __init__(self) -> None:
        self._lanes: dict[Lane, deque[T]] = {}  # in the order of their turns

    def __bool__(self) -> bool:
        return bool(self._lanes)

    def __len__(self) -> int:
        return sum(map(len, self._lanes.values()))

    def __iter__(self) -> Iterator[T]:
        return chain.from_iterable(self._lanes.values())

    def append(self, lane: Lane, one: T) -> None:
        self._lanes.setdefault(lane, deque()).append(one)

    def withdraw(self, lane: Lane) -> None:
        """Takes back what was last appended to ``lane``."""
        self._lanes[lane].pop()
        if not self._lanes[lane]:
            del self._lanes[lane]

    def clear(self) -> None:
        self._lanes.clear()

    def take(
        self, may_begin: Callable[[Lane], bool], wanted: Callable[[T], bool] = lambda _: True
    ) -> tuple[Lane, T] | None:
        """The next one of a lane that may begin; those not ``wanted`` any more are dropped."""
        for lane in list(self._lanes):
            if not may_begin(lane):
                continue
            waiting = self._lanes.pop(lane)
            while waiting:
                one = waiting.popleft()
                if wanted(one):
                    if waiting:
                        self._lanes[lane] = waiting  # behind the others
                    return lane, one
        return None
