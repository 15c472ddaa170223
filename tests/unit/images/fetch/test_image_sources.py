"""From an Image's spec to checked local files; what is remembered, and what is refused."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from controller.desired.effective import EffectiveImage
from controller.desired.schema.image import ImageSource
from controller.errors import GuestkeeperError, PermanentError, TransientError
from controller.images.fetch import digests
from controller.images.fetch.digests import FileFacts
from controller.images.fetch.http import Pace
from controller.images.fetch.sources import Content, Role, Sources
from controller.images.progress import ImageProgress, Phase
from tests.factories import an_image, digest_of
from tests.unit.images.fake_pool import qcow2_header
from tests.unit.images.origin import Origin, serving

MIB = 1 << 20
RAW = b"\x33\xc0".ljust(2 * MIB, b"\0")
SHA = hashlib.sha256(RAW).hexdigest()


@pytest.fixture
def images(tmp_path: Path) -> Path:
    directory = tmp_path / "images"
    directory.mkdir()
    (directory / "disk.raw").write_bytes(RAW)
    (directory / "vmlinuz").write_bytes(b"kernel")
    (directory / "initrd").write_bytes(b"initrd")
    return directory


@pytest.fixture
def sources(images: Path, tmp_path: Path) -> Sources:
    return Sources(images, tmp_path / "cache")


def of_file(file: str = "disk.raw", sha256: str | None = None) -> EffectiveImage:
    # The schema takes a sha256 beside a url only; this room checks one wherever it stands.
    image = an_image()
    source = ImageSource.model_construct(file=file, sha256=sha256)
    spec = image.spec.model_copy(update={"source": source})
    return replace(image, spec=spec, digest=digest_of(source))


def obtain(sources: Sources, image: EffectiveImage, role: Role = Role.DISK) -> FileFacts:
    return sources.obtain(image, role, lambda *_: None)


def failing(sources: Sources, image: EffectiveImage) -> GuestkeeperError:
    with pytest.raises(GuestkeeperError) as caught:
        obtain(sources, image)
    return caught.value


def test_a_file_is_hashed_and_its_format_found_out(sources: Sources, images: Path) -> None:
    seen: list[tuple[Phase, int, int | None]] = []
    facts = sources.obtain(of_file(), Role.DISK, lambda *figures: seen.append(figures))
    assert (facts.path, facts.sha256) == (str(images / "disk.raw"), SHA)
    assert (facts.format, facts.virtual_size) == ("raw", 2 * MIB)
    assert seen == [(Phase.CHECKING, MIB, 2 * MIB), (Phase.CHECKING, 2 * MIB, 2 * MIB)]


def test_nothing_is_known_of_a_file_before_it_was_read(sources: Sources) -> None:
    assert sources.known(of_file(), Role.DISK) is None
    obtain(sources, of_file())
    assert sources.known(of_file(), Role.DISK) == Content(Role.DISK, SHA, "raw", 2 * MIB)


def test_the_digest_is_remembered_by_the_next_daemon(
    sources: Sources, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = obtain(sources, of_file())
    monkeypatch.setattr(digests, "_hash", lambda *_: pytest.fail("hashed again"))
    assert obtain(Sources(images, tmp_path / "cache"), of_file()) == facts


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"path": 1}'])
def test_a_damaged_memory_costs_only_another_reading(
    sources: Sources, images: Path, tmp_path: Path, damage: str
) -> None:
    facts = obtain(sources, of_file())
    for record in (tmp_path / "cache/digests").iterdir():
        record.write_text(damage)
    assert obtain(Sources(images, tmp_path / "cache"), of_file()) == facts


@pytest.mark.parametrize("change", ["content", "touch", "replace"])
def test_a_changed_file_is_read_again(sources: Sources, images: Path, change: str) -> None:
    before = obtain(sources, of_file())
    disk = images / "disk.raw"
    signatures = sources.signatures(of_file())
    if change == "content":
        disk.write_bytes(RAW + bytes(MIB))
    elif change == "touch":
        os.utime(disk, (1, 1))
    else:
        stat = disk.stat()
        (images / "new").write_bytes(b"other".ljust(2 * MIB, b"\0"))
        os.utime(images / "new", ns=(stat.st_atime_ns, stat.st_mtime_ns))
        (images / "new").replace(disk)
    assert sources.signatures(of_file()) != signatures
    assert sources.known(of_file(), Role.DISK) is None
    after = obtain(sources, of_file())
    assert (after.sha256 == before.sha256) is (change == "touch")


def test_a_file_rewritten_in_place_with_its_mtime_restored_is_read_again(
    sources: Sources, images: Path
) -> None:
    """So was a base made that had /etc/passwd behind it."""
    obtain(sources, of_file())
    disk = images / "disk.raw"
    status = disk.stat()
    with disk.open("r+b") as out:
        out.write(qcow2_header(MIB, backing=104) + b"/etc/passwd")
    os.utime(disk, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert disk.stat().st_mtime_ns == status.st_mtime_ns
    assert sources.known(of_file(), Role.DISK) is None
    error = failing(sources, of_file())
    assert (error.reason, "overlay of a backing file" in str(error)) == ("ImageRefused", True)


def test_facts_of_another_file_system_are_not_believed(
    sources: Sources, images: Path, tmp_path: Path
) -> None:
    """Another disk may be mounted there, with the same inode numbers and times."""
    obtain(sources, of_file())
    (record,) = (tmp_path / "cache/digests").iterdir()
    text = record.read_text()
    device = (images / "disk.raw").stat().st_dev
    record.write_text(text.replace(f'"device": {device}', f'"device": {device + 1}'))
    assert record.read_text() != text
    assert Sources(images, tmp_path / "cache").known(of_file(), Role.DISK) is None


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_a_file_that_others_can_write_is_refused_with_the_remedy(
    sources: Sources, images: Path, mode: int
) -> None:
    obtain(sources, of_file())
    (images / "disk.raw").chmod(mode)
    assert sources.known(of_file(), Role.DISK) is None
    error = failing(sources, of_file())
    assert error.reason == "ImageRefused"
    assert f"{images / 'disk.raw'}" in str(error)
    assert "chmod go-w" in str(error)


def test_a_file_in_a_directory_that_others_can_write_is_refused(
    sources: Sources, images: Path
) -> None:
    folder = images / "team"
    folder.mkdir()
    (folder / "disk.raw").write_bytes(RAW)
    folder.chmod(0o777)
    error = failing(sources, of_file("team/disk.raw"))
    assert (error.reason, f"the directory {folder}" in str(error)) == ("ImageRefused", True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused(sources: Sources, images: Path) -> None:
    os.chown(images / "disk.raw", 65534, 65534)
    error = failing(sources, of_file())
    assert (error.reason, "chown" in str(error)) == ("ImageRefused", True)
    os.chown(images, 65534, 65534)  # whose directory it is may say what is in it
    assert obtain(sources, of_file()).sha256 == SHA


def test_a_file_that_is_gone_still_counts_as_what_it_was(sources: Sources, images: Path) -> None:
    obtain(sources, of_file())
    (images / "disk.raw").unlink()
    known = sources.known(of_file(), Role.DISK)
    assert known is not None
    assert known.sha256 == SHA
    assert failing(sources, of_file()).reason == "ImageNotFound"


def test_a_file_written_while_it_is_read_is_tried_later(
    sources: Sources, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def grow(phase: Phase, done: int, total: int | None) -> None:
        with (images / "disk.raw").open("ab") as disk:
            disk.write(b"more")

    with pytest.raises(TransientError) as caught:
        sources.obtain(of_file(), Role.DISK, grow)
    assert caught.value.reason == "ImageChanging"
    assert sources.known(of_file(), Role.DISK) is None


def test_the_kernel_and_the_initrd_are_only_hashed(sources: Sources) -> None:
    image = an_image(source={"file": "disk.raw"}, boot={"kernel": "vmlinuz", "initrd": "initrd"})
    assert obtain(sources, image, Role.KERNEL).sha256 == hashlib.sha256(b"kernel").hexdigest()
    assert obtain(sources, image, Role.INITRD).format == ""


def test_a_missing_file_is_told_with_its_place(sources: Sources, images: Path) -> None:
    error = failing(sources, of_file("none.raw"))
    assert isinstance(error, PermanentError)
    assert error.reason == "ImageNotFound"
    assert f"put the file at {images / 'none.raw'}" in str(error)


def test_a_link_out_of_the_directory_is_refused(
    sources: Sources, images: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_bytes(RAW)
    (images / "link").symlink_to(tmp_path / "secret")
    error = failing(sources, of_file("link"))
    assert error.reason == "ImageRefused"
    assert "leads out of the images directory" in str(error)
    assert sources.known(of_file("link"), Role.DISK) is None


def test_a_link_within_the_directory_is_followed(sources: Sources, images: Path) -> None:
    (images / "current").symlink_to("disk.raw")
    assert obtain(sources, of_file("current")).sha256 == SHA


def test_links_in_a_circle_are_told(sources: Sources, images: Path) -> None:
    (images / "a").symlink_to("b")
    (images / "b").symlink_to("a")
    assert failing(sources, of_file("a")).reason == "ImageNotFound"


@pytest.mark.parametrize("kind", ["directory", "fifo"])
def test_what_is_no_regular_file_is_refused_without_hanging(
    sources: Sources, images: Path, kind: str
) -> None:
    if kind == "directory":
        (images / "thing").mkdir()
    else:
        os.mkfifo(images / "thing")
    error = failing(sources, of_file("thing"))
    assert error.reason == "ImageRefused"
    assert "not a regular file" in str(error)


def test_an_empty_file_is_refused(sources: Sources, images: Path) -> None:
    (images / "disk.raw").write_bytes(b"")
    assert failing(sources, of_file()).reason == "ImageRefused"


def test_a_given_digest_is_checked(sources: Sources) -> None:
    wrong = "0" * 64
    error = failing(sources, of_file(sha256=wrong))
    assert isinstance(error, PermanentError)
    assert error.reason == "ChecksumMismatch"
    assert f"expected {wrong}, got {SHA}" in str(error)
    assert obtain(sources, of_file(sha256=SHA)).sha256 == SHA


def test_a_given_digest_is_known_without_reading(sources: Sources) -> None:
    assert sources.known(of_file(sha256=SHA), Role.DISK) == Content(Role.DISK, SHA)


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.mark.usefixtures("no_proxy")
def test_a_download_becomes_a_checked_file(
    sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "_hash", lambda *_: pytest.fail("hashed twice"))
    phases: list[Phase] = []
    with serving(Origin(content=RAW)) as origin:
        image = an_image(source={"url": origin.url, "sha256": SHA})
        assert sources.known(image, Role.DISK) == Content(Role.DISK, SHA)
        facts = sources.obtain(image, Role.DISK, lambda phase, *_: phases.append(phase))
        assert sources.obtain(image, Role.DISK, lambda *_: None) == facts
        assert len(origin.requests) == 1
    assert Path(facts.path).read_bytes() == RAW
    assert (facts.format, facts.virtual_size) == ("raw", 2 * MIB)
    assert set(phases) == {Phase.DOWNLOADING}
    assert sources.known(image, Role.DISK) == Content(Role.DISK, SHA, "raw", 2 * MIB)


@pytest.mark.usefixtures("no_proxy")
def test_a_cached_download_that_rotted_is_fetched_again(images: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    (cache / "downloads").mkdir(parents=True)
    (cache / "downloads" / SHA).write_bytes(bytes(2 * MIB))
    with serving(Origin(content=RAW)) as origin:
        image = an_image(source={"url": origin.url, "sha256": SHA})
        facts = obtain(Sources(images, cache, pace=Pace(tries=1)), image)
    assert Path(facts.path).read_bytes() == RAW


def test_progress_reads_like_a_sentence() -> None:
    def said(phase: Phase, done: int, total: int | None) -> str:
        return ImageProgress("i", "h", "p", phase, done, total, 0.0).message

    assert said(Phase.UPLOADING, 312 * MIB, 880 * MIB) == "uploading 312 of 880 MiB (35 %)"
    assert said(Phase.DOWNLOADING, 5 * MIB, None) == "downloading 5 MiB"
    assert said(Phase.CHECKING, 10, 20) == "checking 10 of 20 bytes (50 %)"
    assert said(Phase.WAITING, 0, None) == "waiting"
    failed = ImageProgress("i", "h", "p", Phase.DOWNLOADING, 0, None, 0.0, "try 2 of 6 failed: x")
    assert failed.message == "downloading, try 2 of 6 failed: x"
    amid = replace(failed, done=5 * MIB, total=10 * MIB)
    assert amid.message == "downloading 5 of 10 MiB (50 %), try 2 of 6 failed: x"
