"""Volumes of all hosts: asked whole or not at all, and read in the order that misses nothing."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from controller.desired.catalog.snapshot import Snapshot
from controller.desired.text.problems import Problem
from controller.errors import TransientError
from controller.observed.domain import DomainView, GuestRecord, RetiredDisk, SystemDisk
from controller.observed.file_uses import FileUses
from controller.observed.host import HostView, PoolView, VolumeView
from controller.operator.volumes import VolumeRequests
from controller.planning.volumes.usage import Use
from tests import factories as make


def a_volume(name: str, pool: str) -> VolumeView:
    return VolumeView(pool, name, f"/{pool}/{name}", "qcow2", 2**30, 2**20, None)


@dataclass
class FakeHosts:
    """One host's pools and domains."""

    there: dict[str, list[VolumeView]] = field(default_factory=dict)
    domains: list[DomainView] = field(default_factory=list)
    paths: set[str] = field(default_factory=set)
    loose: dict[str, frozenset[str]] = field(default_factory=dict)
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

    def file_uses(self, host: str) -> FileUses:
        self.asked.append("paths")
        if self.broken:
            raise TransientError("the host is busy")
        return FileUses({path: frozenset({"clone"}) for path in self.paths}, self.loose)


@dataclass
class TwoHosts:
    hosts: dict[str, FakeHosts]

    def owned(self, host: str) -> Collection[str]:
        return self.hosts[host].owned(host)

    def domain(self, host: str, name: str) -> DomainView | None:
        return self.hosts[host].domain(host, name)

    def volumes(self, host: str, pool: str) -> list[VolumeView]:
        return self.hosts[host].volumes(host, pool)

    def file_uses(self, host: str) -> FileUses:
        return self.hosts[host].file_uses(host)


def a_host(name: str = "local", **fields: object) -> HostView:
    pools = {
        "default": PoolView("default", "/default", True, 1, 1),
        "fast": PoolView("fast", "/fast", True, 1, 1),
    }
    return make.a_host(name=name, pools=pools, **fields)


GUEST = make.a_guest("web1", updatePolicy={"retiredDiskTTL": "1h"})


def a_view(
    world: FakeHosts | TwoHosts, *hosts: HostView, snapshot: Snapshot | None = None
) -> VolumeRequests:
    wanted = snapshot or Snapshot(guests={"web1": GUEST}, uncertain="")
    return VolumeRequests(world, lambda: hosts or (a_host(),), lambda: wanted, make.POLICY.seed)


def a_server(*retired: str) -> DomainView:
    disks = tuple(RetiredDisk(SystemDisk("fast", one), 100.0, "replaced") for one in retired)
    return make.a_domain(GUEST, record=GuestRecord(retired=disks))


def a_pool_of_each(domain: DomainView) -> dict[str, list[VolumeView]]:
    stem = f"web1-{domain.uuid[:8]}"
    return {
        "default": [a_volume(f"{stem}-system.qcow2", "default"), a_volume("else.img", "default")],
        "fast": [a_volume(f"{stem}-system-1.qcow2", "fast"), a_volume(f"{stem}-x.qcow2", "fast")],
    }


def test_every_active_pool_is_looked_at_before_what_uses_it() -> None:
    domain = a_server()
    world = FakeHosts(a_pool_of_each(domain), [domain])
    a_view(world).look()
    assert world.asked == ["volumes default", "volumes fast", "paths", "owned"]


def test_volumes_are_told_with_their_guests_and_how_long_they_are_kept() -> None:
    domain = a_server(f"web1-{a_server().uuid[:8]}-system-1.qcow2")
    seen = a_view(FakeHosts(a_pool_of_each(domain), [domain])).look()
    assert not seen.unseen
    told = [(one.use, one.guest, one.disk, one.until) for one in seen.uses["local"]]
    assert told == [
        (Use.SYSTEM, "web1", "system", None),
        (Use.RETIRED, "web1", "system", 100.0 + 3600),
        (Use.ORPHANED, "web1", "x", None),
    ]


def uses(requests: VolumeRequests, host: str = "local") -> dict[str, Use]:
    """By the last part of each name."""
    return {one.volume.name.split("-", 2)[2]: one.use for one in requests.look().uses[host]}


def test_a_guest_without_a_domain_wants_the_volumes_that_its_document_names() -> None:
    world = FakeHosts(a_pool_of_each(a_server()))
    gone = {"system.qcow2": Use.SYSTEM, "system-1.qcow2": Use.SYSTEM, "x.qcow2": Use.ORPHANED}
    assert uses(a_view(world)) == gone
    elsewhere = Snapshot(guests={"web1": make.a_guest("web1", host="far")}, uncertain="")
    assert uses(a_view(world, snapshot=elsewhere)) == gone
    nobody = Snapshot(orphans={"web1": GUEST}, uncertain="")
    assert set(uses(a_view(world, snapshot=nobody)).values()) == {Use.ORPHANED}


def test_a_disk_that_is_in_the_document_and_not_yet_in_the_domain_is_wanted() -> None:
    """So it is for as long as the guest is suspended."""
    domain = a_server()
    more = make.a_guest("web1", disks=[{"name": "x", "size": "1Gi"}])
    requests = a_view(
        FakeHosts(a_pool_of_each(domain), [domain]),
        snapshot=Snapshot(guests={"web1": more}, uncertain=""),
    )
    assert uses(requests) == {
        "system.qcow2": Use.SYSTEM,
        "system-1.qcow2": Use.ORPHANED,
        "x.qcow2": Use.DATA,
    }


@pytest.mark.parametrize(
    "fields",
    [
        {"held": frozenset({"web1"})},
        {"guest_problems": {"web1": (Problem("web.yaml", 1, "", "is wrong"),)}},
    ],
)
def test_what_a_document_that_cannot_be_read_wants_is_not_known(fields: dict[str, Any]) -> None:
    requests = a_view(
        FakeHosts(a_pool_of_each(a_server())), snapshot=Snapshot(uncertain="", **fields)
    )
    assert set(uses(requests).values()) == {Use.SYSTEM, Use.DATA}


def test_while_documents_may_be_missing_nothing_is_orphaned() -> None:
    requests = a_view(
        FakeHosts(a_pool_of_each(a_server())), snapshot=Snapshot(uncertain="unmounted")
    )
    seen = requests.look().uses["local"]
    assert {one.use for one in seen} == {Use.UNKNOWN}
    assert {one.why for one in seen} == {"not all documents are known: unmounted"}


def test_a_directory_that_two_hosts_share_is_used_by_the_guests_of_both() -> None:
    domain = a_server()
    there = a_pool_of_each(domain)
    hosts = TwoHosts({"local": FakeHosts(there, [domain]), "far": FakeHosts(there)})
    assert uses(a_view(hosts, a_host(), a_host("far")), "far")["system.qcow2"] is Use.SYSTEM
    name = there["fast"][1].name
    hosts.hosts["local"].paths = {f"/by/another/path/{name}"}
    assert uses(a_view(hosts, a_host(), a_host("far")), "far")["x.qcow2"] is Use.FOREIGN
    hosts.hosts["local"].paths = set()
    clone = VolumeView("fast", "clone", "/fast/clone", "qcow2", 1, 1, f"/shared/{name}")
    hosts.hosts["local"].there = {**there, "fast": [clone]}
    assert uses(a_view(hosts, a_host(), a_host("far")), "far")["x.qcow2"] is Use.FOREIGN


def test_while_a_host_is_not_seen_nothing_is_orphaned_on_any() -> None:
    domain = a_server()
    world = FakeHosts(a_pool_of_each(domain), [domain])
    far = a_host("far", reachable=False, why="no route")
    seen = a_view(world, a_host(), far).look()
    (other,) = [one for one in seen.uses["local"] if one.disk == "x"]
    assert (other.use, other.why) == (Use.UNKNOWN, "host far cannot be asked: no route")


def test_what_cannot_be_looked_into_may_stand_on_anything() -> None:
    domain = a_server()
    world = FakeHosts(a_pool_of_each(domain), [domain])
    world.loose = {"/elsewhere/clone.qcow2": frozenset({"clone"})}
    (other,) = [one for one in a_view(world).look().uses["local"] if one.disk == "x"]
    assert other.use is Use.POSSIBLY
    assert other.why.startswith("domain clone on host local has /elsewhere/clone.qcow2, which")
    pools = {**a_host().pools, "old": PoolView("old", "/old", False, 1, 1)}
    stopped = replace(a_host(), pools=pools)
    (other,) = [one for one in a_view(world, stopped).look().uses["local"] if one.disk == "x"]
    assert "(and 1 more)" in other.why
    world.loose = {}
    (other,) = [one for one in a_view(world, stopped).look().uses["local"] if one.disk == "x"]
    assert other.use is Use.POSSIBLY
    assert other.why.startswith("pool old on host local is stopped")


def test_of_a_domain_that_is_not_ours_nothing_is_believed() -> None:
    domain = replace(a_server(), ownership=None)
    volumes = a_pool_of_each(domain)
    paths = {volume.path for pool in volumes.values() for volume in pool}
    found = a_view(FakeHosts(volumes, [domain], paths)).look().uses["local"]
    assert {one.use for one in found} == {Use.FOREIGN}


def test_of_a_host_that_cannot_be_asked_nothing_is_told() -> None:
    domain = a_server()
    world = FakeHosts(a_pool_of_each(domain), [domain], broken=True)
    far = a_host("far", reachable=False, why="no route")
    seen = a_view(world, a_host(), far).look()
    assert seen.uses == {}
    assert seen.unseen == {"local": "the host is busy", "far": "no route"}
