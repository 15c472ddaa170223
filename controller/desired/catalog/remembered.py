"""Where documents were when the daemon last looked, in a file for the next daemon.

A daemon on a host that booted without one of its mounts never saw the documents there. So their
places outlive the daemon; losing the file costs only this guard.
"""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Remembered:
    """What is stored. ``guests`` has the file of each Guest document, relative to the root;
    ``released`` are the Guests that an operator approved to be gone. ``mounts`` are the
    directories with documents that were separate file systems.
    """

    guests: dict[str, str] = field(default_factory=dict)
    released: frozenset[str] = frozenset()
    mounts: frozenset[str] = frozenset()


class _Stored(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    root: str
    guests: dict[str, str]
    released: list[str]
    mounts: list[str]


class RememberedFile:
    """The file ``path`` about the directory ``root``; with ``path=None`` nothing is stored."""

    def __init__(self, root: Path, path: Path | None, *, writable: bool = True) -> None:
        self._root = str(root.absolute())
        self._path = path
        self._writable = writable
        self._written: Remembered | None = None

    def read(self) -> Remembered:
        """What was last written about this directory; empty if that cannot be read."""
        if self._path is None:
            return Remembered()
        try:
            stored = _Stored.model_validate_json(self._path.read_bytes())
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return Remembered()  # PermissionError: ``guestkeeper plan`` by any user
        except (OSError, ValidationError) as error:
            log.warning("where documents stood is not known", file=str(self._path), why=str(error))
            return Remembered()
        if stored.root != self._root:
            return Remembered()
        return Remembered(stored.guests, frozenset(stored.released), frozenset(stored.mounts))

    def write(self, known: Remembered) -> None:
        """Replace what is stored, if it changed; after a failure the next call tries again."""
        if self._path is None or not self._writable or known == self._written:
            return
        stored = {
            "root": self._root,
            "guests": dict(sorted(known.guests.items())),
            "released": sorted(known.released),
            "mounts": sorted(known.mounts),
        }
        new = self._path.with_name(f".{self._path.name}.new")
        try:
            with new.open("w", encoding="utf-8") as file:
                json.dump(stored, file, indent=1, ensure_ascii=True)
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._path)
        except OSError as error:
            log.warning(
                "where documents stand cannot be written down", file=str(new), why=str(error)
            )
            return
        self._written = known
