"""Reports changes of statuses, steps and image builds: events to the journal, counts to metrics."""

import time
from collections.abc import Callable

from controller.desired.effective import EffectiveGuest
from controller.execution.executor import Subject
from controller.execution.ports import Journal
from controller.loop.status import GuestStatus
from controller.observed.build import BuildRecord
from controller.observed.domain import DomainView, ReplacePhase, StateReason
from controller.observed.guest import Observed
from controller.planning import steps
from controller.planning.compare.changes import (
    all_inside_changes,
    config_changes,
    disk_path,
    nic_path,
)
from controller.planning.conditions import Condition, ConditionType, Printable, Status
from controller.planning.power.stopping import StopFor
from controller.planning.steps import Step
from controller.telemetry.metrics import Metrics


class Reporting:
    """Callbacks of the status store, the executor and image builds. Thread-safe."""

    def __init__(
        self, journal: Journal, metrics: Metrics, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._journal = journal
        self._metrics = metrics
        self._clock = clock
        self._creating: dict[str, float] = {}  # guest -> when it was first seen without a domain

    def on_status(self, old: GuestStatus | None, new: GuestStatus) -> None:
        """Report that a guest became ready or is no longer ready, and the other news of it."""
        if new.observed.host.reachable and new.observed.domain is None:
            self._creating.setdefault(new.name, new.updated_at)
        self._special(old, new)
        before = old.condition(ConditionType.READY) if old is not None else None
        found = new.condition(ConditionType.READY)
        if found is None or found[0].status is Status.UNKNOWN:
            return
        ready, _ = found
        if before is not None and before[0].status is ready.status:
            return
        if ready.status is Status.TRUE:
            began = self._creating.pop(new.name, None)
            if began is not None:
                self._metrics.phase_reached("Ready", new.updated_at - began)
            self._journal.record(new.name, "GuestReady", "it is ready")
        elif before is not None:  # that a new guest is not ready yet is no news
            message = ready.message or new.plan.sentence
            self._journal.record(new.name, ready.reason, message, warning=True)

    def _special(self, old: GuestStatus | None, new: GuestStatus) -> None:
        """Report a crash loop, a document that is gone, and what newly waits for an operator.

        Only the crash loop is reported for a guest's first status: after a restart of the daemon,
        a guest that was waiting before is no news.
        """
        was = old.plan.printable if old is not None else None
        if new.plan.printable is Printable.CRASH_LOOP and was is not Printable.CRASH_LOOP:
            self._journal.record(new.name, "CrashLoopBackOff", new.plan.sentence, warning=True)
        if old is None:
            return
        blocked = _began(old, new, ConditionType.ORPHANED, "DeletionBlocked")
        if blocked is not None:
            self._journal.record(new.name, "DeletionBlocked", blocked.message, warning=True)
        elif new.plan.is_true(ConditionType.ORPHANED) and not old.plan.is_true(
            ConditionType.ORPHANED
        ):
            self._journal.record(new.name, "DocumentVanished", new.plan.sentence, warning=True)
        required = _began(old, new, ConditionType.SYNCED, "ReplaceRequired")
        if required is not None:
            self._journal.record(new.name, "ReplaceRequired", required.message)
        failed = _began(old, new, ConditionType.SYNCED, "ReplaceFailed")
        if failed is not None:
            self._journal.record(new.name, "ReplaceFailed", failed.message, warning=True)
        staged = new.plan.condition(ConditionType.RESTART_REQUIRED)
        was_staged = old.plan.is_true(ConditionType.RESTART_REQUIRED)
        if staged is not None and staged.status is Status.TRUE and not was_staged:
            self._journal.record(new.name, "RestartRequired", staged.message)

    def on_drop(self, name: str) -> None:
        """Forget a guest of which nothing is left."""
        self._creating.pop(name, None)
        self._metrics.forget_guest(name)

    def on_built(self, image: str, host: str, seconds: float) -> None:
        """Report an unattended install that produced a base volume, ``seconds`` after its start."""
        self._metrics.image_built(image, host, seconds)
        message = f"built on host {host} in {seconds:.0f} s"
        self._journal.record(f"image/{image}", "ImageBuilt", message)

    def on_build_failed(self, image: str, host: str, record: BuildRecord) -> None:
        """Report a failed attempt to install an image."""
        self._metrics.image_build_failed(image, host, record.reason)
        message = f"attempt {record.attempt} on host {host}: {record.message}"
        self._journal.record(f"image/{image}", record.reason, message, warning=True)

    def on_collected(self, volume: str, host: str) -> None:
        """Report that an unused base volume was deleted."""
        self._journal.record("", "BaseCollected", f"deleted {volume} on host {host}: unused")

    def on_step(self, subject: Subject, observed: Observed, step: Step, done: bool) -> None:
        """Count restarts, failed starts, replacements, applies and drift."""
        domain = observed.domain
        match step:
            case steps.StartDomain() if not done:
                self._metrics.guest_start_failed(subject.name)
            case steps.StartDomain() if domain is not None:
                self._metrics.guest_restarted(subject.name, _why_started(domain))
            case steps.ApplyInside(services=services):
                for service in services:
                    self._metrics.service_applied(subject.name, service, ok=done)
            case _:
                pass
        if not done:
            return
        ended = _replacement_ended(domain, step)
        if ended is not None:
            result, since = ended
            self._metrics.guest_replaced(subject.name, result)
            if result != "cancelled":
                self._metrics.phase_reached("Replacing", max(0.0, self._clock() - since))
        if subject.guest is not None:
            for field in _drift(subject.guest, observed, step):
                self._metrics.drift_found(subject.name, field)


def _began(
    old: GuestStatus, new: GuestStatus, type: ConditionType, reason: str
) -> Condition | None:
    """The condition of ``new`` if it has this reason and ``old`` had not, else None."""
    before, found = old.plan.condition(type), new.plan.condition(type)
    if found is None or found.reason != reason:
        return None
    return found if before is None or before.reason != reason else None


def _why_started(domain: DomainView) -> str:
    """What the daemon stopped the domain for (restart, replace), else why it was off."""
    owner = domain.ownership
    stopped_for = owner.record.stop_for if owner is not None else ""
    orderly = domain.reason not in (StateReason.CRASHED, StateReason.FAILED, StateReason.PANICKED)
    if orderly and stopped_for in (StopFor.RESTART, StopFor.REPLACE):
        return stopped_for
    return domain.reason.value


def _replacement_ended(domain: DomainView | None, step: Step) -> tuple[str, float] | None:
    """The result of a replacement that ``step`` ended and when it began (epoch seconds), or None.

    The result is one of the metric's label values: cancelled, failed, rolled-back, success.
    """
    owner = domain.ownership if domain is not None else None
    ongoing = owner.record.replacement if owner is not None else None
    match step:
        case steps.UpdateRecord(changes=noted) | steps.DefineDomain(record=noted):
            changes = dict(noted)
            if ongoing is None or changes.get("replacement", ongoing) is not None:
                return None
        case _:
            return None
    swapped = isinstance(step, steps.DefineDomain) or ongoing.phase is not ReplacePhase.PREPARING
    if not swapped:
        return "cancelled", ongoing.since
    if changes.get("refused") == ongoing.to.base:
        return "failed", ongoing.since
    return "rolled-back" if ongoing.why == "rollback" else "success", ongoing.since


def _drift(guest: EffectiveGuest, observed: Observed, step: Step) -> list[str]:
    """The fields that ``step`` corrected and that no change of a document explains."""
    domain = observed.domain
    if domain is None or domain.ownership is None or domain.ownership.digest != guest.digest:
        return []
    match step:
        case steps.DefineDomain(marks=()):  # one with marks swaps the system disk
            return [change.path for change in config_changes(domain.config, step.config)]
        case steps.ApplyInside() if observed.inside is not None:
            return [change.path for change in all_inside_changes(guest, observed.inside)]
        case steps.SetAutostart():
            return ["autostart"]
        case _:
            return _live_drift(domain, step)


def _live_drift(domain: DomainView, step: Step) -> list[str]:
    """The fields that ``step`` corrected in the live XML and that were right in the definition."""
    begins: tuple[str, ...]
    match step:
        case steps.SetVcpus():
            begins = ("cpu.vcpus",)
        case steps.SetMemory():
            begins = ("memory.size",)
        case steps.SetTitle():
            begins = ("title", "description")
        case steps.SetIoTune(alias=alias):
            begins = (f"{disk_path(alias)}.ioTune",)
        case (
            steps.PlugDevice(alias=alias)
            | steps.UnplugDevice(alias=alias)
            | steps.UpdateDevice(alias=alias)
        ):
            begins = (nic_path(alias) if alias.startswith("nic-") else disk_path(alias),)
        case _:
            return []
    if domain.live is None:
        return []
    differs = config_changes(domain.live, domain.config)
    return [change.path for change in differs if change.path.startswith(begins)]
