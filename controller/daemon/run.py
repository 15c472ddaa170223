"""``guestkeeper run``: starts the daemon, serves signals and systemd's watchdog, stops it.

The order of the start matters: the lock first (one daemon per state directory), documents before
hosts (a host that connects puts its guests on the queue), sockets and loop before ``READY=1``. The
watchdog is fed only while a heartbeat still passes through the work queue.
"""

import os
import select
import signal
import threading
from collections.abc import Callable, Collection
from pathlib import Path

import structlog

from controller import __version__
from controller.daemon import malloc
from controller.daemon.house import House
from controller.daemon.lock import locked
from controller.desired.catalog.watcher import Watcher
from controller.operator.guests import GuestRequests
from controller.operator.volumes import VolumeRequests
from controller.settings import Settings, SettingsError, load_settings
from controller.telemetry import logging
from controller.telemetry.notify import Notifier
from controller.web.application import Application
from controller.web.server import WebServer

log = structlog.get_logger(__name__)
HEARTBEAT_PERIOD = 5.0
_THREADS = frozenset(
    {"desired-watcher", "images", "journal", "libvirt-events", "prober", "resync", "web"}
)
"""Threads that must run; without one of them the daemon would look alive but see or do nothing."""


def run(settings: Settings, config: Path | None) -> int:
    """Run until SIGTERM or SIGINT; SIGHUP reloads. Raises ``PermanentError`` if it cannot start."""
    logging.configure(settings.log_level)
    malloc.be_frugal()
    with locked(settings.state_dir):
        return _Daemon(settings, config).run()


class _Daemon:
    def __init__(self, settings: Settings, config: Path | None) -> None:
        self._config = config
        self._house = House(settings)
        self._notifier = Notifier()
        # Signal handlers only set these flags: a threading.Event's lock could be held by the code
        # that they interrupt.
        self._stop = False
        self._reload = False
        house = self._house
        self._watcher = Watcher(
            house.catalog,
            settings.desired_dir,
            house.on_scan,
            debounce=settings.debounce_seconds,
            rescan=settings.rescan_seconds,
            on_failure=lambda what, error: log.error("failed", doing=what, error=repr(error)),
            on_notice=lambda text: log.warning("watching by looking alone", why=text),
        )
        self._web = WebServer(
            application(house, self._healthy),
            listen=settings.listen,
            socket=settings.socket,
            names=settings.listen_names,
        )

    def run(self) -> int:
        settings = self._house.settings
        log.info("starting", version=__version__, desired_dir=str(settings.desired_dir))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop)
        signal.signal(signal.SIGHUP, self._on_reload)
        wakes, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
        try:
            self._house.on_scan(self._house.catalog.scan())
            self._web.start()
            self._house.open(0)  # a host that hangs must not keep the others waiting
            self._watcher.start()
            self._house.start_loop()
            self._notifier.ready(f"{len(self._house.catalog.snapshot.guests)} guests")
            log.info("started", guests=len(self._house.catalog.snapshot.guests))
            self._serve(wakes)
        finally:
            self._close()
            signal.set_wakeup_fd(-1)
            os.close(wakes)
            os.close(woken)
        return 0

    def _on_stop(self, *_: object) -> None:
        self._stop = True

    def _on_reload(self, *_: object) -> None:
        self._reload = True

    def _serve(self, wakes: int) -> None:
        """Feed the watchdog and reload on SIGHUP; everything else has threads of its own."""
        interval = self._notifier.watchdog_interval() or HEARTBEAT_PERIOD
        while not self._stop:
            self._house.workers.probe_progress()
            if select.select([wakes], [], [], min(interval, HEARTBEAT_PERIOD))[0]:
                os.read(wakes, 4096)
            if self._reload:
                self._reload = False
                self._reloaded()
            healthy, why = self._healthy()
            if healthy:
                self._notifier.watchdog()
            else:
                log.error("the loop makes no progress", why=why)

    def _reloaded(self) -> None:
        """Reload (SIGHUP): scan the directory; of the settings only ``log_level`` takes effect."""
        self._notifier.reloading()
        try:
            fresh = load_settings(self._config)
        except SettingsError as error:
            log.error("settings cannot be used, the old ones go on", error=str(error))
        else:
            logging.configure(fresh.log_level)
            if fresh.model_copy(update={"log_level": self._house.settings.log_level}) != (
                self._house.settings
            ):
                log.warning("settings changed; restart the daemon for all but log_level")
        self._watcher.scan_now()
        log.info("reloaded")
        self._notifier.ready()

    def _healthy(self) -> tuple[bool, str]:
        alive = {thread.name for thread in threading.enumerate()}
        ended = sorted(_THREADS - alive)
        if ended:
            return False, f"thread {ended[0]} has ended"
        stalled = self._house.workers.stalled()
        return not stalled, stalled or "the loop makes progress"

    def _close(self) -> None:
        log.info("stopping")
        self._notifier.stopping()
        self._house.stopping()
        self._watcher.stop()
        self._web.stop()
        self._house.close()
        log.info("stopped")


def application(house: House, healthy: Callable[[], tuple[bool, str]]) -> Application:
    """Adapt the house to what the web package's routes use."""

    def reconcile(name: str) -> bool:
        if house.status.get(name) is None and name not in house.catalog.snapshot.guests:
            return False
        house.look_anew(name)
        return True

    def ready() -> tuple[bool, str]:
        snapshot = house.catalog.snapshot
        if not snapshot.scanned_at:
            return False, "the directory was not read yet"
        left = [name for name in snapshot.guests if house.status.get(name) is None]
        if left:
            return False, f"{len(left)} guests were not looked at yet"
        return True, f"{len(snapshot.guests)} guests are looked after"

    def scan() -> None:
        house.on_scan(house.catalog.scan())

    def believe(names: Collection[str]) -> None:
        scan()
        house.catalog.approve_missing(names)
        scan()

    guests = GuestRequests(
        statuses=house.status,
        snapshot=lambda: house.catalog.snapshot,
        believe=believe,
        domain=house.hypervisor.domain,
        record=house.executor.record,
        fleet=house.fleets,
        policy=house.policy,
        journal=house.journal,
        queue=house.queue.add,
        queue_all=house.triggers.all,
        clock=house.clock.now,
        holds=house.holds,
    )
    volumes = VolumeRequests(
        house.hypervisor,
        house.host_views,
        lambda: house.catalog.snapshot,
        house.policy.seed,
    )
    return Application(
        version=__version__,
        statuses=house.status,
        catalog=lambda: house.catalog.snapshot,
        hosts=house.host_views,
        images=house.image_requests,
        guests=guests,
        volumes=volumes.look,
        adoptions=house.adoptions,
        journal=house.journal,
        reconcile=reconcile,
        console=house.console,
        metrics=house.metrics.render,
        healthy=healthy,
        ready=ready,
        read_documents=scan,
    )
