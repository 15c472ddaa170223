"""Decides when a guest is stopped for changes that are impossible on a running domain, and what
they wait for.

A cold boot for staged changes or on request; another system disk for another image or a rollback.
At most one of them at a time, and nothing while something milder is still to be done.
"""

from dataclasses import dataclass, replace

from controller.desired.effective import EffectiveGuest
from controller.observed.domain import DomainState, DomainView, GuestRecord
from controller.observed.guest import Observed
from controller.observed.image import ImageState
from controller.planning.compare.image import Outdated, image_state
from controller.planning.differences import Pending
from controller.planning.host.trouble import spoiled
from controller.planning.inside.schedule import FROZEN, frozen_until
from controller.planning.plan import Policy, earliest
from controller.planning.power.maintenance_windows import window_now
from controller.planning.power.restarting import decide_restart, restart_key
from controller.planning.power.startable import LOOK_AGAIN, no_comeback
from controller.planning.power.stopping import StopFor, asked_to_stop, stop
from controller.planning.replacement.system_disks import (
    begin,
    begin_rollback,
    bound_disk,
    too_small,
)
from controller.planning.steps import Step, update_record
from controller.planning.wanted.domain import SYSTEM


@dataclass(frozen=True, slots=True)
class ChangeDecision:
    """``reason`` and ``message`` are for a false ``Synced`` condition; '' if nothing waits.

    ``waits`` says what a staged change waits for; ``replace_to`` is the base that waits for an
    operator's approval.
    """

    steps: tuple[Step, ...] = ()
    reason: str = ""
    message: str = ""
    waits: str = ""
    replace_to: str = ""
    recheck_at: float | None = None


def decide_change(
    desired: EffectiveGuest,
    observed: Observed,
    domain: DomainView,
    record: GuestRecord,
    todo: Pending,
    now: float,
    policy: Policy,
) -> ChangeDecision:
    """The decision for a domain that runs or is off. Nothing is begun while a long action runs or a
    replacement is under way; differences are reported all the same.
    """
    decided = _decide(desired, observed, domain, record, todo, now, policy)
    busy = record.replacement is not None or observed.operation is not None
    frozen = frozen_until(desired, observed, now)
    if frozen is not None and domain.live is not None and decided.steps:
        message = f"{decided.message}; it waits while its file systems are frozen, as by a backup"
        return ChangeDecision((), FROZEN, message, message, "", frozen)
    return replace(decided, steps=()) if busy else decided


def _decide(
    desired: EffectiveGuest,
    observed: Observed,
    domain: DomainView,
    record: GuestRecord,
    todo: Pending,
    now: float,
    policy: Policy,
) -> ChangeDecision:
    if SYSTEM in todo.moved:
        # The disk to go back to would be somebody's snapshot, which has to be merged first.
        return _restart(desired, observed, domain, record, todo, now, policy.daemon_started)
    bound = bound_disk(domain)
    if record.rollback and record.replacement is None:
        if bound:
            return ChangeDecision((update_record(rollback=False),), "ChangeRefused", bound)
        began = begin_rollback(domain, record, now)
        return ChangeDecision((began,), "Replacing", "an operator wants its last system disk back")
    replacing = ChangeDecision()
    if todo.outdated is not None:
        replacing = _replace(desired, observed, domain, record, todo.outdated, now)
    since = policy.daemon_started
    if replacing.steps and not asked_to_stop(domain, record, StopFor.RESTART, since=since):
        return replacing  # includes a cold boot
    restart = _restart(desired, observed, domain, record, todo, now, since)
    if restart.steps or todo.outdated is None:
        return restart
    # Both wait; the replacement is more important to report.
    return replace(
        replacing,
        steps=(),
        waits=restart.waits,
        recheck_at=earliest(restart.recheck_at, replacing.recheck_at),
    )


def _restart(
    desired: EffectiveGuest,
    observed: Observed,
    domain: DomainView,
    record: GuestRecord,
    todo: Pending,
    now: float,
    since: float,
) -> ChangeDecision:
    if domain.state not in (DomainState.RUNNING, DomainState.BLOCKED):
        return ChangeDecision()
    ahead = observed.clock_ahead
    decided = decide_restart(desired, domain, record, todo.restart, now, since, ahead)
    paths = ", ".join(dict.fromkeys(change.path for change in todo.restart))
    message = f"takes effect with the next cold boot: {paths}"
    if decided.waits:
        message = f"{message}; {decided.waits}"
    reason = "RestartRequired" if todo.restart else ""
    if not decided.why:
        return ChangeDecision(
            (), reason, message if reason else "", decided.waits, "", decided.recheck_at
        )
    asked = asked_to_stop(domain, record, StopFor.RESTART, since=since)
    held = "" if asked else no_comeback(observed, domain)
    if held:
        waits = f"it waits, for it would not start again: {held}"
        told = f"{message if reason else decided.why}; {waits}"
        return ChangeDecision((), reason or "RestartRequired", told, waits, "", now + LOOK_AGAIN)
    timeout = desired.spec.shutdown_timeout
    halting = stop(
        domain,
        record,
        StopFor.RESTART,
        timeout=timeout,
        now=now,
        since=since,
        failure=observed.failure,
        key=restart_key(todo.restart) if todo.restart else "",
    )
    return ChangeDecision(
        halting.steps,
        "Restarting",
        f"{decided.why}; {halting.message}",
        halting.message,
        "",
        halting.recheck_at,
    )


def _replace(
    desired: EffectiveGuest,
    observed: Observed,
    domain: DomainView,
    record: GuestRecord,
    old: Outdated,
    now: float,
) -> ChangeDecision:
    name, image = desired.name, observed.image
    what = "its system disk is of another content of its image"
    if any(change.path == "image" for change in old.changes):
        what = "its system disk is of another image"
    if not old.base or image is None or image.state is not ImageState.READY:
        return ChangeDecision((), "ImageOutdated", f"{what}; {image_state(desired, image)}")
    refused = too_small(desired, image) or bound_disk(domain)
    if refused:
        return ChangeDecision((), "ChangeRefused", refused)
    bad = spoiled(desired, image)
    if bad:
        return ChangeDecision((), "BaseChanged", f"{what}; {bad}", recheck_at=now + 60)
    approved = record.approved == old.base
    again = f"guestkeeper approve {name}"
    if record.refused == old.base and not approved:
        message = f"a disk of {old.base} was taken out again: {record.refused_why}; to try: {again}"
        return ChangeDecision((), "ReplaceFailed", message, replace_to=old.base)
    policy = desired.spec.update_policy
    if not approved and policy.replace != "Automatic":
        message = f"{what}; to have it replaced: {again}"
        return ChangeDecision((), "ReplaceRequired", message, replace_to=old.base)
    window = window_now(policy.maintenance_windows, now, observed.clock_ahead)
    if not window.open and not (approved and record.approved_now):
        message = (
            f"{what}; its replacement waits for the maintenance window; at once: {again} --now"
        )
        return ChangeDecision(
            (), "WindowClosed", message, replace_to=old.base, recheck_at=window.changes_at
        )
    if not approved and observed.fleet.hold:
        message = f"{what}; its replacement waits: {observed.fleet.hold}"
        return ChangeDecision((), "ReplaceHeld", message, replace_to=old.base, recheck_at=now + 15)
    if domain.running_job:
        message = f"{what}; its replacement waits for a job of its domain (backup, migration)"
        return ChangeDecision((), "ReplaceHeld", message, recheck_at=now + 15)
    began = begin(desired, domain, record, image, now)
    return ChangeDecision((began,), "Replacing", f"{what}; replacing it")
