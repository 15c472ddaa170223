"""Watch the desired-state directory for changes: quickly by events, reliably by periodic scans.

Events are hints: they may be lost, come in storms, or never come (NFS). So every event leads to the
same scan of the catalog, and the periodic scan alone would be enough. The thread survives its own
failures, reports them and goes on.
"""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Final

from watchdog.events import (
    FileClosedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from controller.desired.catalog.catalog import Catalog
from controller.desired.catalog.snapshot import ScanResult
from controller.desired.files.mounts import network_mount

LONGEST_DEBOUNCE: Final = 2.0
"""Most seconds that a stream of events without a pause may delay a scan."""
LOOK_AGAIN: Final = 0.5
"""Seconds between scans while a document is missing and not believed to be gone yet."""
POLL: Final = 5.0
"""Seconds between scans where the kernel gives no events."""
ROOT_CHECK: Final = 1.0
"""Seconds between checks that the root is still the directory that is watched."""
RETRY: Final = 5.0
"""Seconds until a scan or callback that failed is tried again."""
_HINTS = frozenset({"created", "modified", "moved", "deleted", "closed", "attrib"})

Identity = tuple[str, int, int] | None
"""Real path, device and inode of the root; None if it does not exist."""


class _Handler(FileSystemEventHandler):
    def __init__(self, hint: Callable[[], None]) -> None:
        self._hint = hint

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Only writing counts: our own reading causes events as well."""
        if event.event_type not in _HINTS or (
            event.event_type == "closed" and not isinstance(event, FileClosedEvent)
        ):
            return
        if "/.git/" not in os.fsdecode(event.src_path):
            self._hint()


class _Reported:
    """Runs a block and reports its exception instead of raising it, so that the thread goes on."""

    def __init__(self, report: Callable[[str, Exception], None], doing: str) -> None:
        self._report = report
        self._doing = doing
        self.failed = False

    def __enter__(self) -> "_Reported":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        self.failed = True
        self._report(self._doing, error)
        return True


class Watcher:
    """Scans ``catalog`` whenever ``root`` may have changed; calls ``on_change`` if it has.

    ``debounce`` seconds without an event end a burst; a full scan is made every ``rescan`` seconds.
    ``on_failure(what, error)`` is called for failures of the thread itself, ``on_notice(text)`` for
    what an operator should know (polling, and why); neither may raise. Callbacks run in the
    watcher's thread, or in that of the caller of ``scan_now``; two scans never run at once.
    """

    def __init__(
        self,
        catalog: Catalog,
        root: Path,
        on_change: Callable[[ScanResult], None],
        *,
        debounce: float = 0.2,
        rescan: float = 30.0,
        on_failure: Callable[[str, Exception], None],
        on_notice: Callable[[str], None],
    ) -> None:
        self._catalog = catalog
        self._root = root
        self._on_change = on_change
        self._debounce = debounce
        self._rescan = rescan
        self._on_failure = on_failure
        self._on_notice = on_notice
        self._condition = threading.Condition()
        self._scanning = threading.Lock()
        self._first_event: float | None = None
        self._last_event = 0.0
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._observer: BaseObserver | None = None
        self._watched: Identity | str = "nothing yet"
        self._undelivered: tuple[frozenset[str], frozenset[str]] | None = None
        self._notice = ""
        self._period = rescan
        self._unsettled_since: float | None = None

    @property
    def polling(self) -> bool:
        """Whether changes are found by polling alone."""
        return self._observer is None

    def start(self) -> None:
        """Begin to watch; the first scan is made at once, in the watcher's thread."""
        self._thread = threading.Thread(target=self._run, name="desired-watcher", daemon=True)
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> bool:
        """End watching; false if the thread did not end within ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        with self._condition:
            self._stopping = True
            self._condition.notify_all()
        if self._thread is None:
            return True
        self._thread.join(timeout)
        if not self._thread.is_alive():
            self._unwatch(max(deadline - time.monotonic(), 0.1))
        return not self._thread.is_alive()

    def scan_now(self) -> ScanResult:
        """Scan in the caller's thread, with ``on_change`` as after any other scan."""
        return self._scan(0.0)

    def hint(self) -> None:
        """Report a possible change: scan after ``debounce`` seconds without another hint."""
        now = time.monotonic()
        with self._condition:
            if self._first_event is None:
                self._first_event = now
                self._condition.notify_all()
            self._last_event = now

    # --- The thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        next_scan = time.monotonic()
        next_check = next_scan
        while True:
            now = time.monotonic()
            if now >= next_check:
                with _Reported(self._on_failure, "watching the desired-state directory"):
                    if self._follow_root():
                        next_scan = now
                next_check = now + ROOT_CHECK
            with self._condition:
                if self._stopping:
                    return
                due = min(next_scan, self._events_due())
                if now < due:
                    self._condition.wait(min(due, next_check) - now)
                    continue
                since, self._first_event = self._first_event or now, None
            again = False
            with _Reported(self._on_failure, "scanning the desired-state directory") as attempt:
                since = min(since, self._unsettled_since or now)
                # Less than the debounce, because the file's own clock differs a little.
                # A file that is written for too long without a pause is read as it is.
                late = now - since >= LONGEST_DEBOUNCE
                result = self._scan(0.0 if late else self._debounce * 0.9)
                self._unsettled_since = since if result.unsettled else None
                again = result.again
            wait = min(self._period, LOOK_AGAIN) if again else self._period
            if attempt.failed:
                wait = min(self._period, RETRY)
            elif self._unsettled_since is not None:
                wait = self._debounce
            next_scan = time.monotonic() + wait

    def _events_due(self) -> float:
        if self._first_event is None:
            return float("inf")
        return min(self._last_event + self._debounce, self._first_event + LONGEST_DEBOUNCE)

    def _scan(self, settle: float) -> ScanResult:
        with self._scanning:
            result = self._catalog.scan(settle=settle)
            if self._undelivered is not None:
                guests, images = self._undelivered
                result = replace(
                    result,
                    changed=result.changed | guests,
                    images_changed=result.images_changed | images,
                    anything=True,
                )
            if result.anything:
                self._undelivered = (result.changed, result.images_changed)
                self._on_change(result)
                self._undelivered = None  # after a failure it is delivered again
            return result

    # --- What is watched -------------------------------------------------------------------------

    def _follow_root(self) -> bool:
        """Watch the root as it is now (created, mounted over, symlink changed). True if another."""
        identity = _identity(self._root)
        if identity == self._watched:
            return False
        self._unwatch(1.0)
        self._watched = identity
        self._period = self._rescan
        if identity is None:
            self._tell(f"{self._root} does not exist yet; waiting for it")
            return True
        network = network_mount(identity[0])
        if network is not None:
            self._poll(f"{self._root} is on {network}, which gives no events; looking at it")
            return True
        observer = Observer()
        try:
            observer.schedule(_Handler(self.hint), identity[0], recursive=True)
            observer.start()
        except OSError as error:
            self._poll(
                f"{self._root} cannot be watched ({error.strerror or error};"
                " raise fs.inotify.max_user_watches or max_user_instances); looking at it"
            )
            return True
        self._observer = observer
        self._notice = ""
        return True

    def _poll(self, why: str) -> None:
        self._period = min(POLL, self._rescan)
        self._tell(f"{why} every {self._period:g} s instead")

    def _tell(self, notice: str) -> None:
        if notice != self._notice:
            self._notice = notice
            self._on_notice(notice)

    def _unwatch(self, timeout: float) -> None:
        observer, self._observer = self._observer, None
        if observer is None:
            return
        observer.stop()
        if observer.is_alive():
            observer.join(timeout)


def _identity(root: Path) -> Identity:
    try:
        real = os.path.realpath(root, strict=True)
        status = os.stat(real)  # noqa: PTH116
    except OSError:
        return None  # missing or unreachable: the scan reports it
    return real, status.st_dev, status.st_ino
