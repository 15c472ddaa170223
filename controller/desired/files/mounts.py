"""Detect network file systems, whose changes by other machines the kernel does not report."""

import re
from pathlib import Path
from typing import Final

NETWORK_TYPES: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "virtiofs", "ceph", "afs", "vboxsf", "prl_fs"}
)
_MOUNTINFO = Path("/proc/self/mountinfo")
_OCTAL = re.compile(r"\\([0-7]{3})")


def network_mount(directory: str, mountinfo: str | None = None) -> str | None:
    """The type of the network file system that the resolved ``directory`` is on or contains.

    None for a local one, or if it is not known. Every FUSE file system counts, because sshfs and
    similar ones give no events either. Source: proc_pid_mountinfo(5).
    """
    if mountinfo is None:
        try:
            mountinfo = _MOUNTINFO.read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return None
    longest, its_type, below = "", "", None
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        fields, types = left.split(" "), right.split(" ")
        if len(fields) < 5:
            continue
        point = _OCTAL.sub(lambda match: chr(int(match[1], 8)), fields[4])
        if directory == point or directory.startswith(point.rstrip("/") + "/"):
            if len(point) >= len(longest):  # a later mount on the same point covers the earlier
                longest, its_type = point, types[0]
        elif point.startswith(directory.rstrip("/") + "/") and _is_network(types[0]):
            below = types[0]
    return its_type if _is_network(its_type) else below


def _is_network(kind: str) -> bool:
    return kind in NETWORK_TYPES or kind.startswith("fuse.")
