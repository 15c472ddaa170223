"""Closes retired connections as soon as no call is running on them.

It has a thread of its own, because closing calls libvirtd, which may hang, and the thread that
keeps a host connected must not wait for old connections.
"""

import threading
from collections.abc import Iterable

import structlog

from controller.errors import GuestkeeperError
from controller.hypervisor.connection.deadlines import Deadlines
from controller.hypervisor.connection.session import Line

log = structlog.get_logger(__name__)


class Closing:
    """The retired lines of one host. Thread-safe. ``timeout`` for each close, in seconds."""

    def __init__(self, host: str, timeout: float, pause: float) -> None:
        self._host = host
        self._timeout = timeout
        self._workers = Deadlines(f"{host}-close", workers=4, abandoned=16, pause=pause)
        self._lock = threading.Lock()
        self._lines: list[Line] = []
        self._thread: threading.Thread | None = None

    @property
    def stuck(self) -> int:
        """The number of closes that passed their deadline and have not returned."""
        return self._workers.abandoned

    def add(self, lines: Iterable[Line]) -> None:
        """Retires ``lines``: the next ``sweep`` that finds no call running on them closes them."""
        with self._lock:
            for line in lines:
                line.retire()
                self._lines.append(line)

    def sweep(self) -> None:
        """Starts to close the lines that can be closed; returns at once."""
        with self._lock:
            if not self._lines or (self._thread is not None and self._thread.is_alive()):
                return
            self._thread = threading.Thread(
                target=self._run, name=f"{self._host}-closing", daemon=True
            )
            try:
                self._thread.start()
            except RuntimeError as error:  # no thread left in the process: retried at next sweep
                self._thread = None
                log.debug("nothing closed now", host=self._host, why=str(error))

    def wait(self, timeout: float) -> None:
        """Waits for the running sweep, at most ``timeout`` seconds."""
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
            except Exception:  # the other lines must still be closed
                log.exception("closing a connection panicked", host=self._host)
            with self._lock:
                self._lines.remove(line)
