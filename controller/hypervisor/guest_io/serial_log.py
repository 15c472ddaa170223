"""Where libvirt keeps what a guest said on its serial port, and its last part.

libvirt's log daemon may write, also under SELinux, in libvirt's own log directory; that is where
the log stands, next to QEMU's. A user's own libvirt (``qemu:///session``) keeps it in a directory
we cannot name for another machine, so there is none; neither can a remote host's file be read.
"""

import os
from pathlib import Path
from urllib.parse import urlsplit

_DIRECTORY = Path("/var/log/libvirt/qemu")


def serial_log(uri: str, name: str) -> Path | None:
    """The log of the domain ``name`` on the host at ``uri``; None where none is kept."""
    parts = urlsplit(uri)
    if parts.path != "/system" or not parts.scheme.startswith("qemu"):
        return None
    return _DIRECTORY / f"{name}-serial.log"


def last_of(uri: str, name: str, limit: int) -> bytes:
    """The last ``limit`` bytes said; b'' where nothing is kept, or it cannot be read from here."""
    path = serial_log(uri, name)
    if path is None or urlsplit(uri).hostname is not None:
        return b""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - limit))
            return file.read(limit)
    except OSError:  # not made yet, or not ours to read: the console still tells what comes
        return b""
