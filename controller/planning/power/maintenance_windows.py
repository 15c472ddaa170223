"""Determines whether a maintenance window is open, and when that changes.

A window begins whenever the local time in its time zone matches ``cron``, and stays open for
``duration`` seconds of real time. When clocks change (DST), a window begins as Debian's cron(8)
starts a job: one at a fixed time that is skipped begins right after the gap, and one whose time
comes twice begins the first time only; one that repeats (``*`` for minute or hour) follows the
clock. cronsim only evaluates the calendar; time zones are handled here, because cronsim handles
them differently forwards and backwards.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, tzinfo

from cronsim import CronSim

from controller.desired.schema.fields import time_zone
from controller.desired.schema.guest import MaintenanceWindow

_DAY = 86400.0
_MINUTE = timedelta(minutes=1)
_LINKS = 100
"""How many adjoining windows are followed to find when the last one closes."""


@dataclass(frozen=True, slots=True)
class WindowState:
    """``changes_at`` is when the window closes, or the next one opens, in epoch seconds.

    None if that never happens. For windows that adjoin without end, it is a time until which they
    certainly stay open.
    """

    open: bool
    changes_at: float | None


def window_state(windows: Sequence[MaintenanceWindow], now: float) -> WindowState:
    """Whether any of ``windows`` is open at ``now`` (epoch seconds); always, if there are none.

    Raises ``LookupError`` if this machine does not have a window's time zone (any more).
    """
    if not windows:
        return WindowState(True, None)
    clocks = [_Clock.of(window) for window in windows]
    end = _open_until(clocks, now)
    if end == now:
        starts = [start for clock in clocks if (start := clock.next_start(now)) is not None]
        return WindowState(False, min(starts, default=None))
    for _ in range(_LINKS):
        further = _open_until(clocks, end)
        if further == end:
            break
        end = further
    return WindowState(True, end)


def window_now(windows: Sequence[MaintenanceWindow], now: float, ahead: float) -> WindowState:
    """``window_state`` by the host's clock, which is ``ahead`` seconds ahead of ``now``; the result
    is in times of the daemon's clock.
    """
    state = window_state(windows, now + ahead)
    if not ahead or state.changes_at is None:
        return state
    return replace(state, changes_at=state.changes_at - ahead)


def _open_until(clocks: Sequence["_Clock"], time: float) -> float:
    """When all windows that are open at ``time`` have closed; ``time`` if none is open."""
    ends = (clock.open_until(time) for clock in clocks)
    return max((end for end in ends if end is not None), default=time)


@dataclass(frozen=True, slots=True)
class _Clock:
    """Computes when a window starts. ``wall`` is local time, a datetime without a time zone."""

    cron: str
    zone: tzinfo
    duration: float
    follows: bool
    """True for a window that repeats (``*``), which follows the clock when that changes."""

    @classmethod
    def of(cls, window: MaintenanceWindow) -> "_Clock":
        minute, hour = window.cron.split()[:2]
        follows = minute.startswith("*") or hour.startswith("*")
        return cls(window.cron, time_zone(window.time_zone), window.duration, follows)

    def open_until(self, time: float) -> float | None:
        """The end of the last window that began by ``time``; None if it is over."""
        # If the clock was set back, it showed later times before.
        latest = self._wall(time) + max(self._offset(time - _DAY) - self._offset(time), timedelta())
        earliest = self._wall(time - self.duration) - timedelta(days=1)
        found: float | None = None
        for wall in CronSim(self.cron, latest + timedelta(seconds=1), reverse=True):
            instants = self._instants(wall)
            begun = [start for start in instants if start <= time]
            found = max((*begun, found) if found is not None else begun, default=None)
            if wall < earliest or (instants and instants[-1] <= time):
                break
        if found is None or found + self.duration <= time:
            return None
        return found + self.duration

    def next_start(self, time: float) -> float | None:
        """The first start after ``time``; None if there is none within 50 years."""
        # If the clock will be set back, it will show earlier times again.
        earlier = max(self._offset(time) - self._offset(time + _DAY), timedelta())
        found: float | None = None
        for wall in CronSim(self.cron, self._wall(time) - earlier):
            instants = self._instants(wall)
            coming = [start for start in instants if start > time]
            found = min((*coming, found) if found is not None else coming, default=None)
            if instants and instants[0] > time:
                break
        return found

    def _wall(self, time: float) -> datetime:
        return datetime.fromtimestamp(time // 1, self.zone).replace(tzinfo=None)

    def _offset(self, time: float) -> timedelta:
        return datetime.fromtimestamp(time, self.zone).utcoffset() or timedelta()

    def _instants(self, wall: datetime) -> tuple[float, ...]:
        """The times (epoch seconds, in order) at which a window for local time ``wall`` begins."""
        first, second = self._readings(wall)
        if first == second:
            return (first,)
        if first < second:  # the clock shows it twice
            return (first, second) if self.follows else (first,)
        if self.follows:
            return ()
        while first > second:  # the clock never shows it (PEP 495: the readings change places)
            wall += _MINUTE
            first, second = self._readings(wall)
        return (first,)

    def _readings(self, wall: datetime) -> tuple[float, float]:
        first, second = (wall.replace(tzinfo=self.zone, fold=fold) for fold in (0, 1))
        return first.timestamp(), second.timestamp()
