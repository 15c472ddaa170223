"""Find the disk that a domain made by somebody else boots from. Pure.

That is the guest's system disk, which a replacement throws away one day; so it is not guessed from
the disks' names. libvirt defines it for each device (``<boot order>``) or by kinds of devices
(``<os><boot dev>``), where ``hd`` means the first disk in the definition.
"""

import re
import shlex
import xml.etree.ElementTree as ET

from controller.observed.adopted_devices import place_of

_ROOT = re.compile(r"(?:^|\s)root=/dev/([a-z]+)")
_KINDS = {"network": "the network", "fd": "a floppy disk"}
_BY_THE_WAY = ("cdrom", "floppy", "interface", "redirdev")


def boot_disk(root: ET.Element) -> tuple[str, str]:
    """The target of a ``<domain>``'s system disk; or '' and why the system disk is not known.

    What is tried before a disk and usually has nothing to boot does not count: an installer's
    medium stays in for years, and so does the network before the disk that it installed. Both are
    '' if there is no disk.
    """
    disks = [disk for disk in root.iterfind("devices/disk") if _kind(disk) in ("disk", "lun")]
    if not disks:
        return "", ""
    try:
        return _system_disk(_first(root, disks)), ""
    except _DoubtError as doubt:
        edit = f"virsh edit {shlex.quote(root.findtext('name', ''))}"
        return "", f"{doubt.why}; {doubt.remedy.format(edit=edit)}"


class _DoubtError(Exception):
    """Why the system disk is not known. A remedy never changes what the domain boots from."""

    def __init__(self, why: str, remedy: str) -> None:
        super().__init__(why)
        self.why = why
        self.remedy = remedy


_NAME_THE_FIRST = (
    "let the disk that is its system disk be the first to boot from: {edit}, with <boot order='1'/>"
    " in that disk and no <boot dev=.../> in <os>"
)
_NAME_THE_NEXT = (
    "name its system disk after that: {edit}, with <boot order='1'/> in what it boots from now,"
    " <boot order='2'/> in that disk, and no <boot dev=.../> in <os>"
)
_LEAVE_IT = (
    "a guest's system disk is a volume of a pool, so leave the domain as it is; only where its"
    " system is on one of its disks after all, and starts without that device, give that disk the"
    " lowest <boot order>: {edit}"
)


def _first(root: ET.Element, disks: list[ET.Element]) -> ET.Element:
    """The device that the domain boots from; raises ``_DoubtError`` if that is not clear."""
    kernel = root.find("os/kernel")
    rooted = _ROOT.search(root.findtext("os/cmdline", "")) if kernel is not None else None
    named = [disk for disk in disks if rooted is not None and place_of(disk) == rooted[1]]
    if named:
        return named[0]
    ordered = sorted(
        (
            (int(boot.get("order", "")), device)
            for device in root.iterfind("devices/*")
            if (boot := device.find("boot")) is not None and boot.get("order", "").isdecimal()
        ),
        key=lambda one: one[0],
    )
    lasting = [device for _, device in ordered if _kind(device) not in _BY_THE_WAY]
    if lasting:
        return lasting[0]
    passing = [device for _, device in ordered if _kind(device) != "cdrom"]
    if passing:
        raise _DoubtError(f"it boots from {_told(passing[0])} first", _NAME_THE_NEXT)
    kinds = [boot.get("dev", "") for boot in root.iterfind("os/boot")]
    kinds = [kind for kind in kinds if kind != "cdrom"]
    if kinds and "hd" not in kinds:
        where = _KINDS.get(kinds[0], kinds[0])
        raise _DoubtError(f"it boots from {where} first", _NAME_THE_NEXT)
    buses = sorted({_bus(disk) for disk in disks})
    if not kinds and len(buses) > 1:
        raise _DoubtError(
            f"its disks are on several buses ({', '.join(buses)}), and nothing says which of them"
            " it boots from",
            _NAME_THE_FIRST,
        )
    return disks[0]


def _system_disk(device: ET.Element) -> str:
    if _kind(device) == "lun":
        raise _DoubtError(
            f"it boots from {place_of(device)}, a disk of the host's that is passed through (lun)",
            _LEAVE_IT,
        )
    if _kind(device) != "disk":
        raise _DoubtError(f"it boots from {_told(device)} first", _LEAVE_IT)
    return place_of(device)


def _told(device: ET.Element) -> str:
    what = _kind(device) if device.tag == "disk" else device.tag
    return f"its {what} {place_of(device)}".rstrip()


def _kind(device: ET.Element) -> str:
    """The ``device`` attribute of a disk (disk, cdrom, lun, ...); the tag of any other device."""
    return device.get("device", "disk") if device.tag == "disk" else device.tag


def _bus(disk: ET.Element) -> str:
    target = disk.find("target")
    return target.get("bus", "") if target is not None else ""
