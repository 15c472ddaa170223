"""List the parts of a domain that stay as they are because documents cannot express them.

An operator who has a domain adopted wants to know what Guestkeeper will not manage. So everything
is listed, each thing once, that is not known here as expressed by documents or as libvirt's own
plumbing (addresses, root ports, the emulator); also elements that this version does not know. Pure.
"""

import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from controller.observed.adopted_devices import ADOPTED_NAMESPACE
from controller.observed.domain import NAMESPACE
from controller.observed.kept_devices import Kept, of_device
from controller.observed.qemu_arguments import (
    QEMU_NAMESPACE,
    TEST_ARGUMENTS_NAMESPACE,
    forward_of,
    user_nics,
)

_SAID = (
    "name", "uuid", "title", "description", "memory", "currentMemory", "on_poweroff", "on_reboot",
    "on_crash", "devices",
)  # fmt: skip
_OWN = (NAMESPACE, ADOPTED_NAMESPACE, TEST_ARGUMENTS_NAMESPACE)
_NAMES = {
    "maxMemory": "memory slots",
    "memtune": "memory limits",
    "blkiotune": "disk weights",
    "numatune": "NUMA placement",
    "iothreads": "I/O threads",
    "iothreadids": "I/O threads",
    "resource": "resource partition",
    "vcpus": "vCPUs told one by one",
    "sysinfo": "SMBIOS values",
    "pm": "power management",
    "seclabel": "security label",
    "genid": "generation id",
    "launchSecurity": "encrypted memory",
}


def kept(xml: str) -> tuple[Kept, ...]:
    """The kept parts: first the domain's, then QEMU's arguments, then devices, each in the order of
    the definition. Raises ``ValueError`` if it is not XML."""
    try:
        root = ET.fromstring(xml)  # noqa: S314 - libvirt's own
    except ET.ParseError as error:
        raise ValueError(f"not XML: {error}") from error
    found = [one for element in root for one in _of_root(element)]
    found += _of_arguments(root)
    found += [one for device in root.iterfind("devices/*") for one in of_device(device)]
    return tuple(_numbered(found))


def _numbered(found: list[Kept]) -> Iterator[Kept]:
    """Number equal entries, from the second on."""
    numbers: Counter[Kept] = Counter()
    for one in found:
        numbers[one] += 1
        again = f"({numbers[one]})" if numbers[one] > 1 else ""
        yield replace(one, place=f"{one.place} {again}".strip())


def _of_root(element: ET.Element) -> Iterator[Kept]:
    tag = element.tag
    if tag in _SAID or tag.startswith(f"{{{QEMU_NAMESPACE}}}"):
        return
    if tag == "vcpu":
        if element.get("cpuset"):
            yield Kept("CPU pinning", f"all vCPUs on {element.get('cpuset')}")
        if element.get("placement") == "auto":
            yield Kept("NUMA placement", "automatic")
    elif tag in _PARTS:
        yield from _PARTS[tag](element)
    else:
        yield Kept(_NAMES.get(tag, tag), _short(element.text))


def _metadata(element: ET.Element) -> Iterator[Kept]:
    for child in element:
        namespace = child.tag[1:].partition("}")[0]
        if namespace not in _OWN:
            yield Kept("metadata", namespace)


def _os(element: ET.Element) -> Iterator[Kept]:
    boots = [child.get("dev", "") for child in element.iterfind("boot")]
    if boots not in ([], ["hd"]):
        yield Kept("boot order", ", ".join(boots))
    for child in element:
        if child.tag == "type" and child.get("machine"):
            yield Kept("machine", child.get("machine", ""))
        elif child.tag in ("loader", "nvram"):
            yield Kept("firmware file", _short(child.text))
        elif child.tag == "firmware":
            for feature in child:
                yield Kept("firmware feature", feature.get("name", feature.tag))
        elif child.tag not in ("type", "boot", "kernel", "initrd", "cmdline"):
            yield Kept(
                {"bootmenu": "boot menu", "bios": "BIOS", "smbios": "SMBIOS"}.get(
                    child.tag, child.tag
                )
            )


def _features(element: ET.Element) -> Iterator[Kept]:
    for child in element:
        if child.tag not in ("acpi", "apic"):
            yield Kept("feature of the machine", child.tag)


def _cpu(element: ET.Element) -> Iterator[Kept]:
    model = element.findtext("model") or element.get("mode")
    if model:
        yield Kept("CPU model", model)
    for child in element:
        if child.tag == "topology":
            words = (f"{child.get(key)} {key}" for key in ("sockets", "cores", "threads"))
            yield Kept("CPU topology", ", ".join(words))
        elif child.tag == "numa":
            for number, cell in enumerate(child):
                yield Kept("NUMA cell", cell.get("id", str(number)))
        elif child.tag == "feature":
            yield Kept("CPU feature", child.get("name", ""))
        elif child.tag not in ("model", "vendor"):
            yield Kept("CPU option", child.tag)


def _clock(element: ET.Element) -> Iterator[Kept]:
    offset = element.get("offset", "utc")
    if offset != "utc":
        yield Kept("clock", " ".join((offset, element.get("timezone", ""))).strip())
    for child in element:
        yield Kept("clock", f"timer {child.get('name', '')}")


def _memory_backing(element: ET.Element) -> Iterator[Kept]:
    for child in element:
        if child.tag == "hugepages":
            sizes = [f"{page.get('size')} {page.get('unit', 'KiB')}" for page in child]
            for size in sizes or [""]:
                yield Kept("huge pages", size)
        else:
            how = child.get("type") or child.get("mode") or ""
            yield Kept("memory backing", f"{child.tag} {how}".strip())


def _cputune(element: ET.Element) -> Iterator[Kept]:
    for child in element:
        if child.tag.endswith("pin"):
            which = child.get("vcpu") or child.get("iothread") or ""
            what = child.tag.removesuffix("pin")
            yield Kept("CPU pinning", f"{what} {which}".strip() + f" on {child.get('cpuset')}")
        else:
            yield Kept("CPU limits", child.tag)


_PARTS = {
    "metadata": _metadata,
    "os": _os,
    "features": _features,
    "cpu": _cpu,
    "clock": _clock,
    "memoryBacking": _memory_backing,
    "cputune": _cputune,
}


# --- QEMU's own arguments -------------------------------------------------------------------------


def _of_arguments(root: ET.Element) -> Iterator[Kept]:
    nics = {nic.identity: nic for nic in user_nics(root)}
    for nic in nics.values():
        if not nic.mac:
            yield Kept("interface without a MAC address", f"netdev {nic.identity}")
    for line in root.iterfind(f"{{{QEMU_NAMESPACE}}}*"):
        name = line.tag.rpartition("}")[2]
        if name != "commandline":
            for child in line:
                place = child.get("alias") or child.get("capability") or ""
                yield Kept(f"QEMU {name}", place)
            continue
        for words in _arguments(line):
            yield from _of_argument(words, {nic.identity: nic.mac for nic in nics.values()})
        for child in line:
            if child.tag.endswith("}env"):
                yield Kept("QEMU environment", child.get("name", ""))


def _arguments(line: ET.Element) -> Iterator[list[str]]:
    """Each option with its values."""
    words: list[str] = []
    for child in line:
        if not child.tag.endswith("}arg"):
            continue
        value = child.get("value", "")
        if value.startswith("-") and words:
            yield words
            words = []
        words.append(value)
    if words:
        yield words


def _of_argument(words: list[str], macs: dict[str, str]) -> Iterator[Kept]:
    option, value = words[0], " ".join(words[1:])
    pairs = [word.partition("=")[::2] for word in value.split(",")]
    identity = dict(reversed(pairs)).get("id" if option == "-netdev" else "netdev", "")
    if option in ("-netdev", "-device") and identity in macs:
        known = ("id",) if option == "-netdev" else ("netdev", "id", "mac", "addr", "bus")
        place = macs[identity] or f"netdev {identity}"
        for key, text in pairs[1:]:
            if key == "hostfwd" and not (macs[identity] and forward_of(text)):
                yield Kept("forward of a user network", f"{place} {text}")
            elif key not in (*known, "hostfwd"):
                yield Kept("option of a user network", f"{place} {key}")
    else:
        yield Kept("QEMU argument", f"{option} {value}".strip())


def _short(text: str | None) -> str:
    return (text or "").strip()
