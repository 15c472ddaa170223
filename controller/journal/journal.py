"""The journal of events for people; it never slows the daemon down and never stops it.

``record`` only puts an event into a bounded queue; one thread writes. A corrupt file, or one of
another version, is renamed and a new one begun. Any other trouble (full disk, read-only directory)
is logged once: the journal goes on in memory, retries every minute, and then writes what was
recorded meanwhile. No decision of the daemon is based on the journal.
"""

import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, Full, Queue

import structlog

from controller.journal.database import MEMORY, Database, Event, UnknownVersionError, set_aside

_log = structlog.get_logger(__name__)

_QUEUE = 10_000  # events waiting to be written; more than this at once are dropped
_BATCH = 500
_MESSAGE = 4096  # characters
_REPEAT_WITHIN = 600.0  # seconds
_KNOWN_GUESTS = 20_000
_PRUNE_EVERY = 500  # events written
_CORRUPT = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


@dataclass(frozen=True, slots=True)
class _Record:
    time: float
    guest: str
    reason: str
    message: str
    warning: bool


class Journal:
    """Implements ``execution.ports.Journal``. Thread-safe."""

    def __init__(
        self,
        path: Path | str,
        *,
        max_events: int = 10_000,
        max_age: float = 30 * 86400.0,
        retry_after: float = 60.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Open the journal at ``path`` (``:memory:``: not on disk); a bad file raises nothing.

        ``max_age`` and ``retry_after`` are seconds, ``clock`` gives epoch seconds.
        """
        self._path = str(path)
        self._max_events = max_events
        self._max_age = max_age
        self._retry_after = retry_after
        self._clock = clock
        self._queue: Queue[_Record | None] = Queue(_QUEUE)
        self._dropped = 0
        self._dropped_logged = 0
        self._closed = False
        self._changed = threading.Condition()
        """Guards the database; held while it reads or writes, so ``record`` never takes it."""
        self._last: OrderedDict[str, Event] = OrderedDict()
        self._last_id = 0
        self._since_prune = 0
        self._on_disk = self._path != MEMORY
        self._retry_at = 0.0
        self._database = self._open()
        self._last_id = self._database.last_id()
        self._prune()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    # --- Any thread -------------------------------------------------------------------------------

    def record(self, guest: str, reason: str, message: str, *, warning: bool = False) -> None:
        """Record an event of ``guest`` ("": of the daemon). Never waits or raises.

        ``reason`` is a word in CamelCase. The same event again, within 10 minutes and with no other
        event of the guest between, increments ``count`` instead of adding an event.
        """
        if self._closed:
            return
        now, text = self._clock(), message[:_MESSAGE] + "…" * (len(message) > _MESSAGE)
        try:
            self._queue.put_nowait(_Record(now, _utf8(guest), _utf8(reason), _utf8(text), warning))
        except Full:
            self._dropped += 1  # the writer logs it; threads may lose an increment, which is fine

    def events(self, guest: str | None = None, after_id: int = 0, limit: int = 1000) -> list[Event]:
        """The newest ``limit`` events (of ``guest``) after ``after_id``, oldest first.

        Empty where the journal cannot be read.
        """
        with self._changed:
            return self._read(guest, after_id, limit, newest=True)

    def wait_after(
        self, after_id: int, timeout: float, guest: str | None = None, limit: int = 1000
    ) -> list[Event]:
        """The next ``limit`` events after ``after_id``, waiting up to ``timeout`` s for the first.

        An ``after_id`` beyond the journal's end comes from a journal that was set aside: this one
        is then read from its beginning.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                start = after_id if after_id <= self._last_id else 0
                found = self._read(guest, start, limit, newest=False)
                remaining = deadline - time.monotonic()
                if found or remaining <= 0 or self._closed:
                    return found
                self._changed.wait(remaining)

    def last_id(self) -> int:
        """The id of the newest event, to follow from; 0 if there is none."""
        with self._changed:
            return self._last_id

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until what was recorded so far is written; False if not within ``timeout`` s."""
        done = self._queue.all_tasks_done
        with done:
            return done.wait_for(lambda: self._queue.unfinished_tasks == 0, timeout)

    @property
    def dropped(self) -> int:
        """Events lost since the start because too many came at once."""
        return self._dropped

    @property
    def on_disk(self) -> bool:
        """Are events written to disk at present?"""
        return self._on_disk

    def close(self, timeout: float = 5.0) -> bool:
        """Write what is left and end; False if that took longer than ``timeout`` seconds."""
        if self._closed:
            return not self._thread.is_alive()
        self._closed = True
        try:
            self._queue.put(None, timeout=timeout)
        except Full:
            return False
        self._thread.join(timeout)
        return not self._thread.is_alive()

    # --- The writer -------------------------------------------------------------------------------

    def _run(self) -> None:
        closing = False
        while not closing:
            batch = [self._queue.get()]
            try:
                while len(batch) < _BATCH:
                    batch.append(self._queue.get_nowait())
            except Empty:
                pass
            closing = None in batch
            with self._changed:
                self._write([record for record in batch if record is not None])
                self._changed.notify_all()
            for _ in batch:
                self._queue.task_done()
            self._tell_dropped()
        with self._changed:
            try:
                self._database.close()
            except sqlite3.Error as error:
                _log.warning("closing the journal failed", error=str(error))
            self._changed.notify_all()

    def _tell_dropped(self) -> None:
        dropped = self._dropped
        if dropped > self._dropped_logged:
            _log.warning("journal events dropped", count=dropped - self._dropped_logged)
            self._dropped_logged = dropped

    def _write(self, records: list[_Record]) -> None:
        self._retry()
        for attempt in (1, 2):  # the second goes to the database that replaced the broken one
            try:
                self._add(records)
                break
            except (sqlite3.Error, OSError) as error:
                if attempt == 2 or not self._on_disk:
                    _log.warning("journal events lost", count=len(records), error=str(error))
                    break
                self._fall_back(error)
            except Exception:  # noqa: BLE001 - logged; a bug costs these events, not the writer
                _log.exception("journal events lost", count=len(records))
                break
        self._since_prune += len(records)
        if self._since_prune >= _PRUNE_EVERY:
            self._prune()

    def _add(self, records: list[_Record]) -> None:
        changes: list[tuple[Event, int | None]] = []
        latest: dict[str, Event] = {}
        next_id = self._last_id
        for record in records:
            next_id += 1
            before = latest.get(record.guest) or self._last_of(record.guest)
            if before is not None and _repeats(record, before):
                event = replace(before, id=next_id, time=record.time, count=before.count + 1)
                changes.append((event, before.id))
            else:
                event = Event(
                    next_id,
                    record.time,
                    record.time,
                    record.guest,
                    record.reason,
                    record.message,
                    record.warning,
                    1,
                )
                changes.append((event, None))
            latest[record.guest] = event
        self._database.write(changes)
        self._last_id = next_id
        for guest, event in latest.items():
            self._last[guest] = event
            self._last.move_to_end(guest)
        while len(self._last) > _KNOWN_GUESTS:
            self._last.popitem(last=False)

    def _last_of(self, guest: str) -> Event | None:
        return self._last.get(guest) or self._database.last_of(guest)

    def _prune(self) -> None:
        self._since_prune = 0
        try:
            self._database.prune(self._max_events, self._clock() - self._max_age)
        except sqlite3.Error as error:
            _log.warning("pruning the journal failed", error=str(error))

    def _read(self, guest: str | None, after_id: int, limit: int, *, newest: bool) -> list[Event]:
        try:
            return self._database.events(guest, after_id, max(limit, 0), newest)
        except sqlite3.Error as error:
            if not self._closed:
                _log.warning("reading the journal failed", error=str(error))
            return []

    # --- A file that cannot be used ---------------------------------------------------------------

    def _open(self) -> Database:
        if not self._on_disk:
            return Database(MEMORY)
        try:
            return Database(self._path)
        except (sqlite3.Error, OSError) as error:
            return self._instead(error)

    def _fall_back(self, error: Exception) -> None:
        try:
            self._database.close()
        except sqlite3.Error as second:
            _log.debug("closing the broken journal failed", error=str(second))
        self._last.clear()
        self._database = self._instead(error)

    def _instead(self, error: Exception) -> Database:
        """The database to use after ``error``: a new file for a corrupt one, else in memory."""
        if _is_corrupt(error):
            try:
                aside = set_aside(Path(self._path), self._clock())
                fresh = Database(self._path)
            except (sqlite3.Error, OSError) as second:
                error = second
            else:
                _log.warning(
                    "journal was unusable, set aside and begun anew",
                    path=self._path,
                    kept_as=str(aside),
                    error=str(error),
                )
                return fresh
        _log.warning(
            "journal can not be written, history is kept in memory only",
            path=self._path,
            error=str(error),
            retry_seconds=self._retry_after,
        )
        self._on_disk = False
        self._retry_at = time.monotonic() + self._retry_after
        return Database(MEMORY)

    def _retry(self) -> None:
        """Try the file again if a retry is due, and move the events kept in memory to it."""
        if self._on_disk or self._path == MEMORY or time.monotonic() < self._retry_at:
            return
        self._retry_at = time.monotonic() + self._retry_after
        try:
            database = Database(self._path)
        except (sqlite3.Error, OSError) as error:
            _log.debug("journal still can not be written", error=str(error))
            return
        kept = self._database.events(None, 0, self._max_events, newest=True)
        shift = max(0, database.last_id() - (kept[0].id - 1 if kept else self._last_id))
        moved = [replace(event, id=event.id + shift) for event in kept]
        try:
            database.write((event, None) for event in moved)
        except sqlite3.Error as error:
            _log.debug("journal still can not be written", error=str(error))
            database.close()
            return
        self._database.close()
        self._database = database
        self._last_id = max(self._last_id + shift, database.last_id())
        self._last.clear()
        self._on_disk = True
        _log.info("journal is written to disk again", path=self._path, events=len(moved))


def _utf8(text: str) -> str:
    """``text`` as SQLite can store it: output of commands may hold bytes that are no text."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _repeats(record: _Record, before: Event) -> bool:
    same = (record.reason, record.message, record.warning) == (
        before.reason,
        before.message,
        before.warning,
    )
    return same and 0 <= record.time - before.time <= _REPEAT_WITHIN


def _is_corrupt(error: Exception) -> bool:
    if isinstance(error, UnknownVersionError):
        return True
    if not isinstance(error, sqlite3.DatabaseError):
        return False
    code = getattr(error, "sqlite_errorcode", None)
    return (code & 0xFF in _CORRUPT) if code is not None else "malformed" in str(error)
