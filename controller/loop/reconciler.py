"""One pass over one guest: look, plan, say, execute. Level-triggered: why it was called is unknown.

A pass that executed something asks for another, which looks at what came of it; so a plan is
never carried on from a memory of what it was.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import structlog

from controller.desired.effective import EffectiveGuest
from controller.errors import GuestkeeperError, HostBusyError, HostUnreachableError
from controller.execution.executor import Executor, Ports
from controller.execution.knowledge import Knowledge
from controller.loop.look import Look
from controller.loop.status import StatusStore
from controller.observed.domain import Memory
from controller.observed.guest import Observed
from controller.observed.host import HostView
from controller.planning.conditions import Printable
from controller.planning.plan import Plan, Policy
from controller.planning.planner import orphan, plan, unseen
from controller.planning.steps import LONG, step_name

log = structlog.get_logger(__name__)
UNREACHABLE_RETRY = 10.0
"""Seconds; the reconnect puts every guest of the host on the queue earlier."""


class Desired(Protocol):
    """What the catalog's snapshot answers."""

    def guest(self, name: str) -> tuple[EffectiveGuest | None, bool]:
        """(last good spec, is it an orphan); (None, False) where nothing is known."""

    def problems(self, name: str) -> tuple[str, ...]:
        """What is wrong with the document of that guest."""


@dataclass(frozen=True, slots=True)
class Result:
    """``word`` is the label of ``reconcile_total``; ``after`` in seconds, None: not by time."""

    word: str  # success | error | requeue | requeue_after
    after: float | None = None


class Reconciler:
    """Thread-safe as long as one guest is with one worker at a time, which the queue sees to."""

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
    ) -> None:
        self._desired = desired
        self._ports = ports
        self._look = look
        self._executor = executor
        self._knowledge = knowledge
        self._status = status
        self._policy = policy
        self._clock = clock

    def preview(self, guest: EffectiveGuest, *, orphaned: bool = False) -> tuple[Observed, Plan]:
        """Looks and plans, touches nothing."""
        observed = self._look.at(guest)
        return observed, self._plan(guest, observed, orphaned=orphaned)

    def reconcile(self, name: str, act: bool = True) -> Result:
        """One pass. Errors of steps are remembered and told; only panics come out.

        Without ``act`` a plan with steps is told and asked for again, not carried out.
        """
        guest, orphaned = self._desired.guest(name)
        if guest is None:
            return self._unknown(name)
        try:
            observed = self._look.at(guest)
        except GuestkeeperError as error:
            return self._not_seen(guest, error)
        last = self._still_valid(guest, observed, orphaned=orphaned)
        if last is not None:
            return self._later(last)
        made = self._plan(guest, observed, orphaned=orphaned)
        self._knowledge.succeeded(guest.name, "Look")
        self._say(guest, observed, made)
        if not made.steps:
            if made.settled:  # whatever failed before is mended
                self._knowledge.mended(name)
            return self._later(made)
        if not act:
            return Result("requeue")
        for step in made.steps:
            try:
                self._executor.execute(guest, observed, step)
            except HostUnreachableError as error:
                log.warning("host gave no answer", guest=name, host=guest.spec.host, why=str(error))
                return Result("requeue_after", UNREACHABLE_RETRY)
            except HostBusyError as error:  # too much at once is no failure of this guest
                return Result("requeue_after", error.retry_after)
            except GuestkeeperError as error:
                failure = self._knowledge.failed(
                    name, step_name(step), error, guest.digest, self._clock()
                )
                self._say(guest, *self.preview(guest, orphaned=orphaned))
                return Result("error", max(0.0, failure.retry_at - self._clock()))
        if isinstance(made.steps[-1], LONG):  # its end puts the guest on the queue again
            self._say(guest, *self.preview(guest, orphaned=orphaned))
            return self._later(made)
        return Result("requeue")

    def _not_seen(self, guest: EffectiveGuest, error: GuestkeeperError) -> Result:
        """The look itself failed: that is told, and nothing is done."""
        failure = self._knowledge.failed(guest.name, "Look", error, guest.digest, self._clock())
        log.warning("look failed", guest=guest.name, reason=error.reason, error=str(error))
        host = HostView(guest.spec.host, "", reachable=False, why=str(error))
        self._say(guest, Observed(host), unseen(guest, error.reason, str(error)))
        return Result("error", max(0.0, failure.retry_at - self._clock()))

    def _still_valid(
        self, guest: EffectiveGuest, observed: Observed, *, orphaned: bool
    ) -> Plan | None:
        """The last plan, where nothing it was made from has changed: a pure function would say the
        same again. Thousands of guests that are as they were make up a resync.
        """
        last = self._status.get(guest.name)
        if last is None or orphaned or last.guest is not guest or last.plan.steps:
            return None
        made = last.plan
        due = made.recheck_at is not None and self._clock() >= made.recheck_at
        if due or made.printable is Printable.UNKNOWN or last.observed != observed:
            return None
        return made

    def _plan(self, guest: EffectiveGuest, observed: Observed, *, orphaned: bool) -> Plan:
        domain = observed.domain
        owner = domain.ownership if domain is not None else None
        memory = owner.memory if owner is not None else Memory()
        return plan(guest, observed, memory, self._clock(), self._policy, orphaned=orphaned)

    def _say(self, guest: EffectiveGuest, observed: Observed, made: Plan) -> None:
        self._status.put(guest, observed, made, self._clock())
        self._ports.prober.set_targets(guest.name, made.probes)

    def _later(self, made: Plan) -> Result:
        if made.recheck_at is None:
            return Result("success")
        return Result("requeue_after", max(0.05, made.recheck_at - self._clock()))

    def _unknown(self, name: str) -> Result:
        """No usable document since this daemon runs: a domain of ours is left alone, and told."""
        self._ports.prober.set_targets(name, ())
        for host in self._hosts():
            if not host.reachable:
                continue
            domain = self._ports.hypervisor.domain(host.name, name)
            if domain is not None and domain.ours:
                made = orphan(name, domain, self._desired.problems(name))
                self._status.put(None, Observed(host, domain), made, self._clock())
                return Result("success")
        self._knowledge.forget(name)
        self._status.drop(name)
        return Result("success")

    def _hosts(self) -> list[HostView]:
        return [self._ports.hypervisor.host(name) for name in self._ports.hypervisor.hosts()]
