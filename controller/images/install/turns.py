"""Limit the installers at once on a host: each takes gigabytes of memory, and the cores."""

import threading


class Turns:
    """One semaphore a host. Thread-safe."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._lock = threading.Lock()
        self._hosts: dict[str, threading.Semaphore] = {}

    def of(self, host: str) -> threading.Semaphore:
        """The semaphore to hold while installing on ``host``."""
        with self._lock:
            return self._hosts.setdefault(host, threading.Semaphore(self._at_once))
