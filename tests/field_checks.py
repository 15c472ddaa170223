"""How a row of the table is carried out, wherever: the change, what it cost, and the way back.

A ``Site`` is a guest under the loop. What it costs is judged by facts of the world (which run of
the domain, which boot of the guest, which disks), never by the steps that were planned.
"""

import time
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from controller.desired.schema.documents import DOCUMENTS
from controller.desired.schema.fields import Change, NotYet
from controller.desired.schema.tree import fields, item, unwrap
from controller.observed.domain import DomainConfig, DomainView
from controller.planning.compare.changes import config_changes
from controller.planning.conditions import ConditionType
from controller.planning.plan import Plan
from controller.planning.wanted.domain import SYSTEM
from tests.field_rows import Row, Seen, Takes, changed
from tests.waiting import wait_until

Documents = Mapping[str, dict[str, Any]]
_KEEP = (Takes.IMMUTABLE, Takes.REFUSED, Takes.ANOTHER)
"""Where nothing comes of the change, nothing is to be changed back."""


# --- The schema ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Declared:
    """A field as the schema has it; ``change`` is of the nearest that declares one, or None."""

    path: str
    change: Change | None
    supported: bool


def schema_fields() -> Iterator[Declared]:
    """Every field that a document can have a value in, and every list that can have items."""
    for kind, document in DOCUMENTS.items():
        yield from _walk(document, kind, None)


def _walk(model: Any, path: str, inherited: Change | None) -> Iterator[Declared]:
    for name, field in fields(model).items():
        change = next((mark for mark in field.metadata if isinstance(mark, Change)), inherited)
        many = typing.get_origin(unwrap(field.annotation)) is list
        here = f"{path}.{name}{'[]' if many else ''}"
        inner = item(field.annotation)
        if many or not fields(inner):
            yield Declared(here, change, all(mark is not NotYet for mark in field.metadata))
        yield from _walk(inner, here, change)


# --- A guest -------------------------------------------------------------------------------------


class Site(Protocol):
    """One guest under the loop, in a world that a row can be carried out in."""

    def write(self, documents: Documents) -> None:
        """The directory has these documents from now on, and the loop knows it."""

    def settle(self) -> Plan:
        """Passes until nothing more is done without being asked; the last plan."""

    def ask(self, **changes: Any) -> None:
        """An operator's wish: fields of the guest's ``GuestRecord``."""

    def domain(self) -> DomainView: ...

    def seen(self) -> Seen: ...

    def boot(self) -> str:
        """Which boot of the guest's system this is; '' where none runs."""

    def problems(self) -> str:
        """What is wrong with the documents."""

    def inside(self, script: str) -> str | None:
        """What a shell command prints in the guest; None where nobody can be asked."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a disruption shows by. ``run`` is libvirt's id, which each start makes one greater."""

    uuid: str
    run: int | None
    boot: str
    system: tuple[str, str | None]
    data: tuple[tuple[str, str, str | None], ...]
    macs: tuple[tuple[str, str], ...]


def facts(site: Site) -> Facts:
    domain = site.domain()
    live = domain.live
    assert live is not None, f"it does not run: {domain.state} {domain.reason}"
    disks = {disk.alias: (disk.pool, disk.volume) for disk in live.disks if disk.device == "disk"}
    system = disks.pop(SYSTEM)
    return Facts(
        domain.uuid,
        domain.run,
        site.boot(),
        system,
        tuple((alias, *place) for alias, place in sorted(disks.items())),
        tuple((nic.alias, nic.mac) for nic in live.nics),
    )


def converge(site: Site, documents: Documents) -> Plan:
    """Brings the guest to these documents, with every disruption that takes."""
    site.write(documents)
    for _ in range(4):
        plan = site.settle()
        if plan.replace_to:
            site.ask(approved=plan.replace_to)
        elif plan.is_true(ConditionType.RESTART_REQUIRED):
            restart(site)
        elif plan.settled:
            return plan
    raise AssertionError(f"does not converge: {plan.sentence} {plan.changes} {site.problems()}")


def restart(site: Site) -> None:
    """Asks for a cold boot, as ``guestkeeper restart`` does."""
    site.ask(restart_requested=time.time())


def check_row(site: Site, base: Documents, row: Row) -> None:
    """The row, there and back; afterwards the guest is as ``base`` has it with ``row.before``."""
    before, after = (changed(base, row, after=after) for after in (False, True))
    converge(site, before)
    had = site.domain()
    does_not_show(site, row)
    change(site, after, row, row.takes)
    shows(site, row)
    back = row.back or (Takes.CONTROLLER if row.takes in _KEEP else row.takes)
    change(site, before, row, back)
    if back is not Takes.IMMUTABLE:
        restored(had, site.domain())


def does_not_show(site: Site, row: Row) -> None:
    """What the row is judged by tells something."""
    assert row.shows is None or not row.shows(site.seen()), f"{row.id} shows before it is changed"
    if row.inside is not None:
        script, wanted = row.inside
        assert site.inside(script) != wanted, f"{row.id} shows inside before it is changed"


def shows(site: Site, row: Row) -> None:
    """The new value is there, in libvirt and, after a moment, inside."""
    if row.shows is not None:
        assert row.shows(site.seen()), f"{row.id} does not show: {site.domain().live}"
    if row.inside is not None:
        script, wanted = row.inside
        wait_until(lambda: site.inside(script) in (wanted, None), 30, f"{script}: {wanted!r}")


def change(site: Site, documents: Documents, row: Row, takes: Takes) -> None:
    """Writes the documents and sees that it takes what it should, and no more."""
    was, had = facts(site), site.domain()
    site.write(documents)
    plan = site.settle()
    now = site.domain()
    assert replace(facts(site), data=(), macs=()) == replace(was, data=(), macs=()), (
        f"something was disrupted unasked: {plan.sentence}"
    )
    match takes:
        case Takes.CONTROLLER | Takes.GUEST | Takes.LIVE:
            if takes is not Takes.LIVE:
                assert (now.config, now.live) == (had.config, had.live), plan.changes
        case Takes.RESTART:
            staged(plan, row)
            restart(site)
            plan = site.settle()
            assert_restarted(was, facts(site))
        case Takes.REPLACE:
            proposed(plan, row)
            assert (now.config, now.live) == (had.config, had.live)
            site.ask(approved=plan.replace_to)
            plan = site.settle()
            assert_replaced(was, facts(site))
        case _:
            refused(site, plan, row, takes)
            assert (now.config, now.live) == (had.config, had.live)
            return
    settled(site, plan)


def settled(site: Site, plan: Plan) -> None:
    """All is as the document says, that is written down, and there is nothing to plan."""
    assert plan.settled, f"{plan.sentence}: {plan.changes}"
    again = site.settle()
    assert (again.steps, again.changes) == ((), ()), f"{again.steps} {again.changes}"
    domain, guest = site.domain(), site.seen().guest
    assert domain.live == domain.config, "the running domain is not as it is defined"
    assert domain.ownership is not None
    assert domain.ownership.digest == guest.digest, "it is not written down as applied"


def staged(plan: Plan, row: Row) -> None:
    required = plan.condition(ConditionType.RESTART_REQUIRED)
    assert required is not None, f"no restart is required: {plan.sentence} {plan.changes}"
    assert row.named in required.message, required.message
    classes = {one.change for one in plan.changes if one.path.startswith(row.named)}
    assert classes == {Change.RESTART}, f"{row.named}: {plan.changes}"


def proposed(plan: Plan, row: Row) -> None:
    synced = plan.condition(ConditionType.SYNCED)
    assert synced is not None
    assert synced.reason == "ReplaceRequired", f"{synced.reason} {plan.sentence} {plan.changes}"
    assert plan.replace_to
    changes = {one.path: one.change for one in plan.changes}
    assert changes.get(row.named) is Change.REPLACE, plan.changes


def refused(site: Site, plan: Plan, row: Row, takes: Takes) -> None:
    if takes is Takes.IMMUTABLE:
        synced = plan.condition(ConditionType.SYNCED)
        assert synced is not None
        assert synced.reason in ("ChangeRefused", "HostChanged"), f"{synced.reason} {plan.sentence}"
        assert row.named in synced.message, synced.message
        assert row.says in synced.message, synced.message
        return
    said = site.problems()
    if takes is Takes.REFUSED:
        assert said != "", "the documents are good"
        assert row.says in said, said
    assert plan.steps == (), plan.sentence


def assert_restarted(was: Facts, now: Facts) -> None:
    _assert_one_boot(was, now)
    assert (now.uuid, now.system) == (was.uuid, was.system), f"was {was}, is {now}"


def assert_replaced(was: Facts, now: Facts) -> None:
    _assert_one_boot(was, now)
    assert now.system != was.system, f"it still runs from {was.system}"
    kept = ((one.uuid, one.macs, one.data) for one in (was, now))
    assert len(set(kept)) == 1, f"was {was}, is {now}"


def _assert_one_boot(was: Facts, now: Facts) -> None:
    assert now.run == (was.run or 0) + 1, f"runs: {was.run}, {now.run}"
    assert now.boot == "" or now.boot != was.boot, "it is the same boot"


def restored(had: DomainView, has: DomainView) -> None:
    """The domain is as before; after replacements but for its disk's name."""
    assert has.live is not None
    assert had.live is not None
    for one, other in ((had.config, has.config), (had.live, has.live)):
        before, after = _comparable(one), _comparable(other)
        assert before == after, f"not as before: {config_changes(before, after)}"
    assert has.autostart == had.autostart, "autostart"


def _comparable(config: DomainConfig) -> DomainConfig:
    disks = tuple(
        replace(disk, volume="") if disk.alias == SYSTEM else disk for disk in config.disks
    )
    return replace(config, disks=disks)
