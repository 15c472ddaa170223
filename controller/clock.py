"""The clock that decisions are made by: it shows what the host's clock shows, and nobody sets it.

How long something took is asked of the monotonic clock. But much of what is waited for is written
down as a time (in a domain's metadata, for the next daemon), and so compared with times. So there
is one clock for all of it: it begins with the host's time and goes on by the monotonic clock. Where
the host's clock is set, or the host slept, it does not jump; it goes a little faster or slower
until both show the same, so that 120 s are 114 to 126 s whatever happens. Windows and shown times
are the host's.
"""

import threading
import time
from collections.abc import Callable

PULL = 0.05
"""Seconds that it makes up for in a second."""
_TOLD = 60.0
"""Seconds by which the host's clock has to be off to be told."""
_GRAIN = 10.0
"""Seconds in whose multiples the difference is given: a value that always moves moves much else."""


class SteadyClock:
    """Thread-safe. ``on_set(seconds)`` is called when the host's clock was set by more than a
    minute: by how much it is ahead since.
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
        """Epoch seconds, as far as this process knows; never less than before."""
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
        """Seconds by which the host's clock is ahead of this one, roughly; 0: nobody set it."""
        self.now()
        return round(self._off / _GRAIN) * _GRAIN
