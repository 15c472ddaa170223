"""Runs a command below a subreaper: ``python -m bench.reaper USER COMMAND…`` ('' is ourselves).

libvirt reports a dead QEMU only once its process has vanished, that is, once somebody reaped it.
PID 1 of a container may take a second for that; a benchmark would then measure PID 1. As the
subreaper of everything below, this process reaps at once (``PR_SET_CHILD_SUBREAPER``, prctl(2)).
It ends when the command does, and passes SIGTERM on.
"""

import ctypes
import os
import pwd
import signal
import subprocess
import sys

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def main() -> None:
    """Exits with the command's status."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    user, *command = sys.argv[1:]
    other = {}
    if user:
        found = pwd.getpwnam(user)
        other = {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}
    child = subprocess.Popen(command, **other)  # type: ignore[call-overload]
    signal.signal(signal.SIGTERM, lambda *_: child.send_signal(signal.SIGTERM))
    while True:
        pid, status = os.wait()
        if pid == child.pid:
            child.returncode = os.waitstatus_to_exitcode(status)
            sys.exit(child.returncode)


if __name__ == "__main__":
    main()
