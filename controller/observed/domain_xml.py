"""Parse libvirt's domain XML into the fields that we own.

Planning compares values, so libvirt's XML, with everything that it fills in by itself, is turned
back into a ``DomainConfig``; and the ownership element, in which a guest's record outlives the
daemon, must be readable whatever somebody did to it. Pure.

Longer than other modules on purpose: one pass over one text, a small function for each element.
"""

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from sys import intern
from typing import TypeVar

from controller.observed.addresses import port_of
from controller.observed.adopted_devices import AdoptedDevices, place_of
from controller.observed.base_names import file_name, is_base_name
from controller.observed.boot_disk import boot_disk
from controller.observed.domain import (
    LIBVIRT_USER,
    NAMESPACE,
    NO_LIMITS,
    BootConfig,
    DiskConfig,
    DomainConfig,
    GuestRecord,
    IoTune,
    NicConfig,
    Ownership,
)
from controller.observed.qemu_arguments import user_nics
from controller.observed.stored import stored_fields, stored_text
from controller.observed.surroundings import surroundings, taken_targets

T = TypeVar("T")
AGENT_CHANNEL = "org.qemu.guest_agent.0"

_UNITS = {
    "b": 1,
    "bytes": 1,
    "kb": 1000,
    "k": 2**10,
    "kib": 2**10,
    "mb": 10**6,
    "m": 2**20,
    "mib": 2**20,
    "gb": 10**9,
    "g": 2**30,
    "gib": 2**30,
    "tb": 10**12,
    "t": 2**40,
    "tib": 2**40,
}


@dataclass(frozen=True, slots=True)
class ParsedDomain:
    """Everything that we read from one domain XML."""

    config: DomainConfig
    ownership: Ownership | None
    agent_connected: bool
    block_job: bool = False
    """A disk of the running domain is being copied, or merged into its backing file."""


def parse_domain(xml: str, stored: ParsedDomain | None = None) -> ParsedDomain:
    """Parse a domain XML (``virDomainGetXMLDesc``, live or inactive).

    Of our own domain, only devices with our alias are returned; of a foreign one all, and the alias
    of each is its place: a disk's target (``vda``), an interface's MAC address.

    ``stored`` is the persistent definition, if ``xml`` is the live XML. It decides whose the domain
    is and the order of interfaces; and if a disk is a file in one of the two and the volume of that
    name in the other, it is that volume.

    Raises ``ValueError`` if it is not XML; anything odd inside of it becomes a default.
    """
    root = _root(xml)
    ownership = _ownership(root)
    agents = [
        target.get("state", "")
        for target in root.iterfind("devices/channel/target")
        if target.get("name") == AGENT_CHANNEL
    ]
    foreign = (stored.ownership if stored is not None else ownership) is None
    config = _config(root, foreign, stored.config if stored is not None else None)
    return ParsedDomain(
        replace(config, agent_channel=bool(agents)),
        ownership,
        agent_connected="connected" in agents,
        block_job=root.find("devices/disk/mirror") is not None,
    )


def parse_config(xml: str) -> DomainConfig:
    """The fields that we own, also of a foreign domain's XML. Raises like ``parse_domain``."""
    return parse_domain(xml).config


def parse_ownership(xml: str) -> Ownership | None:
    """Our element of a domain XML, or of the element alone (``virDomainGetMetadata``).

    ``None`` if there is none: then the domain is foreign. If its content cannot be read, the domain
    is still ours, with an empty record. Raises like ``parse_domain``.
    """
    root = _root(xml)
    if _local(root.tag) == "guest":
        return _ownership_element(root)
    return _ownership(root)


def ownership_element(ownership: Ownership, *, namespaced: bool = True) -> ET.Element:
    """Our metadata element.

    ``virDomainSetMetadata`` adds the namespace itself and refuses an element that declares it: give
    it one that is not ``namespaced``.
    """
    prefix = f"{{{NAMESPACE}}}" if namespaced else ""
    element = ET.Element(
        f"{prefix}guest",
        {
            "uid": ownership.uid,
            "name": ownership.name,
            "generation": str(ownership.generation),
            "digest": ownership.digest,
            "created": repr(ownership.created),
            "base": ownership.base,
        },
    )
    ET.SubElement(element, f"{prefix}spec").text = _xml_safe(ownership.spec)
    ET.SubElement(element, f"{prefix}memory").text = stored_text(ownership.record)
    return element


def _root(xml: str) -> ET.Element:
    try:
        # libvirt's own output, or what it accepted: it expands no entities.
        return ET.fromstring(xml)  # noqa: S314
    except ET.ParseError as error:
        raise ValueError(f"not XML: {error}") from error


# --- Configuration --------------------------------------------------------------------------------


def _config(root: ET.Element, foreign: bool, stored: DomainConfig | None) -> DomainConfig:
    os = root.find("os")
    vcpu = root.find("vcpu")
    max_vcpus = _int(vcpu.text if vcpu is not None else None, 1)
    max_memory = _size(root.find("memory"))
    current = root.find("currentMemory")
    boots_from, doubt = boot_disk(root) if foreign else ("", "")
    return DomainConfig(
        name=intern(root.findtext("name", "")),
        uuid=intern(root.findtext("uuid", "")),
        accelerator="kvm" if root.get("type") == "kvm" else "tcg",
        vcpus=_int(vcpu.get("current") if vcpu is not None else None, max_vcpus),
        max_vcpus=max_vcpus,
        memory=_size(current) if current is not None else max_memory,
        max_memory=max_memory,
        firmware=firmware_of(os),
        boot=_boot(os),
        disks=tuple(_disks(root, foreign, stored)),
        nics=_nics(root, foreign, stored),
        title=root.findtext("title", ""),
        description=root.findtext("description", ""),
        on_poweroff=intern(root.findtext("on_poweroff", "destroy")),
        on_reboot=intern(root.findtext("on_reboot", "restart")),
        on_crash=intern(root.findtext("on_crash", "destroy")),
        taken=_shared(frozenset(taken_targets(root, place_of))),
        writes=_shared(frozenset(_written_bases(root))),
        around=_shared(surroundings(root, place_of)),
        addresses=_shared(frozenset(_addresses(root))),
        boot_disk=boots_from,
        boot_doubt=doubt,
    )


@lru_cache(maxsize=1024)
def _shared(value: T) -> T:
    """One object for equal values, because thousands of domains are alike in this."""
    return value


def _int(text: str | None, default: int) -> int:
    try:
        return int(text) if text is not None else default
    except ValueError:
        return default


def _float(text: str | None) -> float:
    try:
        number = float(text) if text is not None else 0.0
    except ValueError:
        return 0.0
    return number if math.isfinite(number) else 0.0


def _size(element: ET.Element | None) -> int:
    if element is None:
        return 0
    return _int(element.text, 0) * _UNITS.get(element.get("unit", "KiB").lower(), 1024)


_UEFI_ROM = re.compile(r"(?i)ovmf|aavmf|edk2")
"""Matches the path of a loader of type ``rom``: UEFI as one file, without a variable store."""


def firmware_of(os: ET.Element | None) -> str:
    """``efi`` or ``bios``, by the ``<os>`` element."""
    if os is None:
        return "bios"
    loader = os.find("loader")
    by_loader = loader is not None and (
        loader.get("type") == "pflash" or _UEFI_ROM.search(loader.text or "") is not None
    )
    return "efi" if os.get("firmware") == "efi" or by_loader else "bios"


def _boot(os: ET.Element | None) -> BootConfig | None:
    kernel = os.findtext("kernel") if os is not None else None
    if os is None or not kernel:
        return None
    return BootConfig(kernel, os.findtext("initrd") or None, os.findtext("cmdline") or "")


def _attribute(parent: ET.Element, child: str, name: str) -> str:
    element = parent.find(child)
    return intern(element.get(name, "")) if element is not None else ""


# --- Devices --------------------------------------------------------------------------------------


def disk_of(element: ET.Element, alias: str) -> DiskConfig:
    """Parse a ``<disk>``; ``alias`` is without prefix."""
    pool, volume, bound = _source(element)
    return DiskConfig(
        alias=alias,
        pool=pool,
        volume=volume,
        format=_attribute(element, "driver", "type") or "raw",
        device=intern(element.get("device", "disk")),
        target=_attribute(element, "target", "dev"),
        cache=_attribute(element, "driver", "cache").replace("default", ""),
        io_tune=_io_tune(element.find("iotune")),
        bound=bound,
        below=tuple(_below(element)),
    )


_FILES = ("file", "dev")
_BOUND = ("encryption", "slices", "reservations", "auth", "ssl", "cookies", "initiator")


def _source(element: ET.Element) -> tuple[str, str | None, tuple[str, ...]]:
    """Pool, volume and the elements bound to the source (``DiskConfig.bound``) of a ``<disk>``.

    The volume of a disk in no pool is its path. If the disk is no file at all (on the network, a
    directory shown as a disk), its kind comes before the name, so that nobody takes it for a file,
    or for the volume of a pool that has the same name.
    """
    source = element.find("source")
    if source is None:
        return "", None, ()
    # Older definitions have encryption beside the source.
    bound = tuple(
        tag for tag in _BOUND if source.find(tag) is not None or element.find(tag) is not None
    )
    if volume := source.get("volume"):
        return source.get("pool", ""), volume, bound
    kind = element.get("type", "file")
    if kind in ("file", "block", "volume"):
        return "", next((text for key in _FILES if (text := source.get(key))), None), bound
    words = (source.get(key) for key in ("name", "dir", "path", "dev", "namespace"))
    name = next((text for text in words if text), "")
    return "", f"{source.get('protocol') or kind}:{name}", bound


def _named(source: ET.Element) -> str | None:
    """What a ``<source>`` names, without its pool."""
    found = (source.get(key) for key in ("volume", "file", "dev", "dir", "name"))
    return next((text for text in found if text), None)


def _below(disk: ET.Element) -> Iterator[str]:
    """The backing chain of a running disk, by libvirt's names."""
    layer = disk.find("backingStore")
    while layer is not None:
        source = layer.find("source")
        name = _named(source) if source is not None else None
        if source is not None and name:
            yield f"{source.get('pool')}/{name}" if source.get("pool") else name
        layer = layer.find("backingStore")


def _written_bases(root: ET.Element) -> Iterator[str]:
    for disk in root.iterfind("devices/disk"):
        source = disk.find("source")
        name = file_name(_named(source) or "") if source is not None else ""
        keeps = disk.find("readonly") is not None or disk.find("transient") is not None
        if disk.get("device", "disk") in ("disk", "lun") and not keeps and is_base_name(name):
            yield name


def _io_tune(element: ET.Element | None) -> IoTune:
    if element is None:
        return NO_LIMITS
    return IoTune(**{field.name: _int(element.findtext(field.name), 0) for field in fields(IoTune)})


def nic_of(element: ET.Element, alias: str) -> NicConfig:
    """Parse an ``<interface>``; ``alias`` is without prefix."""
    kind, source = element.get("type", ""), element.find("source")
    where = dict(source.attrib) if source is not None else {}
    if "network" in where:
        kind = "network"  # live XML may say 'bridge' for its type
    name = where.get(kind) or where.get("dev") or ""
    return NicConfig(
        alias=alias,
        kind=kind,
        # libvirt's own user networking is another device than ours, which is a QEMU argument.
        source=LIBVIRT_USER if kind == "user" else name,
        mac=_attribute(element, "mac", "address"),
        model=_attribute(element, "model", "type"),
        link=_attribute(element, "link", "state") or "up",
    )


def owned_elements(root: ET.Element, kind: str) -> Iterator[tuple[str, ET.Element]]:
    """Our devices of a ``<domain>`` (``kind``: disk, interface), each with its alias."""
    adopted = AdoptedDevices(root)
    for element in root.iterfind(f"devices/{kind}"):
        if alias := adopted.alias(element):
            yield alias, element


def _same_volume(disk: DiskConfig, other: DiskConfig) -> bool:
    """Whether both are the same volume, even if one is named by its file."""
    if bool(disk.pool) == bool(other.pool):
        return disk.place == other.place
    if not any((one.volume or "").startswith("/") for one in (disk, other)):
        return False  # on the network
    names = {(one.volume or "").rpartition("/")[2] for one in (disk, other)}
    return len(names) == 1


def _disks(root: ET.Element, foreign: bool, stored: DomainConfig | None) -> Iterator[DiskConfig]:
    known = {disk.alias: disk for disk in stored.disks} if stored is not None else {}
    for alias, element in _found(root, "disk", foreign):
        if element.get("device", "disk") not in ("disk", "cdrom"):
            continue
        disk = disk_of(element, alias)
        twin = known.get(alias)
        if twin is not None and disk.volume is not None and _same_volume(disk, twin):
            disk = replace(disk, pool=twin.pool, volume=twin.volume)
        yield disk


def _nics(root: ET.Element, foreign: bool, stored: DomainConfig | None) -> tuple[NicConfig, ...]:
    nics = [nic_of(element, alias) for alias, element in _found(root, "interface", foreign)]
    adopted = AdoptedDevices(root)
    for user in user_nics(root):
        alias = user.mac if foreign else adopted.alias_of_user(user)
        if alias:
            nics.append(NicConfig(alias, "user", "", user.mac, user.forwards, user.model))
    # In live XML an interface that was plugged in is the last, wherever it is in the definition.
    known = stored.nics if stored is not None else ()
    order = {nic.alias: number for number, nic in enumerate(known)}
    return tuple(sorted(nics, key=lambda nic: order.get(nic.alias, len(order))))


def _addresses(root: ET.Element) -> Iterator[str]:
    for element in root.iterfind("devices/interface"):
        if mac := place_of(element).lower():
            yield mac
    for user in user_nics(root):
        if user.mac:
            yield user.mac.lower()
        yield from (port for forward in user.forwards if (port := port_of(forward)))


def _found(root: ET.Element, kind: str, foreign: bool) -> Iterator[tuple[str, ET.Element]]:
    if not foreign:
        yield from owned_elements(root, kind)
        return
    for element in root.iterfind(f"devices/{kind}"):
        yield place_of(element), element


# --- Ownership ------------------------------------------------------------------------------------


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def _ownership(root: ET.Element) -> Ownership | None:
    element = root.find(f"metadata/{{{NAMESPACE}}}guest")
    return _ownership_element(element) if element is not None else None


def _ownership_element(element: ET.Element) -> Ownership:
    # By local name: libvirt moves unprefixed children in and out of our namespace.
    texts = {_local(child.tag): child.text or "" for child in element}
    return Ownership(
        uid=intern(element.get("uid", "")),
        name=intern(element.get("name", "")),
        generation=_int(element.get("generation"), 0),
        digest=element.get("digest", ""),
        spec=intern(texts.get("spec", "")),  # it has no name in it, so similar guests share it
        created=_float(element.get("created")),
        base=intern(element.get("base", "")),
        record=parse_record(texts.get("memory", "")),
    )


def parse_record(text: str) -> GuestRecord:
    """Parse a guest's record from JSON.

    Keys that this version does not know and values of another type are left out, so that a newer
    or broken record costs the record, never the guest.
    """
    return GuestRecord(**stored_fields(GuestRecord, text))


def _xml_safe(text: str) -> str:
    """JSON text with the characters that XML cannot hold as JSON escapes."""
    if text.isascii():
        return text
    return "".join(char if _in_xml(char) else f"\\u{ord(char):04x}" for char in text)


def _in_xml(char: str) -> bool:
    return char <= "\ud7ff" or "\ue000" <= char <= "\ufffd" or char > "\uffff"
