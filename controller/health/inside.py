"""Probes that are asked within guests: blocking calls, kept away from the event loop.

The guest agent does one thing at a time and may not answer for long, so at most one probe is in
flight in a guest, and a bounded number of threads holds all guests. A call that never returns
costs its thread and its guest's probes (which become "no data"), never another guest's verdict:
threads that wait are daemon threads, and nobody joins them.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue

from controller.health.checks import Outcome
from controller.observed.health import ProbeTarget

InsideCheck = Callable[[ProbeTarget], Outcome]
"""Blocking: asks within the guest, bounded by ``target.timeout``; ``None`` = nothing learnt."""

Done = Callable[[bool | None, str, float | None], None]
"""Gets (ok, message, seconds the call took or None if there was none), in the loop's thread."""

_GRACE = 10.0  # seconds that the call may take beyond the probe's own timeout


class _Job:
    """One question. ``phase`` is guarded by the lock: queued, running, settled."""

    __slots__ = ("done", "phase", "target", "timer")

    def __init__(self, target: ProbeTarget, done: Done) -> None:
        self.target = target
        self.done = done
        self.phase = "queued"
        self.timer: asyncio.TimerHandle | None = None


class InsideChecks:
    """Runs inside checks; every method belongs to the loop's thread."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        check: InsideCheck,
        *,
        workers: int,
        on_error: Callable[[ProbeTarget, Exception], None],
        clock: Callable[[], float] = time.monotonic,
        grace: float = _GRACE,
    ) -> None:
        self._loop = loop
        self._check = check
        self._on_error = on_error
        self._clock = clock
        self._grace = grace
        self._max_workers = workers
        self._workers = 0
        self._idle = 0
        self._lock = threading.Lock()
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._busy: set[str] = set()
        self._waiting: dict[str, deque[_Job]] = {}

    def ask(self, target: ProbeTarget, latest: float, done: Done) -> None:
        """Calls ``done`` exactly once: with the answer, or with None.

        None comes if the check has not begun by ``latest`` (loop time, seconds), because the guest
        or all threads are busy, or has not ended ``target.timeout`` plus a grace of 10 s later.
        """
        job = _Job(target, done)
        job.timer = self._loop.call_at(latest, self._not_begun, job)
        if target.guest in self._busy:
            self._waiting.setdefault(target.guest, deque()).append(job)
        else:
            self._busy.add(target.guest)
            self._submit(job)

    def close(self) -> None:
        """Lets idle threads end; a thread within a call ends with the process at the latest."""
        for _ in range(self._workers):
            self._jobs.put(None)

    def _submit(self, job: _Job) -> None:
        with self._lock:
            needed = self._idle <= self._jobs.qsize() and self._workers < self._max_workers
            if needed:
                self._workers += 1
        self._jobs.put(job)
        if needed:
            try:
                threading.Thread(target=self._work, name="probe-inside", daemon=True).start()
            except RuntimeError as error:  # the system has no thread left: those there must do
                with self._lock:
                    self._workers -= 1
                self._on_error(job.target, error)

    def _work(self) -> None:
        while True:
            with self._lock:
                self._idle += 1
            job = self._jobs.get()
            with self._lock:
                self._idle -= 1
                claimed = job is not None and job.phase == "queued"
                if job is not None and claimed:
                    job.phase = "running"
            if job is None:
                return
            try:
                self._run(job, claimed=claimed)
            except RuntimeError:  # the loop was closed while the guest was being asked
                return

    def _run(self, job: _Job, *, claimed: bool) -> None:
        if not claimed:
            self._loop.call_soon_threadsafe(self._returned, job, None, "", None)
            return
        self._loop.call_soon_threadsafe(self._begun, job)
        started = self._clock()
        try:
            ok, message = self._check(job.target)
        except Exception as error:  # noqa: BLE001 - reported; a broken check must not end the thread
            ok, message = None, f"the check broke: {type(error).__name__}: {error}"
            self._loop.call_soon_threadsafe(self._on_error, job.target, error)
        seconds = self._clock() - started
        self._loop.call_soon_threadsafe(self._returned, job, ok, message, seconds)

    def _begun(self, job: _Job) -> None:
        if job.timer is not None:
            job.timer.cancel()
        job.timer = self._loop.call_later(job.target.timeout + self._grace, self._not_ended, job)

    def _not_begun(self, job: _Job) -> None:
        with self._lock:
            if job.phase != "queued":
                return
            job.phase = "settled"
        job.done(None, "not checked: the guest or the daemon was busy with other checks", None)

    def _not_ended(self, job: _Job) -> None:
        if job.phase == "running":
            job.phase = "settled"
            limit = job.target.timeout + self._grace
            job.done(None, f"no answer from within the guest in {limit:g} s", None)

    def _returned(self, job: _Job, ok: bool | None, message: str, seconds: float | None) -> None:
        if job.timer is not None:
            job.timer.cancel()
        self._next(job.target.guest)
        if job.phase == "running":
            job.phase = "settled"
            job.done(ok, message, seconds)

    def _next(self, guest: str) -> None:
        waiting = self._waiting.get(guest)
        while waiting:
            job = waiting.popleft()
            if job.phase == "queued":
                self._submit(job)
                return
        self._waiting.pop(guest, None)
        self._busy.discard(guest)
