"""Recognise files that must not be given to QEMU as raw disks, by their magic bytes.

QEMU takes any file as a raw disk. A tar, an OVA or a page that says "not found" would become an
image that is Ready and never boots; another hypervisor's disk would not boot either. So everything
that qemu-img knows (block drivers' probes), and files that people have beside disks, is named here.
"""

import tarfile
from typing import Final

_SECTOR: Final = 512
_UNPACK: Final = "; unpack it, and give the disk that is in it"
_CONVERT: Final = "; convert it with: qemu-img convert -O qcow2 IMAGE OUT"

_BEGINNINGS: Final[tuple[tuple[int, bytes, str], ...]] = (
    # Disks of other hypervisors, as qemu-img's drivers probe for them.
    (0, b"KDMV", "a VMDK disk" + _CONVERT),
    (0, b"COWD", "a VMDK disk" + _CONVERT),
    (0, b"# Disk DescriptorFile", "the description of a VMDK disk, which lies beside it"),
    (0, b"vhdxfile", "a VHDX disk" + _CONVERT),
    (0, b"conectix", "a VHD disk" + _CONVERT),
    (0, b"QED\0", "a QED disk" + _CONVERT),
    (0, b"WithoutFreeSpace", "a Parallels disk" + _CONVERT),
    (0, b"WithouFreSpacExt", "a Parallels disk" + _CONVERT),
    (0, b"Bochs Virtual HD Image", "a Bochs disk" + _CONVERT),
    (0, b"#!/bin/sh\n#V2.0 Format\n", "a cloop disk" + _CONVERT),
    (64, b"\x7f\x10\xda\xbe", "a VDI disk" + _CONVERT),
    (0, b"LUKS\xba\xbe", "encrypted with LUKS, and a guest would need its key to boot"),
    (0, b"\x3a\xff\x26\xed", "an Android sparse image; unpack it with simg2img"),
    # Packed.
    (0, b"\x1f\x8b", "compressed with gzip" + _UNPACK),
    (0, b"\x1f\x9d", "compressed with compress" + _UNPACK),
    (0, b"\xfd7zXZ\0", "compressed with xz" + _UNPACK),
    (0, b"]\0\0", "compressed with lzma" + _UNPACK),
    (0, b"LZIP", "compressed with lzip" + _UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "compressed with zstd" + _UNPACK),
    (0, b"\x04\x22\x4d\x18", "compressed with lz4" + _UNPACK),
    (0, b"BZh", "compressed with bzip2" + _UNPACK),
    # Archives and packages.
    (0, b"PK\x03\x04", "a zip archive" + _UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive" + _UNPACK),
    (0, b"Rar!\x1a\x07", "a rar archive" + _UNPACK),
    (0, b"070701", "a cpio archive" + _UNPACK),
    (0, b"070702", "a cpio archive" + _UNPACK),
    (0, b"MSWIM\0\0\0", "a Windows image (WIM), which is installed from and not run"),
    (0, b"!<arch>\n", "a Debian package or an ar archive"),
    (0, b"\xed\xab\xee\xdb", "an RPM package"),
    (0, b"\x7fELF", "a program (ELF)"),
    (514, b"HdrS", "a Linux kernel; give it as spec.boot.kernel, and the disk as source"),
    (0, b"%PDF-", "a PDF"),
    (32769, b"CD001", "an ISO image; install from it (spec.source.kickstart and its kin)"),
)
_TEXTS: Final[tuple[tuple[bytes, str], ...]] = (
    (b"<!doctype", "an HTML page"),
    (b"<html", "an HTML page"),
    (b"<?xml", "an XML text"),
    (b"version https://git-lfs", "a pointer of Git LFS; fetch the disk with git lfs pull"),
    (b"-----begin ", "a key, a certificate or a signature"),
)
_ENDINGS: Final[tuple[tuple[int, bytes, str], ...]] = (
    (_SECTOR, b"conectix", "a VHD disk (of fixed size)" + _CONVERT),
    (_SECTOR, b"koly", "an Apple disk image (DMG)" + _CONVERT),
)
HEAD_BYTES: Final = 40960
TAIL_BYTES: Final = _SECTOR
_BOM: Final = b"\xef\xbb\xbf"
_LEAST_TEXT: Final = 512
"""From so many bytes on, text without a line end is no coincidence."""


def foreign(head: bytes, tail: bytes) -> str | None:
    """What a file is, by its first ``HEAD_BYTES`` and its last ``TAIL_BYTES``.

    None where it may be a raw disk.
    """
    for offset, magic, what in _BEGINNINGS:
        if head.startswith(magic, offset):
            return what
    for back, magic, what in _ENDINGS:
        if len(tail) >= back and tail.startswith(magic, len(tail) - back):
            return what
    if _is_tar(head):
        ova = b".ovf\0" in head
        return ("an OVA, a tar archive" if ova else "a tar archive") + _UNPACK
    return _text(head)


def _is_tar(head: bytes) -> bool:
    """Whether it is a tar, by its first header's checksum: the oldest tars have no magic."""
    if len(head) < _SECTOR or not head[0]:
        return False
    try:
        tarfile.TarInfo.frombuf(head[:_SECTOR], "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def _text(head: bytes) -> str | None:
    content = head.rstrip(b"\0").removeprefix(_BOM)
    if content.startswith((b"\xff\xfe", b"\xfe\xff")) and len(content) % 2 == 0:
        return "a text (UTF-16)"
    start = content.lstrip()[:64].lower()
    for beginning, what in _TEXTS:
        if start.startswith(beginning):
            return what
    if b"\n" not in content and len(content) < _LEAST_TEXT:
        return None
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        # Only the head was read, and may end within a character.
        if len(head) < HEAD_BYTES or error.start < len(content) - 3:
            return None
        text = content[: error.start].decode("utf-8")
    plain = text.translate({ord(char): None for char in "\t\n\r\f\x1b"})
    return "a text, and no disk" if plain.isprintable() else None
