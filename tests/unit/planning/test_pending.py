"""What a domain lacks, where somebody else changed it or a change of ours does not take."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from controller.errors import TransientError
from controller.observed.domain import DiskConfig, DomainConfig, DomainView
from controller.observed.guest import Operation
from controller.observed.host import PoolView
from controller.observed.image import ImageState
from controller.observed.locating import located_view
from controller.planning.conditions import ConditionType, Sync
from controller.planning.plan import Plan
from controller.planning.planner import plan
from controller.planning.steps import step_name
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
    observed,
)
from tests.unit.loop.test_replacing import DISK, SERVICES, Site, guest
from tests.unit.loop.test_replacing_hard import passes

GUEST = guest()


def edited(
    domain: DomainView, change: Callable[[DiskConfig], DiskConfig], *, live: bool = True
) -> DomainView:
    """``domain`` with its disks changed by hand, in its definition and where it runs."""

    def changed(config: DomainConfig) -> DomainConfig:
        return replace(config, disks=tuple(change(disk) for disk in config.disks))

    assert domain.live is not None
    running = changed(domain.live) if live else domain.live
    return replace(domain, config=changed(domain.config), live=running)


def kept(domain: DomainView, **fields: object) -> Plan:
    assert domain.ownership is not None
    seen = observed(domain, image=a_ready_image(), inside=an_inside(GUEST), **fields)
    return plan(GUEST, seen, domain.ownership.record, NOW, POLICY)


def reason(made: Plan) -> str:
    found = made.condition(ConditionType.SYNCED)
    assert found is not None
    return found.reason


@pytest.mark.parametrize("alias", ["disk-data", "disk-system"])
def test_an_external_snapshot_is_told_with_its_remedy_and_never_undone(alias: str) -> None:
    def snapshot(disk: DiskConfig) -> DiskConfig:
        below = (f"/pool/{disk.volume}",)
        return replace(disk, volume="web1.snap1", below=below) if disk.alias == alias else disk

    made = kept(edited(a_domain(GUEST), snapshot))
    assert made.steps == ()
    assert reason(made) == "DiskMoved"
    assert "virsh blockcommit web1" in made.sentence


def test_a_disk_that_has_another_target_by_hand_is_not_torn_out() -> None:
    def moved(disk: DiskConfig) -> DiskConfig:
        return replace(disk, target="vdc") if disk.alias == "disk-data" else disk

    made = kept(edited(a_domain(GUEST), moved, live=False))
    assert not {"UnplugDevice", "PlugDevice"} & {step_name(step) for step in made.steps}


def test_a_volume_given_by_its_path_is_the_same_whatever_other_pool_has_that_directory() -> None:
    def by_path(disk: DiskConfig) -> DiskConfig:
        return replace(disk, pool="", volume=f"/pool/{disk.volume}")

    pools = {**a_host().pools, "zzz": PoolView("zzz", "/pool", True, 1, 1)}
    seen = located_view(edited(a_domain(GUEST), by_path), pools)
    made = kept(seen, host=a_host(pools=pools))
    assert (made.steps, made.changes) == ((), ())


@pytest.mark.parametrize("state", [ImageState.PREPARING, ImageState.FAILED, ImageState.READY])
def test_a_long_action_does_not_hide_that_its_image_is_another(state: ImageState) -> None:
    wanted = a_guest(services=SERVICES, image=an_image("debian13"))
    domain = a_domain(a_guest(services=SERVICES))
    ready = state is ImageState.READY
    base = "gk-base-debian13-x.qcow2" if ready else None
    image = a_ready_image(name="debian13", state=state, base=base, retry_at=NOW + 1000)
    seen = observed(
        domain,
        image=image,
        inside=an_inside(wanted),
        operation=Operation("LookInside", NOW),
    )
    assert domain.ownership is not None
    made = plan(wanted, seen, domain.ownership.record, NOW, POLICY)
    assert made.sync is Sync.OUT_OF_SYNC
    assert reason(made) == ("ReplaceRequired" if ready else "ImageOutdated")
    assert made.steps == (), "nothing is recorded as applied"


def ignored(*_: object) -> None:
    """A call that goes well and changes nothing."""


@pytest.mark.parametrize(
    ("call", "wanted"),
    [
        ("define", guest(title="other")),
        ("grow_volume", a_guest(services=SERVICES, disks=[{"name": "data", "size": "2Gi"}])),
    ],
)
def test_a_change_of_which_nothing_comes_is_tried_with_pauses(call: str, wanted: object) -> None:
    site = Site()
    site.documents.guests["web1"] = wanted  # type: ignore[assignment]
    setattr(site.world, call, ignored)
    words = [site.daemon.reconcile("web1").word for _ in range(30)]
    assert words.count("requeue") < 5


def test_what_does_not_lean_on_a_failing_change_goes_on() -> None:
    site = Site()
    site.world.fail["unplug"] = TransientError("not let go of", reason="RemovalTimedOut")
    more = a_service(packages=("nginx-light", "curl"))
    site.documents.guests["web1"] = a_guest(services=(more,))
    site.world.effects.clear()
    passes(site, 30, step=30.0)
    assert "apply web1" in site.world.effects
    assert site.reason() == "RemovalTimedOut"
    site.world.fail.clear()
    site.world.now += 1000
    site.settle()
    assert site.plan.settled, site.plan.sentence


def test_a_change_that_goes_back_to_what_was_is_no_change() -> None:
    site = Site()
    site.world.fail["unplug"] = TransientError("not let go of", reason="RemovalTimedOut")
    site.documents.guests["web1"] = a_guest(services=SERVICES)
    passes(site, 5, step=1.0)
    site.documents.guests["web1"] = a_guest(services=SERVICES, disks=[DISK])
    site.settle()
    assert site.plan.settled, site.plan.sentence
    assert site.domain.live == site.domain.config
