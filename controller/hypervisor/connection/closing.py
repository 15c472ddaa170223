"""Connections on their last way: closed as soon as nothing is under way on them.

A thread of its own does it, for closing speaks to a libvirtd that may hang, and whoever keeps a
host connected must not wait for what is behind it.
"""

import threading
from collections.abc import Iterable

import structlog

from controller.errors import GuestkeeperError
from controller.hypervisor.connection.deadlines import Deadlines
from controller.hypervisor.connection.session import Line

log = structlog.get_logger(__name__)


class Closing:
    """The retired lines of one host. Thread-safe. ``timeout`` in seconds is what one close gets."""

    def __init__(self, host: str, timeout: float, pause: float) -> None:
        self._host = host
        self._timeout = timeout
        self._workers = Deadlines(f"{host}-close", workers=4, abandoned=16, pause=pause)
        self._lock = threading.Lock()
        self._lines: list[Line] = []
        self._thread: threading.Thread | None = None

    @property
    def stuck(self) -> int:
        """Closes that have not come back."""
        return self._workers.abandoned

    def add(self, lines: Iterable[Line]) -> None:
        """They are to be closed, by the next ``sweep`` that finds nothing under way on them."""
        with self._lock:
            for line in lines:
                line.retire()
                self._lines.append(line)

    def sweep(self) -> None:
        """Begins to close what can be closed; returns at once."""
        with self._lock:
            if not self._lines or (self._thread is not None and self._thread.is_alive()):
                return
            self._thread = threading.Thread(
                target=self._run, name=f"{self._host}-closing", daemon=True
            )
            try:
                self._thread.start()
            except RuntimeError as error:  # the process has no thread left: at the next sweep
                self._thread = None
                log.debug("nothing closed now", host=self._host, why=str(error))

    def wait(self, timeout: float) -> None:
        """For the sweep that is going on, at most ``timeout`` seconds."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout)

    def _run(self) -> None:
        with self._lock:
            lines = [line for line in self._lines if line.may_close()]
        for line in lines:
            try:
                self._workers.call("close", line.close, self._timeout)
            except GuestkeeperError as error:
                log.debug("connection not closed in time", host=self._host, why=str(error))
                if error.reason != "DeadlineExceeded":
                    continue  # it was not tried
            except Exception:  # the others still want to be closed
                log.exception("closing a connection panicked", host=self._host)
            with self._lock:
                self._lines.remove(line)
