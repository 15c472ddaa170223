"""Find the git commit of the desired state by reading git's own files.

Status and metrics show the revision; running git for it (with its hooks, its configuration and its
"dubious ownership" refusal) would be a dependency and a risk for one line of text.
"""

import os
import re
from pathlib import Path

from controller.desired.files.trusted_read import Trust, UnusableFileError, read_file

_HASH = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_REF = re.compile(r"refs/[\w./+@=-]+")
_MAX_BYTES = 8 * 1024 * 1024
_ANYBODY = Trust(None)  # a hash is all that is taken from these files


def revision_of(directory: Path) -> str | None:
    """The commit of ``directory``'s work tree; None outside of git or if it cannot be read.

    Knows plain checkouts, work trees and submodules (``gitdir:`` files), packed refs and detached
    heads. Sources: gitrepository-layout(5).
    """
    here = os.path.realpath(directory)
    while True:
        git = _git_directory(Path(here))
        if git is not None:
            return _head(git)
        parent = os.path.dirname(here)  # noqa: PTH120
        if parent == here:
            return None
        here = parent


def _git_directory(directory: Path) -> Path | None:
    marker = directory / ".git"
    if marker.is_dir():
        return marker
    text = _read(marker)
    if text is None or not text.startswith("gitdir:"):
        return None
    return directory / text.removeprefix("gitdir:").strip()


def _head(git: Path) -> str | None:
    common_text = _read(git / "commondir")
    common = git / common_text.strip() if common_text else git
    name = "HEAD"
    for _ in range(5):  # git's own bound on symbolic refs
        text = _read(git / name) or _read(common / name)
        if text is None:
            return _packed(common, name)
        text = text.strip()
        if _HASH.fullmatch(text):
            return text
        name = text.removeprefix("ref:").strip()
        if not _REF.fullmatch(name) or ".." in name:
            return None
    return None


def _packed(common: Path, name: str) -> str | None:
    for line in (_read(common / "packed-refs") or "").splitlines():
        digest, _, ref = line.partition(" ")
        if ref == name and _HASH.fullmatch(digest):
            return digest
    return None


def _read(path: Path) -> str | None:
    try:
        content, _ = read_file(path, _MAX_BYTES, _ANYBODY)
    except UnusableFileError:
        return None  # missing, or not git's: no revision
    return content.decode("utf-8", "replace")
