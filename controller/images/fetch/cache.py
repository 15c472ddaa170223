"""The cache of downloaded images: each file is named by its sha256, and complete or not there.

Concurrent requests for the same file share one download; a lock on the ``.part`` file keeps other
processes out. The next request resumes an interrupted download.
"""

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from functools import partial
from io import FileIO
from pathlib import Path

import structlog

from controller.errors import TransientError
from controller.images.fetch.http import FULL, Pace, Place, Transfer
from controller.images.fetch.redirects import shown
from controller.images.fetch.single_flight import SingleFlight
from controller.images.progress import Told

_log = structlog.get_logger(__name__)
_ABANDONED_SECONDS = 7 * 86400.0


class Downloader:
    """Fetches into ``directory``. Safe to use from many threads."""

    def __init__(
        self, directory: Path, *, stop: threading.Event | None = None, pace: Pace | None = None
    ) -> None:
        self._directory = directory
        self._stop = stop or threading.Event()
        self._pace = pace or Pace()
        self._single_flight = SingleFlight()
        self._lock = threading.Lock()
        self._listeners: dict[str, list[Told]] = {}
        self._sweep()

    def cached(self, sha256: str) -> Path:
        """The path of the file with that digest, once it has been fetched."""
        return Place(self._directory, sha256).final

    def fetch(self, url: str, sha256: str, progress: Told, *, secure: bool = False) -> Path:
        """The path of the file at ``url``, complete and checked.
        ``secure``: ``sha256`` came the same way, so no redirect from https to http is followed.

        Raises ``PermanentError`` (``ChecksumMismatch``, ``DownloadRefused``) or
        ``TransientError`` (``DownloadFailed`` after ``Pace.tries`` failures in a row without a byte
        gained, ``DiskFull``, ``Busy``, ``Stopping``).
        """
        with self._lock:
            self._listeners.setdefault(sha256, []).append(progress)
        try:
            self._single_flight.run(sha256, lambda: self._fetch(url, sha256, secure))
        finally:
            with self._lock:
                listeners = self._listeners[sha256]
                listeners.remove(progress)
                if not listeners:
                    del self._listeners[sha256]
        return self.cached(sha256)

    def discard(self, sha256: str) -> None:
        """Delete a cached file that turned out not to be what its name says."""
        self.cached(sha256).unlink(missing_ok=True)

    def _fetch(self, url: str, sha256: str, secure: bool) -> None:
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            place = Place(self._directory, sha256)
            with self._locked_part(place) as part:
                if not place.final.exists():
                    _log.info("downloading", url=shown(url), sha256=sha256)
                    Transfer(
                        url,
                        place,
                        part,
                        pace=self._pace,
                        stop=self._stop,
                        report=partial(self._report, sha256),
                        secure=secure,
                    ).run()
                    _log.info("downloaded", url=shown(url), sha256=sha256)
        except OSError as error:
            raise TransientError(
                f"the cache {self._directory} cannot be written: {error.strerror or error}",
                reason="DiskFull" if error.errno in FULL else "CacheUnusable",
            ) from error

    @contextlib.contextmanager
    def _locked_part(self, place: Place) -> Iterator[FileIO]:
        """The part file, locked against other processes; an empty one is deleted at the end."""
        opened = os.open(place.part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        with FileIO(opened, "r+") as part:
            try:
                fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # It may have been finished and renamed between opening and locking.
                ours = place.part.stat().st_ino == os.fstat(opened).st_ino
            except (BlockingIOError, FileNotFoundError):
                ours = False
            if not ours:
                raise TransientError(
                    "another Guestkeeper process is downloading the same file",
                    reason="Busy",
                    retry_after=10,
                )
            try:
                yield part
            finally:
                if os.fstat(opened).st_size == 0:
                    place.part.unlink(missing_ok=True)
                    place.origin.unlink(missing_ok=True)

    def _report(self, sha256: str, done: int, total: int | None, detail: str = "") -> None:
        with self._lock:
            listeners = tuple(self._listeners.get(sha256, ()))
        for listener in listeners:
            listener(done, total, detail)

    def _sweep(self) -> None:
        """Delete parts that nobody has resumed for a week."""
        oldest = time.time() - _ABANDONED_SECONDS
        for pattern in ("*.part", "*.part.json"):
            for path in self._directory.glob(pattern):
                with contextlib.suppress(OSError):
                    if path.stat().st_mtime < oldest:
                        path.unlink()
