"""Observes everything about one guest, as input for the planner."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace

from controller.desired.effective import EffectiveGuest
from controller.errors import GuestkeeperError, HostUnreachableError, TransientError
from controller.execution.executor import Ports
from controller.execution.knowledge import Knowledge
from controller.execution.operations import Operations
from controller.execution.ports import Hypervisor
from controller.loop.holds import Holds
from controller.observed.addresses import AddressUse
from controller.observed.base_names import marker_name
from controller.observed.domain import DomainView
from controller.observed.guest import Fleet, Observed
from controller.observed.host import HostView, VolumeView
from controller.observed.image import ImageState, ImageView
from controller.observed.locating import located_view
from controller.planning.host.addresses import wanted_addresses
from controller.planning.wanted.domain import (
    missing_disks,
    seed_volume,
    wanted_volumes,
)

SILENCE = 300.0
"""Seconds without an observation after which it is not known what happened meanwhile."""
_LOOK_AGAIN = 10.0


class Look:
    """Only reads. Cheap if the guest is unchanged: then no call leaves the process.

    ``fleet(name)`` returns the facts about all guests that a guest's plan needs; ``hold``, why the
    roll-out of its image makes it wait.
    """

    def __init__(
        self,
        ports: Ports,
        knowledge: Knowledge,
        operations: Operations,
        seed: str,
        *,
        fleet: Callable[[str], Fleet] = lambda _: Fleet(),
        hold: Callable[[EffectiveGuest, ImageView], str] = lambda *_: "",
        holds: Holds | None = None,
        clock: Callable[[], float] = time.time,
        ahead: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """``ahead`` is how far the host's clock is ahead of ``clock``."""
        self._ports = ports
        self._holds = holds or Holds()
        self._knowledge = knowledge
        self._operations = operations
        self._seed = seed
        self._fleet = fleet
        self._hold = hold
        self._clock = clock
        self._ahead = ahead
        self._listed: set[str] = set()
        self._placed: dict[str, str] = {}
        self._watched: dict[str, tuple[float, float]] = {}  # guest -> observed since, last time

    def listed(self, host: str, owned: Collection[str]) -> None:
        """Notes that the host answered and has these domains of ours."""
        self._placed.update(dict.fromkeys(owned, host))
        self._listed.add(host)

    def at(self, guest: EffectiveGuest) -> Observed:
        """Observes a guest with a document. If its host does not answer, ``host.reachable`` is
        False.
        """
        try:
            host = self._ports.hypervisor.host(guest.spec.host)
            return self._reachable(guest, host) if host.reachable else Observed(host)
        except HostUnreachableError as error:
            return Observed(HostView(guest.spec.host, "", reachable=False, why=str(error)))

    def at_orphan(self, name: str, guest: EffectiveGuest | None) -> Observed | None:
        """Observes a guest without a document, on whichever host it is; None without a domain.

        ``guest`` is the last known document; if its host gives no answer, that is observed.
        """
        last = self._placed.get(name)  # asked first, so that no other host is waited for
        for host_name in sorted(self._ports.hypervisor.hosts(), key=lambda one: one != last):
            if self._ports.hypervisor.reachable(host_name):
                domain = self._ports.hypervisor.domain(host_name, name)
                if domain is not None and domain.ours:
                    host = self._ports.hypervisor.host(host_name)
                    if not host.reachable:
                        return Observed(host) if guest is not None else None
                    failure = self._knowledge.failure(name)
                    digest = guest.digest if guest is not None else ""
                    repeats = self._knowledge.repeats(name, digest, self._clock())
                    fleet = self._fleet(name)
                    located = located_view(domain, host.pools)
                    return Observed(host, located, fleet=fleet, failure=failure, repeats=repeats)
            elif guest is not None and guest.spec.host == host_name:
                return Observed(self._ports.hypervisor.host(host_name))
        return None

    def _reachable(self, guest: EffectiveGuest, host: HostView) -> Observed:
        domain = self._domain(host, guest.name)
        name = guest.name
        if domain is not None and domain.ours:
            self._placed[name] = guest.spec.host
            self._holds.saw(name, suspended=domain.record.suspended)
        observed = Observed(
            host=host,
            domain=domain,
            address_uses=self._address_uses(guest, domain),
            inside=self._knowledge.inside(name),
            probes=self._ports.prober.views(name),
            fleet=self._fleet(name),
            operation=self._operations.current(name),
            failure=self._knowledge.failure(name),
            repeats=self._knowledge.repeats(name, guest.digest, self._clock()),
            clock_ahead=self._ahead(),
        )
        if domain is None:
            return self._with_new(guest, host, observed)
        if not domain.ours:
            return observed
        image = self._image_beside(guest, host)
        volumes = self._volumes_of(guest, host, domain)
        return replace(
            observed,
            watched_since=self._watched_since(domain),
            image=image,
            volumes=volumes,
            missing=self._knowledge.missing(name),
            base_writers=self._writers(guest.spec.host, _base_of(domain)),
            fleet=self._with_hold(guest, domain, image, observed.fleet),
        )

    def _domain(self, host: HostView, name: str) -> DomainView | None:
        """The domain, with the pools of its disks resolved here once for all later readers."""
        domain = self._ports.hypervisor.domain(host.name, name)
        return located_view(domain, host.pools) if domain is not None else None

    def _address_uses(
        self, guest: EffectiveGuest, domain: DomainView | None
    ) -> tuple[AddressUse, ...]:
        wanted = wanted_addresses(guest, domain, self._seed)
        if not wanted or (domain is not None and not domain.ours):
            return ()
        return self._ports.hypervisor.address_users(guest.spec.host, guest.name, wanted)

    def _image(self, guest: EffectiveGuest, host: HostView, pool: str) -> ImageView | None:
        """The guest's image in ``pool``; None if the pool does not run. Usually cached."""
        if not host.has_running(pool):
            return None
        view = self._ports.images.view(guest.spec.host, pool, guest.image)
        writers = self._writers(guest.spec.host, view.base or "")
        return replace(view, written_by=writers) if writers else view

    def _image_beside(self, guest: EffectiveGuest, host: HostView) -> ImageView | None:
        """The image of a guest that has its domain; FAILED if it cannot be read, so that the guest
        is still looked after.
        """
        pool = guest.spec.system_disk.pool or host.default_pool
        try:
            return self._image(guest, host, pool)
        except GuestkeeperError as error:
            lost = isinstance(error, HostUnreachableError)
            if lost and not self._ports.hypervisor.reachable(host.name):
                raise
            own = error.retry_after if isinstance(error, TransientError) else None
            return ImageView(
                guest.spec.image,
                host.name,
                pool,
                ImageState.FAILED,
                message=str(error),
                reason=error.reason,
                retry_at=self._clock() + (_LOOK_AGAIN if own is None else own),
            )

    def _writers(self, host: str, base: str) -> tuple[str, ...]:
        return tuple(sorted(self._ports.hypervisor.written_bases(host).get(base, ())))

    def _watched_since(self, domain: DomainView) -> float:
        """Since when (epoch seconds) a guest whose system disk is being replaced was observed
        without a gap of more than ``SILENCE`` seconds; 0 for any other guest.
        """
        owner, name, now = domain.ownership, domain.name, self._clock()
        if owner is None or owner.record.replacement is None:
            self._watched.pop(name, None)
            return 0.0
        since, last = self._watched.get(name, (now, now))
        if not 0 <= now - last <= SILENCE:
            since = now
        self._watched[name] = since, now
        return since

    def suspended(self, host: str, name: str) -> bool:
        """True if an operator has suspended the guest, or all guests, as of this moment."""
        domain = self._ports.hypervisor.domain(host, name)
        owner = domain.ownership if domain is not None else None
        return self._fleet(name).suspended or (owner is not None and owner.record.suspended)

    def _with_hold(
        self, guest: EffectiveGuest, domain: DomainView, image: ImageView | None, fleet: Fleet
    ) -> Fleet:
        """``fleet``, with why a replacement that is about to begin has to wait for its turn."""
        owner = domain.ownership
        if owner is None or image is None:
            return fleet
        approved = owner.record.approved == image.base  # the roll-out counts it before it begins
        if guest.spec.update_policy.replace != "Automatic" and not approved:
            return fleet
        if owner.record.replacement is not None or not image.base or image.base == owner.base:
            return fleet
        return replace(fleet, hold=self._hold(guest, image))

    def _volumes_of(
        self, guest: EffectiveGuest, host: HostView, domain: DomainView
    ) -> Mapping[tuple[str, str], VolumeView]:
        """The guest's volumes: read each time while one is to be made, else every ten minutes."""
        ongoing = domain.record.replacement
        lacks = missing_disks(guest, domain)
        unsettled = ongoing is not None or bool(lacks or self._knowledge.missing(guest.name))
        now = self._clock()
        known = None if unsettled else self._knowledge.volumes(guest.name, now)
        seed = seed_volume(guest, host, domain, self._seed)
        if known is not None and seed not in known:  # a seed that exists is about to be deleted
            return known
        names = self._places(guest, host, domain)
        if ongoing is not None:
            names.append(ongoing.to.place)
        base = _base_of(domain)
        if base:
            names += [(names[0][0], base), (names[0][0], marker_name(base))]
        found = volumes_there(self._ports.hypervisor, host, names)
        self._knowledge.saw_volumes(guest.name, found, now)
        has = {
            one.place
            for one in wanted_volumes(guest, host, domain, self._seed)
            if one.alias not in lacks
        }
        has |= {(names[0][0], base)} if base else set()
        has |= {ongoing.to.place} if ongoing is not None and ongoing.why == "rollback" else set()
        lost = has - found.keys()
        known_lost = self._knowledge.missing(guest.name) & lost  # pools are not scanned again
        self._knowledge.missed(guest.name, known_lost | self._absent(host, lost - known_lost))
        return found

    def _absent(
        self, host: HostView, places: Collection[tuple[str, str]]
    ) -> frozenset[tuple[str, str]]:
        """Those of ``places`` that a scan of their pools does not find; without a scan, libvirt
        may not know an existing volume.
        """
        absent: set[tuple[str, str]] = set()
        for pool in {pool for pool, _ in places if host.has_running(pool)}:
            names = [name for there, name in places if there == pool]
            gone = self._ports.hypervisor.absent(host.name, pool, names)
            absent |= {(pool, name) for name in gone}
        return frozenset(absent)

    def _places(
        self, guest: EffectiveGuest, host: HostView, domain: DomainView | None
    ) -> list[tuple[str, str]]:
        volumes = wanted_volumes(guest, host, domain, self._seed)
        names = [wanted.place for wanted in volumes]
        seed = seed_volume(guest, host, domain, self._seed)
        if seed is not None:
            names.append(seed)
        return names

    def _with_new(self, guest: EffectiveGuest, host: HostView, observed: Observed) -> Observed:
        """Observes a guest without a domain: its volumes, and which host may have its domain."""
        names = self._places(guest, host, None)
        pool, system = names[0]
        image = self._image(guest, host, pool)
        volumes = volumes_there(self._ports.hypervisor, host, names)
        if image is not None and image.state is ImageState.READY:
            # A domain that somebody undefined may have left disks under later names, too.
            stem = system.removesuffix(".qcow2")
            for view in self._ports.hypervisor.volumes(guest.spec.host, pool):
                if view.name.startswith(stem):
                    volumes[pool, view.name] = view
        return replace(
            observed,
            held=self._holds.held(guest.name),
            image=image,
            volumes=volumes,
            elsewhere=self._elsewhere(guest),
            unseen_host=self._unseen(guest),
        )

    def _elsewhere(self, guest: EffectiveGuest) -> str | None:
        """Another host that has the guest's domain, or had it in its last answer; None if none."""
        for name in self._others(guest):
            if not self._ports.hypervisor.reachable(name):
                if self._placed.get(guest.name) == name:
                    return name
                continue
            domain = self._ports.hypervisor.domain(name, guest.name)
            if domain is not None and domain.ours:
                return name
        return None

    def _unseen(self, guest: EffectiveGuest) -> str | None:
        return next((name for name in self._others(guest) if name not in self._listed), None)

    def _others(self, guest: EffectiveGuest) -> list[str]:
        return [name for name in self._ports.hypervisor.hosts() if name != guest.spec.host]


def _base_of(domain: DomainView) -> str:
    return domain.ownership.base if domain.ownership is not None else ""


def volumes_there(
    hypervisor: Hypervisor, host: HostView, places: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], VolumeView]:
    """Those of ``places`` (pool, name) that exist, in pools that run."""
    found: dict[tuple[str, str], VolumeView] = {}
    for pool, name in places:
        if host.has_running(pool):
            view = hypervisor.volume(host.name, pool, name)
            if view is not None:
                found[pool, name] = view
    return found
