"""A stop of our own that was cut off: the document went, or broke, before the guest was up again.

The guest was stopped for a cold boot or another system disk, not to be off. Without a document it
is not looked after, but what we took down we put up again first, once, on the disk that its
definition has.
"""

from dataclasses import dataclass

from controller.desired.schema.guest import RunStrategy
from controller.observed.domain import DomainView, GuestRecord
from controller.planning.deletion.policy import is_off
from controller.planning.plan import Policy
from controller.planning.power.starting import decide_start
from controller.planning.power.stopping import StopFor, stop_is_over
from controller.planning.steps import Step, remember

_TO_GO_ON = (StopFor.RESTART, StopFor.REPLACE)


@dataclass(frozen=True, slots=True)
class GoingOn:
    """The steps, a clause to tell, and when to look again (epoch seconds)."""

    steps: tuple[Step, ...] = ()
    message: str = ""
    recheck_at: float | None = None


def going_on(domain: DomainView, record: GuestRecord, now: float, policy: Policy) -> GoingOn:
    """What is left to do after a stop of ours; nothing where there was none, or of another daemon.

    That it was seen to run ends it: whoever stops it from then on wants it to be off.
    """
    if record.controller != policy.controller:
        return GoingOn()
    if not is_off(domain):
        return GoingOn(_seen_running(domain, record))
    if not record.starting and record.stop_for not in _TO_GO_ON:
        return GoingOn()
    # No run strategy is known: what starts a guest that is started by hand only was promised.
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
    return (remember(**noted),) if noted else ()
