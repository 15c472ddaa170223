"""A world in memory behind the execution's ports: hosts, volumes, domains, guests' insides.

It keeps libvirt's promises that the loop leans on (definitions survive, names are unique, a look
finds what was done) and none of its slowness. ``kill_at`` ends the 'daemon' before or after the
n-th effect, as SIGKILL would; ``fail`` makes chosen calls raise; ``break_at`` lets one call end in
any of ``Break``'s ways. Nobody pulls the plug on a guest that was not asked to shut down.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import Any

from controller.clock import SteadyClock
from controller.desired.effective import EffectiveGuest, EffectiveImage, EffectiveService
from controller.errors import (
    GuestkeeperError,
    HostBusyError,
    HostUnreachableError,
    PermanentError,
)
from controller.execution.executor import Executor, Ports, Subject
from controller.execution.knowledge import Knowledge
from controller.execution.operations import Operations
from controller.hypervisor.domains.address_book import uses_of
from controller.loop.holds import Holds
from controller.loop.look import Look
from controller.loop.reconciler import Reconciler, Result
from controller.loop.rollouts import Rollouts
from controller.loop.status import StatusStore
from controller.observed.addresses import AddressUse
from controller.observed.domain import (
    DomainConfig,
    DomainState,
    DomainView,
    Ownership,
    StateReason,
)
from controller.observed.guest import Fleet, Observed
from controller.observed.health import ProbeStatus, ProbeTarget, ProbeView
from controller.observed.host import HostView, VolumeView
from controller.observed.image import ImageState, ImageView
from controller.observed.inside import InsideView
from controller.planning.host.addresses import addresses_of
from controller.planning.steps import Step, step_name
from tests.factories import NOW, POLICY, a_host, a_ready_image, an_inside


class KilledError(BaseException):
    """SIGKILL of the daemon."""


class Break(StrEnum):
    """How a call can end that does not end well."""

    BEFORE = "killed before the call"
    AFTER = "killed after the call"
    REFUSED = "refused"
    LOST = "unknown, and not done"
    DONE = "unknown, and done"


class FakeWorld:
    """Implements Hypervisor, Inside, Images, Prober and Journal at once."""

    def __init__(self) -> None:
        self.now = NOW  # the time that passes
        self.ahead = 0.0  # what somebody set the host's clock by
        self.clock: Callable[[], float] = lambda: self.now  # the daemon's
        self.view = a_host()
        self.volumes_there: dict[tuple[str, str], VolumeView] = {}
        self.domains: dict[str, DomainView] = {}
        self.insides: dict[str, InsideView] = {}
        self.image_ready = False
        self.targets: dict[str, tuple[ProbeTarget, ...]] = {}
        self.probe_views: dict[str, dict[tuple[str, str], ProbeView]] = {}
        self.probing = ProbeStatus.SUCCESS
        self.events: list[tuple[str, str]] = []
        self.effects: list[str] = []
        self.kill_at: tuple[int, str] | None = None  # (n, "before" | "after")
        self.break_at: tuple[int, Break] | None = None  # (n-th call from the beginning, how)
        self.calls: list[tuple[str, str]] = []  # (step that it is of, call), also those that broke
        self.step = ""
        self.asked: dict[str, tuple[int | None, float]] = {}  # guest -> (run, when)
        self.unreadable: GuestkeeperError | None = None
        self.fail: dict[str, GuestkeeperError] = {}
        self.fleet = Fleet()
        self.writers: dict[str, frozenset[str]] = {}
        self.lost: set[str] = set()  # bases that somebody deleted
        self.runs = 0
        self.booted: dict[str, str] = {}  # guest -> the system disk that it last ran on
        self.broken: set[str] = set()  # bases that nothing comes up from; or GUEST:BASE
        self.deaf: set[str] = set()  # guests that do not hear a request to shut down
        self.base = "gk-base-debian12-abc.qcow2"

    # --- what every effect does -------------------------------------------------------------------

    def _effect(self, name: str) -> "_Effect":
        return _Effect(self, name)

    # --- Hypervisor -------------------------------------------------------------------------------

    def hosts(self) -> Collection[str]:
        return ["local"]

    def reachable(self, host: str) -> bool:
        return self.host(host).reachable

    def host(self, host: str) -> HostView:
        return self.view

    def domain(self, host: str, name: str) -> DomainView | None:
        if self.unreadable is not None:
            raise self.unreadable
        return self.domains.get(name)

    def address_users(
        self, host: str, name: str, addresses: Collection[str]
    ) -> tuple[AddressUse, ...]:
        others = (one for one in self.domains.values() if one.name != name)
        return tuple(use for one in others for use in uses_of(_with_addresses(one), addresses))

    def volume(self, host: str, pool: str, name: str) -> VolumeView | None:
        if self._is_base(name):
            return VolumeView(pool, name, f"/pool/{name}", "qcow2", 2 * 2**30, 0, None)
        return self.volumes_there.get((pool, name))

    def _is_base(self, name: str) -> bool:
        """Those are there, though nobody made their volumes here, but for what is lost."""
        named = name.startswith("gk-base-") and not name.endswith(".ok")
        return named and name not in self.lost

    def create_volume(
        self,
        host: str,
        pool: str,
        name: str,
        *,
        capacity: int,
        format: str = "qcow2",
        backing: tuple[str, str] | None = None,
    ) -> VolumeView:
        with self._effect(f"create_volume {name}"):
            view = VolumeView(
                pool, name, f"/pool/{name}", format, capacity, 0, backing[0] if backing else None
            )
            return self.volumes_there.setdefault((pool, name), view)

    def delete_volume(self, host: str, pool: str, name: str) -> None:
        with self._effect(f"delete_volume {name}"):
            self.volumes_there.pop((pool, name), None)

    def grow_volume(self, host: str, pool: str, name: str, capacity: int) -> None:
        with self._effect(f"grow_volume {name}"):
            there = self.volumes_there[pool, name]
            assert there.capacity <= capacity, "a disk was made smaller"
            self.volumes_there[pool, name] = replace(there, capacity=capacity)

    def grow_disk(self, host: str, name: str, alias: str, capacity: int) -> None:
        live = self.domains[name].live
        assert live is not None
        disk = next(disk for disk in live.disks if disk.alias == alias)
        self.grow_volume(host, disk.pool, disk.volume or "", capacity)

    def volumes(self, host: str, pool: str) -> list[VolumeView]:
        return [view for (where, _), view in self.volumes_there.items() if where == pool]

    def scanned_volumes(self, host: str, pool: str) -> list[VolumeView]:
        return self.volumes(host, pool)

    def absent(self, host: str, pool: str, names: Collection[str]) -> frozenset[str]:
        there = {name for where, name in self.volumes_there if where == pool}
        return frozenset(name for name in set(names) - there if not self._is_base(name))

    def written_bases(self, host: str) -> Mapping[str, frozenset[str]]:
        return self.writers

    def file_users(self, host: str) -> Mapping[str, frozenset[str]]:
        return {
            f"/pool/{disk.volume}": frozenset({name})
            for name, domain in self.domains.items()
            for config in (domain.config, domain.live)
            for disk in (config.disks if config is not None else ())
            if disk.volume is not None
        }

    def define(self, host: str, config: DomainConfig, ownership: Ownership) -> None:
        with self._effect(f"define {config.name}"):
            there = self.domains.get(config.name)
            if there is not None and not there.ours:
                raise PermanentError("foreign", reason="NameConflict")
            for disk in config.disks:
                if disk.volume is not None:
                    place = (disk.pool, disk.volume)
                    assert place in self.volumes_there, f"{disk.volume} is not there"
            if there is not None:
                self.domains[config.name] = replace(there, config=config, ownership=ownership)
            else:
                self.domains[config.name] = DomainView(
                    name=config.name,
                    uuid=config.uuid,
                    state=DomainState.SHUTOFF,
                    reason=StateReason.OTHER,
                    ownership=ownership,
                    config=config,
                    live=None,
                )

    def adopt(
        self,
        host: str,
        uuid: str,
        ownership: Ownership,
        aliases: Mapping[str, str],
        disks: Collection[tuple[str, str, str]] = (),
    ) -> None:
        with self._effect(f"adopt {ownership.name}"):  # the rest is tested on libvirt's drivers
            self.domains[ownership.name] = replace(
                self.domains[ownership.name], ownership=ownership
            )

    def undefine(self, host: str, name: str) -> None:
        with self._effect(f"undefine {name}"):
            domain = self.domains.pop(name, None)
            assert domain is None or not domain.state.active, "undefined while it runs"

    def set_ownership(self, host: str, name: str, ownership: Ownership) -> None:
        with self._effect(f"set_ownership {name}"):
            self.domains[name] = replace(self.domains[name], ownership=ownership)

    def start(self, host: str, name: str) -> None:
        with self._effect(f"start {name}"):
            domain = self.domains[name]
            if domain.state.active:
                return
            self.runs += 1
            system = next(disk for disk in domain.config.disks if disk.alias == "disk-system")
            backing = self.volumes_there[system.pool, system.volume or ""].backing or ""
            base = backing.rpartition("/")[2]
            works = not self.broken & {base, f"{name}:{base}"}
            self.domains[name] = replace(
                domain,
                state=DomainState.RUNNING,
                reason=StateReason.OTHER,
                live=domain.config,
                agent_connected=works,
                started_at=self.clock(),
                run=self.runs,
            )
            if self.booted.get(name) != system.volume:
                self.insides.pop(name, None)  # another disk has another inside
                self.booted[name] = system.volume or ""

    def _refuse_another_run(self, name: str, run: int | None) -> None:
        if run is not None and self.domains[name].run not in (run, None):
            raise HostBusyError(f"{name} was started anew", reason="RunChanged", retry_after=1.0)

    def shutdown(self, host: str, name: str, run: int | None = None) -> None:
        with self._effect(f"shutdown {name}"):
            self._refuse_another_run(name, run)
            self.asked[name] = self.domains[name].run, self.now
            if name not in self.deaf and self.domains[name].state.active:
                self.stop(name, StateReason.SHUTDOWN)

    def destroy(self, host: str, name: str, run: int | None = None) -> None:
        with self._effect(f"destroy {name}"):
            self._refuse_another_run(name, run)
            if self.domains[name].state.active:
                run, _ = self.asked.get(name, (None, 0.0))
                asked = run == self.domains[name].run
                assert asked or self.step != "DestroyDomain", "powered off, and never asked"
                self.stop(name, StateReason.DESTROYED)

    def eject(self, host: str, name: str, alias: str) -> None:
        with self._effect(f"eject {name}"):
            domain = self.domains[name]
            live = _emptied(domain.live, alias) if domain.live is not None else None
            config = _emptied(domain.config, alias)
            self.domains[name] = replace(domain, config=config, live=live)

    # --- Changes of a running domain: made like its definition ------------------------------------

    def _live(self, name: str, **changes: object) -> None:
        domain = self.domains[name]
        assert domain.live is not None, "changed while it is off"
        live = replace(domain.live, **changes)  # type: ignore[arg-type]
        self.domains[name] = replace(domain, live=live)

    def set_vcpus(self, host: str, name: str, count: int) -> None:
        with self._effect(f"set_vcpus {name}"):
            live = self.domains[name].live
            assert live is not None
            assert live.vcpus <= count <= live.max_vcpus
            self._live(name, vcpus=count)

    def set_memory(self, host: str, name: str, size: int) -> None:
        with self._effect(f"set_memory {name}"):
            live = self.domains[name].live
            assert live is not None
            assert size <= live.max_memory
            self._live(name, memory=size)

    def set_title(self, host: str, name: str, title: str, description: str) -> None:
        with self._effect(f"set_title {name}"):
            self._live(name, title=title, description=description)

    def set_autostart(self, host: str, name: str, on: bool) -> None:
        with self._effect(f"set_autostart {name}"):
            self.domains[name] = replace(self.domains[name], autostart=on)

    def plug(self, host: str, name: str, alias: str) -> None:
        with self._effect(f"plug {name} {alias}"):
            self._as_defined(name, alias)

    def unplug(self, host: str, name: str, alias: str, timeout: float) -> None:
        with self._effect(f"unplug {name} {alias}"):
            live = self.domains[name].live
            assert live is not None
            disks = tuple(disk for disk in live.disks if disk.alias != alias)
            nics = tuple(nic for nic in live.nics if nic.alias != alias)
            assert len(disks) + len(nics) < len(live.disks) + len(live.nics)
            self._live(name, disks=disks, nics=nics)

    def update_device(self, host: str, name: str, alias: str) -> None:
        with self._effect(f"update_device {name} {alias}"):
            self._as_defined(name, alias)

    def set_io_tune(self, host: str, name: str, alias: str) -> None:
        with self._effect(f"set_io_tune {name} {alias}"):
            self._as_defined(name, alias)

    def _as_defined(self, name: str, alias: str) -> None:
        domain = self.domains[name]
        live, config = domain.live, domain.config
        assert live is not None
        disks = [disk for disk in live.disks if disk.alias != alias]
        nics = [nic for nic in live.nics if nic.alias != alias]
        disks += [disk for disk in config.disks if disk.alias == alias]
        nics += [nic for nic in config.nics if nic.alias == alias]
        self._live(name, disks=tuple(disks), nics=tuple(nics))

    # --- Inside -----------------------------------------------------------------------------------

    def look(self, guest: EffectiveGuest, domain: DomainView) -> InsideView:
        with self._effect(f"look {guest.name}"):
            return self._seen(guest)

    def _seen(self, guest: EffectiveGuest) -> InsideView:
        fresh = InsideView(looked_at=self.clock(), boot_id="boot", hostname="localhost")
        there = self.insides.get(guest.name, fresh)
        unknown = an_inside(guest)
        return replace(
            there,
            looked_at=self.clock(),
            packages={p: there.packages.get(p) for p in unknown.packages},
            files={
                p: there.files.get(p, replace(f, sha256=None)) for p, f in unknown.files.items()
            },
            units={
                u: there.units.get(u, replace(f, active="inactive"))
                for u, f in unknown.units.items()
            },
        )

    def authorized_keys(self, guest: EffectiveGuest) -> list[str]:
        return ["ssh-ed25519 AAAA test"]

    def apply(
        self, guest: EffectiveGuest, domain: DomainView, services: Sequence[EffectiveService]
    ) -> InsideView:
        with self._effect(f"apply {guest.name}"):
            there, whole = self._seen(guest), an_inside(guest, looked_at=self.clock())
            files = {f.path for service in services for f in service.files}
            units = {service.unit for service in services}
            packages = {p for service in services for p in service.packages}
            self.insides[guest.name] = replace(
                there,
                hostname=guest.hostname,
                files={p: whole.files[p] if p in files else f for p, f in there.files.items()},
                units={u: whole.units[u] if u in units else f for u, f in there.units.items()},
                packages={
                    p: whole.packages[p] if p in packages else v for p, v in there.packages.items()
                },
            )
            return self.insides[guest.name]

    # --- Images, Prober, Journal ------------------------------------------------------------------

    def view_image(self) -> ImageView:
        state = ImageState.READY if self.image_ready else ImageState.MISSING
        return a_ready_image(state=state, base=self.base, base_path=f"/pool/{self.base}")

    def prepare(self, host: str, pool: str, image: EffectiveImage) -> None:
        with self._effect("prepare"):
            self.image_ready = True

    def seed(self, host: str, pool: str, volume: str, **kwargs: object) -> None:
        with self._effect(f"seed {volume}"):
            view = VolumeView(pool, volume, f"/pool/{volume}", "iso", 1, 0, None)
            self.volumes_there[pool, volume] = view

    def set_targets(self, guest: str, targets: Sequence[ProbeTarget]) -> None:
        self.targets[guest] = tuple(targets)
        self.probe_views[guest] = {
            (t.service, t.probe): ProbeView(t.service, t.probe, self.probing, "probed", NOW)
            for t in targets
        }

    def views(self, guest: str) -> Mapping[tuple[str, str], ProbeView]:
        return self.probe_views.get(guest, {})

    def record(self, guest: str, reason: str, message: str, *, warning: bool = False) -> None:
        self.events.append((guest, reason))

    def mend(self, name: str) -> None:
        """Whatever was wrong with bases and guests is not any more."""
        self.broken.clear()
        self.deaf.clear()
        domain = self.domains.get(name)
        if domain is not None and domain.state.active:
            self.domains[name] = replace(domain, agent_connected=True)

    # --- what happens to it -----------------------------------------------------------------------

    def stop(self, name: str, reason: StateReason) -> None:
        self.domains[name] = replace(
            self.domains[name],
            state=DomainState.SHUTOFF,
            reason=reason,
            live=None,
            agent_connected=False,
            started_at=None,
            run=None,
        )


def _emptied(config: DomainConfig, alias: str) -> DomainConfig:
    disks = tuple(
        replace(disk, volume=None) if disk.alias == alias else disk for disk in config.disks
    )
    return replace(config, disks=disks)


def _with_addresses(domain: DomainView) -> DomainView:
    """As reading its XML would have told them."""
    config, live = (
        replace(one, addresses=frozenset(a for nic in one.nics for a in addresses_of(nic)))
        if one is not None
        else None
        for one in (domain.config, domain.live)
    )
    assert config is not None
    return replace(domain, config=config, live=live)


class _Effect:
    def __init__(self, world: FakeWorld, name: str) -> None:
        self.world, self.name, self.number = world, name, -1

    def __enter__(self) -> None:
        world = self.world
        if world.kill_at == (len(world.effects), "before"):
            world.kill_at = None
            raise KilledError
        number, how = len(world.calls), self._broken()
        self.number = number
        world.calls.append((world.step, self.name))
        if how is Break.BEFORE:
            raise KilledError
        if how is Break.REFUSED:
            raise HostBusyError("too many calls are under way", retry_after=0.5)
        if how is Break.LOST:
            raise HostUnreachableError("no answer in time", reason="DeadlineExceeded")
        failure = world.fail.get(self.name.partition(" ")[0])
        if failure is not None:
            raise failure
        world.effects.append(self.name)

    def _broken(self) -> Break | None:
        at = self.world.break_at
        return at[1] if at is not None and at[0] == len(self.world.calls) else None

    def __exit__(self, *_: object) -> None:
        world = self.world
        if world.break_at == (self.number, Break.AFTER):
            raise KilledError
        if world.break_at == (self.number, Break.DONE):
            raise HostUnreachableError("no answer in time", reason="DeadlineExceeded")
        if world.kill_at == (len(world.effects) - 1, "after"):
            world.kill_at = None
            raise KilledError


class _Images:
    """The images' side of the world: its ``view`` has another meaning than the host's."""

    def __init__(self, world: FakeWorld) -> None:
        self.view = lambda host, pool, image: world.view_image()
        self.prepare = world.prepare
        self.seed = world.seed


class InlineOperations(Operations):
    """Long actions run at once, in the caller: a test needs no thread and no waiting."""

    def __init__(self) -> None:
        super().__init__(1, on_done=lambda _: None)

    def start(self, key, name, action, lane=None) -> bool:  # type: ignore[no-untyped-def]
        action()
        return True


class _Executor(Executor):
    """Tells the world which step its calls are of."""

    def __init__(self, world: FakeWorld, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._world = world

    def execute(self, subject: Subject, observed: Observed, step: Step) -> None:
        self._world.step = step_name(step)
        super().execute(subject, observed, step)


class Documents:
    """The desired side: what the catalog would answer."""

    def __init__(self, *guests: EffectiveGuest) -> None:
        self.guests = {guest.name: guest for guest in guests}
        self.orphans: dict[str, EffectiveGuest] = {}
        self.broken: dict[str, tuple[str, ...]] = {}

    def guest(self, name: str) -> tuple[EffectiveGuest | None, bool]:
        if name in self.guests:
            return self.guests[name], False
        return self.orphans.get(name), name in self.orphans

    def problems(self, name: str) -> tuple[str, ...]:
        return self.broken.get(name, ())


class Daemon:
    """One life of the loop over a world; a new one on the same world is a restarted daemon."""

    def __init__(self, world: FakeWorld, documents: Documents, holds: Holds | None = None) -> None:
        self.world = world
        # What runs already was started before this daemon saw it: when, nobody told it.
        world.domains = {
            name: replace(view, started_at=None) for name, view in world.domains.items()
        }
        self.holds = holds or Holds()
        self.documents = documents
        self.knowledge = Knowledge()
        self.status = StatusStore()
        operations = InlineOperations()
        images = _Images(world)
        ports = Ports(world, world, images, world, world)  # type: ignore[arg-type]
        steady = SteadyClock(wall=lambda: world.now + world.ahead, monotonic=lambda: world.now)
        clock = world.clock = steady.now
        rollouts = Rollouts(
            ports.hypervisor,
            lambda: documents.guests,
            clock=lambda: world.now + world.ahead,
            monotonic=lambda: world.now,
        )
        look = Look(
            ports,
            self.knowledge,
            operations,
            POLICY.seed,
            fleet=lambda _: world.fleet,
            hold=rollouts.hold,
            holds=self.holds,
            clock=clock,
            ahead=steady.ahead,
        )
        executor = _Executor(world, ports, self.knowledge, operations, clock=clock)
        self.executor: Executor = executor
        self.reconciler = Reconciler(
            documents,
            ports,
            look,
            executor,
            self.knowledge,
            self.status,
            replace(POLICY, daemon_started=clock()),
            clock=clock,
            wall=lambda: world.now + world.ahead,
        )

    def reconcile(self, name: str) -> Result:
        return self.reconciler.reconcile(name)

    def settle(self, name: str, limit: int = 200) -> None:
        """Passes, with time going on as each asks for, until one has nothing to do."""
        for _ in range(limit):
            before = len(self.world.effects)
            result = self.reconcile(name)
            if len(self.world.effects) == before and result.word in ("success", "requeue_after"):
                status = self.status.get(name)
                if status is None or status.plan.health != "Progressing" or result.after is None:
                    return
            acted = len(self.world.effects) > before  # a long action's end puts it on the queue
            # A resync looks once a minute.
            self.world.now += min(result.after or 0.0, 1.0 if acted else 60.0)
        raise AssertionError(f"{name} did not settle: {self.world.effects[-10:]}")
