"""Plans and messages for a guest whose document is gone."""

from dataclasses import replace
from datetime import UTC, datetime

from controller.observed.domain import DomainView, GuestRecord
from controller.observed.guest import Fleet
from controller.planning.conditions import (
    Condition,
    ConditionType,
    Health,
    Printable,
    Sync,
    false,
    true,
    unknown,
)
from controller.planning.deletion.unfinished_stop import GoingOn
from controller.planning.plan import Plan, earliest
from controller.planning.steps import Step

C = ConditionType


def left(
    name: str,
    domain: DomainView,
    orphaned: Condition,
    steps: tuple[Step, ...] = (),
    *,
    synced: Condition | None = None,
    recheck_at: float | None = None,
    printable: Printable = Printable.UNKNOWN,
) -> Plan:
    """A plan with the condition ``orphaned``; ``printable`` is given if the guest is ended."""
    message = orphaned.message
    synced = synced or unknown(C.SYNCED, "Orphaned", message)
    ends = printable is not Printable.UNKNOWN
    return Plan(
        guest=name,
        sentence=message if steps or ends else f"doing nothing: {message}",
        steps=steps,
        conditions=(
            orphaned,
            unknown(C.READY, synced.reason, message),
            synced,
            true(C.RUNNING, "DomainRunning")
            if domain.state.active
            else false(C.RUNNING, "DomainOff", f"the domain is {domain.state}"),
        ),
        sync=Sync.UNKNOWN,
        health=Health.SUSPENDED if ends else Health.UNKNOWN,
        printable=printable,
        recheck_at=recheck_at,
    )


def invalid(name: str, domain: DomainView, problems: tuple[str, ...]) -> Plan:
    """The plan for a guest whose document exists but cannot be used."""
    message = f"its document cannot be used ({problems[0]}); {as_it_is(domain)}"
    synced = false(C.SYNCED, "DocumentInvalid", message)
    return left(name, domain, false(C.ORPHANED, "DocumentInvalid", message), synced=synced)


def others(name: str, domain: DomainView, record: GuestRecord) -> Plan:
    """The plan for a guest that another daemon manages."""
    message = (
        f"it has no document here, and another daemon looks after it ({record.controller});"
        f" {as_it_is(domain)}"
    )
    return left(name, domain, false(C.ORPHANED, "OtherController", message))


def doubtful(name: str, domain: DomainView, fleet: Fleet) -> Plan:
    """The plan for a guest whose document is missing, but not with certainty."""
    why = fleet.uncertain or "nobody said yet that it is meant to go"
    message = f"its document is not there, which is not believed: {why}; {as_it_is(domain)}"
    if fleet.empty:
        message += ". If the guests are meant to go: guestkeeper approve --deletions"
    return left(name, domain, unknown(C.ORPHANED, "DirectoryUncertain", message))


def blocked(domain: DomainView, fleet: Fleet) -> str:
    """Why the deletion guard holds the guest, and what an operator can do."""
    most = fleet.max_deletions
    if fleet.deletions > most:
        many = "guest" if fleet.deletions == 1 else "guests"
        why = (
            f"{fleet.deletions} {many} would be stopped or deleted, and without approval at most"
            f" {most} may be"
        )
    elif fleet.unheard:
        why = (
            f"host {fleet.unheard} was not heard since the daemon started, and may have more"
            " guests that would be stopped or deleted"
        )
    else:
        why = (
            f"it was one of more than {most} that would have been stopped or deleted, and that was"
            " not approved"
        )
    return (
        f"its document is gone; {why}, so {as_it_is(domain)}. Put the documents back, or:"
        " guestkeeper approve --deletions"
    )


def goes_on(made: Plan, ongoing: GoingOn) -> Plan:
    """``made`` with the steps that are left after a stop of ours; their message comes first."""
    if not ongoing.message:
        return replace(made, steps=(*made.steps, *ongoing.steps)) if ongoing.steps else made
    conditions = tuple(
        replace(found, message=f"{found.message}; {ongoing.message}")
        if found.type is C.ORPHANED
        else found
        for found in made.conditions
    )
    return replace(
        made,
        sentence=f"{ongoing.message}; {made.sentence.removeprefix('doing nothing: ')}",
        steps=(*made.steps, *ongoing.steps),
        conditions=conditions,
        recheck_at=earliest(made.recheck_at, ongoing.recheck_at),
    )


def as_it_is(domain: DomainView) -> str:
    """A clause that says that the domain is left as it is."""
    return f"domain {domain.name} is left as it is ({domain.state})"


def utc(at: float) -> str:
    """Epoch seconds as text for people, in UTC."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"
