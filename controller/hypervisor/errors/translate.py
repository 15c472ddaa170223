"""Maps libvirt's errors to the daemon's three kinds: unreachable, transient, permanent.

All decisions about a failed call depend on this kind, so the mapping is in one place, by error code
and by the part of libvirt that raised it (the error domain).
"""

import re

import libvirt

from controller.errors import (
    AgentRefusedError,
    AgentUnavailableError,
    GuestkeeperError,
    HostUnreachableError,
    PermanentError,
    TransientError,
)
from controller.hypervisor.errors.complaints import complaint

_UNREACHABLE = frozenset(
    {
        libvirt.VIR_ERR_RPC,
        libvirt.VIR_ERR_NO_CONNECT,
        libvirt.VIR_ERR_INVALID_CONN,
        libvirt.VIR_ERR_AUTH_FAILED,
        libvirt.VIR_ERR_AUTH_CANCELLED,
        libvirt.VIR_ERR_AUTH_UNAVAILABLE,
        libvirt.VIR_ERR_GNUTLS_ERROR,
    }
)
_TRANSPORT = frozenset({libvirt.VIR_FROM_RPC, libvirt.VIR_FROM_REMOTE})
_PERMANENT = {
    libvirt.VIR_ERR_XML_ERROR: "InvalidDomain",
    libvirt.VIR_ERR_XML_DETAIL: "InvalidDomain",
    libvirt.VIR_ERR_XML_INVALID_SCHEMA: "InvalidDomain",
    libvirt.VIR_ERR_CONFIG_UNSUPPORTED: "NotSupported",
    libvirt.VIR_ERR_NO_SUPPORT: "NotSupported",
    libvirt.VIR_ERR_OPERATION_UNSUPPORTED: "NotSupported",
    libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED: "NotSupported",
    libvirt.VIR_ERR_INVALID_ARG: "InvalidArgument",
    libvirt.VIR_ERR_ACCESS_DENIED: "AccessDenied",
    libvirt.VIR_ERR_OPERATION_DENIED: "AccessDenied",
    libvirt.VIR_ERR_DOM_EXIST: "NameConflict",
    libvirt.VIR_ERR_NO_STORAGE_POOL: "PoolMissing",
    libvirt.VIR_ERR_NO_NETWORK: "NetworkMissing",
}
_TRANSIENT = {
    libvirt.VIR_ERR_NO_DOMAIN: "DomainMissing",
    libvirt.VIR_ERR_OPERATION_TIMEOUT: "Busy",
    libvirt.VIR_ERR_RESOURCE_BUSY: "Busy",
    libvirt.VIR_ERR_OPERATION_INVALID: "WrongState",
    libvirt.VIR_ERR_OPERATION_ABORTED: "Aborted",
    libvirt.VIR_ERR_NO_MEMORY: "NoMemory",
    libvirt.VIR_ERR_NO_STORAGE_VOL: "VolumeMissing",
}
_TOO_LONG = "encode message payload"
"""libvirtd's words for an answer too long for a message (VIR_NET_MESSAGE_STRING_MAX, 4 MiB)."""
_AGENT = frozenset({libvirt.VIR_ERR_AGENT_UNRESPONSIVE, libvirt.VIR_ERR_AGENT_UNSYNCED})
_NO_AGENT = frozenset({libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED})
"""The domain is off, or has no channel for the agent."""
_AGENT_SAID_NO = re.compile(r"unable to execute QEMU agent command '[^']*': (.*)", re.DOTALL)


def lost(error: libvirt.libvirtError, connection: libvirt.virConnect) -> bool:
    """Whether ``error``, from a call on ``connection``, means that the connection is lost.

    The error alone does not tell: libvirtd itself talks to others (an agent with too long an
    answer, a socket of another daemon), and failures there look like transport errors too. So the
    connection is checked (``virConnectIsAlive``, which sends nothing).
    """
    return _of_transport(error) and not _alive(connection)


def _of_transport(error: libvirt.libvirtError) -> bool:
    code = error.get_error_code()
    if code in _UNREACHABLE:
        return True
    # A broken socket is a system or internal error of the transport, never of a driver.
    return error.get_error_domain() in _TRANSPORT and code in (
        libvirt.VIR_ERR_SYSTEM_ERROR,
        libvirt.VIR_ERR_INTERNAL_ERROR,
    )


def _alive(connection: libvirt.virConnect) -> bool:
    try:
        return bool(connection.isAlive())
    except libvirt.libvirtError:
        return False  # closed by ourselves


def translate(
    error: libvirt.libvirtError,
    host: str,
    operation: str,
    *,
    gone: bool = False,
    agent: bool = False,
) -> GuestkeeperError:
    """The daemon's error for ``error`` (``virGetLastError``), to be raised from it.

    ``gone`` is the result of ``lost``. ``agent`` means that the call was for a guest agent: then a
    wrong state means that the agent is not there. An agent's refusal always arrives as an internal
    error, and is recognised by its text.
    """
    code = error.get_error_code()
    words = error.get_error_message() or str(error)
    where = f"host {host}: {operation}"
    message = f"{where}: {words}"
    if gone:
        return HostUnreachableError(message)
    if agent and code == libvirt.VIR_ERR_RPC and _TOO_LONG in words:
        return PermanentError(
            f"{message}: the guest agent's answer is longer than the 4 MiB that libvirt passes on;"
            " have what was run in the guest print less",
            reason="AnswerTooLong",
        )
    if code in _AGENT or (agent and code in _NO_AGENT):
        return AgentUnavailableError(message)
    refused = _AGENT_SAID_NO.search(words)
    if refused is not None:
        return AgentRefusedError(f"{where}: {words}", said=refused[1])
    complained = complaint(words, where)
    if complained is not None:
        return complained
    if code in _PERMANENT:
        return PermanentError(message, reason=_PERMANENT[code])
    if code == libvirt.VIR_ERR_OPERATION_FAILED and (
        "already exists with uuid" in message or "already defined with uuid" in message
    ):
        return PermanentError(message, reason="NameConflict")
    return TransientError(message, reason=_TRANSIENT.get(code))
