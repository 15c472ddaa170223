"""Five hosts, of which one hangs and one is slow; 1,000 guests, 300 of them with hung agents.

``python -m bench.fairness_world`` prints JSON: how long guests that are well wait, without the sick
ones (``floors``) and beside them (``seconds``). The loop, its queue, its workers, the long actions
and the probes are the daemon's own; the hosts are libvirt's test driver, in whose way stands what
makes them sick.
"""

import itertools
import json
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import libvirt

from bench.documents import IMAGE
from bench.probes import target as target_of
from bench.progress import say
from bench.result import median
from bench.scratch import POOL, PREFIX, settings_for
from controller.daemon.house import House
from controller.errors import AgentUnavailableError
from controller.health.prober import Prober
from controller.hypervisor.connection.config import Role
from controller.hypervisor.xml.render import Dialect, render
from controller.lanes import lane_of_guest
from controller.observed.domain import Ownership
from controller.observed.health import ProbeTarget
from controller.observed.host import HostView
from controller.observed.image import ImageState, ImageView
from controller.planning.compare.changes import spec_document
from controller.planning.wanted.domain import wanted_config
from controller.settings import machine_identity
from controller.telemetry import logging

DEAD, SLOW = "dead", "slow"
WELL = ("well1", "well2", "well3")
EACH = 200
HUNG = 300
RESTARTS, ACTIONS = 30, 200
DEADLINE, SLOWNESS = 9.0, 3.0  # seconds of a call to the dead host, and to the slow one
HANGING = 2.0  # seconds that a hung agent costs whoever asks it
ACTION, ANSWER = 0.02, 0.005  # seconds of a look into a guest that is well, and of a probe there
PERIOD, WATCHED = 1.0, 3.0
TIMEOUT = 60.0
NODE = """<node><cpu><mhz>2000</mhz><model>a</model><active>2</active><nodes>1</nodes>
<sockets>1</sockets><cores>2</cores><threads>1</threads></cpu><memory>8388608</memory></node>"""
GUEST = """\
apiVersion: guestkeeper/v1alpha1
kind: Guest
metadata: {{name: {name}}}
spec: {{host: {host}, image: tiny, memory: {{size: 64Mi}}}}
"""


class World:
    """The house, and whatever is sick of it."""

    def __init__(self, scratch: Path) -> None:
        hosts = {}
        for host in (DEAD, SLOW, *WELL):
            (scratch / f"{host}.xml").write_text(NODE)
            uri = f"test://{scratch}/{host}.xml"
            hosts[host] = {"uri": uri, "pool": POOL, "pools": {POOL: "/gkbench"}}
        settings = settings_for(scratch, uri="", pool=Path("/gkbench"), hosts=hosts)
        self.guests = {
            host: [f"{PREFIX}{host}-{number:03d}" for number in range(EACH)] for host in hosts
        }
        self.let_go = threading.Event()
        directory = settings.desired_dir
        (directory / "image.yaml").write_text(IMAGE.format(name="tiny", file="tiny.raw"))
        for host, names in self.guests.items():
            text = "---\n".join(GUEST.format(name=name, host=host) for name in names)
            (directory / f"{host}.yaml").write_text(text)
        self.house = House(settings)
        self.well = [name for names in zip(*(self.guests[h] for h in WELL), strict=True)
                     for name in names]  # fmt: skip
        self.hung = self.well[:HUNG]
        self.healthy = self.well[HUNG:]
        self._fresh = iter(self.healthy)

    def settle(self) -> None:
        """Every guest runs, and there is nothing to do."""
        house = self.house
        house.triggers.on_scan(house.catalog.scan())
        house.open()
        for host in self.guests:
            self._make_domains(host)
        house.workers.start()
        house.resync.once()
        _wait(lambda: all(self._settled(name) for name in house.catalog.snapshot.guests), "settled")

    def _settled(self, name: str) -> bool:
        status = self.house.status.get(name)
        return status is not None and not status.plan.steps and status.observed.domain is not None

    def _make_domains(self, host: str) -> None:
        snapshot, settings = self.house.catalog.snapshot, self.house.settings
        view = HostView(host, settings.hosts[host].uri, True, default_pool=POOL)
        image = ImageView("tiny", host, POOL, ImageState.READY, base="base")

        def make(connection: libvirt.virConnect) -> None:
            for name in self.guests[host]:
                guest = snapshot.guests[name]
                config = wanted_config(guest, view, None, image, machine_identity(settings))
                owner = Ownership(config.uuid, name, 1, guest.digest, spec_document(guest))
                connection.defineXMLFlags(render(config, owner, Dialect.TEST), 0).create()

        self.house.hypervisor._hosts[host].link.call(Role.ACT, "make", make, TIMEOUT)

    # --- What makes it sick -----------------------------------------------------------------------

    def sicken(self) -> None:
        """From here on; and something has happened to every guest of the sick hosts."""
        for host in (DEAD, SLOW):
            parts = self.house.hypervisor._hosts[host]
            self._hinder(parts.link, host == DEAD)
            for name in self.guests[host]:
                parts.index.touch(name)
                self.house.queue.add(name)
        threading.Thread(target=self._storm, daemon=True).start()
        for name in self.hung:
            self._look_into_hung(name)

    def _hinder(self, link: Any, dead: bool) -> None:
        call = link.call

        def hindered(
            role: Role, operation: str, function: Callable[[Any], Any], timeout: float, **more: Any
        ) -> Any:
            def late(connection: Any) -> Any:
                self.let_go.wait(TIMEOUT if dead else SLOWNESS)
                return function(connection)

            return call(role, operation, late, min(timeout, DEADLINE), **more)

        link.call = hindered

    def _storm(self) -> None:
        """Events of the sick hosts' guests that do not end."""
        for name in itertools.cycle(self.guests[DEAD] + self.guests[SLOW]):
            if self.let_go.wait(0.005):
                return
            self.house.queue.add(name)

    def _look_into_hung(self, name: str) -> None:
        house = self.house
        host = house.catalog.snapshot.guests[name].spec.host
        silent = house.knowledge.failure(name) is not None

        def look() -> None:
            self.let_go.wait(HANGING)
            error = AgentUnavailableError(f"the agent of {name} does not answer")
            house.knowledge.failed(name, "LookInside", error, "", time.time())

        house.operations.start(name, "LookInside", look, lane_of_guest(host, silent=silent))

    # --- What is measured -------------------------------------------------------------------------

    def restarts(self) -> float:
        """From a well guest's end to its next start."""
        seconds = []
        for name in itertools.islice(self._fresh, RESTARTS):
            host = self.house.catalog.snapshot.guests[name].spec.host
            session = self.house.hypervisor._hosts[host].link.ensure_reachable()
            domain = session.connections[Role.ACT].lookupByName(name)
            began = time.perf_counter()
            domain.destroy()
            _wait(domain.isActive, f"{name} runs again")
            seconds.append(time.perf_counter() - began)
        return median(seconds)

    def actions(self) -> float:
        """From the wish to look into a well guest to its end, with many at a time."""
        seconds: list[float] = []
        for at in range(0, ACTIONS, 10):
            for name in self.healthy[at : at + 10]:
                self._time_action(name, seconds)
            _wait(lambda: len(seconds) == at + 10, "looks have ended")  # noqa: B023 - waited for
        return median(seconds)

    def _time_action(self, name: str, seconds: list[float]) -> None:
        began = time.perf_counter()
        host = self.house.catalog.snapshot.guests[name].spec.host

        def look() -> None:
            time.sleep(ACTION)
            seconds.append(time.perf_counter() - began)

        lane = lane_of_guest(host, silent=False)
        if not self.house.operations.start(f"bench {name}", "LookInside", look, lane):
            raise RuntimeError(f"an action for {name} was there already")

    def probes(self, *, sick: bool) -> float:
        """Seconds between two answers of a well guest, whose period is one second."""
        answers: list[str] = []
        asked: set[str] = set()
        hung = frozenset(self.hung)

        def ask(target: ProbeTarget) -> tuple[bool | None, str]:
            asked.add(target.guest)
            if target.guest in hung:
                self.let_go.wait(HANGING)
                return None, "no answer"
            time.sleep(ANSWER)
            answers.append(target.guest)
            return True, ""

        prober = Prober(inside=ask, on_transition=lambda *_: None, on_error=lambda *_: None)
        prober.start()
        try:
            well = self.healthy[:100]
            names = {*(self.hung if sick else ()), *well}
            for name in names:
                prober.set_targets(name, [_inside(name, self.house)])
            _wait(lambda: asked >= names, "every guest was asked")
            time.sleep(HANGING)
            before = len(answers)
            time.sleep(WATCHED)
            return WATCHED * len(well) / max(1, len(answers) - before)
        finally:
            prober.stop()

    def close(self) -> None:
        self.let_go.set()
        self.house.workers.stop(TIMEOUT)
        self.house.close()


def _inside(name: str, house: House) -> ProbeTarget:
    host = house.catalog.snapshot.guests[name].spec.host
    return target_of(name, 1, host=host, kind="exec", inside=True, period=PERIOD)


def _wait(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {TIMEOUT:g} s: {what}")
        time.sleep(0.0005)


def measure(scratch: Path) -> dict[str, dict[str, float]]:
    """What a well guest waits for, in seconds, without the sick ones and beside them."""
    logging.configure("error")
    world = World(scratch)
    try:
        world.settle()
        say("  all guests are settled")
        floors = {
            "restart": world.restarts(),
            "look": world.actions(),
            "probe": world.probes(sick=False),
        }
        world.sicken()
        say("  a host hangs, one is slow, and so do the agents of some guests")
        seconds = {
            "restart": world.restarts(),
            "look": world.actions(),
            "probe": world.probes(sick=True),
        }
    finally:
        world.close()
    return {"floors": floors, "seconds": seconds}


def main() -> None:
    """Prints the figures as JSON on stdout."""
    with tempfile.TemporaryDirectory(prefix=PREFIX) as scratch:
        print(json.dumps(measure(Path(scratch))))


if __name__ == "__main__":
    main()
