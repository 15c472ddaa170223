"""Devices plugged into a running domain, out of it, and changed while they are in.

Taking one out is a request to the guest, which answers when it likes or never: so it is asked for,
and then waited for by libvirt's events, holding neither a worker nor a place on the host.
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
"""An internal error of libvirt's, where an XML would be answered with a code of its own."""


class Hotplug:
    """The devices of one host's running domains. Each raises as ``LiveChanges`` does.

    ``alias`` is without prefix. A domain that was adopted while it runs has devices that bear
    libvirt's own aliases; they are found all the same.
    """

    def __init__(self, link: HostLink, writes: Writes, index: HostIndex) -> None:
        self._link = link
        self._writes = writes
        self._index = index

    def plug(self, name: str, alias: str) -> None:
        """``virDomainAttachDeviceFlags`` as the definition has it; one that is in is fine."""

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
        """``virDomainDetachDeviceAlias``, and the wait for the guest; one that is out is fine.

        Raises ``TransientError``: ``RemovalRefused`` where the guest says no, ``RemovalTimedOut``
        after ``timeout`` seconds. The guest may still let go of it later.
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
        """``virDomainUpdateDeviceFlags``: an interface's source and link, a drive's medium."""

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
        """Asks the guest; returns what libvirt calls the device, '' where it is out already."""

        def write(_connection: libvirt.virConnect, domain: libvirt.virDomain) -> str:
            device = look(domain).device(alias)
            if device is None:
                return ""
            asked = alias_name(device)
            try:
                # By alias it does not wait in libvirt for the guest, as by XML it does.
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
        """Also where the domain is off: nothing is in it any more."""

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
