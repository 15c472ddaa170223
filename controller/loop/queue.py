"""The work queue, with the semantics of client-go's; the keys are names of guests.

A key is never handed to two workers at once; adds while it is being processed collapse into one
later run; a delayed add keeps the earliest time; a rate-limited add waits longer with every
failure of that key until it is forgotten. ``low`` keys (a resync's) wait behind all
others and are handed out one at a time: thousands of observations are pure Python, and threads that
compete for the interpreter take three times as long as one. Keys belong to lanes (their hosts),
which take turns, and a lane whose keys take long is handed out a few at a time (``Lanes``).
"""

import heapq
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from controller.lanes import Lane, Lanes, Lined

BASE_DELAY = 0.05
MAX_DELAY = 300.0
_ONE_LANE = Lane("")


@dataclass(frozen=True, slots=True)
class QueueStats:
    """For the workqueue metrics. ``unfinished_seconds`` is the sum over all keys in processing of
    the time since they were taken, ``longest_running_seconds`` the maximum.
    """

    depth: int
    unfinished_seconds: float
    longest_running_seconds: float


class WorkQueue:
    """Thread-safe. ``clock`` is monotonic seconds."""

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        on_wait: Callable[[float], None] = lambda _: None,
        on_work: Callable[[float], None] = lambda _: None,
        on_add: Callable[[], None] = lambda: None,
        on_retry: Callable[[], None] = lambda: None,
        lanes: Lanes | None = None,
        lane_of: Callable[[str], Lane] = lambda _: _ONE_LANE,
    ) -> None:
        """``lane_of`` is called under the lock, for each key that is added."""
        self._clock = clock
        self._on_wait = on_wait
        self._on_work = on_work
        self._on_add = on_add
        self._on_retry = on_retry
        self._changed = threading.Condition()
        self._lanes = lanes or Lanes()
        self._lane_of = lane_of
        self._first: deque[str] = deque()
        self._queue: Lined[str] = Lined()
        self._low: Lined[str] = Lined()
        self._dirty: dict[str, float] = {}  # key -> when it was added
        self._high: set[str] = set()  # dirty keys that are not low
        self._processing: dict[str, float] = {}  # key -> when it was taken
        self._low_busy: set[str] = set()  # low keys in processing: one, and any that are slow
        self._waiting: list[tuple[float, str]] = []
        self._waiting_for: dict[str, float] = {}
        self._failures: dict[str, int] = {}
        self._closed = False

    def add(self, key: str, *, low: bool = False) -> None:
        """Have ``key`` processed, at once or after its current run."""
        with self._changed:
            added = self._add(key, low=low)
        if added:
            self._on_add()

    def add_all(self, keys: Iterable[str], *, low: bool = False) -> None:
        """As ``add`` for each key, but under one lock: workers begin when all are queued."""
        with self._changed:
            added = sum(self._add(key, low=low) for key in keys)
        for _ in range(added):
            self._on_add()

    def add_first(self, key: str) -> None:
        """Have ``key`` processed by the next free worker, before everything that waits."""
        with self._changed:
            if self._closed or key in self._dirty or key in self._processing:
                return
            self._dirty[key] = self._clock()
            self._high.add(key)
            self._first.append(key)
            self._changed.notify()

    def _add(self, key: str, *, low: bool) -> bool:
        """Queues the key; True if it was not queued yet."""
        if self._closed:
            return False
        if key in self._dirty:
            if low or key in self._high:
                return False
            self._high.add(key)
            if key not in self._processing:
                # Its low entry is skipped when it comes up.
                self._queue.append(self._lane_of(key), key)
                self._changed.notify()
            return False
        self._dirty[key] = self._clock()
        if not low:
            self._high.add(key)
        if key not in self._processing:
            (self._low if low else self._queue).append(self._lane_of(key), key)
            self._changed.notify()
        return True

    def add_after(self, key: str, delay: float) -> None:
        """Add ``key`` in ``delay`` seconds, or when an earlier delayed add of it is due."""
        if delay <= 0:
            self.add(key)
            return
        with self._changed:
            if self._closed:
                return
            due = self._clock() + delay
            if due < self._waiting_for.get(key, float("inf")):
                self._waiting_for[key] = due
                heapq.heappush(self._waiting, (due, key))
                self._changed.notify()

    def add_rate_limited(self, key: str) -> None:
        """Add ``key`` after a delay that doubles with each call until ``forget``."""
        with self._changed:
            failures = self._failures.get(key, 0)
            self._failures[key] = failures + 1
            self._on_retry()
        self.add_after(key, min(BASE_DELAY * 2 ** min(failures, 30), MAX_DELAY))

    def forget(self, key: str) -> None:
        """Resets the failures of ``key``: its next one begins with the shortest delay again."""
        with self._changed:
            self._failures.pop(key, None)

    def get(self, timeout: float | None = None) -> str | None:
        """The next key, which is then in processing; None when closed or nothing came in time."""
        deadline = None if timeout is None else self._clock() + timeout
        taken = self._take(deadline)
        if taken is None:
            return None
        key, waited = taken
        self._on_wait(waited)  # not under the lock, because every worker waits for that
        return key

    def _take(self, deadline: float | None) -> tuple[str, float] | None:
        with self._changed:
            while True:
                self._release_due()
                now = self._clock()
                found = self._next(now)
                if found is not None:
                    lane, key = found
                    added = self._dirty.pop(key)
                    if key not in self._high:
                        self._low_busy.add(key)
                    elif self._low and self._low_is_free(now):
                        self._changed.notify()  # another worker may take a low key now
                    if self._queue:
                        self._changed.notify()  # there may be room for several keys of a lane
                    self._high.discard(key)
                    self._processing[key] = now
                    if lane is not None:
                        self._lanes.begin(key, lane, now)
                    return key, now - added
                if self._closed:
                    return None
                waits = [due - now for due, _ in self._waiting[:1]]
                room = self._lanes.changes_at() if self._queue or self._low else None
                if room is not None and room > now:
                    waits.append(room - now)
                if deadline is not None:
                    left = deadline - now
                    if left <= 0:
                        return None
                    waits.append(left)
                self._changed.wait(max(0.0, min(waits)) if waits else None)

    def _next(self, now: float) -> tuple[Lane | None, str] | None:
        """The next key and its lane; a key from ``add_first`` has no lane."""
        if self._first:
            return None, self._first.popleft()
        found = self._queue.take(lambda lane: self._lanes.may_begin(lane, now), self._is_wanted)
        if found is None and self._low and self._low_is_free(now):
            found = self._low.take(lambda lane: self._lanes.may_begin(lane, now), self._is_wanted)
        return found

    def _is_wanted(self, key: str) -> bool:
        return key in self._dirty and key not in self._processing

    def _low_is_free(self, now: float) -> bool:
        return all(self._lanes.is_slow(key, now) for key in self._low_busy)

    def _release_due(self) -> None:
        now = self._clock()
        while self._waiting and self._waiting[0][0] <= now:
            due, key = heapq.heappop(self._waiting)
            if self._waiting_for.get(key) == due:
                del self._waiting_for[key]
                if self._add(key, low=False):
                    self._on_add()

    def done(self, key: str) -> None:
        """Ends the processing of ``key``; adds that came meanwhile take effect now."""
        with self._changed:
            now = self._clock()
            worked = now - self._processing.pop(key)
            self._lanes.end(key, now)
            self._low_busy.discard(key)
            if key in self._dirty:
                (self._queue if key in self._high else self._low).append(self._lane_of(key), key)
                self._changed.notify()
        self._on_work(worked)

    def is_low(self, key: str) -> bool:
        """True if ``key``, which is in processing, was taken as a low one."""
        return key in self._low_busy

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Wakes every ``get``; later adds are ignored."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def stats(self) -> QueueStats:
        with self._changed:
            now = self._clock()
            running = [now - taken for taken in self._processing.values()]
            return QueueStats(
                depth=len(self._dirty),
                unfinished_seconds=sum(running),
                longest_running_seconds=max(running, default=0.0),
            )
