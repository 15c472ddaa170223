"""Read a few files out of an ISO in a pool, without copying the whole ISO.

The pool may be on another host, so the ISO is read through libvirt, piece by piece: of the
gigabytes of an installation medium only the directories and the wanted files are transferred.
"""

import io
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

_PIECE = 1 << 20
ReadAt = Callable[[int, int], bytes]
"""(offset, length) -> bytes."""


def extract(read: ReadAt, size: int, wanted: Mapping[str, Path]) -> None:
    """Copy each path of the ISO of ``size`` bytes to a file, which is complete or not there.

    Raises what ``read`` raises, and pycdlib's errors for what is no ISO or lacks a path.
    """
    import pycdlib  # two megabytes that only ISOs need

    iso = pycdlib.PyCdlib()
    iso.open_fp(io.BufferedReader(_Volume(read, size), _PIECE))
    try:
        for path, target in wanted.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_suffix(f".{threading.get_ident()}.part")
            with part.open("wb") as out:
                _copy(iso, path, out)
            part.replace(target)
    finally:
        iso.close()


def _copy(iso: object, path: str, out: io.BufferedWriter) -> None:
    """Copy a file by its Rock Ridge name, else its Joliet name, else its ISO 9660 name."""
    import pycdlib

    assert isinstance(iso, pycdlib.PyCdlib)  # noqa: S101
    if iso.has_rock_ridge():
        iso.get_file_from_iso_fp(out, rr_path=f"/{path}")
    elif iso.has_joliet():
        iso.get_file_from_iso_fp(out, joliet_path=f"/{path}")
    else:
        name = path.upper()
        iso.get_file_from_iso_fp(out, iso_path=f"/{name if '.' in name else name + '.'};1")


class _Volume(io.RawIOBase):
    """A read-only file object of ``size`` bytes over ``read``."""

    def __init__(self, read: ReadAt, size: int) -> None:
        super().__init__()
        self._read = read
        self._at = 0
        self._size = size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END:
            self._at = self._size + offset
        else:
            self._at = offset + (self._at if whence == io.SEEK_CUR else 0)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        length = min(len(buffer), _PIECE, self._size - self._at)
        data = self._read(self._at, length) if length > 0 else b""
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
