"""The stand-in installer alone: what it reads, does and says, before the daemon is judged by it.

Bare libvirt and QEMU; the test plays the daemon's side of the marker channel. What the tests of
whole installs show anyway (its bad ends, the other deliveries) is left to them.
"""

import base64
import hashlib
import json
import subprocess
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import libvirt
import libvirt_qemu
import pytest

from tests.standin import standin
from tests.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.long]
INSTALL = 180.0
"""Seconds an install may take on a busy machine under TCG; the full one takes about 20."""
BOOT = 120.0
HASH = "$6$saltsalt$" + "qFmFH.bQmmtXzyBY0s9v7Oicd2z4XSIe" * 2
KICKSTART_ARGS = "inst.cmdline inst.ksstrict inst.notmux console=ttyS0"


@dataclass
class Machine:
    """A domain, what it said on its channels so far, and the answers it got."""

    domain: libvirt.virDomain
    started: float = field(default_factory=time.monotonic)
    said: dict[str, bytearray] = field(default_factory=dict)
    last_byte: float = field(default_factory=time.monotonic)

    @property
    def marks(self) -> list[str]:
        return self.said[standin.MARKER_CHANNEL].decode().splitlines()

    @property
    def log(self) -> str:
        return self.said[standin.LOG_CHANNEL].decode(errors="replace")

    def listen(self, channel: str) -> threading.Thread:
        """Reads a channel to its end, and answers as the daemon does.

        On a connection of its own: a blocking ``recv`` holds up every other call of a connection.
        """
        connection = libvirt.open(self.domain.connect().getURI())
        stream = connection.newStream()
        connection.lookupByUUID(self.domain.UUID()).openChannel(channel, stream, 0)
        heard = self.said[channel] = bytearray()

        def read() -> None:
            answered = 0
            while data := _received(stream):
                heard.extend(data)
                self.last_byte = time.monotonic()
                lines = heard.split(b"\n")[:-1]
                for line in lines[answered:]:
                    if line.split(b" ")[0] in (b"success", b"failure"):
                        stream.send(b"ok\n")
                answered = len(lines)
            connection.close()

        thread = threading.Thread(target=read)
        thread.start()
        return thread

    def wait_for(self, what: Callable[[], object], sentence: str, timeout: float = INSTALL) -> None:
        wait_until(lambda: what() or self._gone(sentence), timeout, sentence)

    def _gone(self, sentence: str) -> bool:
        if not self.domain.isActive():
            pytest.fail(f"off before {sentence}: {self.marks}\n{self.log}")
        return False

    def ended(self, timeout: float = INSTALL) -> int:
        """Waits until it is off; libvirt's reason."""
        wait_until(lambda: not self.domain.isActive(), timeout, "the machine went off")
        state, reason = self.domain.state()
        assert state == libvirt.VIR_DOMAIN_SHUTOFF
        return int(reason)


def _received(stream: libvirt.virStream) -> bytes:
    try:
        return bytes(stream.recv(4096))
    except libvirt.libvirtError:  # the domain is gone
        return b""


Install = Callable[..., AbstractContextManager[Machine]]


@pytest.fixture(scope="module")
def installer() -> Path:
    return standin.build()


@pytest.fixture(scope="module")
def tree(installer: Path) -> Iterator[standin.Tree]:
    with standin.serve(installer / "tree") as tree:
        yield tree


def _domain(
    name: str, disk: Path, boot: str, channels: list[str], cdrom: Path | None = None
) -> str:
    ports = "".join(
        f"<channel type='unix'><source mode='bind'/><target type='virtio' name='{port}'/></channel>"
        for port in channels
    )
    drive = (
        "<controller type='scsi' model='virtio-scsi'/><disk type='file' device='cdrom'>"
        f"<source file='{cdrom}'/><target dev='sda' bus='scsi'/><readonly/></disk>"
        if cdrom
        else ""
    )
    return f"""
<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>{name}</name>
  <memory unit='MiB'>768</memory>
  <vcpu>2</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type>{boot}</os>
  <features><acpi/></features>
  <cpu mode='maximum'/>
  <on_reboot>destroy</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/><source file='{disk}'/><target dev='vda' bus='virtio'/>
    </disk>
    {drive}
    <serial type='file'><source path='{disk}.serial'/></serial>
    {ports}
    <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
    <panic model='isa'/>
  </devices>
  <qemu:commandline>
    <qemu:arg value='-netdev'/><qemu:arg value='user,id=u0'/>
    <qemu:arg value='-device'/>
    <qemu:arg value='virtio-net-pci,netdev=u0,bus=pcie.0,addr=0x10'/>
  </qemu:commandline>
</domain>"""


@contextmanager
def _running(connection: libvirt.virConnect, xml: str) -> Iterator[Machine]:
    domain = connection.defineXML(xml)
    threads: list[threading.Thread] = []
    try:
        domain.create()
        machine = Machine(domain)
        ports = [
            target.get("name", "") for target in ET.fromstring(xml).iterfind(".//channel/target")
        ]
        listened = {standin.MARKER_CHANNEL, standin.LOG_CHANNEL}
        threads = [machine.listen(port) for port in ports if port in listened]
        yield machine
    finally:
        if domain.isActive():
            domain.destroy()
        domain.undefine()
        for thread in threads:
            thread.join(30)


@pytest.fixture
def install(
    connection: libvirt.virConnect,
    prefix: str,
    qemu_directory: Path,
    installer: Path,
    request: pytest.FixtureRequest,
) -> Install:
    """Starts an installation: ``args``, files appended to the initrd, a CD, the disk's name."""
    place = qemu_directory / hashlib.sha256(request.node.name.encode()).hexdigest()[:8]
    place.mkdir(mode=0o711)

    @contextmanager
    def start(
        args: str, *, files: dict[str, str] | None = None, cd: bytes | None = None
    ) -> Iterator[Machine]:
        initrd, disk, cdrom = place / "initrd", place / "disk.qcow2", place / "cd.iso"
        initrd.write_bytes(standin.initrd_with(installer / "initrd", files or {}, place / "files"))
        if cd is not None:
            cdrom.write_bytes(cd)
        _qcow2(disk)
        boot = f"<kernel>{installer}/vmlinuz</kernel><initrd>{initrd}</initrd>"
        boot += f"<cmdline>{args}</cmdline>"
        name = f"{prefix}{place.name}"
        ports = [standin.MARKER_CHANNEL, standin.LOG_CHANNEL]
        with _running(
            connection, _domain(name, disk, boot, ports, None if cd is None else cdrom)
        ) as machine:
            yield machine

    return start


def _qcow2(path: Path, backing: Path | None = None) -> None:
    command = ["qemu-img", "create", "-q", "-f", "qcow2"]
    command += ["-b", str(backing), "-F", "qcow2", str(path)] if backing else [str(path), "1G"]
    subprocess.run(command, check=True, timeout=30)


def test_a_kickstart_in_the_initrd_is_installed_and_the_disk_boots_by_itself(
    install: Install,
    connection: libvirt.virConnect,
    prefix: str,
    tree: standin.Tree,
    record_property: Callable[[str, object], None],
) -> None:
    answer = standin.render("server.ks.j2", repo=tree.guest_url, root_password_hash=HASH)
    args = f"inst.ks=file:/ks.cfg inst.repo={tree.guest_url} {KICKSTART_ARGS} inst.nosave=all"
    with install(args, files={"ks.cfg": answer}) as machine:
        assert machine.ended() == libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN
        record_property("install_seconds", time.monotonic() - machine.started)
        assert machine.marks == [
            "phase configuring",
            "phase sealing",
            "sealed",
            "sealed",
            "success",
        ]
        assert args in machine.log
        assert hashlib.sha256(answer.encode()).hexdigest() in machine.log
        assert HASH not in machine.log
        disk = Path(machine.domain.XMLDesc().split("source file='")[1].split("'")[0])
        serial = Path(f"{disk}.serial").read_text(errors="replace")
        assert "standin: phase packages" in serial

    overlay = disk.with_name("overlay.qcow2")
    _qcow2(overlay, disk)
    xml = _domain(f"{prefix}{disk.parent.name}", overlay, "", ["org.qemu.guest_agent.0"])
    with _running(connection, xml) as guest:
        wait_until(
            lambda: _agent(guest, "guest-ping") == {},
            BOOT,
            "the guest agent answered",
            ignoring=(libvirt.libvirtError,),
        )
        record_property("boot_seconds", time.monotonic() - guest.started)
        inside = _inside(
            guest,
            "cat /etc/machine-id; grep ^root: /etc/shadow; dpkg-query -Wf '${Status}' nginx-light;"
            " ls /etc/ssh /var/log; findmnt -no SOURCE /; systemctl is-failed '*'",
        )
        assert len(inside.splitlines()[0]) == 32
        assert f"root:{HASH}:" in inside
        assert "install ok installed" in inside
        assert "/dev/vda1" in inside
        assert "ssh_host" not in inside
        assert "anaconda" not in inside


def _agent(guest: Machine, command: str, **arguments: object) -> dict[str, object]:
    text = json.dumps({"execute": command, "arguments": arguments})
    reply = json.loads(libvirt_qemu.qemuAgentCommand(guest.domain, text, 5, 0))["return"]
    assert isinstance(reply, dict)
    return reply


def _inside(guest: Machine, script: str) -> str:
    started = _agent(
        guest, "guest-exec", path="/bin/sh", arg=["-c", script], **{"capture-output": True}
    )
    done = wait_until(
        lambda: (
            (found := _agent(guest, "guest-exec-status", pid=started["pid"]))["exited"] and found
        ),
        60,
        script,
    )
    return base64.b64decode(str(done["out-data"])).decode()


def test_without_inst_ks_the_kickstart_on_the_oemdrv_volume_is_read_and_halt_waits_for_a_key(
    install: Install, tree: standin.Tree
) -> None:
    answer = standin.render("server.ks.j2", standin=["root tiny", "nolinks"], ending="")
    args = f"inst.repo={tree.url} {KICKSTART_ARGS}"
    with install(args, cd=standin.iso("OEMDRV", {"ks.cfg": answer})) as machine:
        machine.wait_for(lambda: "press a key" in machine.log, "it waits for a key")
        assert machine.marks[-1] == "success"
        assert hashlib.sha256(answer.encode()).hexdigest() in machine.log
        assert machine.domain.isActive()


def test_without_an_answer_file_it_says_so_and_powers_off_without_a_word_on_the_channel(
    install: Install, tree: standin.Tree
) -> None:
    with install(f"inst.repo={tree.url} {KICKSTART_ARGS}") as machine:
        assert machine.ended() == libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN
        assert "no inst.ks, and no CD labelled OEMDRV" in machine.log
        assert machine.marks == []


def test_a_failed_post_script_is_a_failure_only_where_it_says_so(
    install: Install, tree: standin.Tree
) -> None:
    answer = standin.render(
        "server.ks.j2", standin=["root tiny"], post="echo no such thing; exit 3"
    )
    lenient = "%post\nexit 4\n%end\n"
    args = f"inst.ks=file:/ks.cfg inst.repo={tree.url} {KICKSTART_ARGS}"
    with install(args, files={"ks.cfg": lenient + answer}) as machine:
        assert machine.ended() == libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN
        assert machine.marks[0] == "phase configuring"
        assert "no such thing" in machine.marks[1]
        assert machine.marks[1].startswith("failure ")
        assert len(machine.marks) == 2
        assert "%post script 1 ended with exit status 4" in machine.log
