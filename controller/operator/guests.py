"""Operators' requests about guests: written down here, carried out by the reconcile loop.

A request is a few fields of the record in the metadata of the guest's domain (for all guests, a
file in ``state_dir``). This module only writes them and queues the guest; its next plan acts on
them. So a request survives a restart of the daemon, and is never carried out twice.

Longer than other modules on purpose: a short method for each request, with all its refusals.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from controller.desired.catalog.snapshot import Snapshot
from controller.desired.schema.guest import RunStrategy
from controller.errors import HostUnreachableError, PermanentError
from controller.execution.ports import Journal
from controller.loop.fleet import Orphan
from controller.loop.holds import Holds
from controller.loop.status import GuestStatus, StatusStore
from controller.observed.domain import DomainState, DomainView, GuestRecord
from controller.operator.answers import Deletion, NotNowError
from controller.planning.compare.changes import medium
from controller.planning.conditions import ConditionType
from controller.planning.plan import Policy
from controller.planning.replacement.system_disks import rollback_disk
from controller.planning.wanted.domain import SYSTEM


class Record(Protocol):
    """``Executor.record``: write fields of ``GuestRecord`` into a domain's metadata."""

    def __call__(self, host: str, name: str, **changes: Any) -> None: ...


class Fleet(Protocol):
    """The part of ``loop.fleet.Fleets`` that is used here."""

    @property
    def suspended(self) -> bool: ...
    def suspend_all(self) -> None:
        """Raises ``OSError``, as ``resume_all`` does."""

    def resume_all(self) -> None: ...

    def to_approve(self) -> Sequence[Orphan]:
        """The orphans that are stopped or deleted once an operator approves."""


@dataclass(frozen=True, slots=True)
class _Guest:
    """A guest that is ours, with its domain as read just now."""

    status: GuestStatus
    domain: DomainView

    @property
    def name(self) -> str:
        return self.status.name

    @property
    def host(self) -> str:
        return self.status.observed.host.name

    @property
    def record(self) -> GuestRecord:
        return self.domain.record

    @property
    def orphaned(self) -> bool:
        return self.status.guest is None or self.status.plan.is_true(ConditionType.ORPHANED)


class GuestRequests:
    """Implements ``web.application.Guests``. Thread-safe."""

    def __init__(
        self,
        *,
        statuses: StatusStore,
        snapshot: Callable[[], Snapshot],
        believe: Callable[[Collection[str]], None],
        domain: Callable[[str, str], DomainView | None],
        record: Record,
        fleet: Fleet,
        policy: Policy,
        journal: Journal,
        queue: Callable[[str], None],
        queue_all: Callable[[], None],
        holds: Holds | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``domain(host, name)`` reads the domain; ``queue(name)`` puts the guest on the queue.

        ``believe(names)`` scans the directory, accepts that it is empty where it is, and takes
        the documents of these guests for deleted. It raises ``PermanentError`` where the daemon
        cannot know whether a missing document is deleted.
        """
        self._statuses = statuses
        self._snapshot = snapshot
        self._believe = believe
        self._domain = domain
        self._record = record
        self._fleet = fleet
        self._policy = policy
        self._journal = journal
        self._queue = queue
        self._queue_all = queue_all
        self._holds = holds or Holds()
        self._clock = clock

    # --- Suspend and resume -----------------------------------------------------------------------

    def suspend(self, name: str) -> str:
        """Suspend the guest: from now on it is only observed."""
        guest = self._owned(name)
        if guest.record.suspended:
            return f"{name} is left alone already; to go on: guestkeeper resume {name}"
        self._note(guest, suspended=True)
        self._holds.saw(name, suspended=True)
        self._journal.record(name, "GuestSuspended", "an operator wants it left alone")
        return f"{name} is left alone from now on; to go on: guestkeeper resume {name}"

    def resume(self, name: str) -> str:
        """End the guest's suspension."""
        status = self._statuses.get(name)
        if status is not None and status.observed.held and self._holds.held(name):
            self._holds.saw(name, suspended=False)
            self._journal.record(name, "GuestResumed", "an operator wants it looked after again")
            self._queue(name)
            return f"{name} is looked after again: it has no domain, and is made anew"
        guest = self._owned(name)
        was = guest.record.suspended
        if not was and not self._fleet.suspended:
            raise NotNowError(f"{name} is not suspended; what it does: guestkeeper explain {name}")
        if was:
            self._note(guest, suspended=False)
            self._holds.saw(name, suspended=False)
            self._journal.record(name, "GuestResumed", "an operator wants it looked after again")
        if self._fleet.suspended:
            return (
                f"{name} is to be looked after again, but every guest is suspended; to go on:"
                " guestkeeper resume --all"
            )
        return f"{name} is looked after again, and looked at now"

    def suspend_all(self) -> str:
        """Suspend every guest, also those that are added later."""
        with _state_dir():
            self._fleet.suspend_all()
        self._journal.record("", "GuestSuspended", "an operator wants every guest left alone")
        self._queue_all()
        return "every guest is left alone from now on; to go on: guestkeeper resume --all"

    def resume_all(self) -> str:
        """End the suspension of all; guests that were suspended by name stay suspended."""
        if not self._fleet.suspended:
            alone = self._suspended()
            how = f"; to go on with {alone[0]}: guestkeeper resume {alone[0]}" if alone else ""
            raise NotNowError(f"the guests are not suspended as a whole{how}")
        with _state_dir():
            self._fleet.resume_all()
        self._journal.record("", "GuestResumed", "an operator wants the guests looked after again")
        self._queue_all()
        alone = self._suspended()
        still = f"; still suspended by name: {', '.join(alone)}" if alone else ""
        return f"the guests are looked after again, and looked at now{still}"

    def _suspended(self) -> list[str]:
        found = []
        for status in self._statuses.all():
            domain = status.observed.domain
            owner = domain.ownership if domain is not None and domain.ours else None
            if owner is not None and owner.record.suspended:
                found.append(status.name)
        return sorted(found)

    # --- Restart and replace ----------------------------------------------------------------------

    def restart(self, name: str) -> str:
        """Request a cold boot, also outside the maintenance windows."""
        guest = self._owned(name)
        self._check_kept(guest)
        self._check_not_replacing(guest, "which boots it anew by itself")
        if not guest.domain.state.active:
            raise NotNowError(
                f"{name} is off ({guest.domain.state}), so there is nothing to restart: its next"
                f" start applies everything; to start it: virsh start {name}"
            )
        if guest.domain.state in (DomainState.PAUSED, DomainState.PMSUSPENDED):
            raise NotNowError(
                f"{name} is {guest.domain.state} and cannot shut down; first: {guest.domain.go_on}"
            )
        wanted = guest.status.guest
        if wanted is not None and wanted.spec.run_strategy is RunStrategy.HALTED:
            raise NotNowError(
                f"{name} has runStrategy Halted: it is being shut down; to have it run, change that"
                f" in {wanted.origin.file}"
            )
        self._note(guest, restart_requested=self._clock())
        self._journal.record(name, "RestartRequested", "an operator asked for a cold boot")
        limit = f" (it has {wanted.spec.shutdown_timeout:.0f} s)" if wanted is not None else ""
        return f"{name} is asked to shut down now{limit}, and started again"

    def approve(self, name: str, base: str, *, now: bool = False) -> str:
        """Approve the replacement that the guest's plan waits with, if it is one by ``base``."""
        guest = self._owned(name)
        self._check_kept(guest)
        self._check_not_replacing(guest)
        waits = guest.status.plan.replace_to
        if not waits:
            raise NotNowError(
                f"nothing of {name} waits for approval; what it waits for: guestkeeper explain"
                f" {name}"
            )
        if base != waits:
            raise NotNowError(
                f"it is a system disk of {waits} that {name} waits for approval of, not one of"
                f" {base or '(no base was named)'}; look again: guestkeeper explain {name}"
            )
        self._note(guest, approved=base, approved_now=now)
        when = ", at once" if now else ""
        self._journal.record(
            name, "ReplacementApproved", f"an operator approved a system disk of {base}{when}"
        )
        windows = guest.status.guest and guest.status.guest.spec.update_policy.maintenance_windows
        if windows and not now:
            return (
                f"{name} gets a system disk of {base} as soon as its maintenance window is open; at"
                f" once: guestkeeper approve {name} --now"
            )
        return (
            f"{name} gets a system disk of {base}: it is made beside the running guest, which then"
            " is stopped and boots from it; the old one is kept"
        )

    def rollback(self, name: str) -> str:
        """Request the last retired system disk that worked; the present one is kept."""
        guest = self._owned(name)
        self._check_kept(guest)
        self._check_not_replacing(guest)
        disk = rollback_disk(guest.record)
        if disk is None:
            failed = any(one.why == "failed" for one in guest.record.retired)
            why = "the one that is kept did not come up" if failed else "none is kept"
            raise NotNowError(f"{name} has no earlier system disk to go back to: {why}")
        self._note(guest, rollback=True)
        self._journal.record(
            name, "RollbackRequested", f"an operator wants {disk.disk.volume} back"
        )
        return (
            f"{name} is stopped and boots from {disk.disk.pool}/{disk.disk.volume}; the present"
            " disk is kept, and its base is not taken again before it is approved"
        )

    def retry(self, name: str) -> str:
        """Allow the base that failed for this guest again; it is not tried again unasked."""
        guest = self._owned(name)
        self._check_kept(guest)
        base = guest.record.refused
        if not base:
            failure = guest.status.observed.failure
            how = f"; {failure.step} is tried again by itself" if failure is not None else ""
            raise NotNowError(
                f"nothing of {name} is held back because it failed{how}; see: guestkeeper explain"
                f" {name}"
            )
        self._note(guest, refused="", refused_why="")
        self._journal.record(name, "RetryRequested", f"an operator wants {base} tried again")
        wanted = guest.status.guest
        if wanted is not None and wanted.spec.update_policy.replace == "Automatic":
            return f"{name} gets a system disk of {base} once more, if its image still wants that"
        return f"{base} may be tried again; to replace the disk: guestkeeper approve {name}"

    # --- Deletions --------------------------------------------------------------------------------

    def deletions(self) -> list[Deletion]:
        """Guests whose document is gone and whose stop or deletion an operator may approve.

        For an empty directory, or a place of documents that was lost, these are all its guests,
        also those with ``Retain``: approval says that the documents are meant to be gone.
        """
        found = {}
        for orphan in self._fleet.to_approve():
            record = orphan.domain.record
            found[orphan.domain.name] = _deletion(
                orphan.domain, record.deletion_policy, record.orphaned_since
            )
        snapshot = self._snapshot()
        for name, guest in snapshot.guests.items():
            if not (snapshot.empty or name in snapshot.lost):
                continue
            status = self._statuses.get(name)
            domain = status.observed.domain if status is not None else None
            if domain is not None and domain.ours:
                found[name] = _deletion(domain, guest.spec.deletion_policy, None)
        return [found[name] for name in sorted(found)]

    def approve_deletions(self, names: Collection[str]) -> Mapping[str, str]:
        """Approve the ``deletions`` of these guests, of all if ``names`` is empty."""
        if self._fleet.suspended:
            raise NotNowError("every guest is suspended; first: guestkeeper resume --all")
        waiting = {one.guest: one for one in self.deletions()}
        for name in names:
            if name not in waiting:
                raise NotNowError(
                    f"{name} does not wait to be stopped or deleted; see: guestkeeper explain"
                    f" {name}"
                )
        if not waiting:
            raise NotNowError("no guest whose document is gone waits to be stopped or deleted")
        self._believe(names or waiting)
        return {name: self._approve_end(waiting[name]) for name in sorted(names or waiting)}

    def _approve_end(self, deletion: Deletion) -> str:
        name, policy = deletion.guest, deletion.policy
        if policy == "Retain":
            return f"{name} stays as it is, and nobody looks after it"
        guest, now = self._owned(name), self._clock()
        # A disappearance that was not believed was not written down: it begins with the approval.
        since = guest.record.orphaned_since
        began = now if since is None or since > now else since
        self._note(guest, orphaned_since=began, deletion_approved=now)
        self._journal.record(
            name, "DeletionApproved", f"an operator approved its deletionPolicy {policy}"
        )
        grace = self._policy.prune_grace
        when = (
            f" once its document was gone for {grace:.0f} s, unless it comes back" if grace else ""
        )
        if policy == "Delete":
            return f"{name} is stopped and deleted with its system disk{when}; its data disks stay"
        return f"{name} is stopped{when}; its disks stay"

    # --- What every request needs -----------------------------------------------------------------

    def _owned(self, name: str) -> _Guest:
        """The guest with its domain; raises ``NotNowError`` unless it has one that is ours.

        Raises ``HostUnreachableError`` where its host does not answer.
        """
        status = self._statuses.get(name)
        if status is None:
            raise NotNowError(f"{name} was not looked at yet; try again in a moment")
        host = status.observed.host
        if not host.reachable:
            why = f" ({host.why})" if host.why else ""
            raise HostUnreachableError(
                f"host {host.name} of {name} does not answer{why}, and that is where it would be"
                " noted; see: guestkeeper doctor"
            )
        domain = self._domain(host.name, name)
        if domain is None:
            raise NotNowError(
                f"{name} has no domain yet, in which that could be noted; how far it is:"
                f" guestkeeper explain {name}. To hold every guest: guestkeeper suspend --all"
            )
        if not domain.ours:
            raise NotNowError(
                f"domain {name} ({domain.uuid}) is not Guestkeeper's; to take it over: guestkeeper"
                f" adopt {name}"
            )
        return _Guest(status, domain)

    def _check_kept(self, guest: _Guest) -> None:
        """Raise ``NotNowError`` for a guest that is suspended, or has no usable document."""
        if guest.record.suspended:
            raise NotNowError(f"{guest.name} is suspended; first: guestkeeper resume {guest.name}")
        if self._fleet.suspended:
            raise NotNowError("every guest is suspended; first: guestkeeper resume --all")
        if guest.orphaned:
            raise NotNowError(
                f"the document of {guest.name} is gone or cannot be used, so it is left alone; put"
                " it back, or correct it: guestkeeper validate"
            )

    @staticmethod
    def _check_not_replacing(guest: _Guest, hint: str = "") -> None:
        ongoing = guest.record.replacement
        if ongoing is not None:
            hint = f", {hint}" if hint else ""
            raise NotNowError(
                f"a replacement of the system disk of {guest.name} is under way"
                f" ({ongoing.phase}){hint}; see: guestkeeper explain {guest.name}"
            )

    def _note(self, guest: _Guest, **changes: Any) -> None:
        self._record(guest.host, guest.name, **changes)
        self._queue(guest.name)


@contextmanager
def _state_dir() -> Iterator[None]:
    """Turn an ``OSError`` of writing to ``state_dir`` into ``PermanentError``."""
    try:
        yield
    except OSError as error:
        raise PermanentError(
            f"that cannot be noted in the settings' state_dir ({error}); it has to be writable",
            reason="StateDirUnusable",
        ) from error


def _deletion(domain: DomainView, policy: str, since: float | None) -> Deletion:
    disk = domain.config.disk(SYSTEM)
    volume = medium(disk) if disk is not None else ""
    return Deletion(domain.name, policy, since, volume)
