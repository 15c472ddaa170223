"""Starts an orphan again that we stopped, if its document vanished or broke before the start.

The guest was stopped for a cold boot or another system disk, not to stay off. Without a document it
is not managed, but it is first started again, once, on the disk that its definition has.
"""

from dataclasses import dataclass

from controller.desired.schema.guest import RunStrategy
from controller.observed.domain import DomainView, GuestRecord
from controller.planning.deletion.policy import is_off
from controller.planning.plan import Policy
from controller.planning.power.starting import decide_start
from controller.planning.power.stopping import StopFor, stop_is_over
from controller.planning.steps import Step, update_record

_TO_GO_ON = (StopFor.RESTART, StopFor.REPLACE)


@dataclass(frozen=True, slots=True)
class GoingOn:
    """The steps, a clause for the message, and when to plan again (epoch seconds)."""

    steps: tuple[Step, ...] = ()
    message: str = ""
    recheck_at: float | None = None


def going_on(domain: DomainView, record: GuestRecord, now: float, policy: Policy) -> GoingOn:
    """What is left to do after a stop of ours; nothing if there was none or another daemon made it.

    This ends once the guest was seen running: whoever stops it after that wants it off.
    """
    if record.controller != policy.controller:
        return GoingOn()
    if not is_off(domain):
        return GoingOn(_seen_running(domain, record))
    if not record.starting and record.stop_for not in _TO_GO_ON:
        return GoingOn()
    # The run strategy is not known. With MANUAL, only a promised start is due.
    start = decide_start(RunStrategy.MANUAL, domain, record, now)
    if start.due is None:
        return GoingOn()
    if now < start.due:
        return GoingOn((), f"{start.why}, which waits", start.due)
    return GoingOn((start.step(record),), f"{start.why}; starting it")


def _seen_running(domain: DomainView, record: GuestRecord) -> tuple[Step, ...]:
    if domain.run is None or not domain.state.active:
        return ()
    noted: dict[str, object] = {}
    if record.starting:
        noted["starting"] = False
    if record.stop_for in _TO_GO_ON and record.stop_run != domain.run:
        noted |= stop_is_over(record.stop_for, record)
    return (update_record(**noted),) if noted else ()
