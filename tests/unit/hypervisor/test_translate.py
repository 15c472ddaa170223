"""Which of the daemon's errors a libvirt error is decides what happens next."""

import libvirt
import pytest

from controller.errors import (
    AgentUnavailableError,
    HostUnreachableError,
    PermanentError,
    TransientError,
)
from controller.hypervisor.translate import lost, translate


def error(code: int, domain: int = libvirt.VIR_FROM_QEMU, message: str = "m") -> Exception:
    raised = libvirt.libvirtError("failed")
    raised.err = (code, domain, message, 2, "", "", "", -1, -1)
    return raised


@pytest.mark.parametrize(
    ("code", "domain", "kind", "reason"),
    [
        (libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_FROM_RPC, HostUnreachableError, None),
        (libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_FROM_RPC, HostUnreachableError, None),
        (libvirt.VIR_ERR_INVALID_CONN, libvirt.VIR_FROM_NONE, HostUnreachableError, None),
        (libvirt.VIR_ERR_AUTH_FAILED, libvirt.VIR_FROM_RPC, HostUnreachableError, None),
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


def test_only_the_transport_loses_a_connection() -> None:
    assert lost(error(libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_FROM_RPC))
    assert not lost(error(libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_FROM_QEMU))
