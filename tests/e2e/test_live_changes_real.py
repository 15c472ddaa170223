"""Changes of a running domain, against a real libvirtd and QEMU of the test's own.

One micro guest is booted for all that a guest has to take part in; what needs no guest is done to
domains without an operating system.
"""

import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import libvirt
import pytest

from controller.errors import PermanentError, TransientError
from controller.guest_access.agent import GuestAgent
from controller.hypervisor.connection.config import HostConfig
from controller.hypervisor.connection.events import REMOVAL_FAILED
from controller.hypervisor.hypervisor import Hypervisor
from controller.observed.domain import (
    NO_LIMITS,
    BootConfig,
    DiskConfig,
    DomainConfig,
    DomainState,
    DomainView,
    GuestRecord,
    IoTune,
    NicConfig,
    Ownership,
    RetiredDisk,
    StateReason,
    SystemDisk,
)
from tests.e2e.life import two_networks
from tests.e2e.private_libvirtd import PrivateLibvirtd
from tests.e2e.system_libvirtd import AVAILABLE, SystemLibvirtd
from tests.micro import micro
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(shutil.which("libvirtd") is None, reason="libvirtd is not installed"),
]
MIB = 2**20
MAC = "52:54:00:00:20:01"


class World:
    """A host with one pool, and what the tests do to its domains behind the code's back."""

    def __init__(self, daemon: PrivateLibvirtd) -> None:
        self.pool = daemon.root / "pool" / "gk"
        self.hypervisor = Hypervisor([HostConfig("real", daemon.uri, "gk", {"gk": str(self.pool)})])
        self.hypervisor.open()
        assert self.hypervisor.host("real").reachable, self.hypervisor.host("real").why
        self.connection = libvirt.open(daemon.uri)

    def view(self, name: str) -> DomainView:
        view = self.hypervisor.domain("real", name)
        assert view is not None
        return view

    def live(self, name: str) -> DomainConfig:
        live = self.view(name).live
        assert live is not None
        return live

    def volume(self, name: str, *, format: str = "qcow2") -> str:
        self.hypervisor.create_volume("real", "gk", name, capacity=16 * MIB, format=format)
        return name

    def define(self, config: DomainConfig, record: GuestRecord | None = None) -> None:
        owner = Ownership(config.uuid, config.name, 1, "", "{}", record or GuestRecord())
        self.hypervisor.define("real", config, owner)

    def start(self, config: DomainConfig) -> None:
        self.define(config)
        self.hypervisor.start("real", config.name)

    def close(self) -> None:
        for domain in self.connection.listAllDomains():
            if domain.isActive():
                domain.destroy()
            if domain.isPersistent():
                domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_NVRAM)
        self.connection.close()
        self.hypervisor.close()


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    root = Path(tempfile.mkdtemp(prefix="gkt-"))
    root.chmod(0o755)
    daemon = (SystemLibvirtd if AVAILABLE else PrivateLibvirtd)(root)
    # libvirt's packages bring it, for serial logs, and libvirtd makes it at the first start only.
    (root / "log" / "qemu").mkdir(parents=True, exist_ok=True)
    daemon.start()
    try:
        one = World(daemon)
        yield one
        one.close()
    finally:
        daemon.stop()
        shutil.rmtree(root)


def config_of(name: str, *disks: DiskConfig, nics: tuple[NicConfig, ...] = ()) -> DomainConfig:
    return DomainConfig(
        name=name,
        uuid=str(uuid.uuid5(uuid.NAMESPACE_URL, name)),
        accelerator="tcg",
        vcpus=1,
        max_vcpus=4,
        memory=128 * MIB,
        max_memory=192 * MIB,
        firmware="bios",
        boot=None,
        disks=disks,
        nics=nics,
    )


def without_balloon(config: DomainConfig) -> DomainConfig:
    """Where no driver has taken hold of the balloon, its size says nothing."""
    return replace(config, memory=config.max_memory)


@contextmanager
def refused(kind: type[Exception], reason: str) -> Iterator[None]:
    with pytest.raises(kind) as caught:
        yield
    assert getattr(caught.value, "reason", "") == reason, caught.value


# --- Without a guest ------------------------------------------------------------------------------


def test_a_running_domain_is_made_as_its_definition_says(world: World) -> None:
    name, hypervisor = "bare", world.hypervisor
    system = DiskConfig("disk-system", "gk", world.volume("bare-system"))
    data = DiskConfig("disk-data", "gk", world.volume("bare-data"), target="vdb", cache="none")
    one, two = (world.volume(f"bare-{number}.iso", format="raw") for number in (1, 2))
    drive = DiskConfig("cdrom-tools", "gk", one, "raw", "cdrom", "sda")
    small = replace(config_of(name, system, drive), title="Small", description="One\nline more")
    world.start(small)
    assert without_balloon(world.live(name)) == without_balloon(small)
    large = replace(
        small,
        vcpus=3,
        title="Large",
        description="",
        disks=(
            replace(system, io_tune=IoTune(total_bytes_sec=MIB, read_iops_sec=100)),
            replace(data, io_tune=IoTune(write_bytes_sec=5 * MIB)),
            replace(drive, volume=two),
        ),
    )
    for wanted in (large, large):  # asked for again, it is done already
        world.define(wanted)
        assert world.view(name).config == wanted
        hypervisor.set_vcpus("real", name, 3)
        hypervisor.set_title("real", name, "Large", "")
        hypervisor.set_io_tune("real", name, "disk-system")
        hypervisor.plug("real", name, "disk-data")
        hypervisor.update_device("real", name, "cdrom-tools")
        assert without_balloon(world.live(name)) == without_balloon(wanted)
    world.define(replace(large, title="", disks=(*small.disks[:1], large.disks[1])))
    hypervisor.set_io_tune("real", name, "disk-system")
    hypervisor.set_title("real", name, "", "")
    live = world.live(name)
    assert (live.title, live.disks[0].io_tune) == ("", NO_LIMITS)
    with refused(PermanentError, "NotSupported"):
        hypervisor.set_vcpus("real", name, 1)
    with refused(PermanentError, "NotSupported"):
        hypervisor.update_device("real", name, "disk-system")
    with refused(TransientError, "DeviceMissing"):
        hypervisor.plug("real", name, "disk-nowhere")
    hypervisor.destroy("real", name)
    for change in (
        lambda: hypervisor.set_vcpus("real", name, 3),
        lambda: hypervisor.set_memory("real", name, 128 * MIB),
        lambda: hypervisor.plug("real", name, "disk-data"),
        lambda: hypervisor.set_title("real", name, "", ""),
    ):
        with refused(TransientError, "WrongState"):
            change()


def test_a_disk_grows_whether_its_domain_runs_or_not(world: World) -> None:
    name, hypervisor = "grows", world.hypervisor
    world.start(config_of(name, DiskConfig("disk-system", "gk", world.volume("grows-system"))))

    def capacity() -> int:
        view = hypervisor.volume("real", "gk", "grows-system")
        assert view is not None
        return view.capacity

    for _ in range(2):
        hypervisor.grow_disk("real", name, "disk-system", 32 * MIB)
        assert capacity() == 32 * MIB
    with refused(PermanentError, "WouldShrink"):
        hypervisor.grow_disk("real", name, "disk-system", 16 * MIB)
    hypervisor.destroy("real", name)
    for _ in range(2):
        hypervisor.grow_volume("real", "gk", "grows-system", 64 * MIB)
        assert capacity() == 64 * MIB
    with refused(PermanentError, "WouldShrink"):
        hypervisor.grow_volume("real", "gk", "grows-system", 32 * MIB)
    with refused(TransientError, "VolumeMissing"):
        hypervisor.grow_volume("real", "gk", "nothing", 32 * MIB)


def test_a_guest_that_does_not_answer_keeps_its_device_and_its_memory(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, hypervisor = "mute", world.hypervisor
    system = DiskConfig("disk-system", "gk", world.volume("mute-system"))
    data = DiskConfig("disk-data", "gk", world.volume("mute-data"), target="vdb")
    world.start(config_of(name, system, data))
    for _ in range(2):
        with refused(TransientError, "RemovalTimedOut"):
            hypervisor.unplug("real", name, "disk-data", 0.2)
    assert [disk.alias for disk in world.live(name).disks] == ["disk-system", "disk-data"]
    hypervisor.unplug("real", name, "disk-other", 0.2)

    index = hypervisor._hosts["real"].index

    def refuse(device: str) -> None:
        wait_until(lambda: name in index._subscriptions, 10, "somebody waits for the guest")
        index._happened(name, REMOVAL_FAILED, device)

    with ThreadPoolExecutor() as threads, refused(TransientError, "RemovalRefused"):
        threads.submit(refuse, "ua-disk-data")
        hypervisor.unplug("real", name, "disk-data", 20)
    with ThreadPoolExecutor() as threads, refused(TransientError, "RemovalTimedOut"):
        threads.submit(refuse, "ua-disk-system")
        hypervisor.unplug("real", name, "disk-data", 1)
    monkeypatch.setattr("controller.hypervisor.domains.live_tuning._BALLOON_SECONDS", 0.2)
    with refused(TransientError, "LiveChangeIneffective"):
        hypervisor.set_memory("real", name, 64 * MIB)
    hypervisor.destroy("real", name)


def test_autostart_and_the_run_are_told(world: World) -> None:
    name, hypervisor = "auto", world.hypervisor
    world.define(config_of(name))
    assert (world.view(name).run, world.view(name).autostart) == (None, False)
    for on in (True, True, False):
        hypervisor.set_autostart("real", name, on)
        assert world.view(name).autostart is on
    runs = []
    for _ in range(2):
        hypervisor.start("real", name)
        runs.append(world.view(name).run)
        hypervisor.destroy("real", name)
    assert None not in runs
    assert len(set(runs)) == 2


def test_a_disk_that_is_moved_under_a_running_domain_is_told(world: World) -> None:
    name, hypervisor = "moved", world.hypervisor
    system = DiskConfig("disk-system", "gk", world.volume("moved-system"))
    world.start(config_of(name, system))
    domain = world.connection.lookupByName(name)
    copy, layer = (str(world.pool / f"moved-{what}") for what in ("copy", "layer"))

    def places() -> list[tuple[str, str | None]]:
        view = world.view(name)
        assert view.live is not None and view.live.disks == view.config.disks
        return [(disk.pool, disk.volume) for disk in view.config.disks]

    domain.blockCopy(
        "vda",
        f"<disk type='file'><driver type='qcow2'/><source file='{copy}'/></disk>",
        {},
        libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB,
    )
    wait_until(lambda: world.view(name).running_job, 10, "the copy is seen")
    assert places() == [("gk", "moved-system")]
    view = world.view(name)
    assert view.ownership is not None
    for act in (
        lambda: hypervisor.shutdown("real", name),
        lambda: hypervisor.destroy("real", name),
        lambda: hypervisor.adopt("real", view.uuid, view.ownership, {}),
    ):
        with refused(TransientError, "JobRunning"):
            act()
    wait_until(lambda: "ready='yes'" in domain.XMLDesc(0), 10, "all is copied")
    domain.blockJobAbort("vda", libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT)
    wait_until(lambda: not world.view(name).running_job, 10, "the copy is seen to end")
    assert places() == [("", copy)]

    snapshot = f"<disk name='vda' snapshot='external'><source file='{layer}'/></disk>"
    domain.snapshotCreateXML(
        f"<domainsnapshot><disks>{snapshot}</disks></domainsnapshot>",
        libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY
        | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA,
    )
    assert name in hypervisor.resync("real", deep=True)
    assert (places(), world.view(name).running_job) == ([("", layer)], False)
    hypervisor.destroy("real", name)


def test_a_definition_is_forgotten_only_while_its_domain_is_off(world: World) -> None:
    name, hypervisor = "gone", world.hypervisor
    world.start(config_of(name))
    with refused(TransientError, "WrongState"):
        hypervisor.undefine("real", name)
    hypervisor.destroy("real", name)
    for _ in range(2):
        hypervisor.undefine("real", name)
        assert hypervisor.domain("real", name) is None


@pytest.mark.skipif(not Path("/usr/share/OVMF").exists(), reason="there is no UEFI firmware")
def test_nvram_is_kept_until_its_domain_is_undefined(world: World) -> None:
    name, hypervisor = "efi", world.hypervisor
    uefi = replace(config_of(name), firmware="efi")
    world.start(uefi)
    domain = world.connection.lookupByName(name)

    def nvram() -> tuple[Path, int]:
        xml = domain.XMLDesc(0)
        path = Path(xml.split("<nvram", 1)[1].split(">", 1)[1].split("<", 1)[0])
        return path, domain.ID()

    path, _ = nvram()
    hypervisor.destroy("real", name)
    world.define(replace(uefi, max_vcpus=2, title="other"))
    hypervisor.start("real", name)
    assert nvram()[0] == path
    assert world.live(name).firmware == "efi"
    hypervisor.destroy("real", name)
    hypervisor.undefine("real", name)
    assert world.connection.listAllDomains() is not None
    with refused(TransientError, "DomainMissing"):
        hypervisor.start("real", name)


def test_what_a_guest_remembers_is_in_use(world: World) -> None:
    base = world.volume("kept-base")
    path = str(world.pool / base)
    world.hypervisor.create_volume(
        "real", "gk", "kept-old", capacity=16 * MIB, backing=(path, "qcow2")
    )
    old = SystemDisk("gk", "kept-old", kernel="/pool/vmlinuz", initrd="/pool/initrd")
    world.define(config_of("kept"), GuestRecord(retired=(RetiredDisk(old, 1.0, "replaced"),)))
    used = world.hypervisor.file_paths("real")
    remembered = {path, str(world.pool / "kept-old"), old.kernel, old.initrd}
    assert remembered <= used
    assert not remembered & world.hypervisor.file_users("real").keys(), "but by no domain"


def test_what_an_operator_attached_is_in_use_and_its_target_is_taken(world: World) -> None:
    """Also to the guest itself, whose retired disk it is."""
    world.hypervisor.create_volume(
        "real",
        "gk",
        "hand-old",
        capacity=16 * MIB,
        backing=(str(world.pool / world.volume("hand-base")), "qcow2"),
    )
    bare = config_of("hand")
    old = RetiredDisk(SystemDisk("gk", "hand-old"), 1.0, "replaced")
    world.define(bare, GuestRecord(retired=(old,)))
    world.connection.lookupByName("hand").attachDeviceFlags(
        "<disk type='file'><driver name='qemu' type='qcow2'/>"
        f"<source file='{world.pool / 'hand-old'}'/><target dev='vdb' bus='virtio'/></disk>",
        libvirt.VIR_DOMAIN_AFFECT_CONFIG,
    )
    users = world.hypervisor.file_users("real")
    assert [users[str(world.pool / f"hand-{one}")] for one in ("old", "base")] == [{"hand"}] * 2
    data = DiskConfig("disk-data", "gk", world.volume("hand-data"), target="vdb")
    with refused(PermanentError, "InvalidDomain"):
        world.define(replace(bare, disks=(data,)))
    assert world.view("hand").config.taken == {"vdb"}
    world.define(replace(bare, disks=(replace(data, target="vdc"),)))
    assert world.view("hand").config.taken == {"vdb", "vdc"}


# --- Adopting -------------------------------------------------------------------------------------


def foreign_xml(world: World, name: str, *, drive: bool = True) -> str:
    system, data = world.volume(f"{name}-system"), world.volume(f"{name}-data")
    return f"""<domain type='qemu'><name>{name}</name>
<uuid>{uuid.uuid5(uuid.NAMESPACE_URL, name)}</uuid>
<memory unit='MiB'>128</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type></os><features><acpi/></features>
<cpu mode='maximum'/><devices>
<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>
 <source file='{world.pool / system}'/><target dev='vda' bus='virtio'/></disk>
<disk type='volume' device='disk'><driver name='qemu' type='qcow2'/>
 <source pool='gk' volume='{data}'/><target dev='vdb' bus='virtio'/></disk>
<disk type='file' device='cdrom'><target dev='sda' bus='sata'/></disk>
<interface type='user'><mac address='{MAC}'/><model type='virtio'/></interface>
</devices></domain>"""


ALIASES = {"vda": "disk-system", "vdb": "disk-data", "sda": "cdrom-tools", MAC: "nic-lan"}


@pytest.mark.parametrize("kind", ["persistent", "transient"])
def test_a_foreign_domain_is_taken_over_while_it_runs(world: World, kind: str) -> None:
    name, hypervisor = f"foreign-{kind}", world.hypervisor
    xml = foreign_xml(world, name)
    if kind == "persistent":
        world.connection.defineXML(xml).create()
    else:
        world.connection.createXML(xml)
    wait_until(lambda: hypervisor.domain("real", name) is not None, 10, "it is seen")
    wait_until(lambda: world.view(name).live is not None, 10, "it is seen to run")
    view = world.view(name)
    assert view.ownership is None
    assert {one.alias for one in (*view.config.disks, *view.config.nics)} == set(ALIASES)
    assert view.config.disks[0].volume == str(world.pool / f"{name}-system")
    assert view.live == view.config
    owner = Ownership(view.uuid, name, 1, "", "", GuestRecord(controller="here"))
    with refused(PermanentError, "NameConflict"):
        hypervisor.adopt("real", str(uuid.uuid4()), owner, ALIASES)
    with refused(TransientError, "DeviceMissing"):
        hypervisor.adopt("real", view.uuid, owner, {"vdz": "disk-other"})
    assert world.view(name).ownership is None
    for _ in range(2):
        hypervisor.adopt("real", view.uuid, owner, ALIASES)
        after = world.view(name)
        assert (after.persistent, after.ours, after.ownership) == (True, True, owner)
        assert after.run == view.run
        assert {one.alias for one in (*after.config.disks, *after.config.nics)} == set(
            ALIASES.values()
        )
        assert after.live == after.config
    # Its disk as a volume, and one disk less: the running ones are still known.
    system = DiskConfig("disk-system", "gk", f"{name}-system")
    drive = replace(after.config.disks[2], volume=world.volume(f"{name}.iso", format="raw"))
    drive = replace(drive, pool="gk")
    hypervisor.define("real", replace(after.config, disks=(system, drive)), owner)
    hypervisor.update_device("real", name, "cdrom-tools")
    live = world.live(name)
    assert live.disks == (system, after.config.disks[1], drive)
    assert live.nics == after.config.nics
    with refused(TransientError, "RemovalTimedOut"):
        hypervisor.unplug("real", name, "disk-data", 0.2)
    hypervisor.eject("real", name, "cdrom-tools")
    assert [disk.volume for disk in world.live(name).disks][2] is None
    hypervisor.destroy("real", name)
    hypervisor.start("real", name)
    after = world.view(name)
    assert after.live is not None
    assert without_balloon(after.live) == without_balloon(after.config)
    hypervisor.destroy("real", name)


def test_a_clone_is_not_adopted(world: World) -> None:
    config = config_of("original")
    world.define(config)
    xml = world.connection.lookupByName("original").XMLDesc(0)
    other = str(uuid.uuid4())
    world.connection.defineXML(
        xml.replace(f"<uuid>{config.uuid}", f"<uuid>{other}").replace(
            "<name>original", "<name>clone"
        )
    )
    with pytest.raises(PermanentError, match="mark of another domain") as caught:
        world.hypervisor.adopt("real", other, Ownership(other, "clone", 1, "", ""), {})
    assert caught.value.reason == "NameConflict"


# --- With a guest ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bridges(world: World) -> Iterator[tuple[str, str]]:
    """A libvirt network and a bridge."""
    if not AVAILABLE:
        pytest.skip("bridges take a privileged libvirtd")
    with two_networks(world, uuid.uuid4().hex[:5]) as names:  # type: ignore[arg-type]
        yield names


def test_a_guest_takes_and_gives_back_what_it_is_told(
    world: World, bridges: tuple[str, str]
) -> None:
    name, hypervisor = "guest", world.hypervisor
    files = micro.build()
    world.pool.mkdir(exist_ok=True)
    for file in ("vmlinuz", "initrd", "one.qcow2"):
        shutil.copy(files / file, world.pool / file)
        (world.pool / file).chmod(0o644)
    backing = (str(world.pool / "one.qcow2"), "qcow2")
    hypervisor.create_volume("real", "gk", "guest-disk", capacity=256 * MIB, backing=backing)
    system = DiskConfig("disk-system", "gk", "guest-disk")
    data = DiskConfig("disk-data", "gk", world.volume("guest-data"), target="vdb")
    lan = NicConfig("nic-lan", "network", bridges[0], MAC)
    small = replace(
        config_of(name, system),
        boot=BootConfig(
            str(world.pool / "vmlinuz"), str(world.pool / "initrd"), f"{micro.ARGS} micro=one"
        ),
        on_crash="preserve",
    )
    world.start(small)
    domain = world.connection.lookupByName(name)
    wait_until(lambda: world.view(name).agent_connected, 60, "the agent is there")

    def inside(script: str) -> str:
        return micro.inside(domain, script).strip()

    run = world.view(name).run
    large = replace(small, vcpus=2, memory=160 * MIB, disks=(system, data), nics=(lan,))
    world.define(large)
    hypervisor.set_vcpus("real", name, 2)
    assert inside("grep -c ^processor /proc/cpuinfo") == "2"
    hypervisor.set_memory("real", name, 160 * MIB)
    hypervisor.plug("real", name, "disk-data")
    hypervisor.plug("real", name, "nic-lan")
    assert world.live(name) == large
    wait_until(lambda: inside("ls /sys/block").count("vdb") == 1, 10, "the guest sees its disk")
    hypervisor.grow_disk("real", name, "disk-data", 32 * MIB)
    assert inside("cat /sys/block/vdb/size") == str(32 * MIB // 512)

    moved = replace(lan, kind="bridge", source=bridges[1], link="down")
    world.define(replace(large, nics=(moved,)))
    hypervisor.update_device("real", name, "nic-lan")
    assert world.live(name).nics == (moved,)
    world.define(large)
    hypervisor.update_device("real", name, "nic-lan")
    assert world.live(name).nics == (lan,)

    world.define(replace(small, vcpus=2))
    hypervisor.set_memory("real", name, 128 * MIB)
    for alias in ("disk-data", "nic-lan"):
        for _ in range(2):
            hypervisor.unplug("real", name, alias, 20)
    assert world.live(name) == replace(small, vcpus=2)
    assert "vdb" not in inside("ls /sys/block")
    assert world.view(name).run == run
    assert world.view(name).state is DomainState.RUNNING

    # The output of a command is longer than what libvirtd can send: this costs that answer alone.
    link = hypervisor._hosts["real"].link
    session = link.ensure_reachable()
    print_much = ["sh", "-c", "head -c 4000000 /dev/zero"]
    agent = GuestAgent(hypervisor.agent_command, time.monotonic, threading.Event().wait)
    with pytest.raises(PermanentError) as caught:
        agent.exec("real", name, print_much, timeout=20)
    assert caught.value.reason == "AnswerTooLong"
    error = caught.value.__cause__
    assert isinstance(error, libvirt.libvirtError)
    assert (error.get_error_domain(), error.get_error_code()) == (
        libvirt.VIR_FROM_RPC,
        libvirt.VIR_ERR_RPC,
    )
    assert link.ensure_reachable() is session
    assert agent.exec("real", name, ["true"], timeout=20).exit_code == 0

    # Not at once: the agent's answer comes first.
    inside("(sleep 1; echo c >/proc/sysrq-trigger) >/dev/null 2>&1 &")
    wait_until(lambda: world.view(name).state is DomainState.CRASHED, 10, "it crashed")
    crashed = world.view(name)
    assert (crashed.reason, crashed.run) == (StateReason.PANICKED, run)
    assert crashed.live is not None, "its QEMU is kept, with the disk in its hands"
    hypervisor.destroy("real", name)
    after = world.view(name)
    assert (after.state, after.run, after.live) == (DomainState.SHUTOFF, None, None)
