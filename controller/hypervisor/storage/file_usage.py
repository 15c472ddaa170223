"""Which files of a host its domains use: every domain's, also those that are not ours.

Asked before a file is deleted for good, so it errs towards "used": what cannot be told raises, and
what is named in any form, by path or by pool and volume, live or stored, counts. A definition that
is not running names only the top of a disk's chain; so the files below it are looked up too.

What a guest's record names, disks that are retired or to come with their kernels, is used too, but
told apart (``FileUses.remembered``): when such a disk may go is for its guest to say.

Only pools tell what a file stands on. Of a disk that lies in none that runs, that is not known;
such are told apart (``FileUses.loose``), and nobody should call a file unused as long as there are
any.
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
"""A path in an argument of QEMU's: alone, as ``key=PATH``, in JSON."""
_MEMORY = ""  # stands for guests' records among users: no domain has that name
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
    disks: set[str] = field(default_factory=set)
    """Which of the paths may stand on others, or be links: disks, but for raw devices."""
    disk_volumes: set[tuple[str, str]] = field(default_factory=set)


def file_paths(link: HostLink) -> frozenset[str]:
    """Every path that a domain of the host names or stands on, as the host writes it.

    Disks' sources with all that is below them, kernels, initrds, firmware, and the same of disks
    that a guest's record names. Raises as a call does.
    """
    uses = file_uses(link)
    return uses.remembered.union(uses.users)


def file_uses(link: HostLink) -> FileUses:
    """The same paths, each with its users, and of which it is not known what they stand on.

    A disk that is not to be found stands there as POOL/VOLUME.
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
    """Those of ``disks``, and of all below them, of which no pool knows what is below."""
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
    """Adds what one domain XML names; also a path among QEMU's own arguments."""
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
    """The paths and volumes that a ``<source>`` names."""
    paths = {path for key in ("file", "dev", "dir") if (path := source.get(key))}
    places = {(source.get("pool", ""), volume) for volume in [source.get("volume")] if volume}
    into.paths |= paths
    into.volumes |= places
    return paths, places


def note_remembered(xml: str, into: Named) -> None:
    """Adds what the record of a guest names, in its domain's XML; nothing of a foreign one."""
    ownership = parse_domain(xml).ownership
    if ownership is None:
        return
    record = ownership.record
    disks = [retired.disk for retired in record.retired]
    if record.replacement is not None:
        disks += [record.replacement.to, record.replacement.back]
    for disk in disks:
        into.paths.update(path for path in (disk.kernel, disk.initrd) if path)
        # The base, too: an overlay that is not made yet stands on it already.
        into.volumes.update((disk.pool, name) for name in (disk.volume, disk.base) if name)
    into.volumes.update(one.place for one in record.volumes)


def _read(
    _connection: libvirt.virConnect, domains: list[libvirt.virDomain]
) -> list[tuple[str, str]]:
    """Each one's name with either definition; of one that goes meanwhile, none."""
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
    """The volumes' paths. Of a pool that is stopped, where they would be."""
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
            continue  # no file, then
        paths[pool_name, name] = f"{root.findtext('target/path', '')}/{name}"
    return paths


def _add_below(link: HostLink, users: dict[str, set[str]]) -> Mapping[str, set[str]]:
    """Adds the files that those are overlays of, down to the last, with the same users.

    What is right below each, as far as a pool knows it.
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
    """What libvirt's pools know of these files: their path as a volume's, and their backing."""
    found: dict[str, set[str]] = {}
    for path in paths:
        try:
            volume = connection.storageVolLookupByPath(path)
            root = ET.fromstring(volume.XMLDesc(0))  # noqa: S314 - libvirt's own output
        except libvirt.libvirtError as error:
            if error.get_error_code() not in _GONE:
                raise
            continue  # in no pool: nobody but its owner knows what it stands on
        backing = root.findtext("backingStore/path")
        found[path] = {volume.path(), *([backing] if backing else [])}
    return found
