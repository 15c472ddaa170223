"""Something done to every host, where none waits for another.

One host is done in the caller's thread. With several, each has a thread of its own for as long as
it takes; one that is slow is waited for a moment, left to itself, and not begun again before it has
ended.
"""

import threading
import time
from collections.abc import Callable, Collection

import structlog

log = structlog.get_logger(__name__)


class Beside:
    """``act(host)`` for each; for one caller at a time. ``patience`` in seconds, for all hosts."""

    def __init__(self, name: str, patience: float) -> None:
        self._name = name
        self._patience = patience
        self._threads: dict[str, threading.Thread] = {}

    def each(self, hosts: Collection[str], act: Callable[[str], None]) -> None:
        """Raises what ``act`` raises where there is one host only; else that is logged."""
        if len(hosts) == 1:
            act(*hosts)
            return
        for host in hosts:
            before = self._threads.get(host)
            if before is None or not before.is_alive():
                self._begin(host, act)
        deadline = time.monotonic() + self._patience
        for thread in self._threads.values():
            thread.join(max(0.0, deadline - time.monotonic()))

    def _begin(self, host: str, act: Callable[[str], None]) -> None:
        def run() -> None:
            try:
                act(host)
            except Exception:  # told; a thread has nobody to raise to
                log.exception("panicked", doing=self._name, host=host)

        thread = threading.Thread(target=run, name=f"{self._name}-{host}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the process has no thread left: the next time
            log.warning("host left out", doing=self._name, host=host, why=str(error))
        else:
            self._threads[host] = thread
