"""A guest whose document is gone: what becomes of it, when, and what holds that back.

Nothing here is done by mistake twice over: a missing document has to be believed, has to stay
missing for a while, and too many at once wait for an operator. Then the ``deletionPolicy`` that
its document last had applies. What is deleted is system disks; a data disk never is. The domain
goes last, so whatever cuts a deletion off, its metadata says that there is more to delete.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from controller.observed.domain import DomainState, DomainView, Memory
from controller.observed.guest import Failure, Fleet
from controller.planning.conditions import (
    Condition,
    ConditionType,
    Printable,
    true,
)
from controller.planning.doomed import doomed_volumes, out_of_reach
from controller.planning.orphan_words import as_it_is, doubtful, invalid, left, others, utc
from controller.planning.plan import Plan, Policy
from controller.planning.steps import (
    RecordMemory,
    SetAutostart,
    Step,
    UndefineDomain,
    remember,
    step_name,
)
from controller.planning.stopping import StopFor, Stopping, asked_to_stop, stop
from controller.planning.suspending import suspended

C = ConditionType
SHUTDOWN_TIMEOUT = 120.0
"""Seconds, where no document says how long the guest gets to shut down."""
_GONE = "its document is gone"
_OFF = (DomainState.SHUTOFF, DomainState.CRASHED)


class Ending(StrEnum):
    """What becomes of a guest whose document is gone: ``deletionPolicy``."""

    RETAIN = "Retain"
    STOP = "Stop"
    DELETE = "Delete"


_ENDINGS = {one.value: one for one in Ending}


def ending(memory: Memory, policy: Policy) -> Ending:
    """Whoever did not look after it, or knows no policy of it, leaves it as it is."""
    if memory.controller != policy.controller:
        return Ending.RETAIN
    return _ENDINGS.get(memory.deletion_policy, Ending.RETAIN)


def approved(memory: Memory) -> bool:
    """Did an operator approve this very disappearance?"""
    since, when = memory.orphaned_since, memory.deletion_approved
    return since is not None and when is not None and when >= since


def awaits_approval(domain: DomainView, policy: Policy) -> bool:
    """Does the deletion guard count it: would an orphan be stopped or deleted unasked?"""
    memory = _memory(domain)
    end = ending(memory, policy)
    if end is Ending.RETAIN or memory.suspended or approved(memory):
        return False
    return end is Ending.DELETE or not (_is_off(domain) or _was_stopped(domain, memory))


def returned(memory: Memory) -> RecordMemory | None:
    """What to write down of a guest whose document is there, None for nothing.

    One that was asked to shut down goes down: a request cannot be taken back. So it is stopped for
    a cold boot from then on, and started again.
    """
    changes: dict[str, object] = {}
    if memory.orphaned_since is not None:
        changes["orphaned_since"] = None
    if memory.deletion_approved is not None:
        changes["deletion_approved"] = None
    if memory.stop_for == StopFor.DELETE:
        changes["stop_for"] = StopFor.RESTART.value if memory.stop_run is not None else ""
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
    memory = _memory(domain)
    alone = memory.suspended or fleet.suspended
    if memory.deleting:
        made = finish_deletion(name, domain, now, policy, shutdown_timeout=shutdown_timeout)
    elif problems:
        made = invalid(name, domain, problems)
    elif _of_another(memory, policy):
        made = others(name, domain, memory)
    elif alone:
        message = f"{_GONE}; nothing is done while it is suspended"
        made = left(name, domain, true(C.ORPHANED, "DocumentVanished", message))
    elif not _believed(memory, fleet, policy):
        made = doubtful(name, domain, fleet)
    else:
        made = _Orphan(name, domain, memory, fleet, now, policy, shutdown_timeout).plan()
    if failure is not None:
        made = _hold(made, failure, now)
    return suspended(made, memory) if alone else made


def finish_deletion(
    name: str,
    domain: DomainView,
    now: float,
    policy: Policy,
    *,
    shutdown_timeout: float = SHUTDOWN_TIMEOUT,
) -> Plan:
    """Goes on with a deletion that has begun, whether or not the document has come back since.

    Disks may be gone already, so there is no way back; with a document the guest is made anew then.
    """
    memory = _memory(domain)
    if _of_another(memory, policy):
        return others(name, domain, memory)
    fleet = Fleet()
    return _Orphan(name, domain, memory, fleet, now, policy, shutdown_timeout).delete()


@dataclass(frozen=True, slots=True)
class _Orphan:
    """One look at an orphan that is ours, believed to be one, and not suspended."""

    name: str
    domain: DomainView
    memory: Memory
    fleet: Fleet
    now: float
    policy: Policy
    timeout: float

    def plan(self) -> Plan:
        since = self.memory.orphaned_since
        steps: tuple[Step, ...] = ()
        if since is None or since > self.now:  # a time from the future is another clock's
            since, steps = self.now, (remember(orphaned_since=self.now),)
        due = since + self.policy.prune_grace
        end = ending(self.memory, self.policy)
        if end is Ending.RETAIN:
            if self.memory.controller != self.policy.controller:
                steps = ()  # whoever does look after it would take that back again, and so on
            message = f"{_GONE}; deletionPolicy Retain: {as_it_is(self.domain)}, unmanaged"
            return self._left(true(C.ORPHANED, "DocumentVanished", message), steps)
        if self._blocked():
            return self._left(true(C.ORPHANED, "DeletionBlocked", self._blocked_message()), steps)
        if steps or self.now < due:
            what = "is stopped" if end is Ending.STOP else "and its system disk are deleted"
            message = (
                f"{_GONE}; deletionPolicy {end}: domain {self.domain.name} {what} at {utc(due)},"
                " unless it comes back"
            )
            return self._left(true(C.ORPHANED, "DocumentVanished", message), steps, due)
        return self.stop() if end is Ending.STOP else self.delete()

    def _blocked(self) -> bool:
        over = self.fleet.deletions > self.fleet.max_deletions
        return over and awaits_approval(self.domain, self.policy)

    def _blocked_message(self) -> str:
        many = "guest" if self.fleet.deletions == 1 else "guests"
        return (
            f"{_GONE}; {self.fleet.deletions} {many} would be stopped or deleted, and without"
            f" approval at most {self.fleet.max_deletions} may be, so {as_it_is(self.domain)}. Put"
            " the documents back, or: guestkeeper approve --deletions"
        )

    def stop(self) -> Plan:
        """Off once, and left: whoever starts it afterwards wants it to run."""
        steps: tuple[Step, ...] = (SetAutostart(False),) if self.domain.autostart else ()
        hindrance = _hindrance(self.domain)
        if _was_stopped(self.domain, self.memory):
            message = f"{_GONE}; it was stopped, and started again since: it is left running"
            return self._left(true(C.ORPHANED, "DocumentVanished", message))
        if hindrance:
            return self._held(hindrance)
        if _is_off(self.domain):
            if self.memory.stop_for != StopFor.DELETE:
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
        hindrance = _hindrance(self.domain)
        if hindrance:
            return self._held(hindrance)
        if not _is_off(self.domain):
            way = self._down()
            message = f"deletionPolicy Delete: {way.message}"
            return self._left(
                true(C.ORPHANED, "Deleting", message),
                way.steps,
                way.recheck_at,
                printable=Printable.TERMINATING,
            )
        mark = () if self.memory.deleting else (remember(deleting=True),)
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
        asked = asked_to_stop(self.domain, self.memory, StopFor.DELETE)
        if self.domain.state is DomainState.SHUTDOWN and not asked:
            return Stopping((), "it is shutting down", self.now + 5)
        return stop(self.domain, self.memory, StopFor.DELETE, timeout=self.timeout, now=self.now)

    def _held(self, hindrance: str) -> Plan:
        what = "its deletion has begun" if self.memory.deleting else _GONE
        message = f"{what}, but nothing is done to it now: {hindrance}"
        return self._left(true(C.ORPHANED, "DeletionHeld", message), (), self.now + 30)

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


def _believed(memory: Memory, fleet: Fleet, policy: Policy) -> bool:
    """Is its document really gone? An empty directory says that of those it was approved for."""
    if not fleet.empty:
        return not fleet.uncertain
    harmless = not fleet.uncertain and ending(memory, policy) is Ending.RETAIN
    return harmless or approved(memory)


def _hold(made: Plan, failure: Failure, now: float) -> Plan:
    """A step that failed waits, and what follows it: no disk goes after a stop that failed."""
    names = [step_name(step) for step in made.steps]
    if failure.step not in names or now >= failure.retry_at:
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


# --- What is seen ---------------------------------------------------------------------------------


def _memory(domain: DomainView) -> Memory:
    return domain.ownership.memory if domain.ownership is not None else Memory()


def _of_another(memory: Memory, policy: Policy) -> bool:
    return memory.controller not in ("", policy.controller)


def _is_off(domain: DomainView) -> bool:
    """Known to be: QEMU may still hold a crashed domain's disks."""
    return domain.state in _OFF and domain.live is None and domain.run is None


def _was_stopped(domain: DomainView, memory: Memory) -> bool:
    """Does it run though it was stopped since its document is gone: did somebody start it?"""
    asked, since = memory.shutdown_requested, memory.orphaned_since
    return (
        domain.state.active
        and memory.stop_for == StopFor.DELETE
        and asked is not None
        and since is not None
        and asked >= since
        and memory.stop_run != domain.run
    )


def _hindrance(domain: DomainView) -> str:
    """Why neither its power nor its disks may be touched now; '' where they may."""
    if domain.state is DomainState.UNKNOWN:
        return "its state is not known"
    if domain.state in (DomainState.PAUSED, DomainState.PMSUSPENDED):
        return (
            f"it is {domain.state}; to go on: virsh resume {domain.name}, or virsh destroy"
            f" {domain.name}"
        )
    if domain.state in _OFF and not _is_off(domain):
        return f"its QEMU is still there; to go on: virsh destroy {domain.name}"
    if domain.running_job:
        return "a job of its domain is running (backup, migration)"
    return ""
