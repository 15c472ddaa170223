"""Changes the I/O limits of a disk (``<iotune>``): six are ours, an operator may have set others.

An operator's bursts (``*_max``, for ``*_max_length`` seconds), group of disks and size of an
operation stay, as far as QEMU accepts them together with the new limits.
"""

import xml.etree.ElementTree as ET
from dataclasses import asdict, fields

from controller.observed.domain import IoTune

_OURS = tuple(field.name for field in fields(IoTune))


def update_limits(device: ET.Element, has: IoTune, wanted: IoTune) -> None:
    """Changes the limits of a ``<disk>`` that differ between ``has`` and ``wanted``.

    A burst is removed with its limit, and if its limit gets higher than it: QEMU refuses that.
    """
    element = device.find("iotune")
    if element is None:
        element = ET.SubElement(device, "iotune")
    old = asdict(has)
    for name, limit in asdict(wanted).items():
        if limit == old[name]:
            continue
        _write(element, name, limit)
        if limit == 0 or _number(element, f"{name}_max") < limit:
            _write(element, f"{name}_max", 0)
            _write(element, f"{name}_max_length", 0)
    left = [name for name in _OURS if element.find(name) is not None]
    if not any("iops" in name for name in left):
        _write(element, "size_iops_sec", 0)
    if not left:
        device.remove(element)


def live_limits(definition: ET.Element, running: ET.Element) -> dict[str, int | str]:
    """For ``virDomainSetBlockIoTune``: the definition's limits, and 0 for those it lacks now."""
    found: dict[str, int | str] = dict.fromkeys(_OURS, 0)
    found |= {
        child.tag: 0
        for child in running.iterfind("iotune/*")
        if child.tag.endswith("_max") or child.tag == "size_iops_sec"
    }
    for child in definition.iterfind("iotune/*"):
        text = child.text or ""
        found[child.tag] = text if child.tag == "group_name" else int(text)
    return found


def _write(element: ET.Element, name: str, limit: int) -> None:
    """Sets one limit; 0 removes it."""
    there = element.find(name)
    if there is not None and limit == 0:
        element.remove(there)
    elif limit:
        (there if there is not None else ET.SubElement(element, name)).text = str(limit)


def _number(element: ET.Element, name: str) -> int:
    text = element.findtext(name, "")
    return int(text) if text.isdecimal() else 0
