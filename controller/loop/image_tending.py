"""Maintains images that no guest asks for: continues builds that an earlier daemon began, and
removes builders and bases that are not wanted any more.

Level-triggered like the rest: a host that connects, a changed document or a timer only cause an
observation; what is done follows from what is observed.
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
    """The call used from the images package."""

    def tend(
        self,
        host: str,
        images: Callable[[], Mapping[str, EffectiveImage]],
        pools: Collection[str],
        *,
        certain: bool,
    ) -> None: ...


class ImageTending:
    """Runs in one thread, ``images``, at least every ``period`` seconds."""

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
        """Makes the next pass begin soon; any thread may call this."""
        self._kicked.set()

    def stop(self, timeout: float) -> None:
        self._stop.set()
        self._kicked.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)

    def once(self) -> None:
        """One pass over every reachable host."""
        snapshot = self._snapshot()
        if not snapshot.scanned_at:
            return
        # While documents have errors, nothing counts as removed, so no image does either.
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
            except Exception:  # logged, and retried a period later: this thread must not end
                log.exception("tending images panicked")
