"""A stand-in for a guest: the real scripts, really run by a shell of this machine, in a sandbox.

Files are real files below a temporary directory; package manager, systemd and ``ip`` are stubs
that keep their state in it and write down how they were called. Nothing outside is touched, so
the tests need neither root nor a guest. It speaks the agent's JSON, so the whole room is tested.
"""

import base64
import grp
import json
import os
import pwd
import subprocess
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

from controller.desired.effective import EffectiveGuest, EffectiveService, RenderedFile
from controller.desired.schema.model import SecretRef
from controller.desired.schema.service import OnChange
from controller.guest_access.agent import GuestAgent
from controller.guest_access.inside import InsideAccess
from controller.observed.domain import DomainView
from controller.observed.health import ProbeTarget
from tests.factories import a_domain, a_file, a_guest, an_image

ME = pwd.getpwuid(os.geteuid()).pw_name
MY_GROUP = grp.getgrgid(os.getegid()).gr_name

_STUBS = {
    "systemctl": r"""
verb=$1
if [ "$verb" = show ]; then
    while [ "$1" != -- ]; do shift; done
    shift
    for unit; do
        active=inactive enabled= type=simple ended=0 result=success
        if [ -e "$STATE/unit.$unit" ]; then
            read -r active enabled type ended <"$STATE/unit.$unit"
        fi
        [ "$active" != failed ] || result=exit-code
        [ "$type" != forgotten ] || type=oneshot ended=0
        printf 'Type=%s\nExecMainExitTimestampMonotonic=%s\nResult=%s\nRemainAfterExit=no\n' \
            "${type:-simple}" "${ended:-0}" "$result"
        printf 'ActiveState=%s\nNames=%s alias.%s\nUnitFileState=%s\nNeedDaemonReload=no\n\n' \
            "$active" "$unit" "$unit" "$enabled"
    done
    exit 0
fi
[ "$verb" != status ] || { echo "status of the unit"; exit 3; }
echo "systemctl $*" >>"$STATE/calls"
[ ! -e "$STATE/fail.$verb" ] || { echo "Job failed: $verb"; exit 1; }
case $verb in start | restart) active=active ;; enable) ;; *) exit 0 ;; esac
[ -e "$STATE/unit.$2" ] || { echo "Unit $2 not found."; exit 5; }
read -r was enabled type ended <"$STATE/unit.$2"
case $verb:$type in
enable:*) active=$was enabled=enabled ;;
*:oneshot | *:forgotten) active=inactive ended=12345 ;;
esac
echo "$active $enabled $type $ended" >"$STATE/unit.$2"
""",
    "dpkg-query": r"""
while [ "$1" != -- ]; do shift; done
shift
for name; do
    arch=amd64
    [ ! -e "$STATE/all.${name%:*}" ] || arch=all
    case $name:$arch in *:*:all) continue ;; esac
    [ ! -e "$STATE/package.${name%:amd64}" ] ||
        printf 'package\t%s\tinstalled\t%s\t1.0-1\n' "${name%:amd64}" "$arch"
done
exit 1
""",
    "rpm": r"""
while [ "$1" != -- ]; do shift; done
shift
for name; do
    if [ -e "$STATE/package.$name" ]; then
        printf 'package\t%s\tinstalled\tx86_64\t2:1.0-1\n' "$name"
    else
        echo "package $name is not installed"
    fi
done
exit 1
""",
    "apt-get": r"""
verb=
while [ $# -gt 0 ]; do
    case $1 in -o) shift ;; -*) ;; *) verb=$1; shift; break ;; esac
    shift
done
echo "apt-get $verb${*:+ $*}" >>"$STATE/calls"
if [ "$verb" = update ]; then touch "$STATE/updated"; exit 0; fi
if [ -e "$STATE/stale" ] && [ ! -e "$STATE/updated" ]; then echo "404 Not Found"; exit 100; fi
[ ! -e "$STATE/fail.install" ] || { seq 30; echo "E: Unable to locate package"; exit 100; }
[ ! -e "$STATE/virtual" ] || exit 0
for name; do
    name=${name%:amd64}
    touch "$STATE/package.$name"
    [ ! -e "$STATE/brings.$name" ] || cp "$STATE/brings.$name" "$STATE/unit.$name.service"
done
""",
    "dpkg": r"""
echo "dpkg --configure -a" >>"$STATE/calls"
""",
    "dnf": r"""
echo "dnf $*" >>"$STATE/calls"
while [ "$1" != install ]; do shift; done
shift
for name; do touch "$STATE/package.$name"; done
""",
}  # fmt: skip


_FIB_TRIE = """Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 10.0.2.15
        /32 host LOCAL
     |-- 10.0.2.255
        /32 link BROADCAST
     |-- 127.0.0.1
        /32 host LOCAL
Local:
  +-- 0.0.0.0/0 3 0 5
     |-- 10.0.2.15
        /32 host LOCAL
"""
_IF_INET6 = """00000000000000000000000000000001 01 80 10 80       lo
fe800000000000005054000000000001 02 40 20 80     eth0
20010db8000000000000000000000007 02 40 00 80     eth0
20010db8000000000000000000000008 02 40 00 40     eth0
"""


class Sandbox:
    """A guest made of a directory. ``env`` may be changed between calls."""

    def __init__(self, root: Path, shell: str = "/bin/sh") -> None:
        self.root = root
        self.shell = shell
        self.state = root / "state"
        self.state.mkdir(parents=True)
        bin_ = root / "bin"
        bin_.mkdir()
        for name, text in _STUBS.items():
            (bin_ / name).write_text(f"#!/bin/sh\n{text}")
            (bin_ / name).chmod(0o755)
        home = Path(pwd.getpwnam("root").pw_dir)
        for directory in ("proc/sys/kernel/random", "etc", "run", "var/lib/apt/lists"):
            (root / directory).mkdir(parents=True)
        self.home = root / home.relative_to("/")
        self.home.mkdir(parents=True)
        self.write("proc/sys/kernel/random/boot_id", "11111111-2222-3333-4444-555555555555\n")
        self.write("proc/sys/kernel/hostname", "web\n")
        self.write("etc/hostname", "web\n")
        self.write("etc/hosts", "127.0.0.1 localhost\n127.0.1.1 web\n")
        self.write("proc/net/fib_trie", _FIB_TRIE)
        self.write("proc/net/if_inet6", _IF_INET6)
        # Newer than anything, so that nothing is taken from the cache of what dpkg-query said.
        os.utime(self.write("var/lib/dpkg/status", ""), (4e9, 4e9))
        self.write("var/lib/apt/lists/mirror_main_Packages", "")
        self.env = {"PATH": f"{bin_}:/usr/bin:/bin", "STATE": str(self.state), "gk_root": str(root)}
        self.requests: list[dict[str, Any]] = []
        self.secrets: dict[str, str] = {}
        agent = GuestAgent(self._command, lambda: 0.0, lambda _: False)
        self.agent = agent
        self.access = InsideAccess(agent, self, lambda: 1000.0)
        self._done: dict[int, subprocess.CompletedProcess[bytes]] = {}
        self._lock = threading.Lock()

    # --- the agent's channel ----------------------------------------------------------------------

    def _command(self, host: str, name: str, text: str, timeout: float) -> str:
        request = json.loads(text)
        arguments = request.get("arguments", {})
        if request["execute"] == "guest-exec":
            self.requests.append(arguments)
            words = [self.shell if word == "/bin/sh" else word for word in arguments["arg"]]
            done = subprocess.run(
                [arguments["path"], *words],
                input=base64.b64decode(arguments.get("input-data", "")),
                capture_output=True,
                env=self.env,
                check=False,
            )
            with self._lock:
                pid = len(self._done) + 1
                self._done[pid] = done
            return json.dumps({"return": {"pid": pid}})
        done = self._done[arguments["pid"]]
        code = (
            {"exitcode": done.returncode} if done.returncode >= 0 else {"signal": -done.returncode}
        )
        return json.dumps(
            {
                "return": {
                    "exited": True,
                    "out-data": base64.b64encode(done.stdout).decode(),
                    "err-data": base64.b64encode(done.stderr).decode(),
                    **code,
                }
            }
        )

    def read(self, ref: SecretRef) -> str:
        return self.secrets[str(ref.file)]

    # --- the world --------------------------------------------------------------------------------

    def write(self, path: str, text: str, mode: int = 0o644) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)
        return file

    def calls(self) -> list[str]:
        """How the stubs were called since the last time this was asked."""
        log = self.state / "calls"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return lines

    def file(self, path: str, content: bytes = b"hello\n", mode: int = 0o644) -> RenderedFile:
        file = a_file(str(self.root / path), content, mode)
        return replace(file, owner=ME, group=MY_GROUP)

    def service(
        self,
        *files: RenderedFile,
        name: str = "app",
        packages: tuple[str, ...] = (),
        unit: str | None = None,
        on_change: OnChange = OnChange.RELOAD,
    ) -> EffectiveService:
        return EffectiveService(name, packages, files, unit, on_change, (), "")

    def guest(
        self, *services: EffectiveService, family: str = "debian", keys: str | None = None
    ) -> EffectiveGuest:
        spec: dict[str, Any] = {}
        if keys is not None:
            self.secrets["/keys"] = keys
            spec["sshAuthorizedKeysFrom"] = [{"file": "/keys"}]
        image = an_image(osFamily=family)
        return a_guest("web", services, image, **spec)

    @property
    def domain(self) -> DomainView:
        return a_domain(a_guest("web"))


def a_target(kind: str, **fields: Any) -> ProbeTarget:
    """A probe asked inside."""
    values: dict[str, Any] = {
        "guest": "web", "host": "local", "service": "app", "probe": "p",
        "kind": kind, "inside": True, "address": None, "port": 1, "path": "/", "scheme": "http",
        "headers": (), "command": (), "period": 10.0, "timeout": 5.0, "failure_threshold": 3,
        "success_threshold": 1, "initial_delay": 0.0, "startup": 0.0, "epoch": "",
    }  # fmt: skip
    return ProbeTarget(**(values | fields))
