"""Builds and wires all parts of a daemon; also used by ``plan``, ``apply`` and ``export``.

Building a ``House`` connects to no host; ``open`` connects, ``close`` disconnects.
"""

import hashlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog

from controller import __version__
from controller.clock import SteadyClock
from controller.daemon import malloc
from controller.daemon.host_configs import host_configs
from controller.daemon.reporting import Reporting
from controller.daemon.samples import QUEUE, metrics_snapshot
from controller.desired.catalog.catalog import Catalog
from controller.desired.catalog.snapshot import ScanResult
from controller.desired.effective import EffectiveGuest
from controller.errors import GuestkeeperError
from controller.execution.executor import Executor, Ports
from controller.execution.knowledge import Knowledge
from controller.execution.operations import Operations
from controller.guest_access.agent import GuestAgent
from controller.guest_access.inside import InsideAccess
from controller.guest_access.probing import InsideProber
from controller.guest_access.secrets import FileSecrets
from controller.health.prober import Prober
from controller.hypervisor.hypervisor import Hypervisor
from controller.images.images import Directories, Hooks, Images
from controller.journal.journal import Journal
from controller.lanes import Lane, Lanes
from controller.loop.fleet import Fleets, Limit
from controller.loop.holds import Holds
from controller.loop.image_tending import ImageTending
from controller.loop.look import Look
from controller.loop.queue import WorkQueue
from controller.loop.reconciler import Reconciler
from controller.loop.rollouts import Rollouts
from controller.loop.status import StatusStore
from controller.loop.triggers import Resync, Triggers
from controller.loop.workers import Workers
from controller.observed.health import ProbeTarget
from controller.observed.host import HostView
from controller.operator.adoptions import AdoptionRequests
from controller.operator.images import ImageRequests
from controller.planning.plan import Policy
from controller.settings import Settings, machine_identity
from controller.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)
SERIAL_LOG_BYTES = 65536
SLOW_PASS = 1.0
"""Seconds after which a pass counts as hung with its host, and another worker may be started."""
PASSES_OF_SLOW_HOST = 3


@dataclass(frozen=True, slots=True)
class CatalogView:
    """The catalog as the reconciler reads it."""

    catalog: Catalog

    def guest(self, name: str) -> tuple[EffectiveGuest | None, bool]:
        snapshot = self.catalog.snapshot
        guest = snapshot.guests.get(name)
        if guest is not None:
            return guest, False
        orphan = snapshot.orphans.get(name)
        return orphan, orphan is not None

    def problems(self, name: str) -> tuple[str, ...]:
        return tuple(str(problem) for problem in self.catalog.snapshot.document_problems(name))


class House:
    """All parts of one daemon. ``journal`` is ``:memory:`` for commands: they may run beside it."""

    def __init__(
        self,
        settings: Settings,
        *,
        journal: Path | str | None = None,
        read_only: bool = False,
    ) -> None:
        """With ``read_only`` every change of a host is refused."""
        self.settings = settings
        self.clock = SteadyClock(on_set=_clock_set)
        self.started_at = self.clock.now()
        self.metrics = Metrics(__version__)
        self.catalog = Catalog(
            settings.desired_dir,
            settings.hosts.keys(),
            remembered=settings.state_dir / "documents.json",
            patient=not read_only,
        )
        self.journal = Journal(journal or settings.state_dir / "journal.sqlite3")
        self.told = Reporting(self.journal, self.metrics, clock=self.clock.now)
        self.status = StatusStore(self.told.on_status, self.told.on_drop)
        self.knowledge = Knowledge()
        passes = Lanes(settings.workers, slow=SLOW_PASS, places=PASSES_OF_SLOW_HOST)
        self.queue = WorkQueue(
            time.monotonic,
            on_wait=partial(self.metrics.queue_waited, QUEUE),
            on_work=partial(self.metrics.queue_worked, QUEUE),
            on_add=partial(self.metrics.queue_added, QUEUE),
            on_retry=partial(self.metrics.queue_retried, QUEUE),
            lanes=passes,
            lane_of=self._lane_of,
        )
        self.triggers = Triggers(
            self.queue,
            lambda: self.catalog.snapshot,
            self.status,
            on_builder=lambda name: self.images.knock(name),
        )
        self.operations = Operations(
            settings.operation_workers,
            clock=self.clock.now,
            on_done=self.triggers.on_operation,
            on_panic=self._panicked,
        )
        self.hypervisor = Hypervisor(
            host_configs(settings, read_only=read_only),
            on_event=self.triggers.on_event,
            on_host=self._on_host,
            on_call=self.metrics.host_call,
            now=self.clock.now,
        )
        self._stopping = threading.Event()
        self.agent = GuestAgent(self.hypervisor.agent_command, time.monotonic, self._stopping.wait)
        asker = InsideProber(self.agent)
        self.prober = Prober(
            inside=lambda target: asker.probe(target, target.guest),
            on_transition=self.triggers.on_probe,
            on_error=_probe_failed,
            wall=self.clock.now,
        )
        self.images = Images(
            self.hypervisor,
            FileSecrets(),
            Directories(settings.images_dir, settings.cache_dir, settings.state_dir),
            Hooks(
                self.triggers.on_image,
                self.told.on_built,
                self.told.on_build_failed,
                self.told.on_collected,
            ),
            owner=_owner(settings),
            builds_at_once=settings.image_builds,
            unused_ttl=settings.unused_base_seconds,
            clock=self.clock.now,
        )
        self.image_requests = ImageRequests(
            self.images, lambda: self.catalog.snapshot, self.host_views
        )
        self.image_tending = ImageTending(
            self.images,
            self.host_views,
            lambda: self.catalog.snapshot,
            settings.slow_resync_seconds,
        )
        self.ports = Ports(
            hypervisor=self.hypervisor,
            inside=InsideAccess(self.agent, FileSecrets(), self.clock.now),
            images=self.images,
            prober=self.prober,
            journal=self.journal,
        )
        self.policy = policy = Policy(
            machine_identity(settings),
            self.started_at,
            controller=_owner(settings),
            prune_grace=settings.prune_grace_seconds,
        )
        self.fleets = Fleets(
            self.hypervisor,
            lambda: self.catalog.snapshot,
            policy,
            Limit(settings.max_deletions, settings.max_deletions_percent),
            settings.state_dir,
        )
        self.holds = Holds(settings.state_dir / "suspended-guests.json", write=not read_only)
        rollouts = Rollouts(self.hypervisor, lambda: self.catalog.snapshot.guests)
        self.look = Look(
            self.ports,
            self.knowledge,
            self.operations,
            policy.seed,
            fleet=self.fleets.of,
            hold=rollouts.hold,
            clock=self.clock.now,
            ahead=self.clock.ahead,
            holds=self.holds,
        )
        self.executor = Executor(
            self.ports,
            self.knowledge,
            self.operations,
            clock=self.clock.now,
            on_step=self.told.on_step,
        )
        self.reconciler = Reconciler(
            CatalogView(self.catalog),
            self.ports,
            self.look,
            self.executor,
            self.knowledge,
            self.status,
            policy,
            clock=self.clock.now,
        )
        self.adoptions = AdoptionRequests(
            self.ports,
            self.look,
            self.executor,
            lambda: self.catalog.snapshot,
            policy,
            self.queue.add,
            clock=self.clock.now,
        )
        self.workers = Workers(
            self.queue,
            self.reconciler.reconcile,
            settings.workers,
            on_result=self.metrics.reconciled,
            on_panic=self._panicked,
            spare=passes.most(len(settings.hosts) + 1) - settings.workers,
        )
        self.resync = Resync(
            self.hypervisor,
            self.triggers,
            settings.resync_seconds,
            settings.slow_resync_seconds,
            tidy=malloc.trim,
        )
        self.metrics.snapshot = metrics_snapshot(self)

    def open(self, timeout: float = 20.0) -> None:
        """Connect to the hosts (``timeout`` in seconds for all) and start the prober.

        With 0 it does not wait: guests are looked at when their hosts have answered, or failed.
        """
        self.hypervisor.open(timeout)
        self.prober.start()

    def start_loop(self) -> None:
        """Start the workers, the resync and the tending of images."""
        self.workers.start()
        self.resync.start()
        self.image_tending.start()
        self.image_tending.kick()

    def stopping(self) -> None:
        """Make waits for guest agents and transfers of images end at their next piece."""
        self._stopping.set()
        self.images.close()

    def close(self, timeout: float = 10.0) -> None:
        """Stop everything that was started. Passes and long actions each have ``timeout`` seconds;
        those that still run then are left running.
        """
        self.stopping()
        self.resync.stop(1.0)
        self.image_tending.stop(1.0)
        if not self.workers.stop(timeout):
            log.warning("passes still running were left", timeout=timeout)
        if not self.operations.stop(timeout):
            log.warning("long actions still running were left", timeout=timeout)
        self.prober.stop()
        self.hypervisor.close()
        self.journal.close()

    def host_views(self) -> list[HostView]:
        """The views of all hosts; a host that does not answer has ``reachable`` False."""
        return [self.hypervisor.host(name) for name in self.hypervisor.hosts()]

    def console(self, host: str, name: str, *, follow: bool) -> Iterator[bytes]:
        """The guest's serial output, as far as its host keeps it; with ``follow`` also what comes
        from now on. Where nothing is kept: what comes until it is quiet for 1 s.
        """
        kept = self.hypervisor.serial_log(host, name, SERIAL_LOG_BYTES)
        if kept:
            yield kept
            if not follow:
                return
        with self.hypervisor.open_console(host, name) as console:
            while (block := console.read(1.0)) is not None:
                if not block and not follow:
                    return
                yield block

    def look_anew(self, name: str) -> None:
        """Reconcile a guest now, as an operator asks (``reconcile``): the domain and the sizes of
        its disks are read again, and steps that were repeated too often do not wait.
        """
        host = self._lane_of(name).host
        if host in self.hypervisor.hosts():
            self.hypervisor.doubt(host, name)
        self.knowledge.forget_sizes(name)
        self.knowledge.begins_anew(name)
        self.queue.add(name)

    def _lane_of(self, name: str) -> Lane:
        """The lane (host) of a guest; with an empty name while its host is not known."""
        if len(self.settings.hosts) == 1:
            return Lane(next(iter(self.settings.hosts)))
        snapshot = self.catalog.snapshot
        guest = snapshot.guests.get(name) or snapshot.orphans.get(name)
        if guest is not None:
            return Lane(guest.spec.host)
        status = self.status.get(name)
        return Lane(status.observed.host.name if status is not None else "")

    # --- callbacks --------------------------------------------------------------------------------

    def _on_host(self, host: str, reachable: bool, _: str) -> None:
        try:
            owned = self.hypervisor.owned(host) if reachable else ()
            if reachable:
                self.look.listed(host, owned)
        except GuestkeeperError as error:  # lost again, which is another call of this method
            log.info("host went at once", host=host, why=str(error))
            owned = ()
        self.triggers.on_host(host, owned)
        if reachable:
            self.image_tending.kick()
            self.fleets.hear(host)

    def on_scan(self, result: ScanResult) -> None:
        """Handle a scan of the directory: queue changed guests, tend images if some changed."""
        self.triggers.on_scan(result)
        if result.images_changed:
            self.image_tending.kick()

    def _panicked(self, _: str) -> None:
        self.metrics.reconcile_panicked()


def _owner(settings: Settings) -> str:
    """This daemon's id in metadata of domains: a hash of its identity and its ``state_dir``.

    Several daemons may use one libvirt; each has a state directory of its own.
    """
    text = f"{machine_identity(settings)}\n{settings.state_dir.absolute()}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _clock_set(ahead: float) -> None:
    log.warning(
        "the host's clock was set: time that passes goes on as before, and the daemon's clock comes"
        " near it slowly; systemctl restart guestkeeper takes it over at once",
        ahead_seconds=round(ahead),
    )


def _probe_failed(target: ProbeTarget | None, error: Exception) -> None:
    guest = target.guest if target is not None else None
    log.error("probe panicked", guest=guest, error=repr(error))
