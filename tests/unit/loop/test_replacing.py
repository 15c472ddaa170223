"""The replacement of a system disk, over a world in memory: every way it can go, and a daemon that
is killed before and after every effect of it.
"""

import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from controller.errors import PermanentError
from controller.observed.domain import DomainState, DomainView, GuestRecord, StateReason
from controller.observed.guest import Fleet
from controller.planning.conditions import ConditionType, Printable
from controller.planning.plan import Plan
from tests.factories import a_guest, a_service, an_image
from tests.fakes import Daemon, Documents, FakeWorld, KilledError

NEW = "gk-base-debian12-new.qcow2"
DISK = {"name": "data", "size": "1Gi"}
SERVICES = (a_service(),)


def guest(**fields: object):  # type: ignore[no-untyped-def]
    return a_guest(services=SERVICES, disks=[DISK], **fields)


def automatic(**policy: object):  # type: ignore[no-untyped-def]
    return guest(updatePolicy={"replace": "Automatic", **policy})


class Site:
    """A world with one converged guest on the old base, and its daemon."""

    def __init__(self, wanted=None, *, cloud_init: bool = False) -> None:  # type: ignore[no-untyped-def]
        self.world = FakeWorld()
        self.documents = Documents(wanted or guest())
        self.daemon = Daemon(self.world, self.documents)
        self.settle()
        self.before = self.domain

    @property
    def domain(self) -> DomainView:
        return self.world.domains["web1"]

    @property
    def record(self) -> GuestRecord:
        owner = self.domain.ownership
        assert owner is not None
        return owner.record

    @property
    def plan(self) -> Plan:
        status = self.daemon.status.get("web1")
        assert status is not None
        return status.plan

    def settle(self) -> None:
        self.daemon.settle("web1")

    def approve(self) -> None:
        self.daemon.executor.record("local", "web1", approved=self.plan.replace_to)
        self.settle()

    def system(self) -> str:
        return next(d.volume or "" for d in self.domain.config.disks if d.alias == "disk-system")

    def base(self) -> str:
        owner = self.domain.ownership
        assert owner is not None
        return owner.base

    def reason(self) -> str:
        found = self.plan.condition(ConditionType.SYNCED)
        assert found is not None
        return found.reason

    def downs(self) -> list[str]:
        words = ("start", "shutdown", "destroy")
        return [e.split()[0] for e in self.world.effects if e.split()[0] in words]

    def check_kept(self) -> None:
        """What a replacement never touches."""
        for has, had in ((self.domain.config, self.before.config),):
            assert (has.uuid, has.nics) == (had.uuid, had.nics)
            disks = [(d.alias, d.volume) for d in has.disks if d.alias != "disk-system"]
            assert disks == [(d.alias, d.volume) for d in had.disks if d.alias != "disk-system"]
        volumes = {name for _, name in self.world.volumes_there}
        assert {d.volume for d in self.before.config.disks} <= volumes
        assert self.domain.live == self.domain.config
        assert self.domain.state is DomainState.RUNNING


def test_another_base_waits_for_approval_and_touches_nothing_until_then() -> None:
    site = Site()
    effects = len(site.world.effects)
    site.world.base = NEW
    site.settle()
    assert site.reason() == "ReplaceRequired"
    assert site.plan.replace_to == NEW
    assert site.plan.printable is Printable.HEALTHY
    assert len(site.world.effects) == effects


def test_an_approved_replacement_costs_one_stop_and_one_start() -> None:
    site = Site()
    site.world.base = NEW
    site.settle()
    site.world.effects.clear()
    site.approve()
    assert site.plan.settled, site.plan.sentence
    assert site.downs() == ["shutdown", "start"]
    site.check_kept()
    assert site.domain.ownership is not None
    assert site.domain.ownership.base == NEW
    first = [e for e in site.world.effects if e.startswith(("create_volume", "shutdown"))]
    assert first[0].startswith("create_volume"), "the disk is made beside the running guest"
    (retired,) = site.record.retired
    assert (retired.disk.volume, retired.why) == (site.before.config.disks[0].volume, "replaced")
    assert site.record.replacement is None


def test_an_automatic_one_needs_nobody() -> None:
    site = Site(automatic())
    site.world.base = NEW
    site.settle()
    assert site.plan.settled
    assert site.base() == NEW


def test_a_disk_that_does_not_come_up_gives_way_to_the_old_one_and_is_not_tried_again() -> None:
    site = Site(automatic())
    site.world.base = NEW
    site.world.broken.add(NEW)
    site.settle()
    site.check_kept()
    assert site.system() == site.before.config.disks[0].volume
    assert site.reason() == "ReplaceFailed"
    assert site.plan.printable is Printable.HEALTHY
    assert [one.why for one in site.record.retired] == ["failed"]
    assert site.record.refused == NEW
    effects = len(site.world.effects)
    site.settle()
    assert len(site.world.effects) == effects, "tried once"


def test_a_refused_base_is_tried_again_when_an_operator_approves_it() -> None:
    site = Site(automatic())
    site.world.base = NEW
    site.world.broken.add(NEW)
    site.settle()
    (failed,) = site.record.retired
    site.world.broken.clear()
    site.approve()
    assert site.plan.settled
    assert site.base() == NEW
    assert site.system() != failed.disk.volume


def test_a_disk_that_cannot_be_started_gives_way_too() -> None:
    site = Site(automatic())
    site.world.base = NEW
    real = site.world.start

    def refuse(host: str, name: str) -> None:
        if site.system() != site.before.config.disks[0].volume:
            raise PermanentError("no bootable device", reason="StartFailed")
        real(host, name)

    site.world.start = refuse  # type: ignore[method-assign]
    site.settle()
    site.check_kept()
    assert site.reason() == "ReplaceFailed"


def test_a_guest_that_does_not_hear_is_powered_off_after_its_timeout() -> None:
    site = Site(automatic())
    site.world.base = NEW
    site.world.deaf.add("web1")
    site.settle()
    assert site.plan.settled
    assert "destroy" in site.downs()
    site.check_kept()


def test_rollback_brings_the_old_disk_back_and_the_new_one_is_not_taken_again() -> None:
    site = Site(automatic())
    site.world.base = NEW
    site.settle()
    site.world.effects.clear()
    site.daemon.executor.record("local", "web1", rollback=True)
    site.settle()
    site.check_kept()
    assert site.downs() == ["shutdown", "start"]
    assert site.system() == site.before.config.disks[0].volume
    assert site.reason() == "ReplaceFailed"
    assert [one.why for one in site.record.retired] == ["rolled-back"]


def test_retired_disks_are_deleted_when_their_time_is_over() -> None:
    site = Site(automatic(retiredDiskTTL="1h"))
    old = site.system()
    site.world.base = NEW
    site.settle()
    assert ("default", old) in site.world.volumes_there
    site.world.now += 3601
    site.settle()
    assert ("default", old) not in site.world.volumes_there
    assert site.record.retired == ()
    assert ("default", site.system()) in site.world.volumes_there


def test_a_halted_guest_gets_its_disk_without_a_start() -> None:
    halted = automatic()
    site = Site(halted)
    off = guest(updatePolicy={"replace": "Automatic"}, runStrategy="Halted")
    site.documents.guests["web1"] = off
    site.settle()
    site.world.base = NEW
    site.world.effects.clear()
    site.settle()
    assert site.base() == NEW
    assert site.downs() == []
    assert site.domain.state is DomainState.SHUTOFF


def test_an_image_that_changes_again_meanwhile_is_not_installed() -> None:
    site = Site()
    site.world.base = NEW
    site.settle()
    site.daemon.executor.record("local", "web1", approved=NEW)
    site.daemon.reconcile("web1")  # begun, nothing made yet
    assert site.record.replacement is not None
    site.world.base = "gk-base-debian12-newest.qcow2"
    site.settle()
    assert site.record.replacement is None
    assert site.plan.replace_to == "gk-base-debian12-newest.qcow2"
    assert site.downs()[-1:] == ["start"]
    assert site.system() == site.before.config.disks[0].volume


def test_it_waits_for_its_maintenance_window() -> None:
    site = Site(automatic(maintenanceWindows=[{"cron": "0 3 * * *", "duration": "1h"}]))
    site.world.base = NEW
    site.daemon.reconcile("web1")
    site.daemon.reconcile("web1")
    assert site.reason() == "WindowClosed"
    while site.reason() == "WindowClosed":
        assert site.downs() == ["start"]
        assert site.plan.recheck_at is not None
        site.world.now = site.plan.recheck_at
        site.daemon.reconcile("web1")
    assert time.gmtime(site.world.now)[3:5] == (3, 0)
    site.settle()
    assert site.plan.settled
    assert site.base() == NEW


def test_approval_now_does_not_wait_for_it() -> None:
    site = Site(automatic(maintenanceWindows=[{"cron": "0 3 * * *", "duration": "1h"}]))
    site.world.base = NEW
    site.daemon.reconcile("web1")
    site.daemon.executor.record("local", "web1", approved=NEW, approved_now=True)
    site.settle()
    assert site.plan.settled


def test_a_suspended_guest_is_not_touched() -> None:
    site = Site(automatic())
    site.world.base = NEW
    site.daemon.executor.record("local", "web1", suspended=True)
    effects = len(site.world.effects)
    for _ in range(3):
        site.daemon.reconcile("web1")
    assert len(site.world.effects) == effects
    assert site.plan.is_true(ConditionType.SUSPENDED)
    site.daemon.executor.record("local", "web1", suspended=False)
    site.world.fleet = Fleet(suspended=True)
    site.daemon.reconcile("web1")
    assert len(site.world.effects) == effects + 1, "only the operator's own note"
    site.world.fleet = Fleet()
    site.settle()
    assert site.base() == NEW


def test_cloud_init_gets_a_new_seed_and_it_is_removed_again() -> None:
    wanted = replace(
        a_guest(
            services=SERVICES,
            disks=[DISK],
            image=an_image(cloudInit=True),
            updatePolicy={"replace": "Automatic"},
        )
    )
    site = Site(wanted)
    site.world.base = NEW
    site.world.effects.clear()
    site.settle()
    assert site.plan.settled, site.plan.sentence
    seeds = [e for e in site.world.effects if "seed" in e]
    assert [e.split()[0] for e in seeds] == ["seed", "delete_volume"]
    assert not [name for _, name in site.world.volumes_there if name.endswith(".iso")]


# --- Killed anywhere ------------------------------------------------------------------------------


def effects_of(play: Callable[[Site], None]) -> int:
    site = Site(automatic())
    start = len(site.world.effects)
    play(site)
    return len(site.world.effects) - start


def works(site: Site) -> None:
    site.world.base = NEW
    site.settle()


def fails(site: Site) -> None:
    site.world.base = NEW
    site.world.broken.add(NEW)
    site.settle()


def goes_back(site: Site) -> None:
    site.world.base = NEW
    site.settle()
    site.daemon.executor.record("local", "web1", rollback=True)
    site.settle()


@pytest.mark.parametrize("play", [works, fails, goes_back])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_at_any_effect_ends_in_the_new_or_the_old_state(
    play: Callable[[Site], None], when: str
) -> None:
    total = effects_of(play)
    assert total > 8
    ends = set()
    for at in range(total):
        site = Site(automatic())
        site.world.kill_at = (len(site.world.effects) + at, when)
        with pytest.raises(KilledError):
            play(site)
        site.daemon = Daemon(site.world, site.documents)
        site.settle()
        site.check_kept()
        assert site.record.replacement is None, at
        assert site.plan.printable is Printable.HEALTHY, (at, site.plan.sentence)
        made = {e.split()[1] for e in site.world.effects if e.startswith("create_volume")}
        there = {name for _, name in site.world.volumes_there}
        assert made <= there, "a disk was lost"
        known = {one.disk.volume for one in site.record.retired}
        assert there - {d.volume for d in site.domain.config.disks} == known, "a disk leaked"
        assert site.domain.ownership is not None
        ends.add(site.domain.ownership.base)
    old = {"gk-base-debian12-abc.qcow2"}
    assert ends == {works: {NEW}, fails: old, goes_back: {NEW} | old}[play]


# --- Roll-out -------------------------------------------------------------------------------------


def fleet_of(count: int, **image: object) -> tuple[FakeWorld, Documents, Daemon]:
    world = FakeWorld()
    names = [f"web{number}" for number in range(1, count + 1)]
    one = automatic()
    documents = Documents(*(replace(one, name=name) for name in names))
    daemon = Daemon(world, documents)
    for name in names:
        daemon.settle(name)
    return world, documents, daemon


def replacing(world: FakeWorld) -> list[str]:
    return [
        name
        for name, domain in world.domains.items()
        if domain.ownership is not None and domain.ownership.record.replacement is not None
    ]


def test_a_new_image_rolls_through_its_guests_one_at_a_time() -> None:
    world, documents, daemon = fleet_of(4)
    world.base = NEW
    most = 0
    for _ in range(200):
        for name in documents.guests:
            daemon.reconcile(name)
            most = max(most, len(replacing(world)))
        world.now += 2
    assert most == 1
    assert all(d.ownership is not None and d.ownership.base == NEW for d in world.domains.values())


def test_a_roll_out_stops_at_the_first_failure() -> None:
    world, documents, daemon = fleet_of(3)
    world.base = NEW
    world.broken.add(f"web2:{NEW}")
    for _ in range(900):
        for name in documents.guests:
            daemon.reconcile(name)
        world.now += 2
    bases = {n: d.ownership.base for n, d in world.domains.items() if d.ownership is not None}
    assert bases["web1"] == NEW
    assert bases["web2"] != NEW
    assert bases["web3"] != NEW
    status = daemon.status.get("web3")
    assert status is not None
    assert "web2" in status.plan.sentence
    assert all(d.state is DomainState.RUNNING for d in world.domains.values())


def test_a_crash_of_the_old_disk_while_it_is_stopped_for_the_swap_is_no_matter() -> None:
    site = Site()
    site.world.base = NEW
    site.settle()
    site.world.deaf.add("web1")
    site.daemon.executor.record("local", "web1", approved=NEW)
    for _ in range(3):
        site.daemon.reconcile("web1")
    assert site.domain.state is DomainState.RUNNING
    site.world.stop("web1", StateReason.CRASHED)
    site.world.deaf.clear()
    site.settle()
    assert site.plan.settled
    site.check_kept()
