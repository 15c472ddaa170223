"""What may become a base volume, and what is refused with which words."""

import re
import shutil
import struct
import subprocess
import tarfile
from pathlib import Path

import pytest

from controller.errors import PermanentError
from controller.images.fetch.disk_format import DiskInfo, inspect

MIB = 1 << 20
pytestmark = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="needs qemu-img")


def qemu_img(*words: str) -> None:
    subprocess.run(["qemu-img", *words], check=True, capture_output=True, timeout=60)


def read(path: Path) -> DiskInfo:
    with path.open("rb") as stream:
        return inspect(stream, "the image")


def refused(path: Path, words: str) -> None:
    with pytest.raises(PermanentError, match=words) as caught:
        read(path)
    assert caught.value.reason == "ImageRefused"
    assert str(caught.value).startswith("the image cannot be used as an image: ")


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A qcow2 of 8 MiB with data in its first and its last clusters."""
    raw, disk = tmp_path / "filled.raw", tmp_path / "filled.qcow2"
    with raw.open("wb") as out:
        out.write(b"first" * 20000)
        out.seek(7 * MIB)
        out.write(b"last!" * 20000)
        out.truncate(8 * MIB)
    qemu_img("convert", "-O", "qcow2", str(raw), str(disk))
    return disk


@pytest.mark.parametrize(
    "options",
    [
        "compat=1.1",
        "compat=0.10",
        "cluster_size=512",
        "cluster_size=2M",
        "extended_l2=on",
        "lazy_refcounts=on",
        "preallocation=metadata",
        "compression_type=zstd",
    ],
)
def test_every_kind_of_self_contained_qcow2_tells_its_virtual_size(
    filled: Path, tmp_path: Path, options: str
) -> None:
    disk = tmp_path / "disk.qcow2"
    qemu_img("convert", "-O", "qcow2", "-o", options, str(filled), str(disk))
    assert read(disk) == DiskInfo("qcow2", 8 * MIB)


def test_a_compressed_qcow2_is_taken(filled: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk.qcow2"
    qemu_img("convert", "-c", "-O", "qcow2", str(filled), str(disk))
    assert read(disk) == DiskInfo("qcow2", 8 * MIB)


def test_an_empty_disk_of_many_terabytes_is_taken_at_once(tmp_path: Path) -> None:
    disk = tmp_path / "disk.qcow2"
    qemu_img("create", "-f", "qcow2", str(disk), "20T")
    assert read(disk) == DiskInfo("qcow2", 20 << 40)


def test_a_raw_disk_is_as_big_as_its_file(tmp_path: Path) -> None:
    disk = tmp_path / "disk.raw"
    disk.write_bytes(b"\x33\xc0" + b"\0" * (2 * MIB - 2))
    assert read(disk) == DiskInfo("raw", 2 * MIB)


def test_an_overlay_is_refused_for_it_would_read_the_host(filled: Path, tmp_path: Path) -> None:
    disk = tmp_path / "overlay.qcow2"
    qemu_img("create", "-f", "qcow2", "-b", str(filled), "-F", "qcow2", str(disk))
    refused(disk, "overlay of a backing file.*qemu-img convert")


def printed(path: Path, program: str, **names: Path) -> None:
    """Executes what the refusal of ``path`` tells to type, with files for its names."""
    with pytest.raises(PermanentError) as caught:
        read(path)
    command = str(caught.value)[str(caught.value).index(program) :]
    for name, file in names.items():
        command = re.sub(rf"\b{name}\b", str(file), command)
    qemu_img(*command.split()[1:])


def test_an_overlay_is_taken_after_the_printed_conversion(filled: Path, tmp_path: Path) -> None:
    disk, flat = tmp_path / "overlay.qcow2", tmp_path / "flat.qcow2"
    qemu_img("create", "-f", "qcow2", "-b", str(filled), "-F", "qcow2", str(disk))
    printed(disk, "qemu-img convert", IMAGE=disk, FLAT=flat)
    assert read(flat) == DiskInfo("qcow2", 8 * MIB)


def test_an_encrypted_disk_is_taken_after_the_printed_conversion(tmp_path: Path) -> None:
    disk, plain, key = tmp_path / "e.qcow2", tmp_path / "plain.qcow2", tmp_path / "key"
    key.write_text("secret", encoding="ascii")
    options = "encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10"
    secret = f"secret,id=key,file={key}"
    qemu_img("create", "--object", secret, "-f", "qcow2", "-o", options, str(disk), "8M")
    printed(disk, "qemu-img convert", IMAGE=disk, PLAIN=plain, KEY=key)
    assert read(plain) == DiskInfo("qcow2", 8 * MIB)


def test_a_disk_that_is_marked_corrupt_is_taken_after_the_printed_repair(filled: Path) -> None:
    whole = bytearray(filled.read_bytes())
    whole[79] |= 2  # the bit that says so, of the incompatible features
    filled.write_bytes(whole)
    printed(filled, "qemu-img check", IMAGE=filled)
    assert read(filled) == DiskInfo("qcow2", 8 * MIB)


def test_an_external_data_file_is_refused(tmp_path: Path) -> None:
    disk = tmp_path / "disk.qcow2"
    data = tmp_path / "data.raw"
    qemu_img("create", "-f", "qcow2", "-o", f"data_file={data},data_file_raw=on", str(disk), "8M")
    refused(disk, "external data file")


@pytest.mark.parametrize("kept", [0.3, 0.5, 0.75])
def test_a_half_copied_qcow2_is_refused(filled: Path, kept: float) -> None:
    whole = filled.read_bytes()
    filled.write_bytes(whole[: int(len(whole) * kept)])
    refused(filled, "not copied whole")


def test_a_compressed_qcow2_without_its_end_is_refused(filled: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk.qcow2"
    qemu_img("convert", "-c", "-O", "qcow2", str(filled), str(disk))
    # The last compressed cluster begins in the last few hundred bytes that hold data.
    whole = disk.read_bytes().rstrip(b"\0")
    disk.write_bytes(whole[: len(whole) - 300])
    refused(disk, "not copied whole")


@pytest.mark.parametrize("size", [4, 40, 71, 80])
def test_a_header_that_is_cut_off_is_refused(filled: Path, size: int) -> None:
    filled.write_bytes(filled.read_bytes()[:size])
    refused(filled, "cut off")


@pytest.mark.parametrize(
    ("offset", "field", "value", "words"),
    [
        (4, ">I", 9, "version 9 is not known"),
        (20, ">I", 40, "clusters of"),
        (24, ">Q", 0, "makes no sense"),
        (24, ">Q", 1 << 62, "makes no sense"),
        (32, ">I", 2, "encrypted"),
        (36, ">I", 0xFFFFFFFF, "do not fit"),
        (36, ">I", 0, "do not fit"),
        (40, ">Q", 1 << 50, "not copied whole"),
        (72, ">Q", 2, "marked corrupt"),
        (72, ">Q", 1 << 40, "features that are not known"),
    ],
)
def test_a_damaged_header_is_refused(
    filled: Path, offset: int, field: str, value: int, words: str
) -> None:
    data = bytearray(filled.read_bytes())
    struct.pack_into(field, data, offset, value)
    filled.write_bytes(data)
    refused(filled, words)


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"KDMV", "VMDK"),
        (b"vhdxfile", "VHDX"),
        (b"\x1f\x8b\x08", "compressed with gzip"),
        (b"\xfd7zXZ\0", "compressed with xz"),
        (b"<!DOCTYPE html>", "HTML page"),
        (b"\0" * 32769 + b"CD001", "ISO image"),
        (b"\0" * 514 + b"HdrS", "Linux kernel"),
        (b"Rar!\x1a\x07\x01\0", "rar archive"),
        (b"\x7fELF\x02\x01\x01", "ELF"),
    ],
)
def test_what_is_something_else_is_named(tmp_path: Path, start: bytes, words: str) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(start.ljust(2 * MIB, b"\0"))
    refused(disk, words)


def padded(path: Path) -> Path:
    """Filled up to what a raw disk could be, as a careless copy does."""
    size = max(2 * MIB, -(-path.stat().st_size // 512) * 512)
    with path.open("ab") as out:
        out.truncate(size)
    return path


def made_by_qemu_img() -> list[tuple[str, str]]:
    """Every format that this qemu-img writes, with each of its kinds, but those that are taken."""
    listed = subprocess.run(["qemu-img", "--help"], check=True, capture_output=True, text=True)
    formats = listed.stdout.partition("Supported formats:")[2].partition("\n")[0].split()
    options = {
        "vmdk": ["monolithicSparse", "streamOptimized", "twoGbMaxExtentSparse"],
        "vpc": ["dynamic", "fixed"],
        "vhdx": ["dynamic", "fixed"],
        "luks": [""],
        **{each: [""] for each in ("qcow", "qed", "vdi", "parallels")},
    }
    return [(name, kind) for name in formats for kind in options.get(name, [])]


@pytest.mark.parametrize(("format_", "kind"), made_by_qemu_img())
def test_no_disk_of_another_format_that_qemu_img_writes_is_taken_for_raw(
    filled: Path, tmp_path: Path, format_: str, kind: str
) -> None:
    disk = tmp_path / "made"
    command = ["-O", format_, *(["-o", f"subformat={kind}"] if kind else [])]
    if format_ == "luks":
        secret = ["--object", "secret,id=key,data=x"]
        options = "key-secret=key,iter-time=10"
        qemu_img("create", *secret, "-f", "luks", "-o", options, str(disk), "8M")
    else:
        qemu_img("convert", *command, str(filled), str(disk))
    word = {"vpc": "VHD", "qcow": "version 1 is not known", "luks": "LUKS"}.get(format_, "disk")
    refused(disk, word)
    if (format_, kind) != ("vpc", "fixed"):  # which ends with its mark
        refused(padded(disk), word)


@pytest.mark.parametrize("format_", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize(("member", "word"), [("disk.raw", "a tar"), ("vm.ovf", "an OVA")])
def test_a_tar_and_an_ova_are_named(tmp_path: Path, format_: int, member: str, word: str) -> None:
    disk = tmp_path / "disk"
    (tmp_path / member).write_bytes(bytes(2 * MIB))
    with tarfile.open(disk, "w", format=format_) as archive:
        archive.add(tmp_path / member, member)
    refused(disk, word)


def test_a_tar_of_the_oldest_kind_is_named(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    header = bytearray(tarfile.TarInfo("disk.raw").tobuf(tarfile.USTAR_FORMAT))
    header[257:265] = bytes(8)  # without "ustar"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    disk.write_bytes(header)
    refused(padded(disk), "a tar archive")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("404: not found\n" * 9, "a text"),
        ('{"message": "no such image"}\n', "a text"),
        ("ohne Umbruch, mit Ümläuten " * 99, "a text"),
        ("wörter\n" * 9000, "a text"),
        ("\n\n  <html><body>moved</body></html>", "an HTML page"),
        ('<?xml version="1.0"?><Error/>', "an XML text"),
        ("version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("-----BEGIN PGP SIGNATURE-----\n", "a signature"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_text_is_no_disk(tmp_path: Path, text: str, word: str, encoding: str) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(text.encode(encoding))
    refused(disk, word)
    refused(padded(disk), word)


@pytest.mark.parametrize(
    "start",
    [
        b"\xeb\x63\x90",  # a boot sector
        b"\0" * 1080 + b"\x53\xef",  # ext4 on the whole disk
        b"XFSB\0\0\x10\0",
        b"hsqs\x07\0\0\0",
        b"\0" * 512 + b"LABELONE",
        b"",
    ],
)
def test_disks_that_have_no_partition_table_are_taken(tmp_path: Path, start: bytes) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(start.ljust(2 * MIB, b"\0"))
    assert read(disk) == DiskInfo("raw", 2 * MIB)


def test_a_file_too_small_for_a_disk_is_refused(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(b"\x33\xc0" + bytes(510))
    refused(disk, "too few for a disk")


def test_a_raw_disk_of_broken_sectors_is_refused(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(b"\0" * (2 * MIB - 7))
    refused(disk, "whole sectors")
