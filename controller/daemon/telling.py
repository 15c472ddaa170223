"""What goes on, told: news for an operator into the journal, counts into the metrics."""

from controller.desired.effective import EffectiveGuest
from controller.execution.ports import Journal
from controller.loop.status import GuestStatus
from controller.observed.build import BuildRecord
from controller.observed.guest import Observed
from controller.planning import steps
from controller.planning.changes import all_inside_changes, config_changes
from controller.planning.conditions import ConditionType, Printable, Status
from controller.planning.steps import Step
from controller.telemetry.metrics import Metrics


class Telling:
    """Its methods are the callbacks of the status store and the executor; any thread calls them."""

    def __init__(self, journal: Journal, metrics: Metrics) -> None:
        self._journal = journal
        self._metrics = metrics
        self._creating: dict[str, float] = {}  # guest -> when it was first seen without a domain

    def on_status(self, old: GuestStatus | None, new: GuestStatus) -> None:
        """A guest became ready, or ceased to be."""
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
        elif before is not None:  # a new guest is not ready yet, and that is no news
            message = ready.message or new.plan.sentence
            self._journal.record(new.name, ready.reason, message, warning=True)

    def _special(self, old: GuestStatus | None, new: GuestStatus) -> None:
        """It began to wait between starts, or its document vanished."""
        was = old.plan.printable if old is not None else None
        if new.plan.printable is Printable.CRASH_LOOP and was is not Printable.CRASH_LOOP:
            self._journal.record(new.name, "CrashLoopBackOff", new.plan.sentence, warning=True)
        orphaned = new.plan.is_true(ConditionType.ORPHANED)
        if orphaned and old is not None and not old.plan.is_true(ConditionType.ORPHANED):
            self._journal.record(new.name, "DocumentVanished", new.plan.sentence, warning=True)

    def on_drop(self, name: str) -> None:
        """Nothing is left of a guest."""
        self._creating.pop(name, None)
        self._metrics.forget_guest(name)

    def on_built(self, image: str, host: str, seconds: float) -> None:
        """An unattended install ended in a base."""
        self._metrics.image_built(image, host, seconds)
        message = f"built on host {host} in {seconds:.0f} s"
        self._journal.record(f"image/{image}", "ImageBuilt", message)

    def on_build_failed(self, image: str, host: str, record: BuildRecord) -> None:
        """An attempt to install an image failed."""
        self._metrics.image_build_failed(image, host, record.reason)
        message = f"attempt {record.attempt} on host {host}: {record.message}"
        self._journal.record(f"image/{image}", record.reason, message, warning=True)

    def on_collected(self, volume: str, host: str) -> None:
        """A base that nobody used was deleted."""
        self._journal.record("", "BaseCollected", f"deleted {volume} on host {host}: unused")

    def on_step(self, guest: EffectiveGuest, observed: Observed, step: Step, done: bool) -> None:
        """Restarts, failed starts, applies, drift."""
        domain = observed.domain
        match step:
            case steps.StartDomain() if not done:
                self._metrics.guest_start_failed(guest.name)
            case steps.StartDomain() if domain is not None:
                self._metrics.guest_restarted(guest.name, domain.reason.value)
            case steps.ApplyInside(services=services):
                for service in services:
                    self._metrics.service_applied(guest.name, service, ok=done)
            case _:
                pass
        if done:
            for field in _drift(guest, observed, step):
                self._metrics.drift_found(guest.name, field)


def _drift(guest: EffectiveGuest, observed: Observed, step: Step) -> list[str]:
    """Fields that were mended and that no change of a document explains."""
    domain = observed.domain
    if domain is None or domain.ownership is None or domain.ownership.digest != guest.digest:
        return []
    if isinstance(step, steps.DefineDomain):
        return [change.path for change in config_changes(domain.config, step.config)]
    if isinstance(step, steps.ApplyInside) and observed.inside is not None:
        return [change.path for change in all_inside_changes(guest, observed.inside)]
    return []
