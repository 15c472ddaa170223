"""Runs long actions in background threads: at most one per key, a bounded number at once.

A look inside, an apply or an image takes seconds to minutes. Meanwhile the loop goes on; for this
key it sees an ``Operation`` and waits. When an action ends, ``on_done`` is called with its key, and
the loop observes the guest again.

Hosts take turns, and guests whose agents hang wait in a lane of their own, not in a thread
(``Lanes``).
"""

import threading
import time
from collections.abc import Callable
from functools import partial

import structlog

from controller.errors import TransientError
from controller.lanes import Lane, Lanes, Lined
from controller.observed.guest import Operation

log = structlog.get_logger(__name__)
SLOW = 2.0
"""Seconds after which a running action does not count against the bound any more."""
_IDLE_SECONDS = 30.0
_ONE_LANE = Lane("")


class Operations:
    """A thread pool. Threads are made as needed, for ``workers`` quick actions and as many slow
    ones per host as ``Lanes`` allows. They are daemon threads: process exit never waits for one.
    """

    def __init__(
        self,
        workers: int,
        *,
        clock: Callable[[], float] = time.time,
        on_done: Callable[[str], None],
        on_panic: Callable[[str], None] = lambda _: None,
        monotonic: Callable[[], float] = time.monotonic,
        slow: float = SLOW,
    ) -> None:
        self._lanes = Lanes(workers, slow=slow, places=workers)
        self._monotonic = monotonic
        self._clock = clock
        self._on_done = on_done
        self._on_panic = on_panic
        self._changed = threading.Condition()
        self._queue: Lined[tuple[str, Callable[[], None]]] = Lined()
        self._seen: set[Lane] = set()
        self._current: dict[str, Operation] = {}
        self._threads = 0
        self._idle = 0
        self._closed = False

    def start(
        self, key: str, name: str, action: Callable[[], None], lane: Lane = _ONE_LANE
    ) -> bool:
        """Queues ``action``; False if one for ``key`` runs or waits already, or after ``stop``.
        ``action`` reports its own result.

        Raises ``TransientError(reason="NoThread")`` if the process can have no further thread.
        """
        with self._changed:
            if self._closed or key in self._current:
                return False
            self._current[key] = Operation(name, self._clock())
            self._queue.append(lane, (key, action))
            self._seen.add(lane)
            lacking = self._idle < len(self._queue) and self._threads < self._lanes.bound
            if (self._idle and not lacking) or not self._may_add:
                self._changed.notify()
                return True
            try:
                self._add_thread()
            except RuntimeError as error:
                self._queue.withdraw(lane)
                del self._current[key]
                raise TransientError(
                    f"no thread could be made for {key} ({error}): look at the daemon's TasksMax"
                    " and at its memory",
                    reason="NoThread",
                    retry_after=5.0,
                ) from error
            return True

    @property
    def threads(self) -> int:
        """The number of threads, busy or idle."""
        return self._threads

    @property
    def _may_add(self) -> bool:
        return self._threads < self._lanes.most(len(self._seen))

    def _add_thread(self) -> None:
        """Starts a thread, which counts as idle until it takes an action. Call under the lock."""
        name = f"operation-{self._threads + 1}"
        threading.Thread(target=self._work, name=name, daemon=True).start()
        self._threads += 1
        self._idle += 1

    def current(self, key: str) -> Operation | None:
        return self._current.get(key)

    def stop(self, timeout: float) -> bool:
        """Takes no more actions, drops those that wait, and waits at most ``timeout`` seconds for
        those that run; True if all ended.

        What can cut a running action short (images, waits for an agent) has to be stopped before.
        """
        with self._changed:
            self._closed = True
            for key, _action in self._queue:
                self._current.pop(key, None)
            self._queue.clear()
            self._changed.notify_all()
            return self._changed.wait_for(lambda: not self._current, timeout)

    def _next(self) -> tuple[str, Callable[[], None]] | None:
        """The next action and its key; None if the calling thread should end."""
        with self._changed:
            while not self._closed:
                now = self._monotonic()
                found = self._queue.take(partial(self._lanes.may_begin, now=now))
                if found is not None:
                    lane, (key, action) = found
                    self._lanes.begin(key, lane, now)
                    self._idle -= 1
                    if self._queue and not self._idle and self._may_add:
                        self._add_waiter()
                    return key, action
                room = self._lanes.changes_at() if self._queue else None
                pause = _IDLE_SECONDS if room is None else max(0.0, room - now)
                if not self._changed.wait(pause) and not self._queue and self._idle > 1:
                    break
            self._idle -= 1
            self._threads -= 1
            return None

    def _add_waiter(self) -> None:
        """Starts a thread that waits until a queued action may begin. Call under the lock."""
        try:
            self._add_thread()
        except RuntimeError as error:  # go on with the threads there are
            log.debug("no further thread for long actions", why=str(error))

    def _work(self) -> None:
        while (found := self._next()) is not None:
            key, action = found
            try:
                action()
            except Exception:  # a worker's panic is counted and logged, never fatal
                log.exception("operation panicked", key=key)
                self._tell(self._on_panic, key)
            finally:
                with self._changed:
                    self._current.pop(key, None)
                    self._lanes.end(key, self._monotonic())
                    self._idle += 1
                    self._changed.notify_all()
                self._tell(self._on_done, key)

    def _tell(self, callback: Callable[[str], None], key: str) -> None:
        try:
            callback(key)
        except Exception:  # a failing callback must not end this thread
            log.exception("callback of operations panicked", key=key)
