"""The words a guest's status is told in: conditions, the two axes, the one printable word."""

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
    """Is what we own as the documents say?"""

    SYNCED = "Synced"
    OUT_OF_SYNC = "OutOfSync"
    UNKNOWN = "Unknown"


class Health(StrEnum):
    """Does it do its work?"""

    HEALTHY = "Healthy"
    PROGRESSING = "Progressing"
    DEGRADED = "Degraded"
    MISSING = "Missing"
    SUSPENDED = "Suspended"
    UNKNOWN = "Unknown"


class Printable(StrEnum):
    """The one word of a list; the first that fits, in this order."""

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
    """``since`` is kept by the status store, which sees the one before."""

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
    """One object for equal ones: thousands of guests that are well say the same of themselves."""
    return Condition(type, status, reason, message)
