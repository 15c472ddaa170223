"""When a check's result becomes a verdict: every rule as a row, and what holds for any history."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.health.thresholds import ProbeState, Result, Thresholds, advance, fresh
from controller.observed.health import ProbeStatus

OK, FAILED, NOTHING = Result.OK, Result.FAILED, Result.UNKNOWN
UNKNOWN, STARTING = ProbeStatus.UNKNOWN, ProbeStatus.STARTING
SUCCESS, FAILURE = ProbeStatus.SUCCESS, ProbeStatus.FAILURE
LETTERS = {"o": OK, "f": FAILED, "-": NOTHING}
STATUS = {"?": UNKNOWN, "s": STARTING, "O": SUCCESS, "F": FAILURE}


def run(history: str, thresholds: Thresholds) -> tuple[str, ProbeState]:
    """One check a period, beginning at 100; the statuses after each as letters."""
    state, seen = fresh(100.0), ""
    for number, letter in enumerate(history):
        now = 100.0 + number * thresholds.period
        state = advance(state, LETTERS[letter], f"check {number}", now, thresholds)
        seen += next(key for key, status in STATUS.items() if status is state.status)
    return seen, state


@pytest.mark.parametrize(
    ("story", "thresholds", "history", "statuses"),
    [
        ("one success is enough by default", (10, 3, 1, 0), "o", "O"),
        ("a failure needs its threshold", (10, 3, 1, 0), "offf", "OOOF"),
        ("a success between clears the count", (10, 3, 1, 0), "offoff", "OOOOOO"),
        ("threshold 1 fails at once", (10, 1, 1, 0), "of", "OF"),
        ("recovery needs its threshold", (10, 1, 3, 0), "fooo", "FFFO"),
        ("a failure between clears the successes", (10, 1, 2, 0), "fofoo", "FFFFO"),
        ("never judged before the threshold", (10, 3, 1, 0), "ff", "??"),
        ("without a budget the first failures count", (10, 3, 1, 0), "fff", "??F"),
        ("failing within the budget is starting", (10, 3, 1, 60), "ffffff", "ssssss"),
        ("a spent budget ends in failure at the next check", (10, 3, 1, 30), "fffff", "sssFF"),
        ("a spent budget still wants its threshold", (10, 5, 1, 20), "fffff", "ssssF"),
        ("the first success ends the budget", (10, 2, 1, 600), "fofff", "sOOFF"),
        ("success below the threshold keeps the budget", (10, 2, 2, 600), "foffo", "sssss"),
        ("the budget counts from the first check, also one in vain", (10, 1, 1, 20), "--f", "??F"),
        ("no data keeps the verdict for a while", (10, 3, 1, 0), "o---", "OOOO"),
        ("no data for long is unknown", (10, 3, 1, 0), "o----", "OOOO?"),
        ("no data is no failure", (10, 2, 1, 0), "of--f", "OOOOF"),
        ("no data does not clear failures", (10, 3, 1, 0), "off-f", "OOOOF"),
        ("a single look restarts the patience", (10, 2, 1, 0), "o--o--o", "OOOOOOO"),
        ("after a gap the counting begins anew", (10, 2, 1, 0), "of---ff", "OOOO??F"),
        ("a verdict of failure fades too", (10, 1, 1, 0), "f--o", "FF?O"),
        ("short gaps while unknown keep the count", (10, 3, 1, 0), "f-f-f", "????F"),
        ("starting fades too, and comes back", (10, 1, 1, 600), "f--f", "ss?s"),
    ],
)
def test_verdicts(
    story: str, thresholds: tuple[float, int, int, float], history: str, statuses: str
) -> None:
    assert run(history, Thresholds(*thresholds))[0] == statuses, story


def test_since_is_when_the_status_was_entered_and_not_when_it_was_confirmed() -> None:
    _, state = run("ooofff", Thresholds(10, 3, 1, 0))
    assert (state.status, state.since) == (FAILURE, 150.0)
    assert run("ooo", Thresholds(10, 3, 1, 0))[1].since == 100.0


def test_the_message_tells_how_far_a_changing_verdict_is() -> None:
    assert run("of", Thresholds(10, 3, 1, 0))[1].message == "check 1 (failure 1 of 3)"
    assert run("fo", Thresholds(10, 1, 2, 0))[1].message == "check 1 (success 1 of 2)"
    assert run("o-", Thresholds(10, 3, 1, 0))[1].message == "check 0"
    assert run("-", Thresholds(10, 3, 1, 0))[1].message == "check 0"


thresholds_any = st.builds(
    Thresholds,
    period=st.sampled_from([1.0, 10.0]),
    failure_threshold=st.integers(1, 4),
    success_threshold=st.integers(1, 4),
    startup=st.sampled_from([0.0, 5.0, 35.0]),
)


@given(st.text("of-", max_size=40), thresholds_any)
def test_a_verdict_always_has_its_reasons(history: str, thresholds: Thresholds) -> None:
    """For every history: no failure without enough failures in a row, none while starting."""
    state, row, failures, successes, ever = fresh(0.0), 0, 0, 0, False
    for number, letter in enumerate(history):
        now = number * thresholds.period
        before = state
        state = advance(state, LETTERS[letter], "", now, thresholds)
        failures = failures + 1 if letter == "f" else 0 if letter == "o" else failures
        successes = successes + 1 if letter == "o" else 0 if letter == "f" else successes
        row = row + 1 if letter == "-" else 0
        ever = ever or state.status is SUCCESS
        if letter == "-":
            assert state.status in (before.status, UNKNOWN)
        if state.status is FAILURE and before.status is not FAILURE:
            assert failures >= thresholds.failure_threshold
            assert ever or now >= thresholds.startup
        if state.status is SUCCESS and before.status is not SUCCESS:
            assert successes >= thresholds.success_threshold
        if state.status is STARTING:
            assert not ever
        if row > thresholds.failure_threshold:
            assert state.status is UNKNOWN
        assert (state.since == now) if state.status is not before.status else True


@given(st.text("of-", max_size=20), thresholds_any)
def test_enough_of_one_result_always_decides(history: str, thresholds: Thresholds) -> None:
    for letter, status in (("o", SUCCESS), ("f", FAILURE), ("-", UNKNOWN)):
        assert run(history + letter * 50, thresholds)[1].status is status
