"""The journal keeps history, costs nothing, and survives whatever its file goes through."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from controller.journal.database import Database
from controller.journal.journal import Journal


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@pytest.fixture
def opened(clock: Clock) -> Iterator[Callable[..., Journal]]:
    made: list[Journal] = []

    def open_journal(where: Path | str = ":memory:", **settings: float) -> Journal:
        made.append(Journal(where, clock=clock, **settings))  # type: ignore[arg-type]
        return made[-1]

    yield open_journal
    for journal in made:
        assert journal.close()


def said(journal: Journal, guest: str | None = None) -> list[str]:
    assert journal.flush()
    return [event.message for event in journal.events(guest)]


def test_what_was_recorded_is_read_in_order(opened: Callable[..., Journal], clock: Clock) -> None:
    journal = opened()
    journal.record("web-1", "DomainStarted", "the domain was started")
    clock.now += 5
    journal.record("web-2", "StartFailed", "no memory", warning=True)
    assert journal.flush()
    first, second = journal.events()
    assert (first.guest, first.reason, first.warning, first.count) == (
        "web-1", "DomainStarted", False, 1,
    )  # fmt: skip
    assert (second.time, second.warning) == (clock.now, True)
    assert second.id > first.id
    assert [event.guest for event in journal.events("web-2")] == ["web-2"]
    assert journal.events(after_id=second.id) == []
    assert [event.id for event in journal.events(limit=1)] == [second.id]


def test_history_outlives_the_journal(opened: Callable[..., Journal], path: Path) -> None:
    before = opened(path)
    before.record("web-1", "DomainStarted", "one")
    assert before.close()
    after = opened(path)
    after.record("web-1", "DomainStopped", "two")
    assert said(after) == ["one", "two"]
    assert after.on_disk
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_is_said_again_counts_up_and_moves_to_the_end(
    opened: Callable[..., Journal], clock: Clock
) -> None:
    journal = opened()
    journal.record("web-1", "StartFailed", "no memory", warning=True)
    journal.record("web-2", "DomainStarted", "started")
    assert journal.flush()
    seen = journal.last_id()
    for _ in range(3):
        clock.now += 590
        journal.record("web-1", "StartFailed", "no memory", warning=True)
    assert journal.flush()
    other, again = journal.events()
    assert other.guest == "web-2"
    assert (again.count, again.first_time, again.time) == (4, 1_000_000.0, clock.now)
    assert [event.count for event in journal.events(after_id=seen)] == [4]


@pytest.mark.parametrize("later", ["a pause", "another word", "another message"])
def test_only_the_same_in_a_row_and_soon_counts_up(
    opened: Callable[..., Journal], clock: Clock, later: str
) -> None:
    journal = opened()
    journal.record("web-1", "StartFailed", "no memory")
    if later == "a pause":
        clock.now += 601
    else:
        reason = "StartFailed" if later == "another message" else "DomainStarted"
        journal.record("web-1", reason, "something else")
    journal.record("web-1", "StartFailed", "no memory")
    assert journal.flush()
    assert {event.count for event in journal.events()} == {1}


def test_a_repeat_is_known_over_a_restart(opened: Callable[..., Journal], path: Path) -> None:
    for _ in range(2):
        journal = opened(path)
        journal.record("web-1", "StartFailed", "no memory")
        assert journal.close()
    assert [event.count for event in opened(path).events()] == [2]


def test_old_and_too_many_events_go(
    opened: Callable[..., Journal], path: Path, clock: Clock
) -> None:
    journal = opened(path, max_events=100)
    for number in range(1200):
        journal.record("web-1", "Counted", f"event {number}")
    assert journal.flush()
    assert journal.close()
    journal = opened(path, max_events=100)
    assert said(journal) == [f"event {number}" for number in range(1100, 1200)]
    last = journal.last_id()
    assert journal.close()
    clock.now += 31 * 86400
    journal = opened(path, max_events=100)
    assert said(journal) == ["event 1199"]  # the newest one keeps the numbering
    assert journal.last_id() == last


def test_a_follower_gets_what_comes_next_and_waits_for_it(
    opened: Callable[..., Journal],
) -> None:
    journal = opened()
    journal.record("web-1", "DomainStarted", "one")
    assert journal.flush()
    got: list[list[str]] = []
    last = journal.last_id()
    follower = threading.Thread(
        target=lambda: got.append([event.message for event in journal.wait_after(last, 10)])
    )
    follower.start()
    journal.record("web-1", "DomainStopped", "two")
    follower.join(60)
    assert got == [["two"]]
    assert journal.wait_after(journal.last_id(), 0.01) == []


def test_a_follower_reads_page_after_page(opened: Callable[..., Journal]) -> None:
    journal = opened()
    for number in range(5):
        journal.record("web-1", "Counted", str(number))
    assert journal.flush()
    page = journal.wait_after(0, 1, limit=3)
    assert [event.message for event in page] == ["0", "1", "2"]
    assert [e.message for e in journal.wait_after(page[-1].id, 1, limit=3)] == ["3", "4"]


def test_a_follower_of_a_journal_that_was_set_aside_gets_the_new_one(
    opened: Callable[..., Journal],
) -> None:
    journal = opened()
    journal.record("web-1", "DomainStarted", "one")
    assert journal.flush()
    assert [event.message for event in journal.wait_after(5000, 1)] == ["one"]


def test_closing_ends_a_follower(opened: Callable[..., Journal]) -> None:
    journal = opened()
    follower = threading.Thread(target=journal.wait_after, args=(0, 60))
    follower.start()
    assert journal.close()
    follower.join(60)
    assert not follower.is_alive()
    journal.record("web-1", "DomainStarted", "too late, but harmless")
    assert journal.events() == []


def test_a_closed_journal_has_written_what_was_recorded(
    opened: Callable[..., Journal], path: Path
) -> None:
    journal = opened(path)
    for number in range(2000):
        journal.record("web-1", "Counted", str(number))
    assert journal.close()
    assert len(opened(path).events(limit=5000)) == 2000


def test_odd_text_is_stored(opened: Callable[..., Journal]) -> None:
    journal = opened()
    journal.record("web-1", "ApplyFailed", "bytes \udcff and \0 and Ünïcode")
    journal.record("web-1", "ApplyFailed", "x" * 100_000)
    odd, long = said(journal)
    assert odd == "bytes ? and \0 and Ünïcode"
    assert len(long) == 4097


@pytest.mark.parametrize("content", [b"not a database at all" * 100, b"SQLite format 3\0" * 300])
def test_a_corrupt_file_is_set_aside_and_a_new_one_begun(
    opened: Callable[..., Journal], path: Path, content: bytes
) -> None:
    path.write_bytes(content)
    with capture_logs() as logs:
        journal = opened(path)
    journal.record("web-1", "DomainStarted", "one")
    assert said(journal) == ["one"]
    assert journal.on_disk
    (aside,) = path.parent.glob("journal.sqlite.broken-*")
    assert aside.read_bytes() == content
    assert [entry["event"] for entry in logs] == ["journal was unusable, set aside and begun anew"]


def test_a_file_of_another_version_is_kept_aside(
    opened: Callable[..., Journal], path: Path
) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    journal = opened(path)
    assert journal.on_disk
    assert len(list(path.parent.glob("journal.sqlite.broken-*"))) == 1


def test_a_file_that_breaks_while_it_is_used_is_set_aside(
    opened: Callable[..., Journal], path: Path
) -> None:
    journal = opened(path)
    for number in range(500):
        journal.record("web-1", "Counted", str(number))
    assert journal.flush()
    seen = journal.last_id()
    connection = journal._database._connection
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    path.write_bytes(path.read_bytes()[:4096] + b"\xa5" * (path.stat().st_size - 4096))
    connection.execute("PRAGMA shrink_memory")
    with capture_logs() as logs:
        journal.record("web-2", "DomainStarted", "after")
        assert said(journal, "web-2") == ["after"]
    assert journal.on_disk
    assert journal.last_id() > seen
    assert [entry["event"] for entry in logs] == ["journal was unusable, set aside and begun anew"]
    assert len(list(path.parent.glob("journal.sqlite.broken-*Z"))) == 1


def test_a_full_disk_costs_only_the_file_and_is_told_once(
    opened: Callable[..., Journal], path: Path
) -> None:
    journal = opened(path)
    journal.record("web-1", "DomainStarted", "before")
    assert journal.flush()
    connection = journal._database._connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    with capture_logs() as logs:
        for number in range(200):
            journal.record("web-1", "Counted", f"{number} " + "x" * 1000)
            assert journal.flush()
    assert not journal.on_disk
    assert len(journal.events()) > 100
    assert [entry["event"] for entry in logs] == [
        "journal can not be written, history is kept in memory only"
    ]


def test_it_goes_back_to_disk_with_what_was_kept_in_memory(
    opened: Callable[..., Journal], tmp_path: Path
) -> None:
    where = tmp_path / "not-there-yet" / "journal.sqlite"
    journal = opened(where, retry_after=0.0)
    journal.record("web-1", "DomainStarted", "one")
    assert said(journal) == ["one"]
    assert not journal.on_disk
    where.parent.mkdir()
    earlier = Database(str(where))
    earlier.write([(journal.events()[0], None)])
    earlier.close()
    journal.record("web-1", "DomainStopped", "two")
    assert said(journal) == ["one", "one", "two"]
    assert journal.on_disk
    ids = [event.id for event in journal.events()]
    assert ids == sorted(set(ids))
    journal.record("web-1", "DomainStarted", "three")
    assert said(journal)[-1] == "three"


def test_a_directory_in_the_files_place_is_survived(
    opened: Callable[..., Journal], path: Path
) -> None:
    path.mkdir()
    journal = opened(path)
    journal.record("web-1", "DomainStarted", "one")
    assert said(journal) == ["one"]
    assert not journal.on_disk


def test_recording_does_not_wait_for_a_busy_file(
    opened: Callable[..., Journal], path: Path
) -> None:
    journal = opened(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    journal.record("web-1", "DomainStarted", "held")
    for number in range(20_000):
        journal.record("web-1", "Counted", str(number))
    other.execute("ROLLBACK")
    other.close()
    assert journal.flush(30)
    assert journal.dropped > 0  # they came faster than a writer that waits could take them
    assert len(journal.events(limit=50_000)) <= 10_500
