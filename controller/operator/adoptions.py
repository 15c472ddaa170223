"""Adoption as an operator asks for it: what taking over a domain would change, and doing it.

The loop never adopts by itself: it tells ``NameConflict`` and leaves the domain alone. What is done
here is one step, through the executor as every other; then the loop finds a domain of ours.
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
    """The part of ``loop.look.Look`` that is used."""

    def at(self, guest: EffectiveGuest) -> Observed: ...


class AdoptionRequests:
    """Satisfies ``web.application.Adoptions``. Safe to use from many threads.

    ``queue`` is told the guest that was adopted. Each method raises ``PermanentError`` for a guest
    that has no domain to adopt, and ``HostUnreachableError``.
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
        """What adopting the guest's domain would take and lead to. Changes nothing; where the
        domain's guest agent answers, its inside is looked at, which takes some seconds.
        """
        guest = self._guest(name)
        return self._planned(guest, self._observed(guest))

    def adopt(self, name: str, digest: str) -> AdoptionPlan:
        """Takes the domain over, running or not, without stopping it.

        ``digest`` is that of the plan that somebody was shown. Raises ``PermanentError`` where it
        is another one now, and where there are problems.
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
        """Of a guest whose name a foreign domain has; raises for every other."""
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
        """The volumes of its disks, and those that the document's further disks would be on."""
        assert observed.domain is not None  # noqa: S101 - the caller saw to it
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
            # What differs inside is not known then, and the plan that is shown says so.
            log.info("inside was not seen", guest=guest.name, why=str(error))
            return made
        whole = replace(observed, inside=seen)
        shown = plan_adoption(guest, whole, self._clock(), self._policy, users)
        return replace(shown, digest=made.digest)
