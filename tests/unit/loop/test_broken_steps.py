"""Every step, broken: the daemon killed before and after its call, the call refused, no answer.

Each scenario first goes its way undisturbed. Then it goes it again, once for each call that it
made and each way in which a call can end badly, and has to end in the same state: nothing that was
only meant to be done counts as done, and what may have been done is asked for again. That nobody is
powered off who was not asked to shut down is the world's own rule (``tests.fakes``).
"""

import itertools
import typing
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from controller.desired.effective import EffectiveGuest
from controller.errors import HostBusyError, HostUnreachableError, TransientError
from controller.execution.executor import Subject
from controller.observed.domain import DomainState, DomainView, StateReason
from controller.observed.guest import Observed
from controller.planning import steps
from controller.planning.steps import AdoptDomain
from tests.factories import a_file, a_guest, a_host, a_probe, a_service, an_image
from tests.fakes import Break, Daemon, Documents, FakeWorld, KilledError

PROBE = a_probe(tcpSocket={"port": 22, "from": "guest"})
SERVICES = (a_service(files=(a_file(),), probes=(PROBE,)),)
DATA = {"name": "data", "size": "1Gi"}
LAN = {"name": "lan", "network": "default"}


def guest(**fields: object) -> EffectiveGuest:
    fields = {"disks": [DATA], "interfaces": [LAN], "driftInterval": "1d", **fields}
    return a_guest(services=SERVICES, **fields)


@dataclass(frozen=True)
class Scenario:
    """``before`` is what is there and settled (None: nothing), ``happens`` what comes then."""

    before: EffectiveGuest | None
    happens: Callable[["Run"], None]
    ends: DomainState | None = DomainState.RUNNING
    boots: int | None = None
    """How many runs the domain has from then on; None: not looked at."""


class Run:
    """One way of a scenario."""

    def __init__(self, scenario: Scenario, break_at: tuple[int, Break] | None) -> None:
        self.world = FakeWorld()
        self.documents = Documents()
        self.daemon = Daemon(self.world, self.documents)
        if scenario.before is not None:
            self.documents.guests["web1"] = scenario.before
            self.daemon.settle("web1")
            self.world.start("local", "web1")
            self.daemon.settle("web1")
        scenario.happens(self)
        self.world.now += 1
        self.boots = self.world.runs
        self.world.calls.clear()
        self.world.break_at = break_at
        self.go()

    def note(self, **changes: object) -> None:
        self.daemon.executor.record("local", "web1", **changes)

    def go(self) -> None:
        """Until nothing happens any more, though time goes on."""
        quiet = 0
        for _ in range(300):
            calls = len(self.world.calls)
            try:
                result = self.daemon.reconcile("web1")
            except KilledError:
                self.world.now += 5
                self.daemon = Daemon(self.world, self.documents)
                continue
            # A resync looks once a minute.
            self.world.now += min(60.0, result.after or (60.0 if result.word == "success" else 0.1))
            quiet = 0 if len(self.world.calls) > calls else quiet + 1
            if quiet > 20:
                return
        raise AssertionError(f"it does not come to an end: {self.world.calls[-10:]}")

    def end(self) -> object:
        """What there is in the end, without what tells one time from another."""
        volumes = sorted(
            name.rpartition("-2027")[0] or name for _, name in self.world.volumes_there
        )
        domain = self.world.domains.get("web1")
        if domain is None:
            return volumes, None
        assert domain.ownership is not None
        record = domain.ownership.record
        return (
            volumes,
            domain.state,
            comparable(domain),
            domain.autostart,
            domain.ownership.digest,
            domain.ownership.base,
            (record.restart_requested, record.replacement, record.suspended, record.deleting),
        )


def comparable(domain: DomainView) -> object:
    config, live = (
        replace(
            one,
            disks=tuple(
                replace(disk, volume="") if disk.alias == "disk-system" else disk
                for disk in one.disks
            ),
        )
        for one in (domain.config, domain.live or domain.config)
    )
    return config, live


def changes(run: Run) -> None:
    run.documents.guests["web1"] = guest(
        title="other",
        autostart=True,
        cpu={"vcpus": 2, "max": 4},
        memory={"size": "768Mi", "max": "1Gi"},
        disks=[
            {"name": "data", "size": "2Gi", "ioTune": {"totalIopsSec": 9}},
            {"name": "new", "size": "1Gi"},
        ],
        interfaces=[{"name": "lan", "network": "default", "link": "down"}],
    )


def restart(run: Run) -> None:
    run.note(restart_requested=run.world.now)


def deaf_restart(run: Run) -> None:
    run.world.deaf.add("web1")
    restart(run)


def staged(run: Run) -> None:
    run.documents.guests["web1"] = replace_spec(run.documents.guests["web1"], max_vcpus=8)


def replace_spec(wanted: EffectiveGuest, *, max_vcpus: int) -> EffectiveGuest:
    return guest(
        runStrategy=wanted.spec.run_strategy,
        updatePolicy={"restart": wanted.spec.update_policy.restart},
        cpu={"vcpus": 1, "max": max_vcpus},
    )


def halt(run: Run) -> None:
    run.documents.guests["web1"] = guest(runStrategy="Halted")


def deaf_halt(run: Run) -> None:
    run.world.deaf.add("web1")
    halt(run)


def crash(run: Run) -> None:
    run.world.stop("web1", StateReason.CRASHED)


def new_base(run: Run) -> None:
    run.world.base = "gk-base-debian12-new.qcow2"


def broken_base(run: Run) -> None:
    new_base(run)
    run.world.broken.add(run.world.base)


def vanish(run: Run) -> None:
    run.documents.orphans["web1"] = run.documents.guests.pop("web1")


CREATED = guest(autostart=True)
SEEDED = a_guest(
    services=SERVICES, image=an_image(cloudInit=True), disks=[DATA], driftInterval="1d"
)
MANUAL = guest(runStrategy="Manual")
AUTOMATIC = guest(
    runStrategy="Manual", updatePolicy={"restart": "Automatic"}, cpu={"vcpus": 1, "max": 4}
)
REPLACED = guest(
    updatePolicy={"replace": "Automatic", "retiredDiskTTL": "30s", "progressDeadline": "10m"}
)
OFF = DomainState.SHUTOFF
SCENARIOS = {
    "a guest is made": Scenario(
        None, lambda run: run.documents.guests.update(web1=CREATED), boots=1
    ),
    "a guest is made with a seed": Scenario(
        None, lambda run: run.documents.guests.update(web1=SEEDED), boots=1
    ),
    "it is changed while it runs": Scenario(
        guest(
            cpu={"vcpus": 1, "max": 4},
            memory={"size": "512Mi", "max": "1Gi"},
            disks=[DATA, {"name": "old", "size": "1Gi"}],
        ),
        changes,
        boots=0,
    ),
    "an operator restarts it": Scenario(MANUAL, restart, boots=1),
    "an operator restarts it, and it does not hear": Scenario(MANUAL, deaf_restart, boots=1),
    "it is booted cold by itself": Scenario(AUTOMATIC, staged, boots=1),
    "it is halted": Scenario(guest(), halt, OFF, boots=0),
    "it is halted, and does not hear": Scenario(guest(), deaf_halt, OFF, boots=0),
    "it crashed": Scenario(guest(), crash, boots=1),
    "its disk is replaced": Scenario(REPLACED, new_base, boots=1),
    "its new disk does not come up": Scenario(REPLACED, broken_base),
    "its document is gone, Stop": Scenario(guest(deletionPolicy="Stop"), vanish, OFF, boots=0),
    "its document is gone, Delete": Scenario(guest(deletionPolicy="Delete"), vanish, None, boots=0),
}


@pytest.mark.parametrize("how", Break)
@pytest.mark.parametrize("name", SCENARIOS)
def test_whatever_call_breaks_it_ends_as_if_none_had(name: str, how: Break) -> None:
    scenario = SCENARIOS[name]
    calm = Run(scenario, None)
    domain = calm.world.domains.get("web1")
    assert (domain.state if domain is not None else None) is scenario.ends
    for number in range(len(calm.world.calls)):
        where = f"{calm.world.calls[number]}, {how}"
        run = Run(scenario, (number, how))
        assert run.end() == calm.end(), where
        if scenario.boots is not None:
            boots = run.world.runs - run.boots
            assert boots == scenario.boots, where


def test_every_step_there_is_is_broken_by_one_of_them() -> None:
    broken = {step for one in SCENARIOS.values() for step, _ in Run(one, None).world.calls}
    every = {step.__name__ for step in typing.get_args(steps.Step)}
    assert every - broken == {"AdoptDomain"}, "which the next test breaks"


@pytest.mark.parametrize("how", Break)
def test_an_adoption_that_breaks_is_done_again(how: Break) -> None:
    world = FakeWorld()
    documents = Documents(guest())
    daemon = Daemon(world, documents)
    daemon.settle("web1")
    has = world.domains["web1"]
    owner = has.ownership
    assert owner is not None
    world.domains["web1"] = replace(has, ownership=None)
    step = AdoptDomain(has.uuid, owner, ())
    world.break_at = (len(world.calls), how)
    subject, seen = Subject("web1", "local"), Observed(a_host())
    with pytest.raises((KilledError, HostBusyError, HostUnreachableError)):
        daemon.executor.execute(subject, seen, step)
    Daemon(world, documents).executor.execute(subject, seen, step)
    assert world.domains["web1"] == replace(has, started_at=None)  # as this daemon knows it


@pytest.mark.parametrize("off", [False, True], ids=["running", "off"])
def test_what_the_host_lacks_for_a_start_ends_no_promise_of_one(off: bool) -> None:
    run = Run(Scenario(MANUAL, lambda run: None), None)
    if off:
        run.world.stop("web1", StateReason.SHUTDOWN)
    run.world.fail["start"] = TransientError("pool default is not active", reason="PoolInactive")
    restart(run)
    tries: list[float] = []
    for _ in range(80):
        calls = len(run.world.calls)
        result = run.daemon.reconcile("web1")
        if ("StartDomain", "start web1") in run.world.calls[calls:]:
            tries.append(run.world.now)
        run.world.now += max(1.0, min(60.0, result.after or 60.0))
    assert run.world.domains["web1"].state is DomainState.SHUTOFF
    pauses = [later - last for last, later in itertools.pairwise(tries)]
    assert len(pauses) > 4
    assert pauses[:5] == sorted(pauses[:5]), "it waits ever longer"
    assert pauses[4] >= 60
    del run.world.fail["start"]
    run.go()
    assert run.world.domains["web1"].state is DomainState.RUNNING
