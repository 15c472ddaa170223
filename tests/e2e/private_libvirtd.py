"""A libvirtd of a test's own, to be stopped, hung and killed; the machine's is not touched.

The benchmarks take it too.
"""

import os
import pwd
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.waiting import WaitedInVainError, wait_until

ROOT = Path(__file__).resolve().parents[2]


class PrivateLibvirtd:
    """A libvirtd with its own root directory and socket, run by a user without privileges.

    ``root`` has to be short, for a socket's path is. ``wrapped`` makes another command of
    libvirtd's: the command and the user (None: ourselves) are given, and it has to become that user
    by itself.
    """

    def __init__(
        self, root: Path, wrapped: Callable[[list[str], str | None], list[str]] | None = None
    ) -> None:
        self.root = root
        self.socket = root / "run" / "libvirt" / "libvirt-sock"
        self.uri = f"qemu+unix:///session?socket={self.socket}"
        self.process: subprocess.Popen[bytes] | None = None
        for name in ("run", "config/libvirt", "cache", "data", "pool"):
            (root / name).mkdir(parents=True, exist_ok=True)
        (root / "config/libvirt/qemu.conf").write_text('stdio_handler = "file"\n')
        (root / "config/libvirt/libvirtd.conf").write_text("")
        self.user: str | None = None
        self._wrapped = wrapped
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            self.user = nobody.pw_name
            for path in (root, *root.rglob("*")):
                os.chown(path, nobody.pw_uid, nobody.pw_gid)

    def start(self) -> None:
        assert self.process is None
        command = ["libvirtd", "-f", str(self.root / "config/libvirt/libvirtd.conf")]
        drop: dict[str, Any] = {}
        if self._wrapped is not None:
            command = self._wrapped(command, self.user)
        elif self.user is not None:
            group = pwd.getpwnam(self.user).pw_gid
            drop = {"user": self.user, "group": group, "extra_groups": []}
        log = self.root / "libvirtd.log"
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={
                    "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin",
                    "HOME": str(self.root),
                    "PYTHONDONTWRITEBYTECODE": "1",
                    "XDG_RUNTIME_DIR": str(self.root / "run"),
                    "XDG_CONFIG_HOME": str(self.root / "config"),
                    "XDG_CACHE_HOME": str(self.root / "cache"),
                    "XDG_DATA_HOME": str(self.root / "data"),
                },
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                # A signal to our whole process group (Ctrl-C, timeout(1)) must not take it away
                # before the domains on it are removed.
                start_new_session=True,
                **drop,
            )
        try:
            wait_until(self._up, 30, "libvirtd made its socket")
        except WaitedInVainError:
            said = log.read_text(errors="replace")
            raise RuntimeError(f"the private libvirtd did not start: {said[-500:]}") from None

    def _up(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise WaitedInVainError
        return self.socket.exists()

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self) -> None:
        """Ends the daemon as systemd would; the guests' QEMU processes live on."""
        if self.process is not None:
            self.signal(signal.SIGCONT)
            self.process.terminate()
            self.process.wait(20)
            self.process = None

    def kill(self) -> None:
        """SIGKILL; the guests' QEMU processes live on."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(20)
        self.process = None

    def qemu_pids(self, name: str) -> list[int]:
        """Of domains of this daemon only: their monitor sockets are below its root."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = path.read_bytes().split(b"\0")
            except OSError:
                continue
            if b"-name" in line and any(f"guest={name},".encode() in word for word in line):
                found.append(int(path.parent.name))
        return found
