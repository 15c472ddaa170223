"""Builder domains on a real libvirt and QEMU: a kernel and a shell that does what it is told.

The stand-in for an installer is the demo's kernel and initramfs with another ``/init``: it says
``phase first`` on the marker channel before anybody listens, and then obeys the lines it is sent
there. It is up in two or three seconds.
"""

import io
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import libvirt
import libvirt_qemu  # type: ignore[import-untyped]
import pytest

from controller.errors import GuestkeeperError, PermanentError, TransientError
from controller.hypervisor.connection.config import HostConfig
from controller.hypervisor.guest_io.stream import BACKLOG, Console
from controller.hypervisor.hypervisor import Hypervisor
from controller.hypervisor.storage.volumes import READ_LIMIT
from controller.images.ports import Builders
from controller.observed.build import (
    LOG_CHANNEL,
    MARKER_CHANNEL,
    BuildDrive,
    BuilderConfig,
    BuilderView,
    BuildRecord,
    Step,
    builder_name,
)
from controller.observed.build_xml import parse_build
from controller.observed.domain import DomainState, StateReason
from tests.e2e.conftest import ScratchPool
from tests.e2e.private_libvirtd import PrivateLibvirtd
from tests.libvirt.test_builders_test_driver import assert_refused
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(shutil.which("libvirtd") is None, reason="libvirtd is not installed"),
]
MIB = 2**20
BOOT_SECONDS = 60.0
INIT = r"""#!/bin/busybox sh
b=/bin/busybox
$b mkdir -p /proc /sys /dev
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs devtmpfs /dev
while read -r module; do $b insmod "/lib/modules/$module.ko"; done </lib/modules/order
for entry in /sys/class/virtio-ports/*; do
    case $($b cat "$entry/name") in
        org.guestkeeper.build.0) port=/dev/${entry##*/} ;;
        org.fedoraproject.anaconda.log.0) log=/dev/${entry##*/} ;;
    esac
done
exec 3<>"$port"
echo "installer is up: $($b cat /proc/cmdline)" >/dev/console
echo "phase first" >&3
while :; do
    # Without a reader on the host the port is at its end at once.
    if ! read -r word rest <&3; then $b usleep 100000; continue; fi
    case $word in
        say) echo "$rest" >&3 ;;
        log) echo "$rest" >"$log" ;;
        flood) $b seq 1 "$rest" >&3; echo "flood done" >&3 ;;
        reboot) $b reboot -f ;;
        poweroff) $b poweroff -f ;;
    esac
done
"""


@dataclass(frozen=True, slots=True)
class Installer:
    """Paths that QEMU may read."""

    kernel: Path
    initrd: Path


def make_installer(directory: Path, image: Path, scratch: Path) -> Installer:
    """The demo's kernel, and its initramfs with our init appended, as an answer file would be."""
    root = scratch / "initramfs"
    root.mkdir()
    (root / "init").write_text(INIT)
    (root / "init").chmod(0o755)
    appended = subprocess.run(
        ["cpio", "-o", "-H", "newc", "--quiet", "-R", "0:0"],
        input=b"init\n",
        cwd=root,
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    made = Installer(directory / "installer.vmlinuz", directory / "installer.initrd")
    made.kernel.write_bytes((image / "debian12.vmlinuz").read_bytes())
    made.initrd.write_bytes((image / "debian12.initrd").read_bytes() + appended)
    for path in (made.kernel, made.initrd):
        path.chmod(0o644)
    return made


@pytest.fixture(scope="module")
def installer(
    demo_image: Path, qemu_directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> Installer:
    return make_installer(qemu_directory, demo_image, tmp_path_factory.mktemp("installer"))


@pytest.fixture(scope="module")
def hypervisor(libvirt_uri: str, scratch_pool: ScratchPool) -> Iterator[Hypervisor]:
    one = Hypervisor([HostConfig("real", libvirt_uri, scratch_pool.name)])
    one.open()
    assert one.host("real").reachable, one.host("real").why
    yield one
    one.close()


class Builder:
    """One builder of one test."""

    def __init__(self, hypervisor: Hypervisor, pool: str, image: str, installer: Installer) -> None:
        self.port: Builders = hypervisor
        self.hypervisor = hypervisor
        self.pool = pool
        self.name = builder_name(image, pool, "c0ffee")
        self.record = BuildRecord(image, "c0ffee", pool, f"{self.name}.qcow2")
        hypervisor.create_volume("real", pool, self.record.base, capacity=16 * MIB)
        self.config = BuilderConfig(
            name=self.name,
            accelerator="tcg",
            vcpus=1,
            memory=128 * MIB,
            pool=pool,
            disk=self.record.base,
            kernel=str(installer.kernel),
            initrd=str(installer.initrd),
            args="console=ttyS0 quiet",
        )

    def start(self) -> None:
        self.port.define_builder("real", self.config, self.record)
        self.port.start_builder("real", self.config)

    def open(self) -> "Lines":
        return Lines(self.hypervisor.open_builder_channel("real", self.name, MARKER_CHANNEL))

    def tell(self, line: str) -> None:
        """Waits until the guest listens, then tells it a line."""
        with self.open() as lines:
            assert lines.next() == "phase first"
            lines.write(line)

    @property
    def view(self) -> BuilderView:
        view = self.port.builder("real", self.name)
        assert view is not None
        return view

    def ends(self) -> StateReason:
        wait_until(lambda: not self.view.active, BOOT_SECONDS, f"{self.name} is off")
        return self.view.reason

    def remove(self) -> None:
        self.port.destroy_builder("real", self.name)
        self.port.undefine_builder("real", self.name)


class Lines:
    """A channel, line by line."""

    def __init__(self, channel: Console) -> None:
        self.channel = channel
        self._rest = b""

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()

    def write(self, line: str) -> None:
        self.channel.write(f"{line}\n".encode())

    def next(self, timeout: float = BOOT_SECONDS) -> str | None:
        """The next whole line; None at the channel's end."""

        def more() -> bool:
            if b"\n" in self._rest:
                return True
            block = self.channel.read(0.5)
            self._rest += block or b""
            return block is None

        wait_until(more, timeout, "a line from the guest", interval=0.0)
        line, found, self._rest = self._rest.partition(b"\n")
        return line.decode() if found else None


@pytest.fixture
def builder(
    request: pytest.FixtureRequest,
    hypervisor: Hypervisor,
    scratch_pool: ScratchPool,
    prefix: str,
    installer: Installer,
) -> Iterator[Builder]:
    image = f"{prefix}{abs(hash(request.node.name)) % 10**6}"
    one = Builder(hypervisor, scratch_pool.name, image, installer)
    yield one
    one.remove()


def test_a_line_written_before_anybody_listens_is_delivered_whole(builder: Builder) -> None:
    builder.start()
    console = builder.hypervisor.open_builder_console("real", builder.name)
    said = b""

    def up() -> bool:
        nonlocal said
        said += console.read(0.5) or b""
        return b"installer is up" in said

    wait_until(up, BOOT_SECONDS, "the guest's first words on the console")
    console.close()
    with builder.open() as lines:
        assert lines.next() == "phase first"
        lines.write("say what the host wrote")
        assert lines.next() == "what the host wrote"
        log = Lines(builder.hypervisor.open_builder_channel("real", builder.name, LOG_CHANNEL))
        with log:
            lines.write("log from the installer")
            assert log.next() == "from the installer"


def test_what_comes_between_opening_and_the_first_read_is_kept(builder: Builder) -> None:
    builder.start()
    with builder.open() as lines:
        lines.next()
        lines.write("flood 20000")
        wait_until(lambda: lines.channel._held > 100_000, 30, "the lines arrived unread")
        assert [lines.next() for _ in range(20000)] == [str(n) for n in range(1, 20001)]
        assert lines.next() == "flood done"


@pytest.mark.long
def test_a_flood_that_nobody_reads_hangs_up_and_waits_in_the_guest(builder: Builder) -> None:
    builder.start()
    lines = builder.open()
    assert lines.next() == "phase first"
    lines.write("flood 1200000")
    wait_until(lambda: lines.channel._ended, BOOT_SECONDS, "the flooded channel hung up")
    kept = 0
    while (block := lines.channel.read(1.0)) is not None:
        kept += len(block)
    lines.channel.close()
    assert BACKLOG <= kept < BACKLOG + 2 * MIB, "what came is read, and no more than that is kept"
    assert builder.view.active
    with builder.open() as again:
        line = again.next()
        while line != "flood done":
            assert line is not None
            line = again.next()


def test_the_installer_is_in_the_running_domain_only(
    builder: Builder, connection: libvirt.virConnect
) -> None:
    builder.hypervisor.create_volume(
        "real", builder.pool, f"{builder.name}.iso", capacity=MIB, format="raw"
    )
    drive = BuildDrive(builder.pool, f"{builder.name}.iso")
    builder.config = replace(builder.config, drives=(drive,))
    builder.start()
    builder.port.start_builder("real", builder.config)
    domain = connection.lookupByName(builder.name)
    stored = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    live = domain.XMLDesc(0)
    for word in ("<kernel>", "<initrd>", "<cmdline>", "cdrom"):
        assert word in live
        assert word not in stored
    started = replace(
        builder.record, step=Step.STARTED, started=1.5, message="with \x1b[31m ESC & <xml> ä"
    )
    builder.port.record_build("real", builder.name, started)
    uuid = domain.UUIDString()
    for flags in (0, libvirt.VIR_DOMAIN_XML_INACTIVE):
        xml = domain.XMLDesc(flags)
        assert parse_build(xml, name=builder.name, uuid=uuid) == started
    builder.tell("poweroff")
    assert builder.ends() is StateReason.SHUTDOWN
    assert builder.view.record == started
    after = domain.XMLDesc(0)
    for word in ("<kernel>", "<initrd>", "<cmdline>", "cdrom"):
        assert word not in after
    builder.port.define_builder("real", builder.config, builder.record)
    assert (domain.UUIDString(), builder.view.record) == (uuid, builder.record)


def test_a_start_that_fails_leaves_the_definition_as_it_was(
    builder: Builder, connection: libvirt.virConnect
) -> None:
    builder.config = replace(builder.config, kernel="/nowhere/vmlinuz")
    builder.port.define_builder("real", builder.config, builder.record)
    with pytest.raises(GuestkeeperError, match="/nowhere/vmlinuz"):
        builder.port.start_builder("real", builder.config)
    assert not builder.view.active
    assert "<kernel>" not in connection.lookupByName(builder.name).XMLDesc(0)
    assert builder.view.record == builder.record


def test_a_reboot_ends_the_builder(builder: Builder) -> None:
    builder.start()
    builder.tell("reboot")
    # To libvirt a reboot that must not be is a guest's power-off like any other.
    assert builder.ends() is StateReason.SHUTDOWN


def test_a_panic_is_told_from_a_crash(builder: Builder, connection: libvirt.virConnect) -> None:
    builder.start()
    # The write to the panic device that a panicking kernel makes; ours lacks the driver.
    libvirt_qemu.qemuMonitorCommand(
        connection.lookupByName(builder.name),
        "o /b 0x505 1",
        libvirt_qemu.VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP,
    )
    assert builder.ends() is StateReason.PANICKED
    builder.port.start_builder("real", builder.config)
    os.kill(qemu_pid(builder.name), signal.SIGKILL)
    assert builder.ends() in (StateReason.CRASHED, StateReason.FAILED)


def qemu_pid(name: str) -> int:
    return int(Path(f"/run/libvirt/qemu/{name}.pid").read_text())


def test_pulling_the_plug_is_told_and_ends_the_channel(builder: Builder) -> None:
    builder.start()
    with builder.open() as lines:
        assert lines.next() == "phase first"
        builder.port.destroy_builder("real", builder.name)
        assert lines.next(10) is None
        with pytest.raises(TransientError):
            lines.write("say anything")
    assert builder.ends() is StateReason.DESTROYED
    builder.port.destroy_builder("real", builder.name)
    with pytest.raises(PermanentError) as caught:
        builder.open()
    assert caught.value.reason == "NotRunning"
    builder.remove()
    builder.remove()
    assert builder.port.builder("real", builder.name) is None


def test_who_opens_the_channel_takes_it_from_the_other(builder: Builder) -> None:
    builder.start()
    with builder.open() as first:
        assert first.next() == "phase first"
        with builder.open() as second:
            assert first.next(10) is None
            second.write("say to the second")
            assert second.next() == "to the second"


def test_every_builder_is_listed_and_a_clone_is_not(
    builder: Builder, connection: libvirt.virConnect
) -> None:
    builder.port.define_builder("real", builder.config, builder.record)
    domain = connection.lookupByName(builder.name)
    xml = domain.XMLDesc(0)
    clone_name = f"{builder.name}-clone"
    clone = connection.defineXML(
        xml.replace(f"<name>{builder.name}<", f"<name>{clone_name}<").replace(
            f"<uuid>{domain.UUIDString()}</uuid>", ""
        )
    )
    try:
        listed = {view.name: view for view in builder.port.builders("real")}
        assert listed[builder.name].record == builder.record
        assert clone_name not in listed
        with pytest.raises(PermanentError):
            builder.port.destroy_builder("real", clone_name)
        seen = builder.hypervisor.domain("real", builder.name)
        assert seen is None or seen.ownership is None, "to the guests it is foreign"
    finally:
        clone.undefine()


def test_a_foreign_domain_of_that_name_is_left_untouched(
    builder: Builder, connection: libvirt.virConnect
) -> None:
    foreign = connection.defineXML(
        f"<domain type='qemu'><name>{builder.name}</name><memory>65536</memory>"
        "<os><type arch='x86_64' machine='q35'>hvm</type></os></domain>"
    )
    before = foreign.XMLDesc(0)
    try:
        assert builder.view.record is None
        assert_refused(builder.port, "real", builder.config, builder.record)
        assert foreign.XMLDesc(0) == before
        assert not foreign.isActive()
    finally:
        foreign.undefine()


def test_a_builder_that_runs_is_not_undefined(builder: Builder) -> None:
    builder.start()
    with pytest.raises(TransientError) as caught:
        builder.port.undefine_builder("real", builder.name)
    assert caught.value.reason == "WrongState"
    assert builder.view.active


def test_a_uefi_builder_gets_firmware_and_leaves_nothing_of_it(
    builder: Builder, connection: libvirt.virConnect
) -> None:
    builder.config = replace(builder.config, firmware="efi")
    try:
        builder.start()
    except PermanentError as error:
        if error.reason == "FirmwareMissing":
            pytest.skip("no UEFI firmware on this host")
        raise
    xml = connection.lookupByName(builder.name).XMLDesc(0)
    nvram = xml.partition("<nvram")[2].partition(">")[2].partition("<")[0]
    assert Path(nvram).exists()
    assert nvram in builder.port.file_paths("real")
    builder.remove()
    assert not Path(nvram).exists()


def test_every_file_that_a_domain_uses_is_known(
    builder: Builder, connection: libvirt.virConnect, qemu_directory: Path, prefix: str
) -> None:
    hypervisor, pool = builder.hypervisor, builder.pool
    base = hypervisor.volume("real", pool, builder.record.base)
    assert base is not None
    overlay = hypervisor.create_volume(
        "real", pool, f"{builder.name}-overlay", capacity=16 * MIB, backing=(base.path, "qcow2")
    )
    foreign = connection.defineXML(
        f"<domain type='qemu'><name>{prefix}foreign</name><memory>65536</memory><os>"
        "<type arch='x86_64' machine='q35'>hvm</type><kernel>/boot/its-kernel</kernel></os>"
        "<devices><disk type='file' device='disk'><source file='/elsewhere/its.img'/>"
        "<target dev='vda' bus='virtio'/></disk><disk type='volume' device='disk'>"
        f"<driver name='qemu' type='qcow2'/><source pool='{pool}' volume='{overlay.name}'/>"
        "<target dev='vdb' bus='virtio'/></disk></devices></domain>"
    )
    try:
        used = builder.port.file_paths("real")
    finally:
        foreign.undefine()
    assert {"/elsewhere/its.img", "/boot/its-kernel", overlay.path, base.path} <= used
    assert base.path not in builder.port.file_paths("real")
    builder.start()
    live = builder.port.file_paths("real")
    assert {base.path, builder.config.kernel, builder.config.initrd} <= live


def test_a_volume_is_read_in_parts_as_it_is(builder: Builder, scratch_pool: ScratchPool) -> None:
    data = os.urandom(3 * MIB + 77)
    name = f"{builder.name}.bin"
    builder.hypervisor.upload_volume(
        "real", builder.pool, name, io.BytesIO(data), len(data), format="raw",
        progress=lambda _: None,
    )  # fmt: skip
    port = builder.port
    assert port.read_volume("real", builder.pool, name, 0, READ_LIMIT) == data
    assert port.read_volume("real", builder.pool, name, 1000, 5000) == data[1000:6000]
    assert port.read_volume("real", builder.pool, name, len(data) - 7, 100) == data[-7:]
    assert port.read_volume("real", builder.pool, name, len(data), 100) == b""
    assert port.read_volume("real", builder.pool, name, 0, 0) == b""
    with pytest.raises(PermanentError):
        port.read_volume("real", builder.pool, name, 0, READ_LIMIT + 1)
    with pytest.raises(TransientError) as caught:
        port.read_volume("real", builder.pool, f"{name}.not", 0, 1)
    assert caught.value.reason == "VolumeMissing"


def test_a_file_put_into_the_pool_by_hand_is_listed(
    builder: Builder, scratch_pool: ScratchPool
) -> None:
    by_hand = scratch_pool.directory / f"{builder.name}.raw"
    by_hand.write_bytes(b"x" * 4096)
    volumes = {view.name: view for view in builder.port.volumes("real", builder.pool)}
    assert volumes[by_hand.name].capacity == 4096
    assert volumes[builder.record.base].format == "qcow2"


# --- A libvirtd that dies -------------------------------------------------------------------------


@pytest.fixture
def libvirtd() -> Iterator[PrivateLibvirtd]:
    # Short: the sockets of a domain's channels stand deep below it.
    root = Path(tempfile.mkdtemp(prefix="gk"))
    root.chmod(0o755)
    daemon = PrivateLibvirtd(root)
    daemon.start()
    yield daemon
    if daemon.process is None:
        daemon.start()
    connection = libvirt.open(daemon.uri)
    for domain in connection.listAllDomains():
        if domain.isActive():
            domain.destroy()
        domain.undefine()
    connection.close()
    daemon.stop()
    shutil.rmtree(root)


def kill(libvirtd: PrivateLibvirtd) -> None:
    assert libvirtd.process is not None
    libvirtd.process.kill()
    libvirtd.process.wait(20)
    libvirtd.process = None
    libvirtd.socket.unlink()


@pytest.fixture
def private(
    libvirtd: PrivateLibvirtd, demo_image: Path, tmp_path: Path, prefix: str
) -> Iterator[Builder]:
    """A builder, running, of the libvirtd that dies."""
    pools = {"gk": str(libvirtd.root / "pool" / "gk")}
    one = Hypervisor([HostConfig("real", libvirtd.uri, "gk", pools)])
    one.open()
    builder = Builder(one, "gk", prefix, make_installer(libvirtd.root, demo_image, tmp_path))
    builder.start()
    yield builder
    builder.remove()
    one.close()


def restart(libvirtd: PrivateLibvirtd, hypervisor: Hypervisor) -> None:
    libvirtd.start()
    wait_until(lambda: hypervisor.host("real").reachable, 40, "the host is back")


def test_a_killed_libvirtd_ends_the_reader_and_its_channel_opens_again(
    libvirtd: PrivateLibvirtd, private: Builder
) -> None:
    lines = private.open()
    assert lines.next() == "phase first"
    ended = threading.Event()

    def read() -> None:
        while lines.channel.read(30.0) is not None:
            pass
        ended.set()

    threading.Thread(target=read, daemon=True).start()
    kill(libvirtd)
    assert ended.wait(20), "the reader of a killed libvirtd's channel ends"
    with pytest.raises(TransientError):
        lines.write("say nothing")
    lines.channel.close()
    restart(libvirtd, private.hypervisor)
    assert private.view.active
    assert private.view.record == private.record
    with private.open() as again:
        again.write("flood 3")
        assert [again.next() for _ in range(4)] == ["1", "2", "3", "flood done"]


def test_a_users_own_libvirt_has_no_room_for_the_log_channel(private: Builder) -> None:
    with pytest.raises(PermanentError) as caught:
        private.hypervisor.open_builder_channel("real", private.name, LOG_CHANNEL)
    assert caught.value.reason == "NoChannel"


def test_a_line_said_while_no_libvirtd_was_there_comes_through(
    libvirtd: PrivateLibvirtd, private: Builder
) -> None:
    kill(libvirtd)  # before the guest's kernel is up: its first line finds nobody
    wait_until(lambda: not private.hypervisor.host("real").reachable, 20, "the host is lost")
    restart(libvirtd, private.hypervisor)
    with private.open() as lines:
        assert lines.next() == "phase first"
        lines.write("poweroff")
        assert lines.next() is None
    assert private.ends() is StateReason.SHUTDOWN
    assert private.view.state is DomainState.SHUTOFF
