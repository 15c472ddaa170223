"""Decides when to look inside a guest and when to apply its services' configuration."""

from dataclasses import dataclass, replace

from controller.desired.effective import EffectiveGuest
from controller.observed.domain import DomainView
from controller.observed.guest import Failure, Observed
from controller.observed.health import ProbeStatus
from controller.observed.inside import InsideView
from controller.planning.compare.changes import (
    FieldChange,
    all_inside_changes,
    covers,
    inside_changes,
)
from controller.planning.steps import NOTHING_KNOWN, ApplyInside, LookInside

CLOUD_INIT_BUSY = "running"
CLOUD_INIT_POLL = 5.0
"""Seconds between looks while cloud-init is still at work."""


@dataclass(frozen=True, slots=True)
class InsidePlan:
    """``known`` is the last look inside, if still valid; ``changes`` are the differences in it.

    ``refused``: the agent answers but refuses to act, and why.
    """

    step: LookInside | ApplyInside | None
    known: InsideView | None
    changes: tuple[FieldChange, ...]
    recheck_at: float | None
    personalising: bool = False
    refused: Failure | None = None


FROZEN = "FilesystemsFrozen"
_REFUSALS = (FROZEN, "GuestExecDisabled", "AgentRestarted")
"""Reasons that are reported as such, because neither the guest nor its services failed."""


def refusal(guest: EffectiveGuest, observed: Observed) -> Failure | None:
    """The agent's last refusal for this spec; None if there is none or a step succeeded since."""
    failure = observed.failure
    if failure is None or failure.reason not in _REFUSALS or failure.digest != guest.digest:
        return None
    return failure


def frozen_until(guest: EffectiveGuest, observed: Observed, now: float) -> float | None:
    """When (epoch seconds) to check again whether a backup or snapshot still freezes the guest's
    file systems; None if they are not known to be frozen. The guest is left alone until then.
    """
    failure = refusal(guest, observed)
    if failure is None or failure.reason != FROZEN or now >= failure.retry_at:
        return None
    return failure.retry_at


def wants_inside(guest: EffectiveGuest) -> bool:
    """True if the document configures anything inside the guest: services, SSH keys, hostname."""
    spec = guest.spec
    return bool(guest.services or spec.ssh_authorized_keys_from or spec.hostname)


def plan_inside(
    guest: EffectiveGuest, observed: Observed, domain: DomainView, now: float
) -> InsidePlan:
    """Plans a look inside, then at most one apply; a failed step is retried when due."""
    made = _planned(guest, observed, domain, now)
    return replace(made, refused=refusal(guest, observed)) if domain.agent_connected else made


def _planned(
    guest: EffectiveGuest, observed: Observed, domain: DomainView, now: float
) -> InsidePlan:
    known = observed.inside
    if known is not None and _older_than_boot(known, domain):
        known = None
    if not domain.agent_connected:
        return InsidePlan(None, known, _flat(guest, known), None)
    if known is not None and known.cloud_init == CLOUD_INIT_BUSY:
        due = known.looked_at + CLOUD_INIT_POLL
        look = LookInside("cloud-init is at work") if now >= due else None
        return InsidePlan(_held(look, observed, guest, now), known, (), due, personalising=True)

    if known is None and _never_applied(guest, observed, domain):
        # An apply begins and ends with a look, so another one before it is not needed.
        every = ApplyInside(tuple(service.name for service in guest.services), identity=True)
        return InsidePlan(_held(every, observed, guest, now), None, (), None)
    why = _why_look(guest, observed, known, now)
    if known is None or why:
        look = LookInside(why or NOTHING_KNOWN)
        step = _held(look, observed, guest, now)
        return InsidePlan(step, known, _flat(guest, known), _retry_at(observed, guest, step))

    found = inside_changes(guest, known)
    changes = tuple(change for group in found.values() for change in group)
    if not found:
        return InsidePlan(None, known, (), known.looked_at + guest.spec.drift_interval)
    apply = ApplyInside(tuple(name for name in found if name), identity="" in found)
    step = _held(apply, observed, guest, now)
    return InsidePlan(step, known, changes, _retry_at(observed, guest, step))


def _never_applied(guest: EffectiveGuest, observed: Observed, domain: DomainView) -> bool:
    """True if the disk is new, from an image of ours, and cloud-init does not configure it."""
    owner = domain.ownership
    return (
        owner is not None
        and owner.digest == ""
        and owner.base != ""
        and not guest.image.spec.cloud_init
        and observed.failure is None
        and wants_inside(guest)
    )


def _older_than_boot(known: InsideView, domain: DomainView) -> bool:
    return domain.started_at is not None and known.looked_at < domain.started_at


def _flat(guest: EffectiveGuest, known: InsideView | None) -> tuple[FieldChange, ...]:
    return all_inside_changes(guest, known) if known is not None else ()


def _why_look(
    guest: EffectiveGuest, observed: Observed, known: InsideView | None, now: float
) -> str:
    if known is None:
        return NOTHING_KNOWN
    if not covers(guest, known):
        return "the services name things not looked at yet"
    if now >= known.looked_at + guest.spec.drift_interval:
        return "the drift interval is over"
    for view in observed.probes.values():
        if view.status is ProbeStatus.FAILURE and view.since > known.looked_at:
            return f"probe {view.service}/{view.probe} began to fail"
    return ""


def _held(
    step: LookInside | ApplyInside | None, observed: Observed, guest: EffectiveGuest, now: float
) -> LookInside | ApplyInside | None:
    """``step``; None while another long action runs or a failed one waits for its retry."""
    if step is None or observed.operation is not None:
        return None
    failure = observed.failure
    if (
        failure is not None
        and failure.step in ("LookInside", "ApplyInside")
        and failure.digest == guest.digest
        and now < failure.retry_at
    ):
        return None
    return step


def _retry_at(observed: Observed, guest: EffectiveGuest, step: object) -> float | None:
    failure = observed.failure
    if step is None and failure is not None and failure.digest == guest.digest:
        return failure.retry_at
    return None
