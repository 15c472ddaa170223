"""A daemon with directories and a private libvirtd of its own, driven as an operator drives it."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import libvirt
import pytest

from tests.e2e.private_libvirtd import PrivateLibvirtd
from tests.waiting import wait_until

GUESTKEEPER = Path(sys.executable).with_name("guestkeeper")
BOOT = 180.0
"""Seconds a guest may take from its document to Ready, on a busy machine under TCG."""


@dataclass
class Site:
    """A daemon's directories, its libvirtd, and the daemon itself."""

    root: Path
    libvirtd: PrivateLibvirtd
    prefix: str
    ports: dict[str, int] = field(default_factory=dict)
    """Guests that serve, and where on 127.0.0.1."""
    process: subprocess.Popen[bytes] | None = None
    lives: int = 0
    documents: Path = field(init=False)
    images: Path = field(init=False)
    config: Path = field(init=False)

    def __post_init__(self) -> None:
        self.documents = self.root / "desired"
        self.images = self.root / "images"
        self.config = self.root / "guestkeeper.toml"
        self.documents.mkdir()
        self.images.mkdir()

    def write(self, file: str, text: str) -> None:
        """As an editor does: beside it, then renamed."""
        beside = self.documents / f".{file}.tmp"
        beside.write_text(text)
        beside.rename(self.documents / file)

    def start(self) -> None:
        assert self.process is None
        self.lives += 1
        log = (self.root / f"daemon-{self.lives}.log").open("wb")
        self.process = subprocess.Popen(
            [GUESTKEEPER, "run", "--config", self.config], stdout=log, stderr=log
        )
        log.close()
        wait_until(lambda: self.run("get", "guests").returncode == 0, 30, "the daemon answers")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)
        self.process = None

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            process, self.process = self.process, None
            assert process.wait(30) == 0

    def run(self, *arguments: str, timeout: float = 60) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [GUESTKEEPER, "--config", self.config, *arguments],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env={**os.environ, "NO_COLOR": "1", "COLUMNS": "120"},
        )

    def guest(self, name: str) -> dict:  # type: ignore[type-arg]
        done = self.run("get", "guests", name, "-o", "json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["item"]  # type: ignore[no-any-return]

    def wait_ready(self, *names: str, timeout: float = BOOT) -> None:
        done = self.run(
            "wait", *names, "--for=condition=Ready", f"--timeout={timeout}", timeout=timeout + 30
        )
        if done.returncode != 0:
            logs = sorted(self.root.glob("daemon-*.log"), key=lambda p: p.stat().st_mtime)
            tail = "".join(logs[-1].read_text().splitlines(keepends=True)[-15:])
            pytest.fail(f"not Ready: {done.stdout}{done.stderr}\n{tail}")

    def page(self, name: str) -> str:
        url = f"http://127.0.0.1:{self.ports[name]}/"
        with urllib.request.urlopen(url, timeout=2) as answer:
            return str(answer.read().decode())

    def serves(self, name: str, text: str, timeout: float = 60) -> None:
        def served() -> bool:
            return text in self.page(name)

        wait_until(served, timeout, f"{name} serves {text!r}", ignoring=(OSError,))

    def qemu(self, name: str) -> int:
        (pid,) = self.libvirtd.qemu_pids(name)
        return pid

    def names(self) -> set[str]:
        with_libvirt = libvirt.open(self.libvirtd.uri)
        try:
            return {domain.name() for domain in with_libvirt.listAllDomains()}
        finally:
            with_libvirt.close()

    def volumes(self) -> set[str]:
        return {path.name for path in (self.libvirtd.root / "pool").iterdir()}


@contextlib.contextmanager
def a_site(
    prefix: str,
    settings: str = "",
    libvirtd_of: type[PrivateLibvirtd] = PrivateLibvirtd,
    resync: float = 10,
) -> Iterator[Site]:
    """Everything is removed, whatever the tests left. ``settings`` are more lines of TOML.

    ``resync`` is in seconds.
    """
    root = Path(tempfile.mkdtemp(prefix="gk", dir="/tmp"))  # short: libvirt's socket paths are long
    root.chmod(0o755)
    (root / "l").mkdir()
    libvirtd = libvirtd_of(root / "l")
    libvirtd.start()
    made = Site(root, libvirtd, prefix)
    made.config.write_text(
        f'desired_dir = "{made.documents}"\nstate_dir = "{root}/state"\n'
        f'cache_dir = "{root}/cache"\nimages_dir = "{made.images}"\n'
        f'socket = "{root}/gk.sock"\nlisten = "127.0.0.1:{a_port()}"\n'
        f"resync_seconds = {resync}\nrescan_seconds = 5\n{settings}"
        f'[hosts.local]\nuri = "{libvirtd.uri}"\npool = "gk"\n'
        f'[hosts.local.pools]\ngk = "{libvirtd.root}/pool"\n'
    )
    try:
        yield made
    finally:
        _remove(made)


def _remove(made: Site) -> None:
    if made.process is not None:
        made.kill()
    libvirtd = made.libvirtd
    if libvirtd.process is None:
        libvirtd.start()
    connection = libvirt.open(libvirtd.uri)
    for domain in connection.listAllDomains():
        with contextlib.suppress(libvirt.libvirtError):  # it ended by itself
            domain.destroy()
        domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_NVRAM)
    for pool in connection.listAllStoragePools():
        pool.destroy()
        pool.undefine()
    connection.close()
    libvirtd.stop()
    shutil.rmtree(made.root)


def a_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
