"""Which volume belongs to what: nothing that something stands on is ever called unused."""

from dataclasses import replace
from typing import Any

import pytest

from controller.observed.base_names import image_of
from controller.observed.domain import (
    DiskVolume,
    DomainState,
    DomainView,
    GuestRecord,
    Replacement,
    ReplacePhase,
    RetiredDisk,
    SystemDisk,
)
from controller.observed.host import VolumeView
from controller.planning.volumes.usage import Use, Users, VolumeUse, volume_uses
from controller.planning.wanted.names import guest_uuid
from tests import factories as make
from tests.unit.web.guests import remembering

BASE = "gk-base-debian12-0123456789ab.qcow2"
WEEK = 7 * 86400.0


def a_volume(name: str, pool: str = "default", backing: str | None = None) -> VolumeView:
    path = f"/{pool}/{name}"
    return VolumeView(pool, name, path, "qcow2", 2 * 2**30, 2**20, backing)


def told(volumes: list[VolumeView], **users: Any) -> dict[str, tuple[Any, ...]]:
    given = {"domains": (), "paths": {}, "seed": make.POLICY.seed, **users}
    found = volume_uses(volumes, Users(**given), image_of)
    return {use.volume.name: (str(use.use), use.guest, use.disk) for use in found}


def of(domain: DomainView, disk: str, suffix: str = "qcow2") -> str:
    return f"{domain.name}-{domain.uuid[:8]}-{disk}.{suffix}"


def a_server(**memory: Any) -> DomainView:
    """web1, with a data disk and an ISO in a drive."""
    guest = make.a_guest(
        disks=[{"name": "data", "size": "1Gi"}], cdroms=[{"name": "tools", "volume": "tools.iso"}]
    )
    return make.a_domain(guest, record=GuestRecord(**memory))


def test_the_disks_of_a_guest_are_told_by_what_they_are() -> None:
    domain = a_server()
    names = [of(domain, "system"), of(domain, "data"), "tools.iso"]
    assert told([a_volume(name) for name in names], domains=[domain]) == {
        names[0]: ("system", "web1", "system"),
        names[1]: ("data", "web1", "data"),
        "tools.iso": ("cdrom", "web1", "tools"),
    }


def test_a_disk_that_only_the_running_domain_has_is_used() -> None:
    domain = a_server()
    assert domain.live is not None
    without = tuple(disk for disk in domain.config.disks if disk.alias != "disk-data")
    staged = remembering(replace(domain, config=replace(domain.config, disks=without)), volumes=())
    name = of(domain, "data")
    assert told([a_volume(name)], domains=[staged]) == {name: ("data", "web1", "data")}
    off = replace(staged, live=None, state=DomainState.SHUTOFF)
    assert told([a_volume(name)], domains=[off]) == {name: ("orphaned", "web1", "data")}


def test_a_disk_that_stands_in_the_metadata_alone_is_used() -> None:
    """Somebody took it out of the definition by virsh; it is put back."""
    domain = a_server()
    noted = DiskVolume("disk-data", "default", of(domain, "data"))
    bare = replace(domain, config=replace(domain.config, disks=()), live=None)
    kept = remembering(bare, volumes=(noted,))
    assert told([a_volume(noted.volume)], domains=[kept]) == {
        noted.volume: ("data", "web1", "data")
    }


def test_a_retired_disk_is_told_with_its_end() -> None:
    domain = a_server()
    old = SystemDisk("default", of(domain, "system-1"))
    server = remembering(domain, retired=(RetiredDisk(old, make.NOW, "replaced"),))
    users = Users([server], {}, ttl={"web1": WEEK}, seed=make.POLICY.seed)
    volume = a_volume(old.volume)
    (use,) = volume_uses([volume], users, image_of)
    assert use == VolumeUse(volume, Use.RETIRED, "web1", "system", until=make.NOW + WEEK)
    (use,) = volume_uses([volume], replace(users, ttl=None), image_of)
    assert use.until is None


def test_both_disks_of_a_replacement_are_used() -> None:
    domain = a_server()
    new = SystemDisk("default", of(domain, "system-1"))
    back = SystemDisk("default", of(domain, "system"))
    ongoing = Replacement(new, back, "image", ReplacePhase.PREPARING, make.NOW)
    server = remembering(domain, replacement=ongoing)
    assert told([a_volume(new.volume), a_volume(back.volume)], domains=[server]) == {
        new.volume: ("replacement", "web1", "system"),
        back.volume: ("system", "web1", "system"),
    }


def test_what_was_made_for_a_guest_and_nobody_uses_is_orphaned() -> None:
    domain = a_server()
    gone = f"old1-{guest_uuid(make.POLICY.seed, 'old1')[:8]}-"
    names = [of(domain, "logs"), f"{gone}system.qcow2", f"{gone}system-3.qcow2", f"{gone}seed.iso"]
    assert told([a_volume(name) for name in names], domains=[domain]) == {
        names[0]: ("orphaned", "web1", "logs"),
        names[1]: ("orphaned", "old1", "system"),
        names[2]: ("orphaned", "old1", "system"),
        names[3]: ("orphaned", "old1", "seed"),
    }


def test_volumes_of_a_guest_that_is_being_made_are_not_orphaned() -> None:
    stem = f"new1-{guest_uuid(make.POLICY.seed, 'new1')[:8]}-"
    volumes = [a_volume(f"{stem}{disk}") for disk in ("system.qcow2", "data.qcow2", "seed.iso")]
    found = told(volumes, expected={"new1": None})
    assert [use for use, _, _ in found.values()] == ["data", "seed", "system"]


@pytest.mark.parametrize("path", ["/default/", "/elsewhere/by/a/link/"])
def test_what_a_foreign_domain_stands_on_is_not_orphaned(path: str) -> None:
    """Of two pools on one directory each has the file; by whatever path it is named, it is used."""
    name = of(a_server(), "data")
    assert told([a_volume(name)], paths={path + name: ["clone"]}) == {
        name: ("foreign", "web1", "data")
    }


def test_what_another_volume_is_an_overlay_of_is_not_orphaned() -> None:
    name = of(a_server(), "system")
    clone = a_volume("clone.qcow2", "other", backing=f"/default/{name}")
    assert told([a_volume(name), clone]) == {name: ("foreign", "web1", "system")}


def test_what_stands_on_it_is_named() -> None:
    name = of(a_server(), "system")
    for users, why in (
        ({"others": [a_volume("clone.qcow2", "far", backing=f"/x/{name}")]}, "volume far/clone"),
        ({"paths": {f"/x/{name}": ["zebra", "clone"]}}, "domain clone"),
        ({"paths": {f"/x/{name}": []}}, "a guest that remembers it"),
    ):
        known = Users((), **{"paths": {}, **users})  # type: ignore[arg-type]
        (use,) = volume_uses([a_volume(name)], known, image_of)
        assert use.use is Use.FOREIGN
        assert use.why.startswith(why)


def test_a_disk_that_a_document_names_is_not_orphaned() -> None:
    domain = a_server()
    names = [of(domain, "logs"), of(domain, "more"), of(domain, "system-3")]
    assert told([a_volume(name) for name in names], expected={"web1": {"logs", "system"}}) == {
        names[0]: ("data", "web1", "logs"),
        names[1]: ("orphaned", "web1", "more"),
        names[2]: ("system", "web1", "system"),
    }
    odd = f"web1-{'0' * 8}-x-{'1' * 8}-data.qcow2"  # whichever part of it is the UUID's
    assert told([a_volume(odd)], expected={f"web1-{'0' * 8}-x": ["data"]}) == {
        odd: ("data", f"web1-{'0' * 8}-x", "data")
    }


def test_while_not_all_is_known_nothing_is_orphaned() -> None:
    name = of(a_server(), "data")
    for doubts, use in (
        ({"hidden": "a pool is stopped"}, Use.POSSIBLY),
        ({"unknown": "no route", "hidden": "a pool is stopped"}, Use.UNKNOWN),
    ):
        (found,) = volume_uses([a_volume(name)], Users((), {}, **doubts), image_of)  # type: ignore[arg-type]
        assert (found.use, found.guest, found.disk) == (use, "web1", "data")
        assert found.why == next(iter(doubts.values()))


def test_bases_are_told_with_their_image_and_overlays() -> None:
    domain = a_server()
    system = a_volume(of(domain, "system"), backing=f"/default/{BASE}")
    boot = "gk-kernel-rocky-9-0123456789ab-01234567"
    users = Users([domain], {}, seed=make.POLICY.seed)
    bases = [a_volume(BASE), a_volume(boot), a_volume(f"{BASE}.ok")]
    found = [use for use in volume_uses([*bases, system], users, image_of) if use.image]
    assert [(use.volume.name, use.image, use.overlays) for use in found] == [
        (BASE, "debian12", 1),
        (boot, "rocky-9", 0),
    ]


@pytest.mark.parametrize(
    "name",
    [
        "win10.qcow2",
        "web1-system.qcow2",
        "web1-12345678-system",
        "-12345678-system.qcow2",
        "web1-1234567g-system.qcow2",
        "web1-12345678-.qcow2",
    ],
)
def test_volumes_of_others_are_left_out(name: str) -> None:
    assert told([a_volume(name)]) == {}


def test_hexadecimal_digits_in_names_mislead_nobody() -> None:
    odd = "web-deadbeef-cafe0000"
    uid = guest_uuid(make.POLICY.seed, odd)[:8]
    assert told([a_volume(f"{odd}-{uid}-data.qcow2")]) == {
        f"{odd}-{uid}-data.qcow2": ("orphaned", odd, "data")
    }
    uid = guest_uuid(make.POLICY.seed, "web")[:8]
    name = f"web-{uid}-deadbeef-x.qcow2"
    assert told([a_volume(name)]) == {name: ("orphaned", "web", "deadbeef-x")}
    stranger = "web-01234567-89abcdef-x.qcow2"  # of an adopted domain: its UUID is its own
    assert told([a_volume(stranger)]) == {stranger: ("orphaned", "web", "89abcdef-x")}
