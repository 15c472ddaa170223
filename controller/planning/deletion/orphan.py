"""Plans for a guest whose document is gone: whether it is kept, stopped or deleted, and when.

Several safeguards come first: it must be certain that the document is missing, it has to stay
missing for a while, and too many at once wait for an operator. Then the ``deletionPolicy`` of the
last document applies. System disks are deleted, data disks never. The domain goes last, so that
after any interruption its metadata still says that there is more to delete.
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
    step_name,
    update_record,
)
from controller.planning.volumes.deletable import doomed_volumes, out_of_reach

C = ConditionType
SHUTDOWN_TIMEOUT = 120.0
"""Seconds that a guest gets to shut down if no document says how long."""
_GONE = "its document is gone"


def returned(record: GuestRecord) -> UpdateRecord | None:
    """The change of the record of a guest whose document came back; None for none.

    A request to shut down cannot be taken back. So a guest that was asked goes down, but from now
    on for a cold boot, and is started again.
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
    return update_record(**changes) if changes else None


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

    ``now`` is epoch seconds, ``shutdown_timeout`` in seconds; ``problems`` are the errors of a
    document that exists. The step of ``failure`` waits for its retry.
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
    return suspended(made, record, (update_record(deletion_blocked=True),) if told else ())


def finish_deletion(
    name: str,
    domain: DomainView,
    now: float,
    policy: Policy,
    *,
    shutdown_timeout: float = SHUTDOWN_TIMEOUT,
    failure: Failure | None = None,
) -> Plan:
    """The plan that continues a deletion, even if the document has come back since it began.

    Disks may be gone already, so there is no way back; a guest with a document is then made anew.
    """
    record = domain.record
    if of_another(record, policy):
        return others(name, domain, record)
    fleet = Fleet()
    return _Orphan(name, domain, record, fleet, now, policy, shutdown_timeout, failure).delete()


@dataclass(frozen=True, slots=True)
class _Orphan:
    """Plans for a domain of ours that is certainly an orphan and not suspended."""

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
                noted = {}  # the daemon that manages it would undo that, and so on
            message = f"{_GONE}; deletionPolicy Retain: {as_it_is(self.domain)}, unmanaged"
            return self._waits("DocumentVanished", message, noted)
        if self._is_blocked():
            return self._waits("DeletionBlocked", blocked(self.domain, self.fleet), noted)
        grace = self.policy.prune_grace
        # Only the absence that this daemon saw counts: since ``orphaned_since`` was recorded, the
        # document may have been back, and the clock may have been wrong then.
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
        """True if ``since`` is in the future or before the guest was made: the clock was wrong."""
        owner = self.domain.ownership
        made = owner.created if owner is not None else 0.0
        return since > self.now or since < made <= self.now

    def is_over(self) -> bool:
        """True if it is one of too many orphans and its record does not say so yet."""
        return (
            self.fleet.deletions > self.fleet.max_deletions
            and not self.record.deletion_blocked
            and not approved(self.record)
            and is_ending(self.domain, self.policy, self.fleet.last_policy)
        )

    def _is_blocked(self) -> bool:
        """True if the deletion guard holds it. Once it was one of too many orphans it stays held,
        however many are left.
        """
        fleet, held = self.fleet, self.record.deletion_blocked
        over = fleet.deletions > fleet.max_deletions or fleet.unheard != ""
        return (over or held) and awaits_approval(self.domain, self.policy, fleet.last_policy)

    def stop(self) -> Plan:
        """The plan for policy Stop: it is shut down once; if somebody starts it again, it runs."""
        steps: tuple[Step, ...] = (SetAutostart(False),) if self.domain.autostart else ()
        why_not = hindrance(self.domain)
        if was_stopped(self.domain, self.record):
            message = f"{_GONE}; it was stopped, and started again since: it is left running"
            return self._left(true(C.ORPHANED, "DocumentVanished", message))
        if why_not:
            return self._held(why_not)
        if is_off(self.domain):
            if self.record.stop_for != StopFor.DELETE or self.record.shutdown_requested is None:
                wish = update_record(
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
        """The plan for policy Delete: the guest must be seen off, then disks, then domain go."""
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
        mark = () if self.record.deleting else (update_record(deleting=True),)
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
        # After a boot of the host libvirt's ids of runs begin anew, so requests from before this
        # daemon started do not count.
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
        """The plan of an orphan that has to wait; if we stopped it for another reason, it is
        started again.
        """
        steps = (update_record(**noted),) if noted else ()
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
    """True if the document is certainly gone. If the directory is empty or its place is lost, only
    for a guest whose end was approved, or that is kept anyway.
    """
    if not fleet.empty:
        return not fleet.uncertain
    harmless = not fleet.uncertain and ending(record, policy, fleet.last_policy) is Ending.RETAIN
    return harmless or approved(record)


def _hold(made: Plan, failure: Failure, now: float) -> Plan:
    """``made`` without a failed step that waits for its retry, and without all steps after it: no
    disk is deleted after a failed stop.

    A start that was tried has its own back-off.
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
