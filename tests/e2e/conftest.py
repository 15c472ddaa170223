"""Real guests: a libvirt that runs, the demo's images, a storage pool and names of our own.

Everything a session makes carries its ``prefix``, so that several sessions can share a machine and
the guard at the end can tell what was forgotten. Nothing without the prefix is ever touched.
"""

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import libvirt
import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD_SECONDS = 900


def _script(*command: str, timeout: float) -> str:
    """The last line that one of deploy/'s scripts prints; its messages go to the test's stderr."""
    done = subprocess.run(
        [str(ROOT / "deploy" / command[0]), *command[1:]],
        stdout=subprocess.PIPE,
        timeout=timeout,
        check=False,
        text=True,
    )
    if done.returncode != 0:
        pytest.fail(f"deploy/{' '.join(command)} failed with exit status {done.returncode}")
    return done.stdout.splitlines()[-1]


@pytest.fixture(scope="session")
def libvirt_uri() -> str:
    """A libvirt connection that can run guests, started if need be."""
    return _script("libvirt-up.sh", timeout=90)


@pytest.fixture(scope="session")
def demo_image() -> Path:
    """The directory of the demo's image: ``debian12.{qcow2,vmlinuz,initrd}``. Read-only."""
    return Path(_script("demo/build-image.sh", timeout=BUILD_SECONDS))


@pytest.fixture(scope="session")
def cloudinit_image() -> Path:
    """The same with cloud-init in it."""
    return Path(_script("demo/build-image.sh", "--flavour", "cloudinit", timeout=BUILD_SECONDS))


@pytest.fixture(scope="session")
def prefix() -> str:
    """What the names of this session's domains and pools begin with."""
    return f"gktest-{os.getpid()}-{secrets.token_hex(2)}-"


@pytest.fixture(scope="session")
def connection(libvirt_uri: str) -> Iterator[libvirt.virConnect]:
    """A bare libvirt connection, for looking at the world behind the code's back."""
    libvirt.registerErrorHandler(lambda *_: None, None)
    connection = libvirt.open(libvirt_uri)
    yield connection
    connection.close()


@pytest.fixture(scope="session")
def qemu_directory(prefix: str) -> Iterator[Path]:
    """A directory into which QEMU's own user may walk; gone after the session.

    Not pytest's ``tmp_path``: that is private to us, and under ``qemu:///system`` QEMU is another
    user.
    """
    directory = Path(tempfile.mkdtemp(prefix=prefix, dir="/var/tmp"))
    directory.chmod(0o711)
    yield directory
    shutil.rmtree(directory)


@dataclass(frozen=True, slots=True)
class ScratchPool:
    """A directory pool of this session."""

    name: str
    directory: Path


@pytest.fixture(scope="session")
def scratch_pool(
    connection: libvirt.virConnect, prefix: str, qemu_directory: Path
) -> Iterator[ScratchPool]:
    """A running directory pool, destroyed with all its volumes after the session."""
    pool = ScratchPool(f"{prefix}pool", qemu_directory / "pool")
    pool.directory.mkdir(mode=0o711)
    made = connection.storagePoolDefineXML(
        f"<pool type='dir'><name>{pool.name}</name>"
        f"<target><path>{pool.directory}</path></target></pool>",
        0,
    )
    made.create(0)
    yield pool
    if made.isActive():
        made.destroy()
    made.undefine()


@pytest.fixture(scope="session", autouse=True)
def nothing_left_behind(libvirt_uri: str, prefix: str) -> Iterator[None]:
    """Fails the session that leaves domains or pools behind, and removes them all the same.

    Autouse and independent of the other fixtures, so it is set up first and torn down last.
    """
    yield
    connection = libvirt.open(libvirt_uri)
    try:
        domains = [d for d in connection.listAllDomains() if d.name().startswith(prefix)]
        pools = [p for p in connection.listAllStoragePools() if p.name().startswith(prefix)]
        left = [f"domain {d.name()}" for d in domains] + [f"pool {p.name()}" for p in pools]
        for domain in domains:
            if domain.isActive():
                domain.destroy()
            if domain.isPersistent():
                domain.undefineFlags(
                    libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
                )
        for pool in pools:
            if pool.isActive():
                pool.destroy()
            pool.undefine()
    finally:
        connection.close()
    if left:
        pytest.fail(f"left behind by this session's tests (removed now): {', '.join(left)}")
