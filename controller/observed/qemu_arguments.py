"""Read user-mode network interfaces from QEMU's arguments in a domain XML. Pure.

libvirt's own user networking (9.0) cannot forward ports without passt, so ours is written as QEMU
arguments; here it is read back.
"""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

QEMU_NAMESPACE = "http://libvirt.org/schemas/domain/qemu/1.0"
TEST_ARGUMENTS_NAMESPACE = "urn:guestkeeper:test-driver:v1"
"""Namespace of user interfaces in libvirt's test driver, which drops QEMU's arguments."""

SLOT = re.compile(r"(?<=,addr=)(0x[0-9a-f]+|\d+)", re.IGNORECASE)
"""Matches the slot of a device on a PCI bus, within its argument."""
_FORWARD = re.compile(r"(tcp|udp|):((?:\d{1,3}\.){3}\d{1,3}|):(\d+)-:(\d+)")


@dataclass(frozen=True, slots=True)
class UserNic:
    """A ``-netdev user`` with the ``-device`` on it. ``identity`` is the netdev's id.

    ``forwards`` are those that documents can express.
    """

    identity: str
    mac: str
    model: str
    forwards: tuple[str, ...]
    netdev: ET.Element = field(compare=False, repr=False)
    """The argument after ``-netdev``."""
    device: ET.Element = field(compare=False, repr=False)
    """The argument after ``-device``."""


def user_nics(root: ET.Element) -> Iterator[UserNic]:
    """The user interfaces of a ``<domain>`` among QEMU's arguments, ours and others'."""
    netdevs: dict[str, tuple[ET.Element, tuple[str, ...]]] = {}
    for option, argument in _options(root):
        kind, words = _words(argument.get("value", ""))
        first = dict(reversed(words))
        if option == "-netdev" and kind == "user":
            texts = (forward_of(text) for key, text in words if key == "hostfwd")
            forwards = tuple(text for text in texts if text)
            netdevs[first.get("id", "")] = argument, forwards
        elif option == "-device" and first.get("netdev", "") in netdevs:
            netdev, forwards = netdevs[first["netdev"]]
            yield UserNic(
                identity=first["netdev"],
                mac=first.get("mac", "").lower(),
                model="virtio" if kind.startswith("virtio-net") else kind,
                forwards=forwards,
                netdev=netdev,
                device=argument,
            )


def argument_lines(root: ET.Element) -> list[ET.Element]:
    """The elements that hold QEMU's arguments, each argument an ``arg`` with a ``value``."""
    found = (
        root.find(f"{{{QEMU_NAMESPACE}}}commandline"),
        root.find(f"metadata/{{{TEST_ARGUMENTS_NAMESPACE}}}commandline"),
    )
    return [line for line in found if line is not None]


def _words(value: str) -> tuple[str, list[tuple[str, str]]]:
    kind, *words = value.split(",")
    return kind, [(key, text) for key, _, text in (word.partition("=") for word in words)]


def slots_of(arguments: Iterable[ET.Element]) -> set[int]:
    """The PCI slots that the arguments put devices in."""
    values = (argument.get("value", "") for argument in arguments)
    return {int(found[1], 0) for value in values for found in SLOT.finditer(value)}


def forward_of(text: str) -> str:
    """``tcp:127.0.0.1:18080-:80`` as ``127.0.0.1:18080:80/tcp``; '' if documents cannot express it.

    Without a protocol QEMU takes TCP, without an address all addresses of the host. A forward with
    a host's name, or with the address of one of several guests, is left to the operator.
    """
    found = _FORWARD.fullmatch(text)
    if found is None:
        return ""
    protocol, address, host, guest = found.groups()
    return f"{address or '0.0.0.0'}:{host}:{guest}/{protocol or 'tcp'}"  # noqa: S104


def _options(root: ET.Element) -> Iterator[tuple[str, ET.Element]]:
    for line in argument_lines(root):
        for option, argument in pairwise(line):
            yield option.get("value", ""), argument
