"""Which device of a foreign domain is which of the document's, and what adopting would change."""

from dataclasses import replace
from typing import Any

import pytest

from controller.observed.domain import (
    LIBVIRT_USER,
    DiskConfig,
    DomainConfig,
    DomainState,
    DomainView,
    IoTune,
    NicConfig,
    Ownership,
    StateReason,
)
from controller.observed.guest import Observed
from controller.observed.host import HostView, PoolView, VolumeView
from controller.observed.locating import located, located_view
from controller.planning.adoption.adopt import AdoptionPlan, plan_adoption, told_places
from controller.planning.adoption.match import match
from controller.planning.plan import Policy
from controller.planning.steps import step_name
from tests.factories import NOW, a_guest, a_host, a_service, an_inside

UUID = "5e0f6a3c-0000-4000-8000-000000000001"
POLICY = Policy(seed="test", daemon_started=NOW - 10, controller="me")
HOST = a_host(
    pools={
        "default": PoolView("default", "/pool", True, 10**12, 10**12),
        "fast": PoolView("fast", "/fast/", True, 10**12, 10**12),
    }
)
SYSTEM = DiskConfig("vda", "", "/pool/web1.img", format="raw", target="vda")
DATA = DiskConfig("vdb", "default", "data.qcow2", target="vdb")
LOGS = DiskConfig("vdc", "", "/fast/logs.qcow2", target="vdc")
LAN = NicConfig("52:54:00:00:00:01", "network", "lan", "52:54:00:00:00:01")
DMZ = NicConfig("52:54:00:00:00:02", "bridge", "br0", "52:54:00:00:00:02")
GIB = 2**30


def a_config(*disks: DiskConfig, nics: tuple[NicConfig, ...] = (), **fields: Any) -> DomainConfig:
    config = DomainConfig(
        name="web1",
        uuid=UUID,
        accelerator="tcg",
        vcpus=1,
        max_vcpus=1,
        memory=GIB // 2,
        max_memory=GIB // 2,
        firmware="bios",
        boot=None,
        disks=disks or (SYSTEM,),
        nics=nics,
    )
    return replace(config, **fields)


def a_foreign(
    *disks: DiskConfig,
    nics: tuple[NicConfig, ...] = (),
    state: DomainState = DomainState.RUNNING,
    view: dict[str, Any] | None = None,
    **fields: Any,
) -> DomainView:
    """What somebody made with virt-install, as the look finds it: each alias is a place."""
    config = a_config(*disks, nics=nics, **fields)
    found = DomainView(
        name="web1",
        uuid=UUID,
        state=state,
        reason=StateReason.OTHER,
        ownership=None,
        config=config,
        live=config if state.active else None,
        run=3 if state.active else None,
    )
    return located_view(replace(found, **(view or {})), HOST.pools)


def volumes(**sizes: int) -> dict[tuple[str, str], VolumeView]:
    """By volume; the pool is that of the disk above that has it."""
    pools = {"logs.qcow2": "fast"}
    names = {name.replace("_", "."): size for name, size in sizes.items()}
    found = (
        VolumeView(pools.get(name, "default"), name, f"/x/{name}", "qcow2", size, 0, None)
        for name, size in names.items()
    )
    return {(view.pool, view.name): view for view in found}


def planned(
    guest: Any,
    domain: DomainView,
    *,
    host: HostView = HOST,
    **seen: Any,
) -> AdoptionPlan:
    return plan_adoption(guest, Observed(host, domain, **seen), NOW, POLICY)


def disk(name: str, size: str = "1Gi", **fields: Any) -> dict[str, Any]:
    return {"name": name, "size": size, **fields}


# --- where a disk is ------------------------------------------------------------------------------


def test_a_path_in_a_pools_directory_is_that_pools_volume() -> None:
    elsewhere = DiskConfig("vdd", "", "/srv/vm/x.img", target="vdd")
    below = DiskConfig("vde", "", "/pool/deeper/x.img", target="vde")
    found = located(a_config(SYSTEM, DATA, LOGS, elsewhere, below), HOST.pools)
    assert [(one.pool, one.volume) for one in found.disks] == [
        ("default", "web1.img"),
        ("default", "data.qcow2"),
        ("fast", "logs.qcow2"),
        ("", "/srv/vm/x.img"),
        ("", "/pool/deeper/x.img"),
    ]


def test_what_is_located_already_is_the_same_object() -> None:
    config = a_config(DATA)
    assert located(config, HOST.pools) is config


def test_of_two_pools_with_one_directory_the_first_by_name_counts() -> None:
    pools = {**HOST.pools, "another": PoolView("another", "/pool", True, 1, 1)}
    assert located(a_config(SYSTEM), pools).disks[0].pool == "another"


def test_a_path_is_the_same_however_many_slashes_it_has() -> None:
    drive = DiskConfig("sda", "", "/fast//a.iso", format="raw", device="cdrom", target="sda")
    found = located(a_config(SYSTEM, drive), HOST.pools)
    assert (found.disks[1].pool, found.disks[1].volume) == ("fast", "a.iso")


# --- disks ----------------------------------------------------------------------------------------


def test_the_system_disk_is_the_one_it_boots_from() -> None:
    guest = a_guest(disks=[disk("data")])
    found = match(guest, a_foreign(SYSTEM, DATA, boot_disk="vdb"), HOST)
    assert found.problems == ()
    assert dict(found.aliases) == {"vdb": "disk-system", "vda": "disk-data"}


def test_what_it_boots_from_has_to_be_known() -> None:
    made = planned(a_guest(disks=[disk("data")]), a_foreign(SYSTEM, DATA, boot_doubt="who knows"))
    assert made.problems == ("who knows",)
    assert (made.step, made.digest) == (None, "")


def test_a_disk_of_another_domain_is_not_taken() -> None:
    domain = a_foreign(SYSTEM, replace(DRIVE, pool="fast", volume="a.iso"))
    guest = a_guest(cdroms=[{"name": "cd", "pool": "fast", "volume": "a.iso"}])
    there = {
        ("default", "web1.img"): VolumeView("default", "web1.img", "/pool/a", "raw", GIB, 0, None),
        ("fast", "a.iso"): VolumeView("fast", "a.iso", "/fast/a.iso", "raw", GIB, 0, None),
    }
    seen = Observed(HOST, domain, volumes=there)
    users = {"/pool/a": {"web1"}, "/fast/a.iso": {"web1", "other"}}
    assert plan_adoption(guest, seen, NOW, POLICY, users).problems == ()
    users["/pool/a"].add("other")
    (problem,) = plan_adoption(guest, seen, NOW, POLICY, users).problems
    assert "its disk vda (default/web1.img) is used by domain other, too" in problem


def test_the_first_disk_by_target_is_the_system_disk_and_the_others_follow_in_order() -> None:
    guest = a_guest(disks=[disk("data"), disk("logs", pool="fast")])
    found = match(guest, a_foreign(LOGS, DATA, SYSTEM), HOST)
    assert found.problems == ()
    assert dict(found.aliases) == {"vda": "disk-system", "vdb": "disk-data", "vdc": "disk-logs"}
    assert [one.alias for one in found.adopted.config.disks] == [
        "disk-system",
        "disk-data",
        "disk-logs",
    ]
    assert found.adopted.live == found.adopted.config


def test_a_pool_tells_disks_apart_whatever_their_order() -> None:
    guest = a_guest(disks=[disk("logs", pool="fast"), disk("data")])
    found = match(guest, a_foreign(SYSTEM, DATA, LOGS), HOST)
    assert dict(found.aliases) == {"vda": "disk-system", "vdb": "disk-data", "vdc": "disk-logs"}


def test_a_size_that_only_one_disk_has_tells_them_apart() -> None:
    more = replace(DATA, alias="vdc", volume="more.qcow2", target="vdc")
    guest = a_guest(disks=[disk("big", "9Gi"), disk("small", "2Gi")])
    sizes = volumes(data_qcow2=2 * GIB, more_qcow2=9 * GIB)
    found = match(guest, a_foreign(SYSTEM, DATA, more), HOST, sizes)
    assert dict(found.aliases) == {"vda": "disk-system", "vdb": "disk-small", "vdc": "disk-big"}


def test_a_size_that_two_disks_have_tells_nothing() -> None:
    more = replace(DATA, alias="vdc", volume="more.qcow2", target="vdc")
    guest = a_guest(disks=[disk("grown", "9Gi"), disk("same", "2Gi")])
    sizes = volumes(data_qcow2=2 * GIB, more_qcow2=2 * GIB)
    found = match(guest, a_foreign(SYSTEM, DATA, more), HOST, sizes)
    assert dict(found.aliases) == {"vda": "disk-system", "vdb": "disk-grown", "vdc": "disk-same"}


def test_a_disk_that_the_document_lacks_is_a_problem_that_says_what_to_write() -> None:
    made = planned(a_guest(), a_foreign(SYSTEM, DATA), volumes=volumes(data_qcow2=3 * GIB))
    assert made.step is None
    assert made.changes == ()
    (problem,) = made.problems
    assert "vdb (default/data.qcow2) is not in the document" in problem
    assert "- {name: vdb, pool: default, size: 3Gi}" in problem


def test_a_disk_of_another_pool_than_written_is_named_as_the_document_names_it() -> None:
    made = planned(a_guest(disks=[disk("logs")]), a_foreign(SYSTEM, LOGS))
    assert "- {name: logs, pool: fast, size: SIZE}" in made.problems[0]


def test_the_system_disks_pool_has_to_be_the_one_it_is_in() -> None:
    made = planned(a_guest(), a_foreign(replace(LOGS, target="vda")))
    assert "write systemDisk: {pool: fast}" in made.problems[0]
    good = planned(
        a_guest(systemDisk={"pool": "fast"}), a_foreign(replace(LOGS, alias="vda", target="vda"))
    )
    assert good.problems == ()


def test_a_disk_in_no_pool_is_told_with_the_pool_to_define() -> None:
    made = planned(a_guest(), a_foreign(replace(SYSTEM, volume="/srv/vm/web1.img")))
    assert "virsh pool-define-as NAME dir --target /srv/vm" in made.problems[0]


@pytest.mark.parametrize("source", ["/dev/sdb", None, "rbd/web1"])
def test_a_disk_that_is_no_file_is_told(source: str | None) -> None:
    made = planned(a_guest(), a_foreign(replace(SYSTEM, volume=source)))
    assert "is no volume of a pool" in made.problems[0]


def test_a_domain_without_disks_is_told() -> None:
    drive = DiskConfig("sda", "", None, device="cdrom", target="sda")
    made = planned(a_guest(cdroms=[{"name": "cd"}]), a_foreign(drive))
    assert made.problems == ("it has no disk, and a guest has a system disk at least",)


def test_a_disk_that_only_the_document_has_is_added() -> None:
    made = planned(a_guest(disks=[disk("data")]), a_foreign())
    assert made.step is not None
    assert [(one.path, one.old) for one in made.changes] == [("disks[data]", "")]
    assert made.after is not None
    assert [step_name(step) for step in made.after.steps][:2] == ["CreateVolume", "DefineDomain"]


# --- CD-ROM drives --------------------------------------------------------------------------------

DRIVE = DiskConfig("sda", "", None, device="cdrom", target="sda")


def test_drives_are_taken_in_order() -> None:
    other = replace(DRIVE, alias="sdb", target="sdb")
    guest = a_guest(cdroms=[{"name": "one"}, {"name": "two"}])
    found = match(guest, a_foreign(SYSTEM, other, DRIVE), HOST)
    assert dict(found.aliases)["sda"] == "cdrom-one"
    assert dict(found.aliases)["sdb"] == "cdrom-two"


@pytest.mark.parametrize(
    ("medium", "written"),
    [
        ({}, "- {name: sda}"),
        ({"pool": "default", "volume": "tools.iso"}, "- {name: sda, volume: tools.iso}"),
        ({"pool": "fast", "volume": "a.iso"}, "- {name: sda, pool: fast, volume: a.iso}"),
        (
            {"pool": "default", "volume": "a (b): c.iso"},
            '- {name: sda, volume: "a (b): c.iso"}',
        ),
    ],
)
def test_a_drive_that_the_document_lacks_is_a_problem(medium: dict[str, Any], written: str) -> None:
    made = planned(a_guest(), a_foreign(SYSTEM, replace(DRIVE, **medium)))
    assert written in made.problems[0]


@pytest.mark.parametrize("volume", ["/isos/a.iso", "https:talos/metal.iso"])
def test_a_drive_whose_medium_no_document_can_name_is_left_alone(volume: str) -> None:
    other = replace(DRIVE, alias="sdb", target="sdb")
    domain = a_foreign(SYSTEM, replace(DRIVE, volume=volume), other)
    made = planned(a_guest(cdroms=[{"name": "tools"}]), domain)
    assert (made.problems, made.changes) == ((), ())
    assert ("sdb", "cdrom-tools") in made.adoption.aliases
    assert "sda" not in dict(made.adoption.aliases)


def test_a_drive_is_the_one_of_its_target_or_of_its_medium_before_the_next_one() -> None:
    drives = [
        replace(DRIVE, alias=target, target=target, pool="default", volume=f"{target}.iso")
        for target in ("sda", "sdb", "sdc")
    ]
    guest = a_guest(
        cdroms=[{"name": "one", "volume": "sdc.iso"}, {"name": "sdb"}, {"name": "two"}],
    )
    found = dict(match(guest, a_foreign(SYSTEM, *drives), HOST).aliases)
    assert found["sdc"] == "cdrom-one"
    assert found["sdb"] == "cdrom-sdb"
    assert found["sda"] == "cdrom-two"


def test_a_team_of_cards_is_not_told_to_be_torn_apart() -> None:
    twin = replace(LAN, kind="hostdev", source="")
    (problem,) = planned(a_guest(), a_foreign(nics=(LAN, twin))).problems
    assert "leave the domain as it is" in problem
    assert "virsh edit" not in problem


@pytest.mark.parametrize(
    "nic",
    [
        replace(LAN, kind="bridge", source="a bridge of a very long name"),
        replace(LAN, model="rtl8139"),
        replace(LAN, kind="user", source="", model="e1000e"),
        replace(LAN, kind="user", source="", forwards=("localhost:2222:22/tcp",)),
        replace(LAN, mac="53:54:00:00:00:01"),
    ],
)
def test_an_interface_that_no_document_can_say_is_left_alone(nic: NicConfig) -> None:
    made = planned(a_guest(), a_foreign(nics=(nic,)))
    assert (made.problems, made.changes) == ((), ())


def test_a_medium_in_no_pool_may_be_taken_out_by_the_document() -> None:
    made = planned(
        a_guest(cdroms=[{"name": "cd"}]), a_foreign(SYSTEM, replace(DRIVE, volume="/isos/a.iso"))
    )
    assert made.problems == ()
    assert [one.path for one in made.changes] == ["cdroms[cd].volume"]


# --- interfaces -----------------------------------------------------------------------------------


def nic(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, **fields}


def test_interfaces_are_matched_by_mac_then_in_order_of_their_network() -> None:
    second = replace(LAN, alias="52:54:00:00:00:03", mac="52:54:00:00:00:03")
    guest = a_guest(
        interfaces=[
            nic("dmz", bridge="br0"),
            nic("first", network="lan"),
            nic("named", network="lan", mac=LAN.mac),
        ]
    )
    found = match(guest, a_foreign(nics=(LAN, DMZ, second)), HOST)
    assert found.problems == ()
    assert dict(found.aliases) == {
        "vda": "disk-system",
        LAN.mac: "nic-named",
        second.mac: "nic-first",
        DMZ.mac: "nic-dmz",
    }


def test_an_interface_is_moved_to_another_network_where_its_mac_says_so() -> None:
    made = planned(
        a_guest(interfaces=[nic("lan", network="other", mac=LAN.mac)]), a_foreign(nics=(LAN,))
    )
    assert [(c.path, c.old, c.new) for c in made.changes] == [
        ("interfaces[lan].network", "network lan", "network other")
    ]


def test_an_interface_that_the_document_lacks_is_a_problem() -> None:
    made = planned(a_guest(interfaces=[nic("net0", bridge="br0")]), a_foreign(nics=(LAN, DMZ)))
    (problem,) = made.problems
    assert f'- {{name: net1, mac: "{LAN.mac}", network: lan}}' in problem


def test_interfaces_that_documents_have_no_words_for_are_left_alone() -> None:
    macvtap = replace(DMZ, kind="direct", source="eth0")
    old = replace(LAN, model="rtl8139")
    made = planned(a_guest(), a_foreign(nics=(macvtap, old)))
    assert made.problems == ()
    assert made.changes == ()
    assert made.step is not None
    assert dict(made.step.aliases) == {"vda": "disk-system"}


def test_an_old_model_is_taken_over_where_its_mac_is_named_and_the_change_is_shown() -> None:
    made = planned(
        a_guest(interfaces=[nic("lan", network="lan", mac=LAN.mac)]),
        a_foreign(nics=(replace(LAN, model="rtl8139"),)),
    )
    assert [(c.path, c.old, c.new) for c in made.changes] == [
        ("interfaces[lan].model", "rtl8139", "virtio")
    ]


def test_two_interfaces_of_one_mac_are_a_problem_before_anything_is_done() -> None:
    twin = replace(LAN, source="other")
    made = planned(a_guest(interfaces=[nic("lan", network="lan")]), a_foreign(nics=(LAN, twin)))
    assert made.step is None
    assert f"2 of its interfaces have the MAC address {LAN.mac}" in made.problems[0]


def test_a_mac_of_an_interface_of_another_kind_is_a_problem() -> None:
    made = planned(
        a_guest(interfaces=[nic("lan", network="lan", mac=DMZ.mac)]),
        a_foreign(nics=(replace(DMZ, kind="direct", source="eth0"),)),
    )
    assert "virsh detach-interface web1 direct" in made.problems[0]


def test_user_networking_among_qemus_arguments_is_taken_over() -> None:
    user = NicConfig(LAN.mac, "user", "", LAN.mac, forwards=("127.0.0.1:8080:80/tcp",))
    wish = nic("nat", user={"forwards": ["127.0.0.1:8080:80/tcp"]})
    made = planned(a_guest(interfaces=[wish]), a_foreign(nics=(user,)))
    assert made.problems == ()
    assert made.changes == ()
    wrong = planned(
        a_guest(interfaces=[nic("lan", network="lan", mac=LAN.mac)]), a_foreign(nics=(user,))
    )
    assert "of kind user, and cannot become another; write user: {}" in wrong.problems[0]


def test_libvirts_own_user_networking_is_left_alone_unless_its_mac_is_named() -> None:
    user = NicConfig(LAN.mac, "user", LIBVIRT_USER, LAN.mac)
    alone = planned(a_guest(), a_foreign(nics=(user,)))
    assert (alone.problems, alone.changes) == ((), ())
    named = planned(a_guest(interfaces=[nic("nat", mac=LAN.mac, user={})]), a_foreign(nics=(user,)))
    assert [(c.path, str(c.change)) for c in named.changes] == [("interfaces[nat].user", "restart")]


# --- the plan -------------------------------------------------------------------------------------


def test_a_domain_that_is_as_written_is_adopted_without_a_change() -> None:
    guest = a_guest(disks=[disk("data")], interfaces=[nic("lan", network="lan")])
    made = planned(guest, a_foreign(SYSTEM, DATA, nics=(LAN,)), volumes=volumes(data_qcow2=GIB))
    assert made.problems == ()
    assert made.changes == ()
    assert made.step is not None
    owner = made.step.ownership
    assert (owner.uid, owner.name, owner.generation, owner.digest) == (UUID, "web1", 1, "")
    assert (owner.created, owner.base, owner.spec) == (NOW, "", "")
    assert (owner.record.controller, owner.record.deletion_policy) == ("me", "Retain")
    assert [(one.alias, one.volume) for one in owner.record.volumes] == [
        ("disk-system", "web1.img"),
        ("disk-data", "data.qcow2"),
    ]
    assert [(one.alias, one.mac) for one in owner.record.macs] == [("nic-lan", LAN.mac)]
    assert [(place, alias) for place, _, alias in told_places(made)] == [
        ("vda", "disk-system"),
        ("vdb", "disk-data"),
        (LAN.mac, "nic-lan"),
    ]


def test_what_would_change_is_what_the_planner_says_of_it_afterwards() -> None:
    throttled = replace(SYSTEM, io_tune=IoTune(total_iops_sec=100))
    guest = a_guest(cpu={"vcpus": 2}, title="The web", autostart=True)
    made = planned(guest, a_foreign(throttled, on_crash="restart", agent_channel=False))
    assert {c.path: str(c.change) for c in made.changes} == {
        "title": "live",
        "cpu.vcpus": "restart",
        "autostart": "live",
        "systemDisk.ioTune": "live",
        "domain.on_crash": "restart",
        "domain.agentChannel": "restart",
    }


def test_its_digest_is_another_where_something_else_would_be_done() -> None:
    guest, domain = a_guest(disks=[disk("data")]), a_foreign(SYSTEM, DATA)
    first = planned(guest, domain)
    assert first.digest
    assert planned(guest, domain).digest == first.digest
    others = [
        planned(a_guest(disks=[disk("data")], title="x"), domain),
        planned(a_guest(disks=[disk("logs")]), domain),
        planned(guest, a_foreign(replace(SYSTEM, volume="/pool/x.img"), DATA)),
        planned(guest, domain, volumes=volumes(data_qcow2=GIB // 2)),
    ]
    assert len({first.digest, *(one.digest for one in others)}) == 5
    assert first.step is not None
    assert first.step.disks == (("vda", "", "/pool/web1.img"), ("vdb", "default", "data.qcow2"))


def test_a_smaller_size_in_the_document_is_refused_not_carried_out() -> None:
    made = planned(
        a_guest(disks=[disk("data", "1Gi")]),
        a_foreign(SYSTEM, DATA),
        volumes=volumes(data_qcow2=5 * GIB),
    )
    assert [(c.path, str(c.change)) for c in made.changes] == [("disks[data].size", "immutable")]
    assert made.after is not None
    assert "GrowDisk" not in [step_name(step) for step in made.after.steps]


@pytest.mark.parametrize(("strategy", "follows"), [("Always", True), ("Manual", False)])
def test_a_domain_that_is_off_is_started_afterwards_if_its_strategy_says_so(
    strategy: str, follows: bool
) -> None:
    guest = a_guest(runStrategy=strategy)
    made = planned(guest, a_foreign(state=DomainState.SHUTOFF))
    assert made.after is not None
    assert ("StartDomain" in [step_name(step) for step in made.after.steps]) is follows


def test_services_that_differ_inside_are_among_the_changes_once_seen() -> None:
    web = a_service()
    guest = a_guest(services=(web,))
    domain = a_foreign(view={"agent_connected": True})
    unseen = planned(guest, domain)
    assert (unseen.changes, unseen.inside_seen) == ((), False)
    seen = planned(guest, domain, inside=an_inside(guest, hostname="old-name"))
    assert [(c.path, c.old) for c in seen.changes] == [("hostname", "old-name")]
    assert seen.inside_seen


def test_a_transient_domain_becomes_persistent_and_that_is_shown() -> None:
    made = planned(a_guest(), a_foreign(view={"persistent": False}))
    assert [(c.path, c.new) for c in made.changes] == [("definition", "persistent")]


@pytest.mark.parametrize(
    ("view", "words"),
    [
        ({"running_job": True}, "a job"),
        (
            {"ownership": Ownership("other", "web0", 1, "", "")},
            "virsh metadata web1 urn:guestkeeper:v1 --remove",
        ),
    ],
)
def test_what_is_in_the_way_is_told_with_its_remedy(view: dict[str, Any], words: str) -> None:
    made = planned(a_guest(), a_foreign(view=view))
    assert made.step is None
    assert words in made.problems[0]


def test_without_a_domain_there_is_nothing_to_adopt() -> None:
    with pytest.raises(ValueError, match="no domain"):
        plan_adoption(a_guest(), Observed(HOST), NOW, POLICY)
