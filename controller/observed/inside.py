"""The inside of a guest, as one look found it. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class FileFact:
    """A file in the guest; ``sha256`` is None if it is no regular file. ``mode`` is a number."""

    path: str
    sha256: str | None
    owner: str = ""
    group: str = ""
    mode: int = 0


@dataclass(frozen=True, slots=True)
class UnitFact:
    """A systemd unit (``systemctl show``): its ActiveState and UnitFileState.

    ``ran``: a ``Type=oneshot`` unit without ``RemainAfterExit`` has done its work since the guest
    started, so it is right that it is inactive.
    """

    unit: str
    active: str
    enabled: str
    ran: bool = False


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
    """``cloud-init status``: '' if there is none, else running, done, error, disabled."""
    pending: tuple[str, ...] = ()
    """Services whose last apply was interrupted before their unit took the change: apply again."""
