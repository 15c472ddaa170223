"""Checks that no domain and no overlay uses a volume before it is deleted.

A retired system disk may have become the backing file of an operator's clone, or the disk of
another domain; the metadata of its former guest shows neither. So every deletion of a volume checks
this first. Files of the same name count as the same file, because a path can be written in many
ways. What cannot be determined raises: to keep a volume costs less than to lose one in use.
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
"""Seconds for which a host's answer is reused: many guests may lose old disks in a row."""


class Hosts(Protocol):
    """The calls used from the hypervisor adapter; each may raise ``controller.errors``."""

    def host(self, host: str) -> HostView: ...

    def domain(self, host: str, name: str) -> DomainView | None: ...

    def volume(self, host: str, pool: str, name: str) -> VolumeView | None: ...

    def absent(self, host: str, pool: str, names: Collection[str]) -> frozenset[str]: ...

    def scanned_volumes(self, host: str, pool: str) -> Sequence[VolumeView]: ...

    def file_users(self, host: str) -> Mapping[str, frozenset[str]]:
        """The paths that domains of the host use, also as backing files -> names of those domains.

        A path that only a guest's record names is not included.
        """


@dataclass(frozen=True, slots=True)
class _Seen:
    """By file name, on one host: the domains that use the file, the volumes that overlay it."""

    domains: Mapping[str, frozenset[str]]
    overlays: Mapping[str, frozenset[tuple[str, str]]]


class InUse:
    """Thread-safe. Reads all domains and volumes of the host, at most every ``_KEPT`` seconds."""

    def __init__(self, hosts: Hosts, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._hosts = hosts
        self._clock = clock
        self._lock = threading.Lock()
        self._looking: dict[str, threading.Lock] = {}
        self._seen: dict[str, tuple[float, _Seen]] = {}

    def check(self, host: str, guest: str, pool: str, volume: str) -> None:
        """Raises unless the volume of ``guest`` is unused or absent. The guest's own domain counts
        as a user, because a retired disk may be attached to it by hand; the exception are disks
        that are deleted with the guest, which are still in its definition.

        Raises ``PermanentError(reason="VolumeInUse")``, ``TransientError(reason="PoolBusy")`` where
        it is not known whether the volume is there, and what the host's calls raise.
        """
        view = self._hosts.volume(host, pool, volume)
        if view is None:
            if volume in self._hosts.absent(host, pool, [volume]):
                return
            view = self._hosts.volume(host, pool, volume)  # ``absent`` may have refreshed the pool
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
        """True if ``guest`` is ours, off and being deleted, and its definition has the volume."""
        domain = self._hosts.domain(host, guest)
        if domain is None or not domain.ours or domain.live is not None:
            return False
        owner, places = domain.ownership, ((volume.pool, volume.name), ("", volume.path))
        deleting = owner is not None and owner.record.deleting
        return deleting and any(one.place in places for one in domain.config.disks)

    def _look(self, host: str) -> _Seen:
        """The host's files, as of at most ``_KEPT`` seconds ago; one thread asks, others wait."""
        with self._lock:
            looking = self._looking.setdefault(host, threading.Lock())
        with looking:
            at, seen = self._seen.get(host, (0.0, None))
            if seen is None or not 0 <= self._clock() - at < _KEPT:
                seen = self._ask(host)
                self._seen[host] = self._clock(), seen
            return seen

    def _ask(self, host: str) -> _Seen:
        """Reads volumes first and domains last, so that a domain made meanwhile is seen."""
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
