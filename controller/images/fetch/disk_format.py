"""Check what a disk image file is, by its bytes, because its name is not trusted.

A qcow2 that names a backing file or an external data file would make QEMU open that file on the
host for the guest to read, so such an image is refused here, before it comes into a pool.
A half-copied image is refused too. Layout: docs/interop/qcow2.rst of QEMU. Needs no qemu-img.
"""

import os
import struct
from array import array
from dataclasses import dataclass
from typing import BinaryIO, Literal

from controller.errors import PermanentError
from controller.images.fetch.foreign_formats import HEAD_BYTES as MARK_BYTES
from controller.images.fetch.foreign_formats import TAIL_BYTES, foreign

DiskFormat = Literal["qcow2", "raw"]

MIN_RAW_BYTES = 1 << 20
_SECTOR = 512
_QCOW2_MAGIC = b"QFI\xfb"
_HEADER = struct.Struct(">4sIQIIQIIQQIIQ")  # 72 bytes, the header of version 2
_HEADER_V3 = struct.Struct(">QQQII")  # incompatible, compatible, autoclear, refcount order, length
HEAD_BYTES = 4096
"""Bytes of a volume that ``look_again`` needs; a qcow2's header is in the first 512."""
_DIRTY, _CORRUPT, _DATA_FILE, _COMPRESSION, _EXTENDED_L2 = 1, 2, 4, 8, 16
_OFFSET_MASK = 0x00FF_FFFF_FFFF_FE00
_COMPRESSED = 1 << 62
_MAX_VIRTUAL_BYTES = 1 << 60
_MAX_L1_ENTRIES = 32 << 17  # QEMU's own limit: 32 MiB of L1 table


@dataclass(frozen=True, slots=True)
class DiskInfo:
    """``virtual_size`` is the disk's size as a guest sees it, in bytes."""

    format: DiskFormat
    virtual_size: int


@dataclass(frozen=True, slots=True)
class _Qcow2:
    version: int
    backing_offset: int
    cluster_bits: int
    virtual_size: int
    crypt_method: int
    l1_size: int
    l1_offset: int
    refcount_offset: int
    refcount_clusters: int
    incompatible: int


def inspect(stream: BinaryIO, name: str) -> DiskInfo:
    """The format and virtual size of an open, seekable file.

    ``name`` is what messages call it. Raises ``PermanentError(reason="ImageRefused")`` for
    anything that is not a whole, self-contained qcow2 or raw disk.
    """
    size = os.fstat(stream.fileno()).st_size
    stream.seek(0)
    head = stream.read(MARK_BYTES)
    if head.startswith(_QCOW2_MAGIC):
        return DiskInfo("qcow2", _inspect_qcow2(stream, head, size, name))
    stream.seek(max(0, size - TAIL_BYTES))
    what = foreign(head, stream.read(TAIL_BYTES))
    if what is not None:
        raise _refused(name, f"it is {what}")
    if size < MIN_RAW_BYTES:
        raise _refused(
            name,
            f"{size} bytes are too few for a disk (raw disks begin at {MIN_RAW_BYTES} bytes, and"
            " it has no qcow2 header)",
        )
    if size % _SECTOR:
        raise _refused(
            name,
            f"it has no qcow2 header, and {size} bytes are not whole sectors of {_SECTOR}: it is"
            " no disk or was not copied whole",
        )
    return DiskInfo("raw", size)


def look_again(head: bytes, format: DiskFormat, name: str) -> None:
    """Check again what QEMU would open; ``head`` are its first bytes.

    Raises as ``inspect`` does, for another format, a backing file and an external data file.
    """
    is_qcow2 = head.startswith(_QCOW2_MAGIC)
    if is_qcow2 != (format == "qcow2"):
        raise _refused(name, f"it was to be {format}, and {'is' if is_qcow2 else 'is no'} qcow2")
    if is_qcow2:
        _check_self_contained(_parse_header(head, name), name)


def _refused(name: str, why: str) -> PermanentError:
    return PermanentError(f"{name} cannot be used as an image: {why}", reason="ImageRefused")


def _inspect_qcow2(stream: BinaryIO, head: bytes, size: int, name: str) -> int:
    header = _parse_header(head, name)
    _check_self_contained(header, name)
    cluster = 1 << header.cluster_bits
    cut = f"its tables point beyond its end ({size} bytes): it was not copied whole"
    l1_end = header.l1_offset + 8 * header.l1_size
    refcount_end = header.refcount_offset + header.refcount_clusters * cluster
    if l1_end > size or refcount_end > size:
        raise _refused(name, cut)
    last = 0
    for entry in _entries(stream, header.l1_offset, header.l1_size):
        table = entry & _OFFSET_MASK
        if table == 0:
            continue
        if table + cluster > size:
            raise _refused(name, cut)
        last = max(last, _last_cluster(stream, header, table))
    # The last cluster may be a short one, so only its beginning must be inside the file.
    if last >= size:
        raise _refused(name, cut)
    return header.virtual_size


def _parse_header(head: bytes, name: str) -> _Qcow2:
    if len(head) < _HEADER.size:
        raise _refused(name, f"its qcow2 header is cut off after {len(head)} bytes")
    fields = _HEADER.unpack_from(head)
    _, version, backing_offset, _, cluster_bits, virtual_size, crypt_method = fields[:7]
    l1_size, l1_offset, refcount_offset, refcount_clusters = fields[7:11]
    incompatible = 0
    if version == 3:
        if len(head) < _HEADER.size + _HEADER_V3.size:
            raise _refused(name, f"its qcow2 header is cut off after {len(head)} bytes")
        incompatible = _HEADER_V3.unpack_from(head, _HEADER.size)[0]
    elif version != 2:
        raise _refused(name, f"qcow2 version {version} is not known (2 and 3 are)")
    if not 9 <= cluster_bits <= 21:
        raise _refused(name, f"clusters of 2^{cluster_bits} bytes are not valid in a qcow2")
    if not 0 < virtual_size <= _MAX_VIRTUAL_BYTES:
        raise _refused(name, f"a virtual size of {virtual_size} bytes makes no sense")
    per_l2 = 1 << (cluster_bits - (4 if incompatible & _EXTENDED_L2 else 3) + cluster_bits)
    if l1_size > _MAX_L1_ENTRIES or l1_size * per_l2 < virtual_size:
        raise _refused(name, "its qcow2 tables do not fit its virtual size: it is damaged")
    return _Qcow2(
        version=version,
        backing_offset=backing_offset,
        cluster_bits=cluster_bits,
        virtual_size=virtual_size,
        crypt_method=crypt_method,
        l1_size=l1_size,
        l1_offset=l1_offset,
        refcount_offset=refcount_offset,
        refcount_clusters=refcount_clusters,
        incompatible=incompatible,
    )


def _check_self_contained(header: _Qcow2, name: str) -> None:
    if header.backing_offset:
        raise _refused(
            name,
            "it is an overlay of a backing file, which would be read from the host; flatten it"
            " with: qemu-img convert -O qcow2 IMAGE FLAT",
        )
    if header.incompatible & _DATA_FILE:
        raise _refused(
            name,
            "its data is in an external data file, which would be read from the host; flatten it"
            " with: qemu-img convert -O qcow2 IMAGE FLAT",
        )
    if header.crypt_method:
        raise _refused(
            name,
            "it is encrypted; decrypt it with: qemu-img convert --object secret,id=key,file=KEY"
            " --image-opts driver=qcow2,encrypt.key-secret=key,file.filename=IMAGE -O qcow2 PLAIN",
        )
    if header.incompatible & _CORRUPT:
        raise _refused(name, "it is marked corrupt; repair it with: qemu-img check -r all IMAGE")
    unknown = header.incompatible & ~(_DIRTY | _CORRUPT | _DATA_FILE | _COMPRESSION | _EXTENDED_L2)
    if unknown:
        raise _refused(name, f"it needs qcow2 features that are not known ({unknown:#x})")


def _last_cluster(stream: BinaryIO, header: _Qcow2, table: int) -> int:
    """The highest host offset an L2 table points to; 0 if it points nowhere."""
    words = 1 << (header.cluster_bits - 3)
    step = 2 if header.incompatible & _EXTENDED_L2 else 1
    compressed_mask = (1 << (62 - (header.cluster_bits - 8))) - 1
    last = 0
    for entry in _entries(stream, table, words)[::step]:
        if entry:
            mask = compressed_mask if entry & _COMPRESSED else _OFFSET_MASK
            last = max(last, entry & mask)
    return last


def _entries(stream: BinaryIO, offset: int, count: int) -> "array[int]":
    stream.seek(offset)
    data = stream.read(8 * count)
    entries = array("Q", data[: len(data) - len(data) % 8])
    if struct.pack("=H", 1) != struct.pack(">H", 1):
        entries.byteswap()
    return entries
