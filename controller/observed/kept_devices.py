"""List the devices, and parts of devices, that documents cannot express. Pure."""

import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields

from controller.observed.adopted_devices import place_of
from controller.observed.domain import ALIAS_PREFIX, IoTune
from controller.observed.domain_xml import AGENT_CHANNEL

_OURS = tuple(f"{ALIAS_PREFIX}{word}" for word in ("disk-", "cdrom-", "nic-"))
_LIMITS = {field.name for field in fields(IoTune)}
_OF_DISK = {
    "serial": "serial number",
    "wwn": "world wide name",
    "vendor": "disk vendor",
    "product": "disk product",
    "backingStore": "backing chain",
    "encryption": "encryption",
    "shareable": "disk shared with other domains",
    "readonly": "read-only disk",
    "transient": "transient disk",
    "geometry": "disk geometry",
    "blockio": "disk block size",
}
_OF_NIC = {
    "filterref": "network filter",
    "bandwidth": "bandwidth",
    "vlan": "VLAN",
    "virtualport": "virtual port",
    "mtu": "MTU",
    "driver": "interface driver options",
    "coalesce": "interrupt coalescing",
    "port": "isolated port",
    "teaming": "team of interfaces",
    "rom": "ROM of an interface",
    "ip": "IP address hint",
    "route": "route hint",
    "tune": "interface tuning",
}


@dataclass(frozen=True, slots=True)
class Kept:
    """A part that stays as it is. ``place`` says which or where; '' if there is no more to say."""

    kind: str
    place: str = ""


def of_device(device: ET.Element) -> Iterator[Kept]:
    """For an element of ``<devices>``: the device, or the parts that documents cannot express."""
    if device.tag == "disk":
        yield from _disk(device)
    elif device.tag == "interface":
        yield from _interface(device)
    elif not _plumbing(device):
        kind, place = _DEVICES.get(device.tag, (device.tag, _model))
        yield Kept(kind, place(device))
        if (boot := device.find("boot")) is not None:
            yield Kept("boot order", f"{kind} {place(device)} is {boot.get('order')}")


# --- Whole devices --------------------------------------------------------------------------------


def _plumbing(device: ET.Element) -> bool:
    """Whether Guestkeeper makes such a device too, or libvirt by itself."""
    parts = {child.tag for child in device} - {"address", "alias", "target", "model"}
    model, kind = device.get("model", ""), device.get("type", "")
    if device.tag == "emulator":
        return "/qemu-" in (device.text or "")
    if device.tag == "controller":
        return not parts - {"master"} and device.find("target/node") is None
    if device.tag == "memballoon":
        return model == "virtio" and not parts and set(device.attrib) == {"model"}
    if device.tag == "rng":
        return device.findtext("backend") == "/dev/urandom" and device.find("rate") is None
    if device.tag in ("serial", "console"):
        return kind == "pty" and not parts - {"source"} and _target(device, "type") != "virtio"
    if device.tag == "channel":
        return _target(device, "name") == AGENT_CHANNEL
    if device.tag == "input":
        return device.get("bus") == "ps2"
    if device.tag == "audio":
        return kind == "none"
    return device.tag == "panic" and model == "isa"


def _target(device: ET.Element, key: str) -> str:
    target = device.find("target")
    return target.get(key, "") if target is not None else ""


def _model(device: ET.Element) -> str:
    """The word that best tells which device it is."""
    model = device.find("model")
    inner = (model.get("type") or model.get("name") or "") if model is not None else ""
    words = (device.get("model"), inner, device.get("name"), device.get("type"))
    return next((word for word in words if word), "")


def _with(key: str) -> Callable[[ET.Element], str]:
    return lambda device: f"{_model(device)} {device.get(key, '')}".strip()


def _port(device: ET.Element) -> str:
    return f"{_target(device, 'port')} ({device.get('type', '')})"


def _channel(device: ET.Element) -> str:
    return _target(device, "name") or device.get("type", "")


def _folder(device: ET.Element) -> str:
    driver = device.find("driver")
    how = driver.get("type", "") if driver is not None else ""
    return f"{_target(device, 'dir')} ({how if how == 'virtiofs' else '9p'})"


def _memory(device: ET.Element) -> str:
    size = device.find("target/size")
    much = f"{size.text} {size.get('unit', 'KiB')}" if size is not None else ""
    return f"{device.get('model', '')} {much}".strip()


def _vsock(device: ET.Element) -> str:
    cid = device.find("cid")
    return cid.get("address", "") if cid is not None else ""


def _hostdev(device: ET.Element) -> str:
    source = device.find("source")
    kind = device.get("type") or device.get("mode") or ""
    if source is None:
        return kind
    address, vendor = source.find("address"), source.find("vendor")
    if kind == "pci" and address is not None:
        return "pci " + _pci(address)
    if vendor is not None:
        product = source.find("product")
        number = product.get("id", "") if product is not None else ""
        return f"{kind} {vendor.get('id', '')}:{number}".replace("0x", "")
    words = [element.get("name", "") for element in source.iterfind("adapter")]
    words += list(address.attrib.values()) if address is not None else []
    return " ".join([kind, *(word for word in [*words, source.get("wwpn", "")] if word)])


def _pci(address: ET.Element) -> str:
    """The PCI address as ``lspci -D`` writes it."""
    parts = [int(address.get(key, "0"), 0) for key in ("domain", "bus", "slot", "function")]
    return "{:04x}:{:02x}:{:02x}.{:x}".format(*parts)


_DEVICES: dict[str, tuple[str, Callable[[ET.Element], str]]] = {
    "hostdev": ("passed-through device", _hostdev),
    "filesystem": ("shared folder", _folder),
    "tpm": ("TPM", _model),
    "shmem": ("shared memory", lambda device: device.get("name", "")),
    "vsock": ("vsock", _vsock),
    "graphics": ("graphics", _model),
    "video": ("video", _model),
    "sound": ("sound", _model),
    "audio": ("audio", _model),
    "input": ("input", _with("bus")),
    "watchdog": ("watchdog", _with("action")),
    "panic": ("panic device", _model),
    "memballoon": ("memory balloon", _model),
    "memory": ("memory module", _memory),
    "rng": ("random number generator", _model),
    "redirdev": ("USB redirection", _with("bus")),
    "redirfilter": ("USB redirection", lambda _: "filter"),
    "smartcard": ("smart card", _with("mode")),
    "serial": ("serial port", _port),
    "parallel": ("parallel port", _port),
    "console": ("console", _port),
    "channel": ("channel", _channel),
    "iommu": ("IOMMU", _model),
    "controller": ("controller", lambda device: f"{device.get('type')} {device.get('index')}"),
    "emulator": ("emulator", lambda device: (device.text or "").strip()),
}


# --- Parts of disks and interfaces ----------------------------------------------------------------


def _disk(disk: ET.Element) -> Iterator[Kept]:
    place, kind = place_of(disk), disk.get("device", "disk")
    if kind not in ("disk", "cdrom"):
        yield Kept("passed-through disk" if kind == "lun" else kind, place)
    bus = _target(disk, "bus")
    if kind == "disk" and bus not in ("", "virtio"):
        yield Kept("disk bus", f"{place} {bus}")
    for key in ("rawio", "sgio", "snapshot", "model"):
        if key in disk.attrib:
            yield Kept("disk option", f"{place} {key}={disk.get(key)}")
    for child in disk:
        if child.tag == "driver":
            said = ("name", "type") if kind == "cdrom" else ("name", "type", "cache")
            for key, value in child.attrib.items():
                if key not in said:
                    yield Kept("disk driver option", f"{place} {key}={value}")
        elif child.tag == "source":
            yield from _disk_source(child, place)
        elif child.tag == "iotune":
            for limit in child:
                if kind != "disk" or limit.tag not in _LIMITS:
                    yield Kept("disk limits", f"{place} {limit.tag}")
        elif child.tag == "readonly" and kind == "cdrom":
            continue
        else:
            yield from _part(child, place, _OF_DISK, "disk option")


def _disk_source(source: ET.Element, place: str) -> Iterator[Kept]:
    for key in ("startupPolicy", "mode", "tls"):
        if key in source.attrib:
            yield Kept("disk source option", f"{place} {key}={source.get(key)}")
    for child in source:
        if child.tag == "encryption":
            yield Kept("encryption", place)
        elif child.tag not in ("host", "address"):
            yield Kept("disk source option", f"{place} {child.tag}")


def _interface(nic: ET.Element) -> Iterator[Kept]:
    place, source = place_of(nic), nic.find("source")
    if source is not None and source.get("portgroup"):
        yield Kept("port group", f"{place} {source.get('portgroup')}")
    if "trustGuestRxFilters" in nic.attrib:
        yield Kept("interface option", f"{place} trustGuestRxFilters")
    for child in nic:
        if child.tag == "target" and child.get("dev"):
            yield Kept("name of an interface on the host", f"{place} {child.get('dev')}")
        elif child.tag not in ("mac", "source", "model", "link", "target"):
            yield from _part(child, place, _OF_NIC, "interface option")


def _part(child: ET.Element, place: str, names: dict[str, str], other: str) -> Iterator[Kept]:
    if child.tag in ("address", "target"):
        return
    if child.tag == "boot":
        yield Kept("boot order", f"{place} is {child.get('order')}")
    elif child.tag == "alias":
        name = child.get("name", "")
        if name.startswith(ALIAS_PREFIX) and not name.startswith(_OURS):
            yield Kept("alias", f"{place} {name}")
    elif child.tag in names:
        yield Kept(names[child.tag], " ".join(word for word in (place, _which(child)) if word))
    else:
        yield Kept(other, f"{place} {child.tag}")


def _which(part: ET.Element) -> str:
    if part.tag == "vlan":
        return ", ".join(tag.get("id", "") for tag in part.iterfind("tag"))
    if part.tag == "filterref":
        return part.get("filter", "")
    if part.tag == "virtualport":
        return part.get("type", "")
    return part.get("size", "") if part.tag == "mtu" else ""
