"""Places user interfaces in free slots of a machine's PCI root bus; libvirt does not know of them.

They are QEMU arguments. Our own domains are q35, whose root bus is ``pcie.0``, filled from below.
An adopted one may be i440fx, whose root bus is ``pci.0``, with slots shared by all devices.
"""

import re
import xml.etree.ElementTree as ET

from controller.errors import PermanentError
from controller.observed.domain import ALIAS_PREFIX
from controller.observed.qemu_arguments import SLOT, argument_lines, slots_of

_BUS = re.compile(r"(?<=,bus=)(pcie\.0|pci\.0)(?=,|$)")
_FROM_THE_TOP = range(0x1F, 0x02, -1)
"""From the top, as libvirt takes the lowest free slot and does not see ours."""


def place_user_nics(root: ET.Element) -> None:
    """Moves our user interfaces of a ``<domain>`` to its root bus, in free slots.

    One that is on that bus keeps its slot, by which the guest names it. Raises ``PermanentError``
    if no slot is free.
    """
    bus = "pcie.0" if is_pcie(root) else "pci.0"
    arguments = [one for line in argument_lines(root) for one in line]
    ours = [one for one in arguments if _is_ours(one)]
    strangers = [one for one in ours if _bus_of(one) not in ("", bus)]
    if not strangers:
        return
    taken = given_slots(root) | slots_of(one for one in arguments if one not in strangers)
    for argument in strangers:
        free = next((slot for slot in _FROM_THE_TOP if slot not in taken), None)
        if free is None:
            raise PermanentError(
                "no slot of the machine's PCI bus is left for a user interface; remove a device, or"
                " use an interface of a network"
            )
        taken.add(free)
        value = _BUS.sub(bus, argument.get("value", ""))
        argument.set("value", SLOT.sub(f"{free:#x}", value))


def is_pcie(root: ET.Element) -> bool:
    """Whether the root bus is ``pcie.0``, which our definitions name."""
    for controller in root.iterfind("devices/controller[@type='pci']"):
        if controller.get("model") in ("pci-root", "pcie-root"):
            return controller.get("model") == "pcie-root"
    machine = root.find("os/type")
    name = machine.get("machine", "") if machine is not None else ""
    return name != "pc" and not name.startswith("pc-i440fx")


def _is_ours(argument: ET.Element) -> bool:
    value = argument.get("value", "")
    return f"netdev={ALIAS_PREFIX}nic-" in value and "bus=" in value


def _bus_of(argument: ET.Element) -> str:
    found = _BUS.search(argument.get("value", ""))
    return found[1] if found is not None else ""


def given_slots(root: ET.Element) -> set[int]:
    """The slots of the root bus that libvirt has assigned."""
    return {
        int(address.get("slot", "0"), 0)
        for address in root.iterfind("devices/*/address[@type='pci']")
        if int(address.get("bus", "0"), 0) == 0
    }
