"""Decides when a running guest is cold booted, for staged changes or on an operator's request."""

import hashlib
from dataclasses import dataclass

from controller.desired.effective import EffectiveGuest
from controller.observed.domain import DomainView, GuestRecord
from controller.planning.compare.changes import FieldChange
from controller.planning.power.maintenance_windows import window_now
from controller.planning.power.stopping import StopFor, asked_to_stop


@dataclass(frozen=True, slots=True)
class RestartDecision:
    """``why`` is a clause if a cold boot is due now, else ''; then ``waits`` says for what."""

    why: str = ""
    waits: str = ""
    recheck_at: float | None = None


def restart_key(changes: tuple[FieldChange, ...]) -> str:
    """A digest that identifies a set of staged changes."""
    text = "\n".join(f"{one.path}={one.new}" for one in changes)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def decide_restart(
    desired: EffectiveGuest,
    domain: DomainView,
    record: GuestRecord,
    staged: tuple[FieldChange, ...],
    now: float,
    since: float,
    ahead: float = 0.0,
) -> RestartDecision:
    """The decision for a running domain. ``staged`` are the changes that only a cold boot applies;
    ``since`` is as for ``asked_to_stop``, ``ahead`` as ``Observed.clock_ahead``.
    """
    if asked_to_stop(domain, record, StopFor.RESTART, since=since):
        return RestartDecision("it is on its way down for a cold boot")
    if record.restart_requested is not None:
        return RestartDecision("an operator asked for a cold boot")
    if not staged:
        return RestartDecision()
    again = f"guestkeeper restart {desired.name}"
    policy = desired.spec.update_policy
    if policy.restart != "Automatic":
        return RestartDecision(waits=f"to apply it: {again}")
    if record.restarted_for == restart_key(staged):
        return RestartDecision(
            waits=f"a cold boot did not apply it, so it is not booted again; to try: {again}"
        )
    window = window_now(policy.maintenance_windows, now, ahead)
    if not window.open:
        return RestartDecision(
            waits=f"it waits for its maintenance window; at once: {again}",
            recheck_at=window.changes_at,
        )
    if domain.running_job:
        waits = "it waits for a job of its domain (backup, migration)"
        return RestartDecision(waits=waits, recheck_at=now + 15)
    return RestartDecision("updatePolicy.restart is Automatic")
