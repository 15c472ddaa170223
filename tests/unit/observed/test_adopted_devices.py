"""A domain that was adopted while it ran: its running devices are known by the note."""

import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from controller.errors import TransientError
from controller.hypervisor.domains.adoption import marked
from controller.hypervisor.xml.render import render
from controller.hypervisor.xml.update import update
from controller.observed.adopted_devices import (
    ADOPTED_NAMESPACE,
    adopted_note,
    alias_name,
    place_of,
)
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


NAMED = (
    FOREIGN.replace(
        "<target dev='vdb' bus='virtio'/>", "<target dev='vdb'/><alias name='ua-disk-system'/>"
    )
    .replace("<target dev='sda' bus='sata'/>", "<target dev='sda'/><alias name='ua-tools'/>")
    .replace("<target dev='fda'/>", "<target dev='fda'/><alias name='ua-disk-floppy'/>")
    .replace("<model type='e1000e'/>", "<model type='e1000e'/><alias name='ua-uplink'/>")
)
"""An operator gave names, one of them that which another device gets from us."""


def names_of(xml: str) -> dict[str, str]:
    root = ET.fromstring(xml)
    devices = (*root.iterfind("devices/disk"), *root.iterfind("devices/interface"))
    return {place_of(device): alias_name(device) for device in devices}


def test_an_alias_that_an_operator_gave_stays_and_the_device_is_ours_by_the_note() -> None:
    before = names_of(NAMED)
    xml = marked(NAMED, OWNER, ALIASES)
    after = names_of(xml)
    assert {place: name for place, name in after.items() if before[place]} == {
        **{place: name for place, name in before.items() if name},
        "vda": "ua-disk-system-0",
    }
    parsed = parse_domain(xml)
    assert [(disk.alias, disk.target) for disk in parsed.config.disks] == [
        ("disk-system", "vda"),
        ("cdrom-tools", "sda"),
    ]
    assert [nic.alias for nic in parsed.config.nics] == ["nic-lan", "nic-out"]
    assert parse_domain(marked(xml, OWNER, ALIASES)) == parsed, "done again, it is the same"


def test_what_was_left_to_the_operator_is_his_whatever_it_is_called() -> None:
    """Redefined, it is neither taken out nor taken for one of ours."""
    xml = marked(NAMED, OWNER, ALIASES)
    after = update(xml, render(parse_domain(xml).config, OWNER))
    assert names_of(after) == names_of(xml)


def test_the_running_domain_has_the_same_of_ours() -> None:
    live = ET.fromstring(NAMED)
    note = adopted_note(live, ALIASES)
    note.tag = f"{{{ADOPTED_NAMESPACE}}}devices"
    metadata = live.find("metadata")
    assert metadata is not None
    metadata.append(note)
    stored = parse_domain(marked(NAMED, OWNER, ALIASES))
    running = parse_domain(ET.tostring(live, encoding="unicode"), stored)
    assert running.config == stored.config
    # ... and when it was started anew, it has what the definition has.
    again = parse_domain(marked(NAMED, OWNER, ALIASES), stored)
    assert again.config == stored.config


def test_a_device_that_an_operator_adds_under_a_name_of_his_is_not_ours() -> None:
    xml = marked(FOREIGN, OWNER, ALIASES)
    disk = (
        "<disk type='file' device='disk'><source file='/s.img'/><target dev='vdz'/>"
        "<alias name='ua-scratch'/></disk></devices>"
    )
    added = xml.replace("</devices>", disk, 1)
    parsed = parse_domain(added)
    assert parsed == parse_domain(xml)
    assert "vdz" in names_of(update(added, render(parsed.config, OWNER)))


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
