"""Define, start, shut down, destroy, undefine and adopt domains of guests, behind one guard.

No domain that is not ours is written to (``guard``), except to adopt it. The ownership element is
read again right before each write (``guarded_writes``), whatever the index says.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace

import libvirt

from controller.errors import TransientError
from controller.hypervisor.connection.config import HostConfig
from controller.hypervisor.domains.adoption import check_disks, marked, set_note
from controller.hypervisor.domains.guard import guest_guard
from controller.hypervisor.domains.guarded_writes import (
    Writes,
    element_of,
    find,
    set_element,
    unless,
)
from controller.hypervisor.domains.jobs import refuse_during_job
from controller.hypervisor.domains.live_devices import find_device, put_medium
from controller.hypervisor.domains.runs import refuse_another_run
from controller.hypervisor.domains.saved_state import drop_outdated
from controller.hypervisor.errors.refusals import conflict
from controller.hypervisor.guest_io.serial_log import serial_log
from controller.hypervisor.xml.render import Dialect, render, render_ownership
from controller.hypervisor.xml.update import update
from controller.observed.domain import NAMESPACE, DomainConfig, Ownership
from controller.observed.domain_xml import parse_config, parse_ownership


class Domains:
    """Writes to the domains of one host. Each method raises as those of ``Writes``."""

    def __init__(self, config: HostConfig, writes: Writes) -> None:
        self._uri = config.uri
        self._host = config.name
        self._dialect = Dialect.TEST if config.in_process else Dialect.QEMU
        self._guard = guest_guard(self._host)
        self._writes = writes

    def define(self, config: DomainConfig, ownership: Ownership) -> None:
        """Creates the domain, or changes its definition (``virDomainDefineXMLFlags(VALIDATE)``).

        In an existing definition only what we own is changed (``xml.update``). A run that libvirt
        saved is dropped if it does not fit any more (``saved_state``).

        Raises ``PermanentError(reason='NameConflict')`` if a domain of that name exists that is not
        ours or has another UUID.
        """
        log = serial_log(self._uri, config.name)
        xml = render(config, ownership, self._dialect, str(log) if log is not None else None)

        def define(connection: libvirt.virConnect) -> None:
            domain = find(connection, config.name)
            wanted = xml
            if domain is not None:
                self._guard(domain)
                if domain.UUIDString() != config.uuid:
                    raise conflict(
                        self._host, config.name, f"has another UUID ({domain.UUIDString()})"
                    )
                inactive = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
                secure = libvirt.VIR_DOMAIN_XML_SECURE
                live = domain.XMLDesc(secure) if domain.isActive() else None
                wanted = update(domain.XMLDesc(inactive), xml, live)
            defined = connection.defineXMLFlags(wanted, libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
            # Not only at the next start: libvirt itself may start it when its host boots.
            self._drop_outdated(connection, defined)

        self._writes.run(config.name, "define", define)

    def set_ownership(self, name: str, ownership: Ownership) -> None:
        """Writes the ownership element, also live if it runs (``virDomainSetMetadata``)."""
        xml = render_ownership(ownership)

        def write(_connection: libvirt.virConnect, domain: libvirt.virDomain) -> None:
            set_element(domain, xml, "gk", NAMESPACE)

        self._writes.write(name, "set metadata", write)

    def start(self, name: str) -> None:
        """Starts the domain (``virDomainCreate``); a running one is no error.

        A run that libvirt saved is restored, but not with files that are not its own any more
        (``saved_state``).
        """

        def write(connection: libvirt.virConnect, domain: libvirt.virDomain) -> None:
            if not domain.isActive():
                self._drop_outdated(connection, domain)
                unless(lambda: bool(domain.isActive()), domain.create)

        self._writes.write(name, "start", write)

    def shutdown(self, name: str, run: int | None = None) -> None:
        """Asks the guest to shut down (``virDomainShutdownFlags``: agent, else ACPI). No waiting.

        Raises ``TransientError(reason='JobRunning')`` while the domain has a job, such as a backup,
        and ``HostBusyError(reason='RunChanged')`` if another run than ``run`` has begun.
        """

        def write(_connection: libvirt.virConnect, domain: libvirt.virDomain) -> None:
            if not domain.isActive():
                return
            refuse_during_job(domain)
            refuse_another_run(domain, run)
            flags = 0
            if self._dialect is Dialect.QEMU:
                flags = (
                    libvirt.VIR_DOMAIN_SHUTDOWN_GUEST_AGENT
                    | libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN
                )
            unless(lambda: not domain.isActive(), lambda: domain.shutdownFlags(flags))

        self._writes.write(name, "shutdown", write)

    def destroy(self, name: str, run: int | None = None) -> None:
        """Powers the domain off (``virDomainDestroyFlags(GRACEFUL)``); one that is off is no error.

        A failure is ``PermanentError(reason='DestroyFailed')``: its disks must not be touched then.
        Raises ``TransientError(reason='JobRunning')`` while the domain has a job, such as a backup,
        and ``HostBusyError(reason='RunChanged')`` if another run than ``run`` has begun.
        """
        self._writes.destroy(name, spare_jobs=True, run=run)

    def eject(self, name: str, alias: str) -> None:
        """Empties the CD-ROM drive ``ua-{alias}`` (``virDomainUpdateDeviceFlags``).

        Live and persistent; a drive that is empty or missing is no error.
        """

        def write(connection: libvirt.virConnect, domain: libvirt.virDomain) -> None:
            inactive = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
            live = domain.XMLDesc(0) if domain.isActive() else None
            config = parse_config(inactive)
            for flag, xml in (
                (libvirt.VIR_DOMAIN_AFFECT_CONFIG, inactive),
                (libvirt.VIR_DOMAIN_AFFECT_LIVE, live),
            ):
                drive = find_device(xml, "disk", alias) if xml is not None else None
                if drive is None or drive.get("device") != "cdrom" or drive.find("source") is None:
                    continue
                if self._dialect is Dialect.TEST:
                    self._redefine(connection, config, inactive, alias)
                else:
                    put_medium(domain, drive, None, flag)

        self._writes.write(name, "eject", write)

    def undefine(self, name: str) -> None:
        """Undefines the domain (``virDomainUndefineFlags``), with all that libvirt keeps with it:
        saved run, metadata of snapshots and checkpoints, NVRAM.

        A missing domain is no error. Raises ``TransientError(reason='WrongState')`` for one that
        runs: it would go on as a transient domain without owner.
        """
        flags = (
            libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
            | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
        )
        if self._dialect is Dialect.QEMU:
            flags |= libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
            flags |= libvirt.VIR_DOMAIN_UNDEFINE_NVRAM

        def undefine(connection: libvirt.virConnect) -> None:
            domain = find(connection, name)
            if domain is None:
                return
            self._guard(domain)
            if domain.isActive():
                raise TransientError(
                    f"domain {name} on host {self._host} still runs: it is not undefined",
                    reason="WrongState",
                )
            domain.undefineFlags(flags)

        self._writes.run(name, "undefine", undefine)

    def adopt(
        self,
        uuid: str,
        ownership: Ownership,
        aliases: Mapping[str, str],
        disks: Collection[tuple[str, str, str]] = (),
    ) -> None:
        """Marks a foreign domain as ours, running or not; see ``adoption.marked``.

        A transient domain becomes persistent. Idempotent. Raises ``PermanentError``:
        ``NameConflict`` for another UUID or the mark of another domain, ``AdoptionOutdated`` if it
        has other disks than ``disks`` (``adoption.check_disks``); and ``TransientError``:
        ``DeviceMissing`` if ``aliases`` names a device that it lacks, ``JobRunning`` while it has a
        job, whose end may change its definition.
        """
        name = ownership.name
        element = render_ownership(ownership)

        def adopt(connection: libvirt.virConnect) -> None:
            domain = connection.lookupByName(name)
            if domain.UUIDString() != uuid:
                raise conflict(self._host, name, f"has another UUID ({domain.UUIDString()})")
            if element_of(domain, NAMESPACE) is not None:
                self._guard(domain)
            if domain.isActive():
                refuse_during_job(domain)
            inactive = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
            before = domain.XMLDesc(inactive)
            check_disks(before, disks)
            xml = marked(before, ownership, aliases)
            if domain.isActive():
                # First, because from the moment it is ours its running devices must be known.
                set_note(domain, aliases)
            defined = connection.defineXMLFlags(xml, libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
            set_element(defined, element, "gk", NAMESPACE)

        self._writes.run(name, "adopt", adopt)

    def _drop_outdated(self, connection: libvirt.virConnect, domain: libvirt.virDomain) -> None:
        if self._dialect is Dialect.QEMU:  # the test driver never restores a saved run
            drop_outdated(connection, domain, self._host)

    def _redefine(
        self, connection: libvirt.virConnect, config: DomainConfig, xml: str, alias: str
    ) -> None:
        """Empties the drive by a new definition: the test driver cannot change a device."""
        disks = tuple(
            replace(disk, volume=None) if disk.alias == alias else disk for disk in config.disks
        )
        emptied = render(replace(config, disks=disks), parse_ownership(xml), self._dialect)
        connection.defineXMLFlags(update(xml, emptied), libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
