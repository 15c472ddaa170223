"""Which devices of a domain that was adopted while it ran are ours.

A running device cannot be given an alias, so until the domain stops they are known by where they
are. That is noted in the metadata of the running domain alone, which is gone when it stops, as they
are. Pure.
"""

import xml.etree.ElementTree as ET
from collections.abc import Mapping

ADOPTED_NAMESPACE = "urn:guestkeeper:adopted:v1"


def place_of(device: ET.Element) -> str:
    """Where a ``<disk>`` or ``<interface>`` is: its target, its MAC."""
    child, name = ("target", "dev") if device.tag == "disk" else ("mac", "address")
    element = device.find(child)
    return element.get(name, "") if element is not None else ""


class AdoptedDevices:
    """The note in a running domain's metadata, where there is one."""

    def __init__(self, root: ET.Element) -> None:
        self._noted = {
            note.get("place", ""): note
            for note in root.iterfind(f"metadata/{{{ADOPTED_NAMESPACE}}}devices/*")
        }

    def alias(self, device: ET.Element) -> str:
        """Without prefix; '' for a device that is not ours.

        Another disk at the place of one that was adopted is not that one; a drive is, whatever is
        in it, and an interface, wherever it leads.
        """
        note = self._noted.get(place_of(device))
        if note is None:
            return ""
        fixed = device.tag == "disk" and device.get("device", "disk") != "cdrom"
        if fixed and note.get("source", "") != _source(device):
            return ""
        return note.get("alias", "")

    def alias_of_mac(self, mac: str) -> str:
        """Of an interface that stands among QEMU's arguments."""
        note = self._noted.get(mac)
        return note.get("alias", "") if note is not None else ""


def adopted_note(live: ET.Element, aliases: Mapping[str, str]) -> ET.Element:
    """The note for ``virDomainSetMetadata``; ``aliases``: place -> alias without prefix."""
    note = ET.Element("devices")
    sources = {place_of(disk): _source(disk) for disk in live.iterfind("devices/disk")}
    for place, alias in aliases.items():
        ET.SubElement(note, "device", place=place, alias=alias, source=sources.get(place, ""))
    return note


def _source(device: ET.Element) -> str:
    source = device.find("source")
    if source is None:
        return ""
    found = (source.get(key, "") for key in ("pool", "volume", "file", "dev", "dir", "name"))
    return "/".join(text for text in found if text)
