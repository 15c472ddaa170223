"""Operators' adoption requests: preview what taking over a domain would change, and adopt it.

The loop never adopts by itself: it reports ``NameConflict`` and leaves the domain alone. Adopting
is one step, done by the executor like every other; after it the loop finds a domain of ours.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import structlog

from controller.desired.catalog.snapshot import Snapshot
from controller.desired.effective import EffectiveGuest
from controller.errors import GuestkeeperError, HostUnreachableError, PermanentError
from controller.execution.executor import Executor, Ports, Subject
from controller.loop.look import volumes_there
from controller.observed.domain import DomainState
from controller.observed.guest import Observed
from controller.planning.adoption.adopt import AdoptionPlan, plan_adoption
from controller.planning.adoption.match import match
from controller.planning.plan import Policy
from controller.planning.wanted.domain import wanted_volumes

log = structlog.get_logger(__name__)


class Look(Protocol):
    """The part of ``loop.look.Look`` that is used here."""

    def at(self, guest: EffectiveGuest) -> Observed: ...


class AdoptionRequests:
    """Implements ``web.application.Adoptions``. Thread-safe.

    ``queue(name)`` is called for a guest that was adopted. Each method raises ``PermanentError``
    for a guest without a domain to adopt, and ``HostUnreachableError``.
    """

    def __init__(
        self,
        ports: Ports,
        look: Look,
        executor: Executor,
        snapshot: Callable[[], Snapshot],
        policy: Policy,
        queue: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ports = ports
        self._look = look
        self._executor = executor
        self._snapshot = snapshot
        self._policy = policy
        self._queue = queue
        self._clock = clock

    def preview(self, name: str) -> AdoptionPlan:
        """Plan the adoption of the guest's domain and what follows it, and change nothing.

        Looks inside the guest, which takes some seconds, where its guest agent is connected.
        """
        guest = self._guest(name)
        return self._planned(guest, self._observed(guest))

    def adopt(self, name: str, digest: str) -> AdoptionPlan:
        """Adopt the domain, running or not, without stopping it.

        ``digest`` is that of the plan that the operator was shown. Raises ``PermanentError`` where
        the plan now has another digest, and where there are problems.
        """
        guest = self._guest(name)
        observed = self._observed(guest)
        made = self._planned(guest, observed, inside=False)
        if made.step is None:
            raise PermanentError(
                f"domain {name} cannot be adopted: {'; '.join(made.problems)}",
                reason="AdoptionRefused",
            )
        if digest != made.digest:
            raise PermanentError(
                f"domain {name}, its document, or what adopting it would change, is another by now"
                f" than was shown; look again: guestkeeper adopt {name}",
                reason="AdoptionOutdated",
            )
        log.info("adopting", guest=name, host=guest.spec.host, uuid=made.domain.uuid)
        self._executor.execute(Subject(name, guest.spec.host, guest), observed, made.step)
        self._queue(name)
        return made

    def _guest(self, name: str) -> EffectiveGuest:
        snapshot = self._snapshot()
        problems = snapshot.document_problems(name)
        guest = snapshot.guests.get(name)
        if problems:
            raise PermanentError(
                f"the document of guest {name} has to be corrected first: {problems[0]}",
                reason="DocumentInvalid",
            )
        if guest is None or name in snapshot.held:
            raise PermanentError(
                f"no Guest document is named {name}; to have one written: guestkeeper export"
                f" {name}",
                reason="UnknownGuest",
            )
        return guest

    def _observed(self, guest: EffectiveGuest) -> Observed:
        """The observation of a guest whose domain is foreign; raises for every other guest."""
        observed = self._look.at(guest)
        host, domain = observed.host, observed.domain
        if not host.reachable:
            why = f" ({host.why})" if host.why else ""
            raise HostUnreachableError(f"host {host.name} is not reachable{why}")
        if observed.fleet.suspended:
            raise PermanentError(
                "everything is suspended: nothing is done to any domain until guestkeeper resume"
                " --all",
                reason="Suspended",
            )
        if domain is None:
            raise PermanentError(
                f"host {host.name} has no domain {guest.name} to adopt; the guest is made anew",
                reason="NothingToAdopt",
            )
        if domain.ours:
            raise PermanentError(
                f"domain {guest.name} on host {host.name} is Guestkeeper's already",
                reason="NothingToAdopt",
            )
        if domain.state is DomainState.UNKNOWN:
            raise HostUnreachableError(f"the state of domain {guest.name} is not known")
        return self._with_volumes(guest, observed)

    def _with_volumes(self, guest: EffectiveGuest, observed: Observed) -> Observed:
        """Add the volumes of the domain's disks, and those of disks that only the document has."""
        assert observed.domain is not None  # noqa: S101 - checked by the caller
        host, domain = observed.host, observed.domain
        hypervisor = self._ports.hypervisor
        places = [(disk.pool, disk.volume) for disk in domain.config.disks if disk.volume]
        volumes = volumes_there(hypervisor, host, places)
        adopted = match(guest, domain, host, volumes).adopted
        wanted = wanted_volumes(guest, host, adopted, self._policy.seed)
        volumes |= volumes_there(hypervisor, host, [one.place for one in wanted])
        return replace(observed, volumes=volumes)

    def _planned(
        self, guest: EffectiveGuest, observed: Observed, *, inside: bool = True
    ) -> AdoptionPlan:
        domain = observed.domain
        users = self._ports.hypervisor.file_users(observed.host.name)
        made = plan_adoption(guest, observed, self._clock(), self._policy, users)
        if made.step is None or domain is None or not domain.agent_connected or not inside:
            return made
        try:
            seen = self._ports.inside.look(guest, domain)
        except GuestkeeperError as error:
            # The plan that is shown says that differences inside are not known.
            log.info("inside was not seen", guest=guest.name, why=str(error))
            return made
        whole = replace(observed, inside=seen)
        shown = plan_adoption(guest, whole, self._clock(), self._policy, users)
        return replace(shown, digest=made.digest)
