"""The probes' scheduler: one event loop in one thread runs thousands of checks on time.

A probe is due on a grid of its own, one period apart, shifted by a hash of its name: so probes of
one period spread evenly over it, after every restart in the same way, and a thousand of them never
fire together. A check that cannot run in time is shed and counts as "no data": a daemon that is
too busy must never take its own lateness for a guest's failure.

The prober only knows verdicts. The planner, which reads ``views``, decides what follows from them;
the transition callback only puts the guest's name on the queue.
"""

import asyncio
import contextlib
import heapq
import itertools
import math
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controller.health import checks
from controller.health.inside import InsideCheck, InsideChecks
from controller.health.thresholds import ProbeState, Result, Thresholds, advance, fresh
from controller.observed.health import ProbeTarget, ProbeView

OnTransition = Callable[[str, ProbeView, ProbeView], None]
OnError = Callable[[ProbeTarget | None, Exception], None]

_FROM_HOST = frozenset({"httpGet", "tcpSocket"})
_FIRST_SPREAD = 1.0  # seconds over which new probes' first checks are spread
_TICK = 0.05  # seconds; checks due within one run together, as waking up costs most
_RESULTS = {True: Result.OK, False: Result.FAILED, None: Result.UNKNOWN}


@dataclass(frozen=True, slots=True)
class LastCheck:
    """What one probe's latest check found; ``seconds`` is how long it took."""

    ok: bool | None
    seconds: float


class _Entry:
    """One scheduled probe; replaced, not updated, when its target changes. Lock-guarded."""

    __slots__ = ("dropped", "due", "last", "shift", "state", "target", "thresholds", "view")

    def __init__(self, target: ProbeTarget, state: ProbeState, view: ProbeView, due: float) -> None:
        self.target = target
        self.thresholds = Thresholds(
            target.period, target.failure_threshold, target.success_threshold, target.startup
        )
        self.state = state
        self.view = view
        self.due = due
        self.shift = _spread(target) * target.period
        self.last: LastCheck | None = None
        self.dropped = False


def _spread(target: ProbeTarget) -> float:
    """A number in [0, 1) derived from the probe's name, the same in every run of the daemon."""
    name = f"{target.guest}\0{target.service}\0{target.probe}"
    return zlib.crc32(name.encode()) / 2**32


class Prober:
    """Satisfies ``execution.ports.Prober``. Call ``set_targets`` and ``views`` from any thread."""

    def __init__(
        self,
        *,
        inside: InsideCheck,
        on_transition: OnTransition,
        on_error: OnError,
        concurrency: int = 256,
        inside_workers: int = 16,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """``inside`` probes in a guest and may block; ``inside_workers`` quick calls run at
        a time, and slow ones in further threads (``InsideChecks``).

        The callbacks run in the loop's thread (``on_error`` in any) and must not block:
        ``on_transition(guest, old, new)`` after a change of status, ``on_error(target, error)``
        for a bug. ``concurrency`` bounds the sockets in use; ``wall`` gives the epoch seconds of
        the views.
        """
        self._inside_check = inside
        self._on_transition = on_transition
        self._on_error = on_error
        self._concurrency = concurrency
        self._inside_workers = inside_workers
        self._wall = wall
        self._lock = threading.Lock()
        self._targets: dict[str, tuple[ProbeTarget, ...]] = {}
        self._entries: dict[str, dict[tuple[str, str], _Entry]] = {}
        self._new: list[_Entry] = []
        self._shed = 0
        # From here on: used in the loop's thread only.
        self._heap: list[tuple[float, int, _Entry]] = []
        self._sequence = itertools.count()
        self._waiting: deque[_Entry] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._ticking = False
        self._inside: InsideChecks | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None
        self._running = threading.Event()

    # --- Any thread -------------------------------------------------------------------------------

    def start(self, timeout: float = 5.0) -> None:
        """Start the loop's thread. Raises ``TimeoutError`` if it does not come up in time."""
        self._thread = threading.Thread(target=self._run, name="prober", daemon=True)
        self._thread.start()
        if not self._running.wait(timeout):
            raise TimeoutError(f"the prober did not start within {timeout:g} s")

    def stop(self, timeout: float = 5.0) -> bool:
        """End all checks; return False if the thread did not end within ``timeout`` seconds."""
        thread, loop, stop = self._thread, self._loop, self._stop
        if thread is None:
            return True
        if loop is not None and stop is not None and not loop.is_closed():
            with contextlib.suppress(RuntimeError):  # the loop closed in between
                loop.call_soon_threadsafe(stop.set)
        thread.join(timeout)
        return not thread.is_alive()

    def set_targets(self, guest: str, targets: Sequence[ProbeTarget]) -> None:
        """Run exactly these probes for ``guest`` from now on; () stops them. Cheap when equal.

        A target whose ``epoch`` changed begins anew at once: ``views`` never shows a verdict
        about what was there before. Any other change keeps the verdict and its counters.
        """
        wanted = tuple(targets)
        if self._targets.get(guest, ()) == wanted:
            return
        with self._lock:
            old = self._entries.get(guest, {})
            entries = {(t.service, t.probe): self._entry(t, old) for t in wanted}
            for key, entry in old.items():
                entry.dropped = entries.get(key) is not entry
            self._new += [entry for key, entry in entries.items() if old.get(key) is not entry]
            if wanted:
                self._entries[guest] = entries
                self._targets[guest] = wanted
            else:
                self._entries.pop(guest, None)
                self._targets.pop(guest, None)
        self._wake()

    def views(self, guest: str) -> Mapping[tuple[str, str], ProbeView]:
        """(service, probe) -> its state; empty for a guest without targets."""
        with self._lock:
            return {key: entry.view for key, entry in self._entries.get(guest, {}).items()}

    def last_checks(self, guest: str) -> Mapping[tuple[str, str], LastCheck]:
        """(service, probe) -> its latest check; probes not checked yet are left out."""
        with self._lock:
            entries = self._entries.get(guest, {}).items()
            return {key: entry.last for key, entry in entries if entry.last is not None}

    @property
    def shed(self) -> int:
        """The number of checks since the start that could not run, or be judged, in time."""
        return self._shed

    def _entry(self, target: ProbeTarget, old: Mapping[tuple[str, str], _Entry]) -> _Entry:
        before = old.get((target.service, target.probe))
        if before is not None and before.target == target:
            return before
        now = time.monotonic()
        due = now + _spread(target) * min(target.period, _FIRST_SPREAD)
        if before is not None and before.target.epoch == target.epoch:
            entry = _Entry(target, before.state, before.view, due)
            entry.last = before.last
            return entry
        state = fresh(now)
        view = ProbeView(
            target.service, target.probe, state.status, state.message, since=self._wall()
        )
        return _Entry(target, state, view, due + target.initial_delay)

    def _wake(self) -> None:
        loop = self._loop
        if loop is None or loop.is_closed():
            return
        with contextlib.suppress(RuntimeError):  # the loop closed: nothing is probed any more
            loop.call_soon_threadsafe(self._tick)

    # --- The loop's thread: the schedule ----------------------------------------------------------

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except Exception as error:  # noqa: BLE001 - reported; nothing above a thread catches it
            self._on_error(None, error)

    async def _main(self) -> None:
        loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._inside = InsideChecks(
            loop,
            self._inside_check,
            workers=self._inside_workers,
            on_error=self._on_error,
        )
        loop.set_exception_handler(self._on_loop_error)
        self._loop = loop
        self._tick()
        self._running.set()
        await self._stop.wait()
        if self._timer is not None:
            self._timer.cancel()
        self._waiting.clear()  # else one begins with the end of each that is cancelled
        self._inside.close()  # asyncio.run cancels the checks that are under way

    def _tick(self) -> None:
        """Begin the checks that are due and set the timer for the next."""
        now = time.monotonic()
        self._ticking = True
        with self._lock:
            new, self._new = self._new, []
        for entry in new:
            self._push(entry)
        while self._heap and self._heap[0][0] <= now:
            entry = heapq.heappop(self._heap)[2]
            if not entry.dropped:
                self._begin(entry)
        self._arm()
        self._ticking = False

    def _arm(self) -> None:
        due = math.ceil(self._heap[0][0] / _TICK) * _TICK if self._heap else math.inf
        if self._timer is not None:
            if self._timer.when() <= due and not self._ticking:
                return  # it fires early enough: most calls end here
            self._timer.cancel()
            self._timer = None
        if self._heap:
            self._timer = asyncio.get_running_loop().call_at(due, self._tick)

    def _push(self, entry: _Entry) -> None:
        heapq.heappush(self._heap, (entry.due, next(self._sequence), entry))

    def _begin(self, entry: _Entry) -> None:
        try:
            self._ask(entry)
        except Exception as error:  # noqa: BLE001 - reported; one entry must not end the schedule
            self._report(entry.target, error)
            self._settle(entry, None, f"the check broke: {error}", None)

    def _ask(self, entry: _Entry) -> None:
        target = entry.target
        if time.monotonic() - entry.due > target.period:
            self._settle(entry, None, "not checked: the daemon was busy with other checks", None)
        elif target.inside or target.kind not in _FROM_HOST:
            self._begin_inside(entry)
        elif len(self._tasks) >= self._concurrency:
            self._waiting.append(entry)
        else:
            task = asyncio.get_running_loop().create_task(self._check(entry))
            self._tasks.add(task)
            task.add_done_callback(self._checked)

    def _begin_inside(self, entry: _Entry) -> None:
        def done(ok: bool | None, message: str, seconds: float | None) -> None:
            self._settle(entry, ok, message, seconds)

        if self._inside is not None:
            self._inside.ask(entry.target, entry.due + entry.target.period, done)

    async def _check(self, entry: _Entry) -> None:
        target, started = entry.target, time.monotonic()
        try:
            ok, message = await checks.run(target)
        except Exception as error:  # noqa: BLE001 - reported; a bug must not end the loop
            self._report(target, error)
            ok, message = None, f"the check broke: {type(error).__name__}: {error}"
        seconds = time.monotonic() - started
        if ok is False and seconds > target.timeout + min(target.timeout, target.period):
            # The timeout itself fired late: the loop was blocked, and an answer may have waited.
            self._shed += 1
            ok, message = None, "not judged: the daemon was too busy to read an answer in time"
        self._settle(entry, ok, message, seconds)

    def _checked(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._report(None, RuntimeError(f"a check's outcome was lost: {error!r}"))
        while self._waiting and len(self._tasks) < self._concurrency:
            entry = self._waiting.popleft()
            if not entry.dropped:
                self._begin(entry)

    # --- The loop's thread: verdicts --------------------------------------------------------------

    def _settle(self, entry: _Entry, ok: bool | None, message: str, seconds: float | None) -> None:
        """Record a check's outcome; ``seconds`` None: the check did not run."""
        now, wall, old = time.monotonic(), self._wall(), entry.view
        with self._lock:
            if entry.dropped:
                return
            if seconds is None:
                self._shed += 1
            else:
                entry.last = LastCheck(ok, seconds)
            state = advance(entry.state, _RESULTS[ok], message, now, entry.thresholds)
            changed = state.status is not entry.state.status
            entry.state = state
            entry.view = ProbeView(
                old.service,
                old.probe,
                state.status,
                state.message,
                since=wall if changed else old.since,
                checked_at=old.checked_at if seconds is None else wall,
            )
        entry.due = self._next_due(entry, now)
        self._push(entry)
        self._arm()
        if changed:
            guest, new = entry.target.guest, entry.view
            self._call(entry.target, lambda: self._on_transition(guest, old, new))

    def _next_due(self, entry: _Entry, now: float) -> float:
        """The first point of the probe's grid after ``now``, at least half a period after the last.

        Half, because the first check is not on the grid, and two checks close together would
        count as two in a row.
        """
        period = entry.target.period
        after = max(now, entry.due + period / 2)
        return entry.shift + (math.floor((after - entry.shift) / period) + 1) * period

    def _call(self, target: ProbeTarget, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception as error:  # noqa: BLE001 - reported; a callback must not end the loop
            self._report(target, error)

    def _on_loop_error(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        message = context.get("message", "an error in the event loop")
        self._report(None, error if isinstance(error, Exception) else RuntimeError(message))

    def _report(self, target: ProbeTarget | None, error: Exception) -> None:
        self._on_error(target, error)
