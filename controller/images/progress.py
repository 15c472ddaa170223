"""How far an image's preparation is: the same figures for a condition's message and for metrics.

Minutes pass while gigabytes move; an operator who sees nothing move restarts the daemon.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

MIB = 1 << 20


class Told(Protocol):
    """Hears how far a transfer is: bytes done, bytes in all (None: not known), and what failed."""

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
    """What there is to say beside the figures: the attempt, what failed last, what the installer
    says.
    """

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
    """Bytes for reading: ``880 MiB``, or ``512 bytes`` below one."""
    return f"{size // MIB} MiB" if size >= MIB else f"{size} bytes"
