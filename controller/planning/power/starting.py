"""Decides whether a domain that is off should run, and when its next start is due.

Back-off of starts: the next start comes ``10 s * n^2`` after the n-th in a row, at most 300 s; the
first is at once. The count is kept in the domain's metadata, so that a restarted daemon continues
it, and is reset after an hour without a stop. A start that the host refused to try, or gave no
answer to, is not counted, and the promise to start the guest stays.
"""

from dataclasses import dataclass

from controller.desired.schema.guest import RunStrategy
from controller.observed.domain import DomainState, DomainView, GuestRecord, StateReason
from controller.observed.guest import Failure
from controller.planning.power.stopping import NOT_STOPPED, StopFor
from controller.planning.steps import StartDomain

START_BACKOFF = 10.0
START_BACKOFF_CAP = 300.0
START_FORGET = 3600.0
ORDERLY = 60.0
"""Seconds since the last start after which an orderly shutdown is not a failed start."""
STOP_FORGET = 86400.0
"""Seconds after which a stop of ours is no reason to start any more: longer than a host's outage of
one night, shorter than anybody forgets a guest. A time in the future was written before the clock
was set back, and counts as recent."""
NOT_TRIED = frozenset({"NoThread", "ReadOnly", "Busy", "JobRunning", "DomainMissing"})
"""Reasons of errors that mean that a start was not even tried."""
_WHY_AGAIN: dict[str, str] = {
    StopFor.RESTART: "it was stopped for a cold boot",
    StopFor.REPLACE: "it was stopped for another system disk",
    StopFor.HALT: "it is not to be halted any more",
}
_PROMISED = 3
"""Starts in a row after which a promised start, made whatever the run strategy, is fulfilled."""
_KEPT_ON = (RunStrategy.ALWAYS, RunStrategy.RERUN_ON_FAILURE)


@dataclass(frozen=True, slots=True)
class StartDecision:
    """``due`` is when to start (epoch seconds), None for not at all. ``why`` is a clause."""

    due: float | None
    why: str
    attempts: int
    """The number of this start in the row."""

    def step(self, record: GuestRecord) -> StartDomain:
        """The start step. Once it was tried, the record's reason for the stop is cleared."""
        noted = {
            "start_attempts": self.attempts,
            "finished": False,
            "starting": True,
            "restart_requested": None,
            **NOT_STOPPED,
        }
        if record.stop_key:
            noted["restarted_for"] = record.stop_key
        return StartDomain(self.why, tuple(noted.items()))


def refused_until(failure: Failure | None, now: float) -> float | None:
    """When (epoch seconds) a start that the host refused to try is due again; None if there is none
    or it is due. The record counts only starts that were tried.
    """
    if failure is None or failure.step != "StartDomain" or failure.reason not in NOT_TRIED:
        return None
    return failure.retry_at if now < failure.retry_at else None


def backoff(attempts: int) -> float:
    """Seconds between start number ``attempts`` and the next."""
    return min(START_BACKOFF * attempts**2, START_BACKOFF_CAP)


def decide_start(
    strategy: RunStrategy, domain: DomainView, record: GuestRecord, now: float
) -> StartDecision:
    """The decision for a domain that is shut off or crashed. One that we stopped for a cold boot
    is started whatever its run strategy, unless that is Halted.
    """
    why = _why_start(strategy, domain.reason, finished=record.finished)
    last = record.last_start_attempt
    attempts = record.start_attempts
    stopped = record.stopped_at
    if domain.reason is StateReason.MIGRATED:
        return StartDecision(None, "it was migrated to another host", attempts)
    if strategy is RunStrategy.HALTED:
        why = ""
    elif record.stop_for and stopped is not None and abs(now - stopped) < STOP_FORGET:
        why = _WHY_AGAIN.get(record.stop_for, why)
        if record.stop_for == StopFor.HALT and strategy not in _KEPT_ON:
            why = ""
        if last is None or last <= stopped:
            last, attempts = None, 0  # we stopped it, so its last start did not fail
    elif (record.starting and attempts < _PROMISED) or _wished(record, now):
        why = why or "it was about to be started"
    if not why:
        reason = f"run strategy {strategy} leaves a guest off that {_off(domain)}"
        return StartDecision(None, reason, attempts)
    if last is None or not 0 <= now - last < START_FORGET:  # also if the clock was set back
        attempts = 0
    orderly = stopped_by_itself(domain) and (last is None or now - last >= ORDERLY)
    due = last + backoff(attempts) if last is not None and attempts and not orderly else now
    # An orderly shutdown is no failed start, unless it is within ``ORDERLY`` s of the start.
    counted = attempts if orderly else attempts + 1
    return StartDecision(due, why, counted)


HOST_LACKS = frozenset(
    {
        "BridgeMissing", "NetworkInactive", "NetworkMissing", "OutOfMemory", "PoolInactive",
        "PoolMissing", "PortTaken",
    }
)  # fmt: skip
"""Reasons of failed starts that do not depend on the system disk: the host lacks something."""
_NO_WORD = ("Failed", "TransientFailure", "PermanentFailure")


def unable_to_start(domain: DomainView, failure: Failure | None) -> tuple[str, str] | None:
    """Why the last start failed, as (reason, message); None if the domain did run.

    If the host lacks something, or libvirt or QEMU refuses, that is no crash of the guest.
    ``failure`` is lost when the daemon restarts; then libvirt knows only that the start failed.
    """
    if failure is not None and failure.step == "StartDomain":
        return "StartFailed" if failure.reason in _NO_WORD else failure.reason, failure.message
    if domain.reason is not StateReason.FAILED:
        return None
    message = f"it could not be started; /var/log/libvirt/qemu/{domain.name}.log on its host says"
    return "StartFailed", f"{message} why"


def _wished(record: GuestRecord, now: float) -> bool:
    """True if an operator asked for a cold boot within ``STOP_FORGET``; the start is its second
    half.
    """
    asked = record.restart_requested
    return asked is not None and abs(now - asked) < STOP_FORGET


def stopped_by_itself(domain: DomainView) -> bool:
    """True if the guest shut itself down in good order."""
    return domain.state is DomainState.SHUTOFF and domain.reason is StateReason.SHUTDOWN


def _why_start(strategy: RunStrategy, reason: StateReason, *, finished: bool) -> str:
    if strategy in (RunStrategy.MANUAL, RunStrategy.HALTED):
        return ""
    ended = reason is StateReason.SHUTDOWN or (reason is StateReason.OTHER and finished)
    if strategy is RunStrategy.RERUN_ON_FAILURE and ended:
        return ""
    return {
        StateReason.CRASHED: "it crashed",
        StateReason.FAILED: "its last start failed",
        StateReason.PANICKED: "its kernel panicked",
        StateReason.DESTROYED: "it was powered off",
        StateReason.SHUTDOWN: "it shut itself down",
    }.get(reason, "it is not running")


def _off(domain: DomainView) -> str:
    return "shut itself down" if stopped_by_itself(domain) else "is off"
