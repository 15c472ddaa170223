"""A privileged libvirtd of a test's own: it can do what an unprivileged one cannot, as bridges.

It runs in a mount namespace where libvirt's directories are its own, so that the machine's libvirtd
and this one know nothing of each other. What they share: the cache of what QEMU can do, which costs
ten seconds to ask; and the machine's network interfaces, so name yours as nobody else does.
"""

import os
from pathlib import Path

from tests.e2e.private_libvirtd import PrivateLibvirtd

AVAILABLE = os.geteuid() == 0
_PLACES = {
    "etc": "/etc/libvirt",
    "state": "/var/lib/libvirt",
    "log": "/var/log/libvirt",
    "sysrun": "/run/libvirt",
}
_QEMU_CONF = """\
stdio_handler = "file"
cgroup_controllers = []
namespaces = []
security_driver = "none"
"""


class SystemLibvirtd(PrivateLibvirtd):
    """As ``PrivateLibvirtd``, run by root; its QEMU runs as the user that the packager meant."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, wrapped=self._in_namespace)
        self.user = None
        self.socket = root / "run" / "libvirt-sock"
        self.uri = f"qemu+unix:///system?socket={self.socket}"
        for path in (root, *root.rglob("*")):
            os.chown(path, 0, 0)
        for name in _PLACES:
            (root / name).mkdir(mode=0o755)
        for name in _PLACES.values():
            Path(name).mkdir(parents=True, exist_ok=True)
        (root / "log/qemu").mkdir()  # the package makes it
        (root / "pool").chmod(0o755)
        (root / "etc/qemu.conf").write_text(_QEMU_CONF)
        (root / "config/libvirt/libvirtd.conf").write_text(
            f'unix_sock_dir = "{self.socket.parent}"\nauth_unix_rw = "none"\n'
        )

    def _in_namespace(self, command: list[str], _user: str | None) -> list[str]:
        mounts = [f"mount --bind {self.root / name} {place}" for name, place in _PLACES.items()]
        script = " && ".join([*mounts, 'exec "$@"'])
        pid_file = ["--pid-file", str(self.root / "pid")]
        return ["unshare", "--mount", "sh", "-c", script, "sh", *command, *pid_file]
