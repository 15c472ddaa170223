"""Should the domain run, and if it should and does not: when is the next start due?

Backoff of starts (DESIGN section 7): the n-th start in a row is ``10 s * n^2`` after the one
before, at most 300 s; the first is at once. The count is kept in the domain's metadata, so a
restarted daemon does not begin again, and is forgotten after an hour without a stop. A start that
the host refused to try, or gave no answer to, is none: it is not counted, and takes nothing back
of what was promised.
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
"""Seconds after which a stop of ours is no reason to start any more: longer than a host is away for
in a bad night, and shorter than anybody forgets a guest. A time to come was written by a clock that
was set back since, and is near enough."""
NOT_TRIED = frozenset({"NoThread", "ReadOnly", "Busy", "JobRunning", "DomainMissing"})
"""Reasons of errors that say that a start was not even tried."""
_WHY_AGAIN: dict[str, str] = {
    StopFor.RESTART: "it was stopped for a cold boot",
    StopFor.REPLACE: "it was stopped for another system disk",
    StopFor.HALT: "it is not to be halted any more",
}
_PROMISED = 3
"""Starts in a row after which a promise to start it, whatever its run strategy, is kept."""
_KEPT_ON = (RunStrategy.ALWAYS, RunStrategy.RERUN_ON_FAILURE)


@dataclass(frozen=True, slots=True)
class StartDecision:
    """``due`` is when to start (epoch seconds), None: not at all. ``why`` is a clause."""

    due: float | None
    why: str
    attempts: int
    """Which start in a row it is."""

    def step(self, record: GuestRecord) -> StartDomain:
        """The start; once it was tried, whatever it was stopped for is over."""
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
    """When a start that the host refused to try is due again, where that is still to come: the
    domain remembers the pauses of those that were tried only."""
    if failure is None or failure.step != "StartDomain" or failure.reason not in NOT_TRIED:
        return None
    return failure.retry_at if now < failure.retry_at else None


def backoff(attempts: int) -> float:
    """Seconds between start number ``attempts`` and the next."""
    return min(START_BACKOFF * attempts**2, START_BACKOFF_CAP)


def decide_start(
    strategy: RunStrategy, domain: DomainView, record: GuestRecord, now: float
) -> StartDecision:
    """For a domain that is shut off or crashed. One that we stopped for a cold boot starts."""
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
            last, attempts = None, 0  # we stopped it: that it is off says nothing of its starts
    elif (record.starting and attempts < _PROMISED) or _wished(record, now):
        why = why or "it was about to be started"
    if not why:
        reason = f"run strategy {strategy} leaves a guest off that {_off(domain)}"
        return StartDecision(None, reason, attempts)
    if last is None or not 0 <= now - last < START_FORGET:  # a clock set back begins anew, too
        attempts = 0
    orderly = stopped_by_itself(domain) and (last is None or now - last >= ORDERLY)
    due = last + backoff(attempts) if last is not None and attempts and not orderly else now
    # An orderly shutdown is no failure, unless the guest does nothing else.
    counted = attempts if orderly else attempts + 1
    return StartDecision(due, why, counted)


HOST_LACKS = frozenset(
    {
        "BridgeMissing", "NetworkInactive", "NetworkMissing", "OutOfMemory", "PoolInactive",
        "PoolMissing", "PortTaken",
    }
)  # fmt: skip
"""Reasons for which a start fails whatever system disk the guest has."""
_NO_WORD = ("Failed", "TransientFailure", "PermanentFailure")


def unable_to_start(domain: DomainView, failure: Failure | None) -> tuple[str, str] | None:
    """Why its last start came to nothing, as reason and message; None where it did run.

    What the host lacks, or libvirt or QEMU refuses, is no crash of the guest. ``failure`` is
    forgotten with the daemon; libvirt then knows only that it could not be started.
    """
    if failure is not None and failure.step == "StartDomain":
        return "StartFailed" if failure.reason in _NO_WORD else failure.reason, failure.message
    if domain.reason is not StateReason.FAILED:
        return None
    message = f"it could not be started; /var/log/libvirt/qemu/{domain.name}.log on its host says"
    return "StartFailed", f"{message} why"


def _wished(record: GuestRecord, now: float) -> bool:
    """Did an operator ask for a cold boot, not long ago, of which this is the half?"""
    asked = record.restart_requested
    return asked is not None and abs(now - asked) < STOP_FORGET


def stopped_by_itself(domain: DomainView) -> bool:
    """The guest powered itself off in good order."""
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
