"""The disk that a foreign domain boots from is what its definition says, or is not guessed."""

import xml.etree.ElementTree as ET

import pytest

from controller.observed.boot_disk import boot_disk


def disk(target: str, bus: str = "virtio", order: int = 0, device: str = "disk") -> str:
    boot = f"<boot order='{order}'/>" if order else ""
    return f"<disk device='{device}'><target dev='{target}' bus='{bus}'/>{boot}</disk>"


def nic(order: int) -> str:
    mac = "<mac address='52:54:00:00:00:01'/>"
    return f"<interface type='network'>{mac}<boot order='{order}'/></interface>"


def found(*devices: str, os: str = "") -> tuple[str, str]:
    xml = f"<domain><name>web1</name><os>{os}</os><devices>{''.join(devices)}</devices></domain>"
    return boot_disk(ET.fromstring(xml))


HD, CD = "<boot dev='hd'/>", "<boot dev='cdrom'/>"
ROOT = "<kernel>/k</kernel><cmdline>quiet root=/dev/%s ro</cmdline>"


@pytest.mark.parametrize(
    ("devices", "os", "target"),
    [
        ([disk("vda")], "", "vda"),
        ([disk("vdb"), disk("vda")], "", "vdb"),
        ([disk("vdb"), disk("vda")], HD, "vdb"),
        ([disk("vda", order=2), disk("vdb", order=1)], "", "vdb"),
        ([disk("vda", order=10), disk("sda", "sata", order=9)], "", "sda"),
        ([disk("vda"), disk("sda", "sata", order=3)], "", "sda"),
        ([disk("sda", "sata"), disk("vda")], HD, "sda"),
        ([disk("sdz", "sata", device="cdrom"), disk("vda")], CD + HD, "vda"),
        ([disk("sdz", "sata", 1, "cdrom"), disk("vda", order=2), nic(3)], "", "vda"),
        ([disk("sdz", "sata", 1, "cdrom"), disk("vda")], "", "vda"),
        ([disk("vda"), disk("vdb")], ROOT % "vdb1", "vdb"),
        ([disk("vda"), disk("vdb")], ROOT % "mapper/vg-root", "vda"),
        ([disk("vda"), disk("vdb")], "<cmdline>root=/dev/vdb</cmdline>", "vda"),
        ([disk("vda"), disk("vdb")], f"<boot dev='network'/>{HD}", "vda"),
        ([disk("vda"), disk("vdb", order=2), nic(1)], "", "vdb"),
        ([disk("fda", "fdc", 1, "floppy"), disk("vda", order=2)], "", "vda"),
        ([disk("fda", "fdc", 0, "floppy"), disk("vda")], f"<boot dev='fd'/>{CD}{HD}", "vda"),
    ],
)
def test_the_order_of_the_definition_counts(devices: list[str], os: str, target: str) -> None:
    assert found(*devices, os=os) == (target, "")


NETWORK = "<boot dev='network'/>"
NVME = "<hostdev mode='subsystem' type='pci'><boot order='1'/></hostdev>"


@pytest.mark.parametrize(
    ("devices", "os", "why"),
    [
        ([disk("hda", "ide"), disk("vda")], "", "on several buses (ide, virtio)"),
        ([disk("hda", "ide"), disk("vda")], CD, "on several buses (ide, virtio)"),
    ],
)
def test_what_is_not_said_is_not_guessed(devices: list[str], os: str, why: str) -> None:
    target, doubt = found(*devices, os=os)
    assert target == ""
    assert why in doubt
    assert doubt.endswith("<boot order='1'/> in that disk and no <boot dev=.../> in <os>")
    assert "virsh edit web1" in doubt


@pytest.mark.parametrize(
    ("devices", "os", "why"),
    [
        ([disk("vda")], NETWORK, "boots from the network first"),
        ([disk("vda")], NETWORK + CD, "boots from the network first"),
        ([disk("fda", "fdc", 0, "floppy"), disk("vda")], "<boot dev='fd'/>", "a floppy disk first"),
        ([disk("vda"), nic(1)], "", "boots from its interface 52:54:00:00:00:01 first"),
        ([disk("vda"), disk("fda", "fdc", 1, "floppy")], "", "boots from its floppy fda first"),
    ],
)
def test_what_goes_before_goes_on_to_do_so_when_the_advice_is_followed(
    devices: list[str], os: str, why: str
) -> None:
    target, doubt = found(*devices, os=os)
    assert target == ""
    assert why in doubt
    assert "<boot order='1'/> in what it boots from now, <boot order='2'/> in that disk" in doubt
    before = (
        nic(1) if "52:54" in devices[-1] or "network" in os else disk("fda", "fdc", 1, "floppy")
    )
    followed = [disk("vda", order=2), before]
    assert found(*followed) == ("vda", "")


@pytest.mark.parametrize(
    ("devices", "os", "why"),
    [
        ([disk("sda", "scsi", 1, "lun"), disk("vdb")], "", "boots from sda, a disk of the host's"),
        ([disk("sda", "scsi", device="lun"), disk("sdb", "scsi")], HD, "boots from sda, a disk of"),
        ([disk("vda", order=2), NVME], "", "boots from its hostdev first"),
        ([disk("vda"), NVME], "", "boots from its hostdev first"),
    ],
)
def test_a_system_that_is_on_a_device_of_the_hosts_is_left_there(
    devices: list[str], os: str, why: str
) -> None:
    target, doubt = found(*devices, os=os)
    assert target == ""
    assert why in doubt
    assert "a volume of a pool, so leave the domain as it is; only where" in doubt


def test_a_command_for_a_name_with_spaces_works() -> None:
    named = "<domain><name>Win 10</name><devices>%s</devices></domain>"
    _, doubt = boot_disk(ET.fromstring(named % (disk("hda", "ide") + disk("vda"))))
    assert "virsh edit 'Win 10'" in doubt


def test_where_there_is_no_disk_there_is_no_doubt() -> None:
    assert found(disk("sda", "sata", 1, "cdrom")) == ("", "")
