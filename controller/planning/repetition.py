"""Holds back steps that succeeded but are needed again and again, with growing pauses.

A step that succeeded and yet is needed again had no effect, or somebody undoes it. The planner
would repeat it at every observation, thousands of times a minute. So a step that was done several
times in a row, with the same content, document and run, waits, and the status says so. A changed
document begins anew: if somebody writes A, then B, then A again, each of them is meant.
"""

from collections.abc import Hashable
from dataclasses import replace

from controller.observed.domain import DomainView
from controller.observed.guest import Observed, Repeat
from controller.planning.conditions import ConditionType, Sync, false
from controller.planning.plan import Plan, earliest
from controller.planning.steps import (
    ALONE,
    NOTHING_KNOWN,
    DefineDomain,
    DestroyDomain,
    LookInside,
    PrepareImage,
    RecordApplied,
    ShutdownDomain,
    StartDomain,
    Step,
    UpdateRecord,
    step_name,
)

FREE = 3
"""How often a step is done in a row without a pause: its effect may need a moment to show."""
QUIET = 600.0
"""Seconds without the step after which the count begins anew; longer than any pause."""
_FIRST, _LAST = 10.0, 300.0


def pause(times: int) -> float:
    """Seconds to wait after a step was done ``times`` times in a row: doubling, capped."""
    if times < FREE:
        return 0.0
    return float(min(_FIRST * 2 ** min(times - FREE, 30), _LAST))


def content_of(step: Step, domain: DomainView | None) -> int | None:
    """A hash that is equal for equal steps; None for a step that has pauses of its own.

    It differs between runs of the domain, except for steps that end runs.
    """
    content = _content(step, domain)
    return hash(content) if content is not None else None


def _content(step: Step, domain: DomainView | None) -> Hashable:
    run = domain.run if domain is not None else None
    name = step_name(step)
    match step:
        case LookInside(why) if why == NOTHING_KNOWN:
            return run, name
        case LookInside() | PrepareImage():
            return None
        case ShutdownDomain() | DestroyDomain():
            return name
        case StartDomain():
            return run, name
        case DefineDomain():  # the rest of the metadata is not changed by it
            return run, name, step.config, step.new, step.marks, _timeless(step.record)
        case UpdateRecord():
            return run, name, _timeless(step.changes)
        case RecordApplied():
            return run, name
        case _:
            return run, name, step


def _timeless(changes: tuple[tuple[str, object], ...]) -> Hashable:
    return tuple((name, None if isinstance(value, float) else value) for name, value in changes)


def hold_repeated(made: Plan, observed: Observed, now: float) -> Plan:
    """``made`` without the steps that have to wait, and without those that depend on them."""
    waiting: dict[int | None, Repeat] = {
        one.content: one for one in observed.repeats if now < one.retry_at
    }
    if not waiting:
        return made
    steps: list[Step] = []
    held: list[tuple[Step, Repeat]] = []
    for step in made.steps:
        found = waiting.get(content_of(step, observed.domain))
        if found is None:
            steps.append(step)
            continue
        held.append((step, found))
        if not isinstance(step, ALONE):
            break
    return _told(made, steps, held) if held else made


def _told(made: Plan, steps: list[Step], held: list[tuple[Step, Repeat]]) -> Plan:
    step, repeat = held[0]
    message = (
        f"to {step} was done {repeat.times} times and is needed again: it changes nothing, or"
        f" something changes it back; to see what: guestkeeper events {made.guest}. It is done"
        f" again later; at once: guestkeeper reconcile {made.guest}"
    )
    conditions = tuple(
        false(ConditionType.SYNCED, "StepRepeated", message)
        if found.type is ConditionType.SYNCED
        else replace(found, message=f"{found.message}; {message}")
        if found.type is ConditionType.ORPHANED
        else found
        for found in made.conditions
    )
    return replace(
        made,
        sentence="; ".join([*map(str, steps), message]),
        steps=tuple(steps),
        conditions=conditions,
        sync=Sync.OUT_OF_SYNC,
        recheck_at=earliest(made.recheck_at, *(one.retry_at for _, one in held)),
    )
