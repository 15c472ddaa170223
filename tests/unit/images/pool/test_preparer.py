"""Images on pools: told at any moment, prepared once, and never half there whatever is killed."""

import hashlib
import os
import subprocess
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controller.desired.effective import EffectiveImage
from controller.desired.schema.image import ImageSource
from controller.errors import (
    GuestkeeperError,
    HostBusyError,
    HostUnreachableError,
    PermanentError,
    TransientError,
)
from controller.images.fetch.digests import Signature
from controller.images.fetch.http import Pace
from controller.images.pool.base_volumes import Storage
from controller.images.pool.preparer import ImagePreparer
from controller.images.progress import Phase
from controller.observed.host import VolumeView
from controller.observed.image import ImageState, ImageView
from tests.factories import an_image, digest_of
from tests.unit.images.fake_pool import KilledError, Pool, qcow2_header
from tests.unit.images.origin import Origin, serving
from tests.waiting import wait_until

MIB = 1 << 20
RAW = b"\x33\xc0".ljust(MIB, b"\0")
IMAGE = an_image(source={"file": "disk.raw"}, boot={"kernel": "vmlinuz", "initrd": "initrd"})
DISK_ONLY = an_image(source={"file": "disk.raw"})


def short(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]


BASE = f"gk-base-debian12-{short(RAW)}.raw"
KERNEL = f"gk-kernel-debian12-{short(b'kernel')}"
INITRD = f"gk-initrd-debian12-{short(b'initrd')}"
WHOLE = {BASE: RAW, KERNEL: b"kernel", INITRD: b"initrd"}


def qcow2_file() -> bytes:
    """A qcow2 of 1 MiB with nothing in it: header, L1 table, refcount table."""
    return qcow2_header(MIB).ljust(4 << 16, b"\0")


def with_digest(sha256: str) -> EffectiveImage:
    """As the schema does not allow it at present: a digest beside a file."""
    image = an_image()
    source = ImageSource.model_construct(file="disk.raw", sha256=sha256)
    spec = image.spec.model_copy(update={"source": source})
    return replace(image, spec=spec, digest=digest_of(source))


class World:
    """A directory of images, a pool, and the daemon's part of it, which can be started anew."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.images = root / "images"
        self.images.mkdir(parents=True)
        self.put("disk.raw", RAW)
        self.put("vmlinuz", b"kernel")
        self.put("initrd", b"initrd")
        self.pool = Pool()
        self.now = 1000.0
        self.changes: list[str] = []
        self.preparer = self.restart()

    def put(self, name: str, content: bytes) -> None:
        (self.images / name).write_bytes(content)

    def restart(self) -> ImagePreparer:
        self.preparer = ImagePreparer(
            self.pool,
            self.images,
            self.root / "cache",
            on_change=self.changes.append,
            clock=lambda: self.now,
            monotonic=lambda: self.now,
            pace=Pace(stall_timeout=5, tries=2, backoff=0.01, max_backoff=0.01),
            recheck=0.0,
        )
        return self.preparer

    def view(self, image: EffectiveImage = IMAGE) -> ImageView:
        return self.preparer.view("local", "default", image)

    def prepare(self, image: EffectiveImage = IMAGE) -> None:
        self.preparer.prepare("local", "default", image)

    def failing(self, image: EffectiveImage = IMAGE) -> GuestkeeperError:
        with pytest.raises(GuestkeeperError) as caught:
            self.prepare(image)
        return caught.value

    def contents(self) -> dict[str, bytes]:
        """The volumes without their markers; each must have one."""
        volumes = {k: v for k, v in self.pool.contents.items() if not k.endswith(".ok")}
        assert set(self.pool.contents) == {*volumes, *(f"{name}.ok" for name in volumes)}
        return volumes


class EachItsOwn(Pool):
    """A pool for each host, over the same calls."""

    def __init__(self, pools: dict[str, Pool]) -> None:
        super().__init__()
        self._pools = pools

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("_") or not hasattr(Storage, name):
            return super().__getattribute__(name)
        pools = self._pools
        return lambda host, *rest, **more: getattr(pools[host], name)(host, *rest, **more)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_an_image_is_missing_until_it_is_prepared_and_then_ready(world: World) -> None:
    assert world.view().state is ImageState.MISSING
    world.prepare()
    assert world.contents() == WHOLE
    assert world.view() == ImageView(
        name="debian12",
        host="local",
        pool="default",
        state=ImageState.READY,
        base=BASE,
        base_path=f"/pool/{BASE}",
        base_format="raw",
        capacity=MIB,
        kernel_path=f"/pool/{KERNEL}",
        initrd_path=f"/pool/{INITRD}",
    )


def test_an_image_without_direct_boot_is_its_disk_alone(world: World) -> None:
    world.prepare(DISK_ONLY)
    assert set(world.contents()) == {BASE}
    assert world.view(DISK_ONLY).kernel_path is None


def test_preparing_what_is_there_uploads_nothing(world: World) -> None:
    world.prepare()
    world.pool.calls.clear()
    world.prepare()
    assert {call.split()[0] for call in world.pool.calls} == {"volume"}


def test_a_new_daemon_finds_it_ready_by_the_volumes_alone(world: World) -> None:
    world.prepare()
    ready = world.view()
    world.restart()
    assert world.view() == ready


def test_without_its_cache_a_new_daemon_reads_the_file_and_uploads_nothing(world: World) -> None:
    world.prepare()
    ready = world.view()
    for record in (world.root / "cache/digests").iterdir():
        record.unlink()
    world.restart()
    assert world.view().state is ImageState.MISSING
    world.pool.calls.clear()
    world.prepare()
    assert world.view() == ready
    assert not any(call.startswith(("upload", "delete", "create")) for call in world.pool.calls)


def test_with_a_digest_in_its_document_not_even_the_file_is_needed(world: World) -> None:
    image = with_digest(hashlib.sha256(RAW).hexdigest())
    world.prepare(image)
    for record in (world.root / "cache/digests").iterdir():
        record.unlink()
    (world.images / "disk.raw").unlink()
    world.restart()
    view = world.view(image)
    assert (view.state, view.base, view.capacity) == (ImageState.READY, BASE, MIB)
    world.prepare(image)


def test_a_ready_image_stays_ready_when_its_file_goes(world: World) -> None:
    world.prepare()
    (world.images / "disk.raw").unlink()
    assert world.view().state is ImageState.READY
    world.restart()
    assert world.view().base == BASE


def test_a_ready_image_is_told_without_asking_the_pool(world: World) -> None:
    world.prepare()
    world.pool.calls.clear()
    for _ in range(5):
        world.view()
    assert world.pool.calls == []


def test_a_base_that_somebody_deleted_is_noticed_within_a_minute(world: World) -> None:
    world.prepare()
    world.pool.contents.clear()
    world.now += 61
    assert world.view().state is ImageState.MISSING
    world.prepare()
    assert world.contents() == WHOLE


def test_a_changed_file_becomes_a_new_base_beside_the_old_one(world: World) -> None:
    world.prepare(DISK_ONLY)
    new = b"new".ljust(2 * MIB, b"\0")
    world.put("disk.raw", new)
    assert world.view(DISK_ONLY).state is ImageState.MISSING
    world.prepare(DISK_ONLY)
    name = f"gk-base-debian12-{short(new)}.raw"
    assert world.contents() == {BASE: RAW, name: new}
    assert world.view(DISK_ONLY).base == name


def test_an_upload_without_its_marker_is_made_again(world: World) -> None:
    world.pool.contents[BASE] = b"\0" * MIB
    world.prepare(DISK_ONLY)
    assert world.contents() == {BASE: RAW}


def test_what_may_have_its_marker_is_not_taken_for_the_remains_of_an_upload(world: World) -> None:
    world.pool.contents[BASE] = RAW
    world.pool.busy = True
    assert world.failing(DISK_ONLY).reason == "PoolBusy"
    assert set(world.pool.contents) == {BASE}
    assert not any(call.startswith(("delete", "upload")) for call in world.pool.calls)
    world.pool.busy = False
    world.now += 10
    world.prepare(DISK_ONLY)
    assert world.contents() == {BASE: RAW}


@pytest.mark.parametrize("looked", ["before", "after", "never"])
def test_an_upload_is_whole_whenever_libvirt_looks_into_it(world: World, looked: str) -> None:
    disk = Path(world.images / "disk.qcow2")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(disk), "8M"], check=True)
    image, pool = an_image(), world.pool
    (world.images / "debian12.qcow2").write_bytes(disk.read_bytes())
    size = disk.stat().st_size
    as_made, as_seen = ("raw", size), ("qcow2", 8 * MIB)
    shapes = {
        "before": [as_seen, as_seen],
        "after": [("qcow2", size), as_seen],
        "never": [("qcow2", size), as_made],
    }[looked]
    plain = pool._view

    def view(name: str) -> VolumeView:
        format, capacity = shapes[1] if f"create {name}.ok" in pool.calls else shapes[0]
        return replace(plain(name), format=format, capacity=capacity)

    pool._view = view  # type: ignore[method-assign]
    world.prepare(image)
    assert world.view(image).capacity == 8 * MIB


def test_a_marker_without_its_volume_blesses_nothing(world: World) -> None:
    world.pool.contents[f"{BASE}.ok"] = b""
    assert world.view(DISK_ONLY).state is ImageState.MISSING
    world.pool.fail["upload"] = TransientError("the line broke")
    world.failing(DISK_ONLY)
    assert f"{BASE}.ok" not in world.pool.contents


def test_a_base_that_was_whole_is_not_deleted_for_want_of_its_marker(world: World) -> None:
    world.prepare(DISK_ONLY)
    del world.pool.contents[f"{BASE}.ok"]
    world.now += 61
    assert world.view(DISK_ONLY).state is ImageState.MISSING
    world.pool.calls.clear()
    world.prepare(DISK_ONLY)
    assert world.contents() == {BASE: RAW}
    assert not any(call.startswith(("delete", "upload")) for call in world.pool.calls)


@pytest.mark.parametrize("reason", ["AccessDenied", "PoolMissing"])
def test_a_base_that_cannot_be_read_is_not_deleted_for_want_of_its_marker(
    world: World, reason: str
) -> None:
    world.prepare(DISK_ONLY)
    del world.pool.contents[f"{BASE}.ok"]
    world.now += 61
    world.pool.fail["read"] = PermanentError("it cannot be read", reason=reason)
    assert world.failing(DISK_ONLY).reason == reason
    assert world.pool.contents == {BASE: RAW}


def test_a_base_that_was_there_before_is_not_deleted_though_it_is_refused(world: World) -> None:
    """It lost its marker, and got a backing file with the times set back: guests may run on it."""
    world.prepare(DISK_ONLY)
    del world.pool.contents[f"{BASE}.ok"]
    world.now += 61
    plain = world.pool._view

    def backed(name: str) -> VolumeView:
        return replace(plain(name), backing="/etc/passwd" if name == BASE else None)

    world.pool._view = backed  # type: ignore[method-assign]
    assert world.failing(DISK_ONLY).reason == "BaseRefused"
    assert world.pool.contents == {BASE: RAW}


@pytest.mark.parametrize("life", ["same daemon", "restarted"])
def test_a_base_that_was_written_to_is_told_and_made_anew_only_without_its_marker(
    world: World, life: str
) -> None:
    world.prepare(DISK_ONLY)
    world.pool.contents[BASE] = b"merged into it".ljust(MIB, b"\0")
    world.pool.modified[BASE] = 5000.0
    world.now += 61
    if life == "restarted":
        world.restart()
    seen = world.view(DISK_ONLY)
    assert (seen.state, seen.changed_at) == (ImageState.READY, 5000.0)
    world.prepare(DISK_ONLY)
    assert world.contents()[BASE] != RAW, "guests may stand on it"
    del world.pool.contents[f"{BASE}.ok"]  # virsh vol-delete, as its message says
    world.now += 61
    assert world.view(DISK_ONLY).state is ImageState.MISSING
    world.prepare(DISK_ONLY)
    assert world.contents() == {BASE: RAW}
    seen = world.view(DISK_ONLY)
    assert (seen.state, seen.changed_at) == (ImageState.READY, 0.0)


def test_what_was_whole_once_and_then_broke_is_not_taken_as_good(world: World) -> None:
    world.prepare(DISK_ONLY)
    world.pool.contents.clear()
    world.now += 61

    def break_off() -> None:
        world.pool.fail["delete"] = TransientError("the line broke")
        raise TransientError("the line broke")

    world.pool.amid = break_off
    world.failing(DISK_ONLY)
    assert BASE in world.pool.contents  # the remains, for they could not be cleared away
    world.pool.amid = lambda: None
    world.pool.fail.clear()
    world.now += 10
    world.prepare(DISK_ONLY)
    assert world.contents() == {BASE: RAW}


def crashes() -> list[tuple[int, str]]:
    """Every call of a whole preparation, and each moment of it."""
    return [(number, when) for number in range(40) for when in ("before", "amid", "after")]


@pytest.mark.parametrize(("number", "when"), crashes())
def test_killed_at_any_moment_the_next_daemon_ends_in_the_same_world(
    world: World, number: int, when: str
) -> None:
    world.pool.kill_at = (number, when)
    try:
        world.prepare()
    except KilledError:
        pass
    else:
        if world.pool.kill_at is None:
            pytest.fail("the kill was swallowed")
    world.pool.kill_at = None
    seen = world.restart().view("local", "default", IMAGE)
    if seen.state is ImageState.READY:
        assert world.contents() == WHOLE
    world.prepare()
    assert world.contents() == WHOLE
    assert world.view().state is ImageState.READY


def test_the_crashes_reach_every_call(world: World) -> None:
    world.prepare()
    assert len(world.pool.calls) < 40
    assert sum(call.startswith("upload") for call in world.pool.calls) == 3


def test_a_failed_upload_is_cleared_away_and_remembered(world: World) -> None:
    def fail() -> None:
        raise TransientError("the line broke", reason="StorageFailed")

    world.pool.amid = fail
    world.failing(DISK_ONLY)
    assert world.pool.contents == {}
    view = world.view(DISK_ONLY)
    assert (view.state, view.reason) == (ImageState.FAILED, "StorageFailed")
    assert (view.message, view.retry_at) == ("the line broke", world.now + 10)


def test_failures_back_off_to_five_minutes(world: World) -> None:
    world.pool.fail["upload"] = TransientError("no")
    waits = []
    for _ in range(8):
        world.failing(DISK_ONLY)
        retry_at = world.view(DISK_ONLY).retry_at
        assert retry_at is not None
        waits.append(retry_at - world.now)
        world.now = retry_at
    assert waits == [10, 20, 40, 80, 160, 300, 300, 300]


def test_within_the_backoff_nothing_is_tried(world: World) -> None:
    world.pool.fail["upload"] = TransientError("no", reason="StorageFailed")
    world.failing(DISK_ONLY)
    world.pool.calls.clear()
    world.now += 4
    error = world.failing(DISK_ONLY)
    assert isinstance(error, TransientError)
    assert (str(error), error.reason, error.retry_after) == ("no", "StorageFailed", 6)
    assert world.pool.calls == []


def test_a_file_that_comes_ends_the_failure_at_once(world: World) -> None:
    (world.images / "disk.raw").unlink()
    error = world.failing(DISK_ONLY)
    assert isinstance(error, PermanentError)
    assert world.view(DISK_ONLY).reason == "ImageNotFound"
    assert isinstance(world.failing(DISK_ONLY), PermanentError)
    world.put("disk.raw", RAW)
    assert world.view(DISK_ONLY).state is ImageState.MISSING
    world.prepare(DISK_ONLY)
    assert world.view(DISK_ONLY).state is ImageState.READY


def test_another_spec_ends_the_failure_at_once(world: World) -> None:
    wrong = with_digest("0" * 64)
    assert world.failing(wrong).reason == "ChecksumMismatch"
    assert world.view(wrong).state is ImageState.FAILED
    assert world.view(DISK_ONLY).state is ImageState.MISSING
    world.prepare(DISK_ONLY)


def test_a_success_forgets_the_failures_before_it(world: World) -> None:
    world.pool.fail["upload"] = TransientError("no")
    world.failing(DISK_ONLY)
    world.now += 10
    world.pool.fail.clear()
    world.prepare(DISK_ONLY)
    world.pool.contents.clear()
    world.now += 61
    world.pool.fail["upload"] = TransientError("no")
    world.failing(DISK_ONLY)
    assert world.view(DISK_ONLY).retry_at == world.now + 10


def test_a_pool_without_room_is_told_with_figures_before_anything_is_sent(world: World) -> None:
    world.pool.available = MIB // 2
    error = world.failing()
    assert isinstance(error, TransientError)
    assert error.reason == "PoolFull"
    assert str(error).startswith(
        "storage pool default of host local has 524288 bytes free, and image debian12 needs 1 MiB"
    )
    assert world.pool.contents == {}


def test_the_remains_of_a_killed_upload_count_as_room(world: World) -> None:
    world.pool.contents[BASE] = b"\0" * MIB
    world.pool.available = 0
    world.prepare(DISK_ONLY)
    assert world.contents() == {BASE: RAW}


def test_a_pool_that_is_not_there_is_told(world: World) -> None:
    world.pool.fail["volume"] = PermanentError("no storage pool", reason="PoolMissing")
    assert world.failing(DISK_ONLY).reason == "PoolMissing"
    assert world.pool.contents == {}


def test_a_host_that_does_not_answer_is_asked_again_after_ten_seconds_each_time(
    world: World,
) -> None:
    world.pool.fail["volume"] = HostUnreachableError("no route")
    for _ in range(4):
        assert isinstance(world.failing(), HostUnreachableError)
        view = world.view()
        assert (view.state, view.reason) == (ImageState.FAILED, "HostUnreachable")
        assert view.retry_at == world.now + 10
        world.now += 10
    world.pool.fail.clear()
    world.prepare()
    assert world.view().state is ImageState.READY


def test_an_unexpected_failure_is_shown_and_tried_again_ever_later(world: World) -> None:
    world.pool.fail["upload"] = OverflowError("a bug")
    waits = []
    for _ in range(6):
        with pytest.raises(OverflowError):
            world.prepare(DISK_ONLY)
        view = world.view(DISK_ONLY)
        assert (view.state, view.reason) == (ImageState.FAILED, "InternalError")
        assert "a bug" in view.message
        assert view.retry_at is not None
        waits.append(view.retry_at - world.now)
        world.now = view.retry_at
    assert waits == [10, 20, 40, 80, 160, 300]
    world.pool.fail.clear()
    world.prepare(DISK_ONLY)
    assert world.view(DISK_ONLY).state is ImageState.READY


@pytest.mark.parametrize(
    "error",
    [HostUnreachableError("16 calls are stuck"), OverflowError("a bug"), TransientError("")],
)
def test_a_loop_that_does_not_wait_tries_once(world: World, error: Exception) -> None:
    world.pool.fail["upload"] = error
    for _ in range(100):
        with pytest.raises((type(error), TransientError)):
            world.prepare(DISK_ONLY)
    assert sum(call.startswith("upload") for call in world.pool.calls) == 1


def test_a_half_upload_of_another_process_is_never_blessed(world: World) -> None:
    other = World(world.root / "other")
    other.pool.contents, other.pool.written = world.pool.contents, world.pool.written
    made = world.pool.create_volume

    def die() -> None:
        if other.pool.written[BASE] > MIB // 2:
            raise KilledError

    other.pool.amid = die

    def create(*args: str, **options: int | str) -> VolumeView:
        world.pool.create_volume = made  # type: ignore[method-assign]
        with pytest.raises(KilledError):
            other.prepare(DISK_ONLY)
        return made(*args, **options)  # type: ignore[arg-type]

    world.pool.create_volume = create  # type: ignore[assignment, method-assign]
    error = world.failing(DISK_ONLY)
    assert (error.reason, "another guestkeeper" in str(error)) == ("UploadDisturbed", True)
    assert world.restart().view("local", "default", DISK_ONLY).state is ImageState.MISSING
    world.prepare(DISK_ONLY)
    assert world.contents() == {BASE: RAW}


def test_another_process_that_made_it_whole_meanwhile_is_as_good(world: World) -> None:
    other = World(world.root / "other")
    other.pool.contents, other.pool.written = world.pool.contents, world.pool.written
    made = world.pool.create_volume

    def create(*args: str, **options: int | str) -> VolumeView:
        other.prepare(DISK_ONLY)
        return made(*args, **options)  # type: ignore[arg-type]

    world.pool.create_volume = create  # type: ignore[assignment, method-assign]
    world.prepare(DISK_ONLY)
    assert world.contents() == other.contents() == {BASE: RAW}


def test_what_was_ready_is_believed_while_the_host_is_away(world: World) -> None:
    world.prepare()
    world.now += 61
    world.pool.fail["volume"] = HostUnreachableError("gone")
    assert world.view().state is ImageState.READY
    world.restart()
    with pytest.raises(HostUnreachableError):
        world.view()


@pytest.mark.parametrize(
    "error",
    [
        HostBusyError("too many calls are under way", retry_after=2.0),
        HostUnreachableError("no answer within 15 s", reason="DeadlineExceeded"),
        PermanentError("no storage pool", reason="PoolMissing"),
    ],
)
def test_what_was_ready_is_believed_while_it_cannot_be_looked_at(
    world: World, error: GuestkeeperError
) -> None:
    world.prepare()
    world.now += 61
    world.pool.fail["volume"] = error
    assert world.view().state is ImageState.READY
    calls = len(world.pool.calls)
    assert world.view().state is ImageState.READY
    assert len(world.pool.calls) == calls, "it is not asked at each look"
    world.pool.fail.clear()
    del world.pool.contents[f"{BASE}.ok"]
    world.now += 10
    assert world.view().state is ImageState.MISSING


@pytest.mark.parametrize(
    "error",
    [
        TransientError("cannot open: Input/output error", reason="StorageFailed"),
        HostUnreachableError("no answer within 15 s", reason="DeadlineExceeded"),
        PermanentError("no access", reason="AccessDenied"),
    ],
)
def test_a_base_that_a_new_daemon_cannot_read_now_is_told_and_looked_at_again_ever_later(
    world: World, error: GuestkeeperError
) -> None:
    world.prepare(DISK_ONLY)
    world.restart()
    world.pool.fail["read"] = error
    for pause in (10, 20, 40, 60, 60):
        view = world.view(DISK_ONLY)
        assert (view.state, view.reason) == (ImageState.FAILED, error.reason)
        assert (view.message, view.retry_at) == (str(error), world.now + pause)
        world.now += pause - 1
        calls = len(world.pool.calls)
        assert world.view(DISK_ONLY) == view
        assert len(world.pool.calls) == calls
        world.now += 1
    world.pool.fail.clear()
    assert world.view(DISK_ONLY).state is ImageState.READY


def test_a_file_written_during_its_upload_is_not_taken(world: World) -> None:
    world.pool.amid = lambda: os.utime(world.images / "disk.raw", (1, 1))
    assert world.failing(DISK_ONLY).reason == "ImageChanging"
    assert world.pool.contents == {}
    assert world.view(DISK_ONLY).state is ImageState.FAILED
    world.pool.amid = lambda: None
    world.now += 10
    world.prepare(DISK_ONLY)
    assert world.contents() == {BASE: RAW}


@pytest.mark.parametrize(
    ("header", "says"),
    [
        (qcow2_header(MIB, backing=104) + b"/etc/passwd", "overlay of a backing file"),
        (qcow2_header(MIB, incompatible=4), "external data file"),
        (RAW[:512], "is no qcow2"),
    ],
)
def test_a_volume_is_read_again_before_it_is_a_base(world: World, header: bytes, says: str) -> None:
    """Whatever came between the file that was checked and the volume that QEMU will open."""
    world.put("disk.raw", qcow2_file())
    real = world.pool.upload_volume

    def upload(host: str, pool: str, name: str, *rest: Any, **more: Any) -> VolumeView:
        view = real(host, pool, name, *rest, **more)
        world.pool.contents[name] = header.ljust(len(qcow2_file()), b"\0")
        return view

    world.pool.upload_volume = upload  # type: ignore[method-assign]
    error = world.failing(DISK_ONLY)
    assert (error.reason, says in str(error)) == ("BaseRefused", True), error
    assert world.pool.contents == {}
    assert world.view(DISK_ONLY).state is ImageState.FAILED


def test_a_base_that_got_a_backing_file_is_not_used_and_the_next_daemon_says_so(
    world: World,
) -> None:
    world.put("disk.raw", qcow2_file())
    world.prepare(DISK_ONLY)
    base = world.view(DISK_ONLY).base
    assert base is not None
    changed = (qcow2_header(MIB, backing=104) + b"/etc/passwd").ljust(MIB, b"\0")
    world.pool.contents[base] = changed
    world.restart()
    view = world.view(DISK_ONLY)
    assert (view.state, view.reason) == (ImageState.FAILED, "BaseRefused")
    assert f"virsh vol-delete {base} default" in view.message
    assert world.failing(DISK_ONLY).reason == "BaseRefused"
    assert world.pool.contents[base] == changed  # guests may run on it: nothing is deleted


def test_a_file_rewritten_during_its_upload_with_its_times_set_back_is_not_taken(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where nothing about the file's status tells: what was sent is digested."""
    frozen = Signature.of((world.images / "disk.raw").stat())
    monkeypatch.setattr(Signature, "of", classmethod(lambda *_: frozen))
    disk = world.images / "disk.raw"
    with disk.open("wb") as out:
        out.truncate(8 * MIB)
    world.pool.amid = lambda: os.pwrite(os.open(disk, os.O_WRONLY), b"evil" * 999, 7 * MIB) and None
    assert world.failing(DISK_ONLY).reason == "ImageChanging"
    assert world.pool.contents == {}


def test_progress_is_seen_while_it_happens(world: World) -> None:
    seen: list[tuple[ImageState, str]] = []
    figures: list[tuple[Phase, int, int | None]] = []

    def look() -> None:
        view = world.view(DISK_ONLY)
        seen.append((view.state, view.message))
        figures.extend((p.phase, p.done, p.total) for p in world.preparer.progress())
        world.now += 1

    world.pool.amid = look
    world.prepare(DISK_ONLY)
    assert (ImageState.PREPARING, "uploading 0 of 1 MiB (50 %)") in seen
    assert (Phase.UPLOADING, MIB, MIB) in figures
    assert world.preparer.progress() == ()
    assert len(world.changes) >= MIB // 65536


def test_progress_is_told_at_most_each_second(world: World) -> None:
    world.prepare(DISK_ONLY)  # the clock stands still: begun, checking, uploading, done
    assert world.changes == ["debian12"] * 4


def test_many_who_want_it_at_once_make_it_once(world: World) -> None:
    began, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        began.set()
        go_on.wait(60)

    world.pool.amid = hold
    threads = [threading.Thread(target=world.prepare, args=(DISK_ONLY,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    assert began.wait(60)
    assert world.view(DISK_ONLY).state is ImageState.PREPARING
    go_on.set()
    for thread in threads:
        thread.join(60)
    assert world.contents() == {BASE: RAW}
    assert sum(call.startswith("upload") for call in world.pool.calls) == 1


def test_a_stopping_daemon_ends_an_upload_and_leaves_nothing(world: World) -> None:
    world.pool.amid = world.preparer.close
    assert world.failing(DISK_ONLY).reason == "Stopping"
    assert world.pool.contents == {}
    assert world.view(DISK_ONLY).state is ImageState.MISSING


def test_two_hosts_share_one_download(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    pools = {"one": Pool(), "two": Pool()}
    world.preparer = ImagePreparer(
        EachItsOwn(pools), world.images, world.root / "cache", monotonic=lambda: world.now
    )
    with serving(Origin(content=RAW, gate=threading.Event())) as origin:
        image = an_image(
            source={"url": origin.url, "sha256": hashlib.sha256(RAW).hexdigest()},
        )
        threads = [
            threading.Thread(target=world.preparer.prepare, args=(host, "default", image))
            for host in ("one", "two")
        ]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(world.preparer.progress()) == 2, 5, "both began")
        wait_until(lambda: origin.requests, 5, "the request came")
        assert origin.gate is not None
        origin.gate.set()
        for thread in threads:
            thread.join(60)
        assert len(origin.requests) == 1
    assert world.preparer.view("one", "default", image).base == BASE
    assert world.preparer.view("two", "default", image).state is ImageState.READY


def test_a_wrong_download_is_not_fetched_every_few_seconds(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    with serving(Origin(content=RAW)) as origin:
        image = an_image(source={"url": origin.url, "sha256": "0" * 64})
        assert world.failing(image).reason == "ChecksumMismatch"
        assert world.view(image).retry_at == world.now + 300
    assert world.pool.contents == {}


def test_a_download_that_fails_says_so_while_it_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It said "waiting" for as long as the mirror was away."""
    monkeypatch.setenv("NO_PROXY", "*")
    told: list[str] = []

    def look(_: str) -> None:
        told.extend(one.message for one in world.preparer.progress())

    with serving(Origin(content=RAW, statuses=[503] * 3)) as origin:
        image = an_image(source={"url": origin.url, "sha256": hashlib.sha256(RAW).hexdigest()})
        world.changes = Told(look)  # type: ignore[assignment]
        world.restart()
        assert world.failing(image).reason == "DownloadFailed"
        assert told == [
            "waiting",
            "downloading, try 1 of 2 failed: HTTP 503 Service Unavailable",
            "downloading, try 2 of 2 failed: HTTP 503 Service Unavailable",
        ]
        told.clear()
        world.now += 10
        world.prepare(image)
        assert "try 2, after: downloading http://127.0.0.1" in told[0]
        assert "try 1 of 2 failed: HTTP 503" in told[1]
        assert told[-1].startswith("uploading")
        assert "failed" not in told[-1]


class Told:
    """Stands where the changes are kept, and looks at each."""

    def __init__(self, look: Callable[[str], None]) -> None:
        self.append = look


def test_a_seed_is_a_volume_made_anew_each_time(world: World) -> None:
    for name in ("web1", "web2"):
        world.preparer.seed(
            "local", "default", "gk-seed-web1", instance_id="i", hostname=name, keys=["k"]
        )
    assert b"web2" in world.pool.contents["gk-seed-web1"]
    assert b"web1" not in world.pool.contents["gk-seed-web1"]
