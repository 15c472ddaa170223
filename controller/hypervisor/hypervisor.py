"""One facade for the libvirt of every host: implements ``execution.ports.Hypervisor`` and
``images.ports.Builders``, and more.

It only creates the parts of this package, one set per host, and passes each call to its part.
Longer than other modules on purpose: it has a line or two for each of many calls.
"""

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import BinaryIO

import structlog

from controller.errors import GuestkeeperError, HostUnreachableError, PermanentError
from controller.hypervisor.builders import Builders
from controller.hypervisor.connection.capabilities import Capabilities, read_capabilities
from controller.hypervisor.connection.concurrency import Places
from controller.hypervisor.connection.config import HostConfig, OnCall, OnEvent, OnHost, Role
from controller.hypervisor.connection.deadlines import DeadlineError
from controller.hypervisor.connection.link import HostLink
from controller.hypervisor.connection.session import Session
from controller.hypervisor.domains.guard import guest_guard
from controller.hypervisor.domains.guarded_writes import Writes
from controller.hypervisor.domains.hotplug import Hotplug
from controller.hypervisor.domains.index import HostIndex
from controller.hypervisor.domains.lifecycle import Domains
from controller.hypervisor.domains.live_tuning import LiveChanges
from controller.hypervisor.domains.reading import inactive_xml
from controller.hypervisor.errors.refusals import in_use
from controller.hypervisor.guest_io.agent import Agents
from controller.hypervisor.guest_io.serial_log import last_of
from controller.hypervisor.guest_io.stream import Console, open_console
from controller.hypervisor.networks import Networks
from controller.hypervisor.storage.file_usage import file_paths, file_uses
from controller.hypervisor.storage.volumes import Storage
from controller.observed.addresses import AddressUse
from controller.observed.build import BuilderConfig, BuilderView, BuildRecord
from controller.observed.domain import DomainConfig, DomainView, Ownership
from controller.observed.file_uses import FileUses
from controller.observed.host import HostView, VolumeView

log = structlog.get_logger(__name__)


def _ignore_event(_host: str, _name: str, _kind: str) -> None:
    """Default callback: ignores events."""


def _ignore_host(_host: str, _reachable: bool, _why: str) -> None:
    """Default callback: ignores hosts that connect or are lost."""


def _ignore_call(_host: str, _operation: str, _code: str, _seconds: float) -> None:
    """Default callback: measures nothing."""


class _Host:
    """The parts of one host."""

    def __init__(
        self,
        config: HostConfig,
        on_event: OnEvent,
        on_host: OnHost,
        on_call: OnCall,
        now: Callable[[], float],
    ) -> None:
        self.config = config
        self.link = HostLink(config, connected=self._connected, on_host=on_host, on_call=on_call)
        self.agents = Agents(self.link)
        self.index = HostIndex(self.link, self.agents.hearing(on_event), now=now)
        self.storage = Storage(self.link)
        self.networks = Networks(self.link, time.monotonic)
        places = Places(config.name)
        writes = Writes(self.link, places, self.index.touch, guest_guard(config.name))
        self.domains = Domains(config, writes)
        self.live = LiveChanges(self.link, writes, self.index, self.agents)
        self.hotplug = Hotplug(self.link, writes, self.index)
        self.builders = Builders(self.link, places, self.index)
        self.capabilities: Capabilities | None = None

    def refuse_while_frozen(self, name: str) -> None:
        """As ``Agents.refuse_while_frozen``, but only if the guest's agent is connected."""
        domain = self.index.domain(name)
        if domain is not None and domain.agent_connected:
            self.agents.refuse_while_frozen(name)

    def _connected(self, link: HostLink, session: Session) -> None:
        self.capabilities = link.call_in(
            session, Role.LOOK, "read capabilities", read_capabilities, 15.0
        )
        self.networks.connected()
        self.storage.connected(session)
        self.index.connected(session)


class Hypervisor:
    """All hosts. Implements ``execution.ports.Hypervisor`` and ``images.ports.Builders``.

    Thread-safe. The callbacks may only enqueue:
    ``on_event(host, domain, kind)`` from libvirt's event thread,
    ``on_host(host, reachable, why)`` when a host was connected (and listed anew) or lost,
    ``on_call(host, operation, code, seconds)`` after each call to libvirt.

    A method that asks a host raises ``HostUnreachableError`` while that host is lost and when a
    deadline passes, and ``PermanentError`` for a host that the settings do not name.
    """

    def __init__(
        self,
        hosts: Sequence[HostConfig],
        on_event: OnEvent = _ignore_event,
        on_host: OnHost = _ignore_host,
        on_call: OnCall = _ignore_call,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._hosts = {one.name: _Host(one, on_event, on_host, on_call, now) for one in hosts}

    # --- Life -------------------------------------------------------------------------------------

    def open(self, timeout: float = 20.0) -> None:
        """Connects to every host; waits at most ``timeout`` seconds for the first attempts.

        A host that is not reachable is no error: it is retried for ever. A timeout of 0 does not
        wait; a host is then ``connecting`` until its first attempt has ended.
        """
        for one in self._hosts.values():
            one.link.start()
        if not timeout:
            return
        deadline = time.monotonic() + timeout
        for one in self._hosts.values():
            one.link.wait_settled(max(0.0, deadline - time.monotonic()))
            one.link.settle()

    def close(self, timeout: float = 5.0) -> None:
        """Disconnects from every host, at most ``timeout`` seconds each, all at the same time."""
        threads = [
            threading.Thread(target=one.link.stop, args=(timeout,), daemon=True)
            for one in self._hosts.values()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout)

    # --- Looking ----------------------------------------------------------------------------------

    def hosts(self) -> Collection[str]:
        """The names of the hosts in the settings."""
        return self._hosts.keys()

    def reachable(self, host: str) -> bool:
        """Whether the host is connected now, as far as known: no call is made."""
        return self._of(host).link.reachable

    def host(self, host: str) -> HostView:
        """The host's state. Never raises for a lost host: the view says so, and why."""
        one = self._of(host)
        known = one.capabilities or Capabilities(False, "", "")
        reachable, why = one.link.reachable, one.link.why
        pools, networks = one.storage.known_pools(), one.networks.known()
        if reachable:
            try:
                networks = one.networks.views()
                pools = one.storage.pools()
            except DeadlineError as error:  # only this call hangs; domains can be listed
                log.warning("host not read whole", host=host, why=str(error))
            except HostUnreachableError as error:
                reachable, why = False, str(error)
            except GuestkeeperError as error:  # its storage failed, not the host
                log.warning("pools not read", host=host, why=str(error))
        return HostView(
            name=host,
            uri=one.config.uri,
            reachable=reachable,
            why=why,
            connecting=not reachable and one.link.connecting,
            kvm=known.kvm,
            default_pool=one.config.default_pool,
            hotplug=not one.config.in_process,
            pools=pools,
            networks=networks,
            libvirt_version=known.libvirt_version,
            hypervisor_version=known.hypervisor_version,
        )

    def domain(self, host: str, name: str) -> DomainView | None:
        """The domain from the index; its XML is read again only after an event or our own write."""
        return self._of(host).index.domain(name)

    def doubt(self, host: str, name: str) -> None:
        """Marks the domain as dirty: its XML is read again at the next look."""
        self._of(host).index.doubt(name)

    def domain_xml(self, host: str, name: str) -> str:
        """The persistent definition as libvirt has it (``virDomainGetXMLDesc``), for reading only.

        Raises as ``HostLink.call``; ``DomainMissing`` if there is no such domain.
        """
        link = self._of(host).link
        return link.call(Role.LOOK, "read XML", lambda one: inactive_xml(one, name), 15.0)

    def owned(self, host: str) -> Collection[str]:
        """The names of the host's domains that carry our ownership element."""
        return self._of(host).index.owned()

    def resync(self, host: str, *, deep: bool = False) -> frozenset[str]:
        """Checks the index with one bulk call; returns names that changed, appeared or vanished.

        ``deep`` reads all XML again, for changes that libvirt has no event for.
        """
        return self._of(host).index.resync(deep=deep)

    def xml_reads(self, host: str) -> int:
        """The number of domain XML documents read from that host so far."""
        return self._of(host).index.xml_reads

    def stuck_calls(self, host: str) -> int:
        """The number of calls to that host that passed their deadline and have not returned."""
        return self._of(host).link.stuck_calls

    # --- Storage ----------------------------------------------------------------------------------

    def volume(self, host: str, pool: str, name: str) -> VolumeView | None:
        """The volume, or None; see ``Storage.volume``."""
        return self._of(host).storage.volume(pool, name)

    def create_volume(
        self,
        host: str,
        pool: str,
        name: str,
        *,
        capacity: int,
        format: str = "qcow2",
        backing: tuple[str, str] | None = None,
    ) -> VolumeView:
        """Creates an empty volume or an overlay; see ``Storage.create``."""
        return self._of(host).storage.create(
            pool, name, capacity=capacity, format=format, backing=backing
        )

    def upload_volume(
        self,
        host: str,
        pool: str,
        name: str,
        stream: BinaryIO,
        size: int,
        *,
        format: str,
        progress: Callable[[int], None],
    ) -> VolumeView:
        """Replaces the volume with ``size`` bytes of ``stream``; see ``Storage.upload``."""
        self._check_free(host, pool, name)
        return self._of(host).storage.upload(
            pool, name, stream, size, format=format, progress=progress
        )

    def delete_volume(self, host: str, pool: str, name: str) -> None:
        """Deletes the volume; a missing one is no error.

        Raises ``PermanentError(reason="BaseInUse")`` for a base that is a running domain's disk.
        """
        self._check_free(host, pool, name)
        self._of(host).storage.delete(pool, name)

    def grow_volume(self, host: str, pool: str, name: str, capacity: int) -> None:
        """Enlarges a volume that no running domain uses; see ``Storage.grow``."""
        self._of(host).storage.grow(pool, name, capacity)

    def volumes(self, host: str, pool: str) -> list[VolumeView]:
        """Every volume of the pool, after a scan; see ``Storage.volumes``."""
        return self._of(host).storage.volumes(pool)

    def scanned_volumes(self, host: str, pool: str) -> list[VolumeView]:
        """As ``volumes``, but always with files that libvirt does not know yet.

        Raises if the pool cannot be scanned. For callers that delete what no volume uses.
        """
        return self._of(host).storage.volumes(pool, sure=True)

    def absent(self, host: str, pool: str, names: Collection[str]) -> frozenset[str]:
        """Those of ``names`` that certainly do not exist; see ``Storage.absent``."""
        return self._of(host).storage.absent(pool, names)

    def read_volume(self, host: str, pool: str, name: str, offset: int, length: int) -> bytes:
        """``length`` bytes of the volume, fewer at its end; see ``Storage.read``."""
        return self._of(host).storage.read(pool, name, offset, length)

    def file_paths(self, host: str) -> frozenset[str]:
        """Every path that a domain of the host names or is based on; see ``file_usage``."""
        return file_paths(self._of(host).link)

    def file_users(self, host: str) -> Mapping[str, frozenset[str]]:
        """The paths with the domains that use each, without those only a guest's record names."""
        return self.file_uses(host).users

    def file_uses(self, host: str) -> FileUses:
        """The same, and which of them may have unknown backing files; see ``file_usage``."""
        return file_uses(self._of(host).link)

    def written_bases(self, host: str) -> Mapping[str, frozenset[str]]:
        """Image bases (file names) that running domains, ours or not, have as their own disk, each
        with those domains. From the index.
        """
        return self._of(host).index.written_bases()

    # --- Domains ----------------------------------------------------------------------------------

    def address_users(
        self, host: str, name: str, addresses: Collection[str]
    ) -> tuple[AddressUse, ...]:
        """Domains other than ``name`` with one of ``addresses``; see ``HostIndex``."""
        return self._of(host).index.address_users(name, addresses)

    def define(self, host: str, config: DomainConfig, ownership: Ownership) -> None:
        """Creates or changes the definition; see ``Domains.define``."""
        self._of(host).domains.define(config, ownership)

    def adopt(
        self,
        host: str,
        uuid: str,
        ownership: Ownership,
        aliases: Mapping[str, str],
        disks: Collection[tuple[str, str, str]] = (),
    ) -> None:
        """Marks a foreign domain as ours without stopping it; see ``Domains.adopt``."""
        self._of(host).domains.adopt(uuid, ownership, aliases, disks)

    def undefine(self, host: str, name: str) -> None:
        """Undefines a domain that is off; a missing one is no error."""
        self._of(host).domains.undefine(name)

    def set_ownership(self, host: str, name: str, ownership: Ownership) -> None:
        """Writes our ownership element, live and persistent."""
        self._of(host).domains.set_ownership(name, ownership)

    def start(self, host: str, name: str) -> None:
        """Starts the domain, or restores its saved run; see ``Domains.start``."""
        self._of(host).domains.start(name)

    def shutdown(self, host: str, name: str, run: int | None = None) -> None:
        """Asks the guest (agent, then ACPI) to power off; does not wait. See ``Domains``.

        Raises ``FilesystemsFrozenError`` while a backup or snapshot has its file systems frozen.
        """
        self._of(host).refuse_while_frozen(name)
        self._of(host).domains.shutdown(name, run)

    def destroy(self, host: str, name: str, run: int | None = None) -> None:
        """Powers the domain off, with SIGTERM only; a failure is permanent. See ``Domains``.

        Raises as ``shutdown`` does.
        """
        self._of(host).refuse_while_frozen(name)
        self._of(host).domains.destroy(name, run)

    def eject(self, host: str, name: str, alias: str) -> None:
        """Empties the CD-ROM drive ``ua-{alias}``, live and persistent."""
        self._of(host).domains.eject(name, alias)

    # --- Changes of a running domain --------------------------------------------------------------

    def set_vcpus(self, host: str, name: str, count: int) -> None:
        """Hot-plugs vCPUs; see ``LiveChanges.set_vcpus``."""
        self._of(host).live.set_vcpus(name, count)

    def set_memory(self, host: str, name: str, size: int) -> None:
        """Sets the balloon to ``size`` bytes and waits for it, some seconds at most."""
        self._of(host).live.set_memory(name, size)

    def set_io_tune(self, host: str, name: str, alias: str) -> None:
        """Gives the running disk ``ua-{alias}`` the I/O limits of the definition."""
        self._of(host).live.set_io_tune(name, alias)

    def set_title(self, host: str, name: str, title: str, description: str) -> None:
        """Sets title and description of the running domain; '' removes one."""
        self._of(host).live.set_title(name, title, description)

    def set_autostart(self, host: str, name: str, on: bool) -> None:
        """Sets whether libvirt starts the domain when libvirt itself starts."""
        self._of(host).live.set_autostart(name, on)

    def grow_disk(self, host: str, name: str, alias: str, capacity: int) -> None:
        """Enlarges the running disk ``ua-{alias}`` (bytes); see ``LiveChanges.grow_disk``."""
        self._of(host).live.grow_disk(name, alias, capacity)

    def plug(self, host: str, name: str, alias: str) -> None:
        """Attaches the device ``ua-{alias}`` of the definition to the running domain."""
        self._of(host).hotplug.plug(name, alias)

    def unplug(self, host: str, name: str, alias: str, timeout: float) -> None:
        """Detaches ``ua-{alias}``; waits ``timeout`` seconds for it; see ``Hotplug.unplug``."""
        self._of(host).hotplug.unplug(name, alias, timeout)

    def update_device(self, host: str, name: str, alias: str) -> None:
        """Sets an interface's source and link, or a drive's medium, as in the definition."""
        self._of(host).hotplug.update(name, alias)

    # --- Builders ---------------------------------------------------------------------------------

    def define_builder(self, host: str, config: BuilderConfig, record: BuildRecord) -> None:
        """Creates or replaces the definition, without the installer; see ``Builders.define``."""
        self._of(host).builders.define(config, record)

    def start_builder(self, host: str, config: BuilderConfig) -> None:
        """Starts it with the installer; a running one is no error. See ``Builders.start``."""
        self._of(host).builders.start(config)

    def builder(self, host: str, name: str) -> BuilderView | None:
        """The builder, read from libvirt now; None if there is no domain of that name."""
        return self._of(host).builders.view(name)

    def builders(self, host: str) -> Sequence[BuilderView]:
        """All our builders on the host."""
        return self._of(host).builders.views()

    def record_build(self, host: str, name: str, record: BuildRecord) -> None:
        """Writes the build record, persistent and, if the builder runs, live."""
        self._of(host).builders.record(name, record)

    def destroy_builder(self, host: str, name: str) -> None:
        """Powers it off; one that is off or missing is no error. A failure is permanent."""
        self._of(host).builders.destroy(name)

    def undefine_builder(self, host: str, name: str) -> None:
        """Undefines a builder that is off; a missing one is no error."""
        self._of(host).builders.undefine(name)

    def open_builder_channel(self, host: str, name: str, channel: str) -> Console:
        """Opens a channel of the builder exclusively; see ``Builders.open_channel``."""
        return self._of(host).builders.open_channel(name, channel)

    def open_builder_console(self, host: str, name: str) -> Console:
        """Opens the builder's serial console exclusively."""
        return self._of(host).builders.open_console(name)

    # --- The inside of guests ---------------------------------------------------------------------

    def agent_command(self, host: str, name: str, command: str, timeout: float) -> str:
        """Sends a JSON command to the guest agent, returns its JSON answer; ``timeout`` in seconds.

        Raises ``AgentUnavailableError`` when the agent does not answer in time.
        """
        return self._of(host).agents.command(name, command, timeout)

    def open_console(self, host: str, name: str) -> Console:
        """The serial console as a stream of bytes from now on; see ``guest_io.stream``."""
        return open_console(self._of(host).link, name)

    def serial_log(self, host: str, name: str, limit: int) -> bytes:
        """The last ``limit`` bytes of the domain's serial log; see ``guest_io.serial_log``."""
        return last_of(self._of(host).config.uri, name, limit)

    def _check_free(self, host: str, pool: str, volume: str) -> None:
        """Raises ``BaseInUse`` if a running domain writes to the base: its data is only there."""
        writers = self._of(host).index.written_bases().get(volume)
        if writers:
            raise in_use(f"volume {pool}/{volume} on host {host}", min(writers))

    def _of(self, host: str) -> _Host:
        try:
            return self._hosts[host]
        except KeyError:
            known = ", ".join(sorted(self._hosts)) or "none"
            raise PermanentError(
                f"host {host} is not in the daemon's settings (known: {known}): add [hosts.{host}]",
                reason="HostUnknown",
            ) from None
