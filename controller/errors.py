"""The exceptions that all packages share: transient ones, permanent ones, and a few special cases.

Adapters translate the exceptions of libvirt, SQLite and httpx into these, so the loop needs to know
only two things: may the action be tried again, and what should the operator read.
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
    """A failure that may pass: retry, after ``retry_after`` seconds if the raiser gave that."""

    reason = "TransientFailure"

    def __init__(
        self, message: str, *, reason: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message, reason=reason)
        self.retry_after = retry_after


class HostUnreachableError(TransientError):
    """No answer from the host (connection lost or deadline passed): nothing is known or done."""

    reason = "HostUnreachable"


class HostBusyError(TransientError):
    """Too many calls to the host are under way; nothing was tried."""

    reason = "HostBusy"


class AgentUnavailableError(TransientError):
    """The guest agent does not answer (not started yet, stopped, or file systems frozen)."""

    reason = "AgentUnavailable"


class FilesystemsFrozenError(AgentUnavailableError):
    """A backup or snapshot froze the file systems of guest ``name``: the guest is left alone."""

    reason = "FilesystemsFrozen"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"the file systems of {name} are frozen (a backup or snapshot runs), so nothing is done"
            f" to it; if none runs: virsh domfsthaw {shlex.quote(name)}",
            retry_after=5.0,
        )


class PermanentError(GuestkeeperError):
    """A failure that repeats until somebody changes something; the message says what to change."""

    reason = "PermanentFailure"


class AgentRefusedError(PermanentError):
    """The guest agent answered with an error. ``said`` is its text, which is not to be trusted."""

    reason = "AgentRefused"

    def __init__(self, message: str, *, said: str = "") -> None:
        super().__init__(message)
        self.said = said
