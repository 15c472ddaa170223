"""A domain that was adopted while it ran: its running devices are known by the note."""

import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from controller.errors import TransientError
from controller.hypervisor.adoption import marked
from controller.observed.adopted_devices import ADOPTED_NAMESPACE, adopted_note
from controller.observed.domain import Ownership
from controller.observed.domain_xml import parse_domain

FOREIGN = """<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
<name>old</name><uuid>2fd0e4f3-78ef-4486-bef9-87d1ce58fb6e</uuid>
<metadata><o:other xmlns:o='urn:o'/></metadata><memory>65536</memory><vcpu>1</vcpu><devices>
<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/pool/x.qcow2'/>
 <target dev='vda' bus='virtio'/><alias name='virtio-disk0'/></disk>
<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='/pool/y.raw'/>
 <target dev='vdb' bus='virtio'/></disk>
<disk type='file' device='cdrom'><target dev='sda' bus='sata'/></disk>
<disk type='file' device='floppy'><source file='/f.img'/><target dev='fda'/></disk>
<interface type='bridge'><mac address='52:54:00:00:00:01'/><source bridge='br0'/>
 <model type='e1000e'/></interface></devices>
<qemu:commandline><qemu:arg value='-netdev'/><qemu:arg value='user,id=u0,hostfwd=tcp::1-:2'/>
<qemu:arg value='-device'/><qemu:arg value='virtio-net-pci,netdev=u0,id=n0,mac=52:54:00:00:00:02'/>
<qemu:arg value='-device'/><qemu:arg value='other,id=u0'/></qemu:commandline></domain>"""
OWNER = Ownership("2fd0e4f3-78ef-4486-bef9-87d1ce58fb6e", "old", 1, "", "")
ALIASES = {
    "vda": "disk-system",
    "sda": "cdrom-tools",
    "52:54:00:00:00:01": "nic-lan",
    "52:54:00:00:00:02": "nic-out",
}


def noted(xml: str = FOREIGN) -> ET.Element:
    root = ET.fromstring(xml)
    note = adopted_note(root, ALIASES)
    note.tag = f"{{{ADOPTED_NAMESPACE}}}devices"
    metadata = root.find("metadata")
    assert metadata is not None
    metadata.append(note)
    return root


def aliases_of(live: ET.Element) -> list[str]:
    stored = parse_domain(marked(FOREIGN, OWNER, ALIASES))
    config = parse_domain(ET.tostring(live, encoding="unicode"), stored).config
    return [one.alias for one in (*config.disks, *config.nics)]


def test_of_a_foreign_domain_a_device_is_called_by_its_place() -> None:
    config = parse_domain(FOREIGN).config
    assert [(disk.alias, disk.pool, disk.volume) for disk in config.disks] == [
        ("vda", "", "/pool/x.qcow2"),
        ("vdb", "", "/pool/y.raw"),
        ("sda", "", None),
    ]
    assert [(nic.alias, nic.kind, nic.model) for nic in config.nics] == [
        ("52:54:00:00:00:01", "bridge", "e1000e"),
        ("52:54:00:00:00:02", "user", "virtio"),
    ]


def test_the_definition_gets_our_mark_and_our_aliases_and_stays_the_same_else() -> None:
    xml = marked(FOREIGN, OWNER, ALIASES)
    parsed = parse_domain(xml)
    assert parsed.ownership == OWNER
    assert [disk.alias for disk in parsed.config.disks] == ["disk-system", "cdrom-tools"]
    assert [nic.alias for nic in parsed.config.nics] == ["nic-lan", "nic-out"]
    before = parse_domain(FOREIGN).config
    after = {one.alias: one for one in (*parsed.config.disks, *parsed.config.nics)}
    for one in (*before.disks, *before.nics):
        if one.alias in ALIASES:
            assert after[ALIASES[one.alias]] == replace(one, alias=ALIASES[one.alias])
    assert "urn:o" in xml
    assert "other,id=u0" in xml
    assert parse_domain(marked(xml, OWNER, ALIASES)) == parsed, "done again, it is the same"


def test_a_device_that_is_gone_is_not_taken_over() -> None:
    with pytest.raises(TransientError, match="no device at vdz any more"):
        marked(FOREIGN, OWNER, {"vdz": "disk-data"})


def test_the_running_devices_are_the_adopted_ones() -> None:
    assert aliases_of(noted()) == ["disk-system", "cdrom-tools", "nic-lan", "nic-out"]


def test_another_disk_at_that_place_is_not_ours_but_another_medium_or_network_is() -> None:
    live = noted()
    for source in live.iterfind("devices/disk/source"):
        source.set("file", "/elsewhere/x.qcow2")
    drive = live.find("devices/disk[@device='cdrom']")
    assert drive is not None
    ET.SubElement(drive, "source", file="/a.iso")
    bridge = live.find("devices/interface/source")
    assert bridge is not None
    bridge.set("bridge", "br1")
    assert aliases_of(live) == ["cdrom-tools", "nic-lan", "nic-out"]


def test_a_file_that_became_a_volume_is_the_same_disk() -> None:
    stored = parse_domain(
        marked(FOREIGN, OWNER, ALIASES)
        .replace('<source file="/pool/x.qcow2" />', '<source pool="gk" volume="x.qcow2" />')
        .replace("type='file' device='disk'", "type='volume' device='disk'")
    )
    live = parse_domain(ET.tostring(noted(), encoding="unicode"), stored).config
    assert stored.config.disks[0].pool == "gk"
    assert live.disks[0] == stored.config.disks[0]


def test_interfaces_stand_in_the_order_of_the_definition() -> None:
    stored = parse_domain(marked(FOREIGN, OWNER, ALIASES))
    live = noted()
    devices = live.find("devices")
    assert devices is not None
    nic = ET.fromstring(
        "<interface type='bridge'><mac address='52:54:00:00:00:03'/><source bridge='br0'/>"
        "<alias name='ua-nic-first'/></interface>"
    )
    devices.append(nic)
    xml = ET.tostring(live, encoding="unicode")
    first = replace(stored.config.nics[0], alias="nic-first")
    wanted = replace(stored.config, nics=(first, *stored.config.nics))
    found = parse_domain(xml, replace(stored, config=wanted)).config
    assert [nic.alias for nic in found.nics] == ["nic-first", "nic-lan", "nic-out"]
