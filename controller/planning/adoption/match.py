"""Matches the devices of a foreign domain with those of a document, for adoption.

A foreign domain's devices are identified only by their place (a disk's target, an interface's MAC).
Matching gives each one the alias of its device in the document. Nothing may be lost: a disk, drive
or interface that is not in the document is reported as a problem, never detached.
"""

import shlex
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from controller.desired.effective import EffectiveGuest
from controller.desired.schema.guest import Cdrom, Disk, Interface
from controller.desired.schema.quantities import format_size
from controller.observed.domain import DiskConfig, DomainConfig, DomainView, NicConfig
from controller.observed.host import HostView, VolumeView
from controller.planning.adoption.device_words import NIC_KINDS, interface_words, medium_words
from controller.planning.adoption.yaml_text import quoted
from controller.planning.wanted.domain import SYSTEM


@dataclass(frozen=True, slots=True)
class Adoption:
    """``aliases`` are pairs of a device's place and its alias; ``adopted`` is the domain with them.

    ``problems`` say what has to be written or done first; if there are any, nothing is adopted.
    """

    aliases: tuple[tuple[str, str], ...]
    problems: tuple[str, ...]
    adopted: DomainView


def match(
    desired: EffectiveGuest,
    domain: DomainView,
    host: HostView,
    volumes: Mapping[tuple[str, str], VolumeView] | None = None,
    users: Mapping[str, Collection[str]] | None = None,
) -> Adoption:
    """Matches the devices of a foreign domain with the document's.

    The system disk is the disk it boots from. A data disk matches by pool and size if there is
    exactly one such disk on both sides, else it gets the first free disk of its pool, by target. A
    CD-ROM drive matches by target or by its volume, else it gets the next drive. An interface
    matches by MAC address, else it gets the first free one of its network or bridge. Drives and
    interfaces that documents cannot express are left alone.

    ``volumes`` by (pool, name). ``users``: path -> domains that use it, also as a backing file; a
    disk that another domain uses too is a problem.
    """
    config = domain.config
    matched = [
        _match_disks(desired, host, config, volumes or {}),
        _shared_disks(config, volumes or {}, users or {}),
        _match_drives(desired, host, config),
        _match_nics(desired, config),
    ]
    aliases = {place: alias for one in matched for place, alias in one.aliases.items()}
    live = domain.live
    adopted = replace(
        domain,
        config=_renamed(config, aliases),
        live=_renamed(live, aliases) if live is not None else None,
    )
    problems = tuple(problem for one in matched for problem in one.problems)
    return Adoption(tuple(aliases.items()), problems, adopted)


class _Matched:
    """The matches and problems of one kind of device."""

    def __init__(self) -> None:
        self.aliases: dict[str, str] = {}
        self.problems: list[str] = []


def _renamed(config: DomainConfig, aliases: Mapping[str, str]) -> DomainConfig:
    """``config`` with only the devices that are taken over; the others are not managed."""
    return replace(
        config,
        disks=tuple(
            replace(disk, alias=aliases[disk.target])
            for disk in config.disks
            if disk.target in aliases
        ),
        nics=tuple(
            replace(nic, alias=aliases[nic.mac]) for nic in config.nics if nic.mac in aliases
        ),
    )


def _match_disks(
    desired: EffectiveGuest,
    host: HostView,
    config: DomainConfig,
    volumes: Mapping[tuple[str, str], VolumeView],
) -> _Matched:
    made = _Matched()
    there = [disk for disk in config.disks if disk.device == "disk"]
    if config.boot_doubt or not there:
        none = "it has no disk, and a guest has a system disk at least"
        made.problems.append(config.boot_doubt or none)
        return made
    made.problems += [in_no_pool(disk, host) for disk in there if not disk.pool]
    system = next((disk for disk in there if disk.target == config.boot_disk), there[0])
    others = [disk for disk in there if disk is not system]
    wanted = desired.spec.system_disk.pool or host.default_pool
    if system.pool and system.pool != wanted:
        made.problems.append(
            f"its system disk {system.target} is in pool {system.pool}, not in {wanted}; write"
            f" systemDisk: {{pool: {system.pool}}}"
        )
    made.aliases[system.target] = SYSTEM
    left = [disk for disk in others if disk.pool]
    wishes = list(desired.spec.disks)
    sizes = {disk.target: _size(disk, volumes) for disk in left}
    for wish in list(wishes):
        same = [d for d in left if _pool(d) == _pool(wish, host) and sizes[d.target] == wish.size]
        twins = [w for w in wishes if (w.pool, w.size) == (wish.pool, wish.size)]
        if len(same) == 1 and len(twins) == 1:
            made.aliases[same[0].target] = f"disk-{wish.name}"
            left.remove(same[0])
            wishes.remove(wish)
    for wish in list(wishes):
        disk = next((d for d in left if _pool(d) == _pool(wish, host)), None)
        if disk is not None:
            made.aliases[disk.target] = f"disk-{wish.name}"
            left.remove(disk)
            wishes.remove(wish)
    names = [wish.name for wish in wishes]
    for disk in left:
        name = names.pop(0) if names else disk.target
        size = sizes[disk.target]
        written = format_size(size) if size is not None else "SIZE"
        made.problems.append(
            f"its disk {disk.target} ({disk.pool}/{disk.volume}) is not in the document; write"
            f" under disks: - {{name: {name}, pool: {disk.pool}, size: {written}}}"
        )
    return made


def _shared_disks(
    config: DomainConfig,
    volumes: Mapping[tuple[str, str], VolumeView],
    users: Mapping[str, Collection[str]],
) -> _Matched:
    made = _Matched()
    for disk in config.disks:
        view = volumes.get((disk.pool, disk.volume or ""))
        names = set(users.get(view.path, ()) if view is not None else ()) - {config.name}
        if disk.device == "disk" and names:
            made.problems.append(
                f"its disk {disk.target} ({disk.pool}/{disk.volume}) is used by domain"
                f" {min(names)}, too, and what is done with a guest's disk would be done to that:"
                f" take it out of {min(names)}, or undefine that, first"
            )
    return made


def _pool(disk: DiskConfig | Disk, host: HostView | None = None) -> str:
    return disk.pool or (host.default_pool if host is not None else "")


def _size(disk: DiskConfig, volumes: Mapping[tuple[str, str], VolumeView]) -> int | None:
    view = volumes.get((disk.pool, disk.volume or ""))
    return view.capacity if view is not None else None


def in_no_pool(disk: DiskConfig, host: HostView) -> str:
    """The message about a disk in no pool, which documents cannot express: what to do."""
    directory = (disk.volume or "").rpartition("/")[0]
    if not directory.startswith("/") or directory.startswith("/dev"):
        what = disk.volume or "no file"
        return (
            f"its disk {disk.target} is {what}, which is no volume of a pool; a guest's disks are"
            " in pools: move it into one, or leave the domain as it is"
        )
    return (
        f"its disk {disk.target} is {disk.volume}, which lies in no pool of host {host.name}; make"
        " one over that directory: virsh pool-define-as NAME dir --target"
        f" {shlex.quote(directory)}, then virsh pool-start NAME and virsh pool-autostart NAME"
    )


def _match_drives(desired: EffectiveGuest, host: HostView, config: DomainConfig) -> _Matched:
    made = _Matched()
    left = [disk for disk in config.disks if disk.device == "cdrom"]
    wishes = list(desired.spec.cdroms)
    for is_it in (_of_its_name, _has_its_volume):
        for wish in list(wishes):
            drive = next((drive for drive in left if is_it(wish, drive, host)), None)
            if drive is not None:
                made.aliases[drive.target] = f"cdrom-{wish.name}"
                left.remove(drive)
                wishes.remove(wish)
    # Drives with a medium that documents can express come first: others would be emptied.
    left.sort(key=lambda drive: medium_words(drive) is None)
    for drive, wish in zip(left, wishes, strict=False):
        made.aliases[drive.target] = f"cdrom-{wish.name}"
    for drive in left[len(wishes) :]:
        words = medium_words(drive)
        if words is None:
            continue
        holds = f", with {drive.volume} in it," if drive.volume else ""
        pool = f", pool: {drive.pool}" if drive.pool not in ("", host.default_pool) else ""
        volume = f", volume: {quoted(drive.volume)}" if drive.volume else ""
        made.problems.append(
            f"its CD-ROM drive {drive.target}{holds} is not in the document; write under cdroms:"
            f" - {{name: {drive.target}{pool}{volume}}}"
        )
    return made


def _of_its_name(wish: Cdrom, drive: DiskConfig, _host: HostView) -> bool:
    return wish.name == drive.target


def _has_its_volume(wish: Cdrom, drive: DiskConfig, host: HostView) -> bool:
    if wish.volume is None:
        return False
    return (wish.pool or host.default_pool, wish.volume) == drive.place


def _match_nics(desired: EffectiveGuest, config: DomainConfig) -> _Matched:
    made = _Matched()
    there = {nic.mac: nic for nic in config.nics}
    for mac, number in Counter(nic.mac for nic in config.nics).items():
        if number > 1:
            made.problems.append(same_mac(mac, number, config))
    if made.problems:
        return made
    for wish in desired.spec.interfaces:
        nic = there.get(wish.mac or "")
        if nic is None:
            continue
        del there[nic.mac]
        kind, _ = _network(wish)
        if nic.kind in NIC_KINDS and (kind == "user") == (nic.kind == "user"):
            made.aliases[nic.mac] = f"nic-{wish.name}"
        else:
            made.problems.append(_of_other_kind(wish, nic, config.name))
    left = [nic for nic in there.values() if can_be_written(nic)]
    for wish in desired.spec.interfaces:
        if wish.mac is None:
            found = next((nic for nic in left if (nic.kind, nic.source) == _network(wish)), None)
            if found is not None:
                made.aliases[found.mac] = f"nic-{wish.name}"
                left.remove(found)
    taken = {wish.name for wish in desired.spec.interfaces}
    for number, nic in enumerate(left):
        name = next(f"net{n}" for n in range(number, 10_000) if f"net{n}" not in taken)
        taken.add(name)
        source = quoted(nic.source) if nic.source else "{}"
        made.problems.append(
            f"its interface {nic.mac} ({_told(nic)}) is not in the document; write under"
            f' interfaces: - {{name: {name}, mac: "{nic.mac}", {nic.kind}: {source}}}'
        )
    return made


def can_be_written(nic: NicConfig) -> bool:
    """True if documents can express the interface."""
    return interface_words(nic) is not None


def same_mac(mac: str, number: int, config: DomainConfig) -> str:
    """The message about several interfaces with one MAC address: what it means, what to do."""
    what = f"{number} of its interfaces have the MAC address {mac or '(none)'}"
    kinds = {nic.kind for nic in config.nics if nic.mac == mac}
    if "hostdev" in kinds:
        return (
            f"{what}, as a team of a passed-through and a virtual card has; a guest has each MAC"
            " address once: leave the domain as it is"
        )
    edit = f"virsh edit {shlex.quote(config.name)}"
    return f"{what}, so nobody can tell which is which; give each its own: {edit}"


def _network(wish: Interface) -> tuple[str, str]:
    if wish.user is not None:
        return "user", ""
    return ("network", wish.network) if wish.network is not None else ("bridge", wish.bridge or "")


def _told(nic: NicConfig) -> str:
    return f"{nic.kind} {nic.source}".rstrip()


def _of_other_kind(wish: Interface, nic: NicConfig, domain: str) -> str:
    if nic.kind in NIC_KINDS:
        source = quoted(nic.source) if nic.source else "{}"
        remedy = f"write {nic.kind}: {source}, or leave its mac out"
    else:
        remedy = (
            f"take interfaces[{wish.name}] out of the document (the interface then stays as it is,"
            f" not managed), or detach it first: virsh detach-interface {domain} {nic.kind} --mac"
            f" {nic.mac} --config"
        )
    return f"its interface {nic.mac} is of kind {nic.kind}, and cannot become another; {remedy}"
