"""Calls a function for every host in parallel, so that no host waits for another.

A single host is handled in the caller's thread. Several hosts get a thread each. The caller waits
only a moment for slow ones; they go on alone, and are not called again before they have ended.
"""

import threading
import time
from collections.abc import Callable, Collection

import structlog

log = structlog.get_logger(__name__)


class Beside:
    """Calls ``act(host)`` for each host. Not for several callers at once. ``patience`` is how many
    seconds to wait for all hosts together.
    """

    def __init__(self, name: str, patience: float) -> None:
        self._name = name
        self._patience = patience
        self._threads: dict[str, threading.Thread] = {}

    def each(self, hosts: Collection[str], act: Callable[[str], None]) -> None:
        """Calls ``act`` for each host. Its exceptions are raised for a single host, else logged."""
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
            except Exception:  # logged, because nobody would catch it in this thread
                log.exception("panicked", doing=self._name, host=host)

        thread = threading.Thread(target=run, name=f"{self._name}-{host}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the process can have no more threads: try the next time
            log.warning("host left out", doing=self._name, host=host, why=str(error))
        else:
            self._threads[host] = thread
