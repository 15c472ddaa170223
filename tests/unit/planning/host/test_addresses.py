"""An address that another domain of the host has is told with who has it, before it is tried."""

from dataclasses import replace
from typing import Any

import pytest

from controller.desired.effective import EffectiveGuest
from controller.observed.addresses import clash, port_of
from controller.observed.domain import DomainState, StateReason
from controller.planning.conditions import Health, Printable
from controller.planning.steps import StartDomain
from controller.planning.wanted.domain import wanted_nics
from tests.factories import POLICY, a_guest
from tests.fakes import Daemon, Documents, FakeWorld

MAC = "52:54:00:aa:00:01"
FORWARD = {"address": "127.0.0.1", "hostPort": 18080, "guestPort": 80}


def user(name: str, *forwards: str, restart: str = "Staged", **fields: Any) -> EffectiveGuest:
    return a_guest(
        name,
        interfaces=[{"name": "lan", "user": {"forwards": list(forwards)}, **fields}],
        updatePolicy={"restart": restart},
    )


def network(name: str, **fields: Any) -> EffectiveGuest:
    return a_guest(name, interfaces=[{"name": "lan", "network": "default", **fields}])


class Site:
    def __init__(self, *guests: EffectiveGuest) -> None:
        self.world = FakeWorld()
        self.world.image_ready = True
        self.documents = Documents(*guests)
        self.daemon = Daemon(self.world, self.documents)
        for guest in guests:
            self.daemon.settle(guest.name)

    def put(self, guest: EffectiveGuest) -> None:
        self.documents.guests[guest.name] = guest

    def passes(self, name: str, count: int = 4) -> None:
        for _ in range(count):
            self.daemon.reconcile(name)

    def plan(self, name: str):  # type: ignore[no-untyped-def]
        status = self.daemon.status.get(name)
        assert status is not None
        return status.plan

    def reason(self, name: str, kind: str = "Ready") -> str:
        found = next(one for one in self.plan(name).conditions if one.type == kind)
        return f"{found.status}/{found.reason}"

    def foreign(self, name: str) -> None:
        """Nobody's mark is on it any more."""
        self.world.domains[name] = replace(self.world.domains[name], ownership=None)
        self.documents.guests.pop(name)

    def runs(self, name: str) -> bool:
        return name in self.world.domains and self.world.domains[name].state.active


def test_a_new_guest_whose_derived_address_a_foreign_domain_has_is_not_made() -> None:
    derived = wanted_nics(network("new"), None, POLICY.seed)[0].mac
    site = Site(network("old", mac=derived))
    site.foreign("old")
    site.put(network("new"))
    site.passes("new")
    assert "new" not in site.world.domains
    assert site.reason("new") == "False/MacTaken"
    assert f"domain old (not Guestkeeper's) has MAC address {derived}" in site.plan("new").sentence
    del site.world.domains["old"]
    site.daemon.settle("new")
    assert site.runs("new")


def test_a_document_that_writes_the_derived_address_of_a_guest_is_told_of_it() -> None:
    first = network("first")
    derived = wanted_nics(first, None, POLICY.seed)[0].mac
    site = Site(first)
    site.put(network("second", mac=derived))
    site.passes("second")
    assert "second" not in site.world.domains
    assert f"guest first has MAC address {derived}: write another mac" in (
        site.plan("second").sentence
    )


def test_a_port_that_a_guest_keeps_until_its_cold_boot_is_not_free() -> None:
    site = Site(user("first", "127.0.0.1:18080:80/tcp"))
    site.put(user("first", "127.0.0.1:18081:80/tcp"))
    site.daemon.settle("first")
    site.put(user("second", "127.0.0.1:18080:80/tcp"))
    site.passes("second")
    assert "second" not in site.world.domains
    assert site.reason("second") == "False/PortTaken"
    assert "guestkeeper restart first" in site.plan("second").sentence
    site.world.stop("first", StateReason.DESTROYED)
    site.daemon.settle("first")
    site.daemon.settle("second")
    assert site.runs("first") and site.runs("second")


def test_a_change_to_an_address_that_another_has_is_refused_and_nothing_else_waits() -> None:
    site = Site(network("first", mac=MAC), network("second"))
    before = site.world.domains["second"].config.nics
    wanted = a_guest(
        "second",
        title="Second",
        interfaces=[{"name": "lan", "network": "default", "mac": MAC}],
    )
    site.put(wanted)
    effects = len(site.world.effects)
    site.passes("second", 20)
    has = site.world.domains["second"]
    assert (has.config.nics, has.config.title) == (before, "Second")
    assert site.reason("second", "Synced") == "False/ChangeRefused"
    assert "guest first has MAC address" in site.plan("second").sentence
    assert len(site.world.effects) - effects < 6, "and it is not tried again and again"


@pytest.mark.parametrize("kind", [user, network])
def test_a_new_interface_waits_for_its_address_alone(kind: Any) -> None:
    site = Site(network("first", mac=MAC), a_guest("second"))
    site.put(kind("second", mac=MAC))
    site.passes("second")
    assert site.world.domains["second"].config.nics == ()
    assert site.runs("second")
    del site.world.domains["first"]
    site.documents.guests.pop("first")
    site.passes("second", 8)
    assert [nic.mac for nic in site.world.domains["second"].config.nics] == [MAC]


def test_a_guest_that_is_off_waits_while_a_running_domain_has_its_address() -> None:
    site = Site(network("first", mac=MAC))
    site.world.stop("first", StateReason.DESTROYED)
    held = site.world.domains["first"]
    clone = replace(held, name="clone", ownership=None, live=held.config, state=DomainState.RUNNING)
    site.world.domains["clone"] = clone
    site.passes("first")
    assert not site.runs("first")
    assert site.reason("first") == "False/MacTaken"
    assert (site.plan("first").health, site.plan("first").printable) == (
        Health.DEGRADED,
        Printable.DEGRADED,
    )
    assert "or shut that domain down" in site.plan("first").sentence
    assert not any(isinstance(step, StartDomain) for step in site.plan("first").steps)
    site.world.domains["clone"] = replace(clone, live=None, state=DomainState.SHUTOFF)
    site.daemon.settle("first")
    assert site.runs("first"), "one that is off is in nobody's way"


def test_the_address_of_a_running_guest_is_its_own_whoever_else_has_it() -> None:
    site = Site(network("first", mac=MAC))
    has = site.world.domains["first"]
    site.world.domains["clone"] = replace(has, name="clone", ownership=None)
    effects = len(site.world.effects)
    site.passes("first", 3)
    assert site.plan("first").steps == ()
    assert len(site.world.effects) == effects
    assert site.reason("first", "Synced") == "True/Synced"


def test_a_port_that_another_has_is_refused_though_its_mac_address_is_shared_already() -> None:
    site = Site(user("first", "127.0.0.1:18080:80/tcp"), user("second", mac=MAC))
    has = site.world.domains["second"]
    site.world.domains["old"] = replace(
        has,
        name="old",
        ownership=None,
        config=replace(has.config, name="old", uuid="x"),
        live=None,
        run=None,
        state=DomainState.SHUTOFF,
    )
    site.put(user("second", "127.0.0.1:18080:80/tcp", mac=MAC, restart="Automatic"))
    site.passes("second", 12)
    assert site.world.domains["second"].config.nics == has.config.nics
    assert site.reason("second", "Synced") == "False/ChangeRefused"
    assert site.runs("second")


@pytest.mark.parametrize(
    ("forward", "port"),
    [
        ("127.0.0.1:18080:80/tcp", "127.0.0.1:18080/tcp"),
        (":2222:22/tcp", "0.0.0.0:2222/tcp"),
        ("tcp::2222-10.0.2.15:22", "0.0.0.0:2222/tcp"),
        ("udp:192.0.2.1:53-:53", "192.0.2.1:53/udp"),
        ("something else", ""),
    ],
)
def test_the_hosts_side_of_a_forward(forward: str, port: str) -> None:
    assert port_of(forward) == port


@pytest.mark.parametrize(
    ("one", "other", "clashes"),
    [
        ("127.0.0.1:80/tcp", "127.0.0.1:80/tcp", True),
        ("127.0.0.1:80/tcp", "0.0.0.0:80/tcp", True),
        ("127.0.0.1:80/tcp", "192.0.2.1:80/tcp", False),
        ("127.0.0.1:80/tcp", "127.0.0.1:80/udp", False),
        (MAC, MAC, True),
        (MAC, "52:54:00:aa:00:02", False),
    ],
)
def test_which_addresses_cannot_both_be_had(one: str, other: str, clashes: bool) -> None:
    assert clash(one, other) is clash(other, one) is clashes
