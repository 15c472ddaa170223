"""Builder domains: defined without their installer, started with it, read and removed.

libvirt allows the two forms: a persistent domain that is started from another XML
(``virDomainCreateXML``) runs with that XML, and returns to its persistent definition when it ends,
however it ends. So no installer's kernel, medium or secret outlives the run, and the record in the
persistent definition is still there after a restart of the daemon.
"""

import uuid as uuids
from collections.abc import Sequence
from urllib.parse import urlsplit

import libvirt

from controller.errors import PermanentError, TransientError
from controller.hypervisor.connection.concurrency import Places
from controller.hypervisor.connection.config import Role
from controller.hypervisor.connection.link import HostLink
from controller.hypervisor.domains.guarded_writes import (
    Writes,
    element_of,
    find,
    set_element,
    unless,
)
from controller.hypervisor.domains.index import HostIndex
from controller.hypervisor.domains.reading import STATES, reason_of
from controller.hypervisor.guest_io.stream import Console, Overflow, open_stream
from controller.hypervisor.xml.builder import render_builder, render_record
from controller.hypervisor.xml.render import Dialect
from controller.observed.build import (
    LOG_CHANNEL,
    MARKER_CHANNEL,
    BuilderConfig,
    BuilderView,
    BuildRecord,
    is_builder_name,
)
from controller.observed.build_xml import BUILD_NAMESPACE, parse_build
from controller.observed.domain import DomainState

_LOOK = 20.0


class Builders:
    """The builders of one host: the calls of ``images.ports.Builders``, without their host."""

    def __init__(self, link: HostLink, places: Places, index: HostIndex) -> None:
        self._link = link
        self._host = link.config.name
        self._dialect = Dialect.TEST if link.config.in_process else Dialect.QEMU
        self._index = index
        self._writes = Writes(link, places, index.touch, self._guard)
        # A session libvirt keeps its sockets below the user's home, where the path of the channel
        # with Anaconda's long name exceeds the limit for a socket's path.
        whole = urlsplit(link.config.uri).path != "/session"
        self._channels = (MARKER_CHANNEL, LOG_CHANNEL) if whole else (MARKER_CHANNEL,)

    # --- Writing ----------------------------------------------------------------------------------

    def define(self, config: BuilderConfig, record: BuildRecord) -> None:
        """Defines the form without the installer (``virDomainDefineXMLFlags(VALIDATE)``)."""

        def define(connection: libvirt.virConnect) -> None:
            domain = find(connection, config.name)
            if domain is not None:
                self._guard(domain)
            uuid = domain.UUIDString() if domain is not None else str(uuids.uuid4())
            xml = self._render(config.without_installer, record, uuid)
            connection.defineXMLFlags(xml, libvirt.VIR_DOMAIN_DEFINE_VALIDATE)

        self._writes.run(config.name, "define builder", define)

    def start(self, config: BuilderConfig) -> None:
        """Starts it with the installer (``virDomainCreateXML``); the definition stays as it is."""

        def start(connection: libvirt.virConnect, domain: libvirt.virDomain) -> None:
            if domain.isActive():
                return
            xml = self._render(config, self._guard(domain), domain.UUIDString())
            flags = libvirt.VIR_DOMAIN_START_VALIDATE
            if config.firmware == "efi" and self._dialect is Dialect.QEMU:
                # Boot entries that an earlier attempt left in the firmware must not be used.
                flags |= libvirt.VIR_DOMAIN_START_RESET_NVRAM
            unless(lambda: bool(domain.isActive()), lambda: connection.createXML(xml, flags))

        self._writes.write(config.name, "start builder", start)

    def record(self, name: str, record: BuildRecord) -> None:
        """Writes the record (``virDomainSetMetadata``), persistent and, if it runs, live."""

        def write(_connection: libvirt.virConnect, domain: libvirt.virDomain) -> None:
            xml = render_record(record, name=name, uuid=domain.UUIDString())
            set_element(domain, xml, "gkb", BUILD_NAMESPACE)

        self._writes.write(name, "record build", write)

    def destroy(self, name: str) -> None:
        """As ``Writes.destroy`` (``virDomainDestroyFlags(GRACEFUL)``); a missing one is fine."""
        try:
            self._writes.destroy(name)
        except TransientError as error:
            if error.reason != "DomainMissing":
                raise

    def undefine(self, name: str) -> None:
        """Undefines it, with saved run and NVRAM (``virDomainUndefineFlags``); a missing one is no
        error. Raises ``TransientError(reason='WrongState')`` while it runs.
        """
        flags = libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
        if self._dialect is Dialect.QEMU:
            flags |= libvirt.VIR_DOMAIN_UNDEFINE_NVRAM

        def undefine(connection: libvirt.virConnect) -> None:
            domain = find(connection, name)
            if domain is None:
                return
            self._guard(domain)
            if domain.isActive():
                raise TransientError(
                    f"builder {name} on host {self._host} still runs", reason="WrongState"
                )
            domain.undefineFlags(flags)

        self._writes.run(name, "undefine builder", undefine)

    # --- Looking ----------------------------------------------------------------------------------

    def view(self, name: str) -> BuilderView | None:
        """The builder as libvirt has it now, or None; ``record`` is None for a foreign domain."""

        def look(connection: libvirt.virConnect) -> BuilderView | None:
            domain = find(connection, name)
            return self._view(domain) if domain is not None else None

        return self._link.call(Role.LOOK, "look at builder", look, _LOOK)

    def views(self) -> Sequence[BuilderView]:
        """All builders that carry a record of ours, sorted by name."""

        def look(connection: libvirt.virConnect) -> list[BuilderView]:
            named = (one for one in connection.listAllDomains() if is_builder_name(one.name()))
            views = [view for view in map(self._view, named) if view is not None and view.record]
            return sorted(views, key=lambda view: view.name)

        return self._link.call(Role.LOOK, "list builders", look, _LOOK)

    def _view(self, domain: libvirt.virDomain) -> BuilderView | None:
        try:
            name = domain.name()
            state, reason = domain.state()
            record = _record(domain)
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                return None  # it was removed in between
            raise
        return BuilderView(
            name=name,
            state=STATES.get(state, DomainState.UNKNOWN),
            reason=reason_of((state, reason), self._index.panicked(name)),
            record=record,
        )

    # --- Listening --------------------------------------------------------------------------------

    def open_channel(self, name: str, channel: str) -> Console:
        """Opens a channel (``virDomainOpenChannel`` with ``FORCE``).

        No byte of the marker channel is dropped. Raises ``PermanentError(reason='NoChannel')`` for
        a channel that builders of this host do not have.
        """
        if channel not in self._channels:
            raise PermanentError(
                f"builders on host {self._host} have no channel {channel}; they have "
                + ", ".join(self._channels),
                reason="NoChannel",
            )
        flags = libvirt.VIR_DOMAIN_CHANNEL_FORCE
        overflow = Overflow.HANG_UP if channel == MARKER_CHANNEL else Overflow.DROP_OLDEST

        def attach(domain: libvirt.virDomain, stream: libvirt.virStream) -> None:
            domain.openChannel(channel, stream, flags)

        return open_stream(
            self._link, name, "open channel", attach, overflow=overflow, guard=self._guard
        )

    def open_console(self, name: str) -> Console:
        """Opens the first serial port (``virDomainOpenConsole`` with ``FORCE``)."""
        flags = libvirt.VIR_DOMAIN_CONSOLE_FORCE

        def attach(domain: libvirt.virDomain, stream: libvirt.virStream) -> None:
            domain.openConsole(None, stream, flags)

        return open_stream(self._link, name, "open console", attach, guard=self._guard)

    # --- Parts ------------------------------------------------------------------------------------

    def _render(self, config: BuilderConfig, record: BuildRecord, uuid: str) -> str:
        return render_builder(config, record, uuid, self._dialect, channels=self._channels)

    def _guard(self, domain: libvirt.virDomain) -> BuildRecord:
        record = _record(domain)
        if record is None:
            raise PermanentError(
                f"domain {domain.name()} on host {self._host} carries no record of a build of "
                "Guestkeeper's and is left untouched; rename it or the image",
                reason="NameConflict",
            )
        return record


def _record(domain: libvirt.virDomain) -> BuildRecord | None:
    xml = element_of(domain, BUILD_NAMESPACE)
    if xml is None:
        return None
    return parse_build(xml, name=domain.name(), uuid=domain.UUIDString())
