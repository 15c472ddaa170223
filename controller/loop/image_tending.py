"""Looks after images where no guest asks: builds that an earlier daemon began, builders and bases
that nobody wants any more.

Level-triggered like the rest: a host that came, a changed document and a timer only make it look;
what it does follows from what it sees.
"""

import threading
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

import structlog

from controller.desired.catalog.snapshot import Snapshot
from controller.desired.effective import EffectiveImage
from controller.errors import GuestkeeperError
from controller.observed.host import HostView

log = structlog.get_logger(__name__)


class Images(Protocol):
    """What is asked of the images room."""

    def tend(
        self,
        host: str,
        images: Callable[[], Mapping[str, EffectiveImage]],
        pools: Collection[str],
        *,
        certain: bool,
    ) -> None: ...


class ImageTending:
    """One thread, ``images``; ``period`` in seconds."""

    def __init__(
        self,
        images: Images,
        hosts: Callable[[], Collection[HostView]],
        snapshot: Callable[[], Snapshot],
        period: float,
    ) -> None:
        self._images = images
        self._hosts = hosts
        self._snapshot = snapshot
        self._period = period
        self._stop = threading.Event()
        self._kicked = threading.Event()
        self._thread = threading.Thread(target=self._run, name="images", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def kick(self) -> None:
        """Look soon; any thread may call it."""
        self._kicked.set()

    def stop(self, timeout: float) -> None:
        self._stop.set()
        self._kicked.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)

    def once(self) -> None:
        """One look at every host that answers."""
        snapshot = self._snapshot()
        if not snapshot.scanned_at:
            return
        # In a pass with errors nothing counts as gone: not an image either.
        certain = not snapshot.problems
        for host in self._hosts():
            if not host.reachable:
                continue
            pools = {host.default_pool} | {
                guest.spec.system_disk.pool or host.default_pool
                for guest in snapshot.guests.values()
                if guest.spec.host == host.name
            }
            there = sorted(pool for pool in pools if host.has_running(pool))
            try:
                self._images.tend(host.name, self._wanted, there, certain=certain)
            except GuestkeeperError as error:
                log.warning("images were not tended", host=host.name, why=str(error))

    def _wanted(self) -> Mapping[str, EffectiveImage]:
        return self._snapshot().images

    def _run(self) -> None:
        while not self._stop.is_set():
            self._kicked.wait(self._period)
            self._kicked.clear()
            if self._stop.is_set():
                return
            try:
                self.once()
            except Exception:  # told, and tried again a period later: this thread may not end
                log.exception("tending images panicked")
