"""Every write to a domain, each behind the same guard: never to one that is not ours.

A domain's name proves nothing; only the ownership element does, and only on the domain it was made
for: a clone carries it too. It is read freshly, in the same worker and right before each write,
whatever the index believed.
"""

from collections.abc import Callable
from dataclasses import replace

import libvirt

from controller.errors import GuestkeeperError, HostUnreachableError, PermanentError
from controller.hypervisor.connection import HostLink
from controller.hypervisor.domain_update import update
from controller.hypervisor.domain_xml import Dialect, render, render_drive, render_ownership
from controller.hypervisor.host_config import Role
from controller.hypervisor.places import Places
from controller.hypervisor.serial_log import serial_log
from controller.observed.domain import NAMESPACE, DomainConfig, Ownership
from controller.observed.domain_xml import parse_config, parse_ownership

QUICK = 20.0
LIFECYCLE = 90.0
"""libvirt itself waits up to 30 s for a domain's lock, and a start may format a TPM or NVRAM."""

_NOT_TRIED = frozenset({"DomainMissing", "HostBusy", "NoThread"})

Write = Callable[[libvirt.virConnect, libvirt.virDomain], None]


class Domains:
    """Writes to the domains of one host. ``touched`` is told the name after each of them.

    Each raises ``HostBusyError`` while too many others are under way there.
    """

    def __init__(self, link: HostLink, touched: Callable[[str], None]) -> None:
        self._link = link
        self._host = link.config.name
        self._dialect = Dialect.TEST if link.config.in_process else Dialect.QEMU
        self._touched = touched
        self._places = Places(self._host)

    def define(self, config: DomainConfig, ownership: Ownership) -> None:
        """``virDomainDefineXMLFlags(VALIDATE)``: makes the domain, or changes its definition.

        Of an existing definition only what we own is changed (``domain_update``).

        Raises ``PermanentError(reason='NameConflict')`` when a domain of that name exists that is
        not ours or has another UUID.
        """
        log = serial_log(self._link.config.uri, config.name)
        xml = render(config, ownership, self._dialect, str(log) if log is not None else None)

        def define(connection: libvirt.virConnect) -> None:
            domain = _find(connection, config.name)
            wanted = xml
            if domain is not None:
                _guard(domain, self._host, config.name)
                if domain.UUIDString() != config.uuid:
                    raise _conflict(
                        self._host, config.name, f"has another UUID ({domain.UUIDString()})"
                    )
                inactive = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
                wanted = update(domain.XMLDesc(inactive), xml)
            connection.defineXMLFlags(wanted, libvirt.VIR_DOMAIN_DEFINE_VALIDATE)

        self._run(config.name, "define", define, LIFECYCLE)

    def set_ownership(self, name: str, ownership: Ownership) -> None:
        """``virDomainSetMetadata`` on the definition, and on the running domain where it runs."""
        xml = render_ownership(ownership)

        def write(_connection: libvirt.virConnect, domain: libvirt.virDomain) -> None:
            domain.setMetadata(
                libvirt.VIR_DOMAIN_METADATA_ELEMENT, xml, "gk", NAMESPACE, _affect(domain)
            )

        self._write(name, "set metadata", write, LIFECYCLE)

    def start(self, name: str) -> None:
        """``virDomainCreate``; a running domain is fine."""

        def write(_connection: libvirt.virConnect, domain: libvirt.virDomain) -> None:
            if not domain.isActive():
                _unless(lambda: bool(domain.isActive()), domain.create)

        self._write(name, "start", write, LIFECYCLE)

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
            _unless(lambda: not domain.isActive(), lambda: domain.shutdownFlags(flags))

        self._write(name, "shutdown", write, LIFECYCLE)

    def destroy(self, name: str) -> None:
        """``virDomainDestroyFlags(GRACEFUL)``; a domain that is off is fine.

        A failure is ``PermanentError(reason='DestroyFailed')``: nothing may be done to disks then.
        """

        def write(_connection: libvirt.virConnect, domain: libvirt.virDomain) -> None:
            if not domain.isActive():
                return
            graceful = libvirt.VIR_DOMAIN_DESTROY_GRACEFUL
            _unless(lambda: not domain.isActive(), lambda: domain.destroyFlags(graceful))

        try:
            self._write(name, "destroy", write, LIFECYCLE)
        except (HostUnreachableError, PermanentError):
            raise
        except GuestkeeperError as error:
            if error.reason in _NOT_TRIED:
                raise
            raise PermanentError(
                f"{error}: the domain may still run; look at its QEMU process on the host",
                reason="DestroyFailed",
            ) from error

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

        self._write(name, "eject", write, LIFECYCLE)

    def _redefine(
        self, connection: libvirt.virConnect, config: DomainConfig, xml: str, alias: str
    ) -> None:
        """The test driver cannot change a device: its definition is written anew."""
        disks = tuple(
            replace(disk, volume=None) if disk.alias == alias else disk for disk in config.disks
        )
        emptied = render(replace(config, disks=disks), parse_ownership(xml), self._dialect)
        connection.defineXMLFlags(emptied, libvirt.VIR_DOMAIN_DEFINE_VALIDATE)

    def _write(self, name: str, operation: str, write: Write, timeout: float) -> None:
        def guarded(connection: libvirt.virConnect) -> None:
            domain = connection.lookupByName(name)
            _guard(domain, self._host, name)
            write(connection, domain)

        self._run(name, operation, guarded, timeout)

    def _run(
        self,
        name: str,
        operation: str,
        function: Callable[[libvirt.virConnect], None],
        timeout: float,
    ) -> None:
        with self._places.take(operation):
            try:
                self._link.call(Role.ACT, operation, function, timeout)
            finally:
                # Also after a failure: nobody knows how far it came.
                self._touched(name)


# --- The calls themselves, run by a worker --------------------------------------------------------


def _find(connection: libvirt.virConnect, name: str) -> libvirt.virDomain | None:
    try:
        return connection.lookupByName(name)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise


def _guard(domain: libvirt.virDomain, host: str, name: str) -> None:
    """``virDomainGetMetadata`` of our element; foreign is who has none, or another's (a clone)."""
    flags = libvirt.VIR_DOMAIN_AFFECT_LIVE
    if domain.isPersistent():
        flags = libvirt.VIR_DOMAIN_AFFECT_CONFIG
    try:
        xml = domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, NAMESPACE, flags)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN_METADATA:
            raise
        raise _conflict(host, name, "is not Guestkeeper's") from error
    owner = parse_ownership(xml)
    if owner is None or (owner.uid, owner.name) != (domain.UUIDString(), name):
        raise _conflict(host, name, "carries the mark of another domain, as a clone does,")


def _conflict(host: str, name: str, what: str) -> PermanentError:
    return PermanentError(
        f"domain {name} on host {host} {what} and is left untouched; rename the guest or it",
        reason="NameConflict",
    )


def _affect(domain: libvirt.virDomain) -> int:
    flags = 0
    if domain.isPersistent():
        flags |= libvirt.VIR_DOMAIN_AFFECT_CONFIG
    if domain.isActive():
        flags |= libvirt.VIR_DOMAIN_AFFECT_LIVE
    return flags


def _unless(already: Callable[[], bool], act: Callable[[], object]) -> None:
    """``act``, whose failure counts for nothing when its end was reached all the same."""
    try:
        act()
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_OPERATION_INVALID or not already():
            raise


def _eject(domain: libvirt.virDomain, xml: str, flags: int) -> None:
    try:
        domain.updateDeviceFlags(xml, flags)
    except libvirt.libvirtError as error:
        if flags != libvirt.VIR_DOMAIN_AFFECT_LIVE or "lock" not in str(error):
            raise
        # The guest keeps the tray shut; nobody needs the seed any more.
        domain.updateDeviceFlags(xml, flags | libvirt.VIR_DOMAIN_DEVICE_MODIFY_FORCE)
