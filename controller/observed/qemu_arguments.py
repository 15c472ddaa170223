"""User interfaces, which stand among QEMU's own arguments in a domain XML.

libvirt's own (9.0) cannot forward ports without passt, so ours are written as arguments; here they
are read back. Pure.
"""

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

QEMU_NAMESPACE = "http://libvirt.org/schemas/domain/qemu/1.0"
TEST_ARGUMENTS_NAMESPACE = "urn:guestkeeper:test-driver:v1"
"""Where user interfaces stand in libvirt's test driver, which drops QEMU's arguments."""


@dataclass(frozen=True, slots=True)
class UserNic:
    """A ``-netdev user`` with the ``-device`` on it. ``identity`` is the netdev's id."""

    identity: str
    mac: str
    model: str
    forwards: tuple[str, ...]
    netdev: ET.Element = field(compare=False, repr=False)
    """The argument that says so, after ``-netdev``."""
    device: ET.Element = field(compare=False, repr=False)
    """The same of ``-device``."""


def user_nics(root: ET.Element) -> Iterator[UserNic]:
    """Those of a ``<domain>``, ours and others'."""
    netdevs: dict[str, tuple[ET.Element, tuple[str, ...]]] = {}
    for option, argument in _options(root):
        kind, words = _words(argument.get("value", ""))
        first = dict(reversed(words))
        if option == "-netdev" and kind == "user":
            forwards = tuple(forward_of(text) for key, text in words if key == "hostfwd")
            netdevs[first.get("id", "")] = argument, forwards
        elif option == "-device" and first.get("netdev", "") in netdevs:
            netdev, forwards = netdevs[first["netdev"]]
            yield UserNic(
                identity=first["netdev"],
                mac=first.get("mac", ""),
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


def forward_of(text: str) -> str:
    """``tcp:127.0.0.1:18080-:80`` as ``127.0.0.1:18080:80/tcp``; anything else as it stands."""
    protocol, _, rest = text.partition(":")
    host, dash, guest = rest.partition("-:")
    return f"{host}:{guest}/{protocol}" if dash else text


def _options(root: ET.Element) -> Iterator[tuple[str, ET.Element]]:
    for line in argument_lines(root):
        for option, argument in pairwise(line):
            yield option.get("value", ""), argument
