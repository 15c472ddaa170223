"""Does anybody stand on a volume that is about to be deleted for good?

A system disk that was taken out may have become the backing file of an operator's clone, or the
disk of another domain; neither is in the metadata of the guest that it was of. So whoever deletes a
volume asks first. A file of the same name counts as the same, as a path may be written in many
ways; and what cannot be told raises: a volume that stays costs less than one that is missed.
"""

import posixpath
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from controller.errors import PermanentError, TransientError
from controller.observed.domain import DomainView
from controller.observed.host import HostView, VolumeView

_KEPT = 2.0
"""Seconds for which a host's answer is good: many guests may lose their old disks in a row."""


class Hosts(Protocol):
    """What is asked of the hypervisor room; every call may raise ``controller.errors``."""

    def host(self, host: str) -> HostView: ...

    def domain(self, host: str, name: str) -> DomainView | None: ...

    def volume(self, host: str, pool: str, name: str) -> VolumeView | None: ...

    def absent(self, host: str, pool: str, names: Collection[str]) -> frozenset[str]: ...

    def scanned_volumes(self, host: str, pool: str) -> Sequence[VolumeView]: ...

    def file_users(self, host: str) -> Mapping[str, frozenset[str]]:
        """Every path that a domain there names or stands on, with the names of those domains.

        What only the record of a guest names is none of them.
        """


@dataclass(frozen=True, slots=True)
class _Seen:
    """A host's files by their names: the domains that use one, the volumes that overlay one."""

    domains: Mapping[str, frozenset[str]]
    overlays: Mapping[str, frozenset[tuple[str, str]]]


class InUse:
    """Thread-safe. Asking costs one pass over the host's domains and volumes, kept for a moment."""

    def __init__(self, hosts: Hosts, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._hosts = hosts
        self._clock = clock
        self._lock = threading.Lock()
        self._looking: dict[str, threading.Lock] = {}
        self._seen: dict[str, tuple[float, _Seen]] = {}

    def check(self, host: str, guest: str, pool: str, volume: str) -> None:
        """For a volume of ``guest``, whose own domain counts, too: a retired disk may be attached
        to it by hand. Only the disks that go with a deleted guest are still in its definition.

        Raises ``PermanentError(reason="VolumeInUse")``, ``TransientError(reason="PoolBusy")`` where
        it cannot be told whether the volume is there, and what the host's calls raise.
        """
        view = self._hosts.volume(host, pool, volume)
        if view is None:
            if volume in self._hosts.absent(host, pool, [volume]):
                return
            view = self._hosts.volume(host, pool, volume)  # which that look may have found
        if view is None:
            raise TransientError(
                f"volume {pool}/{volume} is not deleted: whether it is there, and who uses it, is"
                " not known just now; it is tried again",
                reason="PoolBusy",
            )
        file, seen = posixpath.basename(view.path), self._look(host)
        users = sorted(seen.domains.get(file, frozenset()))
        if guest in users and self._goes_with(host, guest, view):
            users.remove(guest)
        overlays = sorted(seen.overlays.get(file, frozenset()) - {(pool, volume)})
        if users:
            who = f"domain {users[0]} uses it"
        elif overlays:
            who = f"volume {'/'.join(overlays[0])} is an overlay of it"
        else:
            return
        raise PermanentError(
            f"volume {pool}/{volume} is not deleted: {who}; delete or move that first",
            reason="VolumeInUse",
        )

    def _goes_with(self, host: str, guest: str, volume: VolumeView) -> bool:
        """Is it a disk of ours of a guest that is off, and is being deleted?"""
        domain = self._hosts.domain(host, guest)
        if domain is None or not domain.ours or domain.live is not None:
            return False
        owner, places = domain.ownership, ((volume.pool, volume.name), ("", volume.path))
        deleting = owner is not None and owner.record.deleting
        return deleting and any(one.place in places for one in domain.config.disks)

    def _look(self, host: str) -> _Seen:
        """One thread asks, the others wait for its answer."""
        with self._lock:
            looking = self._looking.setdefault(host, threading.Lock())
        with looking:
            at, seen = self._seen.get(host, (0.0, None))
            if seen is None or not 0 <= self._clock() - at < _KEPT:
                seen = self._ask(host)
                self._seen[host] = self._clock(), seen
            return seen

    def _ask(self, host: str) -> _Seen:
        """Domains last: one that is made meanwhile is seen."""
        overlays: dict[str, set[tuple[str, str]]] = {}
        for pool in self._hosts.host(host).all_pools():
            for volume in self._hosts.scanned_volumes(host, pool.name) if pool.active else ():
                if volume.backing is not None:
                    name = posixpath.basename(volume.backing)
                    overlays.setdefault(name, set()).add((volume.pool, volume.name))
        domains: dict[str, set[str]] = {}
        for path, names in self._hosts.file_users(host).items():
            domains.setdefault(posixpath.basename(path), set()).update(names)
        return _Seen(
            {file: frozenset(names) for file, names in domains.items()},
            {file: frozenset(found) for file, found in overlays.items()},
        )
