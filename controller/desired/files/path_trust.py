"""Check that nobody else can replace the directory of documents or a directory above it.

Whoever can write a directory can rename its entries, whoever owns them. So the rules for the
directory of documents apply to all directories above it, and to those that its symlinks lead
through, as for sshd's StrictModes. In a sticky directory such as /tmp nobody can touch another
user's entries; and a directory that is writable for a user's own group without other members (a
umask of 002) is writable for that user only.
"""

import errno
import grp
import os
import pwd
import shlex
import stat
from typing import Final

from controller.desired.files.trusted_read import Trust, UnusableFileError, user_name

_MAX_LINKS: Final = 40


def check_path(path: str, trust: Trust) -> None:
    """Raise ``UnusableFileError`` if others could replace what is at ``path``, or a link to it.

    Raises ``OSError`` if there is nothing.
    """
    if trust.owners is None:
        return
    pending = _parts(path if path.startswith("/") else f"{os.getcwd()}/{path}")  # noqa: PTH109
    here, links = "/", 0
    while pending:
        name = pending.pop(0)
        if name == "..":
            here = os.path.dirname(here)  # noqa: PTH120 - paths are plain text here
            continue
        there = f"{here.rstrip('/')}/{name}"
        status = os.lstat(there)
        _check(here, os.stat(here), there, status, trust.owners)  # noqa: PTH116
        if not stat.S_ISLNK(status.st_mode):
            here = there
            continue
        links += 1
        if links > _MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), there)
        target = os.readlink(there)  # noqa: PTH115
        here = "/" if target.startswith("/") else here
        pending = _parts(target) + pending


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _check(
    here: str,
    status: os.stat_result,
    there: str,
    entry: os.stat_result,
    owners: frozenset[int],
) -> None:
    if status.st_uid not in owners:
        who = user_name(status.st_uid)
        raise UnusableFileError(
            f"lies in {here}, which belongs to {who}, who could put another in its place; run"
            f" chown root {shlex.quote(here)}, or move the directory to where only root can write"
        )
    if not status.st_mode & 0o022:
        return
    if not status.st_mode & 0o002 and _is_alone(status.st_uid, status.st_gid):
        return
    who = "everybody" if status.st_mode & 0o002 else "its group"
    mode = f"{stat.S_IMODE(status.st_mode):04o}"
    safe = {0, os.geteuid()}
    if not (status.st_mode & stat.S_ISVTX and status.st_uid in safe):
        raise UnusableFileError(
            f"lies in {here}, which can be written by {who} (mode {mode}), who could put another in"
            f" its place and so become root; run chmod go-w {shlex.quote(here)}"
        )
    if entry.st_uid not in safe:
        owner = user_name(entry.st_uid)
        raise UnusableFileError(
            f"lies in {here}, which can be written by {who} (mode {mode}), and there {there}"
            f" belongs to {owner}, who could put another in its place; run chown root"
            f" {shlex.quote(there)}, or move the directory to where only root can write"
        )


def _is_alone(uid: int, gid: int) -> bool:
    """Whether the group is the user's own and has no other members."""
    try:
        user, group = pwd.getpwuid(uid), grp.getgrgid(gid)
    except KeyError:
        return False
    return (
        (user.pw_gid, user.pw_name) == (gid, group.gr_name)
        and set(group.gr_mem) <= {user.pw_name}
        and all(other.pw_uid == uid for other in pwd.getpwall() if other.pw_gid == gid)
    )
