"""The vocabulary of a guest's status: conditions, the axes sync and health, the printable word."""

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache


class ConditionType(StrEnum):
    READY = "Ready"
    SYNCED = "Synced"
    PROVISIONED = "Provisioned"
    RUNNING = "Running"
    AGENT_CONNECTED = "AgentConnected"
    SERVICES_READY = "ServicesReady"
    RESTART_REQUIRED = "RestartRequired"
    STALLED = "Stalled"
    SUSPENDED = "Suspended"
    ORPHANED = "Orphaned"


class Status(StrEnum):
    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Sync(StrEnum):
    """Whether everything that Guestkeeper owns is as the documents say."""

    SYNCED = "Synced"
    OUT_OF_SYNC = "OutOfSync"
    UNKNOWN = "Unknown"


class Health(StrEnum):
    """Whether the guest does its work."""

    HEALTHY = "Healthy"
    PROGRESSING = "Progressing"
    DEGRADED = "Degraded"
    MISSING = "Missing"
    SUSPENDED = "Suspended"
    UNKNOWN = "Unknown"


class Printable(StrEnum):
    """The one word that lists show for a guest; the first that fits, in this order."""

    TERMINATING = "Terminating"
    INSTALLING = "Installing"
    REPLACING = "Replacing"
    STARTING = "Starting"
    STOPPING = "Stopping"
    PAUSED = "Paused"
    CRASH_LOOP = "CrashLoopBackOff"
    STALLED = "Stalled"
    DEGRADED = "Degraded"
    RESTART_REQUIRED = "RestartRequired"
    HEALTHY = "Healthy"
    STOPPED = "Stopped"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition. Since when it holds is kept by ``StatusStore``, which has the previous one."""

    type: ConditionType
    status: Status
    reason: str
    message: str = ""


def true(type: ConditionType, reason: str, message: str = "") -> Condition:
    return _condition(type, Status.TRUE, reason, message)


def false(type: ConditionType, reason: str, message: str = "") -> Condition:
    return _condition(type, Status.FALSE, reason, message)


def unknown(type: ConditionType, reason: str, message: str = "") -> Condition:
    return _condition(type, Status.UNKNOWN, reason, message)


@lru_cache(maxsize=1024)
def _condition(type: ConditionType, status: Status, reason: str, message: str) -> Condition:
    """Shares one object among equal conditions: thousands of healthy guests have the same ones."""
    return Condition(type, status, reason, message)
