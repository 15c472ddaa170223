"""Brings the definition of an existing domain up to date, and leaves the rest of it as it is.

A definition rendered anew would lose what libvirt filled in (PCI addresses, by which the guest
names its disks and interfaces; the machine's version) and what an operator added by hand. So the
persistent XML is taken as it stands and only the elements we own are replaced in it.
"""

import xml.etree.ElementTree as ET

from controller.observed.domain import ALIAS_PREFIX, NAMESPACE
from controller.observed.domain_xml import QEMU_NAMESPACE, TEST_ARGUMENTS_NAMESPACE

_OWN_VALUES = ("title", "memory", "currentMemory", "vcpu")
_OWN_BOOT = ("kernel", "initrd", "cmdline")
_OURS = f"{{{NAMESPACE}}}guest"
_QEMU_LINE = f"{{{QEMU_NAMESPACE}}}commandline"
_TEST_LINE = f"{{{TEST_ARGUMENTS_NAMESPACE}}}commandline"


def update(inactive: str, rendered: str) -> str:
    """``inactive`` (the persistent XML) with our elements as ``rendered`` has them.

    Devices of ours are matched by alias and keep their address; devices without an alias of ours
    stay, unless one stands at the target of a device we add with the same source.
    """
    has, wanted = ET.fromstring(inactive), ET.fromstring(rendered)  # noqa: S314 - libvirt's own
    _values(has, wanted)
    _accelerator(has, wanted)
    _os(has, wanted)
    _metadata(has, wanted)
    for kind in ("disk", "interface"):
        _devices(has, wanted, kind)
    _arguments(has, wanted)
    return ET.tostring(has, encoding="unicode")


def _values(has: ET.Element, wanted: ET.Element) -> None:
    for tag in _OWN_VALUES:
        old, new = has.find(tag), wanted.find(tag)
        if new is None:
            continue
        if old is None:
            has.append(new)
        else:
            old.text, old.attrib = new.text, {**old.attrib, **new.attrib}


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
        _replace(has, wanted, "os")
        return
    for tag in _OWN_BOOT:
        found, want = old.find(tag), new.find(tag)
        if found is not None:
            old.remove(found)
        if want is not None:
            old.append(want)


def _is_efi(os: ET.Element) -> bool:
    loader = os.find("loader")
    return os.get("firmware") == "efi" or (loader is not None and loader.get("type") == "pflash")


def _replace(has: ET.Element, wanted: ET.Element, tag: str) -> None:
    old, new = has.find(tag), wanted.find(tag)
    if old is not None:
        has.remove(old)
    if new is not None:
        has.append(new)


def _metadata(has: ET.Element, wanted: ET.Element) -> None:
    new = wanted.find("metadata")
    if new is None:
        return
    old = has.find("metadata")
    if old is None:
        old = ET.SubElement(has, "metadata")
    for tag in (_OURS, _TEST_LINE):
        for element in old.findall(tag):
            old.remove(element)
        for element in new.findall(tag):
            old.append(element)


def _devices(has: ET.Element, wanted: ET.Element, kind: str) -> None:
    devices, news = has.find("devices"), wanted.findall(f"devices/{kind}")
    if devices is None:
        return
    old = {_alias(device): device for device in devices.findall(kind)}
    ours = {alias: device for alias, device in old.items() if alias.startswith(ALIAS_PREFIX)}
    names = {_alias(device) for device in news}
    for alias, device in ours.items():
        if alias not in names:
            devices.remove(device)
    for new in news:
        there = ours.get(_alias(new))
        if there is None:
            _make_room(devices, new, kind)
        else:
            address = there.find("address")
            if address is not None and _bus(there) == _bus(new):
                new.append(address)
            devices.remove(there)
        devices.append(new)


def _make_room(devices: ET.Element, new: ET.Element, kind: str) -> None:
    """The same disk under no alias, as after an edit that lost it, is the one we mean."""
    for device in devices.findall(kind):
        if not _alias(device).startswith(ALIAS_PREFIX) and _place(device) == _place(new):
            devices.remove(device)


def _place(device: ET.Element) -> tuple[str, ...]:
    source, target, mac = device.find("source"), device.find("target"), device.find("mac")
    if mac is not None:
        return (mac.get("address", ""),)
    return (
        source.get("pool", "") if source is not None else "",
        source.get("volume", "") if source is not None else "",
        target.get("dev", "") if target is not None else "",
    )


def _alias(device: ET.Element) -> str:
    alias = device.find("alias")
    return alias.get("name", "") if alias is not None else ""


def _bus(device: ET.Element) -> str:
    target, model = device.find("target"), device.find("model")
    if model is not None:
        return model.get("type", "")
    return target.get("bus", "") if target is not None else ""


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
