"""Read the files that documents name by ``source:``, again only when they change.

They are part of the desired state: an edited template must be rendered again even if no document
changed, and a template that others can write is as dangerous as a document that they can write.
"""

import os
import time
from dataclasses import dataclass

from controller.desired.files.trusted_read import (
    MAX_SOURCE_BYTES,
    Signature,
    Trust,
    UnusableFileError,
    read_file,
    signature,
    unusable,
)
from controller.desired.files.walk import inside

RACY_NS = 2_000_000_000
"""A file written less than this before it was read may be written again without a new timestamp
in its file system; so it is read again until it is older."""


@dataclass(frozen=True, slots=True)
class Source:
    """A source's text, or why there is none. The same object as long as nothing changed."""

    text: str | None
    flaw: str | None
    missing: bool = False
    """Nothing has that name, not even a symlink that leads nowhere."""


@dataclass(frozen=True, slots=True)
class _Cached:
    source: Source
    signature: Signature
    settled: bool


def is_settled(status: os.stat_result, now_ns: int) -> bool:
    """Whether ``status`` is old enough to prove that nothing was written since."""
    return now_ns - max(status.st_mtime_ns, status.st_ctime_ns) > RACY_NS


class SourceReader:
    """Reads the sources of one directory. Not thread-safe; the catalog's lock covers it.

    With ``linked`` the files may be symlinks that leave the directory: for files that were
    installed with the program, which some installers link to from elsewhere.
    """

    def __init__(self, *, linked: bool = False) -> None:
        self._linked = linked
        self._cache: dict[str, _Cached] = {}
        self._pass: dict[str, Source] = {}
        self._root = ""
        self._trust = Trust(None)

    def begin(self, root: str, trust: Trust) -> None:
        """Begin a pass over the resolved ``root``; each source is read at most once in it."""
        if trust != self._trust:
            self._cache.clear()
        self._root, self._trust, self._pass = root, trust, {}

    def end(self) -> None:
        """Forget the sources that the pass did not read."""
        for path in self._cache.keys() - self._pass.keys():
            del self._cache[path]

    def read(self, base: str, name: str) -> Source:
        """The source ``name`` relative to the directory ``base`` (itself relative to the root)."""
        path = os.path.normpath(f"{self._root}/{base}/{name}")
        if name.startswith("/") or not inside(path, self._root):
            return Source(None, _leaves(name))
        known = self._pass.get(path)
        if known is None:
            known = self._pass[path] = self._look(path, name)
        return known

    def _look(self, path: str, name: str) -> Source:
        cached = self._cache.pop(path, None)
        try:
            real = os.path.realpath(path, strict=True)
            if not self._linked and not inside(real, self._root):
                return Source(None, _leaves(name))
            self._check_directories(real)
            status = os.stat(real, follow_symlinks=False)  # noqa: PTH116 - plain text paths
            if cached is not None and cached.settled and cached.signature == signature(status):
                self._cache[path] = cached
                return cached.source
            content, status = read_file(real, MAX_SOURCE_BYTES, self._trust)
            fresh = Source(content.decode("utf-8"), None)
        except UnicodeDecodeError:
            return Source(None, f"{name} is not UTF-8 text; save it as UTF-8")
        except OSError as error:
            missing = isinstance(error, FileNotFoundError | NotADirectoryError)
            nothing = missing and not os.path.lexists(path)
            return Source(None, f"{name} {unusable(error)}", nothing)
        except UnusableFileError as error:
            return Source(None, f"{name} {error}")
        if cached is not None and cached.source == fresh:
            fresh = cached.source
        self._cache[path] = _Cached(fresh, signature(status), is_settled(status, time.time_ns()))
        return fresh

    def _check_directories(self, real: str) -> None:
        parent = os.path.dirname(real)  # noqa: PTH120
        while inside(parent, self._root) and parent != self._root:
            self._trust.check(os.stat(parent), "its directory ")  # noqa: PTH116
            parent = os.path.dirname(parent)  # noqa: PTH120


def _leaves(name: str) -> str:
    return (
        f"{name} leaves the directory; copy the file beside the document"
        " and write its path relative to the document"
    )
