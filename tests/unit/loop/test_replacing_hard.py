"""The replacement of a system disk where the world does not wait for it: daemons, hosts and
documents that are gone for a while, operators who change their mind, calls that fail.
"""

import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from controller.desired.effective import EffectiveGuest
from controller.errors import HostBusyError, PermanentError, TransientError
from controller.observed.domain import (
    DomainConfig,
    DomainState,
    GuestRecord,
    Ownership,
    ReplacePhase,
    RetiredDisk,
    StateReason,
    SystemDisk,
)
from controller.observed.host import VolumeView
from controller.planning.conditions import ConditionType, Printable
from controller.planning.planner import plan
from controller.planning.steps import step_name
from controller.planning.wanted.domain import placed
from tests.factories import (
    NOW,
    POLICY,
    a_domain,
    a_guest,
    a_probe,
    a_ready_image,
    a_service,
    an_image,
    an_inside,
    observed,
)
from tests.fakes import Daemon, Documents, FakeWorld, KilledError
from tests.libvirt_errors import translated
from tests.unit.loop.test_replacing import DISK, NEW, SERVICES, Site, automatic, guest

OLD = "gk-base-debian12-abc.qcow2"
NIGHT = {"maintenanceWindows": [{"cron": "0 3 * * *", "duration": "1h"}]}
AUTOMATIC = {"replace": "Automatic"}


def until(site: Site, phase: ReplacePhase, *, state: DomainState = DomainState.RUNNING) -> None:
    for _ in range(60):
        site.daemon.reconcile("web1")
        ongoing = site.record.replacement
        if ongoing is not None and ongoing.phase is phase and site.domain.state is state:
            return
    raise AssertionError(f"{phase} was not reached: {site.plan.sentence}")


def passes(site: Site, count: int, *, step: float = 60.0) -> None:
    """Time goes on as each pass asks for, by ``step`` seconds at most."""
    for _ in range(count):
        result = site.daemon.reconcile("web1")
        site.world.now += min(result.after or 0.0, step)


def wishes(site: Site, **changes: object) -> None:
    site.daemon.executor.record("local", "web1", **changes)


def volumes(site: Site) -> set[str]:
    return {name for _, name in site.world.volumes_there}


def stopping(site: Site) -> None:
    """The new disk is made, and the guest does not hear that it is to shut down."""
    site.world.base = NEW
    site.world.deaf.add("web1")
    until(site, ReplacePhase.STOPPING)
    site.world.deaf.clear()


def confirming(site: Site) -> str:
    """It runs on its new disk, whose volume is returned."""
    site.world.base = NEW
    until(site, ReplacePhase.CONFIRMING)
    assert site.base() == NEW
    return site.system()


# --- Before the stop ------------------------------------------------------------------------------


def test_a_disk_that_cannot_be_made_is_no_outage() -> None:
    site = Site(automatic())
    site.world.base = NEW
    site.world.fail["create_volume"] = PermanentError("no space left", reason="PoolFull")
    passes(site, 6)
    assert site.domain.state is DomainState.RUNNING
    assert site.plan.is_true(ConditionType.READY)
    assert site.reason() == "PoolFull"


def test_suspended_before_its_stop_it_serves_on() -> None:
    site = Site(automatic())
    site.world.base = NEW
    until(site, ReplacePhase.PREPARING)
    wishes(site, suspended=True)
    passes(site, 3)
    assert site.plan.is_true(ConditionType.READY)
    assert site.domain.state is DomainState.RUNNING


def test_suspended_while_its_disk_is_made_it_is_not_stopped() -> None:
    site = Site(automatic())
    site.world.base = NEW
    until(site, ReplacePhase.PREPARING)
    real = site.world.create_volume

    def meanwhile(*args: object, **kwargs: object) -> VolumeView:
        wishes(site, suspended=True)
        return real(*args, **kwargs)  # type: ignore[arg-type]

    site.world.create_volume = meanwhile  # type: ignore[method-assign]
    site.world.effects.clear()
    passes(site, 3)
    assert site.downs() == []


@pytest.mark.parametrize("held", ["by a full pool", "by an operator"])
def test_it_is_not_stopped_once_its_window_is_over(held: str) -> None:
    site = Site(automatic(**NIGHT))
    while time.gmtime(site.world.now)[3:5] != (3, 0):
        site.world.now += 60
    site.world.base = NEW
    if held == "by a full pool":
        site.world.fail["create_volume"] = PermanentError("no space left", reason="PoolFull")
        passes(site, 5, step=1.0)
    else:
        until(site, ReplacePhase.PREPARING)
        wishes(site, suspended=True)
    site.world.now += 6 * 3600
    site.world.fail.clear()
    wishes(site, suspended=False)
    site.world.effects.clear()
    passes(site, 20, step=10.0)
    assert site.record.replacement is not None
    assert site.downs() == []
    site.world.now += 18 * 3600
    site.settle()
    assert site.base() == NEW, "it goes on in the next one"


def test_while_it_waits_for_a_backup_everything_else_goes_on() -> None:
    site = Site(automatic())
    site.world.base = NEW
    until(site, ReplacePhase.PREPARING)
    site.world.domains["web1"] = replace(site.domain, running_job=True)
    site.documents.guests["web1"] = guest(title="other", updatePolicy=AUTOMATIC)
    passes(site, 10)
    assert site.domain.config.title == "other"
    assert site.domain.live == site.domain.config
    site.documents.guests["web1"] = guest(runStrategy="Halted", updatePolicy=AUTOMATIC)
    passes(site, 2)
    assert site.domain.state is DomainState.SHUTOFF, "a halt is not put off"


def test_a_guest_that_would_not_start_again_is_not_stopped() -> None:
    site = Site(automatic())
    data = next(disk for disk in site.domain.config.disks if disk.alias == "disk-data")
    del site.world.volumes_there[data.pool, data.volume or ""]
    site.world.base = NEW
    passes(site, 60)
    assert site.domain.state is DomainState.RUNNING
    assert f"{data.pool}/{data.volume}" in site.plan.sentence


def test_it_does_not_wait_for_a_disk_that_cannot_be_unplugged() -> None:
    site = Site(automatic())
    site.world.fail["unplug"] = TransientError("not let go of", reason="RemovalTimedOut")
    site.documents.guests["web1"] = a_guest(services=SERVICES, updatePolicy=AUTOMATIC)
    passes(site, 5, step=20.0)
    site.world.base = NEW
    passes(site, 60, step=30.0)
    assert site.base() == NEW


def test_an_adopted_raw_disk_gives_way_to_one_that_is_told_to_be_qcow2() -> None:
    site = Site(automatic())

    def raw(config: DomainConfig) -> DomainConfig:
        disks = (
            replace(disk, format="raw") if disk.alias == "disk-system" else disk
            for disk in config.disks
        )
        return replace(config, disks=tuple(disks))

    has = site.domain
    assert has.live is not None
    assert has.ownership is not None
    record = replace(has.ownership.record, **placed(raw(has.config)))
    owner = replace(has.ownership, record=record)
    site.world.domains["web1"] = replace(
        has, config=raw(has.config), live=raw(has.live), ownership=owner
    )
    site.world.base = NEW
    site.settle()
    disk = next(disk for disk in site.domain.config.disks if disk.alias == "disk-system")
    assert (site.base(), disk.format) == (NEW, "qcow2")
    wishes(site, rollback=True)
    site.settle()
    disk = next(disk for disk in site.domain.config.disks if disk.alias == "disk-system")
    assert (site.base(), disk.format) == (OLD, "raw")


# --- Abandoned ------------------------------------------------------------------------------------


def test_an_image_that_is_never_the_same_twice_leaves_no_disks_behind() -> None:
    site = Site(automatic())
    for number in range(20):
        site.world.base = NEW if number % 2 else "gk-base-debian12-other.qcow2"
        passes(site, 2, step=2.0)
    site.settle()
    in_use = {disk.volume for disk in site.domain.config.disks}
    assert volumes(site) - in_use == {one.disk.volume for one in site.record.retired}


def test_a_disk_that_was_made_and_is_not_wanted_any_more_is_not_lost_sight_of() -> None:
    site = Site(automatic())
    site.world.base = NEW
    until(site, ReplacePhase.PREPARING)
    site.world.kill_at = (len(site.world.effects), "after")
    with pytest.raises(KilledError):
        site.daemon.reconcile("web1")
    assert site.record.replacement is not None
    made = site.record.replacement.to.volume
    assert made in volumes(site)
    site.world.base = "gk-base-debian12-newest.qcow2"
    site.world.fail["delete_volume"] = TransientError("busy", reason="Busy")
    site.daemon = Daemon(site.world, site.documents)
    passes(site, 6, step=1.0)
    assert site.record.replacement is not None
    assert site.record.replacement.to.volume == made, "not forgotten while it is there"
    site.world.fail.clear()
    site.world.now += 1000
    site.settle()
    assert made not in volumes(site)
    assert site.base() == "gk-base-debian12-newest.qcow2"


def test_the_seed_of_an_abandoned_replacement_goes_too() -> None:
    site = Site(a_guest(services=SERVICES, image=an_image(cloudInit=True), updatePolicy=AUTOMATIC))
    site.world.base = NEW
    until(site, ReplacePhase.PREPARING)
    site.world.kill_at = (len(site.world.effects) + 1, "after")
    with pytest.raises(KilledError):
        site.daemon.reconcile("web1")
    assert [name for name in volumes(site) if name.endswith(".iso")]
    site.world.base = OLD
    site.daemon = Daemon(site.world, site.documents)
    site.settle()
    assert not [name for name in volumes(site) if name.endswith(".iso")]


# --- The swap -------------------------------------------------------------------------------------


def test_a_disk_asked_for_while_it_is_stopped_does_not_keep_it_off() -> None:
    site = Site(automatic())
    stopping(site)
    more = {"name": "more", "size": "1Gi"}
    site.documents.guests["web1"] = a_guest(
        services=SERVICES, disks=[DISK, more], updatePolicy=AUTOMATIC
    )
    site.world.stop("web1", StateReason.SHUTDOWN)
    site.settle()  # the world refuses a definition whose volumes are not there
    assert site.domain.live == site.domain.config
    assert "disk-more" in [disk.alias for disk in site.domain.config.disks]
    assert site.base() == NEW


def test_a_definition_that_is_refused_leaves_it_on_its_old_disk_and_not_off() -> None:
    site = Site(automatic())
    old = site.system()
    real = site.world.define

    def define(host: str, config: DomainConfig, owner: Ownership) -> None:
        if old not in [disk.volume for disk in config.disks]:
            raise PermanentError("XML error: ...", reason="DefinitionInvalid")
        real(host, config, owner)

    site.world.define = define  # type: ignore[method-assign]
    site.world.base = NEW
    passes(site, 60, step=300.0)
    assert site.domain.state is DomainState.RUNNING
    assert site.system() == old
    assert "XML error" in site.record.refused_why


class Saving(FakeWorld):
    """A host that saves its guests' runs when it goes down (libvirt-guests), disks and all."""

    def __init__(self, *, told: bool) -> None:
        super().__init__()
        self.told = told
        self.runs_saved: dict[str, DomainConfig] = {}

    def save(self, name: str) -> None:
        live = self.domains[name].live
        assert live is not None
        self.runs_saved[name] = live
        self.stop(name, StateReason.SAVED if self.told else StateReason.OTHER)
        self.domains[name] = replace(self.domains[name], saved=self.told)

    def start(self, host: str, name: str) -> None:
        super().start(host, name)
        live = self.runs_saved.pop(name, None)
        if live is not None:
            self.domains[name] = replace(self.domains[name], live=live, saved=False)


class SavingSite(Site):
    def __init__(self, *, told: bool) -> None:
        self.world = self.saving = Saving(told=told)
        self.documents = Documents(automatic())
        self.daemon = Daemon(self.world, self.documents)
        self.settle()
        self.before = self.domain


def test_a_run_that_its_host_saved_goes_on_and_is_then_ended_in_good_order() -> None:
    site = SavingSite(told=True)
    stopping(site)
    site.saving.save("web1")
    site.world.effects.clear()
    site.settle()
    assert site.downs() == ["start", "shutdown", "start"]
    assert site.base() == NEW
    site.check_kept()


def test_what_runs_on_the_old_disk_after_all_is_never_confirmed_and_keeps_it() -> None:
    site = SavingSite(told=False)
    old = site.system()
    stopping(site)
    site.saving.save("web1")
    site.settle()
    site.world.now += 30 * 86400
    wishes(site, restart_requested=site.world.now)
    site.settle()
    assert old in volumes(site)
    assert site.system() == old
    assert site.domain.live == site.domain.config


def test_a_stop_that_fails_is_told_and_swaps_nothing() -> None:
    site = Site(automatic())
    old = site.system()
    site.world.base = NEW
    site.world.deaf.add("web1")
    site.world.fail["destroy"] = PermanentError("QEMU does not die", reason="DestroyFailed")
    passes(site, 30, step=120.0)
    assert "QEMU does not die" in site.plan.sentence
    assert site.system() == old
    site.world.fail.clear()
    site.world.now += 1000
    site.settle()
    assert site.base() == NEW


def test_a_domain_that_became_somebody_elses_meanwhile_is_left_alone() -> None:
    site = Site(automatic())
    stopping(site)
    owner = site.domain.ownership
    assert owner is not None
    site.world.domains["web1"] = replace(site.domain, ownership=replace(owner, uid="other"))
    site.world.effects.clear()
    passes(site, 5)
    assert site.world.effects == []


def vanishes(documents: Documents) -> None:
    documents.orphans["web1"] = documents.guests.pop("web1")


def breaks(documents: Documents) -> None:
    del documents.guests["web1"]
    documents.broken["web1"] = ("a typo",)


@pytest.mark.parametrize("happens", [vanishes, breaks])
@pytest.mark.parametrize("phase", [ReplacePhase.STOPPING, ReplacePhase.CONFIRMING])
def test_what_was_taken_down_comes_up_again_without_its_document(
    happens: Callable[[Documents], None], phase: ReplacePhase
) -> None:
    site = Site(automatic())
    site.world.base = NEW
    if phase is ReplacePhase.CONFIRMING:
        site.world.fail["start"] = TransientError("not now", reason="StartFailed")
    until(site, phase, state=DomainState.SHUTOFF)
    site.world.fail.clear()
    known = dict(site.documents.guests)
    happens(site.documents)
    site.daemon = Daemon(site.world, site.documents)
    passes(site, 20)
    assert site.domain.state is DomainState.RUNNING
    site.documents.guests, site.documents.orphans, site.documents.broken = known, {}, {}
    site.settle()
    assert site.base() == NEW, "and it goes on when that is back"
    site.check_kept()


# --- Does it work? --------------------------------------------------------------------------------


def daemon_off(site: Site) -> None:
    site.world.now += 3600
    site.daemon = Daemon(site.world, site.documents)


def host_gone(site: Site) -> None:
    there = site.world.view
    site.world.view = replace(there, reachable=False, why="gone")
    for _ in range(5):
        site.daemon.reconcile("web1")
        site.world.now += 400
    site.world.view = there


def suspended(site: Site) -> None:
    wishes(site, suspended=True)
    for _ in range(4):
        site.daemon.reconcile("web1")
        site.world.now += 600
    wishes(site, suspended=False)


@pytest.mark.parametrize("unseen", [daemon_off, host_gone, suspended])
def test_a_good_disk_is_not_given_up_for_a_time_in_which_nobody_looked(
    unseen: Callable[[Site], None],
) -> None:
    probed = a_service(probes=(a_probe(),))
    site = Site(a_guest(services=(probed,), updatePolicy=AUTOMATIC))
    new = confirming(site)
    unseen(site)
    site.settle()
    assert site.system() == new, site.record.refused_why
    assert site.record.replacement is None


@pytest.mark.parametrize("before", ["it crashed", "it boots"])
def test_a_new_disk_needs_an_agent_wherever_the_old_one_ever_had_one(before: str) -> None:
    site = Site(a_guest(updatePolicy=AUTOMATIC))  # no service tells whether it works
    site.world.now += 7200
    if before == "it crashed":
        site.world.stop("web1", StateReason.CRASHED)
    else:
        site.world.domains["web1"] = replace(site.domain, agent_connected=False)
    site.world.base = NEW
    site.world.broken.add(NEW)
    site.settle()
    assert site.base() == OLD


def test_a_busy_host_is_no_failure_of_the_new_disk() -> None:
    site = Site(automatic())
    site.world.base = NEW
    until(site, ReplacePhase.PREPARING)
    real = site.world.start
    busy = [HostBusyError("too many starts at once", retry_after=1.0)] * 3

    def start(host: str, name: str) -> None:
        if busy:
            raise busy.pop()
        real(host, name)

    site.world.start = start  # type: ignore[method-assign]
    passes(site, 40, step=10.0)
    assert busy == []
    assert site.base() == NEW


def test_a_guest_to_be_halted_meanwhile_is_not_started() -> None:
    site = Site(automatic())
    confirming(site)
    site.documents.guests["web1"] = guest(runStrategy="Halted", updatePolicy=AUTOMATIC)
    site.world.stop("web1", StateReason.SHUTDOWN)
    site.world.effects.clear()
    passes(site, 20, step=30.0)
    assert site.downs() == []
    assert site.record.replacement is None


def test_a_job_that_is_done_is_not_run_again_for_a_new_disk() -> None:
    site = Site(guest(runStrategy="RerunOnFailure", updatePolicy=AUTOMATIC))
    site.world.now += 1000
    site.world.stop("web1", StateReason.SHUTDOWN)
    site.settle()
    site.world.effects.clear()
    site.world.base = NEW
    site.settle()
    assert site.downs() == []
    assert site.base() == NEW


# --- And back -------------------------------------------------------------------------------------


def on_network(name: str) -> EffectiveGuest:
    return guest(interfaces=[{"name": "lan", "network": name}], updatePolicy=AUTOMATIC)


def test_after_a_failed_replacement_it_takes_a_corrected_document() -> None:
    site = Site(automatic())
    real = site.world.start

    def start(host: str, name: str) -> None:
        if any(nic.source == "gone" for nic in site.domain.config.nics):
            raise PermanentError("network 'gone' is not active", reason="StartFailed")
        real(host, name)

    site.world.start = start  # type: ignore[method-assign]
    site.world.broken.add(NEW)
    confirming(site)
    site.documents.guests["web1"] = on_network("gone")
    passes(site, 60, step=120.0)
    assert site.record.replacement is None
    assert site.record.refused == NEW
    assert site.domain.state is DomainState.SHUTOFF
    site.documents.guests["web1"] = on_network("default")
    passes(site, 30, step=300.0)
    assert site.domain.state is DomainState.RUNNING
    assert site.base() == OLD
    assert site.reason() == "ReplaceFailed"


def test_starts_are_paced_where_the_old_disk_does_not_come_up_either() -> None:
    site = Site(automatic())
    old = site.system()
    site.world.broken.add(NEW)
    confirming(site)
    real = site.world.start

    def start(host: str, name: str) -> None:
        real(host, name)
        if site.world.booted[name] == old:
            site.world.stop(name, StateReason.CRASHED)

    site.world.start = start  # type: ignore[method-assign]
    site.world.effects.clear()
    passes(site, 300, step=30.0)
    assert site.record.replacement is None
    assert site.plan.printable is Printable.CRASH_LOOP
    assert 3 < site.downs().count("start") < 30


def test_disks_that_did_not_come_up_do_not_pile_up() -> None:
    site = Site(automatic())
    site.world.base = NEW
    site.world.broken.add(NEW)
    for _ in range(6):
        site.settle()
        site.world.now += 5
        wishes(site, refused="", refused_why="")
    site.settle()
    (last,) = site.record.retired
    assert volumes(site) == {
        last.disk.volume,
        *(disk.volume for disk in site.before.config.disks),
    }


def replaced(**policy: object) -> tuple[Site, str]:
    """A guest with a new disk, and the volume of its old one."""
    site = Site(automatic(**policy))
    old = site.system()
    site.world.base = NEW
    site.settle()
    return site, old


def test_a_rollback_outlives_a_pool_that_is_inactive_for_a_moment() -> None:
    site, old = replaced()
    there = site.world.view
    wishes(site, rollback=True)
    inactive = replace(there.pools["default"], active=False)
    site.world.view = replace(there, pools={"default": inactive})
    passes(site, 4)
    site.world.view = there
    site.settle()
    assert site.system() == old


def test_a_rollback_is_not_dropped_while_its_disk_is_only_not_found() -> None:
    site, old = replaced()
    world, place = site.world, ("default", old)
    wishes(site, rollback=True)
    kept = world.volumes_there.pop(place)  # libvirt does not know the file
    world.absent = lambda *_: frozenset()  # type: ignore[method-assign]  # nor can it look
    passes(site, 4)
    assert "is not known just now" in site.plan.sentence
    world.volumes_there[place] = kept
    site.settle()
    assert site.system() == old


def test_a_rollback_to_a_disk_that_is_gone_ends_and_says_so() -> None:
    site, old = replaced()
    wishes(site, rollback=True)
    del site.world.volumes_there["default", old]
    sentences = []
    for _ in range(4):
        passes(site, 1)
        sentences.append(site.plan.sentence)
    assert any(f"volume default/{old} is gone" in one for one in sentences)
    assert site.record.replacement is None
    assert site.system() != old
    site.settle()


def test_a_rollback_does_not_wait_for_a_disk_that_cannot_be_grown() -> None:
    site, old = replaced()
    site.world.fail["grow_volume"] = PermanentError("no space", reason="PoolFull")
    larger = {"name": "data", "size": "5Gi"}
    site.documents.guests["web1"] = a_guest(
        services=SERVICES, disks=[larger], updatePolicy=AUTOMATIC
    )
    passes(site, 10)
    wishes(site, rollback=True)
    passes(site, 60)
    assert site.system() == old


def test_a_rollback_asked_for_in_time_beats_the_end_of_the_disks_time() -> None:
    site, old = replaced(retiredDiskTTL="1h")
    site.world.now += 3601
    wishes(site, rollback=True)
    site.settle()
    assert site.system() == old


def test_a_guest_that_went_back_is_not_looked_up_again_and_again() -> None:
    site = Site(a_guest(services=SERVICES, image=an_image(cloudInit=True), updatePolicy=AUTOMATIC))
    site.world.base = NEW
    site.settle()
    wishes(site, rollback=True)
    site.settle()
    asked: list[str] = []
    real = site.world.volume

    def volume(host: str, pool: str, name: str) -> VolumeView | None:
        asked.append(name)
        return real(host, pool, name)

    site.world.volume = volume  # type: ignore[method-assign]
    for _ in range(10):
        site.daemon.reconcile("web1")
        site.world.now += 30
    assert len(asked) <= 6


# --- Retired disks --------------------------------------------------------------------------------


def test_a_retired_disk_is_remembered_until_it_is_gone() -> None:
    site, old = replaced(retiredDiskTTL="1h")
    site.world.now += 3601
    site.world.fail["delete_volume"] = TransientError("busy", reason="Busy")
    passes(site, 4, step=0.0)
    assert [one.disk.volume for one in site.record.retired] == [old]
    site.world.fail.clear()
    site.world.now += 400
    site.settle()
    assert site.record.retired == ()
    assert old not in volumes(site)


def test_a_retired_disk_that_another_stands_on_stays() -> None:
    site, old = replaced(retiredDiskTTL="1h")
    clone = VolumeView("default", "clone", "/pool/clone", "qcow2", 1, 0, f"/pool/{old}")
    site.world.volumes_there["default", "clone"] = clone
    site.world.now += 3601
    site.settle()
    assert old in volumes(site)
    assert [one.disk.volume for one in site.record.retired] == [old]


def test_what_is_written_down_as_a_data_disk_is_never_deleted_as_a_retired_one() -> None:
    wanted = guest()
    domain = a_domain(wanted)
    data = next(disk for disk in domain.config.disks if disk.alias == "disk-data")
    rest = tuple(disk for disk in domain.config.disks if disk is not data)
    torn_out = replace(domain.config, disks=rest)
    assert domain.ownership is not None
    disk = SystemDisk(data.pool, data.volume or "")
    record: GuestRecord = replace(
        domain.ownership.record, retired=(RetiredDisk(disk, NOW - 10**7, "replaced"),)
    )
    seen = observed(
        replace(domain, config=torn_out, live=torn_out),
        image=a_ready_image(),
        inside=an_inside(wanted),
    )
    made = plan(wanted, seen, record, NOW, POLICY)
    assert not {"DeleteVolume", "DeleteRetired"} & {step_name(step) for step in made.steps}


def test_a_domain_that_is_defined_anew_on_its_disk_is_of_that_disks_image() -> None:
    site = Site()
    site.world.base = NEW
    site.world.stop("web1", StateReason.DESTROYED)
    del site.world.domains["web1"]
    site.settle()
    assert site.base() == OLD
    assert site.reason() == "ReplaceRequired"


def test_what_the_host_lacks_takes_no_new_disk_out_again() -> None:
    """The old disk would not start there either; and its time begins once it starts."""
    site = Site(automatic())
    site.world.base = NEW
    site.world.fail["start"] = translated("start with its network inactive")
    until(site, ReplacePhase.CONFIRMING, state=DomainState.SHUTOFF)
    passes(site, 60, step=300.0)
    assert site.world.now - NOW > 3600
    assert site.base() == NEW
    assert "virsh net-start" in site.plan.sentence
    site.world.fail.clear()
    site.settle()
    assert site.base() == NEW
    assert site.plan.is_true(ConditionType.READY)
    assert site.record.replacement is None


# --- Meant to be stopped, and never asked ---------------------------------------------------------


def refused(site: Site) -> None:
    """The new disk is made, and the host refuses to ask the guest to shut down."""
    site.world.base = NEW
    site.world.fail["shutdown"] = HostBusyError("too many calls", retry_after=1)
    until(site, ReplacePhase.STOPPING)
    passes(site, 3, step=1.0)
    assert site.domain.state is DomainState.RUNNING


def test_what_was_never_asked_to_stop_is_called_off_like_before() -> None:
    site = Site(automatic())
    refused(site)
    site.world.base = OLD
    site.world.fail.clear()
    site.world.effects.clear()
    passes(site, 10)
    assert site.record.replacement is None
    assert site.downs() == []
    assert not [name for name in volumes(site) if "system-" in name], "nothing is left of it"
    assert site.plan.settled
    assert site.record.stop_for == ""


def test_what_was_never_asked_to_stop_is_not_asked_once_its_window_is_over() -> None:
    site = Site(automatic(**NIGHT))
    while time.gmtime(site.world.now)[3:5] != (3, 0):
        site.world.now += 60
    refused(site)
    site.world.now += 6 * 3600
    site.world.fail.clear()
    site.world.effects.clear()
    passes(site, 20, step=10.0)
    assert site.downs() == []
    assert "window" in site.plan.sentence
    site.world.now += 18 * 3600
    site.settle()
    assert site.base() == NEW


def test_what_was_asked_to_stop_goes_on_though_another_base_is_wanted() -> None:
    third = "gk-base-debian12-third.qcow2"
    site = Site(automatic())
    stopping(site)
    site.world.base = third
    site.world.now += 130
    passes(site, 60, step=30.0)
    assert site.base() == third, "in the end"
    assert site.plan.settled


def meant_at_night(strategy: str) -> Site:
    """Its window is over before the host ever took the request to shut it down."""
    site = Site(automatic(**NIGHT))
    policy = {"replace": "Automatic", **NIGHT}
    site.documents.guests["web1"] = guest(runStrategy=strategy, updatePolicy=policy)
    site.settle()
    while time.gmtime(site.world.now)[3:5] != (3, 0):
        site.world.now += 60
    refused(site)
    site.world.now += 6 * 3600
    site.world.fail.clear()
    passes(site, 5)
    assert site.domain.state is DomainState.RUNNING
    site.world.effects.clear()
    return site


@pytest.mark.parametrize("strategy", ["Manual", "RerunOnFailure"])
def test_a_guest_that_was_never_asked_to_stop_for_its_disk_stays_off_once_it_is_shut_down(
    strategy: str,
) -> None:
    site = meant_at_night(strategy)
    site.world.stop("web1", StateReason.SHUTDOWN)
    passes(site, 10)
    assert site.downs() == []


def test_a_guest_is_halted_though_it_was_meant_to_stop_for_its_disk() -> None:
    site = meant_at_night("Always")
    policy = {"replace": "Automatic", **NIGHT}
    site.documents.guests["web1"] = guest(runStrategy="Halted", updatePolicy=policy)
    passes(site, 10)
    assert site.domain.state is not DomainState.RUNNING
    assert site.downs() == ["shutdown"], "asked once"


def test_a_guest_that_is_halted_meanwhile_is_promised_no_start_on_its_old_disk() -> None:
    policy = {"replace": "Automatic", "progressDeadline": "60s"}
    site = Site(automatic(progressDeadline="60s"))
    stopping(site)
    passes(site, 3, step=1)
    site.world.stop("web1", StateReason.SHUTDOWN)
    site.world.fail["define"] = PermanentError("no", reason="InvalidDomain")
    site.documents.guests["web1"] = guest(runStrategy="Halted", updatePolicy=policy)
    passes(site, 30, step=600)
    assert site.record.replacement is None
    site.world.fail.clear()
    site.world.effects.clear()
    site.documents.guests["web1"] = guest(runStrategy="Manual")
    passes(site, 10)
    assert site.downs() == []


@pytest.mark.parametrize("reason", ["Busy", "NoThread", "JobRunning"])
def test_a_start_that_the_host_did_not_try_sends_no_disk_back(reason: str) -> None:
    site = Site(automatic())
    site.world.base = NEW
    site.world.fail["start"] = TransientError("cannot acquire state change lock", reason=reason)
    until(site, ReplacePhase.CONFIRMING, state=DomainState.SHUTOFF)
    passes(site, 40, step=60.0)
    ongoing = site.record.replacement
    assert ongoing is not None
    assert (ongoing.phase, site.record.start_attempts) == (ReplacePhase.CONFIRMING, 0)
    assert "cannot acquire state change lock" in site.plan.sentence
    site.world.fail.clear()
    passes(site, 60, step=10.0)
    assert (site.base(), site.record.replacement) == (NEW, None)
