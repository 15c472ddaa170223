"""The hypervisor room against a real libvirtd and QEMU: a private, unprivileged daemon of our own.

The domains have no operating system (TCG, 64 MiB, a disk that does not boot), so they start in
well under a second. Nothing here touches the machine's own libvirtd.
"""

import io
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import libvirt
import pytest

from controller.errors import AgentUnavailableError, HostUnreachableError, PermanentError
from controller.hypervisor.connection.config import HostConfig, Role
from controller.hypervisor.connection.link import HostLink, Pace
from controller.hypervisor.hypervisor import Hypervisor
from controller.observed.domain import (
    BootConfig,
    DiskConfig,
    DomainConfig,
    DomainState,
    IoTune,
    NicConfig,
    Ownership,
    StateReason,
)
from tests.e2e.private_libvirtd import PrivateLibvirtd
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(shutil.which("libvirtd") is None, reason="libvirtd is not installed"),
]
MIB = 2**20


@pytest.fixture(scope="module")
def libvirtd() -> Iterator[PrivateLibvirtd]:
    root = Path(tempfile.mkdtemp(prefix="gktest-"))
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


class Events:
    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        self.hosts: list[tuple[bool, str]] = []
        self.calls: list[tuple[str, str]] = []

    def on_event(self, _host: str, name: str, kind: str) -> None:
        self.seen.append((name, kind))

    def on_host(self, _host: str, reachable: bool, why: str) -> None:
        self.hosts.append((reachable, why))

    def on_call(self, _host: str, operation: str, code: str, _seconds: float) -> None:
        self.calls.append((operation, code))


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
def hypervisor(libvirtd: PrivateLibvirtd, events: Events) -> Iterator[Hypervisor]:
    config = HostConfig("real", libvirtd.uri, "gk", {"gk": str(libvirtd.root / "pool" / "gk")})
    one = Hypervisor([config], events.on_event, events.on_host, events.on_call)
    one.open()
    assert one.host("real").reachable, one.host("real").why
    yield one
    one.close()


@pytest.fixture
def name() -> str:
    return f"gk-{uuid.uuid4().hex[:6]}"  # short, for it is part of sockets' paths


def config_of(name: str, *, system: str = "", seed: str | None = None) -> DomainConfig:
    disks: tuple[DiskConfig, ...] = ()
    if system:
        disks = (DiskConfig("disk-system", "gk", system),)
    if seed is not None:
        disks += (DiskConfig("cdrom-seed", "gk", seed, "raw", "cdrom", "sda"),)
    return DomainConfig(
        name=name,
        uuid=str(uuid.uuid5(uuid.NAMESPACE_URL, name)),
        accelerator="tcg",
        vcpus=1,
        max_vcpus=2,
        memory=64 * MIB,
        max_memory=128 * MIB,
        firmware="bios",
        boot=None,
        disks=disks,
        nics=(),
    )


def ours(name: str) -> Ownership:
    return Ownership(config_of(name).uuid, name, 1, "", "{}")


def reach(hypervisor: Hypervisor, name: str, state: DomainState, timeout: float = 20) -> None:
    def there() -> bool:
        view = hypervisor.domain("real", name)
        return view is not None and view.state is state

    wait_until(there, timeout, f"{name} is {state}")


@pytest.mark.parametrize("accelerator", ["tcg", "kvm"])
def test_a_definition_is_read_back_as_it_was_asked_for(
    hypervisor: Hypervisor, name: str, accelerator: str
) -> None:
    config = replace(
        config_of(name),
        disks=(
            DiskConfig(
                "disk-system", "gk", "system.qcow2", cache="none", io_tune=IoTune(0, 1000, 0, 50)
            ),
            DiskConfig("cdrom-seed", "gk", "seed.iso", "raw", "cdrom", "sda"),
            DiskConfig("cdrom-tools", "gk", None, "raw", "cdrom", "sdb"),
        ),
        boot=BootConfig("/k", "/i", "root=/dev/vda  rw 'quoted' <&>"),
        nics=(
            NicConfig("nic-lan", "network", "default", "52:54:00:00:10:01"),
            NicConfig("nic-br", "bridge", "br0", "52:54:00:00:10:02", model="e1000e", link="down"),
            NicConfig("nic-a", "user", "", "52:54:00:00:10:03", ("127.0.0.1:18999:80/tcp",)),
            NicConfig("nic-b", "user", "", "52:54:00:00:10:04"),
        ),
        title="A <title> & more",
        description="What it is for,\nin two lines",
        on_poweroff="destroy",
        on_reboot="destroy",
        on_crash="preserve",
        agent_channel=False,
    )
    wanted = replace(config, accelerator=accelerator)
    try:
        hypervisor.define("real", wanted, ours(name))
    except PermanentError as error:
        if accelerator == "kvm" and "kvm" in str(error).lower():
            pytest.skip("this user may not use KVM here")
        raise
    view = hypervisor.domain("real", name)
    assert view is not None
    assert view.config == wanted
    assert view.ownership == ours(name)
    plain = replace(config_of(name), accelerator=accelerator)
    for changed in (plain, wanted, plain):
        hypervisor.define("real", changed, ours(name))
        view = hypervisor.domain("real", name)
        assert view is not None
        assert view.config == changed


def test_a_running_domain_reads_back_the_same_live(hypervisor: Hypervisor, name: str) -> None:
    hypervisor.create_volume("real", "gk", f"{name}.qcow2", capacity=16 * MIB)
    hypervisor.create_volume("real", "gk", f"{name}.iso", capacity=MIB, format="raw")
    config = replace(
        config_of(name, system=f"{name}.qcow2", seed=f"{name}.iso"),
        nics=(
            NicConfig("nic-a", "user", "", "52:54:00:00:11:03", ("127.0.0.1:18998:80/tcp",)),
            NicConfig("nic-b", "user", "", "52:54:00:00:11:04"),
        ),
    )
    hypervisor.define("real", config, ours(name))
    hypervisor.start("real", name)
    view = hypervisor.domain("real", name)
    assert view is not None
    assert view.config == config
    # Only the balloon, which no driver in the guest has taken hold of, may differ.
    assert view.live is not None
    assert replace(view.live, memory=config.memory) == config
    hypervisor.eject("real", name, "cdrom-seed")
    view = hypervisor.domain("real", name)
    assert view is not None and view.live is not None
    for one in (view.config, view.live):
        assert [disk.volume for disk in one.disks if disk.device == "cdrom"] == [None]
    hypervisor.eject("real", name, "cdrom-seed")
    hypervisor.destroy("real", name)
    hypervisor.destroy("real", name)
    view = hypervisor.domain("real", name)
    assert view is not None
    assert (view.state, view.reason) == (DomainState.SHUTOFF, StateReason.DESTROYED)


def test_what_is_uploaded_becomes_the_base_of_an_overlay(
    hypervisor: Hypervisor, libvirtd: PrivateLibvirtd, name: str
) -> None:
    source = libvirtd.root / f"{name}.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", source, "64M"], check=True)
    data = source.read_bytes()
    told: list[int] = []
    base = hypervisor.upload_volume(
        "real",
        "gk",
        f"{name}-base",
        io.BytesIO(data),
        len(data),
        format="qcow2",
        progress=told.append,
    )
    assert (base.format, base.capacity, told[-1]) == ("qcow2", 64 * MIB, len(data))
    assert Path(base.path).read_bytes() == data
    overlay = hypervisor.create_volume(
        "real", "gk", f"{name}-disk", capacity=128 * MIB, backing=(base.path, base.format)
    )
    assert (overlay.backing, overlay.capacity) == (base.path, 128 * MIB)
    assert (
        hypervisor.create_volume(
            "real", "gk", f"{name}-disk", capacity=128 * MIB, backing=(base.path, base.format)
        )
        == overlay
    )
    with pytest.raises(PermanentError, match=f"gk/{name}-disk exists"):
        hypervisor.create_volume("real", "gk", f"{name}-disk", capacity=128 * MIB)
    hypervisor.delete_volume("real", "gk", f"{name}-disk")
    hypervisor.delete_volume("real", "gk", f"{name}-disk")
    assert hypervisor.volume("real", "gk", f"{name}-disk") is None


def test_an_upload_of_several_chunks_arrives_whole(hypervisor: Hypervisor, name: str) -> None:
    data = os.urandom(5 * MIB + 123)
    view = hypervisor.upload_volume(
        "real", "gk", name, io.BytesIO(data), len(data), format="raw", progress=lambda _: None
    )
    assert Path(view.path).read_bytes() == data


def test_an_upload_that_breaks_off_leaves_nothing_behind(hypervisor: Hypervisor, name: str) -> None:
    with pytest.raises(Exception, match="ended after 10 of 5000000 bytes"):
        hypervisor.upload_volume(
            "real", "gk", name, io.BytesIO(b"0" * 10), 5_000_000, format="raw",
            progress=lambda _: None,
        )  # fmt: skip
    assert hypervisor.volume("real", "gk", name) is None


def test_a_killed_qemu_is_seen_as_crashed_and_can_be_started_again(
    hypervisor: Hypervisor, libvirtd: PrivateLibvirtd, events: Events, name: str
) -> None:
    hypervisor.define("real", config_of(name), ours(name))
    hypervisor.start("real", name)
    reach(hypervisor, name, DomainState.RUNNING)
    view = hypervisor.domain("real", name)
    assert view is not None and view.started_at is not None
    (pid,) = libvirtd.qemu_pids(name)
    os.kill(pid, signal.SIGKILL)
    reach(hypervisor, name, DomainState.SHUTOFF)
    view = hypervisor.domain("real", name)
    assert view is not None
    assert view.reason in (StateReason.CRASHED, StateReason.FAILED)
    assert (name, "crashed") in events.seen
    hypervisor.start("real", name)
    reach(hypervisor, name, DomainState.RUNNING)
    hypervisor.destroy("real", name)


def test_a_saved_run_goes_on_but_never_with_a_disk_that_was_replaced(
    hypervisor: Hypervisor, libvirtd: PrivateLibvirtd, name: str
) -> None:
    for volume in ("old", "new", "data"):
        hypervisor.create_volume("real", "gk", f"{name}-{volume}", capacity=16 * MIB)
    old, new = (config_of(name, system=f"{name}-{volume}") for volume in ("old", "new"))
    more = replace(
        old, disks=(*old.disks, DiskConfig("disk-data", "gk", f"{name}-data", target="vdb"))
    )
    hypervisor.define("real", old, ours(name))
    hypervisor.start("real", name)
    connection = libvirt.open(libvirtd.uri)
    domain = connection.lookupByName(name)
    for wanted, disk, goes_on in ((more, "old", True), (new, "new", False)):
        domain.managedSave(0)

        def seen() -> tuple[DomainState, StateReason, bool]:
            view = hypervisor.domain("real", name)
            assert view is not None
            return view.state, view.reason, view.saved

        wait_until(lambda: seen() == (DomainState.SHUTOFF, StateReason.SAVED, True), 10, "saved")
        hypervisor.define("real", wanted, ours(name))
        # libvirt-guests may be the next to start it, so it is dropped at once.
        assert seen()[2] is goes_on
        hypervisor.start("real", name)
        view = hypervisor.domain("real", name)
        assert view is not None and view.live is not None
        assert (view.saved, [one.volume for one in view.live.disks]) == (False, [f"{name}-{disk}"])
        (pid,) = libvirtd.qemu_pids(name)
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        assert (b"-incoming" in words) is goes_on
    connection.close()
    hypervisor.destroy("real", name)


def test_a_foreign_domain_is_never_written_to(
    hypervisor: Hypervisor, libvirtd: PrivateLibvirtd, name: str
) -> None:
    connection = libvirt.open(libvirtd.uri)
    foreign = connection.defineXML(
        f"<domain type='qemu'><name>{name}</name><memory>65536</memory>"
        "<os><type arch='x86_64' machine='q35'>hvm</type></os></domain>"
    )
    before = foreign.XMLDesc(0)
    view = wait_until(
        lambda: hypervisor.domain("real", name), 10, "the foreign domain is in the index"
    )
    assert view.ownership is None
    assert name not in hypervisor.owned("real")
    same = replace(config_of(name), uuid=foreign.UUIDString())
    for write in (
        lambda: hypervisor.define("real", same, ours(name)),
        lambda: hypervisor.define("real", config_of(name), ours(name)),
        lambda: hypervisor.set_ownership("real", name, ours(name)),
        lambda: hypervisor.start("real", name),
        lambda: hypervisor.shutdown("real", name),
        lambda: hypervisor.destroy("real", name),
        lambda: hypervisor.eject("real", name, "cdrom-seed"),
    ):
        with pytest.raises(PermanentError) as caught:
            write()
        assert caught.value.reason == "NameConflict"
    assert foreign.XMLDesc(0) == before
    connection.close()


def test_ownership_is_written_to_both_definitions(hypervisor: Hypervisor, name: str) -> None:
    hypervisor.define("real", config_of(name), ours(name))
    for start in (False, True):
        if start:
            hypervisor.start("real", name)
        wanted = replace(ours(name), generation=2 + start, digest="digest", spec='{"a": "ä"}')
        hypervisor.set_ownership("real", name, wanted)
        view = hypervisor.domain("real", name)
        assert view is not None
        assert view.ownership == wanted
    hypervisor.destroy("real", name)


def test_an_agent_that_is_not_there_is_told_at_once(hypervisor: Hypervisor, name: str) -> None:
    hypervisor.define("real", config_of(name), ours(name))
    hypervisor.start("real", name)
    with pytest.raises(AgentUnavailableError):
        hypervisor.agent_command("real", name, '{"execute":"guest-ping"}', 2)
    hypervisor.destroy("real", name)


def test_the_console_streams_what_the_firmware_says(hypervisor: Hypervisor, name: str) -> None:
    config = replace(config_of(name), boot=None)
    hypervisor.define("real", config, ours(name))
    hypervisor.start("real", name)
    with hypervisor.open_console("real", name) as console:
        hypervisor.destroy("real", name)
        collected: list[bytes] = []
        reader = threading.Thread(target=lambda: collected.extend(console), daemon=True)
        reader.start()
        reader.join(20)
        assert not reader.is_alive(), "the console ends with its domain"


def test_events_alone_cause_xml_to_be_read(
    hypervisor: Hypervisor, events: Events, name: str
) -> None:
    hypervisor.define("real", config_of(name), ours(name))
    wait_until(lambda: (name, "defined") in events.seen, 10, "the definition's event")
    hypervisor.domain("real", name)
    before = hypervisor.xml_reads("real")
    for _ in range(5):
        assert hypervisor.resync("real") == frozenset()
        hypervisor.domain("real", name)
    assert hypervisor.xml_reads("real") == before
    events.calls.clear()
    hypervisor.resync("real")
    assert events.calls == [("list domains", "ok")]


def test_what_somebody_else_does_is_seen(
    hypervisor: Hypervisor, libvirtd: PrivateLibvirtd, name: str
) -> None:
    hypervisor.define("real", config_of(name), ours(name))
    connection = libvirt.open(libvirtd.uri)
    connection.lookupByName(name).setVcpusFlags(2, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
    assert name in hypervisor.resync("real", deep=True)
    view = hypervisor.domain("real", name)
    assert view is not None and view.config.vcpus == 2
    connection.lookupByName(name).undefine()
    wait_until(lambda: hypervisor.domain("real", name) is None, 10, "the domain is gone")
    connection.close()


def test_a_stuck_call_holds_up_nobody_else(hypervisor: Hypervisor, name: str) -> None:
    hypervisor.define("real", config_of(name), ours(name))
    link = hypervisor._hosts["real"].link
    hold = threading.Event()
    with pytest.raises(HostUnreachableError, match="did not answer within"):
        link.call(Role.ACT, "hang", lambda _: hold.wait(), 0.05)
    assert hypervisor.stuck_calls("real") == 1
    hypervisor.start("real", name)
    hypervisor.destroy("real", name)
    hold.set()
    wait_until(lambda: hypervisor.stuck_calls("real") == 0, 5, "the stuck call came back")


def sockets() -> int:
    """Those of this process."""
    return sum(one.is_socket() for one in Path("/proc/self/fd").iterdir())


def test_a_connection_full_of_stuck_calls_is_replaced_and_its_socket_closed_in_the_end(
    hypervisor: Hypervisor,
) -> None:
    link = hypervisor._hosts["real"].link
    session, before = link.ensure_reachable(), sockets()
    hold, old = threading.Event(), session.connections[Role.AGENT]
    for _ in range(3):
        with pytest.raises(HostUnreachableError, match="did not answer within"):
            link.call(Role.AGENT, "hang", lambda one: hold.wait() and one.getHostname(), 0.05)
    wait_until(lambda: session.connections[Role.AGENT] is not old, 10, "it was replaced")
    assert sockets() > before
    assert link.call(Role.AGENT, "ask", lambda one: one.getHostname(), 5)
    hold.set()
    wait_until(lambda: sockets() == before, 10, "the old one's socket is closed")
    assert link.ensure_reachable() is session


def test_half_open_connects_lose_no_host(libvirtd: PrivateLibvirtd) -> None:
    """A socket that takes connections and says nothing, as a libvirtd that hangs; then a real one.

    What hangs at the first goes on doing so.
    """
    silent = socket.socket(socket.AF_UNIX)
    door = libvirtd.root / "door"
    silent.bind(str(door))
    silent.listen(64)
    uri = f"qemu+unix:///session?socket={door}"
    told: list[bool] = []
    link = HostLink(
        HostConfig("far", uri),
        connected=lambda *_: None,
        on_host=lambda _host, reachable, _why: told.append(reachable),
        on_call=lambda *_: None,
        pace=Pace(open=0.2, stuck=0.3),
    )
    link.start()
    try:
        wait_until(lambda: link.stuck_calls >= 3, 20, "three connects hang")
        door.unlink()
        door.symlink_to(libvirtd.socket)
        wait_until(lambda: link.reachable, 20, "it is connected")
        assert link.stuck_calls >= 3
        assert link.call(Role.LOOK, "ask", lambda one: one.getHostname(), 5)
        assert told == [False, True]
    finally:
        silent.close()
        link.stop()
        door.unlink()
    wait_until(lambda: link.stuck_calls == 0, 10, "they came back with the socket's end")


def test_a_restarted_libvirtd_is_found_again_and_guests_live_on(
    hypervisor: Hypervisor, libvirtd: PrivateLibvirtd, events: Events, name: str
) -> None:
    hypervisor.define("real", config_of(name), ours(name))
    hypervisor.start("real", name)
    pids = libvirtd.qemu_pids(name)
    libvirtd.stop()
    wait_until(lambda: not hypervisor.host("real").reachable, 10, "the host is lost")
    assert hypervisor.host("real").why
    with pytest.raises(HostUnreachableError):
        hypervisor.domain("real", name)
    with pytest.raises(HostUnreachableError):
        hypervisor.start("real", name)
    libvirtd.start()
    wait_until(lambda: hypervisor.host("real").reachable, 30, "the host is back")
    reach(hypervisor, name, DomainState.RUNNING)
    assert libvirtd.qemu_pids(name) == pids
    assert [reachable for reachable, _ in events.hosts][-1] is True
    hypervisor.destroy("real", name)
    reach(hypervisor, name, DomainState.SHUTOFF)
    assert (name, "stopped") in events.seen, "events are registered anew"


def test_a_hung_libvirtd_is_noticed_by_keepalive(
    libvirtd: PrivateLibvirtd, events: Events, name: str
) -> None:
    config = HostConfig("real", libvirtd.uri, "gk", {"gk": str(libvirtd.root / "pool" / "gk")})
    one = Hypervisor([config], events.on_event, events.on_host, events.on_call)
    one.open()
    one.define("real", config_of(name), ours(name))
    try:
        libvirtd.signal(signal.SIGSTOP)
        with pytest.raises(HostUnreachableError):
            one.start("real", name)
        wait_until(lambda: not one.host("real").reachable, 30, "the hung host is lost")
        assert one.host("real").why
    finally:
        libvirtd.signal(signal.SIGCONT)
    wait_until(lambda: one.host("real").reachable, 40, "the host is back")
    assert one.domain("real", name) is not None
    one.close()
