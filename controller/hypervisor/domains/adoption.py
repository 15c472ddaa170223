"""Adopts a foreign domain: adds our ownership element to its definition, and our device aliases.

Nothing else is changed, so that it goes on running, and starts again, as before. An alias that an
operator gave stays, and a note in the metadata says which of our aliases it stands for. The running
domain gets such a note too, as it keeps its own aliases until it stops (``adopted_devices``).
"""

import xml.etree.ElementTree as ET
from collections.abc import Collection, Mapping

import libvirt

from controller.errors import PermanentError, TransientError
from controller.observed.adopted_devices import (
    ADOPTED_NAMESPACE,
    adopted_note,
    alias_name,
    name_note,
    place_of,
    put_note,
)
from controller.observed.domain import ALIAS_PREFIX, NAMESPACE, Ownership
from controller.observed.domain_xml import ownership_element, parse_config
from controller.observed.qemu_arguments import user_nics


def marked(inactive: str, ownership: Ownership, aliases: Mapping[str, str]) -> str:
    """The definition ``inactive`` with our element and ``aliases`` (place -> alias without prefix).

    A place is a disk's target or an interface's MAC. Raises
    ``TransientError(reason='DeviceMissing')`` if there is no device at a place: somebody changed
    the domain after it was read.
    """
    root = ET.fromstring(inactive)  # noqa: S314 - libvirt's own
    devices = [*root.iterfind("devices/disk"), *root.iterfind("devices/interface")]
    missing = set(aliases) - {place_of(device) for device in devices}
    missing -= {nic.mac for nic in user_nics(root)}
    if missing:
        raise TransientError(
            f"domain {ownership.name} has no device at {', '.join(sorted(missing))} any more",
            reason="DeviceMissing",
        )
    names = {element.get("name", "") for element in root.iterfind("devices/*/alias")}
    for device in devices:
        alias = aliases.get(place_of(device))
        if alias is not None and not alias_name(device).startswith(ALIAS_PREFIX):
            name = ALIAS_PREFIX + alias
            while name in names:  # an operator has given this alias to another device
                name += "-0"
            names.add(name)
            _set_alias(device, name)
    put_note(root, name_note(root, aliases))
    _mark(root, ownership)
    return ET.tostring(root, encoding="unicode")


def check_disks(inactive: str, disks: Collection[tuple[str, str, str]]) -> None:
    """Checks that the disks are still those that were shown: (target, pool, volume or path) each.

    Empty ``disks`` are not compared. Raises ``PermanentError(reason='AdoptionOutdated')``.
    """
    config = parse_config(inactive)
    has = {(d.target, d.pool, d.volume or "") for d in config.disks if d.device == "disk"}
    if disks and has != set(disks):
        raise PermanentError(
            f"domain {config.name} has other disks by now than were shown; look again: guestkeeper"
            f" adopt {config.name}",
            reason="AdoptionOutdated",
        )


def set_note(domain: libvirt.virDomain, aliases: Mapping[str, str]) -> None:
    """Writes the note of aliases to the running domain only (``virDomainSetMetadata``)."""
    live = ET.fromstring(domain.XMLDesc(0))  # noqa: S314 - libvirt's own
    domain.setMetadata(
        libvirt.VIR_DOMAIN_METADATA_ELEMENT,
        ET.tostring(adopted_note(live, aliases), encoding="unicode"),
        "gka",
        ADOPTED_NAMESPACE,
        libvirt.VIR_DOMAIN_AFFECT_LIVE,
    )


def _mark(root: ET.Element, ownership: Ownership) -> None:
    metadata = root.find("metadata")
    if metadata is None:
        metadata = ET.SubElement(root, "metadata")
    for old in metadata.findall(f"{{{NAMESPACE}}}guest"):
        metadata.remove(old)
    metadata.append(ownership_element(ownership))


def _set_alias(device: ET.Element, alias: str) -> None:
    element = device.find("alias")
    if element is None:
        element = ET.SubElement(device, "alias")
    element.set("name", alias)
