"""Updates the definition of an existing domain in place, and leaves the rest of it as it is.

A definition rendered anew would lose what libvirt filled in (PCI addresses, by which the guest
names its disks and interfaces; the machine's version; the path of its NVRAM) and what an operator
added by hand. So in the persistent XML only those parts are changed that we own and that differ
from the wanted ones; all else stays, byte for byte.
"""

import xml.etree.ElementTree as ET

from controller.hypervisor.xml.root_bus import place_user_nics
from controller.hypervisor.xml.update_arguments import update_arguments
from controller.hypervisor.xml.update_devices import update_devices
from controller.hypervisor.xml.update_vcpus import update_vcpus
from controller.observed.domain import NAMESPACE, DomainConfig
from controller.observed.domain_xml import AGENT_CHANNEL, firmware_of, parse_config

_OWN_TEXTS = ("title", "description")
_OWN_ENDS = ("on_poweroff", "on_reboot", "on_crash")
_OWN_BOOT = ("kernel", "initrd", "cmdline")
_OWN_FIRMWARE = ("loader", "nvram", "firmware")
_OURS = f"{{{NAMESPACE}}}guest"


def update(inactive: str, rendered: str, live: str | None = None) -> str:
    """``inactive`` (the persistent XML) with the parts that we own taken from ``rendered``.

    Our devices are matched by alias (``update_devices``). ``live`` is the running domain's XML: a
    disk whose source changes back to the one that it runs on gets that whole ``<source>``.
    """
    has, wanted = ET.fromstring(inactive), ET.fromstring(rendered)  # noqa: S314 - libvirt's own
    _values(has, parse_config(inactive), parse_config(rendered))
    for tag in (*_OWN_TEXTS, *_OWN_ENDS):
        _text(has, wanted, tag)
    _accelerator(has, wanted)
    _os(has, wanted)
    _metadata(has, wanted)
    devices, new = has.find("devices"), wanted.find("devices")
    if devices is not None and new is not None:
        running = ET.fromstring(live) if live is not None else None  # noqa: S314
        update_devices(has, wanted, running)
        _agent_channel(devices, new)
    update_arguments(has, wanted)
    place_user_nics(has)
    return ET.tostring(has, encoding="unicode")


def _values(root: ET.Element, has: DomainConfig, wanted: DomainConfig) -> None:
    """Updates memory and vCPUs, compared as values: an equal value in another unit stays as is."""
    sizes = (
        ("memory", has.max_memory, wanted.max_memory),
        ("currentMemory", has.memory, wanted.memory),
    )
    for tag, old, new in sizes:
        element = root.find(tag)
        if element is None:
            # Without <currentMemory> the domain starts with all its memory.
            if new == wanted.max_memory:
                continue
            element = ET.SubElement(root, tag)
        elif old == new:
            continue
        element.text = str(new // 1024)
        element.set("unit", "KiB")
    if (has.vcpus, has.max_vcpus) != (wanted.vcpus, wanted.max_vcpus):
        update_vcpus(root, wanted.vcpus, wanted.max_vcpus)


def _text(has: ET.Element, wanted: ET.Element, tag: str) -> None:
    if (has.findtext(tag) or "") != (wanted.findtext(tag) or ""):
        _replace(has, wanted, tag)


def _accelerator(has: ET.Element, wanted: ET.Element) -> None:
    if has.get("type") == wanted.get("type"):
        return
    has.set("type", wanted.get("type", ""))
    old, new = has.find("cpu"), wanted.find("cpu")
    if old is not None and new is not None:
        # The CPU model depends on the accelerator; topology and NUMA cells do not, and are kept.
        new.extend(child for tag in ("topology", "numa") for child in old.findall(tag))
    _replace(has, wanted, "cpu")


def _os(has: ET.Element, wanted: ET.Element) -> None:
    old, new = has.find("os"), wanted.find("os")
    if old is None or new is None:
        return
    if firmware_of(old) != firmware_of(new):
        old.attrib.pop("firmware", None)
        old.attrib.update(new.attrib)
        for tag in _OWN_FIRMWARE:
            _remove(old, tag)
    for tag in _OWN_BOOT:
        _text(old, new, tag)


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
    _remove(old, _OURS)
    for element in new.findall(_OURS):
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
