"""Find the documents' files in a directory, following symlinks that stay inside it.

git-sync and Kubernetes publish a new state by changing one symlink; so symlinks are followed as
long as they end inside the directory, and a file that several of them reach counts once.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from controller.desired.files.trusted_read import Trust, UnusableFileError, kind_of, unusable

SUFFIXES: Final = (".yaml", ".yml")
MAX_DEPTH: Final = 20
"""Levels of sub-directories that are followed."""
MAX_FILES: Final = 100_000


@dataclass(frozen=True, slots=True)
class Found:
    """A document's file: its name relative to the root, its real path, its status."""

    name: str
    path: str
    status: os.stat_result


@dataclass(slots=True)
class Walk:
    """What was found, and what was refused, as (name relative to the root, message)."""

    files: dict[str, Found] = field(default_factory=dict)
    """By real path."""
    refused: list[tuple[str, str]] = field(default_factory=list)
    places: dict[str, int] = field(default_factory=dict)
    """The directories that were read (the root is ''), with the device of each (``st_dev``)."""


def is_document(name: str) -> bool:
    """Whether a file of this name is read: ``*.yaml|yml``, no dotfile, no editor's backup."""
    return name.endswith(SUFFIXES) and not name.startswith((".", "#", "~"))


def inside(path: str, root: str) -> bool:
    """Whether the resolved ``path`` is ``root`` or below it."""
    return path == root or path.startswith(root.rstrip("/") + "/")


def walk(root: str, trust: Trust) -> Walk:
    """Find all documents' files below ``root``, which is a resolved path.

    Raises ``OSError`` or ``UnusableFileError`` if the root itself cannot be used; what cannot be
    used below it is in ``refused``.
    """
    trust.check(os.stat(root), "the directory ")  # noqa: PTH116 - paths are plain text here
    return _Walker(root, trust).run()


class _Walker:
    def __init__(self, root: str, trust: Trust) -> None:
        self._root = root
        self._trust = trust
        self._walk = Walk()
        self._seen: set[str] = set()
        self._trusted: dict[str, str | None] = {root: None}
        self._links: list[tuple[str, str]] = []

    def run(self) -> Walk:
        self._directories(self._root, "")
        while self._links:  # symlinks last, so that a file keeps its own name
            path, name = self._links.pop(0)
            self._directories(path, name)
        return self._walk

    def _directories(self, path: str, name: str) -> None:
        pending = [(path, name)]
        while pending:
            path, name = pending.pop()
            if path in self._seen:
                continue
            self._seen.add(path)
            if name.count("/") >= MAX_DEPTH:
                self._refuse(name, f"is more than {MAX_DEPTH} directories deep; flatten it")
                continue
            flaw = self._distrust(path)
            if flaw is not None:
                self._refuse(name, flaw)
                continue
            try:
                device = os.stat(path).st_dev  # noqa: PTH116
                entries = sorted(os.scandir(path), key=lambda entry: entry.name)
            except OSError as error:
                if not name:
                    raise
                self._refuse(name, str(unusable(error)))
                continue
            self._walk.places[name] = device
            pending += reversed(list(self._entries(entries, f"{name}/" if name else "")))

    def _entries(self, entries: list["os.DirEntry[str]"], prefix: str) -> Iterator[tuple[str, str]]:
        """Record the files; yield the sub-directories."""
        for entry in entries:
            name = entry.name
            if name.startswith("."):
                continue
            try:
                if entry.is_symlink():
                    self._link(entry, prefix + name)
                elif entry.is_dir(follow_symlinks=False):
                    yield entry.path, prefix + name
                elif is_document(name):
                    self._file(prefix + name, entry.path, entry.stat(follow_symlinks=False))
            except FileNotFoundError:
                continue  # removed between the listing and the look at it
            except OSError as error:
                self._refuse(prefix + name, str(unusable(error)))

    def _link(self, entry: "os.DirEntry[str]", name: str) -> None:
        wanted = is_document(entry.name)
        try:
            target = os.path.realpath(entry.path, strict=True)
            status = os.stat(target, follow_symlinks=False)  # noqa: PTH116
        except OSError:
            if wanted:
                self._refuse(name, "is a symlink that leads nowhere; replace or remove it")
            return
        directory = stat.S_ISDIR(status.st_mode)
        if not wanted and not directory:
            return
        if not inside(target, self._root):
            self._refuse(
                name,
                f"is a symlink that leaves the directory (to {target});"
                " copy what it leads to into the directory",
            )
        elif directory:
            self._links.append((target, name))
        else:
            flaw = self._distrust(os.path.dirname(target))  # noqa: PTH120
            if flaw is not None:
                self._refuse(name, flaw)
            elif target not in self._walk.files:
                self._file(name, target, status)

    def _file(self, name: str, path: str, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            self._refuse(name, f"is {kind_of(status.st_mode)}, not a file; remove it")
            return
        if len(self._walk.files) >= MAX_FILES:
            raise UnusableFileError(f"holds more than {MAX_FILES} documents' files; divide it")
        self._walk.files[path] = Found(name, path, status)

    def _distrust(self, path: str) -> str | None:
        """Why ``path`` or a directory between it and the root may not be used."""
        if path not in self._trusted:
            flaw = self._distrust(os.path.dirname(path))  # noqa: PTH120
            if flaw is None:
                try:
                    self._trust.check(os.stat(path), "the directory ")  # noqa: PTH116
                except OSError as error:
                    flaw = str(unusable(error))
                except UnusableFileError as error:
                    flaw = str(error)
            self._trusted[path] = flaw
        return self._trusted[path]

    def _refuse(self, name: str, message: str) -> None:
        self._walk.refused.append((name, message))
