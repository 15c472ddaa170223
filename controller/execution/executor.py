"""Executes steps: one function per step, the only code with side effects on hosts and guests.

Each function is idempotent and small, because the planner has already decided everything. Long
steps run in ``Operations`` and leave their result in ``Knowledge``.

Longer than other modules on purpose: a few lines for each kind of step, in one place.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import structlog

from controller.desired.effective import EffectiveGuest
from controller.errors import (
    AgentUnavailableError,
    GuestkeeperError,
    HostBusyError,
    HostUnreachableError,
    PermanentError,
)
from controller.execution.in_use import InUse
from controller.execution.knowledge import Knowledge
from controller.execution.newer_requests import unless_requested_since
from controller.execution.operations import Operations
from controller.execution.ports import Hypervisor, Images, Inside, Journal, Prober
from controller.execution.power import Note, Power
from controller.guest_access.inside import ApplyFailedError
from controller.lanes import Lane, lane_of_guest
from controller.observed.domain import DomainView, Ownership
from controller.observed.guest import Observed
from controller.planning import steps
from controller.planning.compare.changes import all_inside_changes
from controller.planning.repetition import FREE, content_of
from controller.planning.steps import Step, step_name

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Ports:
    """The adapters through which the executor acts on hosts and guests."""

    hypervisor: Hypervisor
    inside: Inside
    images: Images
    prober: Prober
    journal: Journal


@dataclass(frozen=True, slots=True)
class Subject:
    """The guest that a step is for. ``guest`` is None if its document was never read."""

    name: str
    host: str
    guest: EffectiveGuest | None = None

    @property
    def digest(self) -> str:
        return self.guest.digest if self.guest is not None else ""


StepHook = Callable[[Subject, Observed, Step, bool], None]
"""Called for metrics with (subject, observation before the step, step, whether it succeeded)."""
UNPLUG_TIMEOUT = 60.0
"""Seconds that a guest gets to release a device that is unplugged."""
_NO_ANSWER = frozenset({AgentUnavailableError.reason, HostBusyError.reason, "DeadlineExceeded"})
"""Failure reasons after which a guest's next long action waits in the lane of silent guests."""


def image_key(host: str, pool: str, image: str) -> str:
    """The key in ``Operations`` of an image in a pool; no guest's name has a ':'."""
    return f"image:{host}:{pool}:{image}"


class Executor:
    """``execute`` runs one step. Errors of short steps are raised; those of long steps are kept in
    ``Knowledge``.
    """

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
        self._in_use = InUse(ports.hypervisor)
        self._power = Power(ports.hypervisor, clock)
        self._writing: dict[str, threading.Lock] = {}

    def execute(self, subject: Subject, observed: Observed, step: Step) -> None:
        """Executes ``step``, or starts it in the background if it is a long one."""
        match step:
            case steps.PrepareImage():
                self._prepare_image(subject, observed, step)
            case steps.LookInside() | steps.ApplyInside() | steps.UnplugDevice():
                self._operations.start(
                    subject.name,
                    step_name(step),
                    lambda: self._run_long(subject, observed, step),
                    self._lane_of(subject),
                )
            case _:
                self._short(subject, observed, step)

    def record(self, host: str, name: str, **changes: Any) -> None:
        """Changes the given fields of the guest's record in its domain's metadata, and no others.
        For the operator's commands; safe while the loop works on the same guest.

        Raises ``PermanentError(reason="DomainGone")``, and what the host's calls raise.
        """
        self._write_down(
            host, name, lambda owner: replace(owner, record=replace(owner.record, **changes))
        )
        self._knowledge.begins_anew(name)

    # --- short steps ------------------------------------------------------------------------------

    def _short(self, subject: Subject, observed: Observed, step: Step) -> None:
        name = step_name(step)
        log.info("executing step", guest=subject.name, step=name, what=str(step))
        try:
            said = self._effect(subject, observed, step)
        except (HostUnreachableError, HostBusyError) as error:  # not a failure of the step
            if error.reason == "DeadlineExceeded":  # the step may have been done
                self._did(subject, observed, step)
            raise
        except GuestkeeperError as error:
            self._told_failure(subject, observed, step, error)
            raise
        self._knowledge.succeeded(subject.name, name)
        if not isinstance(step, steps.StartDomain):  # the guest's record counts starts
            self._did(subject, observed, step)
        self._on_step(subject, observed, step, True)
        if said is not None:
            reason, message = said
            log.info("step done", guest=subject.name, host=subject.host, step=name, reason=reason)
            self._ports.journal.record(subject.name, reason, message)

    def _effect(self, subject: Subject, observed: Observed, step: Step) -> tuple[str, str] | None:
        """Runs a short step; returns reason and message of its journal event, None for no event."""
        host, name, world = subject.host, subject.name, self._ports.hypervisor
        match step:
            case steps.CreateVolume():
                world.create_volume(
                    host, step.pool, step.volume, capacity=step.capacity, backing=step.backing
                )
                return "VolumeCreated", f"volume {step.pool}/{step.volume}"
            case steps.CreateSeed():
                self._create_seed(_guest_of(subject), step)
                return "SeedCreated", f"cloud-init seed {step.pool}/{step.volume}"
            case steps.EjectSeed():
                world.eject(host, name, step.alias)
                return None
            case steps.DeleteSeed():
                world.delete_volume(host, step.pool, step.volume)
                return "SeedRemoved", f"cloud-init seed {step.pool}/{step.volume} was used"
            case steps.DeleteVolume():
                self._in_use.check(host, name, step.pool, step.volume)
                world.delete_volume(host, step.pool, step.volume)
                return "VolumeDeleted", f"volume {step.pool}/{step.volume}: {step.why}"
            case steps.DefineDomain():
                self._define(host, name, observed, step)
                why = f": {step.why}" if step.why else ""
                return "DomainDefined", f"domain {step.config.name} ({step.config.uuid}){why}"
            case steps.AdoptDomain():
                world.adopt(host, step.uuid, step.ownership, dict(step.aliases), step.disks)
                return "DomainAdopted", f"took over domain {name} ({step.uuid})"
            case steps.UndefineDomain():
                world.undefine(host, name)
                return "DomainUndefined", "its domain is gone; its data disks are kept"
            case steps.DeleteRetired():
                self._delete_retired(host, name, step)
                disk = step.retired.disk
                return "VolumeDeleted", f"volume {disk.pool}/{disk.volume}: {step.why}"
            case steps.UpdateRecord():
                self._noting(subject, observed)(step.changes)
                return None
            case steps.RecordApplied():
                self._write_down(
                    host,
                    name,
                    lambda owner: replace(
                        owner, generation=step.generation, digest=step.digest, spec=step.spec
                    ),
                )
                return "SpecApplied", f"generation {step.generation} is applied whole"
            case steps.StartDomain():
                self._power.start(host, name, step, self._noting(subject, observed))
                return "DomainStarted", f"started: {step.why}"
            case steps.ShutdownDomain():
                self._power.shutdown(host, name, step, self._noting(subject, observed))
                return "ShutdownRequested", "asked the guest to shut down"
            case steps.DestroyDomain():
                self._power.destroy(host, name, observed.domain.run if observed.domain else None)
                return "DomainDestroyed", f"powered off: {step.why}"
            case _:
                return self._change_live(host, name, observed, step)

    def _change_live(
        self, host: str, name: str, observed: Observed, step: Step
    ) -> tuple[str, str] | None:
        """Runs a step that changes a running domain; the hypervisor adapter verifies the change."""
        world = self._ports.hypervisor
        match step:
            case steps.SetVcpus():
                world.set_vcpus(host, name, step.count)
            case steps.SetMemory():
                world.set_memory(host, name, step.size)
            case steps.PlugDevice():
                world.plug(host, name, step.alias)
            case steps.UpdateDevice():
                world.update_device(host, name, step.alias)
            case steps.SetIoTune():
                world.set_io_tune(host, name, step.alias)
            case steps.SetTitle():
                world.set_title(host, name, step.title, step.description)
            case steps.SetAutostart():
                world.set_autostart(host, name, step.on)
            case steps.GrowDisk():
                domain = _owned(observed)
                if domain.live is not None and any(
                    disk.alias == step.alias for disk in domain.live.disks
                ):
                    world.grow_disk(host, name, step.alias, step.size)
                else:
                    world.grow_volume(host, step.pool, step.volume, step.size)
                self._knowledge.forget_sizes(name)
            case _:
                raise PermanentError(f"no effect is known for step {step_name(step)}")
        return "DomainChanged", str(step)

    def _noting(self, subject: Subject, observed: Observed) -> Note:
        """Returns a function that writes fields of the record, except those in which an operator
        made a request after the plan was made.
        """

        def note(changes: tuple[tuple[str, Any], ...]) -> None:
            change = unless_requested_since(observed, changes)
            self._write_down(
                subject.host,
                subject.name,
                lambda owner: replace(owner, record=change(owner.record)),
            )

        return note

    def _delete_retired(self, host: str, name: str, step: steps.DeleteRetired) -> None:
        world, disk = self._ports.hypervisor, step.retired.disk
        self._in_use.check(host, name, disk.pool, disk.volume)
        world.delete_volume(host, disk.pool, disk.volume)

        def struck(owner: Ownership) -> Ownership:
            rest = tuple(one for one in owner.record.retired if one != step.retired)
            return replace(owner, record=replace(owner.record, retired=rest))

        self._write_down(host, name, struck)

    def _define(self, host: str, name: str, observed: Observed, step: steps.DefineDomain) -> None:
        if step.new:
            self._ports.hypervisor.define(host, step.config, step.ownership)
            return
        with self._lock_of(name):
            owner = self._owner(host, name)
            record = unless_requested_since(observed, step.record)(owner.record)
            owner = replace(owner, record=record, **dict(step.marks))
            self._ports.hypervisor.define(host, step.config, owner)

    def _create_seed(self, guest: EffectiveGuest, step: steps.CreateSeed) -> None:
        self._ports.images.seed(
            guest.spec.host,
            step.pool,
            step.volume,
            instance_id=step.instance_id,
            hostname=guest.hostname,
            keys=self._ports.inside.authorized_keys(guest),
        )

    def _write_down(self, host: str, name: str, change: Callable[[Ownership], Ownership]) -> None:
        """Applies ``change`` to the metadata as it is now; others may have changed it meanwhile."""
        with self._lock_of(name):
            owner = change(self._owner(host, name))
            self._ports.hypervisor.set_ownership(host, name, owner)

    def _owner(self, host: str, name: str) -> Ownership:
        domain = self._ports.hypervisor.domain(host, name)
        if domain is None or domain.ownership is None:
            raise PermanentError(f"domain {name} is gone", reason="DomainGone")
        return domain.ownership

    def _lock_of(self, name: str) -> threading.Lock:
        """The guest's own lock: a shared one would be blocked by a guest whose host hangs."""
        return self._writing.setdefault(name, threading.Lock())

    # --- long steps -------------------------------------------------------------------------------

    def _prepare_image(
        self, subject: Subject, observed: Observed, step: steps.PrepareImage
    ) -> None:
        guest = _guest_of(subject)
        key = image_key(subject.host, step.pool, step.image)

        def action() -> None:
            try:
                self._ports.images.prepare(subject.host, step.pool, guest.image)
            except GuestkeeperError as error:  # ``images`` keeps it, with the time of the retry
                self._told_failure(subject, observed, step, error)
                return
            self._on_step(subject, observed, step, True)
            if guest.image.install is None:  # an install has only begun, and reports its own end
                self._ports.journal.record(
                    guest.name, "ImagePrepared", f"image {step.image} is in pool {step.pool}"
                )

        self._operations.start(key, step_name(step), action, Lane(subject.host, "images"))

    def _lane_of(self, subject: Subject) -> Lane:
        failure = self._knowledge.failure(subject.name)
        silent = failure is not None and failure.reason in _NO_ANSWER
        return lane_of_guest(subject.host, silent=silent)

    def _run_long(
        self,
        subject: Subject,
        observed: Observed,
        step: steps.LookInside | steps.ApplyInside | steps.UnplugDevice,
    ) -> None:
        name = step_name(step)
        log.info("executing step", guest=subject.name, step=name, what=str(step))
        try:
            self._long_effect(subject, observed, step)
        except (HostUnreachableError, HostBusyError, AgentUnavailableError) as error:
            log.info("step had no answer", guest=subject.name, step=name, why=str(error))
            self._knowledge.failed(subject.name, name, error, subject.digest, self._clock())
        except GuestkeeperError as error:
            self._knowledge.failed(subject.name, name, error, subject.digest, self._clock())
            self._told_failure(subject, observed, step, error)
        except Exception as error:
            # A bug: ``Operations`` counts it, and the step is retried with growing pauses.
            bug = PermanentError(f"unexpected {error!r}; please report it", reason="InternalError")
            self._knowledge.failed(subject.name, name, bug, subject.digest, self._clock())
            raise
        else:
            self._knowledge.succeeded(subject.name, name)
            self._did(subject, observed, step)
            self._on_step(subject, observed, step, True)

    def _long_effect(
        self,
        subject: Subject,
        observed: Observed,
        step: steps.LookInside | steps.ApplyInside | steps.UnplugDevice,
    ) -> None:
        domain = _owned(observed)
        match step:
            case steps.UnplugDevice():
                self._ports.hypervisor.unplug(
                    subject.host, subject.name, step.alias, UNPLUG_TIMEOUT
                )
                self._ports.journal.record(subject.name, "DomainChanged", str(step))
            case steps.LookInside():
                guest = _guest_of(subject)
                self._knowledge.learnt(guest.name, self._ports.inside.look(guest, domain))
            case steps.ApplyInside():
                self._apply(_guest_of(subject), domain, step)

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

    def _did(self, subject: Subject, observed: Observed, step: Step) -> None:
        content = content_of(step, observed.domain)
        if content is not None:
            times = self._knowledge.did(subject.name, subject.digest, content, self._clock())
            if times > FREE:
                log.warning(
                    "step was needed again", guest=subject.name, what=str(step), times=times
                )

    def _told_failure(
        self, subject: Subject, observed: Observed, step: Step, error: GuestkeeperError
    ) -> None:
        name = step_name(step)
        log.warning(
            "step failed", guest=subject.name, step=name, reason=error.reason, error=str(error)
        )
        self._on_step(subject, observed, step, False)
        self._ports.journal.record(subject.name, error.reason, f"{name}: {error}", warning=True)


def _owned(observed: Observed) -> DomainView:
    if observed.domain is None or observed.domain.ownership is None:
        raise PermanentError("the domain is gone", reason="DomainGone")
    return observed.domain


def _guest_of(subject: Subject) -> EffectiveGuest:
    if subject.guest is None:
        raise PermanentError(f"guest {subject.name} has no document", reason="DocumentVanished")
    return subject.guest
