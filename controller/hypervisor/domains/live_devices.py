"""Devices of a running domain, compared with its definition: find, attach, change a medium.

The parts of live changes that run in a worker; none of them knows the host.
"""

import xml.etree.ElementTree as ET
from copy import deepcopy
from dataclasses import dataclass

import libvirt

from controller.errors import PermanentError, TransientError
from controller.hypervisor.errors.refusals import missing
from controller.hypervisor.errors.translate import lost
from controller.hypervisor.xml.update_devices import put_source
from controller.observed.domain import DomainConfig, NicConfig
from controller.observed.domain_xml import ParsedDomain, owned_elements, parse_domain

_LIVE = libvirt.VIR_DOMAIN_AFFECT_LIVE
_KINDS = ("disk", "interface")


@dataclass(frozen=True, slots=True)
class Running:
    """The persistent definition and the live XML of a running domain, as text and parsed."""

    name: str
    stored_xml: str
    live_xml: str
    stored: ParsedDomain
    live: ParsedDomain

    def device(self, alias: str) -> ET.Element | None:
        """The device in the live XML, or None."""
        return _first(self.live_xml, alias)

    def definition(self, alias: str) -> ET.Element:
        """The device in the definition. Raises ``TransientError(reason='DeviceMissing')``.

        ``PermanentError(reason='NotSupported')`` for a user interface: no device to libvirt.
        """
        found = _first(self.stored_xml, alias)
        if found is not None:
            return found
        if any(nic.alias == alias for nic in self.stored.config.nics):
            raise PermanentError(
                f"interface {alias} of domain {self.name} is QEMU's own user network, which cannot"
                " be changed while the domain runs: restart it",
                reason="NotSupported",
            )
        raise missing(self.name, alias, "definition")

    def running(self, alias: str) -> ET.Element:
        """``device``, but raises ``TransientError(reason='DeviceMissing')`` instead of None."""
        found = self.device(alias)
        if found is None:
            raise missing(self.name, alias, "running domain")
        return found


def look(domain: libvirt.virDomain) -> Running:
    """Reads definition and live XML. Raises ``TransientError(reason='WrongState')`` if off."""
    name = domain.name()
    if not domain.isActive():
        raise TransientError(f"domain {name} does not run", reason="WrongState")
    stored_xml = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    live_xml = domain.XMLDesc(0)
    stored = parse_domain(stored_xml)
    return Running(name, stored_xml, live_xml, stored, parse_domain(live_xml, stored))


def find_device(xml: str, kind: str, alias: str) -> ET.Element | None:
    """Our device with ``alias`` (without prefix), or None; ``kind`` is its tag."""
    root = ET.fromstring(xml)  # noqa: S314 - libvirt's own
    found = owned_elements(root, kind)
    return next((element for name, element in found if name == alias), None)


def nic_in(config: DomainConfig, alias: str) -> NicConfig | None:
    return next((nic for nic in config.nics if nic.alias == alias), None)


def attach(domain: libvirt.virDomain, device: ET.Element) -> None:
    """Attaches it at its address in the definition, if free (``virDomainAttachDeviceFlags``)."""
    try:
        domain.attachDeviceFlags(_text(device), _LIVE)
    except libvirt.libvirtError as error:
        address = device.find("address")
        # The definition may have new buses that the running domain lacks.
        if address is None or lost(error, domain.connect()) or not _of_address(error):
            raise
        elsewhere = deepcopy(device)
        for found in elsewhere.findall("address"):
            elsewhere.remove(found)
        domain.attachDeviceFlags(_text(elsewhere), _LIVE)


def put_medium(
    domain: libvirt.virDomain, drive: ET.Element, medium: ET.Element | None, flag: int
) -> None:
    """Gives ``drive`` the medium of ``medium``; None empties it (``virDomainUpdateDeviceFlags``).

    ``flag`` is ``VIR_DOMAIN_AFFECT_LIVE`` or ``CONFIG``. A tray that the guest has locked is forced
    open: the documents decide what is in it, not the guest.
    """
    changed = deepcopy(drive)
    put_source(changed, medium if medium is not None else ET.Element("disk", type="file"))
    xml = _text(changed)
    try:
        domain.updateDeviceFlags(xml, flag)
    except libvirt.libvirtError as error:
        if flag != _LIVE or "lock" not in str(error):
            raise
        domain.updateDeviceFlags(xml, flag | libvirt.VIR_DOMAIN_DEVICE_MODIFY_FORCE)


def _first(xml: str, alias: str) -> ET.Element | None:
    found = (find_device(xml, kind, alias) for kind in _KINDS)
    return next((element for element in found if element is not None), None)


def _of_address(error: libvirt.libvirtError) -> bool:
    message = str(error).lower()
    return any(word in message for word in ("address", "bus", "slot"))


def _text(device: ET.Element) -> str:
    return ET.tostring(device, encoding="unicode")
