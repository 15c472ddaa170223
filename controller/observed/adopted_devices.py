"""Which devices of an adopted domain are ours, if their aliases do not say so.

An alias that an operator gave a device stays, because others name the device by it
(``qemu:override``); and a running device cannot get one at all. So the metadata has a note: in the
definition the names of our devices, and in the running domain, until it stops, also their places.
Pure.
"""

import xml.etree.ElementTree as ET
from collections.abc import Mapping

from controller.observed.domain import ALIAS_PREFIX
from controller.observed.qemu_arguments import UserNic, user_nics

ADOPTED_NAMESPACE = "urn:guestkeeper:adopted:v1"
_DEVICES = f"{{{ADOPTED_NAMESPACE}}}devices"
_OURS = {"disk": ("disk-", "cdrom-"), "interface": ("nic-",)}
"""How our own aliases go on after ``ALIAS_PREFIX``; any other with that prefix is an operator's."""


def place_of(device: ET.Element) -> str:
    """The place of a device: the target of a ``<disk>``, the MAC address of an ``<interface>``."""
    child, name = ("target", "dev") if device.tag == "disk" else ("mac", "address")
    element = device.find(child)
    return element.get(name, "") if element is not None else ""


def alias_name(device: ET.Element) -> str:
    """The device's alias in the XML, unchanged; '' in a definition where nobody named it."""
    alias = device.find("alias")
    return alias.get("name", "") if alias is not None else ""


class AdoptedDevices:
    """The notes about adopted devices in a domain's metadata, if there are any."""

    def __init__(self, root: ET.Element) -> None:
        notes = root.findall(f"metadata/{_DEVICES}/*")
        self._noted = {place: note for note in notes if (place := note.get("place"))}
        self._named = {name: note.get("alias", "") for note in notes if (name := note.get("name"))}

    def alias(self, device: ET.Element) -> str:
        """The alias without prefix; '' for a device that is not ours.

        Another disk at the place of an adopted one is not ours; a CD-ROM drive is, whatever medium
        is in it, and an interface, whatever it is connected to.
        """
        name = alias_name(device)
        if (known := self._known(name, device.tag)) is not None:
            return known
        note = self._noted.get(place_of(device))
        if note is None:
            return ""
        fixed = device.tag == "disk" and device.get("device", "disk") != "cdrom"
        if fixed and note.get("source", "") != _source(device):
            return ""
        return note.get("alias", "")

    def alias_of_user(self, nic: UserNic) -> str:
        """The same as ``alias``, for an interface among QEMU's arguments."""
        if (known := self._known(nic.identity, "interface")) is not None:
            return known
        note = self._noted.get(nic.mac)
        return note.get("alias", "") if note is not None else ""

    def is_theirs(self, device: ET.Element) -> bool:
        """Whether the device was left to the operator when the domain was adopted."""
        return self._named.get(alias_name(device)) == ""

    def _known(self, name: str, tag: str) -> str | None:
        """The alias that ``name`` stands for ('' if not ours); None if the name does not tell."""
        if name in self._named:
            return self._named[name]
        alias = name.removeprefix(ALIAS_PREFIX)
        return alias if alias != name and alias.startswith(_OURS[tag]) else None


def name_note(root: ET.Element, aliases: Mapping[str, str]) -> ET.Element:
    """The note for the definition: the names of our devices, and others' names that look like ours.

    ``aliases``: place -> alias without prefix.
    """
    note = ET.Element(_DEVICES)
    for place, name in _names(root):
        alias = aliases.get(place, "")
        if name != ALIAS_PREFIX + alias and (alias or name.startswith(ALIAS_PREFIX)):
            ET.SubElement(note, "device", name=name, alias=alias)
    return note


def adopted_note(live: ET.Element, aliases: Mapping[str, str]) -> ET.Element:
    """The note for ``virDomainSetMetadata``; ``aliases``: place -> alias without prefix."""
    note = name_note(live, aliases)
    note.tag = "devices"
    sources = {place_of(disk): _source(disk) for disk in live.iterfind("devices/disk")}
    for place, alias in aliases.items():
        ET.SubElement(note, "device", place=place, alias=alias, source=sources.get(place, ""))
    return note


def put_note(root: ET.Element, note: ET.Element) -> None:
    """Put ``note`` into a domain's metadata, in place of an old one; leave an empty one out."""
    metadata = root.find("metadata")
    if metadata is None:
        metadata = ET.SubElement(root, "metadata")
    for old in metadata.findall(_DEVICES):
        metadata.remove(old)
    if len(note):
        metadata.append(note)


def _names(root: ET.Element) -> list[tuple[str, str]]:
    """(place, name) of devices with an alias that somebody gave, and of QEMU's user interfaces."""
    devices = (*root.iterfind("devices/disk"), *root.iterfind("devices/interface"))
    found = [(place_of(device), alias_name(device)) for device in devices]
    named = [(place, name) for place, name in found if name.startswith(ALIAS_PREFIX)]
    return named + [(nic.mac, nic.identity) for nic in user_nics(root)]


def _source(device: ET.Element) -> str:
    source = device.find("source")
    if source is None:
        return ""
    keys = ("protocol", "pool", "volume", "file", "dev", "dir", "name")
    found = (source.get(key, "") for key in keys)
    return "/".join(text for text in found if text)
