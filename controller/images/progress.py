"""Progress of an image's preparation: the same figures for a condition's message and for metrics.

Moving gigabytes takes minutes; an operator who sees no progress restarts the daemon.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

MIB = 1 << 20


class Told(Protocol):
    """Receives a transfer's progress: bytes done, bytes in all (None: not known), what failed."""

    def __call__(self, done: int, total: int | None, detail: str = "", /) -> None: ...


class Phase(StrEnum):
    WAITING = "waiting"
    DOWNLOADING = "downloading"
    CHECKING = "checking"
    UPLOADING = "uploading"
    INSTALLING = "installing"


@dataclass(frozen=True, slots=True)
class ImageProgress:
    """One preparation under way. ``done`` and ``total`` in bytes; ``total`` None: not known.

    ``since`` is when the preparation began, in epoch seconds.
    """

    image: str
    host: str
    pool: str
    phase: Phase
    done: int
    total: int | None
    since: float
    detail: str = ""
    """Text beside the figures: the attempt, the last failure, the installer's phase."""

    @property
    def message(self) -> str:
        """In an operator's words, such as ``uploading 312 of 880 MiB (35 %)``."""
        return ", ".join(part for part in (self._figures, self.detail) if part)

    @property
    def _figures(self) -> str:
        if self.phase is Phase.WAITING or (not self.done and not self.total):
            return str(self.phase)
        if not self.total:
            return f"{self.phase} {human(self.done)}"
        percent = min(100, self.done * 100 // self.total)
        if self.total < MIB:
            return f"{self.phase} {self.done} of {self.total} bytes ({percent} %)"
        done, total = self.done // MIB, -(-self.total // MIB)
        return f"{self.phase} {done} of {total} MiB ({percent} %)"


def human(size: int) -> str:
    """A size in bytes as text: ``880 MiB``, or ``512 bytes`` below one MiB."""
    return f"{size // MIB} MiB" if size >= MIB else f"{size} bytes"
