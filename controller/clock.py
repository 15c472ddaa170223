"""The clock for decisions: it follows the host's clock, but does not jump when that is set.

Durations are measured with the monotonic clock. But many waits are kept as a time (in a domain's
metadata, for the next daemon), and so are compared with times. So one clock serves both: it begins
with the host's time and goes on with the monotonic clock. When the host's clock is set, or the host
slept, it does not jump; it runs a little faster or slower until both show the same, so that 120 s
are 114 to 126 s in any case. Maintenance windows and displayed times use the host's clock.
"""

import threading
import time
from collections.abc import Callable

PULL = 0.05
"""Seconds of difference that it makes up for in one second."""
_TOLD = 60.0
"""Seconds by which the host's clock must have been set for ``on_set`` to be called."""
_GRAIN = 10.0
"""The difference is rounded to multiples of so many seconds: each new value changes much else."""


class SteadyClock:
    """Epoch seconds without jumps. Thread-safe. ``on_set(seconds)`` is called when the host's clock
    was set by more than a minute; ``seconds`` is by how much that is ahead of this one now.
    """

    def __init__(
        self,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        on_set: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._on_set = on_set
        self._lock = threading.Lock()
        self._shows, self._at = wall(), monotonic()
        self._off = 0.0

    def now(self) -> float:
        """The time of this clock in epoch seconds; never less than before."""
        with self._lock:
            at, shown = self._monotonic(), self._wall()
            passed = max(0.0, at - self._at)
            expected, pull = self._shows + passed, passed * PULL
            if abs(shown - expected) <= pull:
                self._shows = shown
            else:
                self._shows = expected + (pull if shown > expected else -pull)
            self._at = at
            off, before = shown - expected, self._off
            self._off, shows = shown - self._shows, self._shows
        if abs(off - before) > _TOLD:
            self._on_set(off)
        return shows

    def ahead(self) -> float:
        """The seconds by which the host's clock is ahead, rounded to 10 s; 0: nobody set it."""
        self.now()
        return round(self._off / _GRAIN) * _GRAIN
