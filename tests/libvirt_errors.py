"""What libvirt and QEMU really said: each error that code relies on, recorded from a real one.

``tests/e2e/test_refusals_real.py`` produces each of them anew and compares. Fakes take their errors
from here, so a fake refuses as the real thing does, and in no other way.
"""

import re
from dataclasses import dataclass

import libvirt

from controller.errors import (
    AgentRefusedError,
    AgentUnavailableError,
    GuestkeeperError,
    HostUnreachableError,
    PermanentError,
    TransientError,
)
from controller.hypervisor.errors.translate import translate

RECORDED_WITH = 9_000_000
"""libvirt's version; another may use other words, which have to mean the same."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """Code, domain and words of a ``libvirtError``; what the daemon has to make of it.

    ``message`` is as ``masked`` leaves it. ``agent``: the call was to a guest agent.
    """

    code: int
    domain: int
    message: str
    kind: type[GuestkeeperError]
    reason: str
    agent: bool = False


def masked(message: str) -> str:
    """``message`` without what is of one run only."""
    message = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "2026-01-01T00:00:00.000000Z", message)
    message = re.sub(r"/[\w./-]*/pool/gk/", "/pool/gk/", message)
    message = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:18080", message)
    message = re.sub(r"as uid:\d+, gid:\d+", "as uid:64055, gid:64055", message)
    # Which of the two it is depends on how far QEMU had come.
    message = message.replace(
        "process exited while connecting to monitor", "qemu unexpectedly closed the monitor"
    )
    message = re.sub(r"libvirt-\d+-", "libvirt-1-", message)
    return re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", _UUID, message)


_UUID = "14e11d36-6243-5bee-9c12-46a35f7a7f85"
_QEMU = (
    "internal error: qemu unexpectedly closed the monitor: 2026-01-01T00:00:00.000000Z"
    " qemu-system-x86_64: "
)
_SAID = "internal error: unable to execute QEMU agent command"
_INVALID = "Requested operation is not valid:"
_INTERNAL = libvirt.VIR_ERR_INTERNAL_ERROR

RECORDED: dict[str, Recorded] = {
    # --- What a guest agent refuses, and where there is none ---
    "guest-exec blocked": Recorded(
        _INTERNAL,
        libvirt.VIR_FROM_QEMU,
        f"{_SAID} 'guest-exec': Command guest-exec has been disabled",
        AgentRefusedError,
        "AgentRefused",
        agent=True,
    ),
    "guest-exec-status blocked": Recorded(
        _INTERNAL,
        libvirt.VIR_FROM_QEMU,
        f"{_SAID} 'guest-exec-status': Command guest-exec-status has been disabled",
        AgentRefusedError,
        "AgentRefused",
        agent=True,
    ),
    "guest-exec while frozen": Recorded(
        _INTERNAL,
        libvirt.VIR_FROM_QEMU,
        f"{_SAID} 'guest-exec': Command guest-exec has been disabled: the agent is in frozen state",
        AgentRefusedError,
        "AgentRefused",
        agent=True,
    ),
    "guest-exec-status while frozen": Recorded(
        _INTERNAL,
        libvirt.VIR_FROM_QEMU,
        f"{_SAID} 'guest-exec-status': Command guest-exec-status has been disabled: the agent is in"
        " frozen state",
        AgentRefusedError,
        "AgentRefused",
        agent=True,
    ),
    "guest-exec-status of another agent's command": Recorded(
        _INTERNAL,
        libvirt.VIR_FROM_QEMU,
        f"{_SAID} 'guest-exec-status': Invalid parameter 'pid'",
        AgentRefusedError,
        "AgentRefused",
        agent=True,
    ),
    "guest-exec of no program": Recorded(
        _INTERNAL,
        libvirt.VIR_FROM_QEMU,
        f"{_SAID} 'guest-exec': Guest agent command failed, error was 'Failed to execute child"
        " process “/nope” (No such file or directory)'",
        AgentRefusedError,
        "AgentRefused",
        agent=True,
    ),
    "unknown agent command": Recorded(
        _INTERNAL,
        libvirt.VIR_FROM_QEMU,
        f"{_SAID} 'guest-nope': The command guest-nope has not been found",
        AgentRefusedError,
        "AgentRefused",
        agent=True,
    ),
    "agent not connected": Recorded(
        libvirt.VIR_ERR_AGENT_UNRESPONSIVE,
        libvirt.VIR_FROM_QEMU,
        "Guest agent is not responding: QEMU guest agent is not connected",
        AgentUnavailableError,
        "AgentUnavailable",
        agent=True,
    ),
    "agent of a domain that is off": Recorded(
        libvirt.VIR_ERR_OPERATION_INVALID,
        libvirt.VIR_FROM_DOMAIN,
        f"{_INVALID} domain is not running",
        AgentUnavailableError,
        "AgentUnavailable",
        agent=True,
    ),
    "agent of a domain that sleeps": Recorded(
        libvirt.VIR_ERR_OPERATION_INVALID,
        libvirt.VIR_FROM_QEMU,
        f"{_INVALID} domain is not running",
        AgentUnavailableError,
        "AgentUnavailable",
        agent=True,
    ),
    "agent without a channel": Recorded(
        libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED,
        libvirt.VIR_FROM_QEMU,
        "argument unsupported: QEMU guest agent is not configured",
        AgentUnavailableError,
        "AgentUnavailable",
        agent=True,
    ),
    # --- What a host lacks for a start ---
    "start with its pool inactive": Recorded(
        libvirt.VIR_ERR_CONFIG_UNSUPPORTED,
        libvirt.VIR_FROM_DOMAIN,
        "unsupported configuration: storage pool 'gk' containing volume 'v1' is not active",
        TransientError,
        "PoolInactive",
    ),
    "look into an inactive pool": Recorded(
        libvirt.VIR_ERR_OPERATION_INVALID,
        libvirt.VIR_FROM_STORAGE,
        f"{_INVALID} storage pool 'gk' is not active",
        TransientError,
        "PoolInactive",
    ),
    "start with its pool gone": Recorded(
        libvirt.VIR_ERR_NO_STORAGE_POOL,
        libvirt.VIR_FROM_STORAGE,
        "Storage pool not found: no storage pool with matching name 'nopool'",
        PermanentError,
        "PoolMissing",
    ),
    "start with its volume gone": Recorded(
        libvirt.VIR_ERR_NO_STORAGE_VOL,
        libvirt.VIR_FROM_STORAGE,
        "Storage volume not found: no storage vol with matching name 'novol'",
        TransientError,
        "VolumeMissing",
    ),
    "start with its volume's file gone": Recorded(
        libvirt.VIR_ERR_NO_STORAGE_VOL,
        libvirt.VIR_FROM_STORAGE,
        "Storage volume not found: no storage vol with matching path '/pool/gk/lost'",
        TransientError,
        "VolumeMissing",
    ),
    "start with its file gone": Recorded(
        libvirt.VIR_ERR_SYSTEM_ERROR,
        libvirt.VIR_FROM_STORAGE,
        "Cannot access storage file '/nope/x' (as uid:64055, gid:64055): No such file or directory",
        TransientError,
        "VolumeMissing",
    ),
    "start with its disk in use": Recorded(
        _INTERNAL,
        libvirt.VIR_FROM_QEMU,
        _QEMU
        + '-blockdev {"node-name":"libvirt-1-format","read-only":false,"driver":"qcow2","file":'
        '"libvirt-1-storage","backing":null}: Failed to get "write" lock\nIs another process using'
        " the image [/pool/gk/v1]?",
        TransientError,
        "DiskInUse",
    ),
    "start with its network gone": Recorded(
        libvirt.VIR_ERR_NO_NETWORK,
        libvirt.VIR_FROM_NETWORK,
        "Network not found: no network with matching name 'nonet'",
        PermanentError,
        "NetworkMissing",
    ),
    "start with its network inactive": Recorded(
        libvirt.VIR_ERR_OPERATION_INVALID,
        libvirt.VIR_FROM_NETWORK,
        f"{_INVALID} network 'gk-idle' is not active",
        TransientError,
        "NetworkInactive",
    ),
    "start with its bridge gone": Recorded(
        libvirt.VIR_ERR_SYSTEM_ERROR,
        libvirt.VIR_FROM_NONE,
        "Cannot get interface MTU on 'gkno0': No such device",
        TransientError,
        "BridgeMissing",
    ),
    "start with its port taken": Recorded(
        _INTERNAL,
        libvirt.VIR_FROM_QEMU,
        _QEMU + "-netdev user,id=ua-nic-lan,hostfwd=tcp:127.0.0.1:18080-:80: Could not set up host"
        " forwarding rule 'tcp:127.0.0.1:18080-:80'",
        TransientError,
        "PortTaken",
    ),
    "start with more memory than the host": Recorded(
        _INTERNAL,
        libvirt.VIR_FROM_QEMU,
        _QEMU + "cannot set up guest memory 'pc.ram': Cannot allocate memory",
        TransientError,
        "OutOfMemory",
    ),
    "start with its kernel gone": Recorded(
        libvirt.VIR_ERR_SYSTEM_ERROR,
        libvirt.VIR_FROM_SECURITY,
        "unable to stat: /nope/vmlinuz: No such file or directory",
        TransientError,
        "KernelMissing",
    ),
    "start with a bus that the machine has not": Recorded(
        _INTERNAL,
        libvirt.VIR_FROM_QEMU,
        _QEMU + "-device virtio-net-pci,netdev=a,bus=pcie.0,addr=0x10: Bus 'pcie.0' not found",
        TransientError,
        "StartFailed",
    ),
    "start of a domain that runs": Recorded(
        libvirt.VIR_ERR_OPERATION_INVALID,
        libvirt.VIR_FROM_QEMU,
        f"{_INVALID} domain is already running",
        TransientError,
        "WrongState",
    ),
    # --- What no domain can be defined as ---
    "write-back cache beside native I/O": Recorded(
        libvirt.VIR_ERR_CONFIG_UNSUPPORTED,
        libvirt.VIR_FROM_QEMU,
        "unsupported configuration: io='native' needs either no disk cache or directsync cache"
        " mode",
        PermanentError,
        "NotSupported",
    ),
    "a target twice": Recorded(
        libvirt.VIR_ERR_XML_ERROR,
        libvirt.VIR_FROM_DOMAIN,
        "XML error: target 'sda' duplicated for disk sources '<null>' and '<null>'",
        PermanentError,
        "InvalidDomain",
    ),
    "an IOMMU of e1000e": Recorded(
        libvirt.VIR_ERR_CONFIG_UNSUPPORTED,
        libvirt.VIR_FROM_DOMAIN,
        "unsupported configuration: iommu driver option is only supported for virtio devices",
        PermanentError,
        "NotSupported",
    ),
    "UEFI without ACPI": Recorded(
        libvirt.VIR_ERR_CONFIG_UNSUPPORTED,
        libvirt.VIR_FROM_QEMU,
        "unsupported configuration: UEFI requires ACPI on this architecture",
        PermanentError,
        "InvalidDomain",
    ),
    "fewer vCPUs than in NUMA cells": Recorded(
        _INTERNAL,
        libvirt.VIR_FROM_DOMAIN,
        "internal error: Number of CPUs in <numa> exceeds the <vcpu> count",
        TransientError,
        "TransientFailure",
    ),
    "no XML": Recorded(
        libvirt.VIR_ERR_XML_DETAIL,
        libvirt.VIR_FROM_DOMAIN,
        "(domain_definition):1: Premature end of data in tag domain line 1\n<domain>\n--------^",
        PermanentError,
        "InvalidDomain",
    ),
    "no valid XML": Recorded(
        libvirt.VIR_ERR_XML_INVALID_SCHEMA,
        libvirt.VIR_FROM_XML,
        "XML document failed to validate against schema: Unable to validate doc against"
        " /usr/share/libvirt/schemas/domain.rng\nExtra element devices in interleave\nElement"
        " domain failed to validate content\n",
        PermanentError,
        "InvalidDomain",
    ),
    "a name that another domain has": Recorded(
        libvirt.VIR_ERR_OPERATION_FAILED,
        libvirt.VIR_FROM_DOMAIN,
        f"operation failed: domain 'off' already exists with uuid {_UUID}",
        PermanentError,
        "NameConflict",
    ),
    "a UUID that another domain has": Recorded(
        libvirt.VIR_ERR_OPERATION_FAILED,
        libvirt.VIR_FROM_DOMAIN,
        f"operation failed: domain 'off' is already defined with uuid {_UUID}",
        PermanentError,
        "NameConflict",
    ),
    # --- Of calls to domains and volumes ---
    "no such domain": Recorded(
        libvirt.VIR_ERR_NO_DOMAIN,
        libvirt.VIR_FROM_QEMU,
        "Domain not found: no domain with matching name 'nodomain'",
        TransientError,
        "DomainMissing",
    ),
    "no metadata": Recorded(
        libvirt.VIR_ERR_NO_DOMAIN_METADATA,
        libvirt.VIR_FROM_DOMAIN,
        "metadata not found: Requested metadata element is not present",
        TransientError,
        "TransientFailure",
    ),
    "memory without a balloon": Recorded(
        libvirt.VIR_ERR_OPERATION_INVALID,
        libvirt.VIR_FROM_QEMU,
        f"{_INVALID} Unable to change memory of active domain without the balloon device and guest"
        " OS balloon driver",
        TransientError,
        "WrongState",
    ),
    "more vCPUs than the maximum": Recorded(
        libvirt.VIR_ERR_INVALID_ARG,
        libvirt.VIR_FROM_QEMU,
        "invalid argument: requested vcpus is greater than max allowable vcpus for the live domain:"
        " 3 > 1",
        PermanentError,
        "InvalidArgument",
    ),
    "detach of no device": Recorded(
        _INTERNAL,
        libvirt.VIR_FROM_DOMAIN,
        "internal error: no device found with alias ua-nope",
        TransientError,
        "TransientFailure",
    ),
    "wake of a domain that runs": Recorded(
        _INTERNAL,
        libvirt.VIR_FROM_QEMU,
        "internal error: unable to execute QEMU command 'system_wakeup': Unable to wake up: guest"
        " is not in suspended state",
        TransientError,
        "TransientFailure",
    ),
    "resume of a domain that sleeps": Recorded(
        libvirt.VIR_ERR_OPERATION_INVALID,
        libvirt.VIR_FROM_QEMU,
        f"{_INVALID} domain is pmsuspended",
        TransientError,
        "WrongState",
    ),
    "a volume's name that is taken": Recorded(
        libvirt.VIR_ERR_STORAGE_VOL_EXIST,
        libvirt.VIR_FROM_STORAGE,
        "storage volume 'v1' exists already",
        TransientError,
        "TransientFailure",
    ),
    "a pool whose directory is gone": Recorded(
        libvirt.VIR_ERR_SYSTEM_ERROR,
        libvirt.VIR_FROM_NONE,
        "cannot open directory '/nope/pool': No such file or directory",
        TransientError,
        "TransientFailure",
    ),
    # --- Of the connection ---
    "no daemon": Recorded(
        libvirt.VIR_ERR_SYSTEM_ERROR,
        libvirt.VIR_FROM_RPC,
        "Failed to connect socket to '/nope/libvirt-sock': No such file or directory",
        HostUnreachableError,
        "HostUnreachable",
    ),
}

NOT_PRODUCED = {
    libvirt.VIR_ERR_RPC: "a connection cut in the middle of a message",
    libvirt.VIR_ERR_NO_CONNECT: "a driver that is not built in",
    libvirt.VIR_ERR_INVALID_CONN: "a connection that this process closed",
    libvirt.VIR_ERR_AUTH_FAILED: "polkit, SASL",
    libvirt.VIR_ERR_AUTH_CANCELLED: "polkit, SASL",
    libvirt.VIR_ERR_AUTH_UNAVAILABLE: "polkit, SASL",
    libvirt.VIR_ERR_GNUTLS_ERROR: "TLS",
    libvirt.VIR_ERR_ACCESS_DENIED: "polkit",
    libvirt.VIR_ERR_OPERATION_DENIED: "a read-only connection",
    libvirt.VIR_ERR_DOM_EXIST: "other drivers than QEMU's",
    libvirt.VIR_ERR_NO_SUPPORT: "other drivers than QEMU's",
    libvirt.VIR_ERR_OPERATION_UNSUPPORTED: "an old QEMU",
    libvirt.VIR_ERR_OPERATION_TIMEOUT: "a monitor that hangs for 30 s",
    libvirt.VIR_ERR_OPERATION_ABORTED: "a job that somebody ends",
    libvirt.VIR_ERR_RESOURCE_BUSY: "another tool's lock",
    libvirt.VIR_ERR_NO_MEMORY: "libvirtd itself out of memory",
    libvirt.VIR_ERR_AGENT_UNSYNCED: "an agent in the middle of an answer",
}
"""Codes that code relies on and no test can have: what would raise them."""


def error_of(code: int, domain: int, message: str) -> libvirt.libvirtError:
    error = libvirt.libvirtError("recorded")
    error.err = (code, domain, message, 2, "", "", "", -1, -1)
    return error


def raised(name: str) -> libvirt.libvirtError:
    """What libvirt raised there."""
    one = RECORDED[name]
    return error_of(one.code, one.domain, one.message)


def agent_said(command: str, words: str) -> GuestkeeperError:
    """What comes out of the hypervisor room where a guest agent refused ``command`` so."""
    one = RECORDED["guest-exec blocked"]
    error = error_of(one.code, one.domain, f"{_SAID} '{command}': {words}")
    return translate(error, "h", "agent command", agent=True)


def translated(name: str) -> GuestkeeperError:
    """What comes out of the hypervisor room where libvirt raised that."""
    recorded = RECORDED[name]
    # Whether the connection is dead is asked of it (``lost``), and is no matter of the error alone.
    gone = recorded.kind is HostUnreachableError
    return translate(raised(name), "h", "call", gone=gone, agent=recorded.agent)
