"""One look at everything of one guest: what the planner is given."""

from collections.abc import Collection
from dataclasses import replace

from controller.desired.effective import EffectiveGuest
from controller.errors import HostUnreachableError
from controller.execution.executor import Ports
from controller.execution.knowledge import Knowledge
from controller.execution.operations import Operations
from controller.observed.domain import DomainView
from controller.observed.guest import Observed
from controller.observed.host import HostView, VolumeView
from controller.observed.image import ImageView
from controller.planning.domain import (
    missing_disks,
    seed_volume,
    unused_seed,
    wanted_volumes,
)


class Look:
    """Reads only; cheap where the guest is as it was: no call leaves the process then."""

    def __init__(
        self, ports: Ports, knowledge: Knowledge, operations: Operations, seed: str
    ) -> None:
        self._ports = ports
        self._knowledge = knowledge
        self._operations = operations
        self._seed = seed
        self._listed: set[str] = set()
        self._placed: dict[str, str] = {}

    def listed(self, host: str, owned: Collection[str]) -> None:
        """That host answered, and has these domains of ours."""
        self._placed.update(dict.fromkeys(owned, host))
        self._listed.add(host)

    def at(self, guest: EffectiveGuest) -> Observed:
        """A host that gives no answer is an observation too (``host.reachable`` is False)."""
        try:
            host = self._ports.hypervisor.host(guest.spec.host)
            return self._reachable(guest, host) if host.reachable else Observed(host)
        except HostUnreachableError as error:
            return Observed(HostView(guest.spec.host, "", reachable=False, why=str(error)))

    def _reachable(self, guest: EffectiveGuest, host: HostView) -> Observed:
        domain = self._ports.hypervisor.domain(guest.spec.host, guest.name)
        name = guest.name
        if domain is not None and domain.ours:
            self._placed[name] = guest.spec.host
        observed = Observed(
            host=host,
            domain=domain,
            inside=self._knowledge.inside(name),
            probes=self._ports.prober.views(name),
            operation=self._operations.current(name),
            failure=self._knowledge.failure(name),
        )
        if domain is not None and domain.ours and guest.image.install is not None:
            observed = replace(observed, image=self._installed_image(guest, host))
        if domain is not None and not self._storage_matters(guest, domain):
            return observed
        return self._with_storage(guest, host, domain, observed)

    def _installed_image(self, guest: EffectiveGuest, host: HostView) -> ImageView | None:
        """The image may have changed since the guest's disk was made; mostly known from memory."""
        pool = guest.spec.system_disk.pool or host.default_pool
        if not _usable(host, pool):
            return None
        return self._ports.images.view(guest.spec.host, pool, guest.image)

    def _storage_matters(self, guest: EffectiveGuest, domain: DomainView) -> bool:
        return domain.ours and (bool(missing_disks(guest, domain)) or unused_seed(guest, domain))

    def _with_storage(
        self,
        guest: EffectiveGuest,
        host: HostView,
        domain: DomainView | None,
        observed: Observed,
    ) -> Observed:
        """Something must be made on the host's pools: what of it is there already?"""
        volumes = wanted_volumes(guest, host, domain, self._seed)
        names = [(wanted.pool, wanted.volume) for wanted in volumes]
        image = None
        system = volumes[0].pool
        seed = seed_volume(guest, host, domain, self._seed)
        if seed is not None:
            names.append(seed)
        if domain is None and _usable(host, system):
            image = self._ports.images.view(guest.spec.host, system, guest.image)
        found: dict[str, VolumeView] = {}
        for pool, volume in names:
            if _usable(host, pool):
                view = self._ports.hypervisor.volume(guest.spec.host, pool, volume)
                if view is not None:
                    found[volume] = view
        if domain is not None:
            return replace(observed, volumes=found)
        return replace(
            observed,
            image=image,
            volumes=found,
            elsewhere=self._elsewhere(guest),
            unseen_host=self._unseen(guest),
        )

    def _elsewhere(self, guest: EffectiveGuest) -> str | None:
        """The other host that has the guest's domain, or last had it when it answered."""
        for name in self._others(guest):
            if not self._ports.hypervisor.host(name).reachable:
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


def _usable(host: HostView, pool: str) -> bool:
    return pool in host.pools and host.pools[pool].active
