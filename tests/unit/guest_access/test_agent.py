"""How a command in a guest is run, awaited and given up, against a scripted agent channel."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from controller.errors import (
    AgentUnavailableError,
    GuestkeeperError,
    HostUnreachableError,
    PermanentError,
    TransientError,
)
from controller.guest_access.agent import FIRST_POLL, LONGEST_POLL, GuestAgent
from tests.libvirt_errors import agent_said, translated

Reply = dict[str, Any] | GuestkeeperError


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


class Channel:
    """Answers by a script, in a time that passes only by waiting."""

    def __init__(self, statuses: Callable[[float], Reply], start: Reply | None = None) -> None:
        self.now = 0.0
        self.waits: list[float] = []
        self.requests: list[dict[str, Any]] = []
        self.statuses = statuses
        self.start: Reply = start if start is not None else {"return": {"pid": 7}}
        self.frozen = "thawed"
        self.stopping = False
        self.agent = GuestAgent(self, lambda: self.now, self.wait)

    def wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        self.now += seconds
        return self.stopping

    def __call__(self, host: str, name: str, text: str, timeout: float) -> str:
        assert (host, name) == ("local", "web")
        request = json.loads(text)
        self.requests.append(request)
        match request["execute"]:
            case "guest-exec":
                reply = self.start
            case "guest-exec-status":
                assert request["arguments"] == {"pid": 7}
                reply = self.statuses(self.now)
            case "guest-fsfreeze-status":
                reply = {"return": self.frozen}
            case _:
                reply = {"return": {}}
        if isinstance(reply, GuestkeeperError):
            raise reply
        return json.dumps(reply)

    def run(self, timeout: float = 30, **more: Any) -> Any:
        return self.agent.exec("local", "web", ["true"], timeout=timeout, **more)


def _ends(at: float, **status: Any) -> Callable[[float], Reply]:
    ended = {"exited": True, "exitcode": 0, **status}
    return lambda now: {"return": ended if now >= at else {"exited": False}}


def test_a_command_is_run_under_timeout_and_its_output_returned() -> None:
    channel = Channel(_ends(0, exitcode=3, **{"out-data": _b64(b"a\0"), "err-data": _b64(b"b")}))
    result = channel.run(2.5, stdin=b"in\xff")
    assert (result.exit_code, result.stdout, result.stderr) == (3, b"a\0", b"b")
    assert not result.timed_out
    assert channel.requests[0]["arguments"] == {
        "path": "timeout",
        "arg": ["--kill-after=10", "2.500", "true"],
        "capture-output": True,
        "input-data": _b64(b"in\xff"),
    }
    assert channel.agent.execs == 1


def test_polls_are_close_at_first_and_rare_later() -> None:
    channel = Channel(_ends(60))
    channel.run(900)
    assert channel.waits[0] == FIRST_POLL
    assert channel.waits == sorted(channel.waits)
    assert channel.waits[-1] == LONGEST_POLL
    assert sum(wait < 0.1 for wait in channel.waits) < 20


def test_the_answer_is_late_by_a_fifth_at_most() -> None:
    for end in (0.005, 0.1, 0.5, 2.0):
        channel = Channel(_ends(end))
        channel.run()
        assert channel.now <= max(end * 1.21, FIRST_POLL)


def test_a_signal_is_told() -> None:
    result = Channel(_ends(0, signal=9)).run()
    assert (result.exit_code, result.timed_out) == (137, False)


@pytest.mark.parametrize("stream", ["out", "err"])
def test_output_that_was_cut_off_is_an_error(stream: str) -> None:
    with pytest.raises(PermanentError, match="printed more than its guest agent passes on"):
        Channel(_ends(0, **{f"{stream}-truncated": True})).run()


@pytest.mark.parametrize("code", [124, 137])
def test_a_command_that_timeout_ended_has_timed_out(code: int) -> None:
    assert Channel(_ends(5, exitcode=code)).run(5).timed_out
    assert not Channel(_ends(0, exitcode=code)).run(5).timed_out


def test_a_command_that_never_ends_is_given_up() -> None:
    channel = Channel(_ends(1e9))
    result = channel.run(5)
    assert result.timed_out
    assert 5 < channel.now < 40


DISABLED = [
    "Command guest-exec has been disabled: the command is not allowed",
    "Command guest-exec has been disabled",
    "The command guest-exec has been disabled for this instance",
    "The command guest-exec has not been found",
]


@pytest.mark.parametrize("text", DISABLED)
@pytest.mark.parametrize("raised", [True, False])
def test_guest_exec_that_is_blocked_is_told_with_its_remedy(text: str, raised: bool) -> None:
    refused = {"error": {"class": "CommandNotFound", "desc": text}}
    reply: Reply = agent_said("guest-exec", text) if raised else refused
    with pytest.raises(PermanentError, match="/etc/sysconfig/qemu-ga") as caught:
        Channel(_ends(0), reply).run()
    assert caught.value.reason == "GuestExecDisabled"


def test_guest_exec_that_is_blocked_while_a_command_runs_is_told_as_that() -> None:
    with pytest.raises(PermanentError, match="/etc/sysconfig/qemu-ga") as caught:
        Channel(lambda _: translated("guest-exec-status blocked")).run()
    assert caught.value.reason == "GuestExecDisabled"


def test_frozen_file_systems_are_waited_for() -> None:
    old = Channel(_ends(0), agent_said("guest-exec", DISABLED[2]))
    old.frozen = "frozen"
    new = Channel(_ends(0), translated("guest-exec while frozen"))
    midway = Channel(lambda _: translated("guest-exec-status while frozen"))
    for channel in (old, new, midway):
        with pytest.raises(AgentUnavailableError, match="virsh domfsthaw web") as caught:
            channel.run()
        assert caught.value.reason == "FilesystemsFrozen"


def test_a_command_goes_on_while_the_file_systems_are_frozen_for_a_moment() -> None:
    def statuses(now: float) -> Reply:
        frozen = translated("guest-exec-status while frozen")
        return frozen if now < 5 else {"return": {"exited": True}}

    assert Channel(statuses).run().exit_code == 0


def test_another_refusal_stays_what_it_is() -> None:
    with pytest.raises(PermanentError, match="No such file") as refused:
        Channel(_ends(0), translated("guest-exec of no program")).run()
    assert refused.value.reason == "AgentRefused"


def test_a_busy_agent_is_asked_again_but_not_for_ever() -> None:
    def busy(now: float) -> Reply:
        return AgentUnavailableError("busy") if now < 0.03 else {"return": {"exited": True}}

    assert Channel(busy).run().exit_code == 0
    with pytest.raises(AgentUnavailableError):
        Channel(lambda _: AgentUnavailableError("gone")).run()


def test_a_host_that_is_gone_ends_the_waiting_at_once() -> None:
    channel = Channel(lambda _: HostUnreachableError("gone"))
    with pytest.raises(HostUnreachableError):
        channel.run()
    assert len(channel.waits) == 1


def test_an_agent_that_was_restarted_is_a_reason_to_try_again() -> None:
    other = "guest-exec-status of another agent's command"
    replies: list[Reply] = [
        {"error": {"class": "GenericError", "desc": "Invalid pid"}},
        translated(other),
    ]
    for reply in replies:
        with pytest.raises(TransientError, match="lost the command") as lost:
            Channel(lambda _, reply=reply: reply).run()  # type: ignore[misc]
        assert lost.value.reason == "AgentRestarted"

    def away(now: float) -> Reply:
        return translated("agent not connected") if now < 8 else translated(other)

    with pytest.raises(TransientError, match="lost the command"):
        Channel(away).run()


def test_an_answer_that_is_too_long_is_not_asked_for_again() -> None:
    too_long = PermanentError("longer than 4 MiB", reason="AnswerTooLong")
    channel = Channel(lambda now: too_long)
    with pytest.raises(PermanentError) as caught:
        channel.agent.exec("local", "web", ["cat"], timeout=30)
    assert caught.value.reason == "AnswerTooLong"
    assert len(channel.requests) == 2


def test_input_that_libvirt_cannot_carry_is_refused_before_it_is_sent() -> None:
    channel = Channel(_ends(0))
    with pytest.raises(PermanentError, match="at most 4193280") as refused:
        channel.run(stdin=b"x" * (3 * 2**20))
    assert refused.value.reason == "InputTooLarge"
    assert channel.requests == []


@pytest.mark.parametrize("reply", ["null", "{}", "[1]", "no json", '{"return": 5}'])
def test_an_answer_that_makes_no_sense_is_transient(reply: str) -> None:
    agent = GuestAgent(lambda *_: reply, lambda: 0.0, lambda _: False)
    with pytest.raises(TransientError):
        agent.ping("local", "web", 1)


def test_a_daemon_that_stops_does_not_wait_on() -> None:
    channel = Channel(_ends(10))
    channel.stopping = True
    with pytest.raises(TransientError, match="stopping"):
        channel.run()
