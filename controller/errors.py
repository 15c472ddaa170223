"""The one small hierarchy of errors that crosses rooms.

Adapters translate what libvirt, SQLite or httpx raise into these at their edge, so the loop needs
to know two things only: may it be tried again, and what should the operator read.
"""


class GuestkeeperError(Exception):
    """Base of every error the daemon raises on purpose.

    ``reason`` is the CamelCase word that conditions, the journal and metric labels share.
    """

    reason = "Failed"

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        if reason is not None:
            self.reason = reason


class TransientError(GuestkeeperError):
    """It may work later: try again, after ``retry_after`` seconds where the raiser knows better."""

    reason = "TransientFailure"

    def __init__(
        self, message: str, *, reason: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message, reason=reason)
        self.retry_after = retry_after


class HostUnreachableError(TransientError):
    """No answer from the host (connection gone or deadline passed): nothing is known, so no act."""

    reason = "HostUnreachable"


class HostBusyError(TransientError):
    """Too many calls to the host are under way; nothing was tried."""

    reason = "HostBusy"


class AgentUnavailableError(TransientError):
    """The guest agent does not answer (not started yet, stopped, or file systems frozen)."""

    reason = "AgentUnavailable"


class PermanentError(GuestkeeperError):
    """It will fail again until somebody changes something; the message says what."""

    reason = "PermanentFailure"
