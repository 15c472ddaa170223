"""The hypervisor room on libvirt's test driver: two hosts, events, what a resync costs."""

import io
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import libvirt
import pytest

from controller.errors import HostBusyError, HostUnreachableError, PermanentError, TransientError
from controller.hypervisor.connection.config import HostConfig, Role
from controller.hypervisor.hypervisor import Hypervisor
from controller.hypervisor.xml.render import Dialect, render
from controller.observed.domain import (
    DiskConfig,
    DomainConfig,
    DomainState,
    GuestRecord,
    NicConfig,
    Ownership,
    StateReason,
)
from tests.libvirt.nodes import node
from tests.waiting import wait_until

pytestmark = pytest.mark.libvirt
MIB = 2**20

NODE = node()


@pytest.fixture
def events() -> list[tuple[str, str, str]]:
    return []


@pytest.fixture
def calls() -> list[tuple[str, str, str]]:
    return []


@pytest.fixture
def hypervisor(
    tmp_path: Path, events: list[tuple[str, str, str]], calls: list[tuple[str, str, str]]
) -> Iterator[Hypervisor]:
    hosts = []
    for name in ("a", "b"):
        file = tmp_path / f"{name}.xml"
        file.write_text(NODE)
        hosts.append(HostConfig(name, f"test://{file}", "gk", {"gk": f"/gk-{name}"}))
    one = Hypervisor(
        hosts,
        on_event=lambda *event: events.append(event),
        on_call=lambda host, operation, code, _: calls.append((host, operation, code)),
    )
    one.open()
    yield one
    one.close()


def config_of(name: str = "web1") -> DomainConfig:
    return DomainConfig(
        name=name,
        uuid=str(uuid.uuid5(uuid.NAMESPACE_URL, name)),
        accelerator="tcg",
        vcpus=1,
        max_vcpus=4,
        memory=512 * MIB,
        max_memory=2048 * MIB,
        firmware="bios",
        boot=None,
        disks=(
            DiskConfig("disk-system", "gk", f"{name}.qcow2"),
            DiskConfig("cdrom-seed", "gk", f"{name}.iso", "raw", "cdrom", "sda"),
        ),
        nics=(NicConfig("nic-lan", "user", "", "52:54:00:00:00:01", ("127.0.0.1:18080:80/tcp",)),),
    )


def ours(name: str = "web1", generation: int = 1) -> Ownership:
    return Ownership(config_of(name).uuid, name, generation, "", "{}")


def state(hypervisor: Hypervisor, host: str, name: str) -> tuple[DomainState, StateReason]:
    view = hypervisor.domain(host, name)
    assert view is not None
    return view.state, view.reason


def test_hosts_are_worlds_of_their_own(hypervisor: Hypervisor) -> None:
    assert set(hypervisor.hosts()) == {"a", "b"}
    hypervisor.define("a", config_of(), ours())
    assert hypervisor.owned("a") == {"web1"}
    assert hypervisor.owned("b") == frozenset()
    assert hypervisor.domain("b", "web1") is None
    assert hypervisor.host("a").pools["gk"].path == "/gk-a"
    assert hypervisor.host("a").reachable
    assert not hypervisor.host("a").kvm


def test_an_unknown_host_is_a_permanent_error_that_names_the_known_ones(
    hypervisor: Hypervisor,
) -> None:
    with pytest.raises(PermanentError, match=r"known: a, b.*add \[hosts.c\]"):
        hypervisor.domain("c", "web1")


def test_an_unreachable_host_says_why_and_the_others_work(
    tmp_path: Path,
) -> None:
    seen: list[tuple[str, bool, str]] = []
    nowhere = f"qemu+unix:///system?socket={tmp_path}/nowhere"
    one = Hypervisor(
        [HostConfig("gone", nowhere), HostConfig("here", "test:///default")],
        on_host=lambda *event: seen.append(event),
    )
    one.open()
    view = one.host("gone")
    assert (view.reachable, one.host("here").reachable) == (False, True)
    assert "nowhere" in view.why
    with pytest.raises(HostUnreachableError, match="nowhere"):
        one.domain("gone", "web1")
    with pytest.raises(HostUnreachableError, match="nowhere"):
        one.resync("gone")
    assert [(host, up) for host, up, _ in sorted(seen)] == [("gone", False), ("here", True)]
    one.close()


def test_the_life_of_a_domain(hypervisor: Hypervisor) -> None:
    hypervisor.define("a", config_of(), ours())
    view = hypervisor.domain("a", "web1")
    assert view is not None
    assert (view.config, view.ownership, view.live) == (config_of(), ours(), None)
    for _ in range(2):
        hypervisor.start("a", "web1")
        assert state(hypervisor, "a", "web1")[0] is DomainState.RUNNING
    view = hypervisor.domain("a", "web1")
    assert view is not None
    assert view.live == config_of()
    for _ in range(2):
        hypervisor.shutdown("a", "web1")
        assert state(hypervisor, "a", "web1") == (DomainState.SHUTOFF, StateReason.SHUTDOWN)
    hypervisor.start("a", "web1")
    for _ in range(2):
        hypervisor.destroy("a", "web1")
        assert state(hypervisor, "a", "web1") == (DomainState.SHUTOFF, StateReason.DESTROYED)


def test_a_run_that_is_over_is_neither_asked_nor_powered_off(hypervisor: Hypervisor) -> None:
    hypervisor.define("a", config_of(), ours())
    hypervisor.start("a", "web1")
    first = hypervisor.domain("a", "web1")
    assert first is not None
    hypervisor.destroy("a", "web1", first.run)
    hypervisor.start("a", "web1")
    for end in (hypervisor.shutdown, hypervisor.destroy):
        with pytest.raises(HostBusyError) as refused:
            end("a", "web1", first.run)
        assert refused.value.reason == "RunChanged"
        assert state(hypervisor, "a", "web1")[0] is DomainState.RUNNING
    second = hypervisor.domain("a", "web1")
    assert second is not None
    hypervisor.shutdown("a", "web1", second.run)
    for end in (hypervisor.shutdown, hypervisor.destroy):  # off is what was wanted
        end("a", "web1", second.run)
    assert state(hypervisor, "a", "web1") == (DomainState.SHUTOFF, StateReason.SHUTDOWN)


def test_defining_again_changes_the_definition_and_keeps_the_domain(
    hypervisor: Hypervisor,
) -> None:
    hypervisor.define("a", config_of(), ours())
    more = replace(config_of(), vcpus=2, memory=1024 * MIB, title="bigger")
    hypervisor.define("a", more, ours(generation=2))
    view = hypervisor.domain("a", "web1")
    assert view is not None
    assert (view.config, view.ownership) == (more, ours(generation=2))


def test_ownership_carries_the_memory(hypervisor: Hypervisor) -> None:
    hypervisor.define("a", config_of(), ours())
    wanted = replace(ours(), spec='{"ä": "<&>"}', digest="d", record=GuestRecord(3, 1.5))
    hypervisor.set_ownership("a", "web1", wanted)
    view = hypervisor.domain("a", "web1")
    assert view is not None
    assert view.ownership == wanted


def test_ejecting_empties_the_drive(hypervisor: Hypervisor) -> None:
    hypervisor.define("a", config_of(), ours())
    for _ in range(2):
        hypervisor.eject("a", "web1", "cdrom-seed")
        view = hypervisor.domain("a", "web1")
        assert view is not None
        assert [disk.volume for disk in view.config.disks] == ["web1.qcow2", None]


def test_a_foreign_domain_or_another_uuid_is_a_conflict(hypervisor: Hypervisor) -> None:
    link = hypervisor._hosts["a"].link
    xml = render(config_of("theirs"), None, Dialect.TEST)
    link.call(Role.ACT, "define", lambda one: one.defineXML(xml), 5)
    hypervisor.define("a", config_of(), ours())
    wanted = replace(config_of(), uuid=str(uuid.uuid4()))
    for write in (
        lambda: hypervisor.define("a", config_of("theirs"), ours("theirs")),
        lambda: hypervisor.start("a", "theirs"),
        lambda: hypervisor.destroy("a", "theirs"),
        lambda: hypervisor.set_ownership("a", "theirs", ours("theirs")),
        lambda: hypervisor.define("a", wanted, ours()),
    ):
        with pytest.raises(PermanentError) as caught:
            write()
        assert caught.value.reason == "NameConflict"
    assert hypervisor.owned("a") == {"web1"}


def test_a_domain_that_is_gone_is_a_transient_error(hypervisor: Hypervisor) -> None:
    with pytest.raises(TransientError) as caught:
        hypervisor.start("a", "nobody")
    assert caught.value.reason == "DomainMissing"


def test_a_running_domain_gets_what_the_driver_can_give(hypervisor: Hypervisor) -> None:
    assert not hypervisor.host("a").hotplug
    hypervisor.define("a", config_of(), ours())
    hypervisor.start("a", "web1")
    wanted = replace(config_of(), vcpus=3, memory=1024 * MIB, title="new", description="two")
    for _ in range(2):
        hypervisor.define("a", wanted, ours())
        hypervisor.set_vcpus("a", "web1", 3)
        hypervisor.set_memory("a", "web1", 1024 * MIB)
        hypervisor.set_title("a", "web1", "new", "two")
        hypervisor.set_autostart("a", "web1", True)
        view = hypervisor.domain("a", "web1")
        assert view is not None
        assert (view.config, view.live, view.autostart) == (wanted, wanted, True)
    hypervisor.set_title("a", "web1", "", "")
    hypervisor.set_autostart("a", "web1", False)
    view = hypervisor.domain("a", "web1")
    assert view is not None and view.live is not None
    assert (view.live.title, view.live.description, view.autostart) == ("", "", False)


def test_what_the_driver_cannot_is_a_permanent_error(hypervisor: Hypervisor) -> None:
    hypervisor.define("a", config_of(), ours())
    hypervisor.start("a", "web1")
    more = DiskConfig("disk-data", "gk", "data", target="vdb")
    hypervisor.define("a", replace(config_of(), disks=(*config_of().disks, more)), ours())
    for change in (
        lambda: hypervisor.plug("a", "web1", "disk-data"),
        lambda: hypervisor.plug("a", "web1", "nic-lan"),
        lambda: hypervisor.unplug("a", "web1", "disk-system", 5),
        lambda: hypervisor.update_device("a", "web1", "cdrom-seed"),
        lambda: hypervisor.grow_disk("a", "web1", "disk-system", 2**40),
    ):
        with pytest.raises(PermanentError) as caught:
            change()
        assert caught.value.reason == "NotSupported"


def test_a_definition_is_forgotten_when_its_domain_is_off(hypervisor: Hypervisor) -> None:
    hypervisor.define("a", config_of(), ours())
    hypervisor.start("a", "web1")
    with pytest.raises(TransientError, match="still runs"):
        hypervisor.undefine("a", "web1")
    hypervisor.destroy("a", "web1")
    for _ in range(2):
        hypervisor.undefine("a", "web1")
        assert hypervisor.domain("a", "web1") is None


def test_a_foreign_domain_is_adopted_while_it_runs(hypervisor: Hypervisor) -> None:
    foreign = (
        render(config_of(), None, Dialect.TEST)
        .replace('<alias name="ua-disk-system" />', "")
        .replace('<alias name="ua-cdrom-seed" />', "")
        .replace("ua-nic-lan", "u0")
    )
    link = hypervisor._hosts["a"].link
    link.call(Role.ACT, "other", lambda one: one.defineXML(foreign).create(), 5)
    hypervisor.resync("a", deep=True)
    before = hypervisor.domain("a", "web1")
    assert before is not None and before.live is not None
    assert before.ownership is None
    mac = config_of().nics[0].mac
    assert [disk.alias for disk in before.live.disks] == ["vda", "sda"]
    assert [nic.alias for nic in before.live.nics] == [mac]
    aliases = {"vda": "disk-system", "sda": "cdrom-seed", mac: "nic-lan"}
    with pytest.raises(PermanentError, match="has another UUID"):
        hypervisor.adopt("a", str(uuid.uuid4()), ours(), aliases)
    for _ in range(2):
        hypervisor.adopt("a", before.uuid, ours(), aliases)
        view = hypervisor.domain("a", "web1")
        assert view is not None
        assert (view.ownership, view.run) == (ours(), before.run)
        assert view.config == view.live == config_of()
    assert hypervisor.owned("a") == {"web1"}


def test_a_volume_grows_and_never_shrinks(hypervisor: Hypervisor) -> None:
    base = hypervisor.create_volume("a", "gk", "base", capacity=MIB)
    overlay = hypervisor.create_volume(
        "a", "gk", "disk", capacity=2 * MIB, backing=(base.path, "qcow2")
    )
    for _ in range(2):
        hypervisor.grow_volume("a", "gk", "disk", 3 * MIB)
        grown = hypervisor.volume("a", "gk", "disk")
        assert grown is not None
        assert (grown.capacity, grown.backing) == (3 * MIB, overlay.backing)
    with pytest.raises(PermanentError) as caught:
        hypervisor.grow_volume("a", "gk", "disk", 2 * MIB)
    assert caught.value.reason == "WouldShrink"


def test_events_are_told_and_name_the_domain(
    hypervisor: Hypervisor, events: list[tuple[str, str, str]]
) -> None:
    hypervisor.define("a", config_of(), ours())
    hypervisor.start("a", "web1")
    hypervisor.set_ownership("a", "web1", ours(generation=2))
    hypervisor.destroy("a", "web1")
    for kind in ("defined", "started", "metadata", "stopped"):
        wait_until(lambda kind=kind: ("a", "web1", kind) in events, 5, f"event {kind}")


def test_what_others_do_is_seen_by_event_and_by_resync(
    hypervisor: Hypervisor, events: list[tuple[str, str, str]]
) -> None:
    link = hypervisor._hosts["a"].link
    xml = render(config_of(), ours(), Dialect.TEST)

    def other(one: libvirt.virConnect) -> None:
        one.defineXML(xml).create()

    link.call(Role.ACT, "other", other, 5)
    wait_until(lambda: ("a", "web1", "started") in events, 5, "the event")
    assert state(hypervisor, "a", "web1")[0] is DomainState.RUNNING
    view = hypervisor.domain("a", "web1")
    assert view is not None and view.started_at is not None


def test_a_saved_run_is_told_by_event_and_when_everything_is_listed(
    hypervisor: Hypervisor,
) -> None:
    one = hypervisor._hosts["a"]
    hypervisor.define("a", config_of(), ours())
    hypervisor.define("a", config_of("web2"), ours("web2"))
    hypervisor.start("a", "web1")
    one.link.call(Role.ACT, "save", lambda it: it.lookupByName("web1").managedSave(0), 5)

    def saved() -> list[bool]:
        views = [hypervisor.domain("a", name) for name in ("web1", "web2")]
        return [view.saved for view in views if view is not None]

    wait_until(lambda: saved() == [True, False], 5, "it is seen to be saved")
    with one.index._lock:
        one.index._entries.clear()
    one.index._relist(one.link._session)
    assert saved() == [True, False]
    hypervisor.start("a", "web1")
    assert saved() == [False, False]


def test_resync_finds_what_no_event_told(hypervisor: Hypervisor) -> None:
    hypervisor.define("a", config_of(), ours())
    hypervisor.define("a", config_of("web2"), ours("web2"))
    hypervisor.owned("a")
    index = hypervisor._hosts["a"].index
    link = hypervisor._hosts["a"].link
    assert hypervisor.resync("a") == frozenset()
    index._happened = lambda *_: None  # type: ignore[method-assign]
    link.call(Role.EVENTS, "deafen", _deafen, 5)

    def others(one: libvirt.virConnect) -> None:
        one.lookupByName("web1").create()
        one.lookupByName("web2").undefine()
        one.defineXML(render(config_of("web3"), ours("web3"), Dialect.TEST))

    link.call(Role.ACT, "others", others, 5)
    assert hypervisor.resync("a") == {"web1", "web2", "web3"}
    assert hypervisor.resync("a") == frozenset(), "told once, also where nobody looked"
    assert state(hypervisor, "a", "web1")[0] is DomainState.RUNNING
    assert hypervisor.domain("a", "web2") is None
    assert hypervisor.owned("a") == {"web1", "web3"}
    assert hypervisor.resync("a") == frozenset()
    changed = render(replace(config_of(), title="new"), ours(), Dialect.TEST)
    link.call(Role.ACT, "others", lambda one: one.defineXML(changed), 5)
    assert hypervisor.resync("a") == frozenset()
    assert hypervisor.resync("a", deep=True) == {"web1"}


def _deafen(connection: libvirt.virConnect) -> None:
    for identity in list(connection.domainEventCallbackID):
        connection.domainEventDeregisterAny(identity)


def test_volumes(hypervisor: Hypervisor) -> None:
    assert hypervisor.volume("a", "gk", "base") is None
    told: list[int] = []
    base = hypervisor.upload_volume(
        "a", "gk", "base", io.BytesIO(b"x" * 1000), 1000, format="qcow2", progress=told.append
    )
    assert (base.format, base.capacity, told) == ("qcow2", 1000, [1000])
    overlay = hypervisor.create_volume(
        "a", "gk", "disk", capacity=10 * MIB, backing=(base.path, "qcow2")
    )
    assert (overlay.backing, overlay.capacity) == (base.path, 10 * MIB)
    again = hypervisor.create_volume(
        "a", "gk", "disk", capacity=10 * MIB, backing=(base.path, "qcow2")
    )
    assert again == overlay == hypervisor.volume("a", "gk", "disk")
    with pytest.raises(PermanentError, match=r"gk/disk exists and is qcow2 on .*/base, not raw"):
        hypervisor.create_volume("a", "gk", "disk", capacity=1, format="raw")
    for _ in range(2):
        hypervisor.delete_volume("a", "gk", "disk")
    assert hypervisor.volume("a", "gk", "disk") is None
    with pytest.raises(PermanentError, match="no storage pool nowhere"):
        hypervisor.volume("a", "nowhere", "disk")


def test_a_source_that_ends_early_leaves_no_volume(hypervisor: Hypervisor) -> None:
    with pytest.raises(TransientError, match="ended after 3 of 10 bytes"):
        hypervisor.upload_volume(
            "a", "gk", "base", io.BytesIO(b"abc"), 10, format="raw", progress=lambda _: None
        )
    assert hypervisor.volume("a", "gk", "base") is None


@pytest.mark.long
def test_ten_thousand_domains_cost_one_bulk_call_and_no_xml(
    hypervisor: Hypervisor, calls: list[tuple[str, str, str]]
) -> None:
    template = render(replace(config_of("NAME"), uuid="UUID"), replace(ours("NAME")), Dialect.TEST)

    def define(one: libvirt.virConnect) -> None:
        for number in range(10_000):
            one.defineXML(template.replace("NAME", f"d{number}").replace("UUID", str(uuid.uuid4())))

    link = hypervisor._hosts["a"].link
    link.call(Role.ACT, "define many", define, 300)
    hypervisor.resync("a")
    assert len(hypervisor.owned("a")) == 10_000
    wait_until(lambda: hypervisor.resync("a") == frozenset(), 60, "the events are through")
    for number in range(10_000):
        hypervisor.domain("a", f"d{number}")
    before = hypervisor.xml_reads("a")
    calls.clear()
    for _ in range(5):
        assert hypervisor.resync("a") == frozenset()
        for number in range(0, 10_000, 100):
            assert hypervisor.domain("a", f"d{number}") is not None
    assert hypervisor.xml_reads("a") == before
    assert calls == [("a", "list domains", "ok")] * 5


def test_which_domain_has_an_address_is_known_at_once_of_foreign_ones_too(
    hypervisor: Hypervisor,
) -> None:
    mac, port = "52:54:00:00:00:01", "127.0.0.1:18080/tcp"

    def holders(*addresses: str, of: str = "new") -> set[tuple[str, str, bool, bool, bool]]:
        found = hypervisor.address_users("a", of, addresses)
        return {(one.address, one.holder, one.running, one.defined, one.ours) for one in found}

    assert holders(mac, port) == set()
    hypervisor.define("a", config_of(), ours())
    assert holders(mac, port) == {
        (mac, "web1", False, True, True),
        (port, "web1", False, True, True),
    }
    assert holders(mac, port, of="web1") == set(), "its own are in nobody's way"
    assert holders("0.0.0.0:18080/tcp") == {("0.0.0.0:18080/tcp", "web1", False, True, True)}
    hypervisor.start("a", "web1")
    other = replace(config_of().nics[0], mac="52:54:00:00:00:02", forwards=())
    hypervisor.define("a", replace(config_of(), nics=(other,)), ours())
    assert holders(mac, port, other.mac) == {
        (mac, "web1", True, False, True),
        (port, "web1", True, False, True),
        (other.mac, "web1", False, True, True),
    }, "what it runs with it keeps until its cold boot"
    hypervisor.destroy("a", "web1")
    assert holders(mac, port) == set()

    foreign = render(replace(config_of("stranger"), nics=config_of().nics), None, Dialect.TEST)
    foreign = foreign.replace(mac, mac.upper())

    def act(call: str) -> None:
        def do(connection: libvirt.virConnect) -> None:
            if call == "define":
                connection.defineXML(foreign)
                return
            domain = connection.lookupByName("stranger")
            getattr(domain, call)()

        link = hypervisor._hosts["a"].link
        link.call(Role.ACT, "stranger", do, 5)

    for call, running in (("define", False), ("create", True), ("destroy", False)):
        act(call)
        wait_until(
            lambda running=running: (  # type: ignore[misc]
                holders(mac, port)
                == {
                    (mac, "stranger", running, True, False),
                    (port, "stranger", running, True, False),
                }
            ),
            5,
            f"{call} of a foreign domain is seen",
        )
    act("undefine")
    wait_until(lambda: holders(mac, port) == set(), 5, "it is gone")
