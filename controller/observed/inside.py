"""The inside of a guest, as one look found it. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class FileFact:
    """A file in the guest; ``sha256`` is None where there is none. ``mode`` is a number."""

    path: str
    sha256: str | None
    owner: str = ""
    group: str = ""
    mode: int = 0
    kind: str = ""
    """What stands there instead of a regular file: directory, symlink, other; '' otherwise."""


@dataclass(frozen=True, slots=True)
class UnitFact:
    """A systemd unit (``systemctl show``): its LoadState, ActiveState, UnitFileState."""

    unit: str
    load: str
    active: str
    enabled: str
    since: float | None = None
    """Seconds since the guest's boot when it became active (monotonic clock of the guest)."""
    sub: str = ""
    """SubState: running, exited, auto-restart, dead, failed, ..."""


@dataclass(frozen=True, slots=True)
class InsideView:
    """Everything one look (or the look that ends an apply) found."""

    looked_at: float  # epoch seconds of the host
    boot_id: str
    hostname: str
    packages: Mapping[str, str | None] = field(default_factory=dict)  # name -> version | None
    files: Mapping[str, FileFact] = field(default_factory=dict)
    units: Mapping[str, UnitFact] = field(default_factory=dict)
    missing_ssh_keys: int = 0
    addresses: tuple[str, ...] = ()
    cloud_init: str = ""
    """``cloud-init status``: '' where there is none, else running, done, error, disabled."""
    pending: tuple[str, ...] = ()
    """Services whose last apply was cut short before their unit took up a change: apply again."""
    changes: tuple[str, ...] = ()
    """What the apply that this look ended had to do, a line each; () after a mere look."""
