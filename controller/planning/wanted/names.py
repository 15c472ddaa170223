"""Names, UUIDs and MAC addresses that a guest always has, whoever computes them and whenever.

They are derived, not drawn: a crash between making a volume and defining the domain finds the
same names again, so nothing is made twice. ``seed`` tells controllers apart that share a network.
Once a domain exists, what it has wins over what is derived here.
"""

import hashlib
import uuid

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:guestkeeper:v1")


def guest_uuid(seed: str, name: str) -> str:
    """RFC 4122 version 5."""
    return str(uuid.uuid5(_NAMESPACE, f"{seed}/{name}"))


def nic_mac(uid: str, nic: str) -> str:
    """An address in QEMU's own range, 52:54:00 (locally administered, unicast)."""
    digest = hashlib.sha256(f"{uid}/{nic}".encode()).digest()
    return f"52:54:00:{digest[0]:02x}:{digest[1]:02x}:{digest[2]:02x}"


def volume_name(name: str, uid: str, disk: str, suffix: str = "qcow2") -> str:
    """Part of the UUID keeps volumes of other tools, named alike, out of the way."""
    return f"{name}-{uid[:8]}-{disk}.{suffix}"
