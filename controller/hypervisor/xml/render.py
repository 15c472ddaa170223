"""Renders a ``DomainConfig`` to domain XML, for libvirt to define.

The counterpart of ``observed/domain_xml.py``, which must parse what is rendered here to the same
value: our XML, and libvirt's definition and live XML made from it. Built only as an element tree;
no XML text is concatenated.
"""

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum

from controller.errors import PermanentError
from controller.observed.adopted_devices import ADOPTED_NAMESPACE
from controller.observed.domain import (
    ALIAS_PREFIX,
    NAMESPACE,
    NO_LIMITS,
    BootConfig,
    DiskConfig,
    DomainConfig,
    IoTune,
    NicConfig,
    Ownership,
)
from controller.observed.domain_xml import AGENT_CHANNEL, ownership_element
from controller.observed.qemu_arguments import QEMU_NAMESPACE, TEST_ARGUMENTS_NAMESPACE

SPARE_PORTS = 14
"""Free PCIe root ports for hot-plug; a q35 domain cannot get more while it runs."""
_OWN_PCI_DEVICES = 5  # USB and SCSI controllers, virtio-serial, balloon, rng
_USER_SLOT = 0x10
_MAX_USER_NICS = 10
"""Slots of the root bus from 0x10 to 0x19: libvirt fills the bus from below (eight root ports per
slot) and puts its chipset devices at 0x1a and above."""

_FORWARD = re.compile(r"(?P<host>[0-9.]*:\d+):(?P<guest>\d+)/(?P<protocol>tcp|udp)")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


class Dialect(StrEnum):
    """The libvirt driver for the XML. The test driver has only its own domain type, and no QEMU."""

    QEMU = "qemu"
    TEST = "test"


ET.register_namespace("gk", NAMESPACE)
ET.register_namespace("gka", ADOPTED_NAMESPACE)
ET.register_namespace("qemu", QEMU_NAMESPACE)
ET.register_namespace("gktest", TEST_ARGUMENTS_NAMESPACE)


def render(
    config: DomainConfig,
    ownership: Ownership | None,
    dialect: Dialect = Dialect.QEMU,
    serial_log: str | None = None,
) -> str:
    """The domain XML for ``virDomainDefineXMLFlags(VALIDATE)``.

    Raises ``PermanentError`` if ``config`` cannot be expressed in XML (a malformed forward, more
    user interfaces than slots). ``ownership`` None is for display only. ``serial_log`` is the path
    on the host of the log of the serial port.
    """
    mark = ownership_element(ownership) if ownership is not None else None
    return text_of(domain_tree(config, mark, dialect, serial_log))


def domain_tree(
    config: DomainConfig,
    mark: ET.Element | None,
    dialect: Dialect,
    serial_log: str | None,
    *,
    channels: Sequence[str] = (),
) -> ET.Element:
    """The domain as a tree, with ``mark`` in its metadata. Raises as ``render``.

    ``channels`` are the names of virtio-serial ports in addition to the guest agent's, each a
    socket that libvirt creates.
    """
    root = ET.Element("domain", type=_type(config, dialect))
    _text(root, "name", config.name)
    _text(root, "uuid", config.uuid)
    if config.title:
        _text(root, "title", config.title)
    if config.description:
        _text(root, "description", config.description)
    metadata = ET.SubElement(root, "metadata")
    if mark is not None:
        metadata.append(mark)
    _text(root, "memory", str(config.max_memory // 1024), unit="KiB")
    _text(root, "currentMemory", str(config.memory // 1024), unit="KiB")
    _text(root, "vcpu", str(config.max_vcpus), current=str(config.vcpus))
    _os(root, config)
    features = ET.SubElement(root, "features")
    ET.SubElement(features, "acpi")
    ET.SubElement(features, "apic")
    ET.SubElement(
        root, "cpu", mode="host-passthrough" if config.accelerator == "kvm" else "maximum"
    )
    ET.SubElement(root, "clock", offset="utc")
    _text(root, "on_poweroff", config.on_poweroff)
    _text(root, "on_reboot", config.on_reboot)
    _text(root, "on_crash", config.on_crash)
    if config.agent_channel:
        channels = (AGENT_CHANNEL, *channels)
    _devices(root, config, serial_log, channels)
    _user_nics(root, metadata, [nic for nic in config.nics if nic.kind == "user"], dialect)
    if not len(metadata):
        root.remove(metadata)
    return root


def text_of(root: ET.Element) -> str:
    """The tree as indented XML text for libvirt."""
    ET.indent(root)
    return ET.tostring(root, encoding="unicode")


def render_ownership(ownership: Ownership) -> str:
    """The ownership element as XML for ``virDomainSetMetadata``."""
    return ET.tostring(ownership_element(ownership, namespaced=False), encoding="unicode")


def _type(config: DomainConfig, dialect: Dialect) -> str:
    if dialect is Dialect.TEST:
        if config.accelerator == "kvm":
            raise PermanentError("libvirt's test driver has no KVM; use accelerator: auto")
        return "test"
    return "kvm" if config.accelerator == "kvm" else "qemu"


def _text(parent: ET.Element, tag: str, text: str, **attributes: str) -> ET.Element:
    element = ET.SubElement(parent, tag, attributes)
    element.text = text
    return element


def _os(root: ET.Element, config: DomainConfig) -> None:
    os = ET.SubElement(root, "os")
    if config.firmware == "efi":
        os.set("firmware", "efi")
    _text(os, "type", "hvm", arch="x86_64", machine="q35")
    if config.boot is not None:
        if config.firmware == "efi":
            # A kernel that is booted directly is not signed with one of Secure Boot's keys.
            firmware = ET.SubElement(os, "firmware")
            ET.SubElement(firmware, "feature", enabled="no", name="secure-boot")
        _boot(os, config.boot)
    else:
        ET.SubElement(os, "boot", dev="hd")


def _boot(os: ET.Element, boot: BootConfig) -> None:
    _text(os, "kernel", boot.kernel)
    if boot.initrd is not None:
        _text(os, "initrd", boot.initrd)
    if boot.args:
        _text(os, "cmdline", boot.args)


def _devices(
    root: ET.Element, config: DomainConfig, serial_log: str | None, channels: Sequence[str]
) -> None:
    devices = ET.SubElement(root, "devices")
    nics = [nic for nic in config.nics if nic.kind != "user"]
    disks = [disk for disk in config.disks if disk.device == "disk"]
    ET.SubElement(devices, "controller", type="pci", index="0", model="pcie-root")
    for _ in range(_OWN_PCI_DEVICES + len(disks) + len(nics) + SPARE_PORTS):
        ET.SubElement(devices, "controller", type="pci", model="pcie-root-port")
    if len(disks) < len(config.disks):
        # Cloud kernels have no AHCI; all see a CD-ROM on virtio-scsi, and it can be ejected.
        ET.SubElement(devices, "controller", type="scsi", index="0", model="virtio-scsi")
    for disk in config.disks:
        _disk(devices, disk)
    for nic in nics:
        _nic(devices, nic)
    serial = ET.SubElement(devices, "serial", type="pty")
    if serial_log is not None:
        ET.SubElement(serial, "log", file=serial_log, append="on")
    ET.SubElement(serial, "target", port="0")
    console = ET.SubElement(devices, "console", type="pty")
    ET.SubElement(console, "target", type="serial", port="0")
    for name in channels:
        channel = ET.SubElement(devices, "channel", type="unix")
        ET.SubElement(channel, "target", type="virtio", name=name)
    ET.SubElement(devices, "memballoon", model="virtio")
    rng = ET.SubElement(devices, "rng", model="virtio")
    _text(rng, "backend", "/dev/urandom", model="random")
    ET.SubElement(devices, "panic", model="isa")


def _disk(devices: ET.Element, disk: DiskConfig) -> None:
    cdrom = disk.device == "cdrom"
    block = disk.path.startswith("/dev/")
    kind = "volume" if disk.volume and not disk.path else "block" if block else "file"
    element = ET.SubElement(devices, "disk", type=kind, device=disk.device)
    driver = ET.SubElement(element, "driver", name="qemu", type=disk.format)
    if disk.cache:
        driver.set("cache", disk.cache)
    if disk.path:
        ET.SubElement(element, "source", {"dev" if block else "file": disk.path})
    elif disk.volume is not None:
        ET.SubElement(element, "source", pool=disk.pool, volume=disk.volume)
    elif not cdrom:
        raise PermanentError(f"disk {disk.alias} of the domain has no volume")
    ET.SubElement(element, "target", dev=disk.target, bus="scsi" if cdrom else "virtio")
    if cdrom:
        ET.SubElement(element, "readonly")
    else:
        driver.set("discard", "unmap")
    _io_tune(element, disk.io_tune)
    ET.SubElement(element, "alias", name=ALIAS_PREFIX + disk.alias)


def _io_tune(disk: ET.Element, limits: IoTune) -> None:
    if limits == NO_LIMITS:
        return
    element = ET.SubElement(disk, "iotune")
    for name, limit in asdict(limits).items():
        if limit:
            _text(element, name, str(limit))


def _nic(devices: ET.Element, nic: NicConfig) -> None:
    if nic.kind not in ("network", "bridge"):
        raise PermanentError(f"interface {nic.alias}: kind {nic.kind} is not supported")
    element = ET.SubElement(devices, "interface", type=nic.kind)
    ET.SubElement(element, "mac", address=nic.mac)
    ET.SubElement(element, "source", {nic.kind: nic.source})
    ET.SubElement(element, "model", type=nic.model)
    if nic.link != "up":
        ET.SubElement(element, "link", state=nic.link)
    ET.SubElement(element, "alias", name=ALIAS_PREFIX + nic.alias)


def _user_nics(
    root: ET.Element, metadata: ET.Element, nics: list[NicConfig], dialect: Dialect
) -> None:
    if not nics:
        return
    if len(nics) > _MAX_USER_NICS:
        raise PermanentError(
            f"{len(nics)} user interfaces; a domain has room for {_MAX_USER_NICS}: remove some"
        )
    if dialect is Dialect.TEST:
        line, namespace = (
            ET.SubElement(metadata, f"{{{TEST_ARGUMENTS_NAMESPACE}}}commandline"),
            TEST_ARGUMENTS_NAMESPACE,
        )
    else:
        line, namespace = ET.SubElement(root, f"{{{QEMU_NAMESPACE}}}commandline"), QEMU_NAMESPACE
    for slot, nic in enumerate(nics, _USER_SLOT):
        for value in _user_nic(nic, slot):
            ET.SubElement(line, f"{{{namespace}}}arg", value=value)


def _user_nic(nic: NicConfig, slot: int) -> list[str]:
    """QEMU's arguments for user networking: libvirt's own (9.0) cannot forward without passt."""
    if _ID.fullmatch(nic.alias) is None or _MAC.fullmatch(nic.mac) is None:
        raise PermanentError(f"interface {nic.alias!r}: its name or MAC {nic.mac!r} is malformed")
    identity = ALIAS_PREFIX + nic.alias
    netdev = ["user", f"id={identity}"]
    for forward in nic.forwards:
        match = _FORWARD.fullmatch(forward)
        if match is None:
            raise PermanentError(
                f"interface {nic.alias}: forward {forward!r} is not ADDRESS:HOSTPORT:GUESTPORT/tcp"
            )
        netdev.append(f"hostfwd={match['protocol']}:{match['host']}-:{match['guest']}")
    device = ["virtio-net-pci", f"netdev={identity}", f"id={identity}", f"mac={nic.mac}"]
    device += ["bus=pcie.0", f"addr={slot:#x}"]
    return ["-netdev", ",".join(netdev), "-device", ",".join(device)]
