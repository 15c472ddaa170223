"""Changes are noticed soon, once, and whatever happens to the directory or the thread."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from controller.desired.catalog import watcher as watcher_module
from controller.desired.catalog.snapshot import ScanResult
from controller.desired.catalog.watcher import Watcher
from tests.unit.desired.support import (
    BASE,
    age,
    catalog,
    copy_into,
    empty,
    guest,
    make_directory,
    put,
)

DEADLINE = 60.0


class Seen:
    """What the watcher told."""

    def __init__(self) -> None:
        self.results: queue.Queue[ScanResult] = queue.Queue()
        self.failures: queue.Queue[tuple[str, Exception]] = queue.Queue()
        self.notices: queue.Queue[str] = queue.Queue()

    def until(self, wanted: Callable[[ScanResult], bool]) -> ScanResult:
        end = time.monotonic() + DEADLINE
        while True:
            result = self.results.get(timeout=max(end - time.monotonic(), 0.01))
            if wanted(result):
                return result


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def start(tmp_path: Path, seen: Seen) -> Iterator[Callable[..., Watcher]]:
    started: list[Watcher] = []

    def begin(root: Path | None = None, **options: float) -> Watcher:
        root = root if root is not None else tmp_path / "desired"
        options = {"debounce": 0.05, "rescan": 600.0, **options}
        watcher = Watcher(
            catalog(root),
            root,
            seen.results.put,
            on_failure=lambda what, error: seen.failures.put((what, error)),
            on_notice=seen.notices.put,
            **options,
        )
        watcher.start()
        started.append(watcher)
        return watcher

    yield begin
    for watcher in started:
        assert watcher.stop(), "a watcher ends within its deadline"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = make_directory(tmp_path / "desired")
    copy_into(BASE, root)
    age(root)
    return root


def rename_into(root: Path, name: str, text: str) -> None:
    path = put(root.parent / "elsewhere" / name, text)
    age(path.parent)
    path.rename(root / name)


def test_a_file_renamed_into_the_directory_is_told(
    root: Path, seen: Seen, start: Callable[..., Watcher]
) -> None:
    watcher = start()
    seen.until(lambda result: "web1" in result.changed)
    assert not watcher.polling
    rename_into(root, "new.yaml", guest("new1"))
    result = seen.until(lambda result: "new1" in result.changed)
    assert result.changed == {"new1"}


def test_our_own_reading_gives_no_scans(
    root: Path, seen: Seen, start: Callable[..., Watcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = start()
    seen.until(lambda result: "web1" in result.changed)
    (root / "web.yaml").read_text()
    watcher.scan_now()
    assert watcher._first_event is None


def test_a_stream_of_events_does_not_put_the_scan_off_for_ever(
    root: Path, seen: Seen, start: Callable[..., Watcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher_module, "LONGEST_DEBOUNCE", 0.3)
    watcher = start(debounce=5.0)
    seen.until(lambda result: "web1" in result.changed)
    stop = threading.Event()

    def hint() -> None:
        while not stop.wait(0.01):
            watcher.hint()

    thread = threading.Thread(target=hint)
    thread.start()
    try:
        rename_into(root, "new.yaml", guest("new1"))
        seen.until(lambda result: "new1" in result.changed)
    finally:
        stop.set()
        thread.join()


def test_without_events_the_rescan_finds_it(
    root: Path, seen: Seen, start: Callable[..., Watcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher_module, "network_mount", lambda _directory: "nfs4")
    watcher = start(rescan=0.05)
    seen.until(lambda result: "web1" in result.changed)
    assert watcher.polling
    assert "nfs4" in seen.notices.get(timeout=DEADLINE)
    rename_into(root, "new.yaml", guest("new1"))
    seen.until(lambda result: "new1" in result.changed)


def test_without_inotify_it_polls_and_says_so(
    root: Path, seen: Seen, start: Callable[..., Watcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        def schedule(self, *_args: object, **_options: object) -> None:
            raise OSError(28, "inotify watch limit reached")

    monkeypatch.setattr(watcher_module, "Observer", Full)
    watcher = start(rescan=0.05)
    assert "max_user_watches" in seen.notices.get(timeout=DEADLINE)
    assert watcher.polling
    seen.until(lambda result: "web1" in result.changed)


def test_a_directory_that_does_not_exist_yet_is_waited_for(
    tmp_path: Path, seen: Seen, start: Callable[..., Watcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher_module, "ROOT_CHECK", 0.05)
    start()
    assert "does not exist yet" in seen.notices.get(timeout=DEADLINE)
    copy_into(BASE, make_directory(tmp_path / "desired"))
    seen.until(lambda result: "web1" in result.snapshot.guests)


def test_a_flip_of_the_root_is_followed_and_watched(
    tmp_path: Path, seen: Seen, start: Callable[..., Watcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher_module, "ROOT_CHECK", 0.05)
    for name in ("rev1", "rev2"):
        copy_into(BASE, make_directory(tmp_path / name))
    put(tmp_path / "rev2" / "new.yaml", guest("new1"))
    age(tmp_path)
    link = tmp_path / "current"
    link.symlink_to("rev1")
    start(link)
    seen.until(lambda result: "web1" in result.changed)
    (tmp_path / "next").symlink_to("rev2")
    (tmp_path / "next").rename(link)
    seen.until(lambda result: "new1" in result.changed)
    rename_into(tmp_path / "rev2", "more.yaml", guest("more1"))
    seen.until(lambda result: "more1" in result.changed)


def test_a_failing_callback_is_reported_and_the_watcher_goes_on(root: Path, seen: Seen) -> None:
    calls: list[ScanResult] = []

    def fail_once(result: ScanResult) -> None:
        calls.append(result)
        if len(calls) == 1:
            raise RuntimeError("broken")
        seen.results.put(result)

    watcher = Watcher(
        catalog(root),
        root,
        fail_once,
        debounce=0.05,
        on_failure=lambda what, error: seen.failures.put((what, error)),
        on_notice=seen.notices.put,
    )
    watcher.start()
    try:
        what, error = seen.failures.get(timeout=DEADLINE)
        assert (what, str(error)) == ("scanning the desired-state directory", "broken")
        rename_into(root, "new.yaml", guest("new1"))
        result = seen.until(lambda result: "new1" in result.changed)
        assert result.changed == {"new1", "web1", "db1"}, "what was not heard is told again"
    finally:
        assert watcher.stop()


def test_scan_now_tells_like_any_other_scan(root: Path, seen: Seen) -> None:
    watcher = Watcher(
        catalog(root),
        root,
        seen.results.put,
        on_failure=lambda what, error: seen.failures.put((what, error)),
        on_notice=seen.notices.put,
    )
    assert watcher.scan_now().changed == {"web1", "db1"}
    assert seen.results.get_nowait().changed == {"web1", "db1"}
    watcher.scan_now()
    assert seen.results.empty()
    assert watcher.stop(), "stopping what was never started is fine"


def test_an_emptied_directory_is_told_and_harms_nothing(
    root: Path, seen: Seen, start: Callable[..., Watcher]
) -> None:
    start()
    seen.until(lambda result: "web1" in result.changed)
    empty(root)
    result = seen.until(lambda result: bool(result.snapshot.problems))
    assert set(result.snapshot.guests) == {"web1", "db1"}


def test_a_removed_document_is_looked_for_again_until_it_is_known_to_be_gone(
    root: Path, seen: Seen, start: Callable[..., Watcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody gives another event for it, and the rescan is far away."""
    monkeypatch.setattr(watcher_module, "LOOK_AGAIN", 0.05)
    start()
    seen.until(lambda result: "web1" in result.changed)
    (root / "db.yaml").unlink()
    result = seen.until(lambda result: "db1" in result.snapshot.orphans)
    assert result.changed == {"db1"}
