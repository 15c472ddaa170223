"""The journal's SQLite file: its table of events, and the few statements on it.

WAL with ``synchronous=NORMAL``: a power cut may lose the last events but never damages the file,
which is enough for history. ``sqlite3.Error`` and ``OSError`` are raised as they come; they are
handled in ``journal.py``.
"""

import sqlite3
import time
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from pathlib import Path

MEMORY = ":memory:"
_VERSION = 1
_KEEP_BROKEN = 3
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY,
    time REAL NOT NULL,
    first_time REAL NOT NULL,
    guest TEXT NOT NULL,
    reason TEXT NOT NULL,
    message TEXT NOT NULL,
    warning INTEGER NOT NULL,
    count INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS events_of_guest ON events (guest, id);
PRAGMA user_version = {_VERSION};
"""
_COLUMNS = "id, time, first_time, guest, reason, message, warning, count"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to ``guest`` ("": to the daemon). Times are epoch seconds.

    ``id`` is the event's place in the journal and only grows; an event that repeats moves to the
    end under a new id, so readers that follow the journal see its ``count`` grow.
    """

    id: int
    time: float
    """When it happened last."""
    first_time: float
    guest: str
    reason: str
    message: str
    warning: bool
    count: int


class UnknownVersionError(sqlite3.DatabaseError):
    """The file was written by another version of the daemon."""


class Database:
    """One connection, for any thread but one at a time: the journal's lock sees to that."""

    def __init__(self, path: str) -> None:
        """Open or create the file at ``path`` (or ``:memory:``), readable by its owner only."""
        if path != MEMORY:
            Path(path).touch(mode=0o600)
        self._connection = sqlite3.connect(
            path, timeout=2.0, isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self) -> None:
        execute = self._connection.execute
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = NORMAL")
        execute("PRAGMA journal_size_limit = 4194304")
        execute("PRAGMA cache_size = -256")  # KiB; small: mostly written, seldom read
        (version,) = execute("PRAGMA user_version").fetchone()
        if version not in (0, _VERSION):
            raise UnknownVersionError(f"written by another version (schema {version})")
        ((check,),) = execute("PRAGMA quick_check(1)").fetchall()
        if check != "ok":
            raise sqlite3.DatabaseError(f"malformed: {check}")
        self._connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")

    def write(self, events: Iterable[tuple[Event, int | None]]) -> None:
        """Add each event; with an id, instead of the event that has it. All or none."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            for event, replaces in events:
                if replaces is not None:
                    self._connection.execute("DELETE FROM events WHERE id = ?", (replaces,))
                self._connection.execute(
                    f"INSERT INTO events ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - constants
                    astuple(event),
                )
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def events(self, guest: str | None, after_id: int, limit: int, newest: bool) -> list[Event]:
        """The first (``newest``: last) ``limit`` events after ``after_id``, oldest first.

        ``guest`` None: of all guests.
        """
        rows = self._connection.execute(
            f"SELECT {_COLUMNS} FROM events WHERE id > ? AND (? IS NULL OR guest = ?)"  # noqa: S608 - constants
            f" ORDER BY id {'DESC' if newest else 'ASC'} LIMIT ?",
            (after_id, guest, guest, limit),
        ).fetchall()
        found = [
            Event(number, when, first, name, reason, message, bool(warning), count)
            for number, when, first, name, reason, message, warning, count in rows
        ]
        return found[::-1] if newest else found

    def last_of(self, guest: str) -> Event | None:
        """The guest's latest event."""
        found = self.events(guest, 0, 1, newest=True)
        return found[0] if found else None

    def last_id(self) -> int:
        """The highest id; 0 in an empty journal."""
        (highest,) = self._connection.execute("SELECT max(id) FROM events").fetchone()
        return int(highest or 0)

    def prune(self, max_events: int, before: float) -> None:
        """Delete all but the newest ``max_events``, and all older than ``before`` (epoch seconds).

        The newest event always stays: ids go on from it after a restart.
        """
        last = self.last_id()
        self._connection.execute(
            "DELETE FROM events WHERE id < ? AND (time < ? OR id <="
            " (SELECT id FROM events ORDER BY id DESC LIMIT 1 OFFSET ?))",
            (last, before, max_events),
        )

    def close(self) -> None:
        """Close the file, which also merges the write-ahead log into it."""
        self._connection.close()


def set_aside(path: Path, now: float | None = None) -> Path:
    """Rename a database that cannot be used, with its side files, and return its new name.

    The three latest are kept. Raises ``OSError`` where the directory does not allow it.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    target = path.with_name(f"{path.name}.broken-{stamp}")
    path.rename(target)
    for suffix in ("-wal", "-shm"):
        side = Path(f"{path}{suffix}")
        if side.exists():
            side.rename(f"{target}{suffix}")
    before = sorted(path.parent.glob(f"{path.name}.broken-*Z"))
    for old in before[:-_KEEP_BROKEN]:
        for suffix in ("", "-wal", "-shm"):
            Path(f"{old}{suffix}").unlink(missing_ok=True)
    return target
