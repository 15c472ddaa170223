"""Brings the disks and interfaces of a definition up to date, each as gently as it can be.

A device of ours that stays keeps its address, its bus and all that an operator set on it; of what
we own, only what differs is changed. The same serves a device of the running domain, which is to be
what the definition says.
"""

import xml.etree.ElementTree as ET
from copy import deepcopy

from controller.errors import PermanentError
from controller.observed.adopted_devices import place_of
from controller.observed.domain import ALIAS_PREFIX, DiskConfig
from controller.observed.domain_xml import disk_of, nic_of


def update_devices(devices: ET.Element, wanted: ET.Element) -> None:
    """``devices`` with the disks and interfaces of ours that ``wanted`` has, and no others of ours.

    They are matched by alias. Those without one stay, but for one that stands where a new device
    of ours shall be, with the same source: an edit lost its alias.
    """
    for kind in ("disk", "interface"):
        old = {
            alias: device
            for device in devices.findall(kind)
            if (alias := device_alias(device)).startswith(ALIAS_PREFIX)
        }
        for device in old.values():
            devices.remove(device)
        for new in wanted.findall(kind):
            there = old.get(device_alias(new))
            if there is None:
                _make_room(devices, new, kind)
                there = new
            else:
                take_over(there, new)
            devices.append(there)
    if devices.find("disk/target[@bus='scsi']") is not None:
        for controller in wanted.findall("controller[@type='scsi']"):
            if devices.find("controller[@type='scsi']") is None:
                devices.append(controller)


def take_over(device: ET.Element, new: ET.Element) -> None:
    """Changes ``device`` to what ``new`` says in the fields that we own."""
    if device.tag == "disk":
        _disk(device, new)
    else:
        _interface(device, new)


def put_source(device: ET.Element, new: ET.Element) -> None:
    """Gives the disk or drive ``device`` what is in ``new``; both may be empty."""
    device.set("type", new.get("type", ""))
    # With the source goes what libvirt knew of the files below it.
    for tag in ("source", "backingStore"):
        _replace(device, new, tag)
    driver, model = device.find("driver"), new.find("driver")
    if driver is not None and model is not None:
        driver.set("type", model.get("type", "raw"))


def relink(device: ET.Element, new: ET.Element) -> None:
    """Connects the interface ``device`` of a running domain as ``new``, its definition, is.

    Whole: a running one says which bridge its network has led it to, as if that had been asked for.
    """
    _lead(device, new)
    _replace(device, new, "link")


def _lead(device: ET.Element, new: ET.Element) -> None:
    device.set("type", new.get("type", ""))
    _replace(device, new, "source")


def _disk(device: ET.Element, new: ET.Element) -> None:
    has, wanted = disk_of(device, ""), disk_of(new, "")
    if has.place != wanted.place:
        _refuse_bound(device, has)
        put_source(device, new)
    if has.device != wanted.device:
        device.set("device", wanted.device)
        _replace(device, new, "readonly")
    if has.target != wanted.target or has.device != wanted.device:
        if _bus(device) != _bus(new):
            _remove(device, "address")
        _replace(device, new, "target")
    if (has.format, has.cache) != (wanted.format, wanted.cache):
        driver, model = device.find("driver"), new.find("driver")
        if driver is None:
            _replace(device, new, "driver")
        elif model is not None:
            driver.attrib.pop("cache", None)
            driver.attrib.update(
                {key: text for key in ("type", "cache") if (text := model.get(key))}
            )
    if has.io_tune != wanted.io_tune:
        _replace(device, new, "iotune")


def _refuse_bound(device: ET.Element, has: DiskConfig) -> None:
    """What a source is encrypted with, or which part of it is the disk, goes with no other."""
    if has.bound and has.device != "cdrom":
        raise PermanentError(
            f"disk {has.target} is on {has.volume}, with <{'>, <'.join(has.bound)}>, which no"
            " document can say: it is not exchanged; do it by hand, with virsh edit, or take that"
            f" out first ({device_alias(device)})",
            reason="SourceBound",
        )


def _interface(device: ET.Element, new: ET.Element) -> None:
    has, wanted = nic_of(device, ""), nic_of(new, "")
    if (has.kind, has.source) != (wanted.kind, wanted.source):
        _lead(device, new)
    if has.link != wanted.link:
        _replace(device, new, "link")
    if has.mac != wanted.mac:
        _replace(device, new, "mac")
    if has.model != wanted.model:
        _replace(device, new, "model")
        _remove(device, "address")


def _make_room(devices: ET.Element, new: ET.Element, kind: str) -> None:
    """The same device under no alias is the one we mean."""
    for device in devices.findall(kind):
        if device_alias(device).startswith(ALIAS_PREFIX) or place_of(device) != place_of(new):
            continue
        if kind == "interface" or disk_of(device, "").place == disk_of(new, "").place:
            devices.remove(device)


def device_alias(device: ET.Element) -> str:
    """With its prefix, where it is ours; of a running domain that was adopted, libvirt's own."""
    alias = device.find("alias")
    return alias.get("name", "") if alias is not None else ""


def _bus(device: ET.Element) -> str:
    target = device.find("target")
    return target.get("bus", "") if target is not None else ""


def _replace(device: ET.Element, new: ET.Element, tag: str) -> None:
    _remove(device, tag)
    for element in new.findall(tag):
        device.append(deepcopy(element))


def _remove(device: ET.Element, tag: str) -> None:
    for element in device.findall(tag):
        device.remove(element)
