"""What is wrong with the storage under a guest is told while it still runs, with what mends it."""

from dataclasses import replace
from pathlib import Path

import pytest

from controller.loop.holds import Holds
from controller.observed.domain import DiskConfig, DomainState, DomainView, StateReason
from controller.observed.host import PoolView, VolumeView
from controller.planning.conditions import ConditionType, Health, Printable, Status
from controller.planning.host.trouble import storage_trouble
from controller.planning.plan import Plan
from controller.planning.planner import plan
from controller.planning.steps import CreateVolume, GrowDisk, StartDomain
from tests.factories import (
    NOW,
    POLICY,
    a_domain,
    a_guest,
    a_host,
    a_ready_image,
    a_service,
    an_image,
    an_inside,
    an_install_image,
    observed,
)
from tests.fakes import Daemon, Documents, FakeWorld
from tests.unit.loop.test_replacing import Site, automatic

C = ConditionType
GUEST = a_guest(services=(a_service(probes=()),), systemDisk={"size": "10Gi"})
BASE = "gk-base-debian12-0123456789ab.qcow2"
NOTED = "/pool/" + next(
    one.volume for one in a_domain(GUEST).record.volumes if one.alias == "disk-system"
)


def a_volume(name: str, **fields: object) -> VolumeView:
    view = VolumeView("default", name, f"/pool/{name}", "qcow2", 10 * 2**30, 0, None)
    return replace(view, **fields)  # type: ignore[arg-type]


def on(domain: DomainView, volume: str, below: tuple[str, ...] = ()) -> DomainView:
    """``domain`` with its system disk on another file, as ``virsh`` leaves it."""

    def changed(disk: DiskConfig) -> DiskConfig:
        if disk.alias != "disk-system":
            return disk
        return replace(disk, pool="", volume=volume, below=below)

    config = replace(domain.config, disks=tuple(changed(one) for one in domain.config.disks))
    return replace(domain, config=config, live=config if domain.live is not None else None)


def planned(domain: DomainView, **fields: object) -> Plan:
    owner = domain.ownership
    assert owner is not None
    based = replace(domain, ownership=replace(owner, base=BASE))
    fields.setdefault("image", a_ready_image(base=BASE, base_path=f"/pool/{BASE}"))
    seen = observed(based, inside=an_inside(GUEST), **fields)
    return plan(GUEST, seen, based.record, NOW, POLICY)


def told(made: Plan, type: ConditionType) -> tuple[Status, str]:
    found = made.condition(type)
    assert found is not None
    return found.status, found.reason


# --- A disk on another file -----------------------------------------------------------------------


def test_a_snapshot_is_merged_down_to_the_volume_that_the_disk_was_put_on() -> None:
    snapshot = on(a_domain(GUEST), "/pool/web1.snap", (NOTED, f"/pool/{BASE}"))
    made = planned(snapshot)
    assert told(made, C.SYNCED) == (Status.FALSE, "DiskMoved")
    merge = f"virsh blockcommit web1 vda --base {NOTED} --active --wait --pivot"
    assert merge in made.sentence
    assert made.steps == ()


@pytest.mark.parametrize("below", [(), (f"/pool/{BASE}",)], ids=["a copy", "on the base"])
def test_a_disk_that_does_not_stand_on_its_volume_is_never_told_to_be_merged(
    below: tuple[str, ...],
) -> None:
    made = planned(on(a_domain(GUEST), "/pool/copy.qcow2", below))
    assert told(made, C.SYNCED) == (Status.FALSE, "DiskMoved")
    assert "blockcommit" not in made.sentence


def test_what_is_off_is_not_told_a_command_for_a_running_one() -> None:
    made = planned(on(a_domain(GUEST, DomainState.SHUTOFF), "/pool/web1.snap"))
    synced = made.condition(C.SYNCED)
    assert synced is not None
    assert synced.reason == "DiskMoved"
    assert "virsh" not in synced.message


# --- A disk that is a base ------------------------------------------------------------------------


def test_a_guest_that_writes_to_a_base_is_loudly_degraded_and_gets_a_file_of_its_own() -> None:
    made = planned(on(a_domain(GUEST), f"/pool/{BASE}"))
    assert told(made, C.READY) == (Status.FALSE, "DiskIsBase")
    assert told(made, C.SYNCED) == (Status.FALSE, "DiskIsBase")
    assert (made.health, made.printable) == (Health.DEGRADED, Printable.DEGRADED)
    own = NOTED.replace(".qcow2", "-own.qcow2")
    copy = f"virsh blockcopy web1 vda {own} --format qcow2 --transient-job --wait --pivot"
    assert copy in made.sentence
    assert "blockcommit" not in made.sentence


def test_a_base_is_never_grown_to_the_size_of_a_guest_that_is_on_it() -> None:
    small = {("default", BASE): a_volume(BASE, capacity=2**30)}
    made = planned(on(a_domain(GUEST), f"/pool/{BASE}"), volumes=small)
    assert not [step for step in made.steps if isinstance(step, GrowDisk)]


def test_a_guest_that_is_off_is_not_started_on_a_base() -> None:
    made = planned(on(a_domain(GUEST, DomainState.SHUTOFF), f"/pool/{BASE}"))
    assert not [step for step in made.steps if isinstance(step, StartDomain)]
    assert told(made, C.READY) == (Status.FALSE, "DiskIsBase")
    own = NOTED.replace(".qcow2", "-own.qcow2")
    assert f"qemu-img convert -O qcow2 /pool/{BASE} {own}" in made.sentence
    assert "virsh edit web1" in made.sentence


@pytest.mark.parametrize("state", [DomainState.RUNNING, DomainState.SHUTOFF])
@pytest.mark.parametrize("file", ["web1.snap", BASE])
def test_no_command_names_a_path_in_a_pool_that_is_not_there(state: DomainState, file: str) -> None:
    off = on(a_domain(GUEST, state), f"/pool/{file}", (NOTED,))
    noted = tuple(replace(one, pool="gone") for one in off.record.volumes)
    owner = off.ownership
    assert owner is not None
    elsewhere = replace(owner, record=replace(owner.record, volumes=noted))
    synced = planned(replace(off, ownership=elsewhere)).condition(C.SYNCED)
    assert synced is not None
    assert "Storage pool gone is not there" in synced.message
    assert "blockco" not in synced.message
    assert "convert" not in synced.message


# --- A base whose content changed -----------------------------------------------------------------


def test_guests_on_a_base_that_was_written_to_are_told_of_it() -> None:
    marker = f"{BASE}.ok"
    volumes = {
        ("default", BASE): a_volume(BASE, modified=NOW),
        ("default", marker): a_volume(marker, modified=NOW - 100),
    }
    made = planned(a_domain(GUEST), volumes=volumes)
    assert told(made, C.READY) == (Status.FALSE, "BaseChanged")
    assert made.health is Health.DEGRADED
    assert f"virsh vol-delete {marker} --pool default" in made.sentence
    volumes["default", BASE] = a_volume(BASE, modified=NOW - 100)
    assert planned(a_domain(GUEST), volumes=volumes).health is Health.HEALTHY


def test_guests_on_a_base_that_somebody_writes_to_are_told_of_it() -> None:
    made = planned(a_domain(GUEST), base_writers=("stranger",))
    assert told(made, C.READY) == (Status.FALSE, "BaseChanged")
    assert "disk of domain stranger" in made.sentence
    assert "vol-delete" not in made.sentence, "what that wrote is there only"


@pytest.mark.parametrize("spoilt", [{"changed_at": NOW}, {"written_by": ("stranger",)}])
def test_no_guest_is_made_from_a_base_that_was_written_to(spoilt: dict[str, object]) -> None:
    image = a_ready_image(base=BASE, **spoilt)
    made = plan(GUEST, observed(image=image), a_domain(GUEST).record, NOW, POLICY)
    assert made.steps == ()
    assert told(made, C.READY) == (Status.FALSE, "BaseChanged")
    good = plan(
        GUEST, observed(image=a_ready_image(base=BASE)), a_domain(GUEST).record, NOW, POLICY
    )
    assert [step for step in good.steps if isinstance(step, CreateVolume)]


def test_no_system_disk_is_replaced_by_one_of_a_base_that_was_written_to() -> None:
    wanted = a_guest(services=GUEST.services, image=an_image("debian13"), updatePolicy=AUTOMATIC)
    domain = a_domain(a_guest(services=GUEST.services))
    other = "gk-base-debian13-0123456789ab.qcow2"
    image = a_ready_image(name="debian13", base=other, changed_at=NOW)
    seen = observed(domain, image=image, inside=an_inside(wanted))
    made = plan(wanted, seen, domain.record, NOW, POLICY)
    assert made.steps == ()
    assert told(made, C.SYNCED) == (Status.FALSE, "BaseChanged")


AUTOMATIC = {"replace": "Automatic"}


def test_an_installed_base_is_not_told_to_be_uploaded_anew() -> None:
    guest = a_guest(image=an_install_image())
    image = a_ready_image(name="rocky9", base=BASE, changed_at=NOW)
    made = plan(guest, observed(image=image), a_domain(GUEST).record, NOW, POLICY)
    assert told(made, C.READY) == (Status.FALSE, "BaseChanged")
    assert "vol-delete" not in made.sentence


def test_a_look_sees_who_writes_to_the_base_of_a_guest_and_of_its_image() -> None:
    world = FakeWorld()
    world.base = BASE
    daemon = Daemon(world, Documents(GUEST))
    daemon.settle("web1")
    world.writers = {BASE: frozenset({"web0"})}
    daemon.reconcile("web1")
    status = daemon.status.get("web1")
    assert status is not None
    assert told(status.plan, C.READY) == (Status.FALSE, "BaseChanged")
    other = a_guest("web2")
    daemon.documents.guests["web2"] = other  # type: ignore[attr-defined]
    daemon.reconcile("web2")
    assert "web2" not in world.domains


# --- Pools ----------------------------------------------------------------------------------------


ELSEWHERE = PoolView("default", "/theirs", True, 1, 1, wanted_path="/ours")


@pytest.mark.parametrize(
    ("pools", "reason", "command"),
    [
        ({}, "PoolMissing", "virsh pool-define-as default dir --target DIRECTORY"),
        ({"default": PoolView("default", "/pool", False, 1, 1)}, "PoolInactive", "pool-start"),
        ({"default": ELSEWHERE}, "PoolElsewhere", "virsh pool-destroy default"),
        ({"default": replace(ELSEWHERE, active=False)}, "PoolElsewhere", "pool-undefine default"),
    ],
    ids=["missing", "inactive", "elsewhere", "elsewhere and stopped"],
)
def test_a_guest_whose_pool_cannot_be_had_runs_on_and_is_told(
    pools: dict[str, PoolView], reason: str, command: str
) -> None:
    made = planned(a_domain(GUEST), host=a_host(pools=pools), image=None)
    assert told(made, C.READY) == (Status.FALSE, reason)
    assert told(made, C.RUNNING) == (Status.TRUE, "DomainRunning")
    assert made.health is Health.DEGRADED
    assert command in made.sentence
    new = plan(GUEST, observed(host=a_host(pools=pools)), a_domain(GUEST).record, NOW, POLICY)
    assert told(new, C.READY) == (Status.FALSE, reason)
    assert new.steps == ()


def test_both_paths_of_a_pool_that_is_elsewhere_are_told() -> None:
    made = planned(a_domain(GUEST), host=a_host(pools={"default": ELSEWHERE}))
    assert "/theirs" in made.sentence
    assert "/ours" in made.sentence


def test_a_guest_of_another_pool_is_not_troubled() -> None:
    pools = {**a_host().pools, "other": PoolView("other", "/other", False, 1, 1)}
    assert planned(a_domain(GUEST), host=a_host(pools=pools)).health is Health.HEALTHY


# --- What is gone under a guest that runs ---------------------------------------------------------


def settled() -> tuple[FakeWorld, Daemon]:
    world = FakeWorld()
    world.base = BASE
    daemon = Daemon(world, Documents(GUEST))
    daemon.settle("web1")
    assert status_of(daemon).health is Health.HEALTHY
    return world, daemon


def status_of(daemon: Daemon) -> Plan:
    status = daemon.status.get("web1")
    assert status is not None
    return status.plan


@pytest.mark.parametrize("what", ["system volume", "base"])
def test_a_volume_that_was_deleted_under_a_running_guest_is_told_by_the_slow_look(
    what: str,
) -> None:
    world, daemon = settled()
    place = ("default", BASE if what == "base" else NOTED.removeprefix("/pool/"))
    lost = world.volumes_there.pop(place, None)
    world.lost = {place[1]}
    world.now += 601
    effects = list(world.effects)
    daemon.settle("web1")
    made = status_of(daemon)
    assert told(made, C.READY) == (Status.FALSE, "VolumeMissing")
    assert told(made, C.RUNNING) == (Status.TRUE, "DomainRunning")
    assert made.health is Health.DEGRADED
    assert f"default/{place[1]}" in made.sentence
    copy = f"virsh blockcopy web1 vda {NOTED} --format qcow2 --transient-job --wait --pivot"
    assert (copy in made.sentence) is (what == "system volume")
    assert [one for one in world.effects[len(effects) :] if not one.startswith("look")] == []
    world.lost = set()
    if lost is not None:
        world.volumes_there[place] = lost
    daemon.settle("web1")
    assert status_of(daemon).health is Health.HEALTHY, "and is looked for until it is back"


def test_a_volume_that_was_only_not_found_is_not_told_as_gone() -> None:
    world, daemon = settled()
    world.volumes_there.clear()
    world.absent = lambda *_: frozenset()  # type: ignore[method-assign] # cannot be scanned
    world.now += 601
    daemon.settle("web1")
    assert status_of(daemon).health is Health.HEALTHY


def test_what_has_a_space_in_it_is_quoted_in_commands() -> None:
    pools = {"default": PoolView("default", "/my pool", True, 10**12, 10**12)}
    noted = NOTED.replace("/pool/", "/my pool/")
    snapshot = on(a_domain(GUEST), "/my pool/web1.snap", (noted,))
    made = planned(snapshot, host=a_host(pools=pools))
    assert f"virsh blockcommit web1 vda --base '{noted}' --active" in made.sentence
    guest = a_guest(services=GUEST.services, interfaces=[{"name": "lan", "network": "my lan"}])
    host = a_host(networks={"my lan": False})
    trouble = storage_trouble(guest, observed(host=host), a_domain(guest))
    assert trouble is not None
    assert trouble.message.endswith("virsh net-start 'my lan'")


@pytest.mark.parametrize(
    ("networks", "reason"),
    [
        ({}, "NetworkMissing"),
        ({"lan": False}, "NetworkInactive"),
        ({"lan": True}, ""),
        (None, ""),
    ],
)
def test_a_network_that_is_down_is_told(networks: dict[str, bool] | None, reason: str) -> None:
    guest = a_guest(services=GUEST.services, interfaces=[{"name": "lan", "network": "lan"}])
    domain = a_domain(guest)
    seen = observed(
        domain, host=a_host(networks=networks), inside=an_inside(guest), image=a_ready_image()
    )
    made = plan(guest, seen, domain.record, NOW, POLICY)
    if not reason:
        assert made.health is Health.HEALTHY
        return
    assert told(made, C.READY) == (Status.FALSE, reason)
    assert made.health is Health.DEGRADED
    assert "virsh net-" in made.sentence


def test_a_replacement_does_not_go_back_for_what_happened_to_the_host() -> None:
    """A network that went down says nothing of the new disk."""
    site = Site(automatic())
    site.world.base = "gk-base-debian12-new.qcow2"
    site.world.lost = {site.world.base}
    site.settle()
    owner = site.world.domains["web1"].ownership
    assert owner is not None
    assert owner.base == site.world.base
    assert owner.record.replacement is None
    assert owner.record.refused == ""


# --- A suspended guest whose domain somebody took away --------------------------------------------


@pytest.mark.parametrize("life", ["same daemon", "restarted"])
def test_a_suspended_guest_that_its_operator_undefined_is_not_made_anew(
    life: str, tmp_path: Path
) -> None:
    world = FakeWorld()
    documents = Documents(GUEST)
    daemon = Daemon(world, documents, Holds(tmp_path / "holds.json"))
    daemon.settle("web1")
    daemon.executor.record("local", "web1", suspended=True)
    daemon.settle("web1")
    world.stop("web1", StateReason.DESTROYED)
    world.domains.clear()
    world.effects.clear()
    holds = Holds(tmp_path / "holds.json")
    if life == "restarted":
        daemon = Daemon(world, documents, holds)
    else:
        holds = daemon.holds
    daemon.settle("web1")
    assert world.effects == []
    made = status_of(daemon)
    assert made.is_true(C.SUSPENDED)
    assert "guestkeeper resume web1" in made.sentence
    holds.saw("web1", suspended=False)  # as resume does
    daemon.settle("web1")
    assert "web1" in world.domains
