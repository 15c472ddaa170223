"""Updates the disks and interfaces of a definition in place, with as few changes as possible.

A device of ours that stays keeps its address, its bus and all that an operator set on it; of the
fields that we own, only those that differ are changed. Also used for a device of the running domain
that must become as in the definition.
"""

import xml.etree.ElementTree as ET
from copy import deepcopy

from controller.errors import PermanentError
from controller.hypervisor.xml.disk_limits import update_limits
from controller.observed.adopted_devices import AdoptedDevices, alias_name, place_of
from controller.observed.domain import DiskConfig
from controller.observed.domain_xml import disk_of, nic_of, owned_elements


def update_devices(root: ET.Element, rendered: ET.Element, live: ET.Element | None = None) -> None:
    """Changes ``root``, so that its disks and interfaces of ours are those of ``rendered``.

    They are matched by alias, and keep their position. Devices without our alias stay as they are,
    except one at the place of a new device of ours with the same source: an edit lost its alias.
    """
    devices, wanted = root.find("devices"), rendered.find("devices")
    if devices is None or wanted is None:
        return
    running = dict(owned_elements(live, "disk")) if live is not None else {}
    for alias, disk in owned_elements(rendered, "disk"):
        _as_it_runs(disk, running.get(alias))
    for kind in ("disk", "interface"):
        old = dict(owned_elements(root, kind))
        new = dict(owned_elements(rendered, kind))
        for alias, device in old.items():
            if alias not in new:
                devices.remove(device)
        for alias, element in new.items():
            there = old.get(alias)
            if there is None:
                there = _without_alias(root, element, kind)
            if there is None:
                devices.append(element)
            else:
                take_over(there, element)
    if devices.find("disk/target[@bus='scsi']") is not None:
        for controller in wanted.findall("controller[@type='scsi']"):
            if devices.find("controller[@type='scsi']") is None:
                devices.append(controller)


def _as_it_runs(disk: ET.Element, running: ET.Element | None) -> None:
    """Takes the running disk's whole ``<source>`` (encryption, labels) if the place is the same."""
    if running is None or disk_of(running, "").place != disk_of(disk, "").place:
        return
    _replace(disk, running, "source")
    for source in disk.findall("source"):
        source.attrib.pop("index", None)  # libvirt's number of the source in this run only


def take_over(device: ET.Element, new: ET.Element) -> None:
    """Sets those fields of ``device`` that we own to the values in ``new``."""
    if device.tag == "disk":
        _disk(device, new)
    else:
        _interface(device, new)


def put_source(device: ET.Element, new: ET.Element) -> None:
    """Gives the disk or drive ``device`` the source of ``new``; either may have none."""
    device.set("type", new.get("type", ""))
    old = device.find("source")
    # libvirt's <backingStore> describes the files below the old source, so it is replaced too.
    for tag in ("source", "backingStore"):
        _replace(device, new, tag)
    source = device.find("source")
    if old is not None and source is not None and device.get("device") == "cdrom":
        _keep_wishes(old, source)
    driver, model = device.find("driver"), new.find("driver")
    if driver is not None and model is not None:
        driver.set("type", model.get("type", "raw"))


def _keep_wishes(old: ET.Element, source: ET.Element) -> None:
    """Keeps an operator's settings for any medium: its label, and whether it may be missing."""
    policy = old.get("startupPolicy")
    if policy is not None and "startupPolicy" not in source.attrib:
        source.set("startupPolicy", policy)
    if source.find("seclabel") is None:
        source.extend(deepcopy(old.findall("seclabel")))


def relink(device: ET.Element, new: ET.Element) -> None:
    """Connects the interface ``device`` of a running domain as in ``new``, its definition.

    Replaces the whole source: a live one names the network's bridge as if it had been requested.
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
    _target(device, new, same_kind=has.device == wanted.device)
    if has.device == wanted.device == "cdrom":
        return  # for a drive, documents only say which medium is in it
    if has.format != wanted.format:
        _driver(device).set("type", wanted.format)
    if has.cache != wanted.cache:
        driver = _driver(device)
        driver.attrib.pop("cache", None)
        if wanted.cache:
            driver.set("cache", wanted.cache)
    if has.io_tune != wanted.io_tune:
        update_limits(device, has.io_tune, wanted.io_tune)


def _driver(device: ET.Element) -> ET.Element:
    driver = device.find("driver")
    return driver if driver is not None else ET.SubElement(device, "driver", name="qemu")


def _target(device: ET.Element, new: ET.Element, *, same_kind: bool) -> None:
    """Updates the target. Another name on the same kind of bus keeps bus, address and tray."""
    if same_kind and place_of(device) == place_of(new):
        return
    target = device.find("target")
    if same_kind and target is not None and place_of(device)[:2] == place_of(new)[:2]:
        target.set("dev", place_of(new))
        return
    if _bus(device) != _bus(new):
        _remove(device, "address")
    _replace(device, new, "target")


def _refuse_bound(device: ET.Element, has: DiskConfig) -> None:
    """Raises ``SourceBound`` for a source with encryption or a slice, which fit no other one."""
    if has.bound and has.device != "cdrom":
        raise PermanentError(
            f"disk {has.target} is on {has.volume}, with <{'>, <'.join(has.bound)}>, which no"
            " document can say: it is not exchanged; do it by hand, with virsh edit, or take that"
            f" out first ({alias_name(device)})",
            reason="SourceBound",
        )


def _interface(device: ET.Element, new: ET.Element) -> None:
    has, wanted = nic_of(device, ""), nic_of(new, "")
    if (has.kind, has.source) != (wanted.kind, wanted.source):
        _lead(device, new)
    if has.link != wanted.link:
        _replace(device, new, "link")
    if has.mac != wanted.mac:
        _set(device, "mac", "address", wanted.mac)
    if has.model != wanted.model:
        _set(device, "model", "type", wanted.model)
        _remove(device, "address")


def _without_alias(root: ET.Element, new: ET.Element, kind: str) -> ET.Element | None:
    """Finds the same device without our alias, and gives it the alias of ``new``; None if none."""
    adopted = AdoptedDevices(root)
    for device in root.iterfind(f"devices/{kind}"):
        if adopted.alias(device) or adopted.is_theirs(device) or place_of(device) != place_of(new):
            continue
        if kind == "interface" or disk_of(device, "").place == disk_of(new, "").place:
            _replace(device, new, "alias")
            return device
    return None


def _bus(device: ET.Element) -> str:
    target = device.find("target")
    return target.get("bus", "") if target is not None else ""


def _set(device: ET.Element, tag: str, key: str, text: str) -> None:
    element = device.find(tag)
    if element is None:
        element = ET.SubElement(device, tag)
    element.set(key, text)


def _replace(device: ET.Element, new: ET.Element, tag: str) -> None:
    _remove(device, tag)
    for element in new.findall(tag):
        device.append(deepcopy(element))


def _remove(device: ET.Element, tag: str) -> None:
    for element in device.findall(tag):
        device.remove(element)
