"""Each error of libvirt that code relies on, produced by a real libvirtd and QEMU.

They are compared with the table that fakes refuse by (``tests/libvirt_errors.py``), so what a fake
does is what the real thing did today. Commands that messages print are carried out in the state
that shows them.
"""

import json
import shlex
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import libvirt
import libvirt_qemu
import pytest

from controller.errors import (
    AgentUnavailableError,
    FilesystemsFrozenError,
    GuestkeeperError,
    HostUnreachableError,
    PermanentError,
    TransientError,
)
from controller.guest_access.agent import GuestAgent
from controller.hypervisor.connection.config import HostConfig
from controller.hypervisor.errors.translate import lost, translate
from controller.hypervisor.hypervisor import Hypervisor
from controller.hypervisor.xml.render import render
from controller.hypervisor.xml.update import update
from controller.observed.domain import (
    DomainState,
    DomainView,
    NicConfig,
    Ownership,
    StateReason,
)
from controller.observed.domain_xml import parse_config, parse_domain
from controller.planning.compare.fitting import fitted
from tests.e2e.private_libvirtd import PrivateLibvirtd
from tests.e2e.system_libvirtd import AVAILABLE, SystemLibvirtd
from tests.libvirt_errors import RECORDED, RECORDED_WITH, masked
from tests.micro import micro
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(shutil.which("libvirtd") is None, reason="libvirtd is not installed"),
    pytest.mark.skipif(not AVAILABLE, reason="networks and bridges need a privileged libvirtd"),
]
VALIDATE = libvirt.VIR_DOMAIN_DEFINE_VALIDATE
LIVE = libvirt.VIR_DOMAIN_AFFECT_LIVE
GUEST = "answers"


@dataclass
class Real:
    """A libvirtd of its own, with a pool and a micro guest that has an agent."""

    uri: str
    root: Path
    connection: libvirt.virConnect

    @property
    def guest(self) -> libvirt.virDomain:
        return self.connection.lookupByName(GUEST)

    def define(self, name: str, devices: str = "", **parts: str) -> libvirt.virDomain:
        return self.connection.defineXMLFlags(xml_of(name, devices, **parts), VALIDATE)

    def start(self, name: str, devices: str = "", **parts: str) -> None:
        domain = self.define(name, devices, **parts)
        try:
            domain.create()
        finally:
            if domain.isActive():
                domain.destroy()
            domain.undefine()

    def ask(self, execute: str, **arguments: Any) -> Any:
        command = json.dumps({"execute": execute, "arguments": arguments})
        answer = libvirt_qemu.qemuAgentCommand(self.guest, command, 20, 0)
        return json.loads(answer)["return"]

    def command(self, _host: str, name: str, text: str, timeout: float) -> str:
        """As ``hypervisor/`` does it."""
        domain = self.connection.lookupByName(name)
        try:
            return str(libvirt_qemu.qemuAgentCommand(domain, text, round(timeout), 0))
        except libvirt.libvirtError as error:
            raise translate(error, "h", "agent command", agent=True) from error

    def follow(self, message: str, tool: str = "virsh") -> None:
        """Carries out the commands of that tool that a message prints."""
        found = message.replace(":", ";").replace(",", ";").split(";")
        commands = [part.strip() for part in found if part.strip().startswith(f"{tool} ")]
        assert commands, message
        for command in commands:
            words = shlex.split(command)
            words[1:1] = ["--connect", self.uri] if tool == "virsh" else []
            subprocess.run(words, check=True, capture_output=True, timeout=30)


def xml_of(
    name: str,
    devices: str = "",
    *,
    memory: str = "64",
    os: str = "",
    os_attributes: str = "",
    features: str = "<acpi/>",
    machine: str = "q35",
    vcpu: str = "1",
    cpu: str = "",
    more: str = "",
) -> str:
    return f"""<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
<name>{name}</name><uuid>{uuid.uuid5(uuid.NAMESPACE_URL, name)}</uuid>
<memory unit='MiB'>{memory}</memory><vcpu>{vcpu}</vcpu>
<os {os_attributes}><type arch='x86_64' machine='{machine}'>hvm</type>{os}</os>
<features>{features}</features><cpu mode='maximum'>{cpu}</cpu>
<pm><suspend-to-mem enabled='yes'/></pm>
<devices>{devices}</devices>{more}</domain>"""


def disk(volume: str, pool: str = "gk") -> str:
    return (
        "<disk type='volume' device='disk'><driver name='qemu' type='qcow2'/>"
        f"<source pool='{pool}' volume='{volume}'/><target dev='vda' bus='virtio'/></disk>"
    )


def file_disk(path: str, **driver: str) -> str:
    more = " ".join(f"{name}='{text}'" for name, text in driver.items())
    return (
        f"<disk type='file'><driver name='qemu' type='qcow2' {more}/><source file='{path}'/>"
        "<target dev='vda' bus='virtio'/></disk>"
    )


def nic(kind: str, source: str, *, model: str = "virtio", driver: str = "") -> str:
    where = f"<source {kind}='{source}'/>" if source else ""
    return f"<interface type='{kind}'>{where}<model type='{model}'/>{driver}</interface>"


def arguments(*words: str) -> str:
    inner = "".join(f"<qemu:arg value='{word}'/>" for word in words)
    return f"<qemu:commandline>{inner}</qemu:commandline>"


def volume_xml(name: str) -> str:
    return (
        f"<volume><name>{name}</name><capacity>1048576</capacity>"
        "<target><format type='qcow2'/></target></volume>"
    )


@pytest.fixture(scope="module")
def real() -> Iterator[Real]:
    root = Path(tempfile.mkdtemp(prefix="gkr-"))
    root.chmod(0o755)
    image = micro.build()
    daemon: PrivateLibvirtd = SystemLibvirtd(root)
    daemon.start()
    libvirt.registerErrorHandler(lambda *_: None, None)
    connection = libvirt.open(daemon.uri)
    try:
        directory = root / "pool" / "gk"
        directory.mkdir()
        target = f"<target><path>{directory}</path></target>"
        pool = connection.storagePoolDefineXML(f"<pool type='dir'><name>gk</name>{target}</pool>")
        pool.create()
        for name in ("v1", "lost"):
            pool.createXML(volume_xml(name))
        overlay = directory / "guest"
        create = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"]
        subprocess.run([*create, image / "one.qcow2", overlay], check=True)
        pool.refresh()
        boot = (
            f"<kernel>{image}/vmlinuz</kernel><initrd>{image}/initrd</initrd>"
            f"<cmdline>{micro.ARGS} micro=one</cmdline>"
        )
        channel = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/>"
        devices = disk("guest") + f"{channel}</channel>"
        connection.createXML(xml_of(GUEST, devices, memory="128", os=boot))
        one = Real(daemon.uri, root, connection)
        refusal(one, "agent not connected", lambda: one.ask("guest-ping"))
        yield one
    finally:
        for domain in connection.listAllDomains():
            persistent = domain.isPersistent()
            if domain.isActive():
                domain.destroy()
            if persistent:
                domain.undefine()
        for network in connection.listAllNetworks():
            if network.isActive():
                network.destroy()
            network.undefine()
        connection.close()
        daemon.stop()
        shutil.rmtree(root)


def refusal(real: Real, name: str, act: Callable[[], object]) -> GuestkeeperError:
    """What the daemon makes of it; fails where it is not as recorded."""
    recorded = RECORDED[name]
    error = _error_of(act)
    there = (error.get_error_code(), error.get_error_domain())
    assert there == (recorded.code, recorded.domain), f"{name}: {error}"
    gone = recorded.kind is HostUnreachableError
    made = translate(error, "h", "call", gone=gone, agent=recorded.agent)
    assert (type(made), made.reason) == (recorded.kind, recorded.reason), f"{name}: {made}"
    if real.connection.getLibVersion() == RECORDED_WITH:
        assert masked(error.get_error_message()) == recorded.message
    assert not lost(error, real.connection), "a connection that lives is not lost"
    return made


def _error_of(act: Callable[[], object]) -> libvirt.libvirtError:
    """A start whose QEMU ended before libvirt had read its words is begun again."""
    for _ in range(10):
        with pytest.raises(libvirt.libvirtError) as caught:
            act()
        error = caught.value
        if "failed to connect to monitor socket" not in error.get_error_message():
            break
    return error


def test_what_a_host_lacks_for_a_start(real: Real) -> None:
    pool = real.connection.storagePoolLookupByName("gk")
    real.connection.networkDefineXML("<network><name>gk-idle</name></network>")
    (real.root / "pool" / "gk" / "lost").unlink()
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        port = stranger.getsockname()[1]
        user = f"user,id=ua-nic-lan,hostfwd=tcp:127.0.0.1:{port}-:80"
        card = "virtio-net-pci,netdev=ua-nic-lan,addr=0x10"
        on_pcie = "virtio-net-pci,netdev=a,bus=pcie.0,addr=0x10"
        running = real.define("runs", disk("v1"))
        running.create()
        starts: dict[str, Callable[[], object]] = {
            "start with its pool gone": lambda: real.start("a", disk("x", "nopool")),
            "start with its volume gone": lambda: real.start("b", disk("novol")),
            "start with its volume's file gone": lambda: real.start("c", disk("lost")),
            "start with its file gone": lambda: real.start("d", file_disk("/nope/x")),
            "start with its disk in use": lambda: real.start("e", disk("v1")),
            "start with its network gone": lambda: real.start("f", nic("network", "nonet")),
            "start with its network inactive": lambda: real.start("g", nic("network", "gk-idle")),
            "start with its bridge gone": lambda: real.start("h", nic("bridge", "gkno0")),
            "start with its port taken": lambda: real.start(
                "i", more=arguments("-netdev", user, "-device", card)
            ),
            "start with more memory than the host": lambda: real.start("j", memory="100000000"),
            "start with its kernel gone": lambda: real.start(
                "k", os="<kernel>/nope/vmlinuz</kernel>"
            ),
            "start with a bus that the machine has not": lambda: real.start(
                "l", machine="pc", more=arguments("-netdev", "user,id=a", "-device", on_pcie)
            ),
            "start of a domain that runs": running.create,
        }
        with ThreadPoolExecutor(len(starts)) as threads:
            made = dict(
                zip(
                    starts,
                    threads.map(lambda one: refusal(real, one, starts[one]), starts),
                    strict=True,
                )
            )
    running.destroy()
    assert f"127.0.0.1:{port}/tcp" in str(made["start with its port taken"])
    assert str(real.root / "pool/gk/v1") in str(made["start with its disk in use"])
    assert "Bus 'pcie.0' not found" in str(made["start with a bus that the machine has not"])

    pool.destroy()
    inactive = refusal(real, "start with its pool inactive", lambda: real.start("m", disk("v1")))
    refusal(real, "look into an inactive pool", lambda: pool.storageVolLookupByName("v1"))
    real.follow(str(inactive))
    assert pool.isActive()
    real.follow(str(made["start with its network inactive"]))
    assert real.connection.networkLookupByName("gk-idle").isActive()
    try:
        real.follow(str(made["start with its bridge gone"]), "ip")
        assert Path("/sys/class/net/gkno0").exists()
    finally:
        subprocess.run(["ip", "link", "delete", "gkno0"], check=False, capture_output=True)


def test_what_no_domain_can_be(real: Real) -> None:
    native = file_disk("/pool/x", cache="writeback", io="native")
    drives = "".join(
        f"<disk type='file' device='cdrom'><target dev='sda' bus='{bus}'/></disk>"
        for bus in ("sata", "scsi")
    )
    iommu = nic("user", "", model="e1000e", driver="<driver iommu='on'/>")
    cells = "<numa><cell id='0' cpus='0-3' memory='64' unit='MiB'/></numa>"
    off = real.define("off")
    other = str(uuid.uuid4())
    for name, act in {
        "write-back cache beside native I/O": lambda: real.define("n", native),
        "a target twice": lambda: real.define("n", drives),
        "an IOMMU of e1000e": lambda: real.define("n", iommu),
        "UEFI without ACPI": lambda: real.define("n", os_attributes="firmware='efi'", features=""),
        "fewer vCPUs than in NUMA cells": lambda: real.define("n", cpu=cells),
        "no XML": lambda: real.connection.defineXMLFlags("<domain>", VALIDATE),
        "no valid XML": lambda: real.define("n", "<nothing/>"),
        "a name that another domain has": lambda: real.connection.defineXMLFlags(
            xml_of("off").replace(off.UUIDString(), other), VALIDATE
        ),
        "a UUID that another domain has": lambda: real.connection.defineXMLFlags(
            xml_of("off").replace("<name>off", "<name>on"), VALIDATE
        ),
    }.items():
        refusal(real, name, act)


def test_a_user_interface_is_given_to_an_i440fx_machine(real: Real) -> None:
    """As an adopted domain gets it: its root bus has another name, and devices in its slots."""
    domain = real.define("old", "<controller type='usb'/>", machine="pc")
    before = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    nic = NicConfig("nic-lan", "user", "", "52:54:00:00:30:01")
    config = replace(parse_config(before), nics=(nic,), disks=(), agent_channel=False)
    owner = Ownership(domain.UUIDString(), "old", 1, "", "{}")
    real.connection.defineXMLFlags(update(before, render(config, owner)), VALIDATE)
    domain.create()
    assert parse_domain(domain.XMLDesc(0)).config.nics == (nic,)
    domain.destroy()


def test_numa_cells_say_how_much_memory_there_is(real: Real) -> None:
    """Whatever else is defined; so it is refused, and not defined again and again."""
    cells = "<numa><cell id='0' cpus='0-1' memory='64' unit='MiB'/></numa>"
    domain = real.define("cells", cpu=cells, vcpu="2")
    config = parse_config(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
    more = replace(config, memory=2**27, max_memory=2**27)
    changed = domain.XMLDesc(0).replace(f"{2**16}</memory>", f"{2**17}</memory>")
    assert changed != domain.XMLDesc(0)
    kept = real.connection.defineXMLFlags(changed, VALIDATE)
    assert parse_config(kept.XMLDesc(0)).max_memory == config.max_memory == 2**26
    view = DomainView(
        "cells", config.uuid, DomainState.SHUTOFF, StateReason.OTHER, None, config, None
    )
    wanted, ((change, why),) = fitted(view, more)
    assert (wanted.memory, wanted.max_memory) == (config.memory, config.max_memory)
    assert change.path == "memory.size"
    assert "virsh edit cells" in why


def test_what_calls_to_domains_and_volumes_say(real: Real) -> None:
    pool = real.connection.storagePoolLookupByName("gk")
    bare = real.define("bare", "<memballoon model='none'/>")
    bare.create()
    missing = "<pool type='dir'><name>nowhere</name><target><path>/nope/pool</path></target></pool>"
    nowhere = real.connection.storagePoolDefineXML(missing)
    try:
        for name, act in {
            "no such domain": lambda: real.connection.lookupByName("nodomain"),
            "no metadata": lambda: bare.metadata(
                libvirt.VIR_DOMAIN_METADATA_ELEMENT, "urn:nothing", 0
            ),
            "memory without a balloon": lambda: bare.setMemoryFlags(32 * 1024, LIVE),
            "more vCPUs than the maximum": lambda: bare.setVcpusFlags(3, LIVE),
            "detach of no device": lambda: bare.detachDeviceAlias("ua-nope", LIVE),
            "wake of a domain that runs": lambda: bare.pMWakeup(0),
            "agent without a channel": lambda: libvirt_qemu.qemuAgentCommand(
                bare, '{"execute":"guest-ping"}', 5, 0
            ),
            "a volume's name that is taken": lambda: pool.createXML(volume_xml("v1")),
            "a pool whose directory is gone": nowhere.create,
            "no daemon": lambda: libvirt.open("qemu+unix:///system?socket=/nope/libvirt-sock"),
        }.items():
            refusal(real, name, act)
        bare.destroy()
        refusal(
            real,
            "agent of a domain that is off",
            lambda: libvirt_qemu.qemuAgentCommand(bare, '{"execute":"guest-ping"}', 5, 0),
        )
    finally:
        nowhere.undefine()


def answers(real: Real) -> None:
    wait_until(
        lambda: real.ask("guest-ping") == {},
        60,
        "the agent answers",
        ignoring=(libvirt.libvirtError,),
    )


def test_what_a_guest_agent_refuses(real: Real) -> None:
    agent = GuestAgent(real.command, time.monotonic, threading.Event().wait)
    answers(real)

    def run(*words: str) -> None:
        agent.exec("h", GUEST, list(words), timeout=20)

    refusal(real, "guest-exec of no program", lambda: real.ask("guest-exec", path="/nope"))
    refusal(real, "unknown agent command", lambda: real.ask("guest-nope"))
    refusal(
        real,
        "guest-exec-status of another agent's command",
        lambda: real.ask("guest-exec-status", pid=99999),
    )
    run("true")

    real.ask("guest-fsfreeze-freeze")
    refusal(real, "guest-exec while frozen", lambda: real.ask("guest-exec", path="/bin/true"))
    refusal(real, "guest-exec-status while frozen", lambda: real.ask("guest-exec-status", pid=1))
    with pytest.raises(AgentUnavailableError) as frozen:
        run("true")
    assert frozen.value.reason == "FilesystemsFrozen"
    hypervisor = Hypervisor([HostConfig("real", real.uri)])
    hypervisor.open()
    try:
        for act in (hypervisor.shutdown, hypervisor.destroy):
            with pytest.raises(FilesystemsFrozenError):
                act("real", GUEST)
        assert "virsh domfsthaw" in str(frozen.value)
        real.follow(str(frozen.value))
        with pytest.raises(PermanentError) as foreign:
            hypervisor.shutdown("real", GUEST)
        assert foreign.value.reason == "NameConflict"
    finally:
        hypervisor.close()
    run("true")

    # Asleep, and awake again by the command that is told.
    real.guest.pMSuspendForDuration(libvirt.VIR_NODE_SUSPEND_TARGET_MEM, 0, 0)
    asleep = libvirt.VIR_DOMAIN_PMSUSPENDED
    wait_until(lambda: real.guest.state()[0] == asleep, 20, "the guest sleeps")
    refusal(real, "agent of a domain that sleeps", lambda: real.ask("guest-ping"))
    refusal(real, "resume of a domain that sleeps", real.guest.resume)
    real.follow(f"virsh dompmwakeup {GUEST}")
    wait_until(lambda: real.guest.state()[0] != asleep, 20, "the guest is awake")
    answers(real)

    with pytest.raises(TransientError, match="lost the command") as restarted:
        run("sh", "-c", "kill -9 $(pidof qemu-ga); sleep 1000")
    assert restarted.value.reason == "AgentRestarted"

    # The agent as a distribution has it that blocks guest-exec.
    block = "--blacklist=guest-exec,guest-exec-status"
    script = f'#!/bin/sh\nexec /usr/sbin/qemu-ga.real {block} "$@"'
    run("sh", "-c", 'cd /usr/sbin; mv qemu-ga qemu-ga.real; echo "$1" >qemu-ga', "sh", script)
    with pytest.raises(PermanentError) as changed:
        run("sh", "-c", "chmod 755 /usr/sbin/qemu-ga; kill -9 $(pidof qemu-ga.real); sleep 1000")
    assert changed.value.reason == "GuestExecDisabled"
    refusal(real, "guest-exec blocked", lambda: real.ask("guest-exec", path="/bin/true"))
    refusal(real, "guest-exec-status blocked", lambda: real.ask("guest-exec-status", pid=1))
    with pytest.raises(PermanentError, match="/etc/sysconfig/qemu-ga") as disabled:
        run("true")
    assert disabled.value.reason == "GuestExecDisabled"
