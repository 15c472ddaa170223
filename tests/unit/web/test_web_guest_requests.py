"""Wishes and volumes over HTTP: what is noted, what is shown before, and how a refusal answers."""

from dataclasses import replace
from datetime import datetime, timedelta

import httpx
import pytest

from controller.observed.domain import (
    GuestRecord,
    Replacement,
    ReplacePhase,
    RetiredDisk,
    SystemDisk,
)
from controller.observed.guest import Fleet
from controller.observed.host import VolumeView
from controller.operator.answers import VolumesSeen
from controller.planning.deletion.orphan import plan_orphan
from controller.planning.volumes.usage import Use, VolumeUse
from tests import factories as make
from tests.unit.web.support import World, a_status, lost_host


def item(http: httpx.Client, name: str) -> dict:  # type: ignore[type-arg]
    answer = http.get(f"/api/v1/guests/{name}")
    assert answer.status_code == 200, answer.text
    return answer.json()["item"]


def post(http: httpx.Client, path: str) -> tuple[int, str]:
    answer = http.post(f"/api/v1/{path}")
    body = answer.json()
    error = body.get("error")
    return answer.status_code, error["message"] if error else str(body.get("message"))


# --- Wishes ---------------------------------------------------------------------------------------


def test_a_wish_is_noted_and_its_outcome_told(http: httpx.Client, world: World) -> None:
    assert post(http, "guests/web1/suspend")[0] == 202
    assert (item(http, "web1")["suspended"], item(http, "web1")["health"]) == (True, "Suspended")
    assert post(http, "guests/web1/resume") == (
        202,
        "web1 is looked after again, and looked at now",
    )
    assert item(http, "web1")["suspended"] is False
    status, message = post(http, "guests/web1/restart")
    assert (status, message.startswith("web1 is asked to shut down now")) == (202, True)
    assert item(http, "web1")["restart_requested_at"] is not None
    assert world.reconciled == ["web1"] * 3


def test_every_guest_can_be_suspended(http: httpx.Client, world: World) -> None:
    assert post(http, "suspend")[0] == 202
    assert world.fleet.suspended
    assert post(http, "resume")[0] == 202
    assert post(http, "resume")[0] == 409


@pytest.mark.parametrize("wish", ["suspend", "resume", "restart", "approve", "rollback", "retry"])
def test_an_unknown_guest_is_not_found(http: httpx.Client, wish: str) -> None:
    told = (404, "no guest is named `wbe1`; did you mean `web1`?")
    assert post(http, f"guests/wbe1/{wish}") == told
    assert http.get(f"/api/v1/guests/web1/{wish}").status_code == 405


def test_what_cannot_be_done_now_is_a_conflict(http: httpx.Client) -> None:
    for wish in ("approve", "rollback", "retry", "resume"):
        status, message = post(http, f"guests/web1/{wish}")
        assert status == 409
        assert "web1" in message


def test_a_silent_host_is_no_conflict(http: httpx.Client, world: World) -> None:
    lost_host(world)
    assert post(http, "guests/web1/suspend")[0] == 503


def test_what_is_to_be_approved_is_shown_before(http: httpx.Client, world: World) -> None:
    guest = world.snapshot.guests["web1"]
    newer = make.a_ready_image(base="base-2", base_path="/pool/base-2")
    inside = make.an_inside(guest, looked_at=world.now)
    seen = make.observed(make.a_domain(guest), image=newer, inside=inside)
    a_status(guest, seen, world.store, world.now)
    assert item(http, "web1")["approval"] == "base-2"
    (change,) = item(http, "web1")["changes"]
    assert change == {
        "path": "image.base",
        "old": "gk-base-debian12-abc.qcow2",
        "new": "base-2",
        "class": "replace",
        "disruption": "stop, swap of the system disk, boot",
        "needs": "approve",
    }
    assert post(http, "guests/web1/approve?now=1&base=base-2")[0] == 202
    assert item(http, "web1")["approved"] == "base-2"
    assert [one["needs"] for one in item(http, "web1")["changes"]] == [None]


def an_orphan(world: World, name: str, policy: str = "Delete") -> None:
    guest = make.a_guest(name, deletionPolicy=policy)
    domain = make.a_domain(guest, record=GuestRecord(orphaned_since=world.now))
    fleet = Fleet(deletions=12)
    made = plan_orphan(name, domain, fleet, world.now, make.POLICY)
    world.store.put(guest, make.observed(domain, fleet=fleet), made, world.now)


def test_deletions_are_listed_and_approved_by_name(http: httpx.Client, world: World) -> None:
    an_orphan(world, "old2")
    an_orphan(world, "old3")
    listed = http.get("/api/v1/deletions").json()["items"]
    assert [(one["name"], one["policy"]) for one in listed] == [
        ("old2", "Delete"),
        ("old3", "Delete"),
    ]
    assert item(http, "old2")["deletion"]["reason"] == "DeletionBlocked"
    answer = http.post("/api/v1/deletions/approve", params={"name": ["old3"]})
    assert (answer.status_code, [one["name"] for one in answer.json()["items"]]) == (202, ["old3"])
    assert item(http, "old3")["deletion"]["approved_at"] is not None
    assert item(http, "old2")["deletion"]["approved_at"] is None
    assert item(http, "web1")["deletion"] is None
    refused = http.post("/api/v1/deletions/approve", params={"name": ["web1"]})
    assert refused.status_code == 409


# --- What metadata remembers ----------------------------------------------------------------------


def test_a_replacement_and_retired_disks_are_told(http: httpx.Client, world: World) -> None:
    old, new = SystemDisk("default", "old", "base-1"), SystemDisk("fast", "new", "base-2")
    record = GuestRecord(
        replacement=Replacement(new, old, "image", ReplacePhase.CONFIRMING, world.now),
        retired=(RetiredDisk(SystemDisk("default", "older"), world.now, "replaced"),),
        refused="base-0",
        refused_why="not ready",
    )
    guest = world.snapshot.guests["web1"]
    seen = make.observed(make.a_domain(guest, record=record))
    a_status(guest, seen, world.store, world.now)
    told = item(http, "web1")
    assert told["printable"] == "Replacing"
    ongoing = told["replacement"]
    assert (ongoing["phase"], ongoing["why"], ongoing["failure"]) == ("confirming", "image", None)
    assert ongoing["from"] == {"pool": "default", "volume": "old", "base": "base-1"}
    assert ongoing["to"] == {"pool": "fast", "volume": "new", "base": "base-2"}
    (disk,) = told["retired"]
    assert (disk["volume"], disk["base"], disk["why"]) == ("older", None, "replaced")
    kept = datetime.fromisoformat(disk["until"]) - datetime.fromisoformat(disk["since"])
    assert kept == timedelta(days=7)
    assert told["refused"] == {"base": "base-0", "why": "not ready"}


def test_the_domain_is_told_with_its_limits_and_drives(http: httpx.Client, world: World) -> None:
    guest = make.a_guest(
        "web1",
        title="the shop",
        autostart=True,
        systemDisk={"cache": "none", "ioTune": {"totalIopsSec": 500}},
        cdroms=[{"name": "tools"}],
        interfaces=[{"name": "lan", "network": "default", "link": "down", "model": "e1000e"}],
    )
    seen = make.observed(make.a_domain(guest))
    a_status(guest, seen, world.store, world.now)
    domain = item(http, "web1")["domain"]
    assert (domain["title"], domain["autostart"], domain["run"]) == ("the shop", True, 1)
    disk, drive = domain["disks"]
    assert (disk["cache"], disk["io_tune"]) == ("none", {"total_iops_sec": 500})
    assert (drive["device"], drive["volume"], drive["io_tune"]) == ("cdrom", None, {})
    (nic,) = domain["interfaces"]
    assert (nic["model"], nic["link"]) == ("e1000e", "down")


# --- Volumes --------------------------------------------------------------------------------------


def test_volumes_are_listed_with_their_use(http: httpx.Client, world: World) -> None:
    volume = VolumeView("default", "old1-data", "/pool/old1-data", "qcow2", 2**30, 2**20, "/base")
    use = VolumeUse(volume, Use.ORPHANED, "old1", "data")
    base = VolumeUse(replace(volume, name="base"), Use.BASE, image="debian12", overlays=2)
    world.volumes = VolumesSeen({"local": (use, base)}, {"far": "no route"})
    answer = http.get("/api/v1/volumes").json()
    assert answer["unseen"] == [{"host": "far", "why": "no route"}]
    assert answer["items"][0] == {
        "name": "old1-data",
        "pool": "default",
        "host": "local",
        "path": "/pool/old1-data",
        "format": "qcow2",
        "size": 2**30,
        "allocation": 2**20,
        "backing": "/base",
        "use": "orphaned",
        "orphaned": True,
        "why": None,
        "guest": "old1",
        "disk": "data",
        "image": None,
        "overlays": 0,
        "until": None,
    }
    assert (answer["items"][1]["image"], answer["items"][1]["overlays"]) == ("debian12", 2)
