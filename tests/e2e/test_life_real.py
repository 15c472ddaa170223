"""What is changed about a running guest, by its document or behind the daemon's back, on real QEMU.

Each change is seen inside the guest or in libvirt, with exactly its class's disruption; taken back,
it is as before; and then there is nothing to plan. One guest serves all tests of changes without a
boot; what takes one comes last.
"""

import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import libvirt
import pytest

from tests.e2e import looks
from tests.e2e.life import MIB, Life, Run, a_life, two_networks
from tests.e2e.system_libvirtd import AVAILABLE
from tests.standin.standin import iso

pytestmark = pytest.mark.e2e
BOTH = libvirt.VIR_DOMAIN_AFFECT_LIVE | libvirt.VIR_DOMAIN_AFFECT_CONFIG
LIVE = libvirt.VIR_DOMAIN_AFFECT_LIVE
CONFIG = libvirt.VIR_DOMAIN_AFFECT_CONFIG
DATA = {"name": "data", "size": "16Mi"}
TOOLS = "tools.iso"


@pytest.fixture(scope="module")
def life(prefix: str) -> Iterator[Life]:
    with a_life(prefix) as made:
        yield made


@pytest.fixture(scope="module")
def name(life: Life, prefix: str) -> str:
    """The guest that all tests of this module change; it is made here, and Ready."""
    name = f"{prefix}life"
    pool = life.site.libvirtd.root / "pool"
    life.write(name, life.spec(name, cdroms=[{"name": "drive"}]))
    life.site.wait_ready(name, timeout=60)
    (pool / TOOLS).write_bytes(iso("TOOLS", {"readme": "tools"}))
    life.connection.storagePoolLookupByName("gk").refresh()
    life.settled(name)
    return name


@pytest.fixture(scope="module")
def networks(life: Life) -> Iterator[tuple[str, str]]:
    if not AVAILABLE:
        pytest.skip("only a privileged libvirtd plugs interfaces into bridges")
    with two_networks(life, secrets.token_hex(2)) as made:
        yield made


def test_a_micro_guest_becomes_ready_and_serves(life: Life, name: str) -> None:
    life.site.serves(name, "image one")
    assert life.inside(name, "cat /etc/image /srv/hello.txt") == f"image one\nhello {name}"
    assert life.inside(name, "hostname") == name
    life.plans_nothing(name)


# --- Changes that a running guest takes -----------------------------------------------------------


@dataclass(frozen=True)
class Field:
    """A field (its key is ``of``), what is written, and what then shows, by ``look``."""

    of: str
    changes: dict[str, Any]
    look: Callable[[Life, str], str]
    shows: str


FIELDS = [
    Field("title", {"title": "Ledger"}, looks.title(libvirt.VIR_DOMAIN_METADATA_TITLE), "Ledger"),
    Field(
        "description",
        {"description": "Of the accounts"},
        looks.title(libvirt.VIR_DOMAIN_METADATA_DESCRIPTION),
        "Of the accounts",
    ),
    Field("autostart", {"autostart": True}, looks.autostart, "yes"),
    Field(
        "systemDisk.ioTune",
        {"systemDisk": {"ioTune": {"totalIopsSec": 5000}}},
        looks.limits("vda"),
        "5000/0 5000/0",
    ),
    Field(
        "disks.ioTune",
        {"disks": [{**DATA, "ioTune": {"totalIopsSec": 700, "writeBytesSec": "4Mi"}}]},
        looks.limits("vdb"),
        "700/4194304 700/4194304",
    ),
    Field(
        "disks",
        {"disks": [DATA, {"name": "extra", "size": "8Mi"}]},
        looks.disks,
        "16384 8192",
    ),
    Field("cdroms.volume", {"cdroms": [{"name": "drive", "volume": TOOLS}]}, looks.medium, "TOOLS"),
]


@pytest.mark.parametrize("field", FIELDS, ids=[field.of for field in FIELDS])
def test_a_live_change_shows_at_once_and_taken_back_all_is_as_before(
    life: Life, name: str, field: Field
) -> None:
    run, was = life.run(name), field.look(life, name)
    assert was != field.shows
    before = life.put(name, **field.changes)
    assert field.look(life, name) == field.shows
    life.plans_nothing(name)
    life.read(name, before)
    life.settled(name)
    assert field.look(life, name) == was
    life.plans_nothing(name)
    assert life.run(name) == run


def test_memory_is_given_and_taken_through_the_balloon(life: Life, name: str) -> None:
    run = life.run(name)
    small = int(looks.memory(life, name))
    before = life.put(name, memory={"size": "144Mi", "max": "160Mi"})
    life.sees(name, lambda: looks.memory(life, name), str(small + 1))
    life.plans_nothing(name)
    life.read(name, before)
    life.settled(name)
    life.sees(name, lambda: looks.memory(life, name), str(small))
    assert life.run(name) == run


def test_disks_grow_in_the_running_guest_and_never_shrink(life: Life, name: str) -> None:
    run = life.run(name)
    life.inside(name, "echo precious >/data/kept")
    grown = {"disks": [{"name": "data", "size": "24Mi"}], "systemDisk": {"size": "64Mi"}}
    life.put(name, **grown)
    system = "awk '/vda$/ {print $3}' /proc/partitions"
    life.sees(name, lambda: life.inside(name, system), "65536")
    life.sees(name, lambda: looks.disks(life, name), "24576")
    life.plans_nothing(name)
    before = life.specs[name]
    life.read(name, before | {"disks": [{"name": "data", "size": "16Mi"}]})
    said = life.told(name, "Synced", "ChangeRefused")
    assert "24Mi" in said
    life.read(name, before)
    life.settled(name)
    assert looks.disks(life, name) == "24576"
    assert life.inside(name, "cat /data/kept") == "precious"
    assert life.run(name) == run


def test_a_detached_data_disk_keeps_its_volume_and_comes_back_with_its_content(
    life: Life, name: str
) -> None:
    run = life.run(name)
    life.inside(name, "echo precious >/data/kept && sync")
    before = life.put(name, disks=[])
    assert looks.disks(life, name) == ""
    assert any("-data.qcow2" in volume for volume in life.site.volumes())
    life.read(name, before)
    life.settled(name)
    life.sees(name, lambda: life.inside(name, "cat /data/kept"), "precious")
    assert life.run(name) == run


def _card(domain: libvirt.virDomain, mac: str) -> str:
    """The interface's element, as it is now."""
    cards = re.findall(r"<interface .*?</interface>", domain.XMLDesc(), re.DOTALL)
    return next(card for card in cards if mac in card)


def _unplugged(domain: libvirt.virDomain, mac: str) -> None:
    card = _card(domain, mac).replace("<model ", "<link state='down'/><model ")
    domain.updateDeviceFlags(card, BOTH)


def _detached(domain: libvirt.virDomain, mac: str) -> None:
    domain.detachDeviceFlags(_card(domain, mac), BOTH)


def test_an_interface_is_plugged_in_moved_unplugged_and_removed(
    life: Life, name: str, networks: tuple[str, str]
) -> None:
    network, bridge = networks
    run = life.run(name)
    lan = life.specs[name]["interfaces"][0]
    began = life.specs[name]

    def cards() -> str:
        script = "cd /sys/class/net && for i in eth*; do echo $i $(cat $i/address $i/carrier); done"
        return life.inside(name, script).partition("\n")[2]

    def steps() -> list[tuple[dict[str, Any], str]]:
        mac = "52:54:00:00:be:ef"
        other = "52:54:00:00:be:f0"
        return [
            ({"mac": mac, "network": network}, f"eth1 {mac} 1"),
            ({"mac": mac, "bridge": bridge}, f"eth1 {mac} 1"),
            ({"mac": mac, "bridge": bridge, "link": "down"}, f"eth1 {mac} 0"),
            ({"mac": mac, "bridge": bridge}, f"eth1 {mac} 1"),
            ({"mac": other, "bridge": bridge, "model": "e1000e"}, ""),  # it has no driver for it
            ({"mac": other, "bridge": bridge}, f"eth1 {other} 1"),
        ]

    for nic, shown in steps():
        life.put(name, interfaces=[lan, {"name": "dmz", **nic}])
        life.sees(name, cards, shown)
        source = nic.get("network") or nic.get("bridge")
        assert f"='{source}'" in life.domain(name).XMLDesc()
        life.plans_nothing(name)
    for by_hand in (_unplugged, _detached):
        with life.repaired(name):
            by_hand(life.domain(name), "52:54:00:00:be:f0")
        life.sees(name, cards, "eth1 52:54:00:00:be:f0 1")
    life.read(name, began)
    life.settled(name)
    life.sees(name, cards, "")
    life.plans_nothing(name)
    assert life.run(name) == run


# --- What somebody else changes -------------------------------------------------------------------


def _by_hand_title(domain: libvirt.virDomain) -> None:
    domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_TITLE, "by hand", None, None, BOTH)


def _by_hand_detached(domain: libvirt.virDomain) -> None:
    xml = domain.XMLDesc()
    disk = next(part for part in xml.split("<disk ")[1:] if "dev='vdb'" in part)
    domain.detachDeviceFlags("<disk " + disk.split("</disk>")[0] + "</disk>", BOTH)


def _by_hand_memory(domain: libvirt.virDomain) -> None:
    domain.setMemoryFlags(144 * MIB // 1024, BOTH)


def _by_hand_limits(domain: libvirt.virDomain) -> None:
    domain.setBlockIoTune("vdb", {"total_iops_sec": 50}, BOTH)


@dataclass(frozen=True)
class Drift:
    of: str
    by_hand: Callable[[libvirt.virDomain], Any]
    look: Callable[[Life, str], str]


def _redefined(old: str, new: str) -> Callable[[libvirt.virDomain], None]:
    def by_hand(domain: libvirt.virDomain) -> None:
        xml = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE)
        assert old in xml
        domain.connect().defineXML(xml.replace(old, new))

    return by_hand


DRIFTS = [
    Drift("title", _by_hand_title, looks.title(libvirt.VIR_DOMAIN_METADATA_TITLE)),
    Drift("autostart", lambda domain: domain.setAutostart(1), looks.autostart),
    Drift(
        "memory.size", lambda domain: domain.setMemoryFlags(144 * MIB // 1024, BOTH), looks.memory
    ),
    Drift("ioTune", _by_hand_limits, looks.limits("vdb")),
    Drift("disks", _by_hand_detached, looks.disks),
    Drift(
        "the definition",
        lambda domain: domain.undefine(),
        lambda life, name: str(life.domain(name).isPersistent()),
    ),
    Drift(
        "memory.max, defined",
        lambda domain: domain.setMemoryFlags(
            192 * MIB // 1024, CONFIG | libvirt.VIR_DOMAIN_MEM_MAXIMUM
        ),
        looks.defined("<memory ", "<currentMemory"),
    ),
    Drift(
        "kernel arguments, defined",
        _redefined("micro=one", "micro=other"),
        looks.defined("<cmdline>"),
    ),
    Drift(
        "on_poweroff, defined",
        _redefined("<on_poweroff>destroy", "<on_poweroff>restart"),
        looks.defined("<on_poweroff>"),
    ),
]


@pytest.mark.parametrize("drift", DRIFTS, ids=[drift.of for drift in DRIFTS])
def test_what_is_changed_behind_its_back_is_found_and_put_right(
    life: Life, name: str, drift: Drift
) -> None:
    run, was = life.run(name), drift.look(life, name)
    with life.repaired(name):
        drift.by_hand(life.domain(name))
    life.sees(name, lambda: drift.look(life, name), was)
    life.plans_nothing(name)
    assert life.run(name) == run


# --- Changes that take a cold boot ----------------------------------------------------------------


def _booted_anew(before: Run, after: Run) -> bool:
    return (before.uuid == after.uuid) and before.id != after.id and before.boot != after.boot


def test_vcpus_come_at_once_and_go_with_the_restart_that_an_operator_asks_for(
    life: Life, name: str
) -> None:
    run, disk = life.run(name), life.system_disk(name)
    before = life.put(name, cpu={"vcpus": 2, "max": 2})
    life.sees(name, lambda: looks.vcpus(life, name), "2")
    life.plans_nothing(name)
    assert life.run(name) == run
    life.read(name, before)
    assert "cpu.vcpus" in life.told(name, "RestartRequired", "DefinitionChanged")
    assert life.run(name) == run
    assert looks.vcpus(life, name) == "2"
    done = life.site.run("restart", name, "--wait", "--timeout=60s", timeout=90)
    assert done.returncode == 0, done.stdout + done.stderr
    life.settled(name)
    assert looks.vcpus(life, name) == "1"
    assert _booted_anew(run, life.run(name))
    assert life.system_disk(name) == disk
    assert life.condition(name, "RestartRequired") == ("", "", "")
    life.plans_nothing(name)


def test_a_staged_change_is_applied_by_itself_once_the_policy_says_so(
    life: Life, name: str
) -> None:
    run, small = life.run(name), int(looks.memory(life, name))
    before = life.specs[name]
    life.read(name, before | {"memory": {"size": "192Mi", "max": "192Mi"}})
    said = life.told(name, "RestartRequired", "DefinitionChanged")
    assert "memory.max" in said
    assert f"guestkeeper restart {name}" in said
    assert "memory.max" in life.site.run("explain", name).stdout
    assert life.run(name) == run
    life.put(name, updatePolicy={"restart": "Automatic"})
    assert int(looks.memory(life, name)) == small + 4
    once = life.run(name)
    assert _booted_anew(run, once)
    life.read(name, before)
    life.told(name, "RestartRequired", "DefinitionChanged")
    assert life.run(name) == once
    life.put(name, updatePolicy={"restart": "Automatic"})
    life.plans_nothing(name)
    assert int(looks.memory(life, name)) == small
    assert life.inside(name, "cat /etc/hostname") == name
