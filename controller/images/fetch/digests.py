"""The sha256 of big local files, computed once and kept across restarts of the daemon.

A ``file`` source has no digest in its document, yet its base volume is named by its content.
Hashing gigabytes at each look would take too long, so digests are kept in the cache directory by
path. They are valid while the file's ``Signature`` is the same: a writer can restore an mtime, but
not a ctime.
"""

import contextlib
import hashlib
import json
import os
import stat
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import BinaryIO

from controller.desired.files.trusted_read import Trust
from controller.errors import PermanentError, TransientError
from controller.images.fetch.disk_format import inspect
from controller.images.fetch.local_files import EVERYBODY, check_trusted

_CHUNK = 1 << 20
Progress = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True)
class Signature:
    """Shows, without reading a file, whether it is still the same. Bytes and nanoseconds."""

    size: int
    mtime_ns: int
    inode: int
    ctime_ns: int
    device: int
    mode: int
    owner: int

    @classmethod
    def of(cls, status: os.stat_result) -> "Signature":
        return cls(
            size=status.st_size,
            mtime_ns=status.st_mtime_ns,
            inode=status.st_ino,
            ctime_ns=status.st_ctime_ns,
            device=status.st_dev,
            mode=status.st_mode,
            owner=status.st_uid,
        )


_SIGNED = fields(Signature)


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What reading a file has shown; ``format`` and ``virtual_size`` of disks only."""

    path: str
    signature: Signature
    sha256: str
    format: str = ""
    virtual_size: int = 0


def signature(path: Path) -> Signature | None:
    """The signature of the file; None where no regular file is found."""
    try:
        status = path.stat()
    except OSError:
        return None
    return Signature.of(status) if stat.S_ISREG(status.st_mode) else None


def open_regular(path: Path, name: str) -> BinaryIO:
    """Open a file without blocking on a FIFO or a device; ``name`` is what messages call it.

    ``path`` must have its symlinks resolved already. Raises ``PermanentError``:
    ``ImageNotFound``, ``ImageRefused`` (no regular file) or ``ImageUnreadable``.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise PermanentError(
            f"{name} does not exist: put the file at {path}, or correct the Image's spec",
            reason="ImageNotFound",
        ) from None
    except OSError as error:
        raise PermanentError(
            f"{name} cannot be read: {error.strerror} ({path})", reason="ImageUnreadable"
        ) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise PermanentError(f"{name} is not a regular file ({path})", reason="ImageRefused")
    return os.fdopen(descriptor, "rb")


class Digests:
    """Facts of files, in memory and in ``directory``. Safe to use from many threads."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._known: dict[str, FileFacts | None] = {}

    def recall(self, path: Path, seen: Signature | None, *, disk: bool) -> FileFacts | None:
        """The kept facts of ``path``, if its signature is ``seen``; never reads the file itself.

        With ``seen`` None (the file is gone) the last known facts.
        """
        facts = self._remembered(path)
        if facts is None or (disk and not facts.format):
            return None
        return facts if seen is None or facts.signature == seen else None

    def examine(
        self,
        path: Path,
        name: str,
        *,
        disk: bool,
        progress: Progress,
        check: Callable[[], None] = lambda: None,
        sha256: str | None = None,
        trust: Trust = EVERYBODY,
    ) -> FileFacts:
        """The facts of a file, read from it unless they are kept; takes seconds per gigabyte.

        ``check`` is called between chunks and may raise to give up. ``sha256``: the caller has
        just computed it. ``trust``: who may have written the file. Raises ``PermanentError`` for
        a file that cannot be used, ``TransientError(reason="ImageChanging")`` for one that is
        being written.
        """
        try:
            facts = self._read(path, name, disk, progress, check, sha256, trust)
        except OSError as error:
            raise TransientError(
                f"{name} cannot be read: {error.strerror or error} ({path})",
                reason="ImageUnreadable",
            ) from error
        self._remember(path, facts)
        return facts

    def _read(
        self,
        path: Path,
        name: str,
        disk: bool,
        progress: Progress,
        check: Callable[[], None],
        sha256: str | None,
        trust: Trust,
    ) -> FileFacts:
        with open_regular(path, name) as stream:
            status = os.fstat(stream.fileno())
            check_trusted(trust, status, f"{name} ({path}) ")
            before = Signature.of(status)
            remembered = self.recall(path, before, disk=disk)
            if remembered is not None:
                return remembered
            if before.size == 0:
                raise PermanentError(f"{name} is empty ({path})", reason="ImageRefused")
            info = inspect(stream, name) if disk else None
            if sha256 is None:
                sha256 = _hash(stream, before.size, progress, check)
            if Signature.of(os.fstat(stream.fileno())) != before or signature(path) != before:
                raise changing(name)
        return FileFacts(
            path=str(path),
            signature=before,
            sha256=sha256,
            format=info.format if info else "",
            virtual_size=info.virtual_size if info else 0,
        )

    def _remembered(self, path: Path) -> FileFacts | None:
        key = str(path)
        with self._lock:
            if key not in self._known:
                self._known[key] = self._load(path)
            return self._known[key]

    def _remember(self, path: Path, facts: FileFacts) -> None:
        with self._lock:
            self._known[str(path)] = facts
            # Only a cache: what cannot be kept is hashed again after a restart.
            with contextlib.suppress(OSError):
                self._directory.mkdir(parents=True, exist_ok=True)
                record = self._record(path)
                part = record.with_suffix(".tmp")
                part.write_text(json.dumps(asdict(facts)), encoding="utf-8")
                part.replace(record)

    def _load(self, path: Path) -> FileFacts | None:
        try:
            raw = json.loads(self._record(path).read_text(encoding="utf-8"))
            seen = raw["signature"]
            facts = FileFacts(
                path=str(raw["path"]),
                signature=Signature(**{one.name: int(seen[one.name]) for one in _SIGNED}),
                sha256=str(raw["sha256"]),
                format=str(raw["format"]),
                virtual_size=int(raw["virtual_size"]),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return facts if facts.path == str(path) else None

    def _record(self, path: Path) -> Path:
        return self._directory / (hashlib.sha256(os.fsencode(path)).hexdigest() + ".json")


def _hash(stream: BinaryIO, size: int, progress: Progress, check: Callable[[], None]) -> str:
    digest = hashlib.sha256()
    done = 0
    stream.seek(0)
    # No further than its size at first: a file that grows as fast as it is read has no end.
    while done < size and (data := stream.read(min(_CHUNK, size - done))):
        check()
        digest.update(data)
        done += len(data)
        progress(done, size)
    return digest.hexdigest()


def changing(name: str) -> TransientError:
    """The error for a file that was written while it was read."""
    return TransientError(
        f"{name} is being written; it is looked at again when that is over",
        reason="ImageChanging",
        retry_after=10,
    )
