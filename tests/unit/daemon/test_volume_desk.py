"""Volumes of all hosts: asked whole or not at all, and read in the order that misses nothing."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace

from controller.daemon.volume_desk import VolumeDesk
from controller.desired.snapshot import Snapshot
from controller.errors import TransientError
from controller.observed.domain import DomainView, Memory, RetiredDisk, SystemDisk
from controller.observed.host import HostView, PoolView, VolumeView
from controller.planning.leftovers import Use
from tests import factories as make


def a_volume(name: str, pool: str) -> VolumeView:
    return VolumeView(pool, name, f"/{pool}/{name}", "qcow2", 2**30, 2**20, None)


@dataclass
class FakeHosts:
    """One host's pools and domains."""

    there: dict[str, list[VolumeView]] = field(default_factory=dict)
    domains: list[DomainView] = field(default_factory=list)
    paths: set[str] = field(default_factory=set)
    broken: bool = False
    asked: list[str] = field(default_factory=list)

    def owned(self, host: str) -> Collection[str]:
        self.asked.append("owned")
        return [domain.name for domain in self.domains]

    def domain(self, host: str, name: str) -> DomainView | None:
        return next((domain for domain in self.domains if domain.name == name), None)

    def volumes(self, host: str, pool: str) -> list[VolumeView]:
        self.asked.append(f"volumes {pool}")
        return self.there[pool]

    def file_paths(self, host: str) -> frozenset[str]:
        self.asked.append("paths")
        if self.broken:
            raise TransientError("the host is busy")
        return frozenset(self.paths)


def a_host(name: str = "local", **fields: object) -> HostView:
    pools = {
        "default": PoolView("default", "/default", True, 1, 1),
        "stopped": PoolView("stopped", "/stopped", False, 1, 1),
        "fast": PoolView("fast", "/fast", True, 1, 1),
    }
    return make.a_host(name=name, pools=pools, **fields)


GUEST = make.a_guest("web1", updatePolicy={"retiredDiskTTL": "1h"})


def a_desk(world: FakeHosts, *hosts: HostView, snapshot: Snapshot | None = None) -> VolumeDesk:
    wanted = snapshot or Snapshot(guests={"web1": GUEST})
    return VolumeDesk(world, lambda: hosts or (a_host(),), lambda: wanted, make.POLICY.seed)


def a_server(*retired: str) -> DomainView:
    disks = tuple(RetiredDisk(SystemDisk("fast", one), 100.0, "replaced") for one in retired)
    return make.a_domain(GUEST, memory=Memory(retired=disks))


def a_pool_of_each(domain: DomainView) -> dict[str, list[VolumeView]]:
    stem = f"web1-{domain.uuid[:8]}"
    return {
        "default": [a_volume(f"{stem}-system.qcow2", "default"), a_volume("else.img", "default")],
        "fast": [a_volume(f"{stem}-system-1.qcow2", "fast"), a_volume(f"{stem}-x.qcow2", "fast")],
    }


def test_every_active_pool_is_looked_at_before_what_uses_it() -> None:
    domain = a_server()
    world = FakeHosts(a_pool_of_each(domain), [domain])
    a_desk(world).look()
    assert world.asked == ["volumes default", "volumes fast", "paths", "owned"]


def test_volumes_are_told_with_their_guests_and_how_long_they_are_kept() -> None:
    domain = a_server(f"web1-{a_server().uuid[:8]}-system-1.qcow2")
    seen = a_desk(FakeHosts(a_pool_of_each(domain), [domain])).look()
    assert not seen.unseen
    told = [(one.use, one.guest, one.disk, one.until) for one in seen.uses["local"]]
    assert told == [
        (Use.SYSTEM, "web1", "system", None),
        (Use.RETIRED, "web1", "system", 100.0 + 3600),
        (Use.ORPHANED, "web1", "x", None),
    ]


def test_a_guest_of_this_host_that_has_no_domain_yet_still_wants_its_volumes() -> None:
    world = FakeHosts(a_pool_of_each(a_server()))
    uses = {one.use for one in a_desk(world).look().uses["local"]}
    assert uses == {Use.SYSTEM, Use.DATA}
    elsewhere = Snapshot(guests={"web1": make.a_guest("web1", host="far")})
    uses = {one.use for one in a_desk(world, snapshot=elsewhere).look().uses["local"]}
    assert uses == {Use.ORPHANED}


def test_of_a_domain_that_is_not_ours_nothing_is_believed() -> None:
    domain = replace(a_server(), ownership=None)
    volumes = a_pool_of_each(domain)
    paths = {volume.path for pool in volumes.values() for volume in pool}
    found = a_desk(FakeHosts(volumes, [domain], paths)).look().uses["local"]
    assert {one.use for one in found} == {Use.FOREIGN}


def test_of_a_host_that_cannot_be_asked_nothing_is_told() -> None:
    domain = a_server()
    world = FakeHosts(a_pool_of_each(domain), [domain], broken=True)
    far = a_host("far", reachable=False, why="no route")
    seen = a_desk(world, a_host(), far).look()
    assert seen.uses == {}
    assert seen.unseen == {"local": "the host is busy", "far": "no route"}
