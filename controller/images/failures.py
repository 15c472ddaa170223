"""Failures of preparing an image, kept to be shown and to be retried with growing backoff.

A failure is about what was tried. When the Image or a file changes, something else would be tried,
so the failure no longer applies, and its backoff does not either. Every failure is kept, also
one that says nothing about the image: without a pause the loop would retry at once, for ever.
"""

from dataclasses import dataclass

from controller.errors import GuestkeeperError, HostUnreachableError, PermanentError, TransientError
from controller.images.fetch.digests import Signature

_FIRST_RETRY, _LAST_RETRY = 10.0, 300.0
_FIRST_LOOK, _LAST_LOOK = 10.0, 60.0
_FIRST_REFETCH, _LAST_REFETCH = 300.0, 3600.0  # a wrong download: spare the mirror

Subject = tuple[str, tuple[Signature | None, ...]]
"""What was tried: the Image's digest and its local files."""


@dataclass(frozen=True, slots=True)
class Failure:
    """``count`` failures of ``subject`` in a row; ``retry_at`` in epoch seconds."""

    subject: Subject
    error: GuestkeeperError
    count: int
    retry_at: float

    @classmethod
    def after(
        cls,
        before: "Failure | None",
        subject: Subject,
        error: Exception,
        now: float,
        *,
        remote: bool,
    ) -> "Failure":
        """The failure that follows ``before``, with the error's own pause or exponential backoff.

        An unreachable host is not counted, and is tried again after the first pause.
        """
        if not isinstance(error, GuestkeeperError):
            error = TransientError(f"an unexpected failure: {error!r}", reason="InternalError")
        count = before.count if before is not None else 0
        if isinstance(error, HostUnreachableError):
            return cls(subject, error, count, now + _FIRST_RETRY)
        count += 1
        if isinstance(error, TransientError) and error.retry_after is not None:
            delay = error.retry_after
        else:
            refetch = remote and error.reason == "ChecksumMismatch"
            first = _FIRST_REFETCH if refetch else _FIRST_RETRY
            last = _LAST_REFETCH if refetch else _LAST_RETRY
            delay = min(last, first * 2.0 ** min(count - 1, 16))
        return cls(subject, error, count, now + delay)

    def holds(self, subject: Subject, now: float) -> bool:
        """Whether it still applies; until ``retry_at`` also where a file changes all the time."""
        if self.error.reason == "ImageChanging" and now < self.retry_at:
            return True
        return subject == self.subject

    @property
    def next_try(self) -> str:
        """The text shown during the next try."""
        return f"try {self.count + 1}, after: {self.error}"

    def again(self, now: float) -> GuestkeeperError:
        """A copy of the error to raise again, with a traceback of its own."""
        if isinstance(self.error, PermanentError):
            return PermanentError(str(self.error), reason=self.error.reason)
        wait = max(0.0, self.retry_at - now)
        return TransientError(str(self.error), reason=self.error.reason, retry_after=wait)


@dataclass(frozen=True, slots=True)
class Unread:
    """Volumes that cannot be looked at now, which is no reason to forget what was known of them.

    They are not looked at again before ``until`` (monotonic seconds).
    """

    digests: tuple[str, ...]
    error: GuestkeeperError
    until: float
    pause: float

    @classmethod
    def after(
        cls, before: "Unread | None", digests: tuple[str, ...], error: GuestkeeperError, now: float
    ) -> "Unread":
        """The one that follows ``before``, with the error's own pause or one that doubles."""
        pause = min(2 * before.pause, _LAST_LOOK) if before is not None else _FIRST_LOOK
        own = error.retry_after if isinstance(error, TransientError) else None
        return cls(digests, error, now + (pause if own is None else own), pause)
