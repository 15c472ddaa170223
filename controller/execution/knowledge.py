"""What effects have learnt and the next look takes into account: looks inside, failures.

In memory only. Losing it costs one look inside and an earlier retry; what must not be lost is in
the domain's metadata.
"""

import threading

from controller.errors import GuestkeeperError, PermanentError, TransientError
from controller.observed.guest import Failure
from controller.observed.inside import InsideView

TRANSIENT_DELAY = 2.0
PERMANENT_DELAY = 10.0
MAX_DELAY = 300.0


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
        """Remembers a failed step; attempts count on for the same step of the same spec."""
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
        """The step went well: a failure of it is over."""
        with self._lock:
            last = self._failures.get(guest)
            if last is not None and last.step == step:
                del self._failures[guest]

    def mended(self, guest: str) -> None:
        """All is well: no failure is left to tell of."""
        if guest in self._failures:
            with self._lock:
                self._failures.pop(guest, None)

    def forget(self, guest: str) -> None:
        """The guest is gone."""
        with self._lock:
            self._inside.pop(guest, None)
            self._failures.pop(guest, None)
