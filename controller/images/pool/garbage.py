"""Find and delete base and boot volumes that nobody uses any more.

A base is in use while any volume is an overlay of it, or any domain of the host, ours or not,
names it. One that an Image of this daemon wants stays, too. The others have a time to live, because
somebody may put the old document back. When that began is kept in a small file, so that a daemon
that is restarted daily deletes bases as well.
"""

import json
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

import structlog

from controller.errors import GuestkeeperError, HostUnreachableError, PermanentError
from controller.images.ports import Builders
from controller.observed.base_names import file_name, is_base_name, marker_name
from controller.observed.host import VolumeView

_log = structlog.get_logger(__name__)
_SEEN = 600.0
"""Seconds for which this daemon itself must have seen a base unused, whatever the file says."""


class Bases:
    """Use from one thread. ``ttl`` in seconds; ``on_collected(volume, host)`` must not block."""

    def __init__(
        self,
        builders: Builders,
        memory: Path,
        *,
        ttl: float,
        clock: Callable[[], float],
        on_collected: Callable[[str, str], None],
    ) -> None:
        self._builders = builders
        self._memory = memory
        self._ttl = ttl
        self._clock = clock
        self._on_collected = on_collected
        self._seen: dict[str, float] = {}  # since when this daemon itself sees it unused

    def collect(
        self, host: str, pools: Collection[str], wanted: Callable[[str, str], bool]
    ) -> None:
        """Delete volumes in ``pools`` that have been unused for ``ttl``.

        ``wanted(pool, volume)`` is called again right before each deletion. Raises what the host's
        calls raise.
        """
        since = self._load()
        try:
            for pool in pools:
                self._collect(host, pool, wanted, since)
        finally:
            self._save(since)

    def _collect(
        self,
        host: str,
        pool: str,
        wanted: Callable[[str, str], bool],
        since: dict[str, float],
    ) -> None:
        now, here = self._clock(), f"{host}/{pool}/"
        try:
            unused = {
                volume.name for volume in self._unused(host, pool) if not wanted(pool, volume.name)
            }
        except HostUnreachableError:
            raise
        except GuestkeeperError as error:  # of this pool; the others are still looked at
            _log.warning("bases were not looked at", host=host, pool=pool, why=str(error))
            return
        for key in [key for key in since if key.startswith(here)]:
            if key.removeprefix(here) not in unused:
                del since[key]
                self._seen.pop(key, None)
        for name in sorted(unused):
            began = since.setdefault(here + name, now)
            if began > now:  # the clock was set back
                since[here + name] = began = now
            # The clock may have been wrong for an earlier daemon, or when this one started.
            seen = now - self._seen.setdefault(here + name, now) >= min(_SEEN, self._ttl)
            over = now - began >= self._ttl
            if over and seen and self._delete(host, pool, name, wanted):
                del since[here + name]
                del self._seen[here + name]

    def _delete(self, host: str, pool: str, name: str, wanted: Callable[[str, str], bool]) -> bool:
        """Look once more, then delete the marker first: half deleted, it is no base."""
        try:
            still = {volume.name for volume in self._unused(host, pool)}
        except HostUnreachableError:
            raise
        except GuestkeeperError as error:  # whether it is used is not known
            _log.info("base stays for now", host=host, pool=pool, volume=name, why=str(error))
            return False
        if name not in still or wanted(pool, name):
            return False
        _log.info("deleting an unused base", host=host, pool=pool, volume=name)
        self._builders.delete_volume(host, pool, marker_name(name))
        self._builders.delete_volume(host, pool, name)
        self._on_collected(name, host)
        return True

    def _unused(self, host: str, pool: str) -> Iterable[VolumeView]:
        """The unused bases. What is used is read last, to include a guest that is made meanwhile.

        Compares file names, not paths: a name holds a digest, a path may be written in many ways.
        """
        there = self._builders.scanned_volumes(host, pool)
        candidates = [volume for volume in there if is_base_name(volume.name)]
        if not candidates:
            return []
        used = {file_name(path) for path in self._builders.file_paths(host)}
        for other in self._builders.host(host).all_pools():
            if not other.active:
                raise PermanentError(
                    f"pool {other.name} of host {host} is not active: what stands on bases there is"
                    " not known",
                    reason="PoolInactive",
                )
            backings = (one.backing for one in self._builders.scanned_volumes(host, other.name))
            used |= {file_name(path) for path in backings if path is not None}
        return [volume for volume in candidates if file_name(volume.path) not in used]

    def _load(self) -> dict[str, float]:
        try:
            raw = json.loads(self._memory.read_text(encoding="utf-8"))
            return {str(key): float(value) for key, value in raw.items()}
        except (OSError, ValueError, AttributeError, TypeError):
            return {}

    def _save(self, since: dict[str, float]) -> None:
        if since == self._load():
            return
        try:
            part = self._memory.with_suffix(".tmp")
            part.write_text(json.dumps(since, sort_keys=True), encoding="utf-8")
            part.replace(self._memory)
        except OSError as error:  # the time to live begins anew with the next daemon
            _log.warning("unused bases cannot be noted", path=str(self._memory), why=str(error))
