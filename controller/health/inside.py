"""Run probes inside guests: blocking calls, kept away from the event loop.

The guest agent does one thing at a time and may not answer for long, so at most one probe runs in
a guest at a time, and a bounded number of threads serves all guests. A call that never returns
costs its thread and its guest's probes (which become "no data"), never another guest's verdict:
the threads are daemon threads, and nobody joins them. At most ``_LEFT`` calls of one host are left
behind like this. After that, a further call that hangs keeps its place in the lane of the host's
silent guests, also if its guest had answered before; so only silent guests wait for it.

Guests whose agent did not answer last time have a lane of their own with a few threads (``Lanes``),
and new guests have another, so guests that answer are probed on time however many do not. A guest
that waits occupies no thread, and keeps its place in its lane when its probes fall due again, so an
agent that is back is found.
"""

import asyncio
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from queue import SimpleQueue

from controller.health.checks import Outcome
from controller.lanes import Lane, Lanes, Lined, lane_of_guest
from controller.observed.health import ProbeTarget

InsideCheck = Callable[[ProbeTarget], Outcome]
"""Blocking: probes in the guest, bounded by ``target.timeout``; ``None``: nothing learnt."""

Done = Callable[[bool | None, str, float | None], None]
"""(ok, message, seconds the call took or None if there was none); run in the loop's thread."""

_GRACE = 10.0  # seconds that the call may take beyond the probe's own timeout
_LEFT = 16
"""Calls of one host that do not return, beyond which it gets no other threads instead."""
_QUICK = 0.25
"""Seconds after which a call no longer counts against the bound."""
_SLOW = 1.0
"""Seconds after which a call that learnt nothing counts as not answered."""


class _Job:
    """One probe to run. ``phase`` is guarded by the lock: queued, running, settled.

    ``left``: it did not end in time, and its place was given to another.
    """

    __slots__ = ("done", "left", "phase", "target", "timer")

    def __init__(self, target: ProbeTarget, done: Done) -> None:
        self.target = target
        self.done = done
        self.phase = "queued"
        self.left = False
        self.timer: asyncio.TimerHandle | None = None


class InsideChecks:
    """Runs inside checks; call its methods in the loop's thread."""

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
        self._lanes = Lanes(workers, slow=_QUICK, places=2 * workers)
        self._workers = 0
        self._idle = 0
        self._lock = threading.Lock()
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._line: Lined[str] = Lined()
        self._busy: set[str] = set()  # guests that are queued or being probed
        self._waiting: dict[str, deque[_Job]] = {}
        self._silent: set[str] = set()  # did not answer last time; the others did, or are new
        self._answered: set[str] = set()
        self._left: Counter[str] = Counter()  # host -> calls that do not return
        self._alarm: asyncio.TimerHandle | None = None

    def ask(self, target: ProbeTarget, latest: float, done: Done) -> None:
        """Run a probe; call ``done`` exactly once: with the answer, or with None.

        None if the check has not begun by ``latest`` (loop time, seconds), because its guest or
        others of its lane are busy, or has not ended within ``target.timeout`` plus a grace of
        10 s.
        """
        job = _Job(target, done)
        job.timer = self._loop.call_at(latest, self._not_begun, job)
        self._waiting.setdefault(target.guest, deque()).append(job)
        if target.guest not in self._busy:
            self._line_up(target)
            self._begin()

    def close(self) -> None:
        """Let idle threads end; a thread in a call ends with the process at the latest."""
        for _ in range(self._workers):
            self._jobs.put(None)

    def _line_up(self, target: ProbeTarget) -> None:
        self._busy.add(target.guest)
        lane = lane_of_guest(target.host, silent=target.guest in self._silent)
        if not lane.suspect and target.guest not in self._answered:
            lane = Lane(target.host, "guests that were not asked yet")
        self._line.append(lane, target.guest)

    def _begin(self) -> None:
        """Hand jobs to threads, as many as there is room for."""
        now = self._clock()

        def may_begin(lane: Lane) -> bool:
            return self._lanes.may_begin(lane, now)

        while (found := self._line.take(may_begin)) is not None:
            lane, guest = found
            job = self._first(guest)
            if job is None:
                self._busy.discard(guest)
            else:
                self._lanes.begin(guest, lane, now)
                self._hand_over(job)
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        room = self._lanes.changes_at() if self._line else None
        if room is not None:
            self._alarm = self._loop.call_later(max(0.0, room - now), self._begin)

    def _first(self, guest: str) -> _Job | None:
        """The first job of the guest that still waits."""
        waiting = self._waiting.get(guest, deque())
        while waiting:
            job = waiting.popleft()
            if job.phase == "queued":
                return job
        self._waiting.pop(guest, None)
        return None

    def _hand_over(self, job: _Job) -> None:
        with self._lock:
            needed = self._idle <= self._jobs.qsize()
            if needed:
                self._workers += 1
        self._jobs.put(job)
        if needed:
            try:
                threading.Thread(target=self._work, name="probe-inside", daemon=True).start()
            except RuntimeError as error:  # no thread left in the system: those there must do
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
            except RuntimeError:  # the loop was closed while the probe ran
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
            if self._left[job.target.host] < _LEFT:
                # Its thread is lost. The guest stays busy, so it loses only this one.
                job.left = True
                self._left[job.target.host] += 1
                self._lanes.end(job.target.guest, self._clock())
            elif job.target.guest in self._answered:
                now, silent = self._clock(), lane_of_guest(job.target.host, silent=True)
                self._lanes.end(job.target.guest, now)
                self._lanes.begin(job.target.guest, silent, now)
            self._note(job.target, None, limit)
            job.done(None, f"no answer from within the guest in {limit:g} s", None)
            self._begin()

    def _returned(self, job: _Job, ok: bool | None, message: str, seconds: float | None) -> None:
        if job.timer is not None:
            job.timer.cancel()
        guest = job.target.guest
        if job.left:
            self._left[job.target.host] -= 1
        else:
            self._lanes.end(guest, self._clock())
        self._note(job.target, ok, seconds)
        if self._waiting.get(guest):
            self._line_up(job.target)
        else:
            self._waiting.pop(guest, None)
            self._busy.discard(guest)
        if job.phase == "running":
            job.phase = "settled"
            job.done(ok, message, seconds)
        self._begin()

    def _note(self, target: ProbeTarget, ok: bool | None, seconds: float | None) -> None:
        """Note whether the agent answered; one that could not be asked just now keeps its state."""
        answered = ok is True or (ok is False and target.kind != "guestAgentPing")
        if answered:
            self._silent.discard(target.guest)
            self._answered.add(target.guest)
        elif seconds is not None and seconds >= min(_SLOW, target.timeout):
            self._silent.add(target.guest)
            self._answered.discard(target.guest)
