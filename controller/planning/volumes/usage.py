"""Determines what each volume is for, and which ones nothing uses any more; deletes nothing.

A data disk that was removed from its document, the system disk of a guest whose domain somebody
undefined, a base that no guest uses: all stay in their pools until a person decides. The list must
never call a volume unused that something still needs. So uses are collected from every domain of
every host, ours or not, with the backing files of its disks, and from every document; a file of the
same name in another place counts as the same. If any of that is unknown, nothing is called unused.
Pure.
"""

import posixpath
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from controller.observed.domain import DomainView, SystemDisk
from controller.observed.host import VolumeView
from controller.planning.wanted.domain import SEED, SYSTEM
from controller.planning.wanted.names import guest_uuid


class Use(StrEnum):
    """What a volume is for."""

    SYSTEM = "system"  # the system disk of a guest
    DATA = "data"
    SEED = "seed"  # cloud-init's
    CDROM = "cdrom"  # a medium in a drive of a guest
    REPLACEMENT = "replacement"  # a system disk of a replacement under way, new or old
    RETIRED = "retired"  # a system disk that was replaced, kept for a while
    BASE = "base"  # of an image: disk, kernel or initrd
    FOREIGN = "foreign"  # made by us, judging by its name; used by something that is not ours
    ORPHANED = "orphaned"  # made by us, judging by its name; used by nothing
    POSSIBLY = "possibly-orphaned"  # the same, unless something that cannot be read uses it
    UNKNOWN = "unknown"  # the same, but not all possible users were seen


@dataclass(frozen=True, slots=True)
class VolumeUse:
    """``volume`` and what it is for; '' or None in fields that do not apply."""

    volume: VolumeView
    use: Use
    guest: str = ""
    disk: str = ""
    """``system``, ``seed``, or a data disk's name."""
    image: str = ""
    overlays: int = 0
    """How many volumes are overlays of it."""
    until: float | None = None
    """Epoch seconds from which a retired disk may be deleted."""
    why: str = ""
    """What uses a foreign volume, or why it is not certain that nothing uses it."""


@dataclass(frozen=True, slots=True)
class Users:
    """Everything that may use volumes of a host; of all hosts, as some may share a directory.

    ``domains``: our domains; for a volume in several, the last counts. ``paths``: path -> names of
    the domains that use it, also as a backing file; no names if only a guest's record has it.
    ``expected``: guest -> the disks that its document wants and that may exist (``system``,
    ``seed``, names of data disks); None for any disk. ``others``: volumes of other hosts.
    ``unknown``: why not all users are known; ``hidden``: what may use volumes but cannot be read;
    '' if all is known. ``ttl``: guest -> seconds for which its retired disks are kept. ``seed``
    distinguishes controllers, as in ``planning.wanted.names``.
    """

    domains: Collection[DomainView]
    paths: Mapping[str, Collection[str]]
    expected: Mapping[str, Collection[str] | None] = field(default_factory=dict)
    others: Collection[VolumeView] = ()
    unknown: str = ""
    hidden: str = ""
    ttl: Mapping[str, float] | None = None
    seed: str = ""


def volume_uses(
    volumes: Collection[VolumeView], users: Users, image_of: Callable[[str], str | None]
) -> tuple[VolumeUse, ...]:
    """What each volume in the pools of one host is for, sorted by pool and name.

    ``volumes`` must be all of the host, or overlays are missed. ``image_of`` returns the image of a
    base volume by its name, None if it is no base. Volumes that have nothing to do with Guestkeeper
    are left out.
    """
    known = {(use.pool, use.volume): use for use in _of_domains(users)}
    overlays = Counter(_file(one.backing) for one in volumes if one.backing is not None)
    used = _used(volumes, users)
    found = []
    for volume in sorted(volumes, key=lambda one: (one.pool, one.name)):
        named = known.get((volume.pool, volume.name))
        count = overlays[_file(volume.path)]
        if named is not None:
            found.append(
                VolumeUse(volume, named.use, named.guest, named.disk, "", count, named.until)
            )
        elif (image := image_of(volume.name)) is not None:
            found.append(VolumeUse(volume, Use.BASE, image=image, overlays=count))
        elif made := _made_for(volume.name):
            guest, disk, use, why = _leftover(made, used.get(_file(volume.path), ""), users)
            found.append(VolumeUse(volume, use, guest, disk, "", count, why=why))
    return tuple(found)


def _used(volumes: Collection[VolumeView], users: Users) -> Mapping[str, str]:
    """File name -> what uses it, also as a backing file."""
    found = {
        _file(one.backing): f"volume {one.pool}/{one.name}"
        for one in (*users.others, *volumes)
        if one.backing is not None
    }
    for path, names in users.paths.items():
        found[_file(path)] = f"domain {min(names)}" if names else "a guest that remembers it"
    return found


def _leftover(
    made: Sequence[tuple[str, str, str]], used: str, users: Users
) -> tuple[str, str, Use, str]:
    """(guest, disk, use, why) of a volume that no domain of ours names.

    A guest's name may also contain eight hexadecimal digits. Then the split counts whose digits
    really begin that guest's UUID, unless another one gives a guest that has a document.
    """
    ours = [one for one in made if guest_uuid(users.seed, one[0]).startswith(one[1])]
    guest, _, disk = (ours or made)[0]
    if used:
        return guest, disk, Use.FOREIGN, used
    for name, _, part in made:
        if name in users.expected:
            disks = users.expected[name]
            if disks is None or part in disks:
                return name, part, _USES.get(part, Use.DATA), ""
    if users.unknown:
        return guest, disk, Use.UNKNOWN, users.unknown
    if users.hidden:
        return guest, disk, Use.POSSIBLY, users.hidden
    return guest, disk, Use.ORPHANED, ""


@dataclass(frozen=True, slots=True)
class _Named:
    pool: str
    volume: str
    use: Use
    guest: str
    disk: str
    until: float | None = None


_USES = {"system": Use.SYSTEM, "seed": Use.SEED}


def _of_domains(users: Users) -> Iterator[_Named]:
    """The volumes that our domains name. Later ones win: a disk in use comes last."""
    for domain in users.domains:
        record = domain.ownership.record if domain.ownership is not None else None
        if record is None:
            continue
        ttl = (users.ttl or {}).get(domain.name)
        for retired in record.retired:
            until = retired.since + ttl if ttl is not None else None
            yield _system(domain.name, retired.disk, Use.RETIRED, until)
        if record.replacement is not None:
            yield _system(domain.name, record.replacement.to, Use.REPLACEMENT)
            yield _system(domain.name, record.replacement.back, Use.REPLACEMENT)
        for one in record.volumes:
            use, name = _disk_use(one.alias)
            yield _Named(one.pool, one.volume, use, domain.name, name)
        for config in (domain.live, domain.config):
            for disk in config.disks if config is not None else ():
                if disk.volume is None:
                    continue
                use, name = _disk_use(disk.alias)
                yield _Named(disk.pool, disk.volume, use, domain.name, name)


def _system(guest: str, disk: SystemDisk, use: Use, until: float | None = None) -> _Named:
    return _Named(disk.pool, disk.volume, use, guest, "system", until)


def _disk_use(alias: str) -> tuple[Use, str]:
    kind, _, name = alias.partition("-")
    if alias == SYSTEM:
        return Use.SYSTEM, name
    if alias == SEED:
        return Use.SEED, name
    return (Use.CDROM if kind == "cdrom" else Use.DATA), name


_UID = re.compile(r"-([0-9a-f]{8})-")
_SUFFIX = re.compile(r"\.(qcow2|iso)$")
_SERIAL = re.compile(r"system-\d+")


def _made_for(volume: str) -> list[tuple[str, str, str]]:
    """All (guest, beginning of its UUID, disk) that a volume of that name may have been made for;
    [] if it is no name of ours.
    """
    stem = _SUFFIX.sub("", volume)
    splits: list[tuple[str, str, str]] = []
    if stem == volume:
        return splits
    at = 0
    while (match := _UID.search(stem, at)) is not None:
        guest, disk = stem[: match.start()], stem[match.end() :]
        if guest and disk:
            splits.append((guest, match[1], "system" if _SERIAL.fullmatch(disk) else disk))
        at = match.start() + 1
    return splits


def _file(path: str) -> str:
    return posixpath.basename(path)
