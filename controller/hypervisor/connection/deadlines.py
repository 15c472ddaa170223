"""Deadlines for libvirt calls, which have no timeout of their own.

A stopped libvirtd or a hung monitor blocks a call for ever. So each call runs in a worker thread. A
worker whose call passes its deadline is abandoned (it cannot be interrupted), counted, and replaced
by a new one, so that one stuck call delays no other. The number of abandoned workers is bounded:
beyond it, further calls to that host are refused. But not for ever, because a call that never
returns says nothing about the next one: after a pause, which doubles, one more is tried, and if it
returns, others may follow.
"""

import queue
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import structlog

from controller.errors import HostBusyError, HostUnreachableError, TransientError

T = TypeVar("T")
log = structlog.get_logger(__name__)

_IDLE_SECONDS = 30.0
_FIRST_PAUSE, _LAST_PAUSE = 10.0, 300.0
"""Seconds without a try while too many calls are stuck. The last one bounds how many threads are
lost to a host that never answers."""
_COME_AGAIN = 2.0


class DeadlineError(HostUnreachableError):
    """The call did not return in time; whether it took effect is not known."""

    reason = "DeadlineExceeded"


class _Job:
    """One running call; ``lock`` decides between 'done' and 'abandoned'."""

    __slots__ = ("abandoned", "done", "error", "finished", "function", "late", "lock", "result")

    def __init__(self, function: Callable[[], Any], late: Callable[[Any], None] | None) -> None:
        self.function = function
        self.late = late
        self.lock = threading.Lock()
        self.done = threading.Event()
        self.finished = False
        self.abandoned = False
        self.result: Any = None
        self.error: BaseException | None = None

    def run(self) -> bool:
        """Runs the call; False if its caller gave up in the meantime."""
        result, error = None, None
        try:
            result = self.function()
        except BaseException as raised:  # noqa: BLE001 - passed to the caller, which raises it
            error = raised
        self.function = _nothing
        with self.lock:
            self.finished = True
            if not self.abandoned:
                self.result, self.error = result, error
                self.done.set()
                return True
        if error is None and self.late is not None:
            try:
                self.late(result)
            except BaseException as raised:  # noqa: BLE001 - no caller is left to raise it
                log.debug("late result not cleaned up", error=str(raised))
        return False

    def abandon(self) -> bool:
        """Gives the call up; False if it has just finished."""
        with self.lock:
            if self.finished:
                return False
            self.abandoned = True
            return True


def _nothing() -> None:
    return None


class Deadlines:
    """Workers for one kind of call to one host.

    ``workers`` calls run at the same time, and ``abandoned`` more may be stuck. Beyond that, calls
    are refused for ``pause`` seconds, then for twice as long.
    """

    def __init__(
        self,
        name: str,
        *,
        workers: int = 8,
        abandoned: int = 16,
        pause: float = _FIRST_PAUSE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._limit = workers
        self._abandoned_limit = abandoned
        self._lock = threading.Condition()
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._workers = 0
        self._idle = 0
        self._abandoned = 0
        self._number = 0
        self._clock = clock
        self._first_pause = pause
        self._pause = pause
        self._tolerated = 0  # calls that were stuck when another one returned in time
        self._try_at = 0.0  # while too many are stuck: when one more may be tried

    @property
    def abandoned(self) -> int:
        """The number of calls that passed their deadline and are still stuck."""
        return self._abandoned

    @property
    def workers(self) -> int:
        """The number of worker threads, busy or idle, without the abandoned ones."""
        return self._workers

    def call(
        self,
        operation: str,
        function: Callable[[], T],
        timeout: float,
        *,
        late: Callable[[T], None] | None = None,
    ) -> T:
        """Runs ``function`` and returns its result, or raises what it raised.

        ``timeout`` is in seconds and includes the wait for a worker. ``late`` gets the result of a
        call that returned after its deadline (to close what it opened). Raises ``DeadlineError``
        when the deadline passes; if the call was not tried, ``HostBusyError`` (no worker was free
        in time, or too many calls are stuck already) or ``TransientError(reason="NoThread")`` (the
        process cannot start another thread).
        """
        deadline = time.monotonic() + timeout
        job = _Job(function, late)
        self._submit(job, operation, deadline)
        if not job.done.wait(max(0.0, deadline - time.monotonic())) and job.abandon():
            with self._lock:
                self._workers -= 1
                self._abandoned += 1
                if self._full:
                    self._try_at = self._clock() + self._pause
                self._lock.notify()
            log.warning("call passed its deadline", on=self._name, operation=operation)
            raise DeadlineError(f"{self._name}: {operation} did not answer within {timeout:g} s")
        job.done.wait()
        if job.error is not None:
            raise job.error
        result: T = job.result
        return result

    def _submit(self, job: _Job, operation: str, deadline: float) -> None:
        with self._lock:
            self._refuse_where_stuck(operation)
            while self._idle == 0 and self._workers >= self._limit:
                if not self._lock.wait(deadline - time.monotonic()):
                    raise HostBusyError(
                        f"{self._name}: no worker was free for {operation} in time",
                        retry_after=_COME_AGAIN,
                    )
            if self._idle:
                self._idle -= 1
                self._jobs.put(job)
                return
            self._workers += 1
            self._number += 1
            number = self._number
        try:
            threading.Thread(
                target=self._work, args=(job,), name=f"{self._name}-{number}", daemon=True
            ).start()
        except RuntimeError as error:
            with self._lock:
                self._workers -= 1
                self._lock.notify()
            raise TransientError(
                f"{self._name}: no thread could be made for {operation} ({error}): look at the"
                " daemon's TasksMax and at its memory",
                reason="NoThread",
                retry_after=5.0,
            ) from error

    @property
    def _full(self) -> bool:
        return self._abandoned - self._tolerated >= self._abandoned_limit

    def _refuse_where_stuck(self, operation: str) -> None:
        """While too many calls are stuck, lets through one call per pause only. Under the lock."""
        if not self._full:
            return
        now = self._clock()
        if now < self._try_at:
            raise HostBusyError(
                f"{self._name}: {self._abandoned} calls are stuck, {operation} is not tried",
                retry_after=max(_COME_AGAIN, self._try_at - now),
            )
        self._pause = min(2 * self._pause, _LAST_PAUSE)
        self._try_at = now + self._pause

    def _came_back(self, *, in_time: bool) -> None:
        """Counts a call that has returned. Under the lock."""
        if in_time:
            if self._full:
                self._tolerated = self._abandoned
            return
        self._abandoned -= 1
        self._tolerated = min(self._tolerated, self._abandoned)
        if self._abandoned == 0:
            self._pause = self._first_pause

    def _work(self, job: _Job | None) -> None:
        while job is not None:
            in_time = job.run()
            with self._lock:
                self._came_back(in_time=in_time)
                if not in_time:
                    if self._workers >= self._limit:
                        return
                    self._workers += 1
                self._idle += 1
                self._lock.notify()
            job = self._next()

    def _next(self) -> _Job | None:
        while True:
            try:
                return self._jobs.get(timeout=_IDLE_SECONDS)
            except queue.Empty:
                with self._lock:
                    # If idle is 0, a job for this worker is about to be queued.
                    if self._idle:
                        self._idle -= 1
                        self._workers -= 1
                        return None
