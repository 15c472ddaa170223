"""Run commands in a guest through its QEMU guest agent.

``guest-exec`` only starts a command; it has no deadline and does not wait for the end. This module
makes one call of it: the command is wrapped in ``timeout(1)`` and polled until it ended, its output
is decoded, and the agent's refusals become the project's errors.

The guest controls its agent, so an answer may be anything: one that breaks the agent's protocol is
a ``TransientError`` of the reason ``FactsUnreadable``, and messages quote it only ``printable``.
"""

import base64
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from controller.errors import (
    AgentRefusedError,
    FilesystemsFrozenError,
    GuestkeeperError,
    HostUnreachableError,
    PermanentError,
    TransientError,
)
from controller.observed.guest_text import printable

AgentCommand = Callable[[str, str, str, float], str]
"""``(host, domain name, command as JSON, timeout in seconds) -> reply as JSON``.

Raises ``AgentUnavailableError``, ``HostUnreachableError``, ``TransientError`` or
``PermanentError`` (virDomainQemuAgentCommand, made by ``hypervisor/``).
"""

Wait = Callable[[float], bool]
"""Waits so many seconds; returns True, and earlier, if the daemon stops (``Event.wait``)."""

MAX_COMMAND: Final = 4 * 1024 * 1024 - 1024
"""Bytes of one agent command: VIR_NET_MESSAGE_STRING_MAX (4 MiB), less a margin."""

CALL_TIMEOUT: Final = 10.0
KILL_AFTER: Final = 10
FIRST_POLL: Final = 0.012
LONGEST_POLL: Final = 0.5
_POLL_SHARE: Final = 0.2
_GRACE: Final = 15.0
_LOST_POLLS: Final = 5
_LOST_SECONDS: Final = 10.0
"""A restarted agent is away for a moment; after that it does not know the command any more."""
_MAX_ERROR: Final = 1000

_DISABLED_REMEDY: Final = (
    "the guest agent of {name} refuses guest-exec, which Guestkeeper works through. RHEL, Fedora"
    " and their kin block it by default: in the guest's /etc/sysconfig/qemu-ga take guest-exec and"
    " guest-exec-status out of BLACKLIST_RPC (or --block-rpcs), or add them to --allow-rpcs in"
    " FILTER_RPC_ARGS, then restart qemu-guest-agent"
)


@dataclass(frozen=True, slots=True)
class ExecResult:
    """The result of a command. ``exit_code`` is 128 + n where signal n ended it.

    ``timed_out``: ``timeout(1)`` ended it in the guest, or the agent had not reported its end
    when the deadline had passed (then ``exit_code`` is 124 and there is no output).
    """

    exit_code: int
    stdout: bytes
    stderr: bytes
    timed_out: bool


class GuestAgent:
    """Runs commands through an injected agent channel. Safe for many threads.

    ``clock`` is monotonic seconds. ``execs`` counts the commands so far.
    """

    def __init__(self, agent_command: AgentCommand, clock: Callable[[], float], wait: Wait) -> None:
        self._command = agent_command
        self._clock = clock
        self._wait = wait
        self._lock = threading.Lock()
        self.execs = 0

    def ping(self, host: str, name: str, timeout: float = CALL_TIMEOUT) -> None:
        """Return when the agent answered ``guest-ping``; raises ``AgentUnavailableError``."""
        self._call(host, name, "guest-ping", None, timeout)

    def exec(
        self,
        host: str,
        name: str,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        timeout: float,
    ) -> ExecResult:
        """Run ``argv`` in the guest for at most ``timeout`` seconds; ``stdin`` is its input.

        Raises ``PermanentError``: ``GuestExecDisabled``, ``InputTooLarge``, ``AnswerTooLong``, or
        the command cannot be started. ``TransientError``: ``FilesystemsFrozen``,
        ``AgentRestarted`` (while the command ran).
        """
        arguments: dict[str, Any] = {
            "path": "timeout",
            "arg": [f"--kill-after={KILL_AFTER}", f"{timeout:.3f}", *argv],
            "capture-output": True,
        }
        if stdin:
            arguments["input-data"] = base64.b64encode(stdin).decode()
        size = len(json.dumps(arguments)) + 64
        if size > MAX_COMMAND:
            raise PermanentError(
                f"what should be sent into {name} is {size} bytes once encoded; libvirt passes at"
                f" most {MAX_COMMAND} to a guest agent. Make the services' files smaller, or fetch"
                " large content inside the guest",
                reason="InputTooLarge",
            )
        with self._lock:
            self.execs += 1
        started = self._clock()
        call_timeout = CALL_TIMEOUT + size / 100_000
        try:
            reply = self._call(host, name, "guest-exec", arguments, call_timeout)
        except AgentRefusedError as error:
            raise self._refused(host, name, "guest-exec", error) from error
        pid = _whole(reply.get("pid"), 2**63)
        if pid is None:
            raise _garbled(name, "guest-exec", "no process id")
        return self._await_end(host, name, pid, started, timeout)

    def _await_end(
        self, host: str, name: str, pid: int, started: float, timeout: float
    ) -> ExecResult:
        deadline = started + timeout + KILL_AFTER + _GRACE
        lost, answered = 0, started
        while True:
            now = self._clock()
            # Poll so often that waiting adds at most a fifth to the command's duration.
            pause = min(max(FIRST_POLL, (now - started) * _POLL_SHARE), LONGEST_POLL)
            if self._wait(max(min(pause, deadline - now), 0.0)):
                raise TransientError("the daemon is stopping", reason="Stopping")
            try:
                status = self._status(host, name, pid)
            except HostUnreachableError:
                raise
            except TransientError as error:
                # The agent or guest is busy; the command goes on, and the agent keeps its result.
                lost += 1
                away = lost >= _LOST_POLLS and self._clock() - answered >= _LOST_SECONDS
                if away or error.reason == "AgentRestarted":
                    raise
                status = {}
            else:
                lost, answered = 0, self._clock()
            if status.get("exited") is True:
                return _result(name, status, expired=self._clock() - started >= timeout)
            if self._clock() >= deadline:
                return ExecResult(124, b"", b"", timed_out=True)

    def _status(self, host: str, name: str, pid: int) -> dict[str, Any]:
        command = "guest-exec-status"
        try:
            return self._call(host, name, command, {"pid": pid}, CALL_TIMEOUT)
        except AgentRefusedError as error:
            known = self._refused(host, name, command, error)
            if known is not error:
                raise known from error
            # The agent does not know the process: the agent or the guest was restarted.
            raise TransientError(
                f"the guest agent of {name} lost the command it ran: {error}",
                reason="AgentRestarted",
            ) from error

    def _refused(
        self, host: str, name: str, command: str, error: AgentRefusedError
    ) -> GuestkeeperError:
        """The error that a refusal of ``command`` means; ``error`` if it concerns this call only.

        QEMU says "disabled" in two cases: the command is blocked, or file systems are frozen.
        """
        said = error.said
        if "frozen" in said:
            return FilesystemsFrozenError(name)
        blocked = any(word in said for word in ("disabled", "not found", "has not been found"))
        if not blocked or command not in said:
            return error
        try:
            # Agents before QEMU 6.1 do not name frozen file systems as the reason.
            state = self._value(host, name, "guest-fsfreeze-status", None, CALL_TIMEOUT)
        except PermanentError:
            state = None
        if state == "frozen":
            return FilesystemsFrozenError(name)
        return PermanentError(_DISABLED_REMEDY.format(name=name), reason="GuestExecDisabled")

    def _call(
        self, host: str, name: str, command: str, arguments: dict[str, Any] | None, timeout: float
    ) -> dict[str, Any]:
        value = self._value(host, name, command, arguments, timeout)
        if not isinstance(value, dict):
            raise _garbled(name, command, "no object")
        return value

    def _value(
        self, host: str, name: str, command: str, arguments: dict[str, Any] | None, timeout: float
    ) -> Any:
        request: dict[str, Any] = {"execute": command}
        if arguments is not None:
            request["arguments"] = arguments
        try:
            text = self._command(host, name, json.dumps(request), timeout)
        except GuestkeeperError as error:
            # libvirt's message repeats what the agent said.
            error.args = (printable(str(error), _MAX_ERROR),)
            raise
        try:
            reply = json.loads(text)
        except (ValueError, RecursionError) as error:
            why = f"what is no JSON ({printable(str(error), 100)})"
            raise _garbled(name, command, why) from error
        if not isinstance(reply, dict):
            raise _garbled(name, command, "no object")
        if isinstance(refusal := reply.get("error"), dict):
            words = (refusal.get("class"), refusal.get("desc"))
            told = ": ".join(printable(word) for word in words if isinstance(word, str))
            raise AgentRefusedError(
                f"the guest agent of {name} refused {command}: {told}", said=told
            )
        if "return" not in reply:
            raise _garbled(name, command, "neither a result nor an error")
        return reply["return"]


def _result(name: str, status: dict[str, Any], *, expired: bool) -> ExecResult:
    if status.get("out-truncated") is True or status.get("err-truncated") is True:
        raise PermanentError(
            f"a command in {name} printed more than its guest agent passes on (16 MiB), so what it"
            " found is not known"
        )
    key = "signal" if "signal" in status else "exitcode"
    code = _whole(status.get(key, 0), 2**32)
    if code is None:
        raise _garbled(name, "guest-exec-status", f"a {key} that is none")
    if key == "signal":
        code += 128
    return ExecResult(
        exit_code=code,
        stdout=_decoded(name, status, "out-data"),
        stderr=_decoded(name, status, "err-data"),
        # timeout(1) exits 124, or is killed with its command if the command ignored TERM.
        timed_out=expired and code in (124, 137),
    )


def _decoded(name: str, status: dict[str, Any], key: str) -> bytes:
    data = status.get(key, "")
    try:
        return base64.b64decode(data, validate=True)
    except (ValueError, TypeError) as error:
        raise _garbled(name, "guest-exec-status", f"an {key} that is not base64") from error


def _whole(value: Any, below: int) -> int | None:
    """``value`` if it is a JSON integer from 0 up to ``below``, else None."""
    return value if type(value) is int and 0 <= value < below else None


def _garbled(name: str, command: str, what: str) -> TransientError:
    return TransientError(
        f"the guest agent of {name} answered {what} to {command}", reason="FactsUnreadable"
    )
