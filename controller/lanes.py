"""Fairness between hosts, for work that a bounded number of threads does: what may begin now.

A job belongs to a lane: a host, or those guests of a host whose agents did not answer recently.
A call that hangs keeps its thread, because a thread cannot be taken away from a call. So a job that
takes longer than ``slow`` no longer counts against the bound: another thread may be made instead.
In return its lane is suspect: only a few jobs of a suspect lane run at a time, until one of them
is quick again. So a lane that hangs costs a few threads of its own, and the other lanes keep the
whole bound.
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
    """A host, or one part of its work. ``suspect``: from the beginning, and always."""

    host: str
    part: str = ""
    suspect: bool = False


def lane_of_guest(host: str, *, silent: bool) -> Lane:
    """The lane of a guest's work. ``silent``: its agent did not answer the last call."""
    return Lane(host, SILENT, suspect=True) if silent else Lane(host)


class _Work:
    __slots__ = ("began", "lane", "outside")

    def __init__(self, lane: Lane, began: float, outside: bool) -> None:
        self.lane = lane
        self.began = began
        self.outside = outside


class Lanes:
    """Decides which jobs may begin. Not thread-safe: use it under its owner's lock.

    ``bound`` limits the quick jobs at a time, ``places`` those of one lane that has become slow,
    ``few`` those of one lane that was suspect from the beginning. Where there are several lanes,
    none may use the whole bound. Times are monotonic seconds.
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
        """The number of threads that ``lanes`` lanes may need when all of them hang."""
        return self.bound + lanes * max(self._share, self._few)

    def may_begin(self, lane: Lane, now: float) -> bool:
        """Whether one more job of ``lane`` may begin."""
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
        """Whether the job ``key`` has taken ``slow`` seconds or more."""
        work = self._work.get(key)
        return work is not None and now - work.began >= self._slow

    def changes_at(self) -> float | None:
        """When time alone may allow more jobs than now; None: never."""
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
    """A queue of lanes that take turns; within a lane first in, first out.

    Not thread-safe: use it under its owner's lock.
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
        """Remove the item that was last appended to ``lane``."""
        self._lanes[lane].pop()
        if not self._lanes[lane]:
            del self._lanes[lane]

    def clear(self) -> None:
        self._lanes.clear()

    def take(
        self, may_begin: Callable[[Lane], bool], wanted: Callable[[T], bool] = lambda _: True
    ) -> tuple[Lane, T] | None:
        """Take the next item of a lane that may begin; drop items no longer ``wanted``."""
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
