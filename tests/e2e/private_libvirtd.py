"""A libvirtd of a test's own, to be stopped, hung and killed; the machine's is not touched."""

import os
import pwd
import signal
import subprocess
from pathlib import Path

from tests.waiting import wait_until


class PrivateLibvirtd:
    """A libvirtd with its own root directory and socket, run by a user without privileges."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.socket = root / "run" / "libvirt" / "libvirt-sock"
        self.uri = f"qemu+unix:///session?socket={self.socket}"
        self.process: subprocess.Popen[bytes] | None = None
        for name in ("run", "config/libvirt", "cache", "data", "pool"):
            (root / name).mkdir(parents=True, exist_ok=True)
        (root / "config/libvirt/qemu.conf").write_text('stdio_handler = "file"\n')
        (root / "config/libvirt/libvirtd.conf").write_text("")
        self.user: int | None = None
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            self.user = nobody.pw_uid
            for path in (root, *root.rglob("*")):
                os.chown(path, nobody.pw_uid, nobody.pw_gid)

    def start(self) -> None:
        assert self.process is None
        self.process = subprocess.Popen(
            ["libvirtd", "-f", str(self.root / "config/libvirt/libvirtd.conf")],
            user=self.user,
            group="nogroup" if self.user is not None else None,
            extra_groups=[] if self.user is not None else None,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.root),
                "XDG_RUNTIME_DIR": str(self.root / "run"),
                "XDG_CONFIG_HOME": str(self.root / "config"),
                "XDG_CACHE_HOME": str(self.root / "cache"),
                "XDG_DATA_HOME": str(self.root / "data"),
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(self.socket.exists, 20, "libvirtd made its socket")

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
