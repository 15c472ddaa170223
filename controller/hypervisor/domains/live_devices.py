"""Devices of a running domain beside their definition: found, attached, given another medium.

The parts of the live changes that are run by a worker; none of them knows the host.
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
    """Both definitions of a running domain, as XML and as what we own of it."""

    name: str
    stored_xml: str
    live_xml: str
    stored: ParsedDomain
    live: ParsedDomain

    def device(self, alias: str) -> ET.Element | None:
        """As it runs."""
        return _first(self.live_xml, alias)

    def definition(self, alias: str) -> ET.Element:
        """As it shall be. Raises ``TransientError(reason='DeviceMissing')``.

        A user interface is no device of libvirt's: ``PermanentError(reason='NotSupported')``.
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
        """``device``, which has to be there. Raises ``TransientError(reason='DeviceMissing')``."""
        found = self.device(alias)
        if found is None:
            raise missing(self.name, alias, "running domain")
        return found


def look(domain: libvirt.virDomain) -> Running:
    """Reads both. Raises ``TransientError(reason='WrongState')`` for a domain that is off."""
    name = domain.name()
    if not domain.isActive():
        raise TransientError(f"domain {name} does not run", reason="WrongState")
    stored_xml = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    live_xml = domain.XMLDesc(0)
    stored = parse_domain(stored_xml)
    return Running(name, stored_xml, live_xml, stored, parse_domain(live_xml, stored))


def find_device(xml: str, kind: str, alias: str) -> ET.Element | None:
    """The device of ours of that alias (without prefix)."""
    root = ET.fromstring(xml)  # noqa: S314 - libvirt's own
    found = owned_elements(root, kind)
    return next((element for name, element in found if name == alias), None)


def nic_in(config: DomainConfig, alias: str) -> NicConfig | None:
    return next((nic for nic in config.nics if nic.alias == alias), None)


def attach(domain: libvirt.virDomain, device: ET.Element) -> None:
    """``virDomainAttachDeviceFlags``, at its address in the definition where that is free."""
    try:
        domain.attachDeviceFlags(_text(device), _LIVE)
    except libvirt.libvirtError as error:
        address = device.find("address")
        # The definition may have got buses that the running domain has not.
        if address is None or lost(error, domain.connect()) or not _of_address(error):
            raise
        elsewhere = deepcopy(device)
        for found in elsewhere.findall("address"):
            elsewhere.remove(found)
        domain.attachDeviceFlags(_text(elsewhere), _LIVE)


def put_medium(
    domain: libvirt.virDomain, drive: ET.Element, medium: ET.Element | None, flag: int
) -> None:
    """``virDomainUpdateDeviceFlags``: ``drive`` with the medium of the drive ``medium``, or empty.

    ``flag`` is ``VIR_DOMAIN_AFFECT_LIVE`` or ``CONFIG``. A tray that the guest keeps shut is
    forced open: whoever writes the documents decides what is in it.
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
