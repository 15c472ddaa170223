"""Recognises messages of libvirt and QEMU about something a host lacks, and says what helps.

In these cases the host lacks something; the guest is not at fault. libvirt's error code almost
never tells this ("internal error", "unsupported configuration"). So the messages are recognised by
their text, as real ones were recorded (``tests/libvirt_errors.py``).
"""

import re
import shlex
from dataclasses import dataclass

from controller.errors import GuestkeeperError, PermanentError, TransientError


@dataclass(frozen=True, slots=True)
class _Complaint:
    """One known message. ``told`` is formatted with the named groups of ``pattern``, each quoted
    for a shell.

    ``lasting``: only a change of the document or domain helps, so the error is permanent.
    """

    pattern: re.Pattern[str]
    reason: str
    told: str
    lasting: bool = False


def _c(pattern: str, reason: str, told: str, *, lasting: bool = False) -> _Complaint:
    return _Complaint(re.compile(pattern, re.DOTALL), reason, told, lasting)


_COMPLAINTS = (
    _c(
        r"storage pool '(?P<pool>[^']+)'(?: containing volume '[^']*')? is not active",
        "PoolInactive",
        "storage pool {pool} is not active: virsh pool-start {pool}",
    ),
    _c(
        r"network '(?P<network>[^']+)' is not active",
        "NetworkInactive",
        "network {network} is not active: virsh net-start {network}",
    ),
    _c(
        r"no network with matching name '(?P<network>[^']+)'",
        "NetworkMissing",
        "there is no network {network}: name one of virsh net-list --all, or make it with"
        " virsh net-define and virsh net-start",
        lasting=True,
    ),
    _c(
        r"(?:interface MTU on|mtu of bridge|add bridge) ['`]?(?P<bridge>[\w.-]+).*No such device",
        "BridgeMissing",
        "there is no bridge {bridge}: ip link add name {bridge} type bridge; ip link set {bridge}"
        " up; or name another",
    ),
    _c(
        r"ould not set up host forwarding rule '(?P<protocol>tcp|udp):(?P<address>[0-9.]*)"
        r":(?P<port>\d+)-",
        "PortTaken",
        "port {address}:{port}/{protocol} is taken there by another program, or the address is not"
        " the host's: see ss --listening --processes --numeric 'sport = :{port}'; end that program,"
        " or write another port",
    ),
    _c(
        r"cannot set up guest memory|unable to map backing store for guest RAM",
        "OutOfMemory",
        "it has not the memory for this guest: see free --human; write less memory (memory.max), or"
        " stop others",
    ),
    _c(
        r'Failed to get (?:shared )?"\w+" lock(?:.*image \[(?P<file>[^\]]+)\])?',
        "DiskInUse",
        "disk {file} is in use by another running program, or domain: see fuser --verbose {file};"
        " two at once would destroy it",
    ),
    _c(
        r"no storage vol with matching (?:name|path|key) '(?P<volume>[^']+)'",
        "VolumeMissing",
        "there is no volume {volume}: put it back, then virsh pool-refresh POOL",
    ),
    _c(
        r"Cannot access storage file '(?P<file>[^']+)'.*: No such file",
        "VolumeMissing",
        "there is no disk {file}: put it back",
    ),
    _c(
        r"Cannot access storage file '(?P<file>[^']+)'.*: Permission denied",
        "AccessDenied",
        "QEMU may not read {file}: see namei --long {file}",
        lasting=True,
    ),
    _c(
        r"unable to stat: (?P<file>[^:\n]+): No such file|could not (?:open|load) kernel"
        r" '(?P<kernel>[^']+)'",
        "KernelMissing",
        "there is no kernel or initrd {file}{kernel}: put it back; those of images are made anew"
        " with the next change of the image",
    ),
    _c(
        r"(?:Unable to find|[Uu]nable to find) any firmware to satisfy|firmware that is compatible",
        "FirmwareMissing",
        "it has no such UEFI firmware: install it there (package ovmf, on Fedora edk2-ovmf), or set"
        " firmware: bios",
        lasting=True,
    ),
    _c(
        r"UEFI requires ACPI",
        "InvalidDomain",
        "UEFI needs ACPI, which the domain has not: put <acpi/> into its <features> (virsh edit),"
        " or set firmware: bios",
        lasting=True,
    ),
)
_STAMP = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z qemu[\w.-]*: ")
_QEMU_ENDED = re.compile(
    r"(?:internal error: )?(?:qemu unexpectedly closed the monitor|process exited while connecting"
    r" to monitor|failed to connect to monitor socket: Connection refused)(?:: )?(?P<said>.*)",
    re.DOTALL,
)


def complaint(words: str, where: str) -> GuestkeeperError | None:
    """The error for libvirt's message ``words``; None if the message is not a known one.

    ``where`` is the beginning of the error's message.
    """
    said = _STAMP.sub("", words)
    for one in _COMPLAINTS:
        found = one.pattern.search(said)
        if found is not None:
            names = {
                name: shlex.quote(text) if text else "" for name, text in found.groupdict().items()
            }
            kind = PermanentError if one.lasting else TransientError
            return kind(f"{where}: {one.told.format(**names)}", reason=one.reason)
    ended = _QEMU_ENDED.search(said)
    if ended is None:
        return None
    why = ended["said"].strip() or "it said nothing"
    return TransientError(f"{where}: QEMU ended at once: {why}", reason="StartFailed")
