"""What a build does next, for everything that can be seen of its builder."""

from dataclasses import replace

import pytest

from controller.observed.build import BuilderView, BuildRecord, Step
from controller.observed.domain import DomainState, StateReason
from controller.planning.images.building import (
    RETRY_SECONDS,
    Action,
    Begin,
    BuildPolicy,
    Clear,
    Finish,
    GiveUp,
    Listen,
    Note,
    Wait,
    next_action,
)

NOW = 1_800_000_000.0
POLICY = BuildPolicy(timeout=2700, stall_timeout=600, retries=1)
STARTED = BuildRecord("rocky9", "c0ffee", "default", "base", step=Step.STARTED, started=NOW - 60)
DONE = replace(STARTED, sealed=True, succeeded=True, phase="sealing")
RUNNING, SHUTOFF = DomainState.RUNNING, DomainState.SHUTOFF


def action(
    record: BuildRecord | None = STARTED,
    state: DomainState = RUNNING,
    reason: StateReason = StateReason.OTHER,
    *,
    heard: float = NOW - 10,
    listening: float = NOW - 60,
    cleared: bool = False,
    policy: BuildPolicy = POLICY,
) -> Action:
    view = BuilderView("rocky9.build-1", state, reason, record) if record is not None else None
    return next_action(view, policy, heard=heard, listening=listening, cleared=cleared, now=NOW)


def failed(found: Action) -> tuple[str, str]:
    assert isinstance(found, Note), found
    assert found.record.step is Step.FAILED
    assert found.record.ended == NOW
    return found.record.reason, found.record.message


def test_nothing_there_is_begun() -> None:
    assert action(None) == Begin(1)


def test_what_was_defined_and_never_started_is_begun_again_as_the_same_attempt() -> None:
    assert action(replace(STARTED, step=Step.DEFINED, attempt=2), SHUTOFF) == Begin(2)


def test_what_runs_and_was_not_written_down_as_started_is_written_down() -> None:
    assert action(replace(STARTED, step=Step.DEFINED)) == Note(replace(STARTED, started=NOW))


def test_a_builder_at_work_is_listened_to_until_its_nearest_deadline() -> None:
    assert action(heard=NOW - 10) == Listen(NOW - 10 + 600)
    late = replace(STARTED, started=NOW - 2600)
    assert action(late, heard=NOW, listening=NOW - 2600) == Listen(NOW - 2600 + 2700)


def test_a_clean_power_off_after_seal_and_success_is_a_base() -> None:
    assert action(DONE, SHUTOFF, StateReason.SHUTDOWN) == Finish()


@pytest.mark.parametrize(
    ("record", "state", "reason", "word", "says"),
    [
        (replace(STARTED, failure="no disk"), RUNNING, StateReason.OTHER, "InstallFailed", "no di"),
        (
            replace(STARTED, failure="no disk"),
            SHUTOFF,
            StateReason.SHUTDOWN,
            "InstallFailed",
            "no disk",
        ),
        (STARTED, SHUTOFF, StateReason.SHUTDOWN, "NoSuccessMarker", "success marker"),
        (replace(DONE, sealed=False), SHUTOFF, StateReason.SHUTDOWN, "NotSealed", "sealing"),
        (
            replace(DONE, unsealed="/etc/machine-id"),
            SHUTOFF,
            StateReason.SHUTDOWN,
            "NotSealed",
            "/etc/machine-id",
        ),
        (STARTED, SHUTOFF, StateReason.DESTROYED, "BuilderDestroyed", "somebody"),
        (DONE, SHUTOFF, StateReason.DESTROYED, "BuilderDestroyed", "somebody"),
        (STARTED, SHUTOFF, StateReason.CRASHED, "BuilderCrashed", "QEMU"),
        (STARTED, SHUTOFF, StateReason.FAILED, "BuilderCrashed", "QEMU"),
        (STARTED, SHUTOFF, StateReason.PANICKED, "BuilderCrashed", "panicked"),
        (STARTED, DomainState.CRASHED, StateReason.PANICKED, "BuilderCrashed", "panicked"),
        (STARTED, SHUTOFF, StateReason.DAEMON, "BuilderLost", "libvirt does not know"),
        (DONE, SHUTOFF, StateReason.OTHER, "BuilderLost", "libvirt does not know"),
        (STARTED, DomainState.PAUSED, StateReason.IO_ERROR, "PoolFull", "make room"),
    ],
)
def test_every_bad_end_has_its_own_reason(
    record: BuildRecord, state: DomainState, reason: StateReason, word: str, says: str
) -> None:
    found, message = failed(action(record, state, reason))
    assert found == word
    assert says in message


def test_the_phase_it_failed_in_is_told() -> None:
    _, message = failed(action(replace(STARTED, phase="packages"), SHUTOFF, StateReason.SHUTDOWN))
    assert "phase: packages" in message


def test_silence_for_the_stall_timeout_is_a_stall() -> None:
    assert failed(action(heard=NOW - 600))[0] == "InstallStalled"


def test_an_attempt_longer_than_the_timeout_is_over_though_it_talks() -> None:
    late = replace(STARTED, started=NOW - 2700)
    assert failed(action(late, heard=NOW, listening=NOW - 2700))[0] == "InstallTimedOut"


def test_an_installer_that_nobody_listened_to_gets_time_before_its_timeout_counts() -> None:
    old = replace(STARTED, started=NOW - 5000)
    assert action(old, heard=NOW - 5, listening=NOW - 5) == Listen(NOW - 5 + 600)
    late = action(old, heard=NOW, listening=NOW - 600)
    assert failed(late)[0] == "InstallTimedOut"


def test_no_data_is_no_failure() -> None:
    assert action(state=DomainState.UNKNOWN) == Wait(NOW + 5)


FAILED = STARTED.failed("InstallFailed", "no disk", NOW - 5)


def test_a_failed_attempt_is_cleared_then_waits_then_is_followed_by_the_next() -> None:
    assert action(FAILED, SHUTOFF) == Clear()
    assert action(FAILED, SHUTOFF, cleared=True) == Wait(NOW - 5 + RETRY_SECONDS)
    long_ago = replace(FAILED, ended=NOW - RETRY_SECONDS)
    assert action(long_ago, SHUTOFF, cleared=True) == Begin(2)


def test_a_clock_that_was_set_back_does_not_hold_up_the_next_attempt() -> None:
    assert action(replace(FAILED, ended=NOW + 86400), SHUTOFF, cleared=True) == Begin(2)


def test_after_the_last_attempt_hands_are_off() -> None:
    last = replace(FAILED, attempt=2, ended=NOW - 86400)
    assert action(last, SHUTOFF) == Clear()
    assert action(last, SHUTOFF, cleared=True) == GiveUp(last)


def test_the_last_failed_builder_is_kept_where_it_is_asked_for() -> None:
    keeping = replace(POLICY, keep_failed=True)
    last = replace(FAILED, attempt=2)
    assert action(last, RUNNING, policy=keeping) == GiveUp(last)
    assert action(FAILED, RUNNING, policy=keeping) == Clear(), "not the last: it is cleared"


def test_a_raised_number_of_retries_goes_on_where_it_gave_up() -> None:
    last = replace(FAILED, attempt=2, ended=NOW - 86400)
    more = replace(POLICY, retries=2)
    assert action(last, SHUTOFF, cleared=True, policy=more) == Begin(3)
