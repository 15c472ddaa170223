"""The micro guests of tests: real machines, ready seconds after their start, also under TCG.

``build.sh`` makes them; here is what a test needs to describe one and to look into it.
"""

import base64
import json
import subprocess
from pathlib import Path

import libvirt
import libvirt_qemu

from tests.waiting import wait_until

HERE = Path(__file__).resolve().parent
BUILD_SECONDS = 900
ARGS = "quiet console=ttyS0 mitigations=off nokaslr tsc=reliable no_timer_check"
"""Kernel arguments of a quick boot; ``root=`` is not read, it is always /dev/vda."""
IMAGES = ("one", "two", "silent", "panic")


def build() -> Path:
    """The directory with ``vmlinuz``, ``initrd`` and a disk for each image. Read-only."""
    done = subprocess.run(
        [str(HERE / "build.sh")],
        stdout=subprocess.PIPE,
        timeout=BUILD_SECONDS,
        check=True,
        text=True,
    )
    return Path(done.stdout.splitlines()[-1])


def image_document(name: str, disk: str, *, more: str = "") -> str:
    """An Image of ``disk`` (without suffix); the kernel's arguments name it, too.

    ``more`` is further YAML of the spec, such as ``"rollout: {maxParallel: 1}"``.
    """
    args = f"{ARGS} micro={disk}"
    return (
        "apiVersion: guestkeeper/v1alpha1\n"
        "kind: Image\n"
        f"metadata: {{name: {name}}}\n"
        "spec:\n"
        "  osFamily: debian\n"
        f"  source: {{file: {disk}.qcow2}}\n"
        f"  boot: {{kernel: vmlinuz, initrd: initrd, args: {args}}}\n"
        f"  {more}\n"
    )


def inside(domain: libvirt.virDomain, script: str, *, timeout: float = 20) -> str:
    """What a shell command prints in the guest; fails with what it says on stderr, too."""

    def agent(execute: str, **arguments: object) -> dict:  # type: ignore[type-arg]
        command = json.dumps({"execute": execute, "arguments": arguments})
        answer = json.loads(libvirt_qemu.qemuAgentCommand(domain, command, 10, 0))
        return answer["return"]  # type: ignore[no-any-return]

    pid = agent("guest-exec", path="/bin/sh", arg=["-c", script], **{"capture-output": True})["pid"]
    ended = wait_until(
        lambda: (found := agent("guest-exec-status", pid=pid))["exited"] and found, timeout, script
    )
    out, err = (base64.b64decode(ended.get(f"{name}-data", "")).decode() for name in ("out", "err"))
    assert ended["exitcode"] == 0, f"{script}: exit status {ended['exitcode']}: {out}{err}"
    return out
