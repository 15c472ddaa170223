"""Carries out steps: one function a step, the only code with side effects on the world.

Each function is idempotent and small, because the planner has decided everything: what it is given
is what it does. Long steps are handed to ``Operations`` and tell their end through ``Knowledge``.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from controller.desired.effective import EffectiveGuest
from controller.errors import (
    AgentUnavailableError,
    GuestkeeperError,
    HostBusyError,
    HostUnreachableError,
    PermanentError,
)
from controller.execution.knowledge import Knowledge
from controller.execution.operations import Operations
from controller.execution.ports import Hypervisor, Images, Inside, Journal, Prober
from controller.guest_access.inside import ApplyFailedError
from controller.observed.domain import DomainView, Ownership
from controller.observed.guest import Observed
from controller.planning import steps
from controller.planning.changes import all_inside_changes
from controller.planning.steps import Step, step_name

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Ports:
    """The world, as the executor reaches it."""

    hypervisor: Hypervisor
    inside: Inside
    images: Images
    prober: Prober
    journal: Journal


StepHook = Callable[[EffectiveGuest, Observed, Step, bool], None]
"""(guest, what was seen before, step, did it go well): for the metrics."""


def image_key(host: str, pool: str, image: str) -> str:
    """The operations' key of an image on a pool; ':' is in no guest's name."""
    return f"image:{host}:{pool}:{image}"


class Executor:
    """``execute`` runs one step; errors of short steps are raised, of long ones remembered."""

    def __init__(
        self,
        ports: Ports,
        knowledge: Knowledge,
        operations: Operations,
        *,
        clock: Callable[[], float] = time.time,
        on_step: StepHook = lambda *_: None,
    ) -> None:
        self._ports = ports
        self._knowledge = knowledge
        self._operations = operations
        self._clock = clock
        self._on_step = on_step

    def execute(self, guest: EffectiveGuest, observed: Observed, step: Step) -> None:
        """Carries out ``step``, or starts it where it is long."""
        match step:
            case steps.PrepareImage():
                self._prepare_image(guest, observed, step)
            case steps.LookInside() | steps.ApplyInside():
                self._start_inside(guest, observed, step)
            case _:
                self._short(guest, observed, step)

    # --- short steps ------------------------------------------------------------------------------

    def _short(self, guest: EffectiveGuest, observed: Observed, step: Step) -> None:
        name = step_name(step)
        log.info("executing step", guest=guest.name, step=name, what=str(step))
        try:
            said = self._effect(guest, step)
        except (HostUnreachableError, HostBusyError):  # nothing came of it, nothing to tell
            raise
        except GuestkeeperError as error:
            self._told_failure(guest, observed, step, error)
            raise
        self._knowledge.succeeded(guest.name, name)
        self._on_step(guest, observed, step, True)
        if said is not None:
            reason, message = said
            log.info("step done", guest=guest.name, host=guest.spec.host, step=name, reason=reason)
            self._ports.journal.record(guest.name, reason, message)

    def _effect(self, guest: EffectiveGuest, step: Step) -> tuple[str, str] | None:
        """The event's reason and message, where the step is worth one."""
        host, world = guest.spec.host, self._ports.hypervisor
        match step:
            case steps.CreateVolume():
                world.create_volume(
                    host, step.pool, step.volume, capacity=step.capacity, backing=step.backing
                )
                return "VolumeCreated", f"volume {step.pool}/{step.volume}"
            case steps.CreateSeed():
                self._create_seed(guest, step)
                return "SeedCreated", f"cloud-init seed {step.pool}/{step.volume}"
            case steps.EjectSeed():
                world.eject(host, guest.name, step.alias)
                return None
            case steps.DeleteSeed():
                world.delete_volume(host, step.pool, step.volume)
                return "SeedRemoved", f"cloud-init seed {step.pool}/{step.volume} was used"
            case steps.DefineDomain():
                world.define(host, step.config, step.ownership)
                return "DomainDefined", f"domain {step.config.name} ({step.config.uuid})"
            case steps.RecordMemory():
                self._write_down(guest, lambda owner: replace(owner, memory=step.memory))
                return None
            case steps.RecordApplied():
                self._write_down(
                    guest,
                    lambda owner: replace(
                        owner, generation=step.generation, digest=step.digest, spec=step.spec
                    ),
                )
                return "SpecApplied", f"generation {step.generation} is applied whole"
            case steps.StartDomain():
                world.start(host, guest.name)
                return "DomainStarted", f"started: {step.why}"
            case steps.ShutdownDomain():
                world.shutdown(host, guest.name)
                return "ShutdownRequested", "asked the guest to shut down"
            case steps.DestroyDomain():
                world.destroy(host, guest.name)
                return "DomainDestroyed", f"powered off: {step.why}"
            case _:
                raise PermanentError(f"no effect is known for step {step_name(step)}")

    def _create_seed(self, guest: EffectiveGuest, step: steps.CreateSeed) -> None:
        self._ports.images.seed(
            guest.spec.host,
            step.pool,
            step.volume,
            instance_id=step.instance_id,
            hostname=guest.hostname,
            keys=self._ports.inside.authorized_keys(guest),
        )

    def _write_down(self, guest: EffectiveGuest, change: Callable[[Ownership], Ownership]) -> None:
        """Changes what is there now: another step of the same plan may have written before."""
        domain = self._ports.hypervisor.domain(guest.spec.host, guest.name)
        if domain is None or domain.ownership is None:
            raise PermanentError(f"domain {guest.name} is gone", reason="DomainGone")
        self._ports.hypervisor.set_ownership(guest.spec.host, guest.name, change(domain.ownership))

    # --- long steps -------------------------------------------------------------------------------

    def _prepare_image(
        self, guest: EffectiveGuest, observed: Observed, step: steps.PrepareImage
    ) -> None:
        key = image_key(guest.spec.host, step.pool, step.image)

        def action() -> None:
            try:
                self._ports.images.prepare(guest.spec.host, step.pool, guest.image)
            except GuestkeeperError as error:  # remembered by images, with its next try
                self._told_failure(guest, observed, step, error)
                return
            self._on_step(guest, observed, step, True)
            if guest.image.install is None:  # an install has only begun, and tells its own end
                self._ports.journal.record(
                    guest.name, "ImagePrepared", f"image {step.image} is in pool {step.pool}"
                )

        self._operations.start(key, step_name(step), action)

    def _start_inside(
        self,
        guest: EffectiveGuest,
        observed: Observed,
        step: steps.LookInside | steps.ApplyInside,
    ) -> None:
        self._operations.start(
            guest.name, step_name(step), lambda: self._run_inside(guest, observed, step)
        )

    def _run_inside(
        self,
        guest: EffectiveGuest,
        observed: Observed,
        step: steps.LookInside | steps.ApplyInside,
    ) -> None:
        name = step_name(step)
        domain = _owned(observed)
        log.info("executing step", guest=guest.name, step=name, what=str(step))
        try:
            if isinstance(step, steps.LookInside):
                self._knowledge.learnt(guest.name, self._ports.inside.look(guest, domain))
            else:
                self._apply(guest, domain, step)
        except (HostUnreachableError, AgentUnavailableError) as error:
            log.info("step had no answer", guest=guest.name, step=name, why=str(error))
            self._knowledge.failed(guest.name, name, error, guest.digest, self._clock())
        except GuestkeeperError as error:
            self._knowledge.failed(guest.name, name, error, guest.digest, self._clock())
            self._told_failure(guest, observed, step, error)
        except Exception as error:
            # A bug; it is counted by the operations, and tried again with growing pauses only.
            bug = PermanentError(f"unexpected {error!r}; please report it", reason="InternalError")
            self._knowledge.failed(guest.name, name, bug, guest.digest, self._clock())
            raise
        else:
            self._knowledge.succeeded(guest.name, name)
            self._on_step(guest, observed, step, True)

    def _apply(self, guest: EffectiveGuest, domain: DomainView, step: steps.ApplyInside) -> None:
        wanted = [service for service in guest.services if service.name in step.services]
        try:
            view = self._ports.inside.apply(guest, domain, wanted)
        except ApplyFailedError as error:
            self._knowledge.learnt(guest.name, error.view)
            raise
        self._knowledge.learnt(guest.name, view)
        left = all_inside_changes(guest, view)
        if left:
            first = left[0]
            raise PermanentError(
                f"after the apply {first.path} is {first.old or 'missing'}, not {first.new};"
                " look at the service inside the guest",
                reason="ApplyIneffective",
            )
        what = ", ".join([*(["identity"] if step.identity else []), *step.services])
        self._ports.journal.record(guest.name, "ConfigurationApplied", f"applied {what}")

    def _told_failure(
        self,
        guest: EffectiveGuest,
        observed: Observed,
        step: Step,
        error: GuestkeeperError,
    ) -> None:
        name = step_name(step)
        log.warning(
            "step failed", guest=guest.name, step=name, reason=error.reason, error=str(error)
        )
        self._on_step(guest, observed, step, False)
        self._ports.journal.record(guest.name, error.reason, f"{name}: {error}", warning=True)


def _owned(observed: Observed) -> DomainView:
    if observed.domain is None or observed.domain.ownership is None:
        raise PermanentError("the domain is gone", reason="DomainGone")
    return observed.domain
