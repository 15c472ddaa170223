"""Results of steps that the next observation takes into account: facts from inside the guests,
failures, sizes of volumes, repeated steps.

In memory only. To lose them costs one look inside and an earlier retry; what must not be lost is in
the domain's metadata.
"""

import threading
from collections.abc import Mapping

from controller.errors import GuestkeeperError, PermanentError, TransientError
from controller.observed.guest import Failure, Repeat
from controller.observed.host import VolumeView
from controller.observed.inside import InsideView
from controller.planning.repetition import FREE, QUIET, pause

TRANSIENT_DELAY = 2.0
PERMANENT_DELAY = 10.0
MAX_DELAY = 300.0
SIZES_INTERVAL = 600.0
"""Seconds for which a disk's size is trusted: libvirt has no event for a change of it."""


def retry_delay(error: GuestkeeperError, attempts: int) -> float:
    """Seconds until a step that failed ``attempts`` times is tried again: doubling, capped."""
    if isinstance(error, TransientError) and error.retry_after is not None:
        return error.retry_after
    base = PERMANENT_DELAY if isinstance(error, PermanentError) else TRANSIENT_DELAY
    return float(min(base * 2 ** min(attempts - 1, 30), MAX_DELAY))


class Knowledge:
    """Thread-safe; keyed by guest. Times are epoch seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside: dict[str, InsideView] = {}
        self._failures: dict[str, Failure] = {}
        self._sizes: dict[str, tuple[float, Mapping[tuple[str, str], VolumeView]]] = {}
        self._done: dict[str, tuple[str, dict[int, tuple[int, float]]]] = {}
        """Guest -> (digest of its document, content of a step -> (how often, last time))."""
        self._refused: dict[str, int] = {}
        self._missing: dict[str, frozenset[tuple[str, str]]] = {}

    def volumes(self, guest: str, now: float) -> Mapping[tuple[str, str], VolumeView] | None:
        """The volumes of the guest's disks as last observed; None if that is more than
        ``SIZES_INTERVAL`` seconds ago.
        """
        at, found = self._sizes.get(guest, (0.0, None))
        return found if found is not None and 0 <= now - at < SIZES_INTERVAL else None

    def saw_volumes(
        self, guest: str, found: Mapping[tuple[str, str], VolumeView], now: float
    ) -> None:
        with self._lock:
            self._sizes[guest] = now, found

    def missing(self, guest: str) -> frozenset[tuple[str, str]]:
        """Volumes (pool, name) that the guest should have, and that were last seen missing."""
        return self._missing.get(guest, frozenset())

    def missed(self, guest: str, places: frozenset[tuple[str, str]]) -> None:
        with self._lock:
            self._missing.pop(guest, None)
            if places:
                self._missing[guest] = places

    def forget_sizes(self, guest: str) -> None:
        """Makes the next observation read the volumes again, because a disk was changed."""
        with self._lock:
            self._sizes.pop(guest, None)
            self._missing.pop(guest, None)

    def inside(self, guest: str) -> InsideView | None:
        return self._inside.get(guest)

    def failure(self, guest: str) -> Failure | None:
        return self._failures.get(guest)

    def learnt(self, guest: str, view: InsideView) -> None:
        with self._lock:
            self._inside[guest] = view

    def failed(
        self, guest: str, step: str, error: GuestkeeperError, digest: str, now: float
    ) -> Failure:
        """Notes a failed step; ``attempts`` grows for the same step of the same spec."""
        with self._lock:
            last = self._failures.get(guest)
            same = last is not None and (last.step, last.digest) == (step, digest)
            attempts = last.attempts + 1 if last is not None and same else 1
            failure = Failure(
                step=step,
                reason=error.reason,
                message=str(error),
                at=now,
                attempts=attempts,
                retry_at=now + retry_delay(error, attempts),
                digest=digest,
            )
            self._failures[guest] = failure
            return failure

    def succeeded(self, guest: str, step: str) -> None:
        """Removes the noted failure of ``step``, which succeeded."""
        with self._lock:
            if step != "Look":
                self._refused.pop(guest, None)
            last = self._failures.get(guest)
            if last is not None and last.step == step:
                del self._failures[guest]

    def did(self, guest: str, digest: str, content: int, now: float) -> int:
        """Counts a step that was done for the document, or may have been; returns how many times in
        a row.

        Steps done for an earlier document do not count any more.
        """
        with self._lock:
            last, done = self._done.get(guest, (digest, {}))
            if last != digest:
                done = {}
            self._done[guest] = digest, done
            for old in [one for one, (_, last) in done.items() if now - last > QUIET]:
                del done[old]
            times = done.get(content, (0, 0.0))[0] + 1
            done[content] = times, now
            return times

    def repeats(self, guest: str, digest: str, now: float) -> tuple[Repeat, ...]:
        """The steps that have to wait before they are repeated for that document."""
        with self._lock:
            last, done = self._done.get(guest, ("", {}))
            items = tuple(done.items()) if last == digest else ()
        return tuple(
            Repeat(content, times, last + pause(times))
            for content, (times, last) in items
            if times >= FREE and now - last <= QUIET
        )

    def begins_anew(self, guest: str) -> None:
        """Resets the counts of repeated steps, because an operator made a request."""
        with self._lock:
            self._done.pop(guest, None)

    def refused(self, guest: str) -> int:
        """Counts that a busy host refused to try a step; returns how many times in a row."""
        with self._lock:
            self._refused[guest] = self._refused.get(guest, 0) + 1
            return self._refused[guest]

    def mended(self, guest: str) -> None:
        """Removes any noted failure: the guest is as it should be."""
        if guest in self._failures:
            with self._lock:
                self._failures.pop(guest, None)

    def forget(self, guest: str) -> None:
        """Removes everything about a guest that is gone."""
        with self._lock:
            self._inside.pop(guest, None)
            self._failures.pop(guest, None)
            self._sizes.pop(guest, None)
            self._done.pop(guest, None)
            self._refused.pop(guest, None)
            self._missing.pop(guest, None)
