"""Lists volumes for operators: what uses each volume, and which are orphaned.

Every request reads all pools, because an overlay in one pool may have its base in another, and all
hosts, because two may share a directory: a domain of one may use what the other lists.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from controller.desired.catalog.snapshot import Snapshot
from controller.errors import GuestkeeperError
from controller.observed.base_names import image_of
from controller.observed.domain import DomainView
from controller.observed.file_uses import FileUses
from controller.observed.host import HostView, VolumeView
from controller.operator.answers import VolumesSeen
from controller.planning.volumes.usage import Users, volume_uses

_T = TypeVar("_T")


class Hosts(Protocol):
    """The part of the hypervisor that is used; every call may raise ``controller.errors``."""

    def owned(self, host: str) -> Collection[str]: ...
    def domain(self, host: str, name: str) -> DomainView | None: ...
    def volumes(self, host: str, pool: str) -> Sequence[VolumeView]: ...
    def file_uses(self, host: str) -> FileUses: ...


@dataclass(frozen=True, slots=True)
class _Used:
    """What uses volumes on one host. ``domains`` are ours, by name."""

    host: HostView
    files: FileUses
    domains: Mapping[str, DomainView]


@dataclass(frozen=True, slots=True)
class VolumeRequests:
    """Thread-safe. ``seed`` tells controllers apart, as the setting ``identity`` does."""

    world: Hosts
    hosts: Callable[[], Collection[HostView]]
    snapshot: Callable[[], Snapshot]
    seed: str

    def look(self) -> VolumesSeen:
        """Every volume that has to do with Guestkeeper, and the hosts that gave no answer."""
        unseen: dict[str, str] = {}
        hosts = list(self.hosts())
        for host in hosts:
            if not host.reachable:
                unseen[host.name] = host.why or "not reachable"
        # Users are read after volumes, so that a guest that is made meanwhile is seen.
        volumes = self._asked(hosts, self._volumes, unseen)
        used = self._asked(hosts, self._used, unseen)
        wanted = self.snapshot()
        known = Users(
            (),
            {},
            _expected(wanted, used),
            unknown=_unknown(wanted, unseen),
            hidden=_hidden(used.values()),
            ttl=_ttl(wanted),
            seed=self.seed,
        )
        found = {}
        for name in used:
            others = [one for host, some in volumes.items() if host != name for one in some]
            users = replace(_users(name, used, known), others=others)
            found[name] = volume_uses(volumes[name], users, image_of)
        return VolumesSeen(found, unseen)

    @staticmethod
    def _asked(
        hosts: Collection[HostView], ask: Callable[[HostView], _T], unseen: dict[str, str]
    ) -> dict[str, _T]:
        """The answers by host; hosts that give none are added to ``unseen``, with the reason."""
        answers = {}
        for host in hosts:
            if host.name in unseen:
                continue
            try:
                answers[host.name] = ask(host)
            except GuestkeeperError as error:
                # Half of a host's answer does not tell which volumes are used.
                unseen[host.name] = str(error)
        return answers

    def _volumes(self, host: HostView) -> list[VolumeView]:
        return [
            volume
            for pool in host.pools.values()
            if pool.active
            for volume in self.world.volumes(host.name, pool.name)
        ]

    def _used(self, host: HostView) -> _Used:
        files = self.world.file_uses(host.name)
        domains = {name: self.world.domain(host.name, name) for name in self.world.owned(host.name)}
        ours = {name: one for name, one in domains.items() if one is not None and one.ours}
        return _Used(host, files, ours)


def _users(host: str, used: Mapping[str, _Used], known: Users) -> Users:
    """``known`` with the domains of all hosts; what ``host`` says overrides the others' paths."""
    ordered = sorted(used.values(), key=lambda one: one.host.name == host)
    paths: dict[str, Collection[str]] = {}
    for one in ordered:
        paths |= {path: () for path in one.files.remembered if path not in paths}
        paths |= one.files.users
    domains = [domain for one in ordered for domain in one.domains.values()]
    return replace(known, domains=domains, paths=paths)


def _expected(
    snapshot: Snapshot, used: Mapping[str, _Used]
) -> Mapping[str, Collection[str] | None]:
    """The names of the disks that documents want, by guest; None where the document is unusable.

    Without ``system`` and ``seed`` for a guest with a domain: the domain says which those are.
    """
    found: dict[str, Collection[str] | None] = {}
    for name, guest in snapshot.guests.items():
        there = used.get(guest.spec.host)
        has_domain = there is not None and name in there.domains
        disks = {disk.name for disk in guest.spec.disks}
        found[name] = disks if has_domain else disks | {"system", "seed"}
    return found | dict.fromkeys((*snapshot.held, *snapshot.guest_problems))


def _unknown(snapshot: Snapshot, unseen: Mapping[str, str]) -> str:
    if unseen:
        host, why = min(unseen.items())
        return f"host {host} cannot be asked: {why}"
    return f"not all documents are known: {snapshot.uncertain}" if snapshot.uncertain else ""


def _hidden(used: Collection[_Used]) -> str:
    """Why users of volumes may be missing: the first path or pool that cannot be read, or ''."""
    found = [
        f"domain {min(names)} on host {one.host.name} has {path}, which is in no pool that runs"
        for one in used
        for path, names in sorted(one.files.loose.items())
    ]
    found += [
        f"pool {pool.name} on host {one.host.name} is stopped"
        for one in used
        for pool in one.host.pools.values()
        if not pool.active
    ]
    if not found:
        return ""
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return f"{found[0]}{more}: what that stands on is not known"


def _ttl(snapshot: Snapshot) -> Mapping[str, float]:
    known = {**snapshot.orphans, **snapshot.guests}
    return {name: guest.spec.update_policy.retired_disk_ttl for name, guest in known.items()}
