"""A host that hangs may keep a few callers busy, never all that the daemon has.

Starting a domain on storage that hangs takes its whole deadline, and sixteen such starts would
take every reconcile worker from the guests of all other hosts. So only a few callers at a time
act on the domains of one host; the next ones wait while these come and go, and where nothing
moves they are told at once to come again.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from controller.errors import HostBusyError

PLACES = 3
PATIENCE = 1.0
"""Seconds: a call is done in less on a host that is well, so that it pays to wait for a place."""
_COME_AGAIN = 2.0


class Places:
    """The places of one host. Thread-safe."""

    def __init__(self, host: str, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._host = host
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._began: dict[object, float] = {}

    @contextmanager
    def take(self, operation: str) -> Iterator[None]:
        """Holds a place. Raises ``HostBusyError`` where none comes free.

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
