"""Finds which files of a host its domains use: all domains, also foreign ones.

Called before a file is deleted for good, so it errs towards "used": it raises if that cannot be
told, and counts any form of naming: by path or by pool and volume, in the definition or the live
XML. A definition names only the top of a disk's backing chain, so the files below are looked up.

Files that a guest's record names (disks that are retired or planned, with their kernels) count as
used too, but are listed apart (``FileUses.remembered``): the guest decides when such a disk may go.

Only pools tell the backing file of a disk. For a disk in no active pool it is not known. Such disks
are listed apart (``FileUses.loose``), and no file should be called unused while there are any.
"""

import re
import xml.etree.ElementTree as ET
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

import libvirt

from controller.hypervisor.connection.config import Role
from controller.hypervisor.connection.link import HostLink
from controller.observed.domain_xml import parse_domain
from controller.observed.file_uses import FileUses
from controller.observed.qemu_arguments import QEMU_NAMESPACE

_PATH = re.compile(r'(?:^|[=,:"])(/[^",]+)')
"""A path in a QEMU argument: alone, as ``key=PATH``, or in JSON."""
_MEMORY = ""  # stands for guests' records among users: no domain has that name
_TIMEOUT = 60.0
_CHUNK = 200  # domains or files read under one deadline
_GONE = frozenset(
    {
        libvirt.VIR_ERR_NO_DOMAIN,
        libvirt.VIR_ERR_NO_STORAGE_POOL,
        libvirt.VIR_ERR_NO_STORAGE_VOL,
    }
)


@dataclass(slots=True)
class Named:
    """The files that definitions name: paths, and volumes as (pool, volume)."""

    paths: set[str] = field(default_factory=set)
    volumes: set[tuple[str, str]] = field(default_factory=set)
    disks: set[str] = field(default_factory=set)
    """Those of the paths that may have backing files or be links: disks, except raw devices."""
    disk_volumes: set[tuple[str, str]] = field(default_factory=set)


def file_paths(link: HostLink) -> frozenset[str]:
    """Every path that a domain of the host names or is based on, as the host writes it.

    Sources of disks with all their backing files, kernels, initrds, firmware, and the same for
    disks that a guest's record names. Raises as ``HostLink.call``.
    """
    uses = file_uses(link)
    return uses.remembered.union(uses.users)


def file_uses(link: HostLink) -> FileUses:
    """The same paths, each with its users, and those whose backing files are not known.

    A disk that cannot be found is listed as POOL/VOLUME.
    """
    users: dict[str, set[str]] = {}
    placed: dict[tuple[str, str], set[str]] = {}
    disks: set[str] = set()
    disk_volumes: set[tuple[str, str]] = set()
    domains = link.call(Role.LOOK, "list domains", lambda one: one.listAllDomains(), _TIMEOUT)
    for at in range(0, len(domains), _CHUNK):
        chunk = domains[at : at + _CHUNK]
        xmls = link.call(Role.LOOK, "read domains", partial(_read, domains=chunk), _TIMEOUT)
        for name, xml in xmls:
            named, noted = Named(), Named()
            note_named(xml, named)
            note_remembered(xml, noted)
            for user, found in ((name, named), (_MEMORY, noted)):
                for path in found.paths:
                    users.setdefault(path, set()).add(user)
                for place in found.volumes:
                    placed.setdefault(place, set()).add(user)
            disks |= named.disks
            disk_volumes |= named.disk_volumes
    volumes = sorted(placed)
    for at in range(0, len(volumes), _CHUNK):
        some = volumes[at : at + _CHUNK]
        paths = link.call(Role.LOOK, "find volumes", partial(_found, volumes=some), _TIMEOUT)
        paths |= {
            place: "/".join(place) for place in disk_volumes.intersection(some) - paths.keys()
        }
        for place, path in paths.items():
            users.setdefault(path, set()).update(placed[place])
            if place in disk_volumes:
                disks.add(path)
    below = _add_below(link, users)
    remembered = frozenset(path for path, those in users.items() if _MEMORY in those)
    names = {path: frozenset(those - {_MEMORY}) for path, those in users.items()}
    names = {path: those for path, those in names.items() if those}
    return FileUses(names, {path: names[path] for path in _loose(disks, below)}, remembered)


def _loose(disks: Collection[str], below: Mapping[str, set[str]]) -> Iterator[str]:
    """Those of ``disks`` and of their backing files whose own backing file no pool knows."""
    todo, seen = list(disks), set[str]()
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        if path in below:
            todo += below[path]
        else:
            yield path


def note_named(xml: str, into: Named) -> None:
    """Adds the files that one domain XML names, with paths in QEMU arguments (``<qemu:arg>``)."""
    root = ET.fromstring(xml)  # noqa: S314 - libvirt's own output
    for tag in ("kernel", "initrd", "dtb", "loader", "nvram"):
        into.paths.update(text for element in root.iterfind(f"os/{tag}") if (text := element.text))
    for nvram in root.iterfind("os/nvram/source"):
        _note_source(nvram, into)
    for disk in root.iterfind("devices/disk"):
        driver = disk.find("driver")
        raw = driver is None or driver.get("type", "raw") == "raw"
        for source in disk.iter("source"):
            paths, places = _note_source(source, into)
            if disk.get("device", "disk") in ("disk", "lun") and not (raw and source.get("dev")):
                into.disks |= paths
                into.disk_volumes |= places
    for argument in root.iter(f"{{{QEMU_NAMESPACE}}}arg"):
        words = set(_PATH.findall(argument.get("value", "").replace("\\/", "/")))
        into.paths |= words
        into.disks |= words


def _note_source(source: ET.Element, into: Named) -> tuple[set[str], set[tuple[str, str]]]:
    """Adds and returns the paths and volumes that a ``<source>`` names."""
    paths = {path for key in ("file", "dev", "dir") if (path := source.get(key))}
    places = {(source.get("pool", ""), volume) for volume in [source.get("volume")] if volume}
    into.paths |= paths
    into.volumes |= places
    return paths, places


def note_remembered(xml: str, into: Named) -> None:
    """Adds the files that the guest's record in a domain XML names; none for a foreign domain."""
    ownership = parse_domain(xml).ownership
    if ownership is None:
        return
    record = ownership.record
    disks = [retired.disk for retired in record.retired]
    if record.replacement is not None:
        disks += [record.replacement.to, record.replacement.back]
    for disk in disks:
        into.paths.update(path for path in (disk.kernel, disk.initrd) if path)
        # Also the base: an overlay that is not created yet needs it already.
        into.volumes.update((disk.pool, name) for name in (disk.volume, disk.base) if name)
    into.volumes.update(one.place for one in record.volumes)


def _read(
    _connection: libvirt.virConnect, domains: list[libvirt.virDomain]
) -> list[tuple[str, str]]:
    """Name and XML of each domain, definition and live; without domains removed meanwhile."""
    xmls = []
    for domain in domains:
        try:
            name = domain.name()
            xmls.append((name, domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)))
            if domain.isActive():
                xmls.append((name, domain.XMLDesc(0)))
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                raise
    return xmls


def _found(
    connection: libvirt.virConnect, volumes: list[tuple[str, str]]
) -> dict[tuple[str, str], str]:
    """The volumes' paths; in a pool that is not active, where they would be."""
    paths = {}
    for pool_name, name in volumes:
        try:
            pool = connection.storagePoolLookupByName(pool_name)
            if pool.isActive():
                paths[pool_name, name] = pool.storageVolLookupByName(name).path()
                continue
            root = ET.fromstring(pool.XMLDesc(0))  # noqa: S314 - libvirt's own output
        except libvirt.libvirtError as error:
            if error.get_error_code() not in _GONE:
                raise
            continue  # then there is no file
        paths[pool_name, name] = f"{root.findtext('target/path', '')}/{name}"
    return paths


def _add_below(link: HostLink, users: dict[str, set[str]]) -> Mapping[str, set[str]]:
    """Adds all backing files of the files in ``users``, with the same users.

    Returns the next backing file of each, as far as a pool knows it.
    """
    known: dict[str, set[str]] = {}
    new = set(users)
    while new:
        below: dict[str, set[str]] = {}
        ordered = sorted(new)
        for at in range(0, len(ordered), _CHUNK):
            some = ordered[at : at + _CHUNK]
            below |= link.call(Role.LOOK, "find backing", partial(_below, paths=some), _TIMEOUT)
        known |= below
        new = set()
        for path, found in below.items():
            for other in found:
                names = users.setdefault(other, set())
                if not users[path] <= names:
                    names |= users[path]
                    new.add(other)
    return known


def _below(connection: libvirt.virConnect, paths: list[str]) -> dict[str, set[str]]:
    """For each file that libvirt's pools know: its path as a volume, and its backing file."""
    found: dict[str, set[str]] = {}
    for path in paths:
        try:
            volume = connection.storageVolLookupByPath(path)
            root = ET.fromstring(volume.XMLDesc(0))  # noqa: S314 - libvirt's own output
        except libvirt.libvirtError as error:
            if error.get_error_code() not in _GONE:
                raise
            continue  # in no pool: libvirt does not know its backing file
        backing = root.findtext("backingStore/path")
        found[path] = {volume.path(), *([backing] if backing else [])}
    return found
