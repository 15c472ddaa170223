"""Hosts of libvirt's test driver: the XML they are opened with; bases that are only named."""

from collections.abc import Collection
from typing import Any

from controller.observed.base_names import is_base_name


def node(*networks: str) -> str:
    """An empty host of two cores with those networks, all active."""
    nets = "".join(
        f"<network><name>{name}</name>"
        f"<ip address='192.168.{number}.1' netmask='255.255.255.0'/></network>"
        for number, name in enumerate(networks, 100)
    )
    return (
        "<node><cpu><mhz>2000</mhz><model>a</model><active>2</active><nodes>1</nodes>"
        "<sockets>1</sockets><cores>2</cores><threads>1</threads></cpu>"
        f"<memory>8388608</memory>{nets}</node>"
    )


def absent_but_bases(
    hypervisor: Any, host: str, pool: str, names: Collection[str]
) -> frozenset[str]:
    """``Hypervisor.absent``, where images name bases that nobody made: those are there."""
    asked = [name for name in names if not is_base_name(name)]
    found: frozenset[str] = hypervisor.absent(host, pool, asked) if asked else frozenset()
    return found
