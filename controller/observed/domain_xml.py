"""Reads libvirt's domain XML into the fields we own.

Planning compares values, so something has to turn libvirt's XML, with all it fills in by itself,
back into a ``DomainConfig``; and the ownership element, which is where a guest's memory outlives
the daemon, must be readable whatever somebody did to it. Pure: text in, values out.
"""

import json
import math
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise

from controller.observed.domain import (
    ALIAS_PREFIX,
    NAMESPACE,
    BootConfig,
    DiskConfig,
    DomainConfig,
    Memory,
    NicConfig,
    Ownership,
)
from controller.observed.stored import stored_fields

QEMU_NAMESPACE = "http://libvirt.org/schemas/domain/qemu/1.0"
TEST_ARGUMENTS_NAMESPACE = "urn:guestkeeper:test-driver:v1"
"""Where user interfaces stand in libvirt's test driver, which drops QEMU's arguments."""
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
    """Everything one domain XML says that we look at."""

    config: DomainConfig
    ownership: Ownership | None
    agent_connected: bool


def parse_domain(xml: str) -> ParsedDomain:
    """Reads a domain XML once (``virDomainGetXMLDesc``, live or inactive).

    Raises ``ValueError`` where it is no XML; every oddity inside of it becomes a default.
    """
    root = _root(xml)
    return ParsedDomain(_config(root), _ownership(root), _agent_connected(root))


def parse_config(xml: str) -> DomainConfig:
    """The fields we own of a domain XML; also of a foreign one. Raises as ``parse_domain``."""
    return _config(_root(xml))


def parse_ownership(xml: str) -> Ownership | None:
    """Our element of a domain XML, or of the element alone (``virDomainGetMetadata``).

    ``None`` where there is none: then the domain is foreign. Content that cannot be read leaves
    the domain ours, with empty memory. Raises as ``parse_domain``.
    """
    root = _root(xml)
    if _local(root.tag) == "guest":
        return _ownership_element(root)
    return _ownership(root)


def ownership_element(ownership: Ownership, *, namespaced: bool = True) -> ET.Element:
    """Our metadata element.

    ``virDomainSetMetadata`` puts the namespace in by itself and refuses an element that declares
    it: give it the one that is not ``namespaced``.
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
    ET.SubElement(element, f"{prefix}memory").text = json.dumps(
        asdict(ownership.memory), sort_keys=True, separators=(",", ":")
    )
    return element


def _root(xml: str) -> ET.Element:
    try:
        # libvirt's own output, or what it accepted: it expands no entities.
        return ET.fromstring(xml)  # noqa: S314
    except ET.ParseError as error:
        raise ValueError(f"not XML: {error}") from error


# --- Configuration --------------------------------------------------------------------------------


def _config(root: ET.Element) -> DomainConfig:
    os = root.find("os")
    vcpu = root.find("vcpu")
    max_vcpus = _int(vcpu.text if vcpu is not None else None, 1)
    max_memory = _size(root.find("memory"))
    current = root.find("currentMemory")
    devices = root.find("devices")
    if devices is None:
        devices = ET.Element("devices")
    return DomainConfig(
        name=root.findtext("name", ""),
        uuid=root.findtext("uuid", ""),
        accelerator="kvm" if root.get("type") == "kvm" else "tcg",
        vcpus=_int(vcpu.get("current") if vcpu is not None else None, max_vcpus),
        max_vcpus=max_vcpus,
        memory=_size(current) if current is not None else max_memory,
        max_memory=max_memory,
        firmware=_firmware(os),
        boot=_boot(os),
        disks=tuple(
            _disk(disk)
            for disk in devices.iterfind("disk")
            if disk.get("device", "disk") in ("disk", "cdrom") and _is_ours(disk)
        ),
        nics=(
            *(_nic(nic) for nic in devices.iterfind("interface") if _is_ours(nic)),
            *_user_nics(root),
        ),
        title=root.findtext("title", ""),
    )


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


def _firmware(os: ET.Element | None) -> str:
    if os is None:
        return "bios"
    loader = os.find("loader")
    pflash = loader is not None and loader.get("type") == "pflash"
    return "efi" if os.get("firmware") == "efi" or pflash else "bios"


def _boot(os: ET.Element | None) -> BootConfig | None:
    kernel = os.findtext("kernel") if os is not None else None
    if os is None or not kernel:
        return None
    return BootConfig(kernel, os.findtext("initrd") or None, os.findtext("cmdline") or "")


def _is_ours(device: ET.Element) -> bool:
    """A device without an alias of ours was added by somebody else, and is theirs."""
    return _attribute(device, "alias", "name").startswith(ALIAS_PREFIX)


def _alias(device: ET.Element) -> str:
    return _attribute(device, "alias", "name").removeprefix(ALIAS_PREFIX)


def _disk(disk: ET.Element) -> DiskConfig:
    source = disk.find("source")
    pool, volume = "", None
    if source is not None:
        pool = source.get("pool", "")
        # Not where an operator pointed our disk at a file: then say which, it is in no pool.
        volume = source.get("volume") or source.get("file") or source.get("dev") or None
    return DiskConfig(
        alias=_alias(disk),
        pool=pool,
        volume=volume,
        format=_attribute(disk, "driver", "type") or "raw",
        device=disk.get("device", "disk"),
        target=_attribute(disk, "target", "dev"),
    )


def _attribute(parent: ET.Element, child: str, name: str) -> str:
    element = parent.find(child)
    return element.get(name, "") if element is not None else ""


def _nic(nic: ET.Element) -> NicConfig:
    kind = nic.get("type", "")
    source = nic.find("source")
    return NicConfig(
        alias=_alias(nic),
        kind=kind,
        source=source.get(kind) or source.get("dev") or "" if source is not None else "",
        mac=_attribute(nic, "mac", "address"),
    )


# --- User interfaces, which are arguments of QEMU -------------------------------------------------


def _user_nics(root: ET.Element) -> Iterator[NicConfig]:
    forwards: dict[str, tuple[str, ...]] = {}
    for option, value in _qemu_options(root):
        kind, words = _words(value)
        first = dict(reversed(words))
        if option == "-netdev" and kind == "user":
            forwards[first.get("id", "")] = tuple(
                _forward(text) for key, text in words if key == "hostfwd"
            )
        elif option == "-device" and first.get("netdev", "") in forwards:
            netdev = first["netdev"]
            yield NicConfig(
                alias=netdev.removeprefix(ALIAS_PREFIX),
                kind="user",
                source="",
                mac=first.get("mac", ""),
                forwards=forwards[netdev],
            )


def _qemu_options(root: ET.Element) -> Iterator[tuple[str, str]]:
    for line in (
        root.find(f"{{{QEMU_NAMESPACE}}}commandline"),
        root.find(f"metadata/{{{TEST_ARGUMENTS_NAMESPACE}}}commandline"),
    ):
        values = [argument.get("value", "") for argument in line] if line is not None else []
        yield from pairwise(values)


def _words(value: str) -> tuple[str, list[tuple[str, str]]]:
    kind, *words = value.split(",")
    return kind, [(key, text) for key, _, text in (word.partition("=") for word in words)]


def _forward(text: str) -> str:
    """``tcp:127.0.0.1:18080-:80`` as ``127.0.0.1:18080:80/tcp``; anything else as it stands."""
    protocol, _, rest = text.partition(":")
    host, dash, guest = rest.partition("-:")
    return f"{host}:{guest}/{protocol}" if dash else text


# --- Ownership ------------------------------------------------------------------------------------


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def _agent_connected(root: ET.Element) -> bool:
    return any(
        target.get("name") == AGENT_CHANNEL and target.get("state") == "connected"
        for target in root.iterfind("devices/channel/target")
    )


def _ownership(root: ET.Element) -> Ownership | None:
    element = root.find(f"metadata/{{{NAMESPACE}}}guest")
    return _ownership_element(element) if element is not None else None


def _ownership_element(element: ET.Element) -> Ownership:
    # By local name: libvirt moves unprefixed children in and out of our namespace.
    texts = {_local(child.tag): child.text or "" for child in element}
    return Ownership(
        uid=element.get("uid", ""),
        name=element.get("name", ""),
        generation=_int(element.get("generation"), 0),
        digest=element.get("digest", ""),
        spec=texts.get("spec", ""),
        created=_float(element.get("created")),
        base=element.get("base", ""),
        memory=parse_memory(texts.get("memory", "")),
    )


def parse_memory(text: str) -> Memory:
    """The memory of a guest from its JSON.

    Keys this version does not know and values of another type are left out, so that a newer or
    a broken one costs the memory, never the guest.
    """
    return Memory(**stored_fields(Memory, text))


def _xml_safe(text: str) -> str:
    """JSON text without the characters XML has no room for; JSON's own escapes stand for them."""
    if text.isascii():
        return text
    return "".join(char if _in_xml(char) else f"\\u{ord(char):04x}" for char in text)


def _in_xml(char: str) -> bool:
    return char <= "\ud7ff" or "\ue000" <= char <= "\ufffd" or char > "\uffff"
