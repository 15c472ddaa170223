"""Every write to a guest's domain, each behind the same guard: never to one that is not ours.

Ours is what carries the ownership element, and was made with it: a clone carries it too. It is read
freshly before each write (``writes``), whatever the index believed.
"""

from collections.abc import Callable
from dataclasses import replace

import libvirt

from controller.errors import PermanentError
from controller.hypervisor.connection import HostLink
from controller.hypervisor.domain_update import update
from controller.hypervisor.domain_xml import Dialect, render, render_drive, render_ownership
from controller.hypervisor.places import Places
from controller.hypervisor.serial_log import serial_log
from controller.hypervisor.writes import Writes, element_of, find, set_element, unless
from controller.observed.domain import NAMESPACE, DomainConfig, Ownership
from controller.observed.domain_xml import parse_config, parse_ownership


class Domains:
    """Writes to the domains of one host. ``touched`` is told the name after each of them.

    Each raises ``HostBusyError`` while too many others are under way there.
    """

    def __init__(self, link: HostLink, places: Places, touched: Callable[[str], None]) -> None:
        self._uri = link.config.uri
        self._host = link.config.name
        self._dialect = Dialect.TEST if link.config.in_process else Dialect.QEMU
        self._writes = Writes(link, places, touched, self._guard)

    def define(self, config: DomainConfig, ownership: Ownership) -> None:
        """``virDomainDefineXMLFlags(VALIDATE)``: makes the domain, or changes its definition.

        Of an existing definition only what we own is changed (``domain_update``).

        Raises ``PermanentError(reason='NameConflict')`` when a domain of that name exists that is
        not ours or has another UUID.
        """
        log = serial_log(self._uri, config.name)
        xml = render(config, ownership, self._dialect, str(log) if log is not None else None)

        def define(connection: libvirt.virConnect) -> None:
            domain = find(connection, config.name)
            wanted = xml
            if domain is not None:
                self._guard(domain)
                if domain.UUIDString() != config.uuid:
                    raise _conflict(
                        self._host, config.name, f"has another UUID ({domain.UUIDString()})"
                    )
                inactive = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
                wanted = update(domain.XMLDesc(inactive), xml)
            connection.defineXMLFlags(wanted, libvirt.VIR_DOMAIN_DEFINE_VALIDATE)

        self._writes.run(config.name, "define", define)

    def set_ownership(self, name: str, ownership: Ownership) -> None:
        """``virDomainSetMetadata`` on the definition, and on the running domain where it runs."""
        xml = render_ownership(ownership)

        def write(_connection: libvirt.virConnect, domain: libvirt.virDomain) -> None:
            set_element(domain, xml, "gk", NAMESPACE)

        self._writes.write(name, "set metadata", write)

    def start(self, name: str) -> None:
        """``virDomainCreate``; a running domain is fine."""

        def write(_connection: libvirt.virConnect, domain: libvirt.virDomain) -> None:
            if not domain.isActive():
                unless(lambda: bool(domain.isActive()), domain.create)

        self._writes.write(name, "start", write)

    def shutdown(self, name: str) -> None:
        """``virDomainShutdownFlags``, by the guest agent, else by ACPI; does not wait for it."""

        def write(_connection: libvirt.virConnect, domain: libvirt.virDomain) -> None:
            if not domain.isActive():
                return
            flags = 0
            if self._dialect is Dialect.QEMU:
                flags = (
                    libvirt.VIR_DOMAIN_SHUTDOWN_GUEST_AGENT
                    | libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN
                )
            unless(lambda: not domain.isActive(), lambda: domain.shutdownFlags(flags))

        self._writes.write(name, "shutdown", write)

    def destroy(self, name: str) -> None:
        """``virDomainDestroyFlags(GRACEFUL)``; a domain that is off is fine.

        A failure is ``PermanentError(reason='DestroyFailed')``: nothing may be done to disks then.
        """

        self._writes.destroy(name)

    def eject(self, name: str, alias: str) -> None:
        """Empties the CD-ROM drive ``ua-{alias}`` (``virDomainUpdateDeviceFlags``).

        Live and persistent; one that is empty, or not there, is fine.
        """

        def write(connection: libvirt.virConnect, domain: libvirt.virDomain) -> None:
            inactive = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
            config = parse_config(inactive)
            for flag, xml in (
                (libvirt.VIR_DOMAIN_AFFECT_CONFIG, inactive),
                (libvirt.VIR_DOMAIN_AFFECT_LIVE, domain.XMLDesc(0) if domain.isActive() else ""),
            ):
                drives = [
                    replace(disk, volume=None)
                    for disk in (parse_config(xml).disks if xml else ())
                    if disk.alias == alias and disk.device == "cdrom" and disk.volume is not None
                ]
                for drive in drives:
                    if self._dialect is Dialect.TEST:
                        self._redefine(connection, config, inactive, alias)
                    else:
                        _eject(domain, render_drive(drive), flag)

        self._writes.write(name, "eject", write)

    def _redefine(
        self, connection: libvirt.virConnect, config: DomainConfig, xml: str, alias: str
    ) -> None:
        """The test driver cannot change a device: its definition is written anew."""
        disks = tuple(
            replace(disk, volume=None) if disk.alias == alias else disk for disk in config.disks
        )
        emptied = render(replace(config, disks=disks), parse_ownership(xml), self._dialect)
        connection.defineXMLFlags(emptied, libvirt.VIR_DOMAIN_DEFINE_VALIDATE)

    def _guard(self, domain: libvirt.virDomain) -> None:
        """Foreign is who has no element of ours, or another's (a clone)."""
        xml, name = element_of(domain, NAMESPACE), domain.name()
        if xml is None:
            raise _conflict(self._host, name, "is not Guestkeeper's")
        owner = parse_ownership(xml)
        if owner is None or (owner.uid, owner.name) != (domain.UUIDString(), name):
            raise _conflict(
                self._host, name, "carries the mark of another domain, as a clone does,"
            )


# --- The calls themselves, run by a worker --------------------------------------------------------


def _conflict(host: str, name: str, what: str) -> PermanentError:
    return PermanentError(
        f"domain {name} on host {host} {what} and is left untouched; rename the guest or it",
        reason="NameConflict",
    )


def _eject(domain: libvirt.virDomain, xml: str, flags: int) -> None:
    try:
        domain.updateDeviceFlags(xml, flags)
    except libvirt.libvirtError as error:
        if flags != libvirt.VIR_DOMAIN_AFFECT_LIVE or "lock" not in str(error):
            raise
        # The guest keeps the tray shut; nobody needs the seed any more.
        domain.updateDeviceFlags(xml, flags | libvirt.VIR_DOMAIN_DEVICE_MODIFY_FORCE)
