"""Triggers put guests on the queue: changed documents, libvirt events, probes, ends of operations,
time.

A trigger does nothing else, and none is needed for correctness: the resync puts every guest on the
queue once a period, whatever was lost.
"""

import threading
from collections.abc import Callable, Collection
from functools import partial
from typing import Protocol

import structlog

from controller.desired.catalog.snapshot import ScanResult, Snapshot
from controller.desired.schema.fields import Change
from controller.errors import GuestkeeperError
from controller.loop.beside import Beside
from controller.loop.queue import WorkQueue
from controller.loop.status import StatusStore
from controller.observed.build import is_builder_name
from controller.observed.health import ProbeView

log = structlog.get_logger(__name__)
_PATIENCE = 1.0
"""Seconds to wait for all hosts together: a bulk read takes some milliseconds."""


class Hosts(Protocol):
    """The calls that a resync uses from the hypervisor adapter."""

    def hosts(self) -> Collection[str]: ...
    def resync(self, host: str, *, deep: bool = False) -> Collection[str]: ...


class Triggers:
    """The methods are callbacks for the other packages; any thread may call them."""

    def __init__(
        self,
        queue: WorkQueue,
        snapshot: Callable[[], Snapshot],
        status: StatusStore,
        *,
        on_builder: Callable[[str], None] = lambda _: None,
    ) -> None:
        """``on_builder`` is called with the name of a builder domain that had an event."""
        self._queue = queue
        self._snapshot = snapshot
        self._status = status
        self._on_builder = on_builder

    def on_event(self, host: str, domain: str, kind: str) -> None:
        """libvirt reported an event of a domain."""
        log.debug("libvirt event", host=host, domain=domain, kind=kind)
        if is_builder_name(domain):
            self._on_builder(domain)
        else:
            self._queue.add(domain)

    def on_host(self, host: str, owned: Collection[str]) -> None:
        """A host connected or disconnected: queues every guest of it and every domain of ours on
        it, and the guests that are not created because some host has not answered yet.
        """
        for status in self._status.all():
            if status.observed.host.name == host or status.observed.unseen_host is not None:
                self._queue.add(status.name)
        snapshot = self._snapshot()
        for name, guest in (*snapshot.guests.items(), *snapshot.orphans.items()):
            if guest.spec.host == host:
                self._queue.add(name)
        for name in owned:
            self._queue.add(name)

    def on_scan(self, result: ScanResult) -> None:
        """The documents were scanned and some of them changed."""
        for name in result.changed:
            self._queue.add(name)
        if result.images_changed:
            self._of_images(result.images_changed)

    def on_probe(self, guest: str, old: ProbeView, new: ProbeView) -> None:
        """The state of a probe changed."""
        log.info(
            "probe changed", guest=guest, probe=f"{new.service}/{new.probe}", was=old.status.value,
            now=new.status.value, why=new.message,
        )  # fmt: skip
        self._queue.add(guest)

    def on_operation(self, key: str) -> None:
        """A long action of a guest, or of an image that guests wait for, ended."""
        if key.startswith("image:"):
            self._of_images({key.rpartition(":")[2]})
        else:
            self._queue.add(key)

    def on_image(self, image: str) -> None:
        """An image's state or progress changed."""
        self._of_images({image})

    def _of_images(self, images: Collection[str]) -> None:
        """Queues the guests of these images. A guest that has its domain is affected only if it may
        get another base.
        """
        for name, guest in self._snapshot().guests.items():
            if guest.image.name in images:
                status = self._status.get(name)
                if (
                    status is None
                    or status.observed.domain is None
                    or guest.image.install is not None
                    or status.plan.steps  # for example, it prepares the new image
                    or any(change.change is Change.REPLACE for change in status.plan.changes)
                ):
                    self._queue.add(name)

    def all(self) -> None:
        """Queues every known guest, behind everything that is urgent."""
        snapshot = self._snapshot()
        strays = (status.name for status in self._status.all() if status.guest is None)
        self._queue.add_all((*snapshot.guests, *snapshot.orphans, *strays), low=True)


class Resync:
    """Once a period: one bulk read of every host, then every guest goes on the queue.

    Every ``slow`` seconds it reads each domain's XML too, for changes without a libvirt event
    (``virsh setvcpus --config``).
    """

    def __init__(
        self,
        hosts: Hosts,
        triggers: Triggers,
        period: float,
        slow: float,
        *,
        tidy: Callable[[], None] = lambda: None,
    ) -> None:
        """``tidy`` is called before each resync, when the work of the last one is long done."""
        self._hosts = hosts
        self._triggers = triggers
        self._period = period
        self._deep_every = max(1, round(slow / period))
        self._count = 0
        self._tidy = tidy
        self._beside = Beside("resync", _PATIENCE)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="resync", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float) -> None:
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)

    def once(self) -> None:
        """One resync now. A host that does not answer is skipped; its guests' status shows that.

        A slow host is waited for ``_PATIENCE`` seconds; its changes are queued when it answers.
        """
        self._count += 1
        deep = self._count % self._deep_every == 0
        self._beside.each(self._hosts.hosts(), partial(self._look, deep=deep))
        self._triggers.all()

    def _look(self, host: str, *, deep: bool) -> None:
        try:
            changed = self._hosts.resync(host, deep=deep)
        except GuestkeeperError as error:
            log.warning("resync had no answer", host=host, why=str(error))
            return
        for name in changed:
            self._triggers.on_event(host, name, "resync")

    def _run(self) -> None:
        while not self._stop.wait(self._period):
            try:
                self._tidy()
                self.once()
            except Exception:  # logged, and retried a period later: this thread must not end
                log.exception("resync panicked")
