"""One resync of many guests that changed nothing; a process of its own for each number of guests.

``python -m bench.resync_world COUNT RUNS`` prints JSON. The parts are the daemon's own (``House``),
the host is libvirt's test driver. Its domains are made here, by the planner's own definitions, as a
daemon that was stopped would have left them; then the loop runs until it has nothing to do. A pass
is what the daemon does once a period: one bulk look, every guest on the queue, all workers until it
is empty.
"""

import gc
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import libvirt

from bench.daemon_process import resident_bytes
from bench.documents import write_many
from bench.progress import say
from bench.scratch import POOL, PREFIX, settings_for
from controller.daemon.house import House
from controller.desired.catalog.snapshot import Snapshot
from controller.hypervisor.connection.event_loop import ensure_running
from controller.hypervisor.xml.render import Dialect, render
from controller.loop.status import GuestStatus
from controller.loop.workers import Workers
from controller.observed.domain import Ownership
from controller.observed.host import HostView
from controller.observed.image import ImageState, ImageView
from controller.planning.compare.changes import spec_document
from controller.planning.wanted.domain import wanted_config
from controller.settings import Settings, machine_identity
from controller.telemetry import logging

TIMEOUT = 300.0


class Passes:
    """Counts the reconciles that ended."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._changed = threading.Event()
        self._left = 0
        self._lock = threading.Lock()
        self.words: dict[str, int] = {}

    def ended(self, word: str, seconds: float) -> None:
        self._house.metrics.reconciled(word, seconds)
        with self._lock:
            self.words[word] = self.words.get(word, 0) + 1
            self._left -= 1
            if self._left == 0:
                self._changed.set()

    def expect(self, count: int) -> None:
        with self._lock:
            self.words = {}
            self._left = count
            self._changed.clear()

    def wait(self, what: str) -> None:
        if not self._changed.wait(TIMEOUT):
            raise TimeoutError(f"{what}: {self._left} guests are left after {TIMEOUT:g} s")


def measure(count: int, runs: int, scratch: Path) -> dict[str, object]:
    """Seconds of a pass and of its floor, and what the passes did beside looking."""
    # The slow resync, which reads all XML on purpose, is measured by itself at the end.
    slow = 60 * (runs + 2)
    settings = settings_for(
        scratch,
        uri="test:///default",
        pool=Path("/gkbench"),
        resync_seconds=60,
        slow_resync_seconds=slow,
    )
    names = write_many(settings.desired_dir, PREFIX, count)
    logging.configure("error")
    ensure_running()
    keeper = libvirt.open("test:///default")
    house = House(settings)
    passes = Passes(house)
    workers = Workers(
        house.queue, house.reconciler.reconcile, settings.workers, on_result=passes.ended
    )
    try:
        _timed(f"reading {count} documents", lambda: house.triggers.on_scan(house.catalog.scan()))
        before = resident_bytes(os.getpid())
        _timed("making the domains", lambda: make_domains(keeper, house.catalog.snapshot, settings))
        driver = resident_bytes(os.getpid()) - before
        _timed("connecting and reading them", house.open)
        workers.start()
        _timed("the first passes", lambda: _converge(house, names))
        seconds, floors = [], []
        reads = house.hypervisor.xml_reads("local")
        for number in range(runs + 1):
            floors.append(_floor(keeper))
            seconds.append(_one_pass(house, passes, count))
            if number == 0:  # the first one warms up
                seconds, floors = [], []
        reads = house.hypervisor.xml_reads("local") - reads
        return {
            "seconds": seconds,
            "floors": floors,
            "xml_reads": reads,
            "slow_seconds": _one_pass(house, passes, count),
            "steps": sum(len(status.plan.steps) for status in house.status.all()),
            "driver_bytes": driver,
        }
    finally:
        workers.stop(5.0)
        house.close()
        keeper.close()


def make_domains(connection: libvirt.virConnect, snapshot: Snapshot, settings: Settings) -> None:
    """Defines and starts what the snapshot's guests want, without the daemon."""
    seed = machine_identity(settings)
    host = HostView("local", "test:///default", True, default_pool=POOL)
    image = ImageView("tiny", "local", POOL, ImageState.READY, base="base")
    for guest in snapshot.guests.values():
        config = wanted_config(guest, host, None, image, seed)
        owner = Ownership(config.uuid, guest.name, 1, guest.digest, spec_document(guest))
        connection.defineXMLFlags(render(config, owner, Dialect.TEST), 0).create()


def _timed(what: str, act: Callable[[], object]) -> None:
    began = time.monotonic()
    act()
    say(f"    {what} took {time.monotonic() - began:.2f} s")


def _converge(house: House, names: list[str]) -> None:
    """Until every guest runs, nothing is planned any more, and the queue is empty."""
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        time.sleep(0.2)
        stats = house.queue.stats()
        if stats.depth or stats.unfinished_seconds:
            continue
        seen = [house.status.get(name) for name in names]
        if all(s is not None and not s.plan.steps and _runs(s) for s in seen):
            return
        for name, status in zip(names, seen, strict=True):
            if status is None or status.plan.steps or not _runs(status):
                house.queue.add(name)
    waiting = [s for s in house.status.all() if s.plan.steps or not _runs(s)]
    why = waiting[0].plan.sentence if waiting else "no status"
    raise TimeoutError(f"{len(waiting)} guests do not converge; the first: {why}")


def _runs(status: GuestStatus) -> bool:
    domain = status.observed.domain
    return domain is not None and domain.state.active


def _one_pass(house: House, passes: Passes, count: int) -> float:
    passes.expect(count)
    began = time.perf_counter()
    house.resync.once()
    passes.wait("a resync")
    took = time.perf_counter() - began
    time.sleep(0.1)
    return took


def _floor(connection: libvirt.virConnect) -> float:
    """What the bulk look alone takes: ``listAllDomains`` and ``getAllDomainStats``.

    A bare script would not have the daemon's objects for the garbage collector to go through.
    """
    gc.disable()
    began = time.perf_counter()
    connection.listAllDomains(0)
    connection.getAllDomainStats(
        libvirt.VIR_DOMAIN_STATS_STATE, libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
    )
    took = time.perf_counter() - began
    gc.enable()
    return took


def main() -> None:
    """Prints the figures as JSON on stdout."""
    count, runs = int(sys.argv[1]), int(sys.argv[2])
    with tempfile.TemporaryDirectory(prefix=PREFIX) as scratch:
        print(json.dumps(measure(count, runs, Path(scratch))))


if __name__ == "__main__":
    main()
