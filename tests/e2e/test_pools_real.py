"""Pools and volumes of a real libvirtd of the test's own; no guest runs."""

import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import libvirt
import pytest

from controller.errors import PermanentError, TransientError
from controller.hypervisor.connection.config import HostConfig
from controller.hypervisor.hypervisor import Hypervisor
from controller.images.iso.cloud_init_seed import build_seed
from controller.observed.host import VolumeView
from controller.planning.host.trouble import pool_trouble
from tests.e2e.private_libvirtd import PrivateLibvirtd
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(shutil.which("libvirtd") is None, reason="libvirtd is not installed"),
]
MIB = 2**20
Opener = Callable[..., Hypervisor]


@pytest.fixture(scope="module")
def daemon() -> Iterator[PrivateLibvirtd]:
    root = Path(tempfile.mkdtemp(prefix="gkt-"))
    root.chmod(0o755)
    one = PrivateLibvirtd(root)
    _slow_qemu_img(root / "bin")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{root / 'bin'}:{os.environ['PATH']}")
        one.start()
    try:
        yield one
    finally:
        one.stop()
        shutil.rmtree(root)


def _slow_qemu_img(directory: Path) -> None:
    """libvirt's qemu-img: a volume named ``slow`` is not made before there is a file ``gate``."""
    directory.mkdir(mode=0o755)
    program = directory / "qemu-img"
    gate = directory / "gate"
    program.write_text(
        "#!/bin/sh\n"
        f'case "$*" in */slow*) until [ -e {gate} ]; do sleep 0.05; done;; esac\n'
        f'exec {shutil.which("qemu-img")} "$@"\n'
    )
    program.chmod(0o755)


@pytest.fixture
def directory(daemon: PrivateLibvirtd, tmp_path: Path) -> Iterator[Path]:
    """Where the daemon may write; all pools are gone after the test."""
    place = daemon.root / "pool" / tmp_path.name
    place.mkdir()
    if daemon.user is not None:
        shutil.chown(place, daemon.user)
    yield place
    connection = libvirt.open(daemon.uri)
    for pool in connection.listAllStoragePools():
        if pool.isActive():
            pool.destroy()
        pool.undefine()
    connection.close()


@pytest.fixture
def opened(daemon: PrivateLibvirtd) -> Iterator[Opener]:
    made: list[Hypervisor] = []

    def open_with(pools: dict[str, Path], **more: bool) -> Hypervisor:
        paths = {name: str(path) for name, path in pools.items()}
        one = Hypervisor([HostConfig("real", daemon.uri, "gk", paths, **more)])
        made.append(one)
        one.open()
        assert one.host("real").reachable, one.host("real").why
        return one

    yield open_with
    for one in made:
        one.close()


def virsh(daemon: PrivateLibvirtd, *words: str) -> str:
    done = subprocess.run(
        ["virsh", "-c", daemon.uri, *words], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def defined(daemon: PrivateLibvirtd, name: str, path: Path) -> None:
    virsh(daemon, "pool-define-as", name, "dir", "--target", str(path))


def look_anew(one: Hypervisor, later: float = 1e6) -> None:
    """As if the time of the next looks had come."""
    pools = one._hosts["real"].storage._pools
    pools.changed()
    pools._retry_at -= later


def test_a_pool_whose_directory_is_gone_is_its_own_trouble_and_is_had_once_it_is_back(
    daemon: PrivateLibvirtd, directory: Path, opened: Opener
) -> None:
    gone = directory / "gone"
    defined(daemon, "lost", gone)
    one = opened({"lost": gone, "gk": directory / "gk"})
    host = one.host("real")
    assert host.pools["gk"].usable
    assert one.create_volume("real", "gk", "disk", capacity=MIB).capacity == MIB
    trouble = pool_trouble(host, "lost")
    assert trouble is not None
    assert trouble.reason == "PoolInactive"
    assert "No such file or directory" in trouble.message
    assert str(gone) in trouble.message
    look_anew(one)
    assert not one.host("real").pools["lost"].active
    gone.mkdir()
    look_anew(one)
    assert pool_trouble(one.host("real"), "lost") is None
    # Stopped since it ran, it is left so: whoever stopped it had a reason.
    virsh(daemon, "pool-destroy", "lost")
    look_anew(one)
    trouble = pool_trouble(one.host("real"), "lost")
    assert trouble is not None
    assert trouble.reason == "PoolInactive"
    virsh(daemon, *trouble.message[trouble.message.index("pool-start") :].split())
    look_anew(one)
    assert one.host("real").pools["lost"].usable


def test_a_pool_that_cannot_be_made_leaves_the_others(directory: Path, opened: Opener) -> None:
    (directory / "file").write_text("no directory")
    one = opened({"never": directory / "file" / "pool", "gk": directory / "gk"})
    assert one.host("real").pools["gk"].usable
    trouble = pool_trouble(one.host("real"), "never")
    assert trouble is not None
    assert str(directory / "file") in trouble.message


@pytest.mark.parametrize("running", [True, False])
def test_a_pool_of_that_name_at_another_path_is_told_with_both_and_left_alone(
    daemon: PrivateLibvirtd, directory: Path, opened: Opener, running: bool
) -> None:
    theirs, ours = directory / "theirs", directory / "ours"
    defined(daemon, "taken", theirs)
    if running:
        theirs.mkdir()
        virsh(daemon, "pool-start", "taken")
    one = opened({"taken": ours, "gk": directory / "gk"})
    host = one.host("real")
    assert host.pools["gk"].usable
    assert (host.pools["taken"].active, host.has_running("taken")) == (running, False)
    trouble = pool_trouble(host, "taken")
    assert trouble is not None
    assert trouble.reason == "PoolElsewhere"
    assert {str(theirs), str(ours)} <= set(
        trouble.message.replace(",", " ").replace(":", " ").split()
    )
    assert not ours.exists()
    commands = trouble.message.split("): ")[-1].split("; ")
    wanted = ["virsh pool-destroy taken", "virsh pool-undefine taken"]
    assert commands == (wanted if running else wanted[1:])
    for command in commands:
        virsh(daemon, *command.split()[1:])
    look_anew(one)
    assert one.host("real").pools["taken"].usable
    assert one.host("real").pools["taken"].path == str(ours)
    assert theirs.exists() is running, "its files stay"


def test_who_only_looks_is_told_of_another_path_too(
    daemon: PrivateLibvirtd, directory: Path, opened: Opener
) -> None:
    defined(daemon, "taken", directory / "theirs")
    one = opened({"taken": directory / "ours"}, read_only=True)
    trouble = pool_trouble(one.host("real"), "taken")
    assert trouble is not None
    assert trouble.reason == "PoolElsewhere"


# --- Many at a time -------------------------------------------------------------------------------


def test_seeds_and_disks_of_forty_guests_are_made_by_eight_at_a_time(
    daemon: PrivateLibvirtd, directory: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = opened({"gk": directory / "gk"})
    shared = set(one._hosts["real"].link.ensure_reachable().connections.values())
    streams = libvirt.virConnect.newStream

    def new_stream(connection: libvirt.virConnect, flags: int = 0) -> libvirt.virStream:
        assert connection not in shared, "libvirt loses answers on a connection with a stream"
        return streams(connection, flags)

    monkeypatch.setattr(libvirt.virConnect, "newStream", new_stream)
    base = one.create_volume("real", "gk", "base.qcow2", capacity=MIB)
    seed = build_seed(instance_id="i-1", hostname="web", keys=["ssh-ed25519 AAAA"])

    def make(number: int) -> tuple[str, str | None]:
        backing = (base.path, "qcow2")
        disk = one.create_volume("real", "gk", f"web{number}.qcow2", capacity=MIB, backing=backing)
        made = one.upload_volume(
            "real",
            "gk",
            f"web{number}-seed.iso",
            BytesIO(seed),
            len(seed),
            format="iso",
            progress=lambda _: None,
        )
        return made.format, disk.backing

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(make, range(40)))
    assert made == [("iso", base.path)] * 40
    files = {path.name: path for path in (directory / "gk").iterdir()}
    assert all(files[f"web{number}-seed.iso"].read_bytes() == seed for number in range(40))


@pytest.fixture
def busy(daemon: PrivateLibvirtd, directory: Path, opened: Opener) -> Iterator[Hypervisor]:
    """A host whose pool ``gk`` cannot be scanned: a volume is being made there."""
    one = opened({"gk": directory / "gk"})
    gate = daemon.root / "bin" / "gate"
    gate.unlink(missing_ok=True)
    connection = libvirt.open(daemon.uri)
    pool = connection.storagePoolLookupByName("gk")
    xml = (
        f"<volume><name>slow</name><capacity>{MIB}</capacity>"
        "<target><format type='qcow2'/></target></volume>"
    )
    making = threading.Thread(target=pool.createXML, args=(xml, 0))
    making.start()

    def refused() -> bool:
        try:
            connection.storagePoolLookupByName("gk").refresh(0)
        except libvirt.libvirtError as error:
            return "asynchronous jobs" in str(error)
        return False

    wait_until(refused, 20, "the pool is busy")
    yield one
    gate.touch()
    making.join(20)
    connection.close()


def upload(one: Hypervisor, name: str, content: bytes, format: str) -> VolumeView:
    return one.upload_volume(
        "real",
        "gk",
        name,
        BytesIO(content),
        len(content),
        format=format,
        progress=lambda _: None,
    )


def test_an_upload_is_judged_by_what_it_holds_while_the_pool_cannot_be_scanned(
    busy: Hypervisor, directory: Path, tmp_path: Path
) -> None:
    seed = build_seed(instance_id="i-1", hostname="web", keys=[])
    disk = tmp_path / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(disk), "1M"], check=True)
    for content, format in ((seed, "iso"), (disk.read_bytes(), "qcow2"), (b"kernel" * 99, "raw")):
        assert upload(busy, f"a.{format}", content, format).format == format
        assert (directory / "gk" / f"a.{format}").read_bytes() == content
    with pytest.raises(PermanentError, match="is raw, not qcow2"):
        upload(busy, "b.qcow2", b"no disk" * 1000, "qcow2")
    assert not (directory / "gk" / "b.qcow2").exists()


def test_what_cannot_be_looked_for_is_not_known_and_nothing_is_deleted(
    busy: Hypervisor, directory: Path
) -> None:
    (directory / "gk" / "by-hand").write_bytes(b"theirs")
    for act in (
        lambda: busy.delete_volume("real", "gk", "by-hand"),
        lambda: upload(busy, "by-hand", b"ours", "raw"),
        lambda: busy.create_volume("real", "gk", "by-hand", capacity=MIB),
        lambda: busy.scanned_volumes("real", "gk"),
    ):
        with pytest.raises(TransientError) as caught:
            act()
        assert caught.value.reason == "PoolBusy", caught.value
    assert (directory / "gk" / "by-hand").read_bytes() == b"theirs"
    assert busy.absent("real", "gk", ["by-hand", "nowhere"]) == frozenset(), "who knows?"
