"""Live changes of a running domain except devices: vCPUs, memory, I/O limits, disk size, title.

The definition has them already; here they are made in the running domain only (``AFFECT_LIVE``) and
checked afterwards: a change that libvirt reports as done, but that is not there, is an error.
"""

import json
import queue
import threading
import time
from collections.abc import Callable

import libvirt
import structlog

from controller.errors import GuestkeeperError, PermanentError
from controller.hypervisor.connection.config import Role
from controller.hypervisor.connection.link import HostLink
from controller.hypervisor.domains.guarded_writes import Writes
from controller.hypervisor.domains.index import HostIndex
from controller.hypervisor.domains.live_devices import look
from controller.hypervisor.errors.refusals import ineffective, missing, would_shrink
from controller.hypervisor.guest_io.agent import Agents
from controller.hypervisor.xml.disk_limits import live_limits
from controller.observed.adopted_devices import place_of

log = structlog.get_logger(__name__)
_LIVE = libvirt.VIR_DOMAIN_AFFECT_LIVE
_BALLOON_SECONDS = 10.0
_ONLINE_SECONDS = 5.0
_AGENT_SECONDS = 3.0
_LOOK_SECONDS = 10.0
_AGAIN = 0.25


class LiveChanges:
    """Live changes to the domains of one host. Each method raises as those of ``Writes``.

    Also ``TransientError``: ``WrongState`` for a domain that is off, ``DeviceMissing`` for a
    missing disk, ``LiveChangeIneffective`` if the running domain stayed as it was.
    """

    def __init__(self, link: HostLink, writes: Writes, index: HostIndex, agents: Agents) -> None:
        self._link = link
        self._writes = writes
        self._index = index
        self._agents = agents

    def set_vcpus(self, name: str, count: int) -> None:
        """Hot-plugs vCPUs (``virDomainSetVcpusFlags``), up to the domain's maximum; never unplugs.

        If an agent is connected, it brings them online, because a guest may not do so by itself; a
        failure of that is only logged. Raises ``PermanentError(reason='NotSupported')`` if the
        domain has more than ``count`` already.
        """

        def write(_connection: libvirt.virConnect, domain: libvirt.virDomain) -> bool:
            has = domain.vcpusFlags(_LIVE)
            if has > count:
                raise PermanentError(
                    f"domain {name} runs with {has} vCPUs, and none is taken away while it runs:"
                    " restart it",
                    reason="NotSupported",
                )
            if has < count:
                domain.setVcpusFlags(count, _LIVE)
                if domain.vcpusFlags(_LIVE) != count:
                    raise ineffective(f"domain {name}", f"giving it {count} vCPUs")
            return look(domain).live.agent_connected

        if self._writes.write(name, "set vCPUs", write):
            try:
                self._online(name, count)
            except (GuestkeeperError, ValueError, KeyError, TypeError) as error:
                log.warning("vCPUs not brought online", guest=name, error=str(error))

    def _online(self, name: str, count: int) -> None:
        """Brings offline vCPUs online (``guest-set-vcpus``), once the guest has detected all."""
        deadline = time.monotonic() + _ONLINE_SECONDS
        while True:
            answer = self._agents.command(name, '{"execute":"guest-get-vcpus"}', _AGENT_SECONDS)
            vcpus = json.loads(answer)["return"]
            if len(vcpus) >= count or time.monotonic() > deadline:
                break
            # There is no event when the guest's kernel has detected a new one.
            threading.Event().wait(_AGAIN)
        off = [
            {"logical-id": one["logical-id"], "online": True} for one in vcpus if not one["online"]
        ]
        if off:
            command = {"execute": "guest-set-vcpus", "arguments": {"vcpus": off}}
            self._agents.command(name, json.dumps(command), _AGENT_SECONDS)

    def set_memory(self, name: str, size: int) -> None:
        """Sets the balloon to ``size`` bytes (``virDomainSetMemoryFlags``).

        Waits, some seconds at most, until the guest's balloon driver has reached it, without
        holding a worker or a place of the host.
        """

        def write(_connection: libvirt.virConnect, domain: libvirt.virDomain) -> None:
            domain.setMemoryFlags(-(-size // 1024), _LIVE)

        def there(domain: libvirt.virDomain) -> bool:
            return look(domain).live.config.memory == -(-size // 2**20) * 2**20

        deadline = time.monotonic() + _BALLOON_SECONDS
        with self._index.listen(name) as subscription:
            self._writes.write(name, "set memory", write)
            while not self._look(name, there):
                try:
                    subscription.get(timeout=max(0.0, deadline - time.monotonic()))
                except queue.Empty:
                    raise ineffective(
                        f"domain {name}", f"setting its memory to {size} bytes"
                    ) from None

    def set_io_tune(self, name: str, alias: str) -> None:
        """Gives the running disk the limits of the definition (``virDomainSetBlockIoTune``)."""

        def write(_connection: libvirt.virConnect, domain: libvirt.virDomain) -> None:
            now = look(domain)
            wanted = now.stored.config.disk(alias)
            if wanted is None:
                raise missing(name, alias, "definition")
            running = now.running(alias)
            limits = live_limits(now.definition(alias), running)
            domain.setBlockIoTune(place_of(running), limits, _LIVE)
            found = look(domain).live.config.disk(alias)
            if found is None or found.io_tune != wanted.io_tune:
                raise ineffective(f"domain {name}", f"setting the I/O limits of {alias}")

        self._writes.write(name, "set I/O limits", write)

    def set_title(self, name: str, title: str, description: str) -> None:
        """Sets title and description (``virDomainSetMetadata``); '' removes one."""

        def write(_connection: libvirt.virConnect, domain: libvirt.virDomain) -> None:
            for kind, text in (
                (libvirt.VIR_DOMAIN_METADATA_TITLE, title),
                (libvirt.VIR_DOMAIN_METADATA_DESCRIPTION, description),
            ):
                domain.setMetadata(kind, text or None, None, None, _LIVE)
            config = look(domain).live.config
            if (config.title, config.description) != (title, description):
                raise ineffective(f"domain {name}", "setting title and description")

        self._writes.write(name, "set title", write)

    def set_autostart(self, name: str, on: bool) -> None:
        """Turns autostart on or off (``virDomainSetAutostart``), whether the domain runs or not."""

        def write(_connection: libvirt.virConnect, domain: libvirt.virDomain) -> None:
            domain.setAutostart(int(on))
            if bool(domain.autostart()) != on:
                raise ineffective(f"domain {name}", f"turning autostart {'on' if on else 'off'}")

        self._writes.write(name, "set autostart", write)

    def grow_disk(self, name: str, alias: str, capacity: int) -> None:
        """Enlarges a disk to ``capacity`` bytes (``virDomainBlockResize``); idempotent.

        Raises ``PermanentError(reason='WouldShrink')`` for a disk that is larger.
        """

        def write(_connection: libvirt.virConnect, domain: libvirt.virDomain) -> None:
            target = place_of(look(domain).running(alias))
            has = domain.blockInfo(target)[0]
            if has > capacity:
                raise would_shrink(f"disk {alias} of domain {name}", has, capacity)
            if has == capacity:
                return
            domain.blockResize(target, capacity, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)
            if domain.blockInfo(target)[0] < capacity:
                raise ineffective(f"domain {name}", f"growing {alias}")

        self._writes.write(name, "grow disk", write)

    def _look(self, name: str, look: Callable[[libvirt.virDomain], bool]) -> bool:
        return self._link.call(
            Role.LOOK,
            "look at change",
            lambda connection: look(connection.lookupByName(name)),
            _LOOK_SECONDS,
        )
