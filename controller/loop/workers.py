"""The worker threads that reconcile the guests on the queue, and the heartbeat for the watchdog.

A pass may hang with its host. So while no worker is free another is made, up to ``spare`` more; the
queue's lanes decide which passes those may take.

A panic of one pass is counted, logged and retried; it never ends a worker. A heartbeat goes through
the queue like any guest: it succeeds only while some worker is free, so systemd's watchdog depends
on the loop's real progress.
"""

import threading
import time
from collections.abc import Callable

import structlog

from controller.loop.queue import WorkQueue
from controller.loop.reconciler import Result

log = structlog.get_logger(__name__)
_SPARE_SECONDS = 30.0
"""Seconds without work after which a spare worker ends."""
HEARTBEAT = ":heartbeat"
"""A key no guest can have."""
HEARTBEAT_LATE = 60.0
"""Seconds without a heartbeat through the queue after which the loop makes no progress."""
PASS_LATE = 3600.0
"""Seconds of one pass after which the loop makes no progress either: each call in it has a deadline
of at most two minutes, so it waits forever, and the other guests of its host with it.
"""


class Workers:
    """``reconcile(name, act)`` is one pass over a guest; ``on_result(word, seconds)`` is for the
    metrics. The pass of a low key does not act: if it finds something to do, the key is queued
    again as an urgent one, so that low keys never wait for a host.
    """

    def __init__(
        self,
        queue: WorkQueue,
        reconcile: Callable[[str, bool], Result],
        count: int,
        *,
        on_result: Callable[[str, float], None] = lambda *_: None,
        on_panic: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        spare: int = 0,
    ) -> None:
        self._queue = queue
        self._reconcile = reconcile
        self._on_result = on_result
        self._on_panic = on_panic
        self._clock = clock
        self._beat = clock()
        self._threads = [
            threading.Thread(target=self._work, name=f"reconcile-{number}", daemon=True)
            for number in range(count)
        ]
        self._lock = threading.Lock()
        self._free = 0
        self._spare = spare
        self._spares: set[threading.Thread] = set()
        self._number = count

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    @property
    def count(self) -> int:
        """The number of workers now."""
        return len(self._threads) + len(self._spares)

    def stop(self, timeout: float) -> bool:
        """Closes the queue and waits at most ``timeout`` seconds for running passes; True if all
        workers ended.
        """
        self._queue.close()
        deadline = self._clock() + timeout
        with self._lock:
            threads = [*self._threads, *self._spares]
        for thread in threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - self._clock()))
        return not any(thread.is_alive() for thread in threads)

    def probe_progress(self) -> None:
        """Sends a heartbeat through the queue."""
        self._queue.add_first(HEARTBEAT)

    @property
    def last_beat(self) -> float:
        """When a heartbeat was last processed, in seconds of ``clock``."""
        return self._beat

    def stalled(self) -> str:
        """Why the loop makes no progress; '' if it does."""
        late = self._clock() - self._beat
        if late > HEARTBEAT_LATE:
            return f"no worker was free for {late:.0f} s"
        longest = self._queue.stats().longest_running_seconds
        if longest > PASS_LATE:
            return f"a pass over a guest has been going on for {longest:.0f} s"
        return ""

    def _work(self) -> None:
        while (key := self._next(None)) is not None:
            self._process(key)

    def _work_as_spare(self) -> None:
        try:
            while True:
                key = self._next(_SPARE_SECONDS)
                if key is not None:
                    self._process(key)
                elif self._queue.closed or self._free:  # another worker is free
                    return
        finally:
            with self._lock:
                self._spares.discard(threading.current_thread())

    def _next(self, timeout: float | None) -> str | None:
        with self._lock:
            self._free += 1
        key = self._queue.get(timeout)
        with self._lock:
            self._free -= 1
            if key is not None and self._free == 0 and len(self._spares) < self._spare:
                self._add_spare()
        return key

    def _add_spare(self) -> None:
        """Starts a spare worker. Call under the lock."""
        self._number += 1
        name = f"reconcile-{self._number}"
        thread = threading.Thread(target=self._work_as_spare, name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the process can have no more threads
            log.debug("no further worker", why=str(error))
        else:
            self._spares.add(thread)

    def _process(self, key: str) -> None:
        try:
            if key == HEARTBEAT:
                self._beat = self._clock()
            else:
                self._pass(key)
        finally:
            self._queue.done(key)

    def _pass(self, key: str) -> None:
        began = self._clock()
        try:
            result = self._reconcile(key, not self._queue.is_low(key))
        except Exception:  # a worker's panic is counted and retried, never fatal
            log.exception("reconcile panicked", guest=key)
            self._on_panic(key)
            self._queue.add_rate_limited(key)
            result = Result("error")
        else:
            self._queue.forget(key)
            if result.word == "requeue":
                self._queue.add(key)
            elif result.after is not None:
                self._queue.add_after(key, result.after)
        self._on_result(result.word, self._clock() - began)
