"""What puts names on the queue: documents, libvirt's events, probes, ends of operations, time.

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
"""Seconds for all hosts together: a bulk look takes some milliseconds."""


class Hosts(Protocol):
    """What a resync asks of the hypervisor room."""

    def hosts(self) -> Collection[str]: ...
    def resync(self, host: str, *, deep: bool = False) -> Collection[str]: ...


class Triggers:
    """Its methods are the callbacks of the other rooms; any thread may call them."""

    def __init__(
        self,
        queue: WorkQueue,
        snapshot: Callable[[], Snapshot],
        status: StatusStore,
        *,
        on_builder: Callable[[str], None] = lambda _: None,
    ) -> None:
        """``on_builder`` is told the name of a builder domain that something happened to."""
        self._queue = queue
        self._snapshot = snapshot
        self._status = status
        self._on_builder = on_builder

    def on_event(self, host: str, domain: str, kind: str) -> None:
        """libvirt says that something happened to a domain."""
        log.debug("libvirt event", host=host, domain=domain, kind=kind)
        if is_builder_name(domain):
            self._on_builder(domain)
        else:
            self._queue.add(domain)

    def on_host(self, host: str, owned: Collection[str]) -> None:
        """A host came or went: every guest of it, and every domain of ours on it, is looked at.

        So are guests that are not made because some host was not heard yet.
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
        """The directory was read and something in it changed."""
        for name in result.changed:
            self._queue.add(name)
        if result.images_changed:
            self._of_images(result.images_changed)

    def on_probe(self, guest: str, old: ProbeView, new: ProbeView) -> None:
        """A probe came into another state."""
        log.info(
            "probe changed", guest=guest, probe=f"{new.service}/{new.probe}", was=old.status.value,
            now=new.status.value, why=new.message,
        )  # fmt: skip
        self._queue.add(guest)

    def on_operation(self, key: str) -> None:
        """A long action ended: of a guest, or of an image that guests wait for."""
        if key.startswith("image:"):
            self._of_images({key.rpartition(":")[2]})
        else:
            self._queue.add(key)

    def on_image(self, image: str) -> None:
        """An image's state or progress changed."""
        self._of_images({image})

    def _of_images(self, images: Collection[str]) -> None:
        """Guests that have their domain care only whether there is another base for them."""
        for name, guest in self._snapshot().guests.items():
            if guest.image.name in images:
                status = self._status.get(name)
                if (
                    status is None
                    or status.observed.domain is None
                    or guest.image.install is not None
                    or status.plan.steps  # such as making the image ready beside it
                    or any(change.change is Change.REPLACE for change in status.plan.changes)
                ):
                    self._queue.add(name)

    def all(self) -> None:
        """Every guest there is a word about, behind whatever is urgent."""
        snapshot = self._snapshot()
        strays = (status.name for status in self._status.all() if status.guest is None)
        self._queue.add_all((*snapshot.guests, *snapshot.orphans, *strays), low=True)


class Resync:
    """Once a period: one bulk look at every host, then every guest on the queue.

    Each ``slow`` seconds the look reads every domain's XML, for the changes that libvirt has no
    event for (``virsh setvcpus --config``).
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
        """``tidy`` is called before each look, when the work of the last one is long done."""
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
        """One resync now. A host that does not answer is skipped; its guests say so themselves.

        One that is slow is waited for a moment only: what changed there is told when it answers.
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
            except Exception:  # told, and tried again a period later: this thread may not end
                log.exception("resync panicked")
