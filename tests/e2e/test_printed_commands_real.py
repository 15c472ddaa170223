"""Commands that messages and pages print, executed as printed, in the state that shows them.

Against a real libvirtd and QEMU of the test's own; domains have no operating system, and what
their guests would write, QEMU's monitor writes. ``tests/unit/docs/printed.py`` says which printed
command is executed by which test.
"""

import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import libvirt
import pytest

from controller.errors import PermanentError
from controller.observed.domain import (
    DiskConfig,
    DomainConfig,
    DomainState,
    GuestRecord,
    NicConfig,
    Ownership,
)
from controller.observed.guest import Observed
from controller.observed.host import VolumeView
from controller.observed.locating import located_view
from controller.planning.conditions import ConditionType
from controller.planning.host.trouble import spoiled
from controller.planning.plan import Plan
from controller.planning.planner import plan
from controller.planning.wanted.domain import placed
from tests.e2e.private_libvirtd import PrivateLibvirtd
from tests.e2e.system_libvirtd import AVAILABLE, SystemLibvirtd
from tests.e2e.test_live_changes_real import World, config_of
from tests.factories import NOW, POLICY, a_guest, a_ready_image

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(shutil.which("libvirtd") is None, reason="libvirtd is not installed"),
]
MIB = 2**20
BASE = "gk-base-debian12-0123456789ab.qcow2"
DEVICE = "/machine/peripheral/ua-disk-system/virtio-backend"


class Site(World):
    """The host, and a shell on it."""

    def __init__(self, daemon: PrivateLibvirtd) -> None:
        super().__init__(daemon)
        self.uri = daemon.uri

    def run(self, command: str, **environment: str) -> str:
        """One printed command; it must succeed."""
        done = subprocess.run(
            shlex.split(command),
            env={**os.environ, "LIBVIRT_DEFAULT_URI": self.uri, **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def volume_view(self, name: str) -> VolumeView:
        view = self.hypervisor.volume("real", "gk", name)
        assert view is not None
        return view

    def overlay(self, name: str, base: str) -> str:
        backing = (self.volume_view(base).path, "qcow2")
        self.hypervisor.create_volume("real", "gk", name, capacity=16 * MIB, backing=backing)
        return name

    def guest(self, name: str, base: str) -> DomainConfig:
        """A running guest of ours, whose system disk stands on ``base``."""
        disk = DiskConfig("disk-system", "gk", self.overlay(f"{name}-system.qcow2", base))
        config = config_of(name, disk)
        record = GuestRecord(**placed(config))
        owner = Ownership(config.uuid, name, 1, "", "{}", record, base=base)
        self.hypervisor.define("real", config, owner)
        self.hypervisor.start("real", name)
        return config

    def planned(self, name: str, **fields: object) -> Plan:
        self.hypervisor.resync("real", deep=True)
        host = self.hypervisor.host("real")
        domain = located_view(self.view(name), host.pools)
        names = [disk.place for disk in domain.config.disks] + [("gk", BASE), ("gk", f"{BASE}.ok")]
        volumes = {
            (pool, volume): view
            for pool, volume in names
            if volume is not None
            if (view := self.hypervisor.volume("real", pool, volume)) is not None
        }
        seen = replace(Observed(host, domain, volumes=volumes), **fields)  # type: ignore[arg-type]
        return plan(a_guest(name), seen, domain.record, NOW, POLICY)

    def told(self, name: str, reason: str) -> str:
        """What its Synced condition says, which must be for that reason."""
        synced = self.planned(name).condition(ConditionType.SYNCED)
        assert synced is not None
        assert synced.reason == reason, synced
        return synced.message

    def write(self, name: str, pattern: int) -> None:
        """What a guest would: 64 KiB of that byte at the beginning of its disk."""
        done = self.run(
            f"virsh qemu-monitor-command {name} --hmp"
            f" 'qemu-io -d {DEVICE} \"write -P {pattern} 0 64k\"'"
        )
        assert done.strip() == "", done  # what it says goes to QEMU's own output

    def reads(self, file: Path | str, pattern: int) -> bool:
        """Does a file (of a domain that may run) begin with that byte?"""
        done = subprocess.run(
            ["qemu-io", "-r", "-U", "-c", f"read -P {pattern} 0 64k", str(file)],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        return done.returncode == 0 and "Pattern verification failed" not in done.stdout


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    root = Path(tempfile.mkdtemp(prefix="gkt-"))
    root.chmod(0o755)
    daemon = (SystemLibvirtd if AVAILABLE else PrivateLibvirtd)(root)
    (root / "log" / "qemu").mkdir(parents=True, exist_ok=True)
    daemon.start()
    try:
        one = Site(daemon)
        yield one
        one.close()
    finally:
        daemon.stop()
        shutil.rmtree(root)


@pytest.fixture
def base(site: Site) -> Iterator[Path]:
    """A base with its marker, as an upload leaves it; gone after the test, with all guests."""
    site.volume(BASE)
    site.hypervisor.create_volume("real", "gk", f"{BASE}.ok", capacity=512, format="raw")
    yield site.pool / BASE
    for domain in site.connection.listAllDomains():
        if domain.isActive():
            domain.destroy()
        domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA)
    for file in site.pool.iterdir():
        file.unlink()
    site.connection.storagePoolLookupByName("gk").refresh(0)


def command(message: str, begins: str) -> str:
    """The command in a message: up to its end, or to what follows."""
    start = message.index(begins)
    return re.split(r"; |\. |, then ", message[start:])[0]


def snapshot(site: Site, name: str, number: int = 1) -> None:
    spec = f"vda,file={site.pool}/{name}.snap{number}"
    site.run(f"virsh snapshot-create-as {name} snap{number} --disk-only --diskspec {spec}")


@pytest.mark.parametrize("snapshots", [1, 2])
def test_the_printed_merge_of_a_snapshot_ends_on_the_guests_volume_and_leaves_the_base(
    site: Site, base: Path, snapshots: int
) -> None:
    before = base.read_bytes()
    config = site.guest("web1", BASE)
    for number in range(1, snapshots + 1):
        snapshot(site, "web1", number)
    site.write("web1", 7)
    merge = command(site.told("web1", "DiskMoved"), "virsh blockcommit")
    site.run(merge)
    view = located_view(site.view("web1"), site.hypervisor.host("real").pools)
    assert view.live is not None
    system = config.disk("disk-system")
    assert system is not None
    assert [disk.place for disk in (*view.config.disks, *view.live.disks)] == [system.place] * 2
    assert site.reads(site.pool / "web1-system.qcow2", 7)
    assert base.read_bytes() == before
    assert site.hypervisor.written_bases("real") == {}
    synced = site.planned("web1").condition(ConditionType.SYNCED)
    assert synced is not None
    assert synced.reason != "DiskMoved"


def test_a_guest_that_was_merged_into_its_base_gets_a_file_of_its_own_as_printed(
    site: Site, base: Path
) -> None:
    site.guest("web1", BASE)
    site.write("web1", 7)
    marker = site.volume_view(f"{BASE}.ok")
    os.utime(base, (marker.modified, marker.modified))
    site.run("virsh blockcommit web1 vda --active --wait --pivot")  # what was printed once
    message = site.told("web1", "DiskIsBase")
    assert site.hypervisor.written_bases("real") == {BASE: frozenset({"web1"})}
    assert site.reads(base, 7)
    os.utime(base, (marker.modified + 60, marker.modified + 60))  # as if it were a minute later
    with pytest.raises(PermanentError, match="is the disk of domain web1"):
        site.hypervisor.delete_volume("real", "gk", BASE)
    site.run(command(message, "virsh blockcopy"))
    own = site.pool / "web1-system-own.qcow2"
    assert site.reads(own, 7)
    assert site.hypervisor.written_bases("real") == {}
    # The base stays spoilt until it is made anew, and so is told.
    planned = site.planned("web1")
    provisioned = planned.condition(ConditionType.PROVISIONED)
    assert provisioned is not None
    assert provisioned.reason == "BaseChanged"
    assert "blockcommit" not in planned.sentence


def test_the_printed_end_of_a_marker_makes_a_base_that_is_made_anew(site: Site, base: Path) -> None:
    site.guest("web1", BASE)
    marker = site.volume_view(f"{BASE}.ok")
    os.utime(base, (marker.modified + 60, marker.modified + 60))
    assert site.volume_view(BASE).written_after(marker)
    image = a_ready_image(pool="gk", base=BASE, changed_at=site.volume_view(BASE).modified)
    site.run(command(spoiled(a_guest("web1"), image), "virsh vol-delete"))
    assert site.hypervisor.volume("real", "gk", f"{BASE}.ok") is None
    assert site.hypervisor.volume("real", "gk", BASE) is not None


def test_a_guest_that_is_off_on_a_base_gets_a_file_of_its_own_as_printed(
    site: Site, base: Path
) -> None:
    site.guest("web1", BASE)
    site.write("web1", 7)
    site.run("virsh blockcommit web1 vda --active --wait --pivot")
    site.hypervisor.destroy("real", "web1")
    message = site.told("web1", "DiskIsBase")
    assert not [step for step in site.planned("web1").steps if "Start" in type(step).__name__]
    convert = command(message, "qemu-img convert")
    site.run(convert)
    own = convert.split()[-1]
    shutil.chown(own, base.owner(), base.group())
    edit = command(message, "virsh edit")
    site.run(edit, EDITOR=f"sed -i s#{base}#{own}#")
    site.hypervisor.start("real", "web1")
    assert site.reads(own, 7)
    assert "of its own" not in site.told("web1", "DiskMoved")
    assert site.view("web1").config.disks[0].volume == own


def test_what_somebody_paused_goes_on_as_printed(site: Site, base: Path) -> None:
    site.guest("web1", BASE)
    site.run("virsh suspend web1")
    resume = command(site.planned("web1").sentence, "virsh resume")
    site.run(resume)
    assert site.view("web1").state is DomainState.RUNNING
    site.run("virsh destroy web1")
    assert site.view("web1").state is DomainState.SHUTOFF
    site.run("virsh start web1")
    assert site.view("web1").state is DomainState.RUNNING
    site.run("virsh destroy web1")
    site.run("virsh undefine web1")
    assert site.hypervisor.domain("real", "web1") is None


def test_a_foreign_domain_is_made_ready_as_printed(site: Site, base: Path) -> None:
    nic = NicConfig("nic-lan", "bridge", "gkt-none", "52:54:00:00:20:02")
    system = DiskConfig("disk-system", "gk", site.overlay("web1-system.qcow2", BASE))
    site.define(config_of("web1", system, nics=(nic,)))
    assert site.view("web1").ours
    site.run("virsh detach-interface web1 bridge --mac 52:54:00:00:20:02 --config")
    site.hypervisor.resync("real", deep=True)
    config = site.view("web1").config
    assert config.nics == ()
    site.run("virsh domrename web1 web2")
    assert site.hypervisor.domain("real", "web1") is None
    site.run("virsh start web2")
    for where in ("--config", "--live"):
        site.run(f"virsh metadata web2 urn:guestkeeper:v1 --remove {where}")
    assert not site.view("web2").ours


def test_a_pool_is_made_and_started_as_printed(site: Site) -> None:
    directory = site.pool.parent / "more"
    directory.mkdir()
    site.run(f"virsh pool-define-as more dir --target {directory}")
    try:
        with pytest.raises(PermanentError) as caught:
            site.hypervisor.volume("real", "more", "any")
        assert caught.value.reason == "PoolInactive"
        site.run(command(str(caught.value), "virsh pool-start"))
        assert site.hypervisor.volume("real", "more", "any") is None
        site.run("virsh pool-autostart more")
    finally:
        site.run("virsh pool-destroy more")
        site.run("virsh pool-undefine more")


def test_volumes_are_brought_and_moved_as_printed(site: Site, base: Path, tmp_path: Path) -> None:
    iso = tmp_path / "installer.iso"
    iso.write_bytes(b"\0" * MIB)
    site.run(f"virsh vol-create-as gk {iso.name} {MIB} --format raw")
    site.run(f"virsh vol-upload {iso.name} {iso} --pool gk")
    assert site.volume_view(iso.name).capacity == MIB
    with pytest.raises(PermanentError) as caught:
        site.hypervisor.create_volume("real", "gk", iso.name, capacity=MIB)
    assert caught.value.reason == "VolumeConflict"
    site.run(command(str(caught.value), "virsh vol-clone").replace("NAME", "away.iso"))
    site.run(command(str(caught.value), "virsh vol-delete"))
    assert site.hypervisor.volume("real", "gk", iso.name) is None
    assert site.volume_view("away.iso").capacity == MIB
    (site.pool / "back.iso").write_bytes(b"\0" * MIB)
    site.run("virsh pool-refresh gk")
    site.run("virsh vol-info back.iso gk")


def test_a_network_is_started_as_printed(site: Site) -> None:
    """On the test driver: a real one would change the machine's interfaces."""
    told = subprocess.run(
        ["virsh", "-c", "test:///default", "net-destroy default; net-start default; net-list"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert re.search(r"default +active", told.stdout)


def test_what_a_running_guest_has_open_is_saved_as_printed(site: Site, base: Path) -> None:
    config = site.guest("web1", BASE)
    site.write("web1", 7)
    system = site.pool / "web1-system.qcow2"
    system.unlink()
    assert site.hypervisor.absent("real", "gk", [system.name, BASE]) == {system.name}
    missing = frozenset({("gk", system.name)})
    provisioned = site.planned("web1", missing=missing).condition(ConditionType.PROVISIONED)
    assert provisioned is not None
    assert provisioned.reason == "VolumeMissing"
    site.run(command(provisioned.message, "virsh blockcopy"))
    assert site.reads(system, 7)
    view = located_view(site.view("web1"), site.hypervisor.host("real").pools)
    assert view.config.disks[0].place == config.disks[0].place
    assert site.hypervisor.absent("real", "gk", [system.name]) == frozenset()
