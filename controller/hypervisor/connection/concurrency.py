"""Limits how many callers act on one host at a time, so that a hung host cannot block all workers.

Starting a domain on storage that hangs takes its whole deadline, and sixteen such starts would
take every reconcile worker from the guests of all other hosts. So only a few callers at a time
act on the domains of one host. The next ones wait while these finish; if none finishes, they
get an error at once and retry later.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from controller.errors import HostBusyError

PLACES = 3
PATIENCE = 1.0
"""Seconds. On a healthy host a call takes less, so it pays to wait for a place."""
_COME_AGAIN = 2.0


class Places:
    """The places of one host: a semaphore that gives up early. Thread-safe."""

    def __init__(self, host: str, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._host = host
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._began: dict[object, float] = {}

    @contextmanager
    def take(self, operation: str) -> Iterator[None]:
        """Holds a place while the context is open. Raises ``HostBusyError`` if none becomes free.

        Waits at most ``PATIENCE`` seconds, and not at all when every place has been held for
        longer than that.
        """
        token = object()
        with self._changed:
            deadline = self._monotonic() + PATIENCE
            while len(self._began) >= PLACES:
                now = self._monotonic()
                hopeless = max(self._began.values()) + PATIENCE
                if now >= min(deadline, hopeless):
                    raise HostBusyError(
                        f"host {self._host} is busy: {len(self._began)} other calls to it have not"
                        f" come back yet; {operation} is tried again",
                        retry_after=_COME_AGAIN,
                    )
                self._changed.wait(min(deadline, hopeless) - now)
            self._began[token] = self._monotonic()
        try:
            yield
        finally:
            with self._changed:
                del self._began[token]
                self._changed.notify()
