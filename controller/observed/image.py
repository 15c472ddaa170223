"""An Image on one host's pool: is its base volume there? No I/O."""

from dataclasses import dataclass
from enum import StrEnum


class ImageState(StrEnum):
    MISSING = "Missing"
    PREPARING = "Preparing"
    READY = "Ready"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class ImageView:
    """``base`` and the boot volumes are names in ``pool``; paths are on that host."""

    name: str
    host: str
    pool: str
    state: ImageState
    message: str = ""
    base: str | None = None
    base_path: str | None = None
    base_format: str = "qcow2"
    capacity: int = 0  # the disk's virtual size, bytes
    kernel_path: str | None = None
    initrd_path: str | None = None
    retry_at: float | None = None  # FAILED: epoch seconds of the next try
    reason: str = ""
    stalled: bool = False
    """FAILED, and its tries are used up: nothing is tried until ``guestkeeper retry IMAGE``."""
    changed_at: float = 0.0
    """READY: when the base was written to after it was made, epoch seconds; 0: it was not."""
    written_by: tuple[str, ...] = ()
    """Domains whose running disk is the base itself, which so change it."""
    log_tail: str = ""
    """FAILED by an install: the last lines of what the installer said, without secrets."""

    @property
    def spoiled(self) -> bool:
        """Is what the base holds not what the image is, any more or soon?"""
        return self.changed_at > 0 or self.written_by != ()
