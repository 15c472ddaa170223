"""Takes a foreign domain's definition over: our mark, and our aliases on its devices.

Nothing else of it changes, so that it runs on, and starts again, as it did. The running domain
keeps its own aliases until it stops; a note says which of its devices are ours
(``adopted_devices``).
"""

import re
import xml.etree.ElementTree as ET
from collections.abc import Collection, Mapping

import libvirt

from controller.errors import PermanentError, TransientError
from controller.observed.adopted_devices import ADOPTED_NAMESPACE, adopted_note, place_of
from controller.observed.domain import ALIAS_PREFIX, NAMESPACE, Ownership
from controller.observed.domain_xml import ownership_element, parse_config
from controller.observed.qemu_arguments import argument_lines, user_nics


def marked(inactive: str, ownership: Ownership, aliases: Mapping[str, str]) -> str:
    """The definition ``inactive`` with our element and ``aliases`` (place -> without prefix).

    A place is a disk's target or an interface's MAC. Raises
    ``TransientError(reason='DeviceMissing')`` for one where nothing is: it was looked at before
    somebody changed it.
    """
    root = ET.fromstring(inactive)  # noqa: S314 - libvirt's own
    missing = set(aliases)
    for device in (*root.iterfind("devices/disk"), *root.iterfind("devices/interface")):
        alias = aliases.get(place_of(device))
        if alias is not None:
            missing.discard(place_of(device))
            _set_alias(device, alias)
    for nic in user_nics(root):
        if nic.mac in aliases:
            missing.discard(nic.mac)
            for line in argument_lines(root):
                _rename(line, nic.identity, ALIAS_PREFIX + aliases[nic.mac])
    if missing:
        raise TransientError(
            f"domain {ownership.name} has no device at {', '.join(sorted(missing))} any more",
            reason="DeviceMissing",
        )
    _mark(root, ownership)
    return ET.tostring(root, encoding="unicode")


def check_disks(inactive: str, disks: Collection[tuple[str, str, str]]) -> None:
    """Are its disks those that were looked at: (target, pool, volume or path) of each?

    None given are not compared. Raises ``PermanentError(reason='AdoptionOutdated')``.
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
    """``virDomainSetMetadata`` on the running domain alone."""
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
    element.set("name", ALIAS_PREFIX + alias)


def _rename(line: ET.Element, identity: str, alias: str) -> None:
    """The netdev ``identity`` and the device on it, among QEMU's arguments."""
    netdev = re.compile(rf"(^user,(?:.*,)?id=|,netdev=){re.escape(identity)}(?=,|$)")
    device = re.compile(r"(?<=,)id=[^,]*")
    for argument in line:
        value = argument.get("value", "")
        renamed = netdev.sub(lambda match: match[1] + alias, value)
        if renamed != value and not value.startswith("user,"):
            renamed = device.sub(f"id={alias}", renamed)
        argument.set("value", renamed)
