"""Hot-plug: attaches, detaches and changes devices of a running domain.

Detaching is a request to the guest, which may take any time or never answer. So it is requested,
and then awaited by libvirt's events, without holding a worker or a place of the host.
"""

import queue
import time
import xml.etree.ElementTree as ET
from copy import deepcopy

import libvirt

from controller.errors import PermanentError, TransientError
from controller.hypervisor.connection.config import Role
from controller.hypervisor.connection.events import REMOVAL_FAILED
from controller.hypervisor.connection.link import HostLink
from controller.hypervisor.domains.guarded_writes import Writes
from controller.hypervisor.domains.index import HostIndex
from controller.hypervisor.domains.live_devices import (
    Running,
    attach,
    look,
    nic_in,
    put_medium,
)
from controller.hypervisor.errors.refusals import ineffective
from controller.hypervisor.xml.update_devices import relink
from controller.observed.adopted_devices import alias_name

_LIVE = libvirt.VIR_DOMAIN_AFFECT_LIVE
_LOOK_SECONDS = 10.0
_ASKED_BEFORE = "in the process of unplug"
_NO_DEVICE = "no device found with alias"
"""Text of an internal error of libvirt; a detach by XML would raise an error code of its own."""


class Hotplug:
    """The devices of one host's running domains. Each method raises as those of ``LiveChanges``.

    ``alias`` is without prefix. A domain that was adopted while running has devices with libvirt's
    own aliases; they are found all the same.
    """

    def __init__(self, link: HostLink, writes: Writes, index: HostIndex) -> None:
        self._link = link
        self._writes = writes
        self._index = index

    def plug(self, name: str, alias: str) -> None:
        """Attaches the definition's device, if it is not yet (``virDomainAttachDeviceFlags``)."""

        def write(_connection: libvirt.virConnect, domain: libvirt.virDomain) -> None:
            now = look(domain)
            device = now.definition(alias)
            if now.device(alias) is not None:
                return
            attach(domain, device)
            if look(domain).device(alias) is None:
                raise ineffective(f"domain {name}", f"attaching {alias}")

        self._writes.write(name, "attach device", write)

    def unplug(self, name: str, alias: str, timeout: float) -> None:
        """Detaches the device, if attached (``virDomainDetachDeviceAlias``); waits for the guest.

        Raises ``TransientError``: ``RemovalRefused`` if the guest refuses, ``RemovalTimedOut``
        after ``timeout`` seconds. The guest may still release it later.
        """
        deadline = time.monotonic() + timeout
        with self._index.listen(name) as subscription:
            asked = self._ask_for(name, alias)
            while asked and not self._is_out(name, asked):
                try:
                    kind, device = subscription.get(timeout=max(0.0, deadline - time.monotonic()))
                    while device and device != asked:
                        kind, device = subscription.get(
                            timeout=max(0.0, deadline - time.monotonic())
                        )
                except queue.Empty:
                    if self._is_out(name, asked):
                        break
                    raise TransientError(
                        f"guest {name} has not let go of {alias} within {timeout:g} s: it is still"
                        " in use there, or no system runs in it",
                        reason="RemovalTimedOut",
                    ) from None
                if (kind, device) == (REMOVAL_FAILED, asked):
                    raise TransientError(
                        f"guest {name} refuses to let go of {alias}: stop using it there",
                        reason="RemovalRefused",
                    )
        self._index.touch(name)

    def update(self, name: str, alias: str) -> None:
        """Updates an interface's source and link or a medium (``virDomainUpdateDeviceFlags``).

        Raises ``PermanentError(reason='NotSupported')`` for a disk that is no drive.
        """

        def write(_connection: libvirt.virConnect, domain: libvirt.virDomain) -> None:
            now = look(domain)
            wanted = now.definition(alias)
            device = now.running(alias)
            if wanted.tag == "interface":
                changed = deepcopy(device)
                relink(changed, wanted)
                domain.updateDeviceFlags(ET.tostring(changed, encoding="unicode"), _LIVE)
            elif wanted.get("device") == "cdrom":
                put_medium(domain, device, wanted, _LIVE)
            else:
                raise PermanentError(
                    f"disk {alias} of domain {name} cannot be exchanged while it runs: restart it",
                    reason="NotSupported",
                )
            if not _as_defined(look(domain), alias):
                raise ineffective(f"domain {name}", f"changing {alias}")

        self._writes.write(name, "update device", write)

    def _ask_for(self, name: str, alias: str) -> str:
        """Requests the removal; returns the device's alias in libvirt, '' if it is not attached."""

        def write(_connection: libvirt.virConnect, domain: libvirt.virDomain) -> str:
            device = look(domain).device(alias)
            if device is None:
                return ""
            asked = alias_name(device)
            try:
                # By alias, libvirt does not wait for the guest; by XML it would.
                domain.detachDeviceAlias(asked, _LIVE)
            except libvirt.libvirtError as error:
                if error.get_error_code() == libvirt.VIR_ERR_DEVICE_MISSING:
                    return ""
                if _NO_DEVICE in str(error):
                    return ""
                if _ASKED_BEFORE not in str(error):
                    raise
            return asked

        return self._writes.write(name, "detach device", write)

    def _is_out(self, name: str, asked: str) -> bool:
        """Whether the device is detached; also True if the domain is off."""

        def look_for(connection: libvirt.virConnect) -> bool:
            domain = connection.lookupByName(name)
            if not domain.isActive():
                return True
            root = ET.fromstring(domain.XMLDesc(0))  # noqa: S314 - libvirt's own
            return all(alias.get("name") != asked for alias in root.iterfind("devices/*/alias"))

        return self._link.call(Role.LOOK, "look for device", look_for, _LOOK_SECONDS)


def _as_defined(now: Running, alias: str) -> bool:
    drive, wanted_drive = (one.config.disk(alias) for one in (now.live, now.stored))
    if drive is not None and wanted_drive is not None:
        return drive.place == wanted_drive.place
    nic, wanted = (nic_in(one.config, alias) for one in (now.live, now.stored))
    return (
        nic is not None
        and wanted is not None
        and (nic.kind, nic.source, nic.link) == (wanted.kind, wanted.source, wanted.link)
    )
