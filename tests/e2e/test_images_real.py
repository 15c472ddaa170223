"""Images through a real libvirt: what arrives in a pool is what was in the file.

Volumes are looked at behind libvirt's back, by ``qemu-img`` and by their bytes.
"""

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from controller.desired.effective import EffectiveImage
from controller.errors import PermanentError, TransientError
from controller.hypervisor.connection.config import HostConfig
from controller.hypervisor.hypervisor import Hypervisor
from controller.images.iso.cloud_init_seed import build_seed
from controller.images.pool.preparer import ImagePreparer
from controller.observed.image import ImageState, ImageView
from tests.e2e.conftest import ScratchPool
from tests.factories import an_image

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed"),
]
MIB = 1 << 20


def qemu_img(*words: str) -> str:
    done = subprocess.run(
        ["qemu-img", *words], check=True, capture_output=True, text=True, timeout=60
    )
    return done.stdout


@pytest.fixture(scope="module")
def hypervisor(libvirt_uri: str, scratch_pool: ScratchPool) -> Iterator[Hypervisor]:
    one = Hypervisor([HostConfig("real", libvirt_uri, scratch_pool.name)])
    one.open()
    assert one.host("real").reachable, one.host("real").why
    yield one
    one.close()


class Here:
    """One image of one test in the scratch pool, and the part of a daemon that looks after it."""

    def __init__(self, hypervisor: Hypervisor, pool: ScratchPool, root: Path, name: str) -> None:
        self.hypervisor, self.pool, self.root = hypervisor, pool, root
        self.files = root / "images"
        self.files.mkdir()
        self.name = name
        self.restart()

    def restart(self) -> None:
        self.preparer = ImagePreparer(self.hypervisor, self.files, self.root / "cache", recheck=0.0)

    def image(self, **spec: object) -> EffectiveImage:
        return replace(an_image(**spec), name=self.name)

    def prepare(self, image: EffectiveImage) -> ImageView:
        self.preparer.prepare("real", self.pool.name, image)
        view = self.view(image)
        assert view.state is ImageState.READY, view
        return view

    def view(self, image: EffectiveImage) -> ImageView:
        return self.preparer.view("real", self.pool.name, image)

    def volumes(self) -> set[str]:
        return {path.name for path in self.pool.directory.glob(f"gk-*-{self.name}-*")}


@pytest.fixture
def here(
    hypervisor: Hypervisor,
    scratch_pool: ScratchPool,
    tmp_path: Path,
    prefix: str,
    request: pytest.FixtureRequest,
) -> Iterator[Here]:
    one = Here(
        hypervisor, scratch_pool, tmp_path, f"{prefix}{abs(hash(request.node.name)) % 10**6}"
    )
    yield one
    one.preparer.close()
    for volume in one.volumes():
        hypervisor.delete_volume("real", scratch_pool.name, volume)
    assert one.volumes() == set()


def filled(directory: Path) -> Path:
    """A qcow2 of 8 MiB with something in it, and the same as ``disk.raw`` beside it."""
    raw, disk = directory / "disk.raw", directory / "disk.qcow2"
    with raw.open("wb") as out:
        out.write(b"\xfa\xb8" + b"first" * 30000)
        out.seek(6 * MIB)
        out.write(b"last!" * 30000)
        out.truncate(8 * MIB)
    qemu_img("convert", "-O", "qcow2", str(raw), str(disk))
    return disk


def test_a_base_and_its_overlay_hold_what_the_file_holds(here: Here) -> None:
    disk = filled(here.files)
    view = here.prepare(here.image(source={"file": "disk.qcow2"}))
    assert view.base is not None
    assert view.base_path is not None
    assert view.capacity == 8 * MIB
    assert here.volumes() == {view.base, f"{view.base}.ok"}
    assert Path(view.base_path).read_bytes() == disk.read_bytes()

    overlay = here.hypervisor.create_volume(
        "real",
        here.pool.name,
        f"gk-overlay-{here.name}-1",
        capacity=16 * MIB,
        backing=(view.base_path, view.base_format),
    )
    chain = json.loads(qemu_img("info", "-U", "--backing-chain", "--output=json", overlay.path))
    assert [(one["filename"], one["format"]) for one in chain] == [
        (overlay.path, "qcow2"),
        (view.base_path, "qcow2"),
    ]
    assert chain[0]["backing-filename-format"] == "qcow2"
    assert [one["virtual-size"] for one in chain] == [16 * MIB, 8 * MIB]
    # Equal as far as the shorter reaches; qemu-img finds the rest of the longer to be zeroes.
    assert "identical" in qemu_img("compare", overlay.path, str(here.files / "disk.raw"))


def test_a_raw_disk_a_kernel_and_an_initrd_arrive_whole(here: Here) -> None:
    filled(here.files)
    (here.files / "vmlinuz").write_bytes(b"MZ" + bytes(range(256)) * 1000)
    (here.files / "initrd").write_bytes(b"\x1f\x8b" + bytes(range(255)) * 777)
    view = here.prepare(
        here.image(source={"file": "disk.raw"}, boot={"kernel": "vmlinuz", "initrd": "initrd"})
    )
    assert (view.base_format, view.capacity) == ("raw", 8 * MIB)
    for path, file in (
        (view.base_path, "disk.raw"),
        (view.kernel_path, "vmlinuz"),
        (view.initrd_path, "initrd"),
    ):
        assert path is not None
        assert Path(path).read_bytes() == (here.files / file).read_bytes()


def test_a_new_daemon_finds_it_ready_and_moves_nothing(here: Here) -> None:
    filled(here.files)
    image = here.image(source={"file": "disk.qcow2"})
    ready = here.prepare(image)
    assert ready.base_path is not None
    inode = Path(ready.base_path).stat().st_ino
    here.restart()
    assert here.view(image) == ready
    assert here.prepare(image) == ready
    assert Path(ready.base_path).stat().st_ino == inode


def test_a_base_that_got_a_backing_file_is_refused_by_its_own_header(here: Here) -> None:
    filled(here.files)
    image = here.image(source={"file": "disk.qcow2"})
    base = here.prepare(image).base_path
    assert base is not None
    qemu_img("rebase", "-u", "-F", "raw", "-b", "/etc/passwd", base)
    here.restart()
    view = here.view(image)
    assert (view.state, view.reason) == (ImageState.FAILED, "BaseRefused")
    with pytest.raises(PermanentError, match="virsh vol-delete"):
        here.preparer.prepare("real", here.pool.name, image)


def test_the_remains_of_a_killed_upload_are_replaced(here: Here) -> None:
    disk = filled(here.files)
    image = here.image(source={"file": "disk.qcow2"})
    base = here.prepare(image).base
    assert base is not None
    for volume in (f"{base}.ok", base):
        here.hypervisor.delete_volume("real", here.pool.name, volume)
    here.hypervisor.create_volume("real", here.pool.name, base, capacity=MIB, format="raw")
    here.restart()
    assert here.view(image).state is ImageState.MISSING
    view = here.prepare(image)
    assert view.base_path is not None
    assert Path(view.base_path).read_bytes() == disk.read_bytes()


def test_an_upload_that_is_stopped_leaves_no_volume(here: Here) -> None:
    with (here.files / "disk.raw").open("wb") as disk:
        disk.truncate(64 * MIB)
    here.preparer = ImagePreparer(
        here.hypervisor,
        here.files,
        here.root / "cache",
        on_change=lambda _: here.preparer.close() if here.volumes() else None,
        monotonic=iter(range(10**9)).__next__,
    )
    with pytest.raises(TransientError) as caught:
        here.prepare(here.image(source={"file": "disk.raw"}))
    assert caught.value.reason == "Stopping"
    assert here.volumes() == set()


def test_a_seed_arrives_as_the_volume_cloud_init_looks_for(here: Here) -> None:
    volume = f"gk-seed-{here.name}-1"
    for hostname in ("web1", "web2"):  # the second replaces the first
        here.preparer.seed(
            "real", here.pool.name, volume, instance_id="i-1", hostname=hostname, keys=["ssh-rsa A"]
        )
        content = (here.pool.directory / volume).read_bytes()
        assert content == build_seed(instance_id="i-1", hostname=hostname, keys=["ssh-rsa A"])
