"""What of a foreign domain is named as left alone."""

import pytest

from controller.observed.other_devices import other_devices


def test_other_devices_are_named_by_what_they_are() -> None:
    xml = """<domain><devices>
      <disk type='file' device='disk'><target dev='vda'/></disk>
      <disk type='file' device='floppy'><target dev='fda'/></disk>
      <filesystem type='mount'><source dir='/srv'/><target dir='code'/></filesystem>
      <hostdev mode='subsystem' type='pci'/><video/>
    </devices></domain>"""
    assert other_devices(xml) == (
        "its floppy (fda)",
        "a shared folder (code)",
        "a passed-through device",
    )


def test_what_is_no_xml_is_refused() -> None:
    with pytest.raises(ValueError, match="not XML"):
        other_devices("<domain>")
