"""Derives a guest's UUID, MAC addresses and volume names from its name; always the same ones.

They are derived, not random: after a crash between making a volume and defining the domain the
same names are found again, so nothing is made twice. ``seed`` distinguishes controllers that share
a network. Once a domain exists, its own values win over the derived ones.
"""

import hashlib
import uuid

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:guestkeeper:v1")


def guest_uuid(seed: str, name: str) -> str:
    """The guest's UUID (RFC 4122 version 5)."""
    return str(uuid.uuid5(_NAMESPACE, f"{seed}/{name}"))


def nic_mac(uid: str, nic: str) -> str:
    """A MAC address in QEMU's own range, 52:54:00 (locally administered, unicast)."""
    digest = hashlib.sha256(f"{uid}/{nic}".encode()).digest()
    return f"52:54:00:{digest[0]:02x}:{digest[1]:02x}:{digest[2]:02x}"


def volume_name(name: str, uid: str, disk: str, suffix: str = "qcow2") -> str:
    """The name of a volume; a part of the UUID avoids clashes with volumes of other tools."""
    return f"{name}-{uid[:8]}-{disk}.{suffix}"
