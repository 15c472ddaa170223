"""Remembers which guests an operator suspended by name, in case their domain is undefined.

The suspension is in the domain's metadata, and is lost when somebody undefines the domain. But an
operator who suspends a guest and undefines its domain does not want it created anew. So the
suspension is also kept in a small file, until the guest is resumed or seen not suspended.
"""

import json
import threading
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)


class Holds:
    """The suspended names. Thread-safe. ``file`` None: kept in memory only, for commands that only
    observe.
    """

    def __init__(self, file: Path | None = None, *, write: bool = True) -> None:
        self._file = file
        self._write = write
        self._lock = threading.Lock()
        self._names = _load(file)

    def held(self, name: str) -> bool:
        """True if the guest's domain was suspended when it was last seen."""
        return name in self._names

    def saw(self, name: str, *, suspended: bool) -> None:
        """Notes whether the guest is suspended, as its domain or an operator says."""
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
        except OSError as error:  # after a restart, only the domains' metadata is known
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
