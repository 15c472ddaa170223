"""A daemon's memory, made of real values: what web and cli are tested with."""

import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from controller.desired.catalog.snapshot import Snapshot
from controller.desired.effective import EffectiveGuest
from controller.desired.schema.documents import ServiceDocument
from controller.desired.text.problems import Problem
from controller.journal.journal import Journal
from controller.loop.holds import Holds
from controller.loop.status import GuestStatus, StatusStore
from controller.observed.domain import DomainState, GuestRecord, StateReason
from controller.observed.guest import Failure, Observed
from controller.observed.health import ProbeStatus, ProbeView
from controller.operator.answers import VolumesSeen
from controller.operator.guests import GuestRequests
from controller.planning.deletion.orphan import plan_orphan
from controller.planning.planner import plan
from controller.web.application import Application
from tests import factories as make
from tests.unit.web.guests import FakeFleet, Metadata
from tests.unit.web.images import FakeImages, stalled

AGO = 200.0
"""Everything in the world happened so many seconds before now: 3 minutes in every table."""

WEB = make.a_service(
    files=(make.a_file("/var/www/html/index.html"),),
    probes=(make.a_probe("http"), make.a_probe("unit", systemdUnit={"unit": "nginx.service"})),
)
LAN = {"name": "lan", "user": {"forwards": ["127.0.0.1:18080:80/tcp"]}}


def a_status(guest: EffectiveGuest, seen: Observed, store: StatusStore, now: float) -> GuestStatus:
    """Puts what the real planner says."""
    owner = seen.domain.ownership if seen.domain is not None else None
    record = owner.record if owner is not None else GuestRecord()
    policy = replace(make.POLICY, daemon_started=now - 1000)
    made = plan(guest, seen, record, now, policy)
    return store.put(guest, seen, made, now)


def probes(at: float, http: ProbeStatus, message: str) -> dict[tuple[str, str], ProbeView]:
    return {
        ("web", "http"): ProbeView("web", "http", http, message, at, at),
        ("web", "unit"): ProbeView("web", "unit", ProbeStatus.SUCCESS, "active", at, at),
    }


@dataclass
class World:
    """``application`` shows it; tests change it."""

    store: StatusStore = field(default_factory=StatusStore)
    journal: Journal = field(default_factory=lambda: Journal(":memory:", clock=lambda: make.NOW))
    holds: Holds = field(default_factory=Holds)
    snapshot: Snapshot = field(default_factory=Snapshot)
    hosts: list = field(default_factory=lambda: [make.a_host()])  # type: ignore[type-arg]
    images: FakeImages = field(default_factory=FakeImages)
    volumes: VolumesSeen = field(default_factory=lambda: VolumesSeen({}, {}))
    adoptions: Any = None
    reconciled: list[str] = field(default_factory=list)
    health: tuple[bool, str] = (True, "the loop makes progress")
    readiness: tuple[bool, str] = (True, "2 guests are looked after")
    blocks: list[bytes] = field(default_factory=lambda: [b"login: ", b""])
    console_error: Exception | None = None
    consoles_closed: int = 0
    now: float = make.NOW - AGO
    believed: int = 0
    """How often an operator said that the directory is meant as it is."""
    meant: list[str] = field(default_factory=list)
    """Guests that were meant to be gone, the last time."""

    def __post_init__(self) -> None:
        self.fleet = FakeFleet(self.store)
        self.metadata = Metadata(self.store, self.now)

    def guests(self, *guests: EffectiveGuest) -> None:
        self.snapshot = replace(
            self.snapshot,
            guests=MappingProxyType({guest.name: guest for guest in guests}),
            images=MappingProxyType({guest.image.name: guest.image for guest in guests}),
            scanned_at=self.now,
        )

    def console(self, host: str, name: str, *, follow: bool) -> Iterator[bytes]:
        if self.console_error is not None:
            raise self.console_error
        try:
            yield from self.blocks
            while follow:
                time.sleep(0.05)
                yield b""
        finally:
            self.consoles_closed += 1

    @property
    def requests(self) -> GuestRequests:
        return GuestRequests(
            statuses=self.store,
            snapshot=lambda: self.snapshot,
            believe=self._believe,
            domain=self.metadata.domain,
            record=self.metadata,
            fleet=self.fleet,
            policy=make.POLICY,
            journal=self.journal,
            queue=self.reconciled.append,
            queue_all=lambda: self.reconciled.append("*"),
            holds=self.holds,
            clock=lambda: self.now,
        )

    def _believe(self, names: Collection[str]) -> None:
        self.believed += 1
        self.meant = sorted(names)

    @property
    def application(self) -> Application:
        return Application(
            version="9.9.9",
            statuses=self.store,
            catalog=lambda: self.snapshot,
            hosts=lambda: self.hosts,
            images=self.images,
            guests=self.requests,
            adoptions=self.adoptions,
            volumes=lambda: self.volumes,
            journal=self.journal,
            reconcile=self._reconcile,
            console=self.console,
            metrics=lambda: (b"guestkeeper_up 1\n", "text/plain; version=0.0.4"),
            healthy=lambda: self.health,
            ready=lambda: self.readiness,
        )

    def _reconcile(self, name: str) -> bool:
        self.reconciled.append(name)
        return name in self.snapshot.guests


def a_world() -> World:
    """web1 is healthy, web2's page fails, db1 was not looked at yet, old1 lost its document."""
    world = World()
    now = world.now
    labels = (("tier", "web"),)
    web1 = replace(make.a_guest("web1", (WEB,), interfaces=[LAN]), labels=labels)
    web2 = replace(make.a_guest("web2", (WEB,)), labels=labels)
    db1 = replace(make.a_guest("db1"), labels=(("tier", "db"),))
    world.guests(db1, web1, web2)
    service = ServiceDocument.model_validate(
        {
            "apiVersion": "guestkeeper/v1alpha1",
            "kind": "Service",
            "metadata": {"name": "spare"},
            "spec": {},
        }
    )
    world.snapshot = replace(
        world.snapshot,
        services=MappingProxyType({"spare": service}),
        problems=(Problem("web2.yaml", 7, "spec.memory.size", "must be a size such as 512Mi"),),
        revision="abc123",
    )
    healthy = make.observed(
        make.a_domain(web1, started_at=now - 60),
        inside=make.an_inside(web1, looked_at=now, addresses=("10.0.2.15",)),
        probes=probes(now, ProbeStatus.SUCCESS, "200 in 3 ms"),
    )
    broken = make.observed(
        make.a_domain(web2, started_at=now - 60),
        inside=make.an_inside(web2, looked_at=now),
        probes=probes(now, ProbeStatus.FAILURE, "connection refused"),
    )
    a_status(web1, healthy, world.store, now)
    a_status(web2, broken, world.store, now)
    old1 = make.a_guest("old1")
    missing = GuestRecord(orphaned_since=now)
    gone = make.observed(make.a_domain(old1, record=missing, started_at=now))
    assert gone.domain is not None
    made = plan_orphan("old1", gone.domain, gone.fleet, now, make.POLICY)
    world.store.put(old1, gone, made, now)
    world.journal.record("web1", "DomainStarted", "it is new")
    world.journal.record("web2", "ProbeFailed", "web/http: connection refused", warning=True)
    assert world.journal.flush()
    return world


def with_install(world: World, **fields: object) -> None:
    """There is an Image rocky9 by kickstart, which web3 waits for; nothing of it was built yet."""
    image = make.an_install_image(**fields)
    web3 = make.a_guest("web3", image=image)
    world.images.since = world.now
    guests = MappingProxyType({**world.snapshot.guests, "web3": web3})
    images = MappingProxyType({**world.snapshot.images, "rocky9": image})
    world.snapshot = replace(world.snapshot, guests=guests, images=images)


def stalls(world: World) -> None:
    """Every attempt to install rocky9 failed, and its guest says so."""
    world.images.shows(stalled())
    web3 = world.snapshot.guests["web3"]
    a_status(web3, make.observed(image=stalled()), world.store, world.now)


def crash_looping(world: World, name: str = "web2") -> None:
    """The guest's domain was started three times in a row and crashed."""
    _stopped_again(world, name, StateReason.CRASHED, None)


def unable_to_start(world: World, name: str = "web2") -> None:
    """Three starts in a row of the guest's domain failed."""
    now = make.NOW
    digest = world.snapshot.guests[name].digest
    failure = Failure("StartDomain", "Failed", "no room", now - 5, 2, now + 85, digest)
    _stopped_again(world, name, StateReason.FAILED, failure)


def _stopped_again(world: World, name: str, reason: StateReason, failure: Failure | None) -> None:
    guest = world.snapshot.guests[name]
    now = make.NOW
    record = GuestRecord(start_attempts=3, last_start_attempt=now - 5)
    domain = make.a_domain(guest, DomainState.SHUTOFF, reason, record=record)
    a_status(guest, make.observed(domain, failure=failure), world.store, now)


def now_healthy(world: World, name: str) -> None:
    """The guest becomes Ready."""
    guest = world.snapshot.guests[name]
    now = make.NOW
    seen = make.observed(
        make.a_domain(guest, started_at=now - 60),
        inside=make.an_inside(guest, looked_at=now),
        probes=probes(now, ProbeStatus.SUCCESS, "200"),
    )
    a_status(guest, seen, world.store, now)


def lost_host(world: World, why: str = "connection refused") -> None:
    """The host gives no answer any more."""
    host = make.a_host(reachable=False, why=why)
    world.hosts = [host]
    for guest in world.snapshot.guests.values():
        a_status(guest, Observed(host), world.store, make.NOW)
