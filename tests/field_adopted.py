"""Domains of the corpus as they are once they were adopted, and one change of each field."""

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from string import ascii_lowercase

from controller.hypervisor.domains.adoption import marked
from controller.hypervisor.xml.render import render
from controller.hypervisor.xml.update import update
from controller.observed.adopted_devices import alias_name
from controller.observed.domain import (
    BootConfig,
    DiskConfig,
    DomainConfig,
    IoTune,
    NicConfig,
    Ownership,
)
from controller.observed.domain_xml import owned_elements, parse_config, parse_domain
from controller.observed.locating import located
from controller.planning.adoption.match import can_be_written
from controller.planning.wanted.domain import SYSTEM
from tests.field_corpus import FieldDomain, host_with_pools

MIB = 2**20
_OF_A_KIND = 4
"""Disks, drives, interfaces of a domain that are changed: one is as the other."""


@dataclass(frozen=True, slots=True)
class Adopted:
    """``xml`` is its definition with our mark; ``config`` what the look makes of it."""

    xml: str
    config: DomainConfig
    owner: Ownership

    def redefined(self, config: DomainConfig) -> str:
        """As ``Domains.define`` makes it."""
        return update(self.xml, render(config, self.owner))


def adopted(field: FieldDomain) -> Adopted:
    """Every disk of a pool, drive and interface that documents have words for is taken over."""
    pools = host_with_pools(field).pools
    foreign = located(parse_config(field.xml), pools)
    aliases: dict[str, str] = {}
    for disk in foreign.disks:
        if disk.device == "cdrom" and (disk.pool or disk.volume is None):
            aliases[disk.target] = f"cdrom-{disk.target}"
        elif disk.device == "disk" and disk.pool:
            aliases[disk.target] = f"disk-{disk.target}" if SYSTEM in aliases.values() else SYSTEM
    macs = [nic.mac for nic in foreign.nics]
    for number, nic in enumerate(foreign.nics):
        if can_be_written(nic) and macs.count(nic.mac) == 1:
            aliases[nic.mac] = f"nic-{number}"
    owner = Ownership(foreign.uuid, foreign.name, 1, "", "")
    xml = marked(field.xml, owner, aliases)
    return Adopted(xml, located(parse_domain(xml).config, pools), owner)


Change = tuple[DomainConfig, tuple[str, ...]]
"""The definition with one field changed, and the places that belong to that field."""


def changes(one: Adopted) -> Iterator[tuple[str, Change]]:
    """Each with its name; only those that make sense of the domain."""
    config = one.config
    yield "title", (replace(config, title="another"), ("title",))
    yield "no title", (replace(config, title=""), ("title",))
    yield "description", (replace(config, description="a\tb\u00a0c"), ("description",))
    yield "no description", (replace(config, description=""), ("description",))
    if config.memory > 64 * MIB:
        less = replace(config, memory=config.memory - 64 * MIB)
        yield "memory", (less, ("currentMemory",))
    more = replace(config, max_memory=config.max_memory + 64 * MIB)
    yield "maximum memory", (more, ("memory", "currentMemory"))
    vcpus = ("vcpu", "vcpus")
    yield "vcpus", (replace(config, vcpus=1), vcpus)
    every = (*vcpus, "cpu/topology", "cputune")
    doubled = replace(config, max_vcpus=2 * config.max_vcpus)
    yield "more vcpus", (doubled, (*vcpus, "cpu/topology"))
    if config.max_vcpus > 1:
        yield "fewer vcpus", (replace(config, vcpus=1, max_vcpus=config.max_vcpus // 2), every)
    yield "on_crash", (replace(config, on_crash="preserve"), ("on_crash",))
    if config.boot is not None:
        boot = BootConfig(config.boot.kernel, config.boot.initrd, "other=1")
        yield "boot.args", (replace(config, boot=boot), ("os/cmdline",))
    names = (f"vd{first}{last}" for first in "pqr" for last in ascii_lowercase)
    target = next(name for name in names if name not in config.taken)
    new = DiskConfig("disk-new", "vms", "new.qcow2", target=target)
    more_disks = replace(config, disks=(*config.disks, new))
    yield "a new disk", (more_disks, ("devices/disk[ua-disk-new]",))
    nic = NicConfig("nic-new", "network", "default", "52:54:00:fe:ed:01")
    more_nics = replace(config, nics=(*config.nics, nic))
    yield "a new interface", (more_nics, ("devices/interface[ua-nic-new]",))
    drives = [disk for disk in config.disks if disk.device == "cdrom"]
    disks = [disk for disk in config.disks if disk.device != "cdrom"]
    for disk in (*disks[:_OF_A_KIND], *drives[:_OF_A_KIND]):
        yield from _of_disk(one, disk)
    for found in config.nics[:_OF_A_KIND]:
        yield from _of_nic(one, found)


def belongs(place: str, fields: tuple[str, ...]) -> bool:
    """To one of these, or below it; ``*`` stands for a number."""
    return any(
        place == field or place.startswith((f"{field}/", f"{field}@")) or fnmatchcase(place, field)
        for field in (one.replace("[", "[[]") if "*" in one else one for one in fields)
    )


def _with_disk(one: Adopted, disk: DiskConfig) -> DomainConfig:
    config = one.config
    disks = (disk if has.alias == disk.alias else has for has in config.disks)
    return replace(config, disks=tuple(disks))


def _of_disk(one: Adopted, disk: DiskConfig) -> Iterator[tuple[str, Change]]:
    at = f"devices/disk[{_name(one, disk.alias)}]"
    if disk.device == "cdrom":
        medium = replace(disk, pool="iso", volume="other.iso", path="")
        media = (f"{at}@type", f"{at}/source", f"{at}/backingStore", f"{at}/driver@type")
        yield f"medium of {disk.target}", (_with_disk(one, medium), media)
        empty = replace(disk, volume=None)
        yield f"no medium in {disk.target}", (_with_disk(one, empty), media)
        return
    cache = "none" if disk.cache != "none" else "writethrough"
    cached = _with_disk(one, replace(disk, cache=cache))
    yield f"cache of {disk.target}", (cached, (f"{at}/driver@cache",))
    for name in ("total_iops_sec", "read_bytes_sec"):
        limit = getattr(disk.io_tune, name) + 10_000_000
        kind = name.partition("_")[2]
        others = [one for one in ("total", "read", "write") if one != name.partition("_")[0]]
        if name.startswith("read"):
            others = ["total"]
        tune = replace(disk.io_tune, **{name: limit}, **{f"{one}_{kind}": 0 for one in others})
        places = [f"{at}/iotune/{word}_{kind}" for word in (*others, name.partition("_")[0])]
        allowed = [f"{place}{end}" for place in places for end in ("", "_max", "_max_length")]
        if disk.io_tune == IoTune():
            allowed = [f"{at}/iotune"]
        limited = _with_disk(one, replace(disk, io_tune=tune))
        yield f"{name} of {disk.target}", (limited, tuple(allowed))
    if disk.io_tune != IoTune():
        free = _with_disk(one, replace(disk, io_tune=IoTune()))
        yield f"no limits of {disk.target}", (free, (f"{at}/iotune",))
    if disk.alias != SYSTEM:
        fewer = tuple(has for has in one.config.disks if has.alias != disk.alias)
        yield f"without {disk.target}", (replace(one.config, disks=fewer), (at,))


def _of_nic(one: Adopted, nic: NicConfig) -> Iterator[tuple[str, Change]]:
    def having(**fields: object) -> DomainConfig:
        other = replace(nic, **fields)  # type: ignore[arg-type]
        nics = (other if has.alias == nic.alias else has for has in one.config.nics)
        return replace(one.config, nics=tuple(nics))

    if nic.kind == "user":
        args = "commandline/arg"
        forwards = ("127.0.0.1:18999:99/tcp", *nic.forwards[1:])
        yield f"forwards of {nic.alias}", (having(forwards=forwards), (args + "*@hostfwd",))
        yield f"no forwards of {nic.alias}", (having(forwards=()), (args + "*@hostfwd",))
        yield f"mac of {nic.alias}", (having(mac="52:54:00:fe:ed:02"), (args + "*@mac",))
        return
    at = f"devices/interface[{_name(one, nic.alias)}]"
    where = having(kind="network", source="another")
    yield f"network of {nic.alias}", (where, (f"{at}@type", f"{at}/source"))
    link = having(link="down" if nic.link == "up" else "up")
    yield f"link of {nic.alias}", (link, (f"{at}/link",))
    yield f"mac of {nic.alias}", (having(mac="52:54:00:fe:ed:02"), (f"{at}/mac@address",))
    model = having(model="e1000e" if nic.model == "virtio" else "virtio")
    yield f"model of {nic.alias}", (model, (f"{at}/model", f"{at}/address"))


def _name(one: Adopted, alias: str) -> str:
    """What the definition calls it: an operator's own alias stays."""
    root = ET.fromstring(one.xml)
    found = (*owned_elements(root, "disk"), *owned_elements(root, "interface"))
    return alias_name(dict(found)[alias])
