"""The observed state of an Image in one pool of a host. No I/O."""

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
    """FAILED without tries left: nothing is tried until ``guestkeeper retry IMAGE``."""
    changed_at: float = 0.0
    """READY: epoch seconds when the base was written to after it was made; 0 if it was not."""
    written_by: tuple[str, ...] = ()
    """Domains that run with the base itself as their disk, and so change it."""
    log_tail: str = ""
    """FAILED by an install: the last lines of the installer's output, without secrets."""

    @property
    def spoiled(self) -> bool:
        """Whether the base's content is not the image's any more, or soon will not be."""
        return self.changed_at > 0 or self.written_by != ()
