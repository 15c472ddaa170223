"""Plans the adoption of a foreign domain, without stopping it.

Once its devices are matched with the document's (``match``) and our mark is in its metadata, it is
a domain of ours, and the ordinary planner finds its differences. So the planner's result is what is
shown beforehand.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from controller.desired.effective import EffectiveGuest
from controller.observed.domain import DomainConfig, DomainView, GuestRecord, Ownership
from controller.observed.guest import Observed
from controller.planning.adoption.match import Adoption, match
from controller.planning.compare.changes import FieldChange, medium
from controller.planning.plan import Plan, Policy
from controller.planning.planner import plan
from controller.planning.steps import AdoptDomain
from controller.planning.wanted.domain import placed


@dataclass(frozen=True, slots=True)
class AdoptionPlan:
    """``step`` is None if the domain cannot be adopted: ``adoption.problems`` say why.

    ``after`` is the ordinary plan for the domain once it is ours.
    """

    desired: EffectiveGuest
    domain: DomainView
    adoption: Adoption
    step: AdoptDomain | None = None
    after: Plan | None = None
    inside_seen: bool = False
    """True if the changes include differences inside the guest."""
    digest: str = ""
    """Digest of the document, the definition, the matched devices, and the changes except those
    inside: if it differs, something else would be adopted than was shown."""

    @property
    def problems(self) -> tuple[str, ...]:
        return self.adoption.problems

    @property
    def changes(self) -> tuple[FieldChange, ...]:
        return self.after.changes if self.after is not None else ()


def plan_adoption(
    desired: EffectiveGuest,
    observed: Observed,
    now: float,
    policy: Policy,
    users: Mapping[str, Collection[str]] | None = None,
) -> AdoptionPlan:
    """The plan to adopt ``observed.domain``, a foreign one.

    ``observed.volumes`` are those of its disks, and those that the document's further disks would
    be on; ``users`` is as in ``match``. Raises ``ValueError`` if there is no domain.
    """
    if observed.domain is None:
        raise ValueError("there is no domain to adopt")
    domain = observed.domain
    if domain.ownership is not None:
        problem = _marked(domain.name, domain.ownership)
        return AdoptionPlan(desired, domain, Adoption((), (problem,), domain))
    adoption = match(desired, domain, observed.host, observed.volumes, users)
    if domain.running_job:
        busy = "a job (backup, migration, snapshot) runs on it; wait until it has ended"
        adoption = replace(adoption, problems=(busy, *adoption.problems))
    if adoption.problems:
        return AdoptionPlan(desired, domain, adoption)
    owner = Ownership(
        uid=domain.uuid,
        name=desired.name,
        generation=1,
        digest="",
        spec="",
        created=now,
        record=GuestRecord(
            controller=policy.controller,
            deletion_policy=desired.spec.deletion_policy,
            **placed(adoption.adopted.config),
        ),
    )
    adopted = replace(adoption.adopted, ownership=owner)
    after = plan(desired, replace(observed, domain=adopted), owner.record, now, policy)
    return AdoptionPlan(
        desired,
        domain,
        replace(adoption, adopted=adopted),
        AdoptDomain(domain.uuid, owner, adoption.aliases, _sources(domain.config)),
        after,
        inside_seen=observed.inside is not None,
        digest=_digest(desired.digest, domain.config, adoption.aliases, after.changes),
    )


def _sources(config: DomainConfig) -> tuple[tuple[str, str, str], ...]:
    """(target, pool, volume or path) of each disk, as the definition names them."""
    disks = (disk for disk in config.disks if disk.device == "disk")
    return tuple(
        (disk.target, "" if disk.path else disk.pool, disk.path or disk.volume or "")
        for disk in disks
    )


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode(errors="surrogatepass")).hexdigest()


def _marked(name: str, owner: Ownership) -> str:
    return (
        f"it carries Guestkeeper's mark of {owner.name} ({owner.uid}), as a clone or a renamed"
        f" domain does; take the mark off first: virsh metadata {name} urn:guestkeeper:v1 --remove"
        " --config (and, while it runs, once more with --live)"
    )


def told_places(plan: AdoptionPlan) -> Sequence[tuple[str, str, str]]:
    """(place, description, alias) of every device that is taken over, in the domain's order."""
    aliases = dict(plan.adoption.aliases)
    config = plan.domain.config
    return [
        *(
            (disk.target, medium(disk), aliases[disk.target])
            for disk in config.disks
            if disk.target in aliases
        ),
        *(
            (nic.mac, f"{nic.kind} {nic.source}".rstrip(), aliases[nic.mac])
            for nic in config.nics
            if nic.mac in aliases
        ),
    ]
