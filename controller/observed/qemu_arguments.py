"""User interfaces, which stand among QEMU's own arguments in a domain XML.

libvirt's own (9.0) cannot forward ports without passt, so ours are written as arguments; here they
are read back. Pure.
"""

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
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


def user_nics(root: ET.Element) -> Iterator[UserNic]:
    """Those of a ``<domain>``, ours and others'."""
    forwards: dict[str, tuple[str, ...]] = {}
    for option, value in _options(root):
        kind, words = _words(value)
        first = dict(reversed(words))
        if option == "-netdev" and kind == "user":
            forwards[first.get("id", "")] = tuple(
                _forward(text) for key, text in words if key == "hostfwd"
            )
        elif option == "-device" and first.get("netdev", "") in forwards:
            yield UserNic(
                identity=first["netdev"],
                mac=first.get("mac", ""),
                model="virtio" if kind.startswith("virtio-net") else kind,
                forwards=forwards[first["netdev"]],
            )


def argument_lines(root: ET.Element) -> list[ET.Element]:
    """The elements that hold QEMU's arguments, each argument an ``arg`` with a ``value``."""
    found = (
        root.find(f"{{{QEMU_NAMESPACE}}}commandline"),
        root.find(f"metadata/{{{TEST_ARGUMENTS_NAMESPACE}}}commandline"),
    )
    return [line for line in found if line is not None]


def _options(root: ET.Element) -> Iterator[tuple[str, str]]:
    for line in argument_lines(root):
        yield from pairwise(argument.get("value", "") for argument in line)


def _words(value: str) -> tuple[str, list[tuple[str, str]]]:
    kind, *words = value.split(",")
    return kind, [(key, text) for key, _, text in (word.partition("=") for word in words)]


def _forward(text: str) -> str:
    """``tcp:127.0.0.1:18080-:80`` as ``127.0.0.1:18080:80/tcp``; anything else as it stands."""
    protocol, _, rest = text.partition(":")
    host, dash, guest = rest.partition("-:")
    return f"{host}:{guest}/{protocol}" if dash else text
