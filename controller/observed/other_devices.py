"""Devices of a domain that Guestkeeper has no words for: they are left alone, and named. Pure."""

import xml.etree.ElementTree as ET

_OTHERS = {
    "hostdev": "a passed-through device",
    "filesystem": "a shared folder",
    "tpm": "its TPM",
    "shmem": "shared memory",
    "vsock": "its vsock",
}


def other_devices(xml: str) -> tuple[str, ...]:
    """What of a domain XML documents have no words for, disks and interfaces apart.

    Raises ``ValueError`` where it is no XML.
    """
    try:
        root = ET.fromstring(xml)  # noqa: S314 - libvirt's own
    except ET.ParseError as error:
        raise ValueError(f"not XML: {error}") from error
    found = []
    for device in root.iterfind("devices/*"):
        kind, target = device.get("device", ""), device.find("target")
        place = target.get("dev") or target.get("dir") if target is not None else None
        named = f" ({place})" if place else ""
        if device.tag in _OTHERS:
            found.append(f"{_OTHERS[device.tag]}{named}")
        elif device.tag == "disk" and kind not in ("", "disk", "cdrom"):
            found.append(f"its {kind}{named}")
    return tuple(found)
