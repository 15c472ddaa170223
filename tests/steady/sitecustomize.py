"""Another time of day for a whole run of tests, and for every Python that it starts.

Found by Python itself where this directory is on PYTHONPATH, so it is done before anybody has taken
``time.time`` for a default of an argument. ``GUESTKEEPER_TEST_CLOCK`` is how many seconds the clock
is ahead. Only ``time.time`` moves: what is compared with the times of files (``time_ns``) has to
stay with them, and elapsed time is not the time of day.
"""

import os
import time
from collections.abc import Callable


def _ahead(clock: Callable[[], float], seconds: float) -> Callable[[], float]:
    return lambda: clock() + seconds


if _seconds := float(os.environ.get("GUESTKEEPER_TEST_CLOCK", "0")):
    time.time = _ahead(time.time, _seconds)
