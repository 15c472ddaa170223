"""Brings the definition of an existing domain up to date, and leaves the rest of it as it is.

A definition rendered anew would lose what libvirt filled in (PCI addresses, by which the guest
names its disks and interfaces; the machine's version; where its NVRAM is) and what an operator
added by hand. So the persistent XML is taken as it stands and only what we own is replaced in it.
"""

import xml.etree.ElementTree as ET

from controller.hypervisor.device_update import update_devices
from controller.observed.domain import ALIAS_PREFIX, NAMESPACE
from controller.observed.domain_xml import AGENT_CHANNEL
from controller.observed.qemu_arguments import QEMU_NAMESPACE, TEST_ARGUMENTS_NAMESPACE

_OWN_VALUES = ("memory", "currentMemory", "vcpu", "on_poweroff", "on_reboot", "on_crash")
_OWN_TEXTS = ("title", "description")
_OWN_BOOT = ("kernel", "initrd", "cmdline")
_OWN_FIRMWARE = ("loader", "nvram", "firmware")
_OURS = f"{{{NAMESPACE}}}guest"
_QEMU_LINE = f"{{{QEMU_NAMESPACE}}}commandline"
_TEST_LINE = f"{{{TEST_ARGUMENTS_NAMESPACE}}}commandline"


def update(inactive: str, rendered: str) -> str:
    """``inactive`` (the persistent XML) with what we own as ``rendered`` has it.

    Devices of ours are matched by alias (``device_update``).
    """
    has, wanted = ET.fromstring(inactive), ET.fromstring(rendered)  # noqa: S314 - libvirt's own
    _values(has, wanted)
    for tag in _OWN_TEXTS:
        _replace(has, wanted, tag)
    _accelerator(has, wanted)
    _os(has, wanted)
    _metadata(has, wanted)
    devices, new = has.find("devices"), wanted.find("devices")
    if devices is not None and new is not None:
        update_devices(devices, new)
        _agent_channel(devices, new)
    _arguments(has, wanted)
    return ET.tostring(has, encoding="unicode")


def _values(has: ET.Element, wanted: ET.Element) -> None:
    for tag in _OWN_VALUES:
        old, new = has.find(tag), wanted.find(tag)
        if new is None:
            continue
        if old is None:
            has.append(new)
            continue
        if tag == "vcpu":
            _vcpus(has, old, new)
        old.text, old.attrib = new.text, {**old.attrib, **new.attrib}


def _vcpus(has: ET.Element, old: ET.Element, new: ET.Element) -> None:
    """What says of each vCPU whether it is there, and of the sockets, would contradict the new."""
    many = old.text != new.text
    if many or old.get("current", old.text) != new.get("current", new.text):
        _remove(has, "vcpus")
    cpu = has.find("cpu")
    if many and cpu is not None:
        _remove(cpu, "topology")


def _accelerator(has: ET.Element, wanted: ET.Element) -> None:
    if has.get("type") == wanted.get("type"):
        return
    has.set("type", wanted.get("type", ""))
    _replace(has, wanted, "cpu")


def _os(has: ET.Element, wanted: ET.Element) -> None:
    old, new = has.find("os"), wanted.find("os")
    if old is None or new is None:
        return
    if _is_efi(old) != _is_efi(new):
        old.attrib.pop("firmware", None)
        old.attrib.update(new.attrib)
        for tag in _OWN_FIRMWARE:
            _remove(old, tag)
    for tag in _OWN_BOOT:
        _replace(old, new, tag)


def _is_efi(os: ET.Element) -> bool:
    loader = os.find("loader")
    return os.get("firmware") == "efi" or (loader is not None and loader.get("type") == "pflash")


def _replace(has: ET.Element, wanted: ET.Element, tag: str) -> None:
    new = wanted.find(tag)
    _remove(has, tag)
    if new is not None:
        has.append(new)


def _remove(parent: ET.Element, tag: str) -> None:
    for element in parent.findall(tag):
        parent.remove(element)


def _metadata(has: ET.Element, wanted: ET.Element) -> None:
    new = wanted.find("metadata")
    if new is None:
        return
    old = has.find("metadata")
    if old is None:
        old = ET.SubElement(has, "metadata")
    for tag in (_OURS, _TEST_LINE):
        _remove(old, tag)
        for element in new.findall(tag):
            old.append(element)


def _agent_channel(devices: ET.Element, wanted: ET.Element) -> None:
    old, new = _agent_channels(devices), _agent_channels(wanted)
    if not new:
        for channel in old:
            devices.remove(channel)
    elif not old:
        devices.extend(new)


def _agent_channels(devices: ET.Element) -> list[ET.Element]:
    return [
        channel
        for channel in devices.findall("channel")
        if channel.find(f"target[@name='{AGENT_CHANNEL}']") is not None
    ]


def _arguments(has: ET.Element, wanted: ET.Element) -> None:
    """Ours are told by their id; arguments an operator added stay where they are."""
    old, new = has.find(_QEMU_LINE), wanted.find(_QEMU_LINE)
    if old is None:
        if new is not None:
            has.append(new)
        return
    arguments = old.findall(f"{{{QEMU_NAMESPACE}}}arg")
    values = [argument.get("value", "") for argument in arguments]
    for index, argument in enumerate(arguments):
        following = values[index + 1] if index + 1 < len(values) else ""
        if _is_ours(values[index]) or (
            values[index] in ("-netdev", "-device") and _is_ours(following)
        ):
            old.remove(argument)
    if new is not None:
        for argument in new:
            old.append(argument)
    if not len(old):
        has.remove(old)


def _is_ours(value: str) -> bool:
    return f"id={ALIAS_PREFIX}nic-" in value or f"netdev={ALIAS_PREFIX}nic-" in value
