"""The one small hierarchy of errors that crosses rooms.

Adapters translate what libvirt, SQLite or httpx raise into these at their edge, so the loop needs
to know two things only: may it be tried again, and what should the operator read.
"""

import shlex


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


class FilesystemsFrozenError(AgentUnavailableError):
    """A backup or snapshot has frozen the file systems of guest ``name``: it is left alone."""

    reason = "FilesystemsFrozen"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"the file systems of {name} are frozen (a backup or snapshot runs), so nothing is done"
            f" to it; if none runs: virsh domfsthaw {shlex.quote(name)}",
            retry_after=5.0,
        )


class PermanentError(GuestkeeperError):
    """It will fail again until somebody changes something; the message says what."""

    reason = "PermanentFailure"


class AgentRefusedError(PermanentError):
    """The guest agent is there and says no. ``said`` are its words, which may be anything."""

    reason = "AgentRefused"

    def __init__(self, message: str, *, said: str = "") -> None:
        super().__init__(message)
        self.said = said
