"""Downloads against a server that breaks, stalls, lies and changes its mind."""

import fcntl
import hashlib
import json
import threading
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.errors import GuestkeeperError, PermanentError, TransientError
from controller.images.fetch import http as transfer
from controller.images.fetch.cache import Downloader
from controller.images.fetch.http import Pace
from tests.unit.images.origin import Origin, serving
from tests.waiting import wait_until

CONTENT = bytes(range(256)) * 4000  # 1 MB
SHA = hashlib.sha256(CONTENT).hexdigest()
PACE = Pace(stall_timeout=5, tries=3, backoff=0.01, max_backoff=0.02)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def origin() -> Iterator[Origin]:
    with serving(Origin(content=CONTENT)) as running:
        yield running


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def fetch(origin: Origin, cache: Path, *, sha: str = SHA, pace: Pace = PACE) -> Path:
    return Downloader(cache, pace=pace).fetch(origin.url, sha, lambda *_: None)


def names(cache: Path) -> set[str]:
    return {path.name for path in cache.iterdir()}


def failing(
    origin: Origin, cache: Path, kind: type[GuestkeeperError], *, sha: str = SHA, pace: Pace = PACE
) -> GuestkeeperError:
    with pytest.raises(kind) as caught:
        fetch(origin, cache, sha=sha, pace=pace)
    return caught.value


def test_a_download_ends_as_one_whole_file_named_by_its_digest(origin: Origin, cache: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    path = Downloader(cache).fetch(origin.url, SHA, lambda *figures: seen.append(figures))
    assert path.read_bytes() == CONTENT
    assert names(cache) == {SHA}
    assert seen[0] == (0, len(CONTENT), "")
    assert seen[-1] == (len(CONTENT), len(CONTENT), "")


def test_what_is_in_the_cache_is_not_fetched_again(origin: Origin, cache: Path) -> None:
    fetch(origin, cache)
    fetch(origin, cache)
    assert origin.requests == [""]
    assert names(cache) == {SHA}


def test_a_body_of_unknown_length_is_taken(origin: Origin, cache: Path) -> None:
    origin.chunked = True
    seen: list[tuple[int, int | None]] = []
    path = Downloader(cache).fetch(origin.url, SHA, lambda *figures: seen.append(figures))
    assert path.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), None, "")


def test_a_cut_download_goes_on_where_it_stopped(origin: Origin, cache: Path) -> None:
    origin.cut_after = [300_000, 200_000]
    assert fetch(origin, cache).read_bytes() == CONTENT
    assert origin.requests == ["", "bytes=300000-", "bytes=500000-"]


def test_a_line_that_breaks_often_but_gains_gets_there(origin: Origin, cache: Path) -> None:
    origin.cut_after = [50_000] * 15  # far more often than ``tries``
    assert fetch(origin, cache).read_bytes() == CONTENT


def test_a_new_daemon_goes_on_with_the_part_of_the_old_one(origin: Origin, cache: Path) -> None:
    origin.cut_after = [400_000, 0, 0, 0]
    error = failing(origin, cache, TransientError)
    assert error.reason == "DownloadFailed"
    assert names(cache) == {f"{SHA}.part", f"{SHA}.part.json"}
    origin.requests.clear()
    origin.cut_after = []
    assert fetch(origin, cache).read_bytes() == CONTENT
    assert origin.requests == ["bytes=400000-"]
    assert names(cache) == {SHA}


def test_a_part_that_was_whole_already_needs_no_request(origin: Origin, cache: Path) -> None:
    origin.cut_after = [400_000, 0, 0, 0]
    failing(origin, cache, TransientError)
    origin.requests.clear()
    (cache / f"{SHA}.part").write_bytes(CONTENT)
    assert fetch(origin, cache).read_bytes() == CONTENT
    assert origin.requests == []


def test_a_server_without_ranges_is_asked_from_the_start(origin: Origin, cache: Path) -> None:
    origin.ranges = False
    origin.cut_after = [300_000]
    assert fetch(origin, cache).read_bytes() == CONTENT


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_without_anything_to_compare_it_begins_again(
    origin: Origin, cache: Path, etag: str | None
) -> None:
    origin.etag = etag
    origin.cut_after = [300_000]
    assert fetch(origin, cache).read_bytes() == CONTENT
    assert origin.requests == ["", ""]


def test_the_date_does_where_there_is_no_etag(origin: Origin, cache: Path) -> None:
    origin.etag, origin.modified = None, "Mon, 01 Jan 2024 00:00:00 GMT"
    origin.cut_after = [300_000]
    assert fetch(origin, cache).read_bytes() == CONTENT
    assert origin.requests == ["", "bytes=300000-"]


def test_a_file_that_changed_meanwhile_is_fetched_whole(origin: Origin, cache: Path) -> None:
    origin.content = b"x" * len(CONTENT)
    origin.cut_after = [300_000, 0, 0, 0]
    failing(origin, cache, TransientError)
    origin.content, origin.etag, origin.cut_after = CONTENT, '"two"', []
    assert fetch(origin, cache).read_bytes() == CONTENT


def test_a_change_that_the_server_hides_is_seen_by_the_digest(origin: Origin, cache: Path) -> None:
    origin.content = b"x" * len(CONTENT)
    origin.cut_after = [300_000, 0, 0, 0]
    failing(origin, cache, TransientError)
    origin.content, origin.cut_after = CONTENT, []  # the same ETag
    origin.requests.clear()
    assert fetch(origin, cache).read_bytes() == CONTENT
    assert origin.requests == ["bytes=300000-", ""]


def test_a_file_that_became_shorter_is_fetched_whole(origin: Origin, cache: Path) -> None:
    origin.content = b"x" * 2 * len(CONTENT)
    origin.cut_after = [len(CONTENT) + 1000, 0, 0, 0]
    failing(origin, cache, TransientError)
    origin.content, origin.cut_after = CONTENT, []
    assert fetch(origin, cache).read_bytes() == CONTENT


def test_a_server_that_sends_another_part_is_not_believed(origin: Origin, cache: Path) -> None:
    origin.cut_after = [300_000]
    origin.lie_range = True
    assert fetch(origin, cache).read_bytes() == CONTENT
    assert origin.requests[-1] == ""


@pytest.mark.parametrize("damage", ["{", '{"etag": 1}', "[]", ""])
def test_a_damaged_note_beside_the_part_costs_only_the_part(
    origin: Origin, cache: Path, damage: str
) -> None:
    cache.mkdir()
    (cache / f"{SHA}.part").write_bytes(CONTENT[:1000])
    (cache / f"{SHA}.part.json").write_text(damage)
    assert fetch(origin, cache).read_bytes() == CONTENT
    assert origin.requests == [""]


def test_a_wrong_digest_leaves_nothing_and_says_both(origin: Origin, cache: Path) -> None:
    wrong = "0" * 64
    error = failing(origin, cache, PermanentError, sha=wrong)
    assert error.reason == "ChecksumMismatch"
    assert f"expected {wrong}, got {SHA}" in str(error)
    assert names(cache) == set()
    assert len(origin.requests) == 1


@pytest.mark.parametrize("status", [500, 502, 503, 429])
def test_a_server_in_trouble_is_asked_again(origin: Origin, cache: Path, status: int) -> None:
    origin.statuses = [status, status]
    assert fetch(origin, cache).read_bytes() == CONTENT
    assert len(origin.requests) == 3


def test_a_server_in_lasting_trouble_is_a_transient_failure(origin: Origin, cache: Path) -> None:
    origin.statuses = [503] * 9
    error = failing(origin, cache, TransientError)
    assert "HTTP 503" in str(error)
    assert len(origin.requests) == PACE.tries
    assert names(cache) == set()


def test_who_looks_on_hears_of_each_try_that_failed(origin: Origin, cache: Path) -> None:
    origin.statuses = [503, 404]
    origin.cut_after = [300_000]
    origin.statuses = [503, 0, 502]
    told: list[tuple[int, int | None, str]] = []
    Downloader(cache, pace=PACE).fetch(origin.url, SHA, lambda *figures: told.append(figures))
    failed = [figures for figures in told if figures[2]]
    assert failed == [
        (0, None, "try 1 of 3 failed: HTTP 503 Service Unavailable"),
        (300_000, len(CONTENT), "try 1 of 3 failed: the answer broke off, or is not HTTP"),
        (300_000, len(CONTENT), "try 2 of 3 failed: HTTP 502 Bad Gateway"),
    ]
    assert told[-1] == (len(CONTENT), len(CONTENT), "")


def test_the_server_may_say_when_to_come_back(origin: Origin, cache: Path) -> None:
    origin.statuses, origin.retry_after = [503], "0"
    slow = Pace(stall_timeout=5, tries=3, backoff=500, max_backoff=500)
    assert fetch(origin, cache, pace=slow).read_bytes() == CONTENT


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_permanent_and_asked_once(origin: Origin, cache: Path, status: int) -> None:
    origin.statuses = [status]
    error = failing(origin, cache, PermanentError)
    assert f"HTTP {status}" in str(error)
    assert error.reason == "DownloadRefused"
    assert len(origin.requests) == 1
    assert names(cache) == set()


def test_a_server_that_stalls_is_given_up_in_time(origin: Origin, cache: Path) -> None:
    origin.stall = True
    impatient = Pace(stall_timeout=0.2, tries=2, backoff=0.01, max_backoff=0.01)
    error = failing(origin, cache, TransientError, pace=impatient)
    assert "stalled" in str(error)


def test_a_server_that_only_trickles_is_given_up_too(origin: Origin, cache: Path) -> None:
    origin.stall, origin.drip = True, 1000
    impatient = Pace(stall_timeout=0.3, tries=2, backoff=0.01, max_backoff=0.01)
    error = failing(origin, cache, TransientError, pace=impatient)
    assert "trickles" in str(error)
    assert len(origin.requests) == 2


def test_nobody_listening_is_transient(cache: Path) -> None:
    with serving(Origin()) as gone:
        pass
    assert failing(gone, cache, TransientError).reason == "DownloadFailed"


def test_a_redirect_over_http_is_followed(origin: Origin, cache: Path) -> None:
    with serving(Origin(location=origin.url)) as first:
        assert fetch(first, cache).read_bytes() == CONTENT


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/disk", "gopher://x/"])
def test_a_redirect_to_anything_else_is_refused(origin: Origin, cache: Path, location: str) -> None:
    origin.location = location
    error = failing(origin, cache, PermanentError)
    assert error.reason == "DownloadRefused"
    assert names(cache) == set()


def test_redirects_in_a_circle_are_refused(origin: Origin, cache: Path) -> None:
    origin.location = "/again"
    assert failing(origin, cache, PermanentError).reason == "DownloadRefused"


def test_what_does_not_fit_is_not_begun(
    origin: Origin, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda _: usage(1, 1, 1000))
    error = failing(origin, cache, TransientError)
    assert error.reason == "DiskFull"
    assert "1000 bytes free" in str(error)
    assert names(cache) == set()
    assert len(origin.requests) == 1


def test_a_disk_that_fills_up_amid_gets_its_room_back(
    origin: Origin, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: object, __: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(transfer.Transfer, "_write", full)
    error = failing(origin, cache, TransientError)
    assert error.reason == "DiskFull"
    assert names(cache) == set()


def test_a_cache_that_cannot_be_written_is_told(origin: Origin, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file is in the way")
    error = failing(origin, tmp_path / "cache", TransientError)
    assert error.reason == "CacheUnusable"


def test_many_who_want_the_same_share_one_download(origin: Origin, cache: Path) -> None:
    origin.gate = threading.Event()
    downloader = Downloader(cache, pace=PACE)
    told: list[int] = []
    done: list[Path] = []

    def ask(number: int) -> None:
        done.append(downloader.fetch(origin.url, SHA, lambda *_: told.append(number)))

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(5)]
    for thread in threads:
        thread.start()
    wait_until(lambda: origin.requests, 5, "the request came")
    wait_until(lambda: len(downloader._listeners[SHA]) == 5, 5, "all joined")
    origin.gate.set()
    for thread in threads:
        thread.join(60)
    assert done == [cache / SHA] * 5
    assert origin.requests == [""]
    assert set(told) == {0, 1, 2, 3, 4}


def test_who_joined_a_download_shares_its_failure(origin: Origin, cache: Path) -> None:
    origin.gate = threading.Event()
    origin.statuses = [404]
    downloader = Downloader(cache, pace=PACE)
    errors: list[GuestkeeperError] = []

    def ask() -> None:
        try:
            downloader.fetch(origin.url, SHA, lambda *_: None)
        except GuestkeeperError as error:
            errors.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(downloader._listeners.get(SHA, ())) == 3, 5, "all joined")
    wait_until(lambda: origin.requests, 5, "the request came")
    origin.gate.set()
    for thread in threads:
        thread.join(60)
    assert [error.reason for error in errors] == ["DownloadRefused"] * 3


def test_another_process_at_the_same_file_is_waited_for(origin: Origin, cache: Path) -> None:
    cache.mkdir()
    with (cache / f"{SHA}.part").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        error = failing(origin, cache, TransientError)
    assert error.reason == "Busy"
    assert origin.requests == []


def test_a_stopping_daemon_keeps_what_it_has(origin: Origin, cache: Path) -> None:
    stop = threading.Event()
    downloader = Downloader(cache, stop=stop, pace=PACE)

    def progress(done: int, _: int | None, __: str = "") -> None:
        if done > 200_000:
            stop.set()

    with pytest.raises(TransientError) as caught:
        downloader.fetch(origin.url, SHA, progress)
    assert caught.value.reason == "Stopping"
    kept = (cache / f"{SHA}.part").stat().st_size
    assert 200_000 < kept < len(CONTENT)
    assert fetch(origin, cache).read_bytes() == CONTENT
    assert origin.requests[-1] == f"bytes={kept}-"


def test_secrets_in_the_address_are_neither_told_nor_kept(origin: Origin, cache: Path) -> None:
    origin.cut_after = [1000, 0, 0, 0]
    secret = origin.url.replace("127.0.0.1", "me:hunter2@127.0.0.1") + "?token=hunter2"
    with pytest.raises(TransientError) as caught:
        Downloader(cache, pace=PACE).fetch(secret, SHA, lambda *_: None)
    assert "hunter2" not in str(caught.value)
    note = (cache / f"{SHA}.part.json").read_text()
    assert "hunter2" not in note
    assert json.loads(note)["etag"] == '"one"'


def test_parts_nobody_wants_any_more_are_swept(cache: Path) -> None:
    import os

    cache.mkdir()
    for name in ("old.part", "old.part.json", "new.part", "kept"):
        (cache / name).write_text("x")
        if not name.startswith("new"):
            os.utime(cache / name, (1, 1))
    Downloader(cache)
    assert names(cache) == {"new.part", "kept"}
