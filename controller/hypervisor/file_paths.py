"""Which files of a host its domains use: every domain's, also those that are not ours.

Asked before a file is deleted for good, so it errs towards "used": what cannot be told raises, and
what is named in any form, by path or by pool and volume, live or stored, counts. A definition that
is not running names only the top of a disk's chain; so the files below it are looked up too. So is
what a guest's memory names: disks that are retired or to come, each with its kernel.
"""

import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from functools import partial

import libvirt

from controller.hypervisor.connection import HostLink
from controller.hypervisor.host_config import Role
from controller.observed.domain import Memory
from controller.observed.domain_xml import parse_domain
from controller.observed.qemu_arguments import QEMU_NAMESPACE

_TIMEOUT = 60.0
_CHUNK = 200  # domains or files looked at under one deadline
_GONE = frozenset(
    {
        libvirt.VIR_ERR_NO_DOMAIN,
        libvirt.VIR_ERR_NO_STORAGE_POOL,
        libvirt.VIR_ERR_NO_STORAGE_VOL,
    }
)


@dataclass(slots=True)
class Named:
    """What definitions name: paths, and volumes as (pool, volume)."""

    paths: set[str] = field(default_factory=set)
    volumes: set[tuple[str, str]] = field(default_factory=set)


def file_paths(link: HostLink) -> frozenset[str]:
    """Every path that a domain of the host names or stands on, as the host writes it.

    Disks' sources with all that is below them, kernels, initrds, firmware, and the same of disks
    that a guest's memory names. Raises as a call does.
    """
    named = Named()
    domains = link.call(Role.LOOK, "list domains", lambda one: one.listAllDomains(), _TIMEOUT)
    for at in range(0, len(domains), _CHUNK):
        chunk = domains[at : at + _CHUNK]
        xmls = link.call(Role.LOOK, "read domains", partial(_read, domains=chunk), _TIMEOUT)
        for xml in xmls:
            note_named(xml, named)
    volumes = sorted(named.volumes)
    for at in range(0, len(volumes), _CHUNK):
        some = volumes[at : at + _CHUNK]
        named.paths |= link.call(Role.LOOK, "find volumes", partial(_found, volumes=some), _TIMEOUT)
    return frozenset(_with_below(link, named.paths))


def note_named(xml: str, into: Named) -> None:
    """Adds what one domain XML names; also a path among QEMU's own arguments."""
    root = ET.fromstring(xml)  # noqa: S314 - libvirt's own output
    for tag in ("kernel", "initrd", "dtb", "loader", "nvram"):
        into.paths.update(text for element in root.iterfind(f"os/{tag}") if (text := element.text))
    for source in (*root.iterfind("devices/disk//source"), *root.iterfind("os/nvram/source")):
        into.paths.update(path for key in ("file", "dev", "dir") if (path := source.get(key)))
        if source.get("volume"):
            into.volumes.add((source.get("pool", ""), source.get("volume", "")))
    for argument in root.iter(f"{{{QEMU_NAMESPACE}}}arg"):
        words = argument.get("value", "").replace("=", ",").split(",")
        into.paths.update(word for word in words if word.startswith("/"))
    ownership = parse_domain(xml).ownership
    if ownership is not None:
        _note_remembered(ownership.memory, into)


def _note_remembered(memory: Memory, into: Named) -> None:
    disks = [retired.disk for retired in memory.retired]
    if memory.replacement is not None:
        disks += [memory.replacement.to, memory.replacement.back]
    for disk in disks:
        into.paths.update(path for path in (disk.kernel, disk.initrd) if path)
        # The base, too: an overlay that is not made yet stands on it already.
        into.volumes.update((disk.pool, name) for name in (disk.volume, disk.base) if name)
    into.volumes.update((one.pool, one.volume) for one in memory.volumes)


def _read(_connection: libvirt.virConnect, domains: list[libvirt.virDomain]) -> list[str]:
    """Both definitions of each; of one that goes meanwhile, none."""
    xmls = []
    for domain in domains:
        try:
            xmls.append(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
            if domain.isActive():
                xmls.append(domain.XMLDesc(0))
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                raise
    return xmls


def _found(connection: libvirt.virConnect, volumes: list[tuple[str, str]]) -> set[str]:
    """The volumes' paths. Of a pool that is stopped, where they would be."""
    paths = set()
    for pool_name, name in volumes:
        try:
            pool = connection.storagePoolLookupByName(pool_name)
            if pool.isActive():
                paths.add(pool.storageVolLookupByName(name).path())
                continue
            root = ET.fromstring(pool.XMLDesc(0))  # noqa: S314 - libvirt's own output
        except libvirt.libvirtError as error:
            if error.get_error_code() not in _GONE:
                raise
            continue  # no file, then
        paths.add(f"{root.findtext('target/path', '')}/{name}")
    return paths


def _with_below(link: HostLink, paths: set[str]) -> set[str]:
    """The paths, and those of the files that they are overlays of, down to the last."""
    known: set[str] = set()
    new = set(paths)
    while new:
        known |= new
        found: set[str] = set()
        ordered = sorted(new)
        for at in range(0, len(ordered), _CHUNK):
            some = ordered[at : at + _CHUNK]
            found |= link.call(Role.LOOK, "find backing", partial(_below, paths=some), _TIMEOUT)
        new = found - known
    return known


def _below(connection: libvirt.virConnect, paths: list[str]) -> set[str]:
    """What libvirt's pools know of these files: their path as a volume's, and their backing."""
    found: set[str] = set()
    for path in paths:
        try:
            volume = connection.storageVolLookupByPath(path)
            root = ET.fromstring(volume.XMLDesc(0))  # noqa: S314 - libvirt's own output
        except libvirt.libvirtError as error:
            if error.get_error_code() not in _GONE:
                raise
            continue  # in no pool: nobody but its owner knows what it stands on
        found.add(volume.path())
        backing = root.findtext("backingStore/path")
        if backing:
            found.add(backing)
    return found
