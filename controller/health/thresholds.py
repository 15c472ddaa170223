"""Turn check results into a verdict, by thresholds: a pure state machine, easy to test by tables.

One check proves little: a verdict needs ``failure_threshold`` failures or ``success_threshold``
successes in a row. Three rules go beyond Kubernetes' probes:

* **Startup is a budget of time, not of tries.** Within ``startup`` seconds of the first check of an
  epoch, and until the first success, failing is STARTING. Failures are counted meanwhile, so that
  after the budget the next failed check means FAILURE, and not a whole threshold later.
* **No data is neither success nor failure.** A check that learnt nothing (libvirt away, no address,
  the daemon too busy) neither counts as a failure nor clears the failures before it.
* **No data for long is UNKNOWN**, but only after ``period * failure_threshold``, the time that a
  failure takes to become a verdict: one missed check must not make a service flap, but no verdict
  may be acted on that is older than the time it took to reach. UNKNOWN clears all counters, so no
  action ever rests on failures from before the gap.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from controller.observed.health import ProbeStatus


class Result(StrEnum):
    """What one check found."""

    OK = "ok"
    FAILED = "failed"
    UNKNOWN = "unknown"  # nothing was learnt


@dataclass(frozen=True, slots=True)
class Thresholds:
    """How results become a verdict. ``period`` and ``startup`` are seconds."""

    period: float
    failure_threshold: int
    success_threshold: int
    startup: float


@dataclass(frozen=True, slots=True)
class ProbeState:
    """A probe's state between two checks. Times are seconds of any one monotonic clock."""

    status: ProbeStatus
    message: str
    since: float
    """When ``status`` began."""
    first_check: float | None = None
    """When this epoch's first check ended; the startup budget counts from here."""
    succeeded: bool = False
    """It was SUCCESS once in this epoch, so the startup budget is over."""
    failures: int = 0
    """Failures in a row; checks without data in between are ignored."""
    successes: int = 0
    unknown_since: float | None = None
    """When the current series of checks without data began."""


def fresh(now: float) -> ProbeState:
    """The state of a probe whose epoch begins ``now``."""
    return ProbeState(ProbeStatus.UNKNOWN, "not checked yet", now)


def advance(
    state: ProbeState, result: Result, message: str, now: float, thresholds: Thresholds
) -> ProbeState:
    """The state after a check that ended ``now`` with ``result`` and ``message``."""
    if state.first_check is None:
        state = replace(state, first_check=now)
    if result is Result.OK:
        return _ok(state, message, now, thresholds)
    if result is Result.FAILED:
        return _failed(state, message, now, thresholds)
    return _unknown(state, message, now, thresholds)


def _ok(state: ProbeState, message: str, now: float, thresholds: Thresholds) -> ProbeState:
    successes = state.successes + 1
    reached = successes >= thresholds.success_threshold
    counted = replace(
        state,
        failures=0,
        successes=successes,
        succeeded=state.succeeded or reached,
        unknown_since=None,
    )
    if reached:
        return _enter(counted, ProbeStatus.SUCCESS, message, now)
    return _keep(counted, f"{message} (success {successes} of {thresholds.success_threshold})")


def _failed(state: ProbeState, message: str, now: float, thresholds: Thresholds) -> ProbeState:
    failures = state.failures + 1
    counted = replace(state, failures=failures, successes=0, unknown_since=None)
    if starting(state, now, thresholds):
        return _enter(counted, ProbeStatus.STARTING, message, now)
    if failures >= thresholds.failure_threshold:
        return _enter(counted, ProbeStatus.FAILURE, message, now)
    return _keep(counted, f"{message} (failure {failures} of {thresholds.failure_threshold})")


def _unknown(state: ProbeState, message: str, now: float, thresholds: Thresholds) -> ProbeState:
    began = now if state.unknown_since is None else state.unknown_since
    counted = replace(state, unknown_since=began)
    if now - began >= thresholds.period * thresholds.failure_threshold:
        cleared = replace(counted, failures=0, successes=0)
        return _enter(cleared, ProbeStatus.UNKNOWN, message, now)
    if state.status is ProbeStatus.UNKNOWN:
        return _keep(counted, message)
    return counted  # keep the message of the last check that learnt something


def starting(state: ProbeState, now: float, thresholds: Thresholds) -> bool:
    """Whether a failure ``now`` still falls into the startup budget."""
    if state.succeeded or state.first_check is None:
        return False
    return now - state.first_check < thresholds.startup


def _enter(state: ProbeState, status: ProbeStatus, message: str, now: float) -> ProbeState:
    if status is state.status:
        return state if message == state.message else replace(state, message=message)
    return replace(state, status=status, message=message, since=now)


def _keep(state: ProbeState, message: str) -> ProbeState:
    return replace(state, message=message)
