"""Which disk a domain that somebody else made boots from. Pure.

That is a guest's system disk, which a replacement throws away one day; so it is not guessed by the
disks' names. libvirt tells it of each device (``<boot order>``) or by kinds of devices
(``<os><boot dev>``), where ``hd`` means the first disk that the definition lists.
"""

import re
import xml.etree.ElementTree as ET

from controller.observed.adopted_devices import place_of

_ROOT = re.compile(r"(?:^|\s)root=/dev/([a-z]+)")


def boot_disk(root: ET.Element) -> tuple[str, str]:
    """Its target, of a ``<domain>``; or '' and why none is known that could be a system disk.

    What is in a CD-ROM drive does not count: an installer's medium stays in for years. Both are ''
    where there is no disk.
    """
    disks = [disk for disk in root.iterfind("devices/disk") if _kind(disk) in ("disk", "lun")]
    if not disks:
        return "", ""
    try:
        return _system_disk(_first(root, disks)), ""
    except _DoubtError as doubt:
        return "", (
            f"{doubt}; let the disk that is its system disk be the first to boot from: virsh edit"
            f" {root.findtext('name', '')}, with <boot order='1'/> in that disk and no <boot"
            " dev=.../> in <os>"
        )


class _DoubtError(Exception):
    """Why its system disk is not known."""


def _first(root: ET.Element, disks: list[ET.Element]) -> ET.Element:
    """The device that it boots from."""
    kernel = root.find("os/kernel")
    rooted = _ROOT.search(root.findtext("os/cmdline", "")) if kernel is not None else None
    named = [disk for disk in disks if rooted is not None and place_of(disk) == rooted[1]]
    ordered = [
        (int(boot.get("order", "")), device)
        for device in root.iterfind("devices/*")
        if (boot := device.find("boot")) is not None
        and boot.get("order", "").isdecimal()
        and _kind(device) != "cdrom"
    ]
    if named or ordered:
        return named[0] if named else min(ordered, key=lambda one: one[0])[1]
    kinds = [boot.get("dev", "") for boot in root.iterfind("os/boot")]
    kinds = [kind for kind in kinds if kind != "cdrom"]
    if kinds and kinds[0] != "hd":
        where = {"network": "the network", "fd": "a floppy disk"}.get(kinds[0], kinds[0])
        raise _DoubtError(f"it boots from {where} first")
    buses = sorted({_bus(disk) for disk in disks})
    if not kinds and len(buses) > 1:
        raise _DoubtError(
            f"its disks are on several buses ({', '.join(buses)}), and nothing says which of them"
            " it boots from"
        )
    return disks[0]


def _system_disk(device: ET.Element) -> str:
    if device.tag != "disk":
        raise _DoubtError(f"it boots from its {device.tag} {place_of(device)}".rstrip() + " first")
    if _kind(device) == "lun":
        raise _DoubtError(
            f"it boots from {place_of(device)}, a disk of the host's that is passed through (lun)"
        )
    if _kind(device) != "disk":
        raise _DoubtError(f"it boots from its {_kind(device)} {place_of(device)} first")
    return place_of(device)


def _kind(device: ET.Element) -> str:
    return device.get("device", "disk") if device.tag == "disk" else ""


def _bus(disk: ET.Element) -> str:
    target = disk.find("target")
    return target.get("bus", "") if target is not None else ""
