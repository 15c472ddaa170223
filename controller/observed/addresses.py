"""Addresses that two domains of a host cannot both have: MAC addresses, ports of the host.

A domain has the addresses of its definition and of its live XML, whoever made it. An address is a
string: ``52:54:00:00:00:01``, or ``127.0.0.1:8080/tcp``. Pure.
"""

import re
from dataclasses import dataclass

_ANY = "0.0.0.0"  # noqa: S104 - compared with, never listened on
_FORWARDS = (
    re.compile(r"(?P<address>[0-9.]*):(?P<port>\d+):\d+/(?P<protocol>tcp|udp)"),
    re.compile(r"(?P<protocol>tcp|udp):(?P<address>[0-9.]*):(?P<port>\d+)-"),
)


@dataclass(frozen=True, slots=True)
class AddressUse:
    """Domain ``holder`` has an address that a guest wants: in its live XML, or its definition."""

    address: str
    holder: str
    running: bool
    defined: bool
    ours: bool
    """Whether the holder is one of Guestkeeper's guests."""

    @property
    def is_mac(self) -> bool:
        return is_mac(self.address)


def is_mac(address: str) -> bool:
    return "/" not in address


def port_of(forward: str) -> str:
    """The host's side of a forward, in our form or QEMU's; '' if it is in neither."""
    for pattern in _FORWARDS:
        found = pattern.match(forward)
        if found is not None:
            return f"{found['address'] or _ANY}:{found['port']}/{found['protocol']}"
    return ""


def key_of(address: str) -> str:
    """A key that is the same for all addresses that may clash."""
    return address if is_mac(address) else address.partition(":")[2]


def clash(one: str, other: str) -> bool:
    """Whether only one of the two addresses can be used."""
    if key_of(one) != key_of(other):
        return False
    hosts = {one.partition(":")[0], other.partition(":")[0]}
    return is_mac(one) or len(hosts) == 1 or _ANY in hosts
