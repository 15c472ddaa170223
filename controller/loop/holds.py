"""Which guests an operator suspended by name, for when their domain does not say so any more.

A guest's suspension stands in its domain's metadata, and goes with the domain where somebody
undefines that: but who holds a guest and takes its domain away does not want it made anew. So what
was seen of a domain is kept in a small file, until it is resumed or seen otherwise.
"""

import json
import threading
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)


class Holds:
    """Thread-safe. ``file`` None: kept in memory only, as for who only looks."""

    def __init__(self, file: Path | None = None, *, write: bool = True) -> None:
        self._file = file
        self._write = write
        self._lock = threading.Lock()
        self._names = _load(file)

    def held(self, name: str) -> bool:
        """Was its domain suspended when it was last seen?"""
        return name in self._names

    def saw(self, name: str, *, suspended: bool) -> None:
        """What its domain says, or an operator."""
        if (name in self._names) is suspended:
            return
        with self._lock:
            self._names = self._names | {name} if suspended else self._names - {name}
            self._save()

    def _save(self) -> None:
        if self._file is None or not self._write:
            return
        try:
            new = self._file.with_name(f".{self._file.name}.new")
            new.write_text(json.dumps(sorted(self._names)), encoding="utf-8")
            new.replace(self._file)
        except OSError as error:  # then a restarted daemon knows what domains say, and no more
            log.warning("suspended guests cannot be noted", file=str(self._file), why=str(error))


def _load(file: Path | None) -> frozenset[str]:
    try:
        names = json.loads(file.read_text(encoding="utf-8")) if file is not None else []
    except (OSError, ValueError):
        return frozenset()
    return (
        frozenset(name for name in names if isinstance(name, str))
        if isinstance(names, list)
        else frozenset()
    )
