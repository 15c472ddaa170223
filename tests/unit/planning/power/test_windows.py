"""When maintenance windows are open, also where clocks are set, months end and windows overlap."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.desired.schema.guest import MaintenanceWindow
from controller.planning.power.maintenance_windows import WindowState, window_state

BERLIN = "Europe/Berlin"
NIGHT = "0 3 * * 0"
"""Sundays at three; 2025-06-01 is one."""


def window(cron: str, duration: str = "2h", zone: str = "UTC") -> MaintenanceWindow:
    return MaintenanceWindow.model_validate({"cron": cron, "duration": duration, "timeZone": zone})


def at(text: str, zone: str = "UTC", fold: int = 0) -> float:
    """``2025-06-01 03:00`` on the clock of ``zone``, as epoch seconds."""
    naive = datetime.fromisoformat(text)
    return naive.replace(tzinfo=UTC if zone == "UTC" else ZoneInfo(zone), fold=fold).timestamp()


def is_open(until: float | None) -> WindowState:
    return WindowState(True, until)


def is_closed(until: float | None) -> WindowState:
    return WindowState(False, until)


def test_without_windows_it_is_always_open() -> None:
    assert window_state([], 1e9) == is_open(None)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("2025-05-31 12:00", is_closed(at("2025-06-01 03:00"))),
        ("2025-06-01 02:59:59.999", is_closed(at("2025-06-01 03:00"))),
        ("2025-06-01 03:00", is_open(at("2025-06-01 05:00"))),
        ("2025-06-01 04:59:59.999", is_open(at("2025-06-01 05:00"))),
        ("2025-06-01 05:00", is_closed(at("2025-06-08 03:00"))),
    ],
)
def test_it_opens_with_the_minute_and_closes_after_its_duration(
    now: str, expected: WindowState
) -> None:
    assert window_state([window(NIGHT)], at(now)) == expected


def test_it_goes_by_the_clock_of_its_time_zone() -> None:
    subject = [window(NIGHT, zone=BERLIN)]
    assert window_state(subject, at("2025-06-01 01:30")) == is_open(at("2025-06-01 03:00"))
    assert window_state(subject, at("2025-01-05 01:30")) == is_closed(at("2025-01-05 02:00"))


def test_it_spans_midnight_the_month_and_the_year() -> None:
    subject = [window("30 23 31 12 *", "3h")]
    assert window_state(subject, at("2026-01-01 01:00")) == is_open(at("2026-01-01 02:30"))
    assert window_state(subject, at("2026-01-01 02:30")) == is_closed(at("2026-12-31 23:30"))


@pytest.mark.parametrize(
    ("cron", "now", "opens"),
    [
        ("0 3 31 * *", "2025-01-31 06:00", "2025-03-31 03:00"),
        ("0 3 L * *", "2025-01-31 06:00", "2025-02-28 03:00"),
        ("0 3 29 2 *", "2025-01-01 00:00", "2028-02-29 03:00"),
        ("0 3 * * 1#1", "2025-06-02 06:00", "2025-07-07 03:00"),
        ("0 3 * * 5L", "2025-06-01 00:00", "2025-06-27 03:00"),
        ("0 3 1 * 0", "2025-06-01 06:00", "2025-06-08 03:00"),  # the first, or a Sunday
    ],
)
def test_it_knows_the_calendar(cron: str, now: str, opens: str) -> None:
    assert window_state([window(cron)], at(now)) == is_closed(at(opens))


def test_of_several_the_first_to_open_counts() -> None:
    subject = [window(NIGHT), window("0 22 * * 3"), window("0 1 * * 0", "1h")]
    assert window_state(subject, at("2025-05-31 12:00")) == is_closed(at("2025-06-01 01:00"))
    assert window_state(subject, at("2025-06-01 02:30")) == is_closed(at("2025-06-01 03:00"))
    assert window_state(subject, at("2025-06-01 06:00")) == is_closed(at("2025-06-04 22:00"))


def test_windows_that_overlap_or_touch_close_with_the_last_of_them() -> None:
    overlapping = [window("0 1 * * *", "3h"), window("30 3 * * *", "1h")]
    assert window_state(overlapping, at("2025-06-01 01:30")) == is_open(at("2025-06-01 04:30"))
    touching = [window("0 1 * * *"), window("0 3 * * *", "1h"), window("0 2 * * *", "10m")]
    assert window_state(touching, at("2025-06-01 01:00")) == is_open(at("2025-06-01 04:00"))
    itself = [window("0 */2 * * 6", "3h")]
    assert window_state(itself, at("2025-05-31 05:00")) == is_open(at("2025-06-01 01:00"))


def test_windows_that_touch_for_ever_are_never_closed() -> None:
    subject = [window("* * * * *", "1m")]
    now = at("2025-06-01 01:00")
    for _ in range(3):
        state = window_state(subject, now)
        assert state.open
        assert state.changes_at is not None
        assert state.changes_at >= now + 3600
        now = state.changes_at


# --- Where clocks are set: in Berlin from 2 to 3 on 2025-03-30, from 3 to 2 on 2025-10-26 ---------


def test_a_fixed_time_that_is_skipped_opens_right_after_the_gap() -> None:
    subject = [window("30 2 * * *", "1h", BERLIN)]
    three = at("2025-03-30 03:00", BERLIN)
    assert window_state(subject, three - 60) == is_closed(three)
    assert window_state(subject, three) == is_open(three + 3600)
    assert window_state(subject, three + 3600) == is_closed(at("2025-03-31 02:30", BERLIN))


def test_a_fixed_time_that_comes_twice_opens_the_first_time_only() -> None:
    subject = [window("30 2 * * *", "10m", BERLIN)]
    first = at("2025-10-26 02:30", BERLIN)
    assert window_state(subject, first - 3600) == is_closed(first)
    assert window_state(subject, first) == is_open(first + 600)
    again = at("2025-10-26 02:30", BERLIN, fold=1)
    assert again == first + 3600
    assert window_state(subject, first + 600) == is_closed(at("2025-10-27 02:30", BERLIN))
    assert window_state(subject, again) == is_closed(at("2025-10-27 02:30", BERLIN))


def test_just_after_the_clock_was_set_back_it_is_open_still() -> None:
    subject = [window("45 2 * * *", "1h", BERLIN)]
    begin = at("2025-10-26 02:45", BERLIN)
    now = at("2025-10-26 02:10", BERLIN, fold=1)
    assert window_state(subject, now) == is_open(begin + 3600)


def test_what_repeats_every_hour_follows_the_clock() -> None:
    subject = [window("30 * * * *", "10m", BERLIN)]
    twice = at("2025-10-26 02:30", BERLIN), at("2025-10-26 02:30", BERLIN, fold=1)
    assert [window_state(subject, time).open for time in twice] == [True, True]
    assert window_state(subject, twice[0] + 600) == is_closed(twice[1])
    skipped = at("2025-03-30 03:00", BERLIN)
    assert window_state(subject, skipped) == is_closed(at("2025-03-30 03:30", BERLIN))


def test_of_what_follows_a_clock_that_is_set_back_neither_round_hides_the_other() -> None:
    subject = [window("*/15 * * * *", "5m", BERLIN)]
    now = at("2025-10-26 02:10", BERLIN)
    assert window_state(subject, now) == is_closed(at("2025-10-26 02:15", BERLIN))
    subject = [window("0,45 * * * *", "15m", BERLIN)]
    now = at("2025-10-26 02:10", BERLIN, fold=1)
    assert window_state(subject, now) == is_open(at("2025-10-26 02:15", BERLIN, fold=1))


def test_a_duration_is_time_that_really_passes() -> None:
    spring = at("2025-03-30 00:00", BERLIN)
    assert window_state([window("0 0 * * *", "6h", BERLIN)], spring) == is_open(spring + 6 * 3600)
    assert spring + 6 * 3600 == at("2025-03-30 07:00", BERLIN)


def test_a_whole_day_that_a_place_skips() -> None:
    subject = [window("0 3 30 12 *", "1h", "Pacific/Apia")]
    midnight = at("2011-12-31 00:00", "Pacific/Apia")
    assert window_state(subject, midnight - 60) == is_closed(midnight)
    assert window_state(subject, midnight + 60) == is_open(midnight + 3600)


# --- Against an oracle that looks at every minute -------------------------------------------------

ZONES = ("UTC", BERLIN, "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu")
SETTINGS = tuple(
    at(text)
    for text in (
        "2025-03-30 01:00",  # Berlin, forwards
        "2025-10-26 01:00",  # Berlin, back
        "2025-11-02 06:00",  # New York, back
        "2025-04-05 15:00",  # Lord Howe, back by half an hour
        "2025-10-04 15:30",  # Lord Howe, forwards by half an hour
    )
)
"""When clocks are set."""
SPAN = 3 * 1440


@st.composite
def fields(draw: st.DrawFn, top: int) -> tuple[str, frozenset[int]]:
    """A field of a cron expression, and the numbers it means."""
    every = draw(st.sampled_from([0, 0, 1, 2, 3, 7]))
    if every:
        return ("*" if every == 1 else f"*/{every}"), frozenset(range(0, top, every))
    numbers = draw(st.sets(st.integers(0, top - 1), min_size=1, max_size=3))
    return ",".join(map(str, sorted(numbers))), frozenset(numbers)


Case = tuple[MaintenanceWindow, Callable[[datetime], bool]]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    (minute, minutes), (hour, hours) = draw(fields(60)), draw(fields(24))
    weekday = draw(st.sampled_from(["*", "0", "7", "1-5"]))
    days = {"*": range(1, 8), "0": (7,), "7": (7,), "1-5": range(1, 6)}[weekday]
    duration = draw(st.integers(1, 300) | st.integers(1, SPAN))
    subject = window(f"{minute} {hour} * * {weekday}", f"{duration}m", draw(st.sampled_from(ZONES)))

    def matches(wall: datetime) -> bool:
        return wall.minute in minutes and wall.hour in hours and wall.isoweekday() in days

    return subject, matches


def begins(case: Case, time: int) -> bool:
    subject, matches = case
    zone = ZoneInfo(subject.time_zone)
    here = datetime.fromtimestamp(time, zone)
    if subject.cron.split()[0].startswith("*") or subject.cron.split()[1].startswith("*"):
        return matches(here)
    if matches(here):
        return here.fold == 0
    before = datetime.fromtimestamp(time - 60, zone).replace(tzinfo=None)
    gap = here.replace(tzinfo=None) - before - timedelta(minutes=1)
    skipped = int(gap.total_seconds()) // 60
    return any(matches(before + timedelta(minutes=1 + step)) for step in range(skipped))


@given(
    st.lists(cases(), min_size=1, max_size=3),
    st.sampled_from(SETTINGS),
    st.integers(-90, 90) | st.integers(-2000, 2000),
    st.sampled_from([0.0, 0.25, 59.999]),
)
@settings(max_examples=150, deadline=None)
def test_it_is_as_a_look_at_every_minute_says(
    some: list[Case], clocks_set: float, minutes: int, seconds: float
) -> None:
    minute = int(clocks_set) + minutes * 60
    now = minute + seconds
    first = minute - SPAN * 60
    open_at = [False] * (2 * SPAN + 1)
    for case in some:
        lasts = int(case[0].duration) // 60
        until = -1
        for index in range(len(open_at)):
            if begins(case, first + index * 60):
                until = index + lasts
            open_at[index] |= index < until
    expected = open_at[SPAN]
    ahead = enumerate(open_at[SPAN:])
    change = next((minute + step * 60 for step, is_so in ahead if is_so != expected), None)

    state = window_state([case[0] for case in some], now)

    assert state.open is expected
    if change is not None:
        assert state.changes_at == change or (expected and _certain(state, now, change))
    else:
        assert state.open or state.changes_at is None or state.changes_at > minute + SPAN * 60


def _certain(state: WindowState, now: float, change: float) -> bool:
    """Of a hundred windows that touch it is enough to say something nearer."""
    return state.changes_at is not None and now + 90 * 60 <= state.changes_at <= change
