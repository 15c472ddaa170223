"""What of a definition documents have no words for; the corpus says more of it."""

from pathlib import Path

import pytest

from controller.observed.kept import kept
from controller.observed.kept_devices import Kept

OURS = Path(__file__).parents[2] / "data" / "domain_xml" / "libvirt-9.0-inactive.xml"


def test_things_are_told_by_kind_and_place() -> None:
    xml = """<domain><memoryBacking><hugepages/></memoryBacking><devices>
      <disk type='file' device='disk'><target dev='vda' bus='virtio'/><serial>X</serial></disk>
      <disk type='file' device='floppy'><target dev='fda'/></disk>
      <filesystem type='mount'><source dir='/srv'/><target dir='code'/></filesystem>
      <hostdev mode='subsystem' type='pci'><source>
        <address domain='0x0000' bus='0x0a' slot='0x1f' function='0x3'/></source></hostdev>
      <redirdev bus='usb' type='spicevmc'/><redirdev bus='usb' type='spicevmc'/>
    </devices></domain>"""
    assert kept(xml) == (
        Kept("huge pages"),
        Kept("serial number", "vda"),
        Kept("floppy", "fda"),
        Kept("shared folder", "code (9p)"),
        Kept("passed-through device", "pci 0000:0a:1f.3"),
        Kept("USB redirection", "spicevmc usb"),
        Kept("USB redirection", "spicevmc usb (2)"),
    )


def test_of_a_domain_that_guestkeeper_made_little_is_told() -> None:
    assert {one.kind for one in kept(OURS.read_text())} == {
        "machine",
        "CPU model",
        "disk driver option",
    }


def test_what_is_no_xml_is_refused() -> None:
    with pytest.raises(ValueError, match="not XML"):
        kept("<domain>")
