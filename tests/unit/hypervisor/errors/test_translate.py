"""Which of the daemon's errors a libvirt error is decides what happens next."""

import ast
from pathlib import Path

import libvirt
import pytest

from controller.errors import (
    AgentUnavailableError,
    HostUnreachableError,
    PermanentError,
    TransientError,
)
from controller.hypervisor.errors.complaints import _COMPLAINTS
from controller.hypervisor.errors.translate import (
    _AGENT,
    _NO_AGENT,
    _PERMANENT,
    _TRANSIENT,
    _UNREACHABLE,
    lost,
    translate,
)
from tests.libvirt_errors import NOT_PRODUCED, RECORDED, error_of, translated

ROOT = Path(__file__).resolve().parents[4]


class Connection:
    """As libvirt's, as far as it is asked whether it lives; None: it was closed by ourselves."""

    def __init__(self, alive: bool | None) -> None:
        self._alive = alive

    def isAlive(self) -> int:  # noqa: N802 - libvirt's name
        if self._alive is None:
            raise error(libvirt.VIR_ERR_INVALID_CONN, libvirt.VIR_FROM_NONE)
        return int(self._alive)


def error(code: int, domain: int = libvirt.VIR_FROM_QEMU, message: str = "m") -> Exception:
    return error_of(code, domain, message)


@pytest.mark.parametrize("name", RECORDED)
def test_what_libvirt_really_said_becomes_one_of_ours(name: str) -> None:
    recorded, made = RECORDED[name], translated(name)
    assert (type(made), made.reason) == (recorded.kind, recorded.reason)
    assert str(made).startswith("host h: call: ")
    assert "2026-01-01" not in str(made), "a time makes each message another"


def test_every_error_that_code_relies_on_was_recorded_and_is_produced() -> None:
    relied_on = {*_UNREACHABLE, *_PERMANENT, *_TRANSIENT, *_AGENT, *_NO_AGENT}
    recorded = {one.code for one in RECORDED.values()}
    assert relied_on <= recorded | NOT_PRODUCED.keys()
    assert not recorded & NOT_PRODUCED.keys()
    producing = ast.parse((ROOT / "tests/e2e/test_refusals_real.py").read_text())
    produced = {one.value for one in ast.walk(producing) if isinstance(one, ast.Constant)}
    assert RECORDED.keys() <= produced
    said = [one.message for one in RECORDED.values()]
    for one in _COMPLAINTS:
        if one.reason not in _OTHERWISE_TESTED:
            assert any(one.pattern.search(message) for message in said), one.pattern


_OTHERWISE_TESTED = {"AccessDenied", "FirmwareMissing"}
"""QEMU's own rights, and a host without firmware: no test can take these away."""


@pytest.mark.parametrize(
    ("words", "reason", "told"),
    [
        (
            "Cannot access storage file '/a b/x' (as uid:1, gid:1): Permission denied",
            "AccessDenied",
            "namei --long '/a b/x'",
        ),
        ("storage pool 'my pool' is not active", "PoolInactive", "virsh pool-start 'my pool'"),
        (
            "failed to communicate with bridge helper: stderr=failed to get mtu of bridge `br9': No"
            " such device",
            "BridgeMissing",
            "ip link add name br9 type bridge",
        ),
        (
            "internal error: process exited while connecting to monitor: "
            "2026-11-29T10:49:01.191047Z qemu-system-x86_64: -m 1: what is new",
            "StartFailed",
            "QEMU ended at once: -m 1: what is new",
        ),
        ("qemu unexpectedly closed the monitor", "StartFailed", "it said nothing"),
        # On a busy host QEMU may end before libvirt has its words; the next start tells them.
        (
            "failed to connect to monitor socket: Connection refused",
            "StartFailed",
            "QEMU ended at once: it said nothing",
        ),
    ],
)
def test_what_a_host_lacks_is_told_with_what_helps(words: str, reason: str, told: str) -> None:
    made = translate(error(libvirt.VIR_ERR_INTERNAL_ERROR, message=words), "h", "start")
    assert made.reason == reason
    assert told in str(made)


@pytest.mark.parametrize(
    ("code", "domain", "kind", "reason"),
    [
        (libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_FROM_RPC, TransientError, None),
        (libvirt.VIR_ERR_RPC, libvirt.VIR_FROM_RPC, TransientError, None),
        (libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_FROM_QEMU, TransientError, None),
        (libvirt.VIR_ERR_OPERATION_TIMEOUT, libvirt.VIR_FROM_QEMU, TransientError, "Busy"),
        (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_FROM_QEMU, TransientError, "DomainMissing"),
        (libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_FROM_QEMU, TransientError, "WrongState"),
        (libvirt.VIR_ERR_XML_ERROR, libvirt.VIR_FROM_DOMAIN, PermanentError, "InvalidDomain"),
        (libvirt.VIR_ERR_NO_SUPPORT, libvirt.VIR_FROM_NONE, PermanentError, "NotSupported"),
        (libvirt.VIR_ERR_NO_STORAGE_POOL, libvirt.VIR_FROM_STORAGE, PermanentError, "PoolMissing"),
        (libvirt.VIR_ERR_AGENT_UNRESPONSIVE, libvirt.VIR_FROM_QEMU, AgentUnavailableError, None),
        (libvirt.VIR_ERR_AGENT_UNSYNCED, libvirt.VIR_FROM_QEMU, AgentUnavailableError, None),
    ],
)
def test_a_libvirt_error_becomes_one_of_ours(
    code: int, domain: int, kind: type[Exception], reason: str | None
) -> None:
    translated = translate(error(code, domain), "h", "look")
    assert type(translated) is kind
    assert str(translated) == "host h: look: m"
    if reason is not None:
        assert translated.reason == reason


def test_a_wrong_state_means_no_agent_only_where_an_agent_was_spoken_to() -> None:
    wrong = error(libvirt.VIR_ERR_OPERATION_INVALID)
    assert isinstance(translate(wrong, "h", "ping", agent=True), AgentUnavailableError)
    assert not isinstance(translate(wrong, "h", "start"), AgentUnavailableError)


@pytest.mark.parametrize("words", ["already exists with uuid", "is already defined with uuid"])
def test_a_uuid_in_the_way_is_a_name_conflict(words: str) -> None:
    raised = error(libvirt.VIR_ERR_OPERATION_FAILED, message=f"domain 'x' {words} y")
    translated = translate(raised, "h", "define")
    assert isinstance(translated, PermanentError)
    assert translated.reason == "NameConflict"


def test_missing_firmware_says_what_to_install() -> None:
    words = "Unable to find any firmware to satisfy 'efi'"
    translated = translate(error(libvirt.VIR_ERR_OPERATION_FAILED, message=words), "h", "start")
    assert isinstance(translated, PermanentError)
    assert translated.reason == "FirmwareMissing"
    assert "ovmf" in str(translated)


OF_TRANSPORT = [
    (libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_FROM_RPC),
    (libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_FROM_RPC),
    (libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_FROM_REMOTE),
    (libvirt.VIR_ERR_RPC, libvirt.VIR_FROM_RPC),
    (libvirt.VIR_ERR_NO_CONNECT, libvirt.VIR_FROM_RPC),
    (libvirt.VIR_ERR_INVALID_CONN, libvirt.VIR_FROM_NONE),
    (libvirt.VIR_ERR_AUTH_FAILED, libvirt.VIR_FROM_RPC),
]


@pytest.mark.parametrize(("code", "domain"), OF_TRANSPORT)
def test_an_error_of_the_transport_loses_only_a_connection_that_does_not_live(
    code: int, domain: int
) -> None:
    assert lost(error(code, domain), Connection(alive=False))
    assert lost(error(code, domain), Connection(alive=None))
    assert not lost(error(code, domain), Connection(alive=True))


def test_an_error_of_a_driver_loses_no_connection() -> None:
    raised = error(libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_FROM_QEMU)
    assert not lost(raised, Connection(alive=False))


def test_what_lost_the_connection_says_that_the_host_is_not_reachable() -> None:
    raised = error(libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_FROM_RPC)
    assert isinstance(translate(raised, "h", "look", gone=True), HostUnreachableError)


def test_an_agent_that_answers_too_much_is_told_as_that() -> None:
    """As libvirtd says it: see the same of a real guest in ``test_live_changes_real``."""
    raised = error(libvirt.VIR_ERR_RPC, libvirt.VIR_FROM_RPC, "Unable to encode message payload")
    translated = translate(raised, "h", "agent command", agent=True)
    assert isinstance(translated, PermanentError)
    assert translated.reason == "AnswerTooLong"
    assert "print less" in str(translated)
