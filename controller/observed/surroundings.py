"""Parts of a definition that are not ours but decide which changes are possible. Pure.

libvirt would refuse such a change when it is defined, when it is made, or at the next start, with
words that name neither the field nor a way out; or would silently keep the old value.
"""

import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_VIRTIO_ONLY = ("iommu", "ats", "packed", "page_per_vq")
_MOST_CPUS = 2**16


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The defaults are those of a domain of our own."""

    balloon: bool = True
    """Whether it has a memory balloon."""
    acpi: bool = True
    cell_vcpus: int = 0
    """The number of vCPUs that its NUMA cells hold; 0 without cells."""
    cell_memory: bool = False
    """Whether NUMA cells define its memory; libvirt then takes their sum."""
    native_io: frozenset[str] = frozenset()
    """Places of disks with io='native', which does not work with some cache modes."""
    virtio_only: frozenset[str] = frozenset()
    """Places of interfaces with a driver's option that only virtio has."""


def surroundings(root: ET.Element, place: Callable[[ET.Element], str]) -> Surroundings:
    """The surroundings in a ``<domain>``; ``place`` gives a device's place."""
    balloon = root.find("devices/memballoon")
    cells = root.findall("cpu/numa/cell")
    return Surroundings(
        balloon=balloon is None or balloon.get("model") != "none",
        acpi=root.find("features/acpi") is not None,
        cell_vcpus=len({cpu for cell in cells for cpu in cpu_numbers(cell.get("cpus", ""))}),
        cell_memory=any(cell.get("memory") for cell in cells),
        native_io=frozenset(
            place(disk)
            for disk in root.iterfind("devices/disk")
            if _driver(disk).get("io") == "native"
        ),
        virtio_only=frozenset(
            place(nic)
            for nic in root.iterfind("devices/interface")
            if any(_driver(nic).get(option) for option in _VIRTIO_ONLY)
        ),
    )


def _driver(device: ET.Element) -> ET.Element:
    found = device.find("driver")
    return found if found is not None else ET.Element("driver")


def cpu_numbers(text: str) -> set[int]:
    """The CPU numbers in ``0-3,8,^2``, as libvirt reads it."""
    found: set[int] = set()
    for word in map(str.strip, text.split(",")):
        first, _, last = word.removeprefix("^").partition("-")
        if first.isdecimal() and (last or first).isdecimal():
            some = range(int(first), min(int(last or first), _MOST_CPUS) + 1)
            found = found.difference(some) if word.startswith("^") else found.union(some)
    return found


def letters(index: int) -> str:
    """The end of the name of disk number ``index``: a, b, …, z, aa."""
    text = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        text = chr(ord("a") + rest) + text
    return text


def taken_targets(root: ET.Element, place: Callable[[ET.Element], str]) -> Iterator[str]:
    """The targets of all disks and drives, and names whose place on the first SCSI controller a
    disk of another name has: libvirt would give a new drive of that name the same place.
    """
    for disk in root.iterfind("devices/disk"):
        yield place(disk)
        address, target = disk.find("address[@type='drive']"), disk.find("target[@bus='scsi']")
        if address is None or target is None:
            continue
        where = [address.get(key, "0") for key in ("controller", "bus", "target")]
        unit = address.get("unit", "")
        if where == ["0"] * 3 and unit.isdecimal():
            yield f"sd{letters(int(unit))}"
