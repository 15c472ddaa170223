"""Should the domain run, and if it should and does not: when is the next start due?

Backoff of starts (DESIGN section 7): the n-th start in a row is ``10 s * n^2`` after the one
before, at most 300 s; the first is at once. The count is kept in the domain's metadata, so a
restarted daemon does not begin again, and is forgotten after an hour without a stop.
"""

from dataclasses import dataclass

from controller.desired.schema import RunStrategy
from controller.observed.domain import DomainState, DomainView, Memory, StateReason

START_BACKOFF = 10.0
START_BACKOFF_CAP = 300.0
START_FORGET = 3600.0
ORDERLY = 60.0
"""Seconds since the last start after which an orderly shutdown is not a failed start."""


@dataclass(frozen=True, slots=True)
class StartDecision:
    """``due`` is when to start (epoch seconds), None: not at all. ``why`` is a clause."""

    due: float | None
    why: str
    memory: Memory


def backoff(attempts: int) -> float:
    """Seconds between start number ``attempts`` and the next."""
    return min(START_BACKOFF * attempts**2, START_BACKOFF_CAP)


def decide_start(
    strategy: RunStrategy, domain: DomainView, memory: Memory, now: float
) -> StartDecision:
    """For a domain that is shut off or crashed. The memory of a start knows of no other wish."""
    why = _why_start(strategy, domain.reason, finished=memory.finished)
    if not why:
        return StartDecision(
            None, f"run strategy {strategy} leaves a guest off that {_off(domain)}", memory
        )
    last = memory.last_start_attempt
    attempts = memory.start_attempts
    if last is None or not 0 <= now - last < START_FORGET:  # a clock set back begins anew, too
        attempts = 0
    orderly = stopped_by_itself(domain) and (last is None or now - last >= ORDERLY)
    due = last + backoff(attempts) if last is not None and attempts and not orderly else now
    # An orderly shutdown is no failure, unless the guest does nothing else.
    counted = attempts if orderly else attempts + 1
    return StartDecision(due, why, Memory(start_attempts=counted, last_start_attempt=now))


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
        StateReason.FAILED: "it failed",
        StateReason.PANICKED: "its kernel panicked",
        StateReason.DESTROYED: "it was powered off",
        StateReason.SHUTDOWN: "it shut itself down",
    }.get(reason, "it is not running")


def _off(domain: DomainView) -> str:
    return "shut itself down" if stopped_by_itself(domain) else "is off"
