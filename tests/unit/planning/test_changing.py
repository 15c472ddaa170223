"""Cold boots and new disks: when they come, whatever else is amiss, and what they wait for."""

from dataclasses import replace
from typing import Any

import pytest

from controller.desired.effective import EffectiveGuest
from controller.errors import TransientError
from controller.observed.domain import DomainConfig, DomainState, GuestRecord, StateReason
from controller.observed.guest import Fleet, Observed
from controller.planning.conditions import ConditionType
from controller.planning.planner import plan
from tests.factories import NOW, POLICY, a_domain, a_guest, a_ready_image, an_inside, observed
from tests.unit.loop.test_replacing import NEW, SERVICES, Site, automatic, guest
from tests.unit.loop.test_replacing_hard import passes, wishes


def test_a_cold_boot_is_not_asked_for_again_by_one_that_was_forgotten() -> None:
    def sized(largest: str, restart: str) -> EffectiveGuest:
        memory = {"size": "512Mi", "max": largest}
        return a_guest(memory=memory, updatePolicy={"restart": restart})

    site = Site(sized("1Gi", "Automatic"))

    def largest() -> int:
        assert site.domain.live is not None
        return site.domain.live.max_memory

    for size, restart in (("2Gi", "Automatic"), ("1Gi", "Staged"), ("2Gi", "Automatic")):
        site.documents.guests["web1"] = sized(size, restart)
        site.settle()
        if restart == "Staged":  # applied by a crash
            site.world.now += 5000
            site.world.stop("web1", StateReason.CRASHED)
            site.settle()
        assert largest() == int(size[0]) * 2**30


@pytest.mark.parametrize(
    ("call", "before", "after"),
    [
        ("unplug", {"disks": [{"name": "data", "size": "1Gi"}]}, {}),
        ("set_memory", {"memory": {"size": "512Mi", "max": "1Gi"}},
         {"memory": {"size": "256Mi", "max": "1Gi"}}),
    ],
)  # fmt: skip
def test_a_cold_boot_does_not_wait_for_a_live_change_that_fails(
    call: str, before: dict[str, Any], after: dict[str, Any]
) -> None:
    site = Site(a_guest(services=SERVICES, **before))
    site.world.now += 3600
    site.world.fail[call] = TransientError("no effect", reason="LiveChangeIneffective")
    site.documents.guests["web1"] = a_guest(services=SERVICES, **after)
    passes(site, 10, step=20.0)
    assert site.reason() == "LiveChangeIneffective"
    wishes(site, restart_requested=site.world.now)
    site.world.effects.clear()
    passes(site, 30, step=30.0)
    assert site.downs() == ["shutdown", "start"]
    assert site.plan.settled, "the boot applied it"


def test_a_cold_boot_asked_for_is_done_once_though_it_went_off_by_itself() -> None:
    site = Site()
    wishes(site, restart_requested=site.world.now)
    site.world.stop("web1", StateReason.CRASHED)
    site.world.effects.clear()
    site.settle()
    assert site.downs() == ["start"]


def test_a_second_wish_that_comes_while_the_first_is_fulfilled_is_not_lost() -> None:
    site = Site()
    wishes(site, restart_requested=site.world.now)
    site.daemon.reconcile("web1")
    assert site.domain.state is DomainState.SHUTOFF
    site.world.now += 1
    look = site.daemon.reconciler._look
    real = look.at

    def meanwhile(wanted: EffectiveGuest) -> Observed:
        seen = real(wanted)
        look.at = real  # type: ignore[method-assign]
        wishes(site, restart_requested=site.world.now)
        return seen

    look.at = meanwhile  # type: ignore[method-assign]
    site.world.effects.clear()
    site.settle()
    assert site.downs() == ["start", "shutdown", "start"]
    assert site.record.restart_requested is None


def test_a_disk_too_small_for_its_new_image_is_refused_at_once() -> None:
    small = a_guest(systemDisk={"size": "1Gi"}, updatePolicy={"replace": "Automatic"})
    domain = a_domain(small)
    assert domain.ownership is not None
    image = a_ready_image(base=NEW, capacity=4 * 2**30)
    seen = observed(domain, image=image, inside=an_inside(small))
    made = plan(small, seen, domain.ownership.record, NOW, POLICY)
    synced = made.condition(ConditionType.SYNCED)
    assert synced is not None
    assert (synced.reason, made.steps) == ("ChangeRefused", ())
    assert "write at least 4Gi" in synced.message


@pytest.mark.parametrize(
    ("fields", "memory", "fleet", "reason"),
    [
        ({"replace": "Automatic"}, {}, Fleet(), "Replacing"),
        ({"replace": "Automatic"}, {}, Fleet(hold="web0 comes first"), "ReplaceHeld"),
        ({"replace": "Automatic"}, {"refused": NEW}, Fleet(), "ReplaceFailed"),
        ({"replace": "Manual"}, {}, Fleet(), "ReplaceRequired"),
        ({"replace": "Manual"}, {"approved": "another"}, Fleet(), "ReplaceRequired"),
        ({}, {"approved": NEW, "refused": NEW}, Fleet(hold="web0 comes first"), "Replacing"),
    ],
)  # fmt: skip
def test_what_a_new_disk_waits_for(
    fields: dict[str, Any], memory: dict[str, Any], fleet: Fleet, reason: str
) -> None:
    wanted = guest(updatePolicy=fields)
    domain = a_domain(wanted, DomainState.RUNNING, record=GuestRecord(**memory))
    assert domain.ownership is not None
    seen = observed(domain, image=a_ready_image(base=NEW), inside=an_inside(wanted), fleet=fleet)
    made = plan(wanted, seen, domain.ownership.record, NOW, POLICY)
    synced = made.condition(ConditionType.SYNCED)
    assert synced is not None
    assert synced.reason == reason
    assert bool(made.steps) is (reason == "Replacing")
    while_busy = replace(seen, domain=replace(domain, running_job=True))
    assert plan(wanted, while_busy, domain.ownership.record, NOW, POLICY).steps == ()


def test_a_system_disk_that_somebody_made_a_snapshot_of_is_not_replaced() -> None:
    site = Site(automatic())
    site.world.base = NEW
    domain = site.domain
    disks = tuple(
        replace(disk, pool="", volume="/elsewhere/snapshot.qcow2")
        if disk.alias == "disk-system"
        else disk
        for disk in domain.config.disks
    )
    config = replace(domain.config, disks=disks)
    site.world.domains["web1"] = replace(domain, config=config, live=config)
    site.settle()
    assert site.downs() == ["start"]
    assert site.reason() == "DiskMoved"
    assert site.record.replacement is None


# --- What would not come up again is not stopped --------------------------------------------------

LAN = {"interfaces": [{"name": "lan", "network": "default", "mac": "52:54:00:aa:00:01"}]}
BOOTS = {"updatePolicy": {"restart": "Automatic", "replace": "Automatic"}}
STAGED = {"cpu": {"vcpus": 1, "max": 8}}


def loses_a_disk(site: Site) -> None:
    disk = next(one for one in site.domain.config.disks if one.alias == "disk-data")
    del site.world.volumes_there[disk.pool, disk.volume or ""]


def loses_its_base(site: Site) -> None:
    site.world.lost.add(site.base())


def is_put_on_a_base(site: Site) -> None:
    def on_base(config: DomainConfig) -> DomainConfig:
        base = "gk-base-debian12-0123456789ab.qcow2"
        disks = tuple(
            replace(one, volume=base) if one.alias == "disk-system" else one for one in config.disks
        )
        return replace(config, disks=disks)

    domain = site.domain
    assert domain.live is not None
    site.world.domains["web1"] = replace(
        domain, config=on_base(domain.config), live=on_base(domain.live)
    )


def loses_its_network(site: Site) -> None:
    site.world.view = replace(site.world.view, networks={"default": False})


def loses_its_pool(site: Site) -> None:
    pools = {name: replace(one, active=False) for name, one in site.world.view.pools.items()}
    site.world.view = replace(site.world.view, pools=pools)


def has_a_clone_that_runs(site: Site) -> None:
    config = replace(site.domain.config, name="clone", uuid="x")
    clone = replace(site.domain, name="clone", ownership=None, config=config)
    site.world.domains["clone"] = clone


LOSSES = {
    loses_a_disk: "disk",
    loses_its_base: "base",
    is_put_on_a_base: "the base of an image",
    loses_its_network: "network default",
    loses_its_pool: "pool default",
    has_a_clone_that_runs: "MAC address",
}


@pytest.mark.parametrize("asked", [False, True], ids=["by itself", "an operator's"])
@pytest.mark.parametrize("loses", LOSSES)
def test_what_could_not_start_again_is_not_stopped_for_a_cold_boot(loses: Any, asked: bool) -> None:
    site = Site(guest(**LAN))
    if not asked:
        site.documents.guests["web1"] = guest(**LAN, **STAGED)
        site.settle()
    loses(site)
    site.daemon.knowledge.forget_sizes("web1")
    passes(site, 3)
    site.world.effects.clear()
    if asked:
        wishes(site, restart_requested=site.world.now)
    else:
        site.documents.guests["web1"] = guest(**LAN, **BOOTS, **STAGED)
    passes(site, 20)
    assert site.downs() == []
    told = site.plan.sentence + str(site.plan.conditions)
    assert LOSSES[loses] in told
    assert "it would not start again" in told or loses is is_put_on_a_base, "which is told itself"


def test_a_cold_boot_that_waited_for_a_network_comes_once_that_is_back() -> None:
    site = Site(guest(**LAN, **BOOTS))
    loses_its_network(site)
    site.documents.guests["web1"] = guest(**LAN, **BOOTS, **STAGED)
    site.world.effects.clear()
    passes(site, 5)
    assert site.downs() == []
    site.world.view = replace(site.world.view, networks={"default": True})
    passes(site, 10)
    assert site.downs() == ["shutdown", "start"]


@pytest.mark.parametrize(
    "loses", [loses_a_disk, loses_its_network, loses_its_pool, has_a_clone_that_runs]
)
def test_what_could_not_start_again_is_not_stopped_for_another_disk(loses: Any) -> None:
    site = Site(guest(**LAN, **BOOTS))
    loses(site)
    site.daemon.knowledge.forget_sizes("web1")
    passes(site, 3)
    site.world.effects.clear()
    site.world.base = NEW
    passes(site, 20, step=5.0)
    assert site.downs() == []


def test_another_disk_is_what_mends_a_base_that_is_gone() -> None:
    site = Site(guest(**LAN, **BOOTS))
    loses_its_base(site)
    site.daemon.knowledge.forget_sizes("web1")
    passes(site, 3)
    site.world.base = NEW
    site.settle()
    assert (site.base(), site.plan.settled) == (NEW, True)


def test_a_request_that_the_host_refused_is_no_reason_to_start_it_later() -> None:
    policy = {"updatePolicy": {"restart": "Automatic"}, "runStrategy": "Manual"}
    site = Site(guest(**policy))
    site.world.start("local", "web1")
    site.settle()
    site.world.fail["shutdown"] = TransientError("a job runs", reason="JobRunning")
    site.documents.guests["web1"] = guest(**policy, **STAGED)
    passes(site, 5, step=1.0)
    assert (site.record.stop_for, site.record.shutdown_requested) == ("", None)
    site.world.fail.clear()
    site.world.effects.clear()
    site.world.now += 3600
    site.world.stop("web1", StateReason.SHUTDOWN)  # by its operator
    passes(site, 10)
    assert site.downs() == []
