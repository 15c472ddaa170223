"""Volumes as an operator asks about them: what each is there for, and which nobody needs.

Asked of the hosts when somebody wants to know, and of all their pools: an overlay in one pool may
stand on a base in another.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from controller.desired.snapshot import Snapshot
from controller.errors import GuestkeeperError
from controller.images.bases import image_of
from controller.observed.domain import DomainView
from controller.observed.host import HostView, VolumeView
from controller.planning.leftovers import Users, VolumeUse, volume_uses
from controller.web.application import VolumesSeen


class Hosts(Protocol):
    """What is asked of the hypervisor room; every call may raise ``controller.errors``."""

    def owned(self, host: str) -> Collection[str]: ...
    def domain(self, host: str, name: str) -> DomainView | None: ...
    def volumes(self, host: str, pool: str) -> Sequence[VolumeView]: ...
    def file_paths(self, host: str) -> frozenset[str]: ...


@dataclass(frozen=True, slots=True)
class VolumeDesk:
    """Safe to use from many threads. ``seed`` tells controllers apart, as in ``identity``."""

    world: Hosts
    hosts: Callable[[], Collection[HostView]]
    snapshot: Callable[[], Snapshot]
    seed: str

    def look(self) -> VolumesSeen:
        """Every volume that has to do with Guestkeeper, and the hosts that could not be asked."""
        found: dict[str, tuple[VolumeUse, ...]] = {}
        unseen: dict[str, str] = {}
        for host in self.hosts():
            if not host.reachable:
                unseen[host.name] = host.why or "not reachable"
                continue
            try:
                found[host.name] = self._on(host)
            except GuestkeeperError as error:
                # Of half of a host it cannot be told what is used.
                unseen[host.name] = str(error)
        return VolumesSeen(found, unseen)

    def _on(self, host: HostView) -> tuple[VolumeUse, ...]:
        """What uses them is read last: a guest that is made meanwhile is seen."""
        volumes = [
            volume
            for pool in host.pools.values()
            if pool.active
            for volume in self.world.volumes(host.name, pool.name)
        ]
        paths = self.world.file_paths(host.name)
        domains = {name: self.world.domain(host.name, name) for name in self.world.owned(host.name)}
        ours = [domain for domain in domains.values() if domain is not None and domain.ours]
        wanted = self.snapshot()
        ttl = _ttl(wanted)
        expected = [
            name
            for name, guest in wanted.guests.items()
            if guest.spec.host == host.name and domains.get(name) is None
        ]
        return volume_uses(volumes, Users(ours, paths, expected, ttl, self.seed), image_of)


def _ttl(snapshot: Snapshot) -> Mapping[str, float]:
    known = {**snapshot.orphans, **snapshot.guests}
    return {name: guest.spec.update_policy.retired_disk_ttl for name, guest in known.items()}
