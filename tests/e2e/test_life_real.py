"""What is changed about a running guest, by its document or behind the daemon's back, on real QEMU.

Each change is seen inside the guest or in libvirt, with exactly its class's disruption; taken back,
it is as before; and then there is nothing to plan. One guest serves all tests of changes without a
boot; what takes one comes last.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import libvirt
import pytest

from tests.e2e import looks
from tests.e2e.life import Life, Run, a_life
from tests.standin.standin import iso

pytestmark = pytest.mark.e2e
BOTH = libvirt.VIR_DOMAIN_AFFECT_LIVE | libvirt.VIR_DOMAIN_AFFECT_CONFIG
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
        "disks",
        {"disks": [DATA, {"name": "extra", "size": "8Mi"}]},
        looks.disks,
        "16384 8192",
    ),
    Field("cdroms.volume", {"cdroms": [{"name": "drive", "volume": TOOLS}]}, looks.medium, "TOOLS"),
]
"""A few, by the commands of an operator; every field is in ``test_every_field_real``."""


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


# --- What somebody else changes -------------------------------------------------------------------


def _by_hand_title(domain: libvirt.virDomain) -> None:
    domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_TITLE, "by hand", None, None, BOTH)


@dataclass(frozen=True)
class Drift:
    of: str
    by_hand: Callable[[libvirt.virDomain], Any]
    look: Callable[[Life, str], str]


DRIFTS = [
    Drift("title", _by_hand_title, looks.title(libvirt.VIR_DOMAIN_METADATA_TITLE)),
    Drift(
        "the definition",
        lambda domain: domain.undefine(),
        lambda life, name: str(life.domain(name).isPersistent()),
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
