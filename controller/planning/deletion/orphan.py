"""A guest whose document is gone: what becomes of it, when, and what holds that back.

Nothing here is done by mistake twice over: a missing document has to be believed, has to stay
missing for a while, and too many at once wait for an operator. Then the ``deletionPolicy`` that
its document last had applies. What is deleted is system disks; a data disk never is. The domain
goes last, so whatever cuts a deletion off, its metadata says that there is more to delete.
"""

from dataclasses import dataclass, replace

from controller.observed.domain import DomainState, DomainView, GuestRecord
from controller.observed.guest import Failure, Fleet
from controller.planning.conditions import (
    Condition,
    ConditionType,
    Printable,
    true,
)
from controller.planning.deletion.messages import (
    as_it_is,
    blocked,
    doubtful,
    goes_on,
    invalid,
    left,
    others,
    utc,
)
from controller.planning.deletion.policy import (
    Ending,
    approved,
    awaits_approval,
    ending,
    hindrance,
    is_ending,
    is_off,
    of_another,
    was_stopped,
)
from controller.planning.deletion.unfinished_stop import going_on
from controller.planning.plan import Plan, Policy
from controller.planning.power.starting import NOT_TRIED
from controller.planning.power.stopping import StopFor, Stopping, asked_to_stop, stop
from controller.planning.power.suspending import suspended
from controller.planning.steps import (
    SetAutostart,
    Step,
    UndefineDomain,
    UpdateRecord,
    remember,
    step_name,
)
from controller.planning.volumes.deletable import doomed_volumes, out_of_reach

C = ConditionType
SHUTDOWN_TIMEOUT = 120.0
"""Seconds, where no document says how long the guest gets to shut down."""
_GONE = "its document is gone"


def returned(record: GuestRecord) -> UpdateRecord | None:
    """What to write down of a guest whose document is there, None for nothing.

    One that was asked to shut down goes down: a request cannot be taken back. So it is stopped for
    a cold boot from then on, and started again.
    """
    changes: dict[str, object] = {}
    if record.orphaned_since is not None:
        changes["orphaned_since"] = None
    if record.deletion_approved is not None:
        changes["deletion_approved"] = None
    if record.deletion_blocked:
        changes["deletion_blocked"] = False
    if record.stop_for == StopFor.DELETE:
        changes["stop_for"] = StopFor.RESTART.value if record.stop_run is not None else ""
    return remember(**changes) if changes else None


def plan_orphan(
    name: str,
    domain: DomainView | None,
    fleet: Fleet,
    now: float,
    policy: Policy,
    *,
    problems: tuple[str, ...] = (),
    shutdown_timeout: float = SHUTDOWN_TIMEOUT,
    failure: Failure | None = None,
) -> Plan:
    """The plan for a guest without a usable document. Its host is reachable.

    ``now`` is epoch seconds, ``shutdown_timeout`` in seconds; ``problems`` are those of a document
    that is there. What ``failure`` is of waits for its next try.
    """
    if domain is None:
        return Plan(guest=name, sentence="doing nothing: neither document nor domain is left")
    if not domain.ours:
        message = f"domain {domain.name} ({domain.uuid}) is not Guestkeeper's; it is left alone"
        return Plan(guest=name, sentence=f"doing nothing: {message}")
    record = domain.record
    alone = record.suspended or fleet.suspended
    seen = _Orphan(name, domain, record, fleet, now, policy, shutdown_timeout, failure)
    if record.deleting:
        made = finish_deletion(
            name, domain, now, policy, shutdown_timeout=shutdown_timeout, failure=failure
        )
    elif problems:
        made = goes_on(invalid(name, domain, problems), going_on(domain, record, now, policy))
    elif of_another(record, policy):
        made = others(name, domain, record)
    elif alone:
        message = f"{_GONE}; nothing is done while it is suspended"
        made = left(name, domain, true(C.ORPHANED, "DocumentVanished", message))
    elif not _believed(record, fleet, policy):
        made = goes_on(doubtful(name, domain, fleet), going_on(domain, record, now, policy))
    else:
        made = seen.plan()
    if failure is not None:
        made = _hold(made, failure, now)
    if not alone:
        return made
    told = _believed(record, fleet, policy) and not problems and seen.is_over()
    return suspended(made, record, (remember(deletion_blocked=True),) if told else ())


def finish_deletion(
    name: str,
    domain: DomainView,
    now: float,
    policy: Policy,
    *,
    shutdown_timeout: float = SHUTDOWN_TIMEOUT,
    failure: Failure | None = None,
) -> Plan:
    """Goes on with a deletion that has begun, whether or not the document has come back since.

    Disks may be gone already, so there is no way back; with a document the guest is made anew then.
    """
    record = domain.record
    if of_another(record, policy):
        return others(name, domain, record)
    fleet = Fleet()
    return _Orphan(name, domain, record, fleet, now, policy, shutdown_timeout, failure).delete()


@dataclass(frozen=True, slots=True)
class _Orphan:
    """One look at an orphan that is ours, believed to be one, and not suspended."""

    name: str
    domain: DomainView
    record: GuestRecord
    fleet: Fleet
    now: float
    policy: Policy
    timeout: float
    failure: Failure | None = None

    def plan(self) -> Plan:
        noted: dict[str, object] = {}
        since = self.record.orphaned_since
        if since is None or self._of_another_clock(since):
            since = noted["orphaned_since"] = self.now
        if self.is_over():
            noted["deletion_blocked"] = True
        end = ending(self.record, self.policy, self.fleet.last_policy)
        if end is Ending.RETAIN:
            if self.record.controller != self.policy.controller:
                noted = {}  # whoever does look after it would take that back again, and so on
            message = f"{_GONE}; deletionPolicy Retain: {as_it_is(self.domain)}, unmanaged"
            return self._waits("DocumentVanished", message, noted)
        if self._is_blocked():
            return self._waits("DeletionBlocked", blocked(self.domain, self.fleet), noted)
        grace = self.policy.prune_grace
        # Its absence counts as far as this daemon saw it: the document may have been back since
        # that was noted, and the clock that it was noted by may have been wrong.
        due = max(since + grace, self.now + grace - self.fleet.absent)
        if noted or self.now < due:
            what = "is stopped" if end is Ending.STOP else "and its system disk are deleted"
            message = (
                f"{_GONE}; deletionPolicy {end}: domain {self.domain.name} {what} at {utc(due)},"
                " unless it comes back"
            )
            return self._waits("DocumentVanished", message, noted, due)
        return self.stop() if end is Ending.STOP else self.delete()

    def _of_another_clock(self, since: float) -> bool:
        """A time that is still to come, or of when there was no such guest yet."""
        owner = self.domain.ownership
        made = owner.created if owner is not None else 0.0
        return since > self.now or since < made <= self.now

    def is_over(self) -> bool:
        """Is it one of too many, and is that not written down yet?"""
        return (
            self.fleet.deletions > self.fleet.max_deletions
            and not self.record.deletion_blocked
            and not approved(self.record)
            and is_ending(self.domain, self.policy, self.fleet.last_policy)
        )

    def _is_blocked(self) -> bool:
        """Once it was one of too many it stays so, however many are left of them."""
        fleet, held = self.fleet, self.record.deletion_blocked
        over = fleet.deletions > fleet.max_deletions or fleet.unheard != ""
        return (over or held) and awaits_approval(self.domain, self.policy, fleet.last_policy)

    def stop(self) -> Plan:
        """Off once, and left: whoever starts it afterwards wants it to run."""
        steps: tuple[Step, ...] = (SetAutostart(False),) if self.domain.autostart else ()
        why_not = hindrance(self.domain)
        if was_stopped(self.domain, self.record):
            message = f"{_GONE}; it was stopped, and started again since: it is left running"
            return self._left(true(C.ORPHANED, "DocumentVanished", message))
        if why_not:
            return self._held(why_not)
        if is_off(self.domain):
            if self.record.stop_for != StopFor.DELETE or self.record.shutdown_requested is None:
                wish = remember(
                    shutdown_requested=self.now, stop_for=StopFor.DELETE.value, stop_run=None
                )
                steps = (*steps, wish)
            message = f"{_GONE}; deletionPolicy Stop: domain {self.domain.name} is off, and left"
            made = true(C.ORPHANED, "DocumentVanished", message)
            return self._left(made, steps, printable=Printable.STOPPED)
        way = self._down()
        message = f"{_GONE}; deletionPolicy Stop: {way.message}"
        return self._left(
            true(C.ORPHANED, "Stopping", message),
            (*steps, *way.steps),
            way.recheck_at,
            printable=Printable.STOPPING,
        )

    def delete(self) -> Plan:
        """Off first, and seen to be off; then the disks, then the domain."""
        why_not = hindrance(self.domain)
        if why_not:
            return self._held(why_not)
        if not is_off(self.domain):
            way = self._down()
            message = f"deletionPolicy Delete: {way.message}"
            return self._left(
                true(C.ORPHANED, "Deleting", message),
                way.steps,
                way.recheck_at,
                printable=Printable.TERMINATING,
            )
        mark = () if self.record.deleting else (remember(deleting=True),)
        volumes = tuple(doomed_volumes(self.domain))
        message = "deletionPolicy Delete: deleting its system disk and its domain; data disks stay"
        nowhere = out_of_reach(self.domain)
        if nowhere:
            message += f". {nowhere} is in no pool of the host, and stays, too"
        return self._left(
            true(C.ORPHANED, "Deleting", message),
            (*mark, *volumes, UndefineDomain()),
            printable=Printable.TERMINATING,
        )

    def _down(self) -> Stopping:
        # libvirt's ids of runs begin anew with the host: what was asked before this daemon is not.
        since = self.policy.daemon_started
        asked = asked_to_stop(self.domain, self.record, StopFor.DELETE, since=since)
        if self.domain.state is DomainState.SHUTDOWN and not asked:
            return Stopping((), "it is shutting down", self.now + 5)
        return stop(
            self.domain,
            self.record,
            StopFor.DELETE,
            timeout=self.timeout,
            now=self.now,
            since=since,
            failure=self.failure,
        )

    def _held(self, why: str) -> Plan:
        what = "its deletion has begun" if self.record.deleting else _GONE
        message = f"{what}, but nothing is done to it now: {why}"
        return self._left(true(C.ORPHANED, "DeletionHeld", message), (), self.now + 30)

    def _waits(
        self,
        reason: str,
        message: str,
        noted: dict[str, object],
        recheck_at: float | None = None,
    ) -> Plan:
        """Nothing is done to it for its document's end; what we took down for something else is
        put up again.
        """
        steps = (remember(**noted),) if noted else ()
        made = self._left(true(C.ORPHANED, reason, message), steps, recheck_at)
        return goes_on(made, going_on(self.domain, self.record, self.now, self.policy))

    def _left(
        self,
        orphaned: Condition,
        steps: tuple[Step, ...] = (),
        recheck_at: float | None = None,
        *,
        printable: Printable = Printable.UNKNOWN,
    ) -> Plan:
        return left(
            self.name, self.domain, orphaned, steps, recheck_at=recheck_at, printable=printable
        )


def _believed(record: GuestRecord, fleet: Fleet, policy: Policy) -> bool:
    """Is its document really gone? An empty directory says that of those it was approved for."""
    if not fleet.empty:
        return not fleet.uncertain
    harmless = not fleet.uncertain and ending(record, policy, fleet.last_policy) is Ending.RETAIN
    return harmless or approved(record)


def _hold(made: Plan, failure: Failure, now: float) -> Plan:
    """A step that failed waits, and what follows it: no disk goes after a stop that failed.

    A start has pauses of its own, if it was tried.
    """
    names = [step_name(step) for step in made.steps]
    started = failure.step == "StartDomain" and failure.reason not in NOT_TRIED
    if started or failure.step not in names or now >= failure.retry_at:
        return made
    message = f"{made.sentence}; {failure.step} failed: {failure.message}; it is tried again later"
    conditions = tuple(
        replace(found, message=message) if found.type is C.ORPHANED else found
        for found in made.conditions
    )
    return replace(
        made,
        sentence=message,
        steps=made.steps[: names.index(failure.step)],
        conditions=conditions,
        recheck_at=failure.retry_at,
    )
