"""The log of a guest's serial port: its path on the host, and its last bytes.

libvirt's log daemon may write, also under SELinux, to libvirt's own log directory; so the log is
there, next to QEMU's. A session libvirt (``qemu:///session``) would keep it in a directory whose
path is not known for another machine, so it has none. The file of a remote host cannot be read.
"""

import os
from pathlib import Path
from urllib.parse import urlsplit

_DIRECTORY = Path("/var/log/libvirt/qemu")


def serial_log(uri: str, name: str) -> Path | None:
    """The path of the log of domain ``name`` on the host at ``uri``; None if none is kept."""
    parts = urlsplit(uri)
    if parts.path != "/system" or not parts.scheme.startswith("qemu"):
        return None
    return _DIRECTORY / f"{name}-serial.log"


def last_of(uri: str, name: str, limit: int) -> bytes:
    """The last ``limit`` bytes of the log; b'' if none is kept, or it cannot be read from here."""
    path = serial_log(uri, name)
    if path is None or urlsplit(uri).hostname is not None:
        return b""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - limit))
            return file.read(limit)
    except OSError:  # missing or not readable: the console still shows new output
        return b""
