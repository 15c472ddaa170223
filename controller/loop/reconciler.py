"""Reconciles one guest: observe, plan, publish the status, execute. Level-triggered: it does not
know why it was called.

A pass that executed something asks for another one, which observes the result; so a plan is never
continued from an older pass.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import structlog

from controller.desired.effective import EffectiveGuest
from controller.errors import GuestkeeperError, HostBusyError, HostUnreachableError
from controller.execution.executor import Executor, Ports, Subject
from controller.execution.knowledge import Knowledge
from controller.loop.look import Look
from controller.loop.status import StatusStore
from controller.observed.domain import GuestRecord
from controller.observed.guest import Observed
from controller.observed.host import HostView
from controller.planning.conditions import Printable
from controller.planning.deletion.orphan import SHUTDOWN_TIMEOUT, plan_orphan
from controller.planning.plan import Plan, Policy
from controller.planning.planner import plan, unseen
from controller.planning.repetition import hold_repeated
from controller.planning.steps import DRASTIC, LONG, step_name

log = structlog.get_logger(__name__)
FUTILE_RETRY = 10.0
"""Seconds until steps are repeated that succeeded but changed nothing."""
BUSY_RETRY, BUSY_LAST = 2.0, 30.0
"""Seconds until a busy host is asked again if its error gives no time; after a refused step the
delay doubles each time, up to ``BUSY_LAST``."""
UNREACHABLE_RETRY = 10.0
"""Seconds; the reconnect puts every guest of the host on the queue earlier."""


class Desired(Protocol):
    """The calls used from the catalog's snapshot."""

    def guest(self, name: str) -> tuple[EffectiveGuest | None, bool]:
        """(last good spec, whether it is an orphan); (None, False) if nothing is known."""

    def problems(self, name: str) -> tuple[str, ...]:
        """The errors in the document of that guest."""


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a pass. ``word`` is the label of ``reconcile_total``; ``after``: seconds until
    the next pass, None for no timed one.
    """

    word: str  # success | error | requeue | requeue_after
    after: float | None = None


class Reconciler:
    """Thread-safe if each guest is with one worker at a time, which the queue guarantees."""

    def __init__(
        self,
        desired: Desired,
        ports: Ports,
        look: Look,
        executor: Executor,
        knowledge: Knowledge,
        status: StatusStore,
        policy: Policy,
        *,
        clock: Callable[[], float] = time.time,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """``clock`` is for decisions, ``wall`` for times shown to people; both epoch seconds."""
        self._desired = desired
        self._ports = ports
        self._look = look
        self._executor = executor
        self._knowledge = knowledge
        self._status = status
        self._policy = policy
        self._clock = clock
        self._wall = wall

    def preview(self, guest: EffectiveGuest) -> tuple[Observed, Plan]:
        """Observes and plans; changes nothing."""
        observed = self._look.at(guest)
        return observed, self._plan(guest, observed)

    def reconcile(self, name: str, act: bool = True) -> Result:
        """One pass. Errors of steps are kept and reported, not raised; only bugs raise.

        Without ``act`` a plan with steps is published and requeued, not executed.
        """
        guest, orphaned = self._desired.guest(name)
        if guest is None or orphaned:
            return self._orphan(name, guest, act=act)
        try:
            observed = self._look.at(guest)
        except HostBusyError as error:
            if self._status.get(name) is not None:  # the last status stays published
                return Result("requeue_after", error.retry_after or BUSY_RETRY)
            return self._not_seen(guest, error)
        except GuestkeeperError as error:
            return self._not_seen(guest, error)
        if observed.host.connecting:  # the end of its first attempt puts the guest on the queue
            return Result("success")
        last = self._still_valid(guest, observed)
        if last is not None:
            return self._later(last)
        before = self._status.get(name)
        made = self._plan(guest, observed)
        self._knowledge.succeeded(guest.name, "Look")
        self._say(guest, observed, made)
        if not made.steps:
            if made.settled:  # an earlier failure does not matter any more
                self._knowledge.mended(name)
            return self._later(made)
        if not act:
            return Result("requeue")
        subject = Subject(name, guest.spec.host, guest)
        ended = self._carry_out(subject, observed, made)
        if ended is not None:
            if ended.word == "error":
                self._say(guest, *self.preview(guest))
            return ended
        if isinstance(made.steps[-1], LONG):  # its end puts the guest on the queue again
            self._say(guest, *self.preview(guest))
            return self._later(made)
        if before is not None and (before.plan.steps, before.observed) == (made.steps, observed):
            return Result("requeue_after", FUTILE_RETRY)  # the same steps had no effect
        return Result("requeue")

    def _carry_out(self, subject: Subject, observed: Observed, made: Plan) -> Result | None:
        """Executes the steps; None if each one succeeded or was started, else the result."""
        for step in made.steps:
            try:
                if isinstance(step, DRASTIC) and self._look.suspended(subject.host, subject.name):
                    return Result("requeue")  # an operator suspended it after this was planned
                self._executor.execute(subject, observed, step)
            except HostUnreachableError as error:
                log.warning(
                    "host gave no answer", guest=subject.name, host=subject.host, why=str(error)
                )
                return Result("requeue_after", UNREACHABLE_RETRY)
            except HostBusyError as error:  # a busy host is no failure of this guest
                times = self._knowledge.refused(subject.name)
                after = (error.retry_after or BUSY_RETRY) * 2.0 ** min(times - 1, 30)
                return Result("requeue_after", min(after, BUSY_LAST))
            except GuestkeeperError as error:
                failure = self._knowledge.failed(
                    subject.name, step_name(step), error, subject.digest, self._clock()
                )
                return Result("error", max(0.0, failure.retry_at - self._clock()))
        return None

    def _orphan(self, name: str, guest: EffectiveGuest | None, *, act: bool) -> Result:
        """A pass over a guest without a usable document: its domain is left alone, or its deletion
        policy is followed.
        """
        self._ports.prober.set_targets(name, ())
        try:
            observed = self._look.at_orphan(name, guest)
        except HostBusyError as error:
            return Result("requeue_after", error.retry_after or BUSY_RETRY)
        except GuestkeeperError as error:
            log.warning("orphan not seen", guest=name, reason=error.reason, error=str(error))
            return Result("requeue_after", UNREACHABLE_RETRY)
        if observed is not None and observed.host.connecting:
            return Result("success")
        if observed is None:
            self._knowledge.forget(name)
            self._status.drop(name)
            return Result("success")
        if observed.domain is None and guest is not None:  # its host gives no answer
            made = unseen(guest, "HostUnreachable", observed.host.why)
        else:
            timeout = guest.spec.shutdown_timeout if guest is not None else SHUTDOWN_TIMEOUT
            made = plan_orphan(
                name,
                observed.domain,
                observed.fleet,
                self._clock(),
                self._policy,
                failure=observed.failure,
                problems=self._desired.problems(name),
                shutdown_timeout=timeout,
            )
            made = hold_repeated(made, observed, self._clock())
        self._status.put(guest, observed, made, self._wall())
        if not made.steps:
            return self._later(made)
        if not act:
            return Result("requeue")
        ended = self._carry_out(Subject(name, observed.host.name, guest), observed, made)
        return ended if ended is not None else Result("requeue")

    def _not_seen(self, guest: EffectiveGuest, error: GuestkeeperError) -> Result:
        """Reports that the observation itself failed; nothing is done."""
        failure = self._knowledge.failed(guest.name, "Look", error, guest.digest, self._clock())
        log.warning("look failed", guest=guest.name, reason=error.reason, error=str(error))
        host = HostView(guest.spec.host, "", reachable=False, why=str(error))
        self._say(guest, Observed(host), unseen(guest, error.reason, str(error)))
        return Result("error", max(0.0, failure.retry_at - self._clock()))

    def _still_valid(self, guest: EffectiveGuest, observed: Observed) -> Plan | None:
        """The last plan, if nothing that it was made from has changed: the planner is a pure
        function. A resync has thousands of unchanged guests.
        """
        last = self._status.get(guest.name)
        if last is None or last.guest is not guest or last.plan.steps:
            return None
        made = last.plan
        due = made.recheck_at is not None and self._clock() >= made.recheck_at
        if due or made.printable is Printable.UNKNOWN or last.observed != observed:
            return None
        return made

    def _plan(self, guest: EffectiveGuest, observed: Observed) -> Plan:
        domain = observed.domain
        record = domain.record if domain is not None else GuestRecord()
        return plan(guest, observed, record, self._clock(), self._policy)

    def _say(self, guest: EffectiveGuest, observed: Observed, made: Plan) -> None:
        self._status.put(guest, observed, made, self._wall())
        self._ports.prober.set_targets(guest.name, made.probes)

    def _later(self, made: Plan) -> Result:
        if made.recheck_at is None:
            return Result("success")
        return Result("requeue_after", max(0.05, made.recheck_at - self._clock()))
