"""Results of probes: one frozen value for each probe. No I/O."""

from dataclasses import dataclass
from enum import StrEnum


class ProbeStatus(StrEnum):
    """UNKNOWN is not failure: nothing was learnt, so nothing may be done because of it."""

    UNKNOWN = "Unknown"
    STARTING = "Starting"  # failing, but within its startup budget
    SUCCESS = "Success"
    FAILURE = "Failure"  # failed failureThreshold times in a row


@dataclass(frozen=True, slots=True)
class ProbeView:
    """The state of one probe. Times are epoch seconds."""

    service: str
    probe: str
    status: ProbeStatus
    message: str
    since: float
    """When the probe got this status."""
    checked_at: float | None = None


@dataclass(frozen=True, slots=True)
class ProbeTarget:
    """One probe to run: what to check, where, and with which thresholds. Times are in seconds."""

    guest: str
    host: str
    service: str
    probe: str
    kind: str  # httpGet | tcpSocket | exec | systemdUnit | guestAgentPing
    inside: bool  # run within the guest, through its agent
    address: str | None  # from the host: where to connect; None: no address is known
    port: int | None
    path: str
    scheme: str
    headers: tuple[tuple[str, str], ...]
    command: tuple[str, ...]  # exec: the command; systemdUnit: (unit,)
    period: float
    timeout: float
    failure_threshold: int
    success_threshold: int
    initial_delay: float
    startup: float
    epoch: str
    """Changes when the target began anew (boot, apply): thresholds and startup budget restart."""
