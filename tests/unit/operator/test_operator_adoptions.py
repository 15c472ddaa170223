"""The adoption requests over a world in memory; what libvirt has to say is in ``tests/libvirt``."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from types import MappingProxyType

import pytest

from controller.desired.catalog.snapshot import Snapshot
from controller.desired.effective import EffectiveGuest
from controller.desired.text.problems import Problem
from controller.errors import AgentUnavailableError, HostUnreachableError, PermanentError
from controller.execution.executor import Executor, Ports
from controller.execution.knowledge import Knowledge
from controller.loop.look import Look
from controller.observed.domain import DomainState, DomainView, Ownership
from controller.observed.guest import Fleet
from controller.observed.inside import InsideView
from controller.operator.adoptions import AdoptionRequests
from tests.factories import NOW, POLICY, a_domain, a_guest, a_host, a_service, an_inside
from tests.fakes import FakeWorld, InlineOperations, _Images

GUEST = a_guest("web1", services=(a_service(),))


class World(FakeWorld):
    """One in which a mark is all that adopting puts on a domain."""

    def adopt(
        self,
        host: str,
        uuid: str,
        ownership: Ownership,
        aliases: Mapping[str, str],
        disks: Collection[tuple[str, str, str]] = (),
    ) -> None:
        with self._effect(f"adopt {ownership.name}"):
            assert self.domains[ownership.name].uuid == uuid
            self.domains[ownership.name] = replace(
                self.domains[ownership.name], ownership=ownership
            )


class Inside:
    """What a look inside finds, or how it fails."""

    def __init__(self, found: InsideView | Exception) -> None:
        self.found = found
        self.looks = 0

    def look(self, guest: EffectiveGuest, domain: DomainView) -> InsideView:
        self.looks += 1
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


class Fixture:
    def __init__(self, found: InsideView | Exception | None = None, *, agent: bool = True) -> None:
        self.world = World()
        known = a_domain(GUEST, agent=agent)
        disks = tuple(replace(one, alias=one.target) for one in known.config.disks)
        config = replace(known.config, disks=disks)
        self.world.domains["web1"] = replace(known, ownership=None, config=config, live=config)
        self.inside = Inside(found or an_inside(GUEST))
        self.snapshot = Snapshot(guests=MappingProxyType({"web1": GUEST}))
        self.fleet = Fleet()
        self.queued: list[str] = []
        world = self.world
        ports = Ports(world, self.inside, _Images(world), world, world)  # type: ignore[arg-type]
        knowledge, operations = Knowledge(), InlineOperations()
        self.requests = AdoptionRequests(
            ports,
            Look(ports, knowledge, operations, POLICY.seed, fleet=lambda _: self.fleet),
            Executor(ports, knowledge, operations, clock=lambda: NOW),
            lambda: self.snapshot,
            POLICY,
            self.queued.append,
            clock=lambda: NOW,
        )

    def refuses(self, words: str, kind: type[Exception] = PermanentError) -> None:
        with pytest.raises(kind, match=words):
            self.requests.preview("web1")
        with pytest.raises(kind, match=words):
            self.requests.adopt("web1", "")
        assert self.queued == []
        assert [effect for effect in self.world.effects if effect.startswith("adopt")] == []


def test_the_inside_is_looked_at_where_the_agent_answers() -> None:
    made = Fixture(an_inside(GUEST, hostname="old-name"))
    shown = made.requests.preview("web1")
    assert [change.path for change in shown.changes] == ["hostname"]
    assert shown.inside_seen


@pytest.mark.parametrize("agent", [True, False])
def test_an_inside_that_gives_no_answer_is_told_as_not_known(agent: bool) -> None:
    made = Fixture(AgentUnavailableError("no answer"), agent=agent)
    shown = made.requests.preview("web1")
    assert shown.step is not None
    assert not shown.inside_seen
    assert made.inside.looks == agent


def test_adopting_needs_no_look_inside_and_hands_the_guest_to_the_loop() -> None:
    made = Fixture()
    digest = made.requests.preview("web1").digest
    looks = made.inside.looks
    done = made.requests.adopt("web1", digest)
    assert done.step is not None
    assert made.inside.looks == looks
    assert made.queued == ["web1"]
    assert made.world.domains["web1"].ours
    assert ("web1", "DomainAdopted") in made.world.events


def test_a_document_with_problems_comes_first() -> None:
    made = Fixture()
    problem = Problem("web.yaml", 3, "spec.cpu", "must be a mapping")
    made.snapshot = replace(made.snapshot, guest_problems={"web1": (problem,)})
    made.refuses("has to be corrected first: web.yaml:3")


@pytest.mark.parametrize("held", [True, False])
def test_a_document_that_is_gone_is_none(held: bool) -> None:
    made = Fixture()
    if held:
        made.snapshot = replace(made.snapshot, held=frozenset({"web1"}))
    else:
        made.snapshot = Snapshot()
    made.refuses("no Guest document is named web1")


def test_what_is_not_known_or_not_foreign_is_refused() -> None:
    made = Fixture()
    made.world.view = a_host(reachable=False, why="it is off")
    made.refuses("not reachable .it is off.", HostUnreachableError)
    made = Fixture()
    made.fleet = Fleet(suspended=True)
    made.refuses("everything is suspended")
    made = Fixture()
    made.world.domains["web1"] = replace(
        made.world.domains["web1"], state=DomainState.UNKNOWN, live=None
    )
    made.refuses("state of domain web1 is not known", HostUnreachableError)
    made = Fixture()
    made.world.domains["web1"] = a_domain(GUEST)
    made.refuses("Guestkeeper's already")
    made = Fixture()
    made.world.domains.clear()
    made.refuses("no domain web1 to adopt")
