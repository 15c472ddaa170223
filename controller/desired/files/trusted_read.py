"""Read files that somebody else may be writing, possibly with bad intent.

Whoever can write the desired-state directory is root-equivalent, so a file counts only if nobody
but root, the daemon's user or the directory's owner could have written it. Reading never blocks on
a FIFO, follows no symlink put there at the last moment, and reads no more than it has to.
"""

import errno
import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from controller.errors import PermanentError

MAX_DOCUMENT_BYTES: Final = 256 * 1024
MAX_SOURCE_BYTES: Final = 1024 * 1024

Signature = tuple[int, int, int, int, int, int, int]
"""Device, inode, size, mtime and ctime (ns), mode, owner: equal means not written since."""


class UnusableFileError(PermanentError):
    """A file or directory that may not be used; the message says what to do about it."""

    reason = "FileRefused"


def signature(status: os.stat_result) -> Signature:
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_mode,
        status.st_uid,
    )


@dataclass(frozen=True, slots=True)
class Trust:
    """Users who may have written a file; ``owners`` are user ids, ``None`` trusts everybody."""

    owners: frozenset[int] | None

    @classmethod
    def of_directory(cls, status: os.stat_result) -> "Trust":
        """Trust root, this process's user and the directory's owner."""
        return cls(frozenset({0, os.geteuid(), status.st_uid}))

    def check(self, status: os.stat_result, what: str) -> None:
        """Raise ``UnusableFileError`` if others could write it; ``what`` begins the message."""
        if self.owners is None:
            return
        if status.st_mode & 0o022:
            who = "everybody" if status.st_mode & 0o002 else "its group"
            raise UnusableFileError(
                f"{what}can be written by {who} (mode {stat.S_IMODE(status.st_mode):04o}),"
                " which would make them root; run chmod go-w on it"
            )
        if status.st_uid not in self.owners:
            names = " or ".join(user_name(owner) for owner in sorted(self.owners))
            raise UnusableFileError(
                f"{what}belongs to {user_name(status.st_uid)}, but must belong to {names};"
                " run chown on it"
            )


def user_name(uid: int) -> str:
    """The user's name, or ``uid N`` if it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def read_file(path: Path | str, limit: int, trust: Trust) -> tuple[bytes, os.stat_result]:
    """The content of the regular file at ``path``, not a symlink, and its status before reading.

    Raises ``UnusableFileError`` for anything else, for more than ``limit`` bytes (without reading
    them), for files that others could write, and for errors of the system.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
        try:
            status = os.fstat(descriptor)
            check_regular(status, limit, trust)
            chunks = []
            room = limit + 1
            while room > 0 and (chunk := os.read(descriptor, min(room, 1 << 18))):
                chunks.append(chunk)
                room -= len(chunk)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise unusable(error) from error
    if room <= 0:
        raise _too_large(limit)
    return b"".join(chunks), status


def check_regular(status: os.stat_result, limit: int, trust: Trust) -> None:
    """Raise ``UnusableFileError`` unless it is a trusted file of at most ``limit`` bytes."""
    if not stat.S_ISREG(status.st_mode):
        raise UnusableFileError(f"is {kind_of(status.st_mode)}, not a file; remove it")
    if status.st_size > limit:
        raise _too_large(limit, status.st_size)
    trust.check(status, "")


def _too_large(limit: int, size: int | None = None) -> UnusableFileError:
    has = f"has {size} bytes" if size is not None else "is too large"
    return UnusableFileError(f"{has}; at most {limit // 1024} KiB are read: split or remove it")


def kind_of(mode: int) -> str:
    """The kind of file that has this ``st_mode``, in common words."""
    kinds = {
        stat.S_IFREG: "a file",
        stat.S_IFDIR: "a directory",
        stat.S_IFLNK: "a symlink",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
        stat.S_IFBLK: "a block device",
        stat.S_IFCHR: "a character device",
    }
    return kinds.get(stat.S_IFMT(mode), "a special file")


def unusable(error: OSError) -> UnusableFileError:
    """The system's error, in words for the person who put the file there."""
    messages = {
        errno.ENOENT: "does not exist; create it or correct the path",
        errno.ENOTDIR: "does not exist: part of its path is not a directory; correct the path",
        errno.EACCES: "may not be read by the daemon; give it read access",
        errno.EPERM: "may not be read by the daemon; give it read access",
        errno.ELOOP: "is a symlink that leads nowhere; replace or remove it",
        errno.ENXIO: "is a socket or device, not a file; remove it",
        errno.ESTALE: "lies on a network file system that lost it; remount it",
        errno.ENAMETOOLONG: "has too long a path; shorten it",
    }
    words = messages.get(error.errno or 0)
    return UnusableFileError(
        words or f"cannot be read ({os.strerror(error.errno or 0)}); check the disk or the mount"
    )
