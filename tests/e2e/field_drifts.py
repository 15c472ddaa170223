"""What somebody with virsh changes about a running guest behind the daemon's back, field by field.

Each edit is made by libvirt's own calls over another connection: of the stored definition
(``virsh define`` of an edited XML, ``--config``), of the running domain (``--live``), or of both.
"""

import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass

import libvirt

from tests.field_rows import OTHER_MAC
from tests.waiting import wait_until

LIVE, CONFIG = libvirt.VIR_DOMAIN_AFFECT_LIVE, libvirt.VIR_DOMAIN_AFFECT_CONFIG
MIB = 2**20
Edit = Callable[[libvirt.virDomain], object]
_QEMU_ARG = "{http://libvirt.org/schemas/domain/qemu/1.0}arg"


@dataclass(frozen=True, slots=True)
class Drift:
    """``owns`` are the fields of what the daemon owns (``DomainConfig`` and kin) that it changes.

    ``told`` is what the daemon calls it. To put it right takes no boot, unless there was one since.
    """

    owns: tuple[str, ...]
    told: str
    by_hand: Edit
    id: str = ""


NOT_BY_HAND = {
    "DomainConfig.name": "only a domain that is off can be renamed, and then it is another guest's",
    "DomainConfig.uuid": "libvirt refuses another one",
    "DomainConfig.disks": "the fields of DiskConfig",
    "DomainConfig.nics": "the fields of NicConfig",
    "DiskConfig.io_tune": "the fields of IoTune",
}


def stored(edit: Callable[[ET.Element], None]) -> Edit:
    """``virsh edit``."""

    def by_hand(domain: libvirt.virDomain) -> None:
        flags = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
        root = ET.fromstring(domain.XMLDesc(flags))
        before = ET.tostring(root)
        edit(root)
        assert ET.tostring(root) != before, "the edit changes nothing"
        domain.connect().defineXML(ET.tostring(root, encoding="unicode"))

    return by_hand


def _text(path: str, text: str) -> Callable[[ET.Element], None]:
    def edit(root: ET.Element) -> None:
        root.find(path).text = text  # type: ignore[union-attr]

    return edit


def _set(path: str, name: str, value: str) -> Callable[[ET.Element], None]:
    def edit(root: ET.Element) -> None:
        root.find(path).set(name, value)  # type: ignore[union-attr]

    return edit


def _removed(parent: str, child: str) -> Callable[[ET.Element], None]:
    def edit(root: ET.Element) -> None:
        above = root.find(parent)
        above.remove(above.find(child))  # type: ignore[union-attr,arg-type]

    return edit


def _added(path: str, tag: str, text: str = "", **attributes: str) -> Callable[[ET.Element], None]:
    def edit(root: ET.Element) -> None:
        ET.SubElement(root.find(path), tag, attributes).text = text or None  # type: ignore[arg-type]

    return edit


def _all(*edits: Callable[[ET.Element], None]) -> Callable[[ET.Element], None]:
    def edit(root: ET.Element) -> None:
        for one in edits:
            one(root)

    return edit


def _device(kind: str, alias: str) -> str:
    return f"devices/{kind}/alias[@name='ua-{alias}']/.."


DISK, NIC = _device("disk", "disk-data"), _device("interface", "nic-dmz")
SYSTEM, DRIVE = _device("disk", "disk-system"), _device("disk", "cdrom-drive")


def _efi(root: ET.Element) -> None:
    root.find("os").set("firmware", "efi")  # type: ignore[union-attr]


def _another_port(port: str) -> Callable[[ET.Element], None]:
    def edit(root: ET.Element) -> None:
        for argument in root.iter(_QEMU_ARG):
            value = argument.get("value", "")
            if "hostfwd" in value:
                argument.set("value", f"{value},hostfwd=tcp:127.0.0.1:{port}-:81")

    return edit


def _to_bridge(bridge: str) -> Callable[[ET.Element], None]:
    def edit(root: ET.Element) -> None:
        nic = root.find(NIC)
        assert nic is not None
        nic.set("type", "bridge")
        source = nic.find("source")
        source.attrib.clear()  # type: ignore[union-attr]
        source.set("bridge", bridge)  # type: ignore[union-attr]

    return edit


def _live_device(kind: str, alias: str, domain: libvirt.virDomain) -> ET.Element:
    found = ET.fromstring(domain.XMLDesc()).find(_device(kind, alias))
    assert found is not None
    return found


def _updated(
    kind: str, alias: str, edit: Callable[[ET.Element], object], flags: int = LIVE
) -> Edit:
    """``virsh update-device``."""

    def by_hand(domain: libvirt.virDomain) -> None:
        device = _live_device(kind, alias, domain)
        edit(device)
        domain.updateDeviceFlags(ET.tostring(device, encoding="unicode"), flags)

    return by_hand


def _detached(kind: str, alias: str, flags: int) -> Edit:
    """``virsh detach-device``; by XML, it waits for the guest."""

    def by_hand(domain: libvirt.virDomain) -> None:
        device = _live_device(kind, alias, domain)
        domain.detachDeviceFlags(ET.tostring(device, encoding="unicode"), flags)

    return by_hand


def _titled(kind: int, flags: int) -> Edit:
    return lambda domain: domain.setMetadata(kind, "By hand", None, None, flags)


def _given_memory(flags: int) -> Edit:
    def by_hand(domain: libvirt.virDomain) -> None:
        wanted = 144 * 1024
        domain.setMemoryFlags(wanted, flags)
        if flags & LIVE:
            wait_until(lambda: domain.info()[2] == wanted, 20, "the balloon has moved")

    return by_hand


def _tuned(name: str, flags: int) -> Edit:
    return lambda domain: domain.setBlockIoTune("vdb", {name: 5 * MIB}, flags)


def _link_down(device: ET.Element) -> None:
    ET.SubElement(device, "link", state="down")


def _ejected(device: ET.Element) -> None:
    device.remove(device.find("source"))  # type: ignore[arg-type]


_IO_TUNE = ("total_bytes_sec", "read_bytes_sec", "write_bytes_sec", "total_iops_sec",
            "read_iops_sec", "write_iops_sec")  # fmt: skip


def drifts(bridge: str, network: str) -> list[Drift]:
    """The edits that a running guest's daemon puts right at once, or by hotplug."""
    title, description = (
        libvirt.VIR_DOMAIN_METADATA_TITLE,
        libvirt.VIR_DOMAIN_METADATA_DESCRIPTION,
    )
    found = [
        Drift(("autostart",), "autostart", lambda domain: domain.setAutostart(1)),
        Drift(("persistent",), "definition", lambda domain: domain.undefine()),
    ]
    for where, flags in (("stored", CONFIG), ("live", LIVE), ("both", LIVE | CONFIG)):
        found += [
            Drift(("title",), "title", _titled(title, flags), id=where),
            Drift(("description",), "description", _titled(description, flags), id=where),
            Drift(
                ("memory",),
                "memory.size",
                _given_memory(flags),
                id=where,
            ),
        ]
    for name in _IO_TUNE:
        found.append(Drift((name,), "disks[data].ioTune", _tuned(name, LIVE | CONFIG)))
    found += [
        Drift(("read_iops_sec",), "disks[data].ioTune", _tuned("read_iops_sec", LIVE), id="live"),
        Drift(("alias",), "disks[data]", stored(_removed(DISK, "alias")), id="disk"),
        Drift(("pool",), "disks[data]", stored(_set(f"{DISK}/source", "pool", "spare"))),
        Drift(("volume",), "disks[data]", stored(_set(f"{DISK}/source", "volume", "x.qcow2"))),
        Drift(("format",), "disks[data]", stored(_set(f"{DISK}/driver", "type", "raw"))),
        Drift(("target",), "disks[data]", stored(_all(
            _set(f"{DISK}/target", "dev", "vdk"), _removed(DISK, "address")))),
        Drift(("alias",), "disks[data]", stored(_remove_device(DISK)), id="disk gone"),
        Drift(("alias",), "disks[data]", _detached("disk", "disk-data", LIVE), id="disk unplugged"),
        Drift(
            ("alias",),
            "disks[data]",
            _detached("disk", "disk-data", LIVE | CONFIG),
            id="disk removed",
        ),
        Drift(("alias",), "systemDisk", stored(_removed(SYSTEM, "alias")), id="system disk"),
        Drift(("volume",), "systemDisk", stored(_set(f"{SYSTEM}/source", "volume", "x.qcow2")),
              id="system disk"),
        Drift(("volume",), "cdroms[drive].volume", stored(_removed(DRIVE, "source")), id="drive"),
        Drift(
            ("volume",),
            "cdroms[drive].volume",
            _updated("disk", "cdrom-drive", _ejected),
            id="ejected",
        ),
        Drift(
            ("device",), "cdroms[drive]", stored(_remove_device(DRIVE)), id="drive gone"
        ),
        Drift(("alias",), "interfaces[dmz]", stored(_removed(NIC, "alias")), id="interface"),
        Drift(("mac",), "interfaces[dmz].mac", stored(_set(f"{NIC}/mac", "address", OTHER_MAC))),
        Drift(("model",), "interfaces[dmz].model", stored(_set(f"{NIC}/model", "type", "e1000e"))),
        Drift(("kind",), "interfaces[dmz].network", stored(_to_bridge(bridge))),
        Drift(("source",), "interfaces[dmz].network",
              stored(_set(f"{NIC}/source", "network", network))),
        Drift(("link",), "interfaces[dmz].link", stored(_added(NIC, "link", state="down"))),
        Drift(("alias",), "interfaces[dmz]", stored(_remove_device(NIC)), id="interface gone"),
        Drift(
            ("link",),
            "interfaces[dmz].link",
            _updated("interface", "nic-dmz", _link_down),
            id="live",
        ),
        Drift(
            ("source",),
            "interfaces[dmz].network",
            _updated("interface", "nic-dmz", lambda nic: _network(nic, network)),
            id="live",
        ),
        Drift(
            ("alias",),
            "interfaces[dmz]",
            _detached("interface", "nic-dmz", LIVE),
            id="interface unplugged",
        ),
    ]  # fmt: skip
    return found


def _remove_device(path: str) -> Callable[[ET.Element], None]:
    def edit(root: ET.Element) -> None:
        root.find("devices").remove(root.find(path))  # type: ignore[union-attr,arg-type]

    return edit


def _network(nic: ET.Element, network: str) -> None:
    source = nic.find("source")
    source.attrib.clear()  # type: ignore[union-attr]
    source.set("network", network)  # type: ignore[union-attr]
    nic.set("type", "network")


def cold_drifts(port: str) -> list[Drift]:
    """Edits of the definition that a running guest does not notice, until it is booted by them.

    ``port`` is a free one of the host.
    """
    return [
        Drift(("vcpus",), "cpu.vcpus", stored(_set("vcpu", "current", "2"))),
        Drift(("max_vcpus",), "cpu.max", stored(_text("vcpu", "3"))),
        Drift(("max_memory",), "memory.max", stored(_text("memory", str(192 * 1024)))),
        Drift(("cache",), "disks[data].cache", stored(_set(f"{DISK}/driver", "cache", "none"))),
        Drift(("boot",), "image.boot.args", stored(_added_args()), id="arguments"),
        Drift(("forwards",), "interfaces[lan].user", stored(_another_port(port))),
        Drift(("on_poweroff",), "domain.on_poweroff", stored(_text("on_poweroff", "restart"))),
        Drift(("on_reboot",), "domain.on_reboot", stored(_text("on_reboot", "destroy"))),
        Drift(("on_crash",), "domain.on_crash", stored(_text("on_crash", "preserve"))),
    ]  # fmt: skip


def _added_args() -> Callable[[ET.Element], None]:
    def edit(root: ET.Element) -> None:
        line = root.find("os/cmdline")
        line.text = f"{line.text} by=hand"  # type: ignore[union-attr]

    return edit


def never_booted() -> list[Drift]:
    """Edits that the guest would not boot by here, or not be heard of: they stay on paper."""
    return [
        Drift(("accelerator",), "accelerator", stored(_kvm)),
        Drift(("firmware",), "firmware", stored(_efi)),
        Drift(("boot",), "image.boot.kernel", stored(_text("os/kernel", "/other")), id="kernel"),
        Drift(("boot",), "image.boot.kernel", stored(_text("os/initrd", "/other")), id="initrd"),
        Drift(("agent_channel",), "domain.agentChannel", stored(_remove_device(
            "devices/channel/target[@name='org.qemu.guest_agent.0']/.."))),
    ]  # fmt: skip


def _kvm(root: ET.Element) -> None:
    root.set("type", "kvm")
    root.find("cpu").set("mode", "host-passthrough")  # type: ignore[union-attr]
