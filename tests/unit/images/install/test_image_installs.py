"""Installed images on pools: seen at any moment, built once whoever asks, and tended."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.desired.effective import EffectiveImage
from controller.errors import GuestkeeperError, HostBusyError, PermanentError
from controller.images.images import Directories, Hooks, Images
from controller.observed.build import BuilderConfig, BuildRecord, Step
from controller.observed.domain import StateReason
from controller.observed.image import ImageState, ImageView
from tests.factories import an_image, an_install_image
from tests.unit.images.builders import GOOD, Builders, Domain
from tests.unit.images.install.test_build import Keyring
from tests.waiting import wait_until

IMAGE = an_install_image()
OWNER = "this daemon"
NEWER = an_install_image(answer="# newer\npoweroff\n")


class World:
    """A host and a daemon's images room, which can be started anew; time stands still."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "images").mkdir()
        (root / "state").mkdir()
        (root / "images/vmlinuz").write_bytes(b"kernel")
        (root / "images/initrd").write_bytes(b"initrd")
        self.host = Builders()
        self.now = 1_800_000_000.0
        self.changed: list[str] = []
        self.built: list[str] = []
        self.failed: list[str] = []
        self.collected: list[str] = []
        self.images = self.restart()

    def restart(self) -> Images:
        self.images = Images(
            self.host,
            Keyring(),
            Directories(self.root / "images", self.root / "cache", self.root / "state"),
            Hooks(
                self.changed.append,
                lambda image, host, seconds: self.built.append(image),
                lambda image, host, record: self.failed.append(record.reason),
                lambda volume, host: self.collected.append(volume),
            ),
            owner=OWNER,
            clock=lambda: self.now,
            unused_ttl=100.0,
        )
        self.host.on_event = self.images.knock
        return self.images

    def view(self, image: EffectiveImage = IMAGE) -> ImageView:
        return self.images.view("local", "default", image)

    def prepare(self, image: EffectiveImage = IMAGE) -> None:
        self.images.prepare("local", "default", image)

    def reach(self, state: ImageState, image: EffectiveImage = IMAGE) -> ImageView:
        wait_until(lambda: self.view(image).state is state, 10, f"{image.name} to be {state}")
        return self.view(image)

    def tend(self, *images: EffectiveImage, certain: bool = True) -> None:
        named = {image.name: image for image in images}
        self.images.tend("local", lambda: named, ["default"], certain=certain)

    def bases(self) -> set[str]:
        return {name for name in self.host.contents if not name.endswith(".ok")}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.images.close()
    wait_until(
        lambda: not any(t.name.startswith("build-") for t in threading.enumerate()),
        10,
        "the builds' threads to end",
    )


def test_an_install_is_missing_then_being_made_then_ready(world: World) -> None:
    assert world.view().state is ImageState.MISSING
    world.host.scripts = [("phase packages", "hang")]
    world.prepare()
    wait_until(lambda: "packages" in world.view().message, 10, "the installer's phase to be told")
    view = world.view()
    assert view.state is ImageState.PREPARING
    assert view.message == "installing, attempt 1 of 2: packages"
    (name,) = world.host.domains
    for line in ("sealed", "success"):
        world.host.ports[name, "marker"].say(line + "\n")
    assert world.host.ports[name, "marker"].answered(10)
    world.host.stop(name, StateReason.SHUTDOWN)
    ready = world.reach(ImageState.READY)
    assert ready.base in world.bases()
    assert ready.base_path == f"/pool/{ready.base}"
    assert world.built == ["rocky9"]
    assert world.failed == []


def test_ten_guests_that_ask_at_once_cause_one_build(world: World) -> None:
    threads = [threading.Thread(target=world.prepare) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    world.reach(ImageState.READY)
    assert len(world.host.starts) == 1


def test_a_failed_build_is_told_with_its_log_and_is_not_tried_again_unasked(world: World) -> None:
    world.host.scripts = [("log no package nginx-full", "failure payload", "poweroff"), GOOD]
    image = an_install_image(retries=0)
    world.prepare(image)
    failed = world.reach(ImageState.FAILED, image)
    assert failed.stalled
    assert failed.reason == "InstallFailed"
    assert "no package nginx-full" in failed.log_tail
    assert failed.retry_at is None
    world.restart()
    assert world.view(image).stalled, "also for the next daemon"
    assert world.images.retry(image, ["local"])
    assert world.view(image).state is ImageState.MISSING
    world.prepare(image)
    world.reach(ImageState.READY, image)


def test_retry_of_what_did_not_fail_says_so(world: World) -> None:
    assert not world.images.retry(IMAGE, ["local"])


def test_what_keeps_a_build_from_beginning_is_told_and_tried_again_later(world: World) -> None:
    (world.root / "images/vmlinuz").unlink()
    world.prepare()
    failed = world.reach(ImageState.FAILED)
    assert failed.reason == "ImageNotFound"
    assert failed.retry_at == world.now + 10
    with pytest.raises(PermanentError, match="vmlinuz"):
        world.prepare()
    (world.root / "images/vmlinuz").write_bytes(b"kernel")
    world.now += 10
    world.prepare()
    world.reach(ImageState.READY)


def test_a_changed_content_is_built_beside_and_ends_the_build_of_the_older(world: World) -> None:
    world.prepare()
    first = world.reach(ImageState.READY).base
    world.host.scripts = [GOOD, ("phase packages", "hang"), GOOD]
    between = an_install_image(answer="# between\npoweroff\n")
    world.prepare(between)
    wait_until(lambda: "packages" in world.view(between).message, 10, "its phase to be told")
    assert world.view(NEWER).state is ImageState.MISSING
    world.prepare(NEWER)
    world.reach(ImageState.READY, NEWER)
    assert world.bases() == {first, world.view(NEWER).base}
    assert not world.host.domains


def test_a_changed_installer_kernel_is_another_content(world: World) -> None:
    world.prepare()
    first = world.reach(ImageState.READY).base
    (world.root / "images/vmlinuz").write_bytes(b"a newer kernel")
    world.restart()
    assert world.view().state is ImageState.MISSING
    world.prepare()
    assert world.reach(ImageState.READY).base != first


def test_a_lost_cache_costs_no_base(world: World) -> None:
    world.prepare()
    base = world.reach(ImageState.READY).base
    for name in ("vmlinuz", "initrd"):
        (world.root / "images" / name).unlink()
    shutil.rmtree(world.root / "cache")
    world.restart()
    assert world.view().base == base


def test_a_new_daemon_goes_on_with_a_build_that_no_guest_asks_for(world: World) -> None:
    world.host.scripts = [("phase packages", "hang")]
    world.prepare()
    wait_until(lambda: "packages" in world.view().message, 10, "its phase to be told")
    world.images.close()
    world.restart()
    (name,) = world.host.domains
    world.tend(IMAGE)
    world.host.ports[name, "marker"].say("sealed\nsuccess\n")
    assert world.host.ports[name, "marker"].answered(10), "somebody listens"
    world.host.stop(name, StateReason.SHUTDOWN)
    world.reach(ImageState.READY)
    assert len(world.host.starts) == 1


def test_a_builder_left_beside_its_base_is_removed(world: World) -> None:
    world.prepare()
    base = world.reach(ImageState.READY).base
    assert base is not None
    record = BuildRecord("rocky9", IMAGE.content, "default", base, step=Step.STARTED)
    world.host.domains["rocky9.build-left"] = Domain(world.host.starts[0], record)
    world.restart()
    world.tend(IMAGE)
    assert not world.host.domains
    assert world.bases() == {base}


def test_a_builder_that_nobody_wants_is_removed_unless_documents_have_errors(world: World) -> None:
    world.host.scripts = [("failure x", "poweroff")]
    image = an_install_image(retries=0)
    world.prepare(image)
    world.reach(ImageState.FAILED, image)
    world.tend(certain=False)
    assert world.host.domains
    world.tend()
    assert not world.host.domains


def test_a_builder_of_another_daemon_is_left_alone(world: World) -> None:
    record = BuildRecord("other", "c0ffee", "default", "gk-base-other", owner="another daemon")
    config = BuilderConfig("other.build-1", "tcg", 1, 1 << 29, "default", "gk-base-other")
    world.host.domains["other.build-1"] = Domain(config, record)
    world.tend()
    assert "other.build-1" in world.host.domains


def test_a_builder_that_cannot_be_removed_does_not_keep_the_others(world: World) -> None:
    for number in (1, 2):
        record = BuildRecord("gone", "c0ffee", "default", "gk-base-gone", owner=OWNER)
        config = BuilderConfig(f"gone.build-{number}", "tcg", 1, 1 << 29, "default", "gk-base-gone")
        world.host.domains[config.name] = Domain(config, record)
    world.host.stubborn = {"gone.build-1"}
    world.tend()
    assert set(world.host.domains) == {"gone.build-1"}


def test_a_refresh_that_finds_no_mirror_leaves_the_base_ready(world: World) -> None:
    world.prepare()
    ready = world.reach(ImageState.READY)
    (world.root / "images/vmlinuz").unlink()
    world.images.build("local", "default", IMAGE, refresh=True)
    wait_until(lambda: not world.images.progress(), 10, "the build to end")
    assert world.view() == ready


def test_an_install_that_was_ready_is_so_while_it_cannot_be_looked_at(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.prepare()
    ready = world.reach(ImageState.READY)
    asked = []

    def volume(host: str, pool: str, name: str) -> None:
        asked.append(name)
        raise HostBusyError("too many calls are under way")

    monkeypatch.setattr(world.host, "volume", volume)
    monkeypatch.setattr(world.images._installs, "_monotonic", lambda: 1e9)
    assert world.view() == ready
    assert asked
    asked.clear()
    assert world.view() == ready
    assert not asked, "it is not asked at each look"


def test_a_refresh_that_finds_nothing_new_is_no_build(world: World) -> None:
    world.prepare()
    ready = world.reach(ImageState.READY)
    world.images.build("local", "default", IMAGE, refresh=True)
    wait_until(lambda: not world.images.progress(), 10, "the build to end")
    assert world.view() == ready
    assert world.built == ["rocky9"], "the first one alone"


def test_a_build_whose_document_is_gone_is_ended_and_removed(world: World) -> None:
    world.host.scripts = [("phase packages", "hang")]
    world.prepare()
    wait_until(lambda: "packages" in world.view().message, 10, "its phase to be told")

    def removed() -> bool:
        world.tend()
        return not world.host.domains

    wait_until(removed, 10, "the builder to be removed")
    assert not world.bases()


def test_an_unused_base_is_deleted_after_its_time_and_one_in_use_never(world: World) -> None:
    world.prepare()
    old = world.reach(ImageState.READY).base
    assert old is not None
    world.host.backings["web1-system.qcow2"] = f"/pool/{old}"
    world.host.contents["web1-system.qcow2"] = b""
    world.tend(NEWER)
    world.now += 1000
    world.tend(NEWER)
    assert old in world.bases(), "a guest stands on it"
    del world.host.contents["web1-system.qcow2"]
    world.host.used = {f"/pool/{old}"}
    world.tend(NEWER)
    world.now += 1000
    world.tend(NEWER)
    assert old in world.bases(), "a domain names it"
    world.host.used = set()
    world.tend(NEWER)
    world.now += 99
    world.restart()
    world.tend(NEWER)
    assert old in world.bases(), "its time is not over"
    world.now += 1
    world.tend(NEWER)
    assert old in world.bases(), "the daemon has just started, with whatever clock"
    world.now += 99
    world.tend(NEWER)
    assert not world.host.contents
    assert world.collected == [old]


def test_no_base_is_collected_while_it_is_not_known_what_stands_on_it(world: World) -> None:
    world.prepare()
    base = world.reach(ImageState.READY).base
    world.tend(NEWER)
    world.now += 1000
    for busy, stopped in ((True, set[str]()), (False, {"other"})):
        world.host.busy, world.host.stopped = busy, stopped
        world.tend(NEWER)
        assert base in world.bases()
    world.host.stopped = set()
    world.tend(NEWER)
    assert world.collected == [base]


def test_a_disk_of_a_guest_that_is_called_like_a_base_is_none(world: World) -> None:
    disks = {"gk-base-camp-7dfebca6-data.qcow2", "gk-base-camp-7dfebca6-system.qcow2"}
    world.host.contents.update(dict.fromkeys(disks, b"precious"))
    for _ in range(2):
        world.tend()
        world.now += 1000
    assert disks <= set(world.host.contents)


def test_a_base_is_used_however_its_path_is_written(world: World) -> None:
    world.prepare()
    base = world.reach(ImageState.READY).base
    world.host.backings["web1-system.qcow2"] = f"/elsewhere/../pool/{base}"
    world.host.contents["web1-system.qcow2"] = b""
    for _ in range(2):
        world.tend(NEWER)
        world.now += 1000
    assert base in world.bases()


def test_a_base_that_an_image_wants_is_never_collected(world: World) -> None:
    world.prepare()
    base = world.reach(ImageState.READY).base
    for _ in range(2):
        world.tend(IMAGE)
        world.now += 1000
    assert base in world.bases()


def test_old_bases_of_ready_disks_are_collected_too(world: World) -> None:
    (world.root / "images/disk.raw").write_bytes(b"\x33\xc0".ljust(1 << 20, b"\0"))
    image = an_image(source={"file": "disk.raw"})
    world.prepare(image)
    first = world.view(image).base
    (world.root / "images/disk.raw").write_bytes(b"\x33\xc1".ljust(1 << 20, b"\0"))
    world.tend(image)
    world.now += 1000
    world.tend(image)
    assert first in world.bases(), "what the file holds now is not known: any may be wanted"
    world.prepare(image)
    second = world.view(image).base
    world.tend(image)
    world.now += 1000
    world.tend(image)
    assert world.bases() == {second}


def test_a_ready_disk_cannot_be_built(world: World) -> None:
    with pytest.raises(GuestkeeperError, match="ready disk"):
        world.images.build("local", "default", an_image(), refresh=False)


def test_the_log_is_read_and_followed_to_the_end_of_the_build(world: World) -> None:
    world.host.scripts = [("log Installing kernel", *GOOD)]
    world.prepare()
    followed = b"".join(world.images.build_log("rocky9", 65536, follow=True))
    assert b"Installing kernel\n" in followed
    assert b"installed" in followed
    assert b"".join(world.images.build_log("rocky9", 65536, follow=False)) == followed
    assert b"".join(world.images.build_log("never", 65536, follow=False)) == b""


def test_one_install_at_a_time_runs_on_a_host(world: World) -> None:
    world.host.scripts = [("phase packages", "hang"), GOOD]
    other = an_install_image("fedora")
    world.prepare()
    wait_until(lambda: "packages" in world.view().message, 10, "its phase to be told")
    world.prepare(other)
    wait_until(lambda: "another image" in world.view(other).message, 10, "the other to wait")
    assert len(world.host.starts) == 1
    assert [d.record.step for d in world.host.domains.values()] == [Step.STARTED]


def test_a_daemon_that_starts_with_a_wrong_clock_deletes_no_base(world: World) -> None:
    world.prepare()
    old = world.reach(ImageState.READY).base
    world.tend(NEWER)
    world.restart()
    world.now += 800
    world.tend(NEWER)
    world.now -= 790  # somebody sets it right
    world.tend(NEWER)
    assert old in world.bases()
