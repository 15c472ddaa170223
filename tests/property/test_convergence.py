"""Whatever happened, the loop ends in the state the documents ask for, and stays there.

Oracles (after Sieve, Acto and Anvil): the end state is the one a fault-free run from nothing gives
for the last document; nothing is made twice; once settled, a pass has no effect.
"""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from controller.desired.effective import EffectiveGuest
from controller.errors import (
    AgentUnavailableError,
    HostBusyError,
    HostUnreachableError,
    TransientError,
)
from controller.observed.domain import DomainConfig, DomainState, DomainView, StateReason
from controller.observed.host import HostView
from controller.planning.conditions import ConditionType, Sync
from tests.factories import a_file, a_guest, a_host, a_probe, a_service, an_image
from tests.fakes import Break, Daemon, Documents, FakeWorld, KilledError

SIZES = st.sampled_from(["256Mi", "512Mi", "1Gi"])
CONTENTS = st.binary(min_size=1, max_size=4)
NEW_BASES = ["gk-base-debian12-b.qcow2", "gk-base-debian12-c.qcow2"]


@st.composite
def guests(draw: st.DrawFn, *, cloud_init: bool) -> EffectiveGuest:
    """Specs of one guest that differ in everything this version can carry out."""
    services = [
        a_service(
            f"s{number}",
            packages=tuple(draw(st.lists(st.sampled_from(["a", "b"]), unique=True))),
            files=(a_file(f"/etc/s{number}", draw(CONTENTS)),),
            unit=draw(st.sampled_from([None, f"s{number}.service"])),
            probes=(a_probe(tcpSocket={"port": 22, "from": "guest"}),),
        )
        for number in range(draw(st.integers(0, 2)))
    ]
    names = draw(st.lists(st.sampled_from(["a", "b", "c"]), unique=True, max_size=2))
    tuned = draw(st.sampled_from([{}, {"ioTune": {"totalIopsSec": 9}}, {"cache": "none"}]))
    disks = [{"name": name, "size": "1Gi", **tuned} for name in names]
    nics = [{"name": "lan", "network": "default"}] if draw(st.booleans()) else []
    fields = {
        "title": draw(st.sampled_from([None, "one"])),
        "autostart": draw(st.booleans()),
        "updatePolicy": {
            "restart": draw(st.sampled_from(["Staged", "Automatic"])),
            "replace": draw(st.sampled_from(["Manual", "Automatic"])),
        },
        "memory": {"size": draw(SIZES)},
        "cpu": {"vcpus": draw(st.integers(1, 3)), "max": 4},
        "disks": disks,
        "interfaces": nics,
    }
    return a_guest(services=tuple(services), image=an_image(cloudInit=cloud_init), **fields)


EVENTS = st.sampled_from(
    ["crash", "destroy", "shutdown", "boot", "drift", "redefined", "host-gone", "agent-gone",
     "step-fails", "kill-before", "kill-after", "new-document", "restart-daemon", "time",
     "new-base", "broken-base", "approve", "roll-back", "restart", "suspend", "deaf",
     "refused", "no-answer", "clock-set"]
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_history_ends_in_what_the_last_document_asks_for(data: st.DataObject) -> None:
    cloud_init = data.draw(st.booleans())
    world = FakeWorld()
    documents = Documents(data.draw(guests(cloud_init=cloud_init)))
    daemon = Daemon(world, documents)
    data_disks: list[DomainView] = []
    for event in data.draw(st.lists(EVENTS, max_size=12)):
        if "web1" in world.domains:
            data_disks.append(without_system(world.domains["web1"]))
        try:
            daemon = _happen(event, world, documents, daemon, data, cloud_init=cloud_init)
        except KilledError:  # while an operator's wish was written down
            daemon = Daemon(world, documents)
        except (HostBusyError, HostUnreachableError):  # which is told to the operator
            pass
        for _ in range(data.draw(st.integers(0, 4))):
            try:
                daemon.reconcile("web1")
            except KilledError:
                daemon = Daemon(world, documents)
    world.fail.clear()
    world.kill_at = world.break_at = None
    world.view = a_host()
    world.mend("web1")
    world.now += 4000
    daemon = Daemon(world, documents)
    _record(world, daemon, suspended=False)
    daemon.settle("web1")
    _operator(world, daemon)

    guest = documents.guests["web1"]
    status = daemon.status.get("web1")
    assert status is not None
    assert status.plan.sync is Sync.SYNCED, status.plan.sentence
    assert status.plan.steps == ()
    assert status.plan.changes == ()

    scratch = FakeWorld()
    scratch.base = world.base
    Daemon(scratch, Documents(guest)).settle("web1")
    has, wanted = world.domains["web1"], scratch.domains["web1"]
    assert has.state == wanted.state
    assert has.autostart == wanted.autostart
    assert comparable(has.config) == comparable(wanted.config)
    assert has.live == has.config
    assert has.ownership is not None
    assert has.ownership.base == world.base
    assert has.ownership.record.replacement is None
    volumes = {name for _, name in world.volumes_there}
    for domain in (has, *data_disks):
        assert {disk.volume for disk in domain.config.disks if disk.volume} <= volumes
    made = [effect for effect in world.effects if effect.startswith("create_volume")]
    assert len(made) == len(set(made)), "a volume was made twice"
    seeds = [name for _, name in world.volumes_there if name.endswith(".iso")]
    assert seeds == []

    assert daemon.reconciler.preview(guest)[1] == status.plan, "a plan was kept too long"

    effects = len(world.effects)
    for _ in range(3):
        daemon.reconcile("web1")
    assert len(world.effects) == effects, "it does not stay as it is"


def without_system(domain: DomainView) -> DomainView:
    disks = tuple(disk for disk in domain.config.disks if disk.alias.startswith("disk-"))
    kept = tuple(disk for disk in disks if disk.alias != "disk-system")
    return replace(domain, config=replace(domain.config, disks=kept))


def comparable(config: DomainConfig) -> DomainConfig:
    """Without where a disk was plugged in, and which system disk it is."""
    disks = tuple(
        replace(disk, target=disk.alias, volume="" if disk.alias == "disk-system" else disk.volume)
        for disk in config.disks
        if disk.alias != "cdrom-seed"
    )
    return replace(config, disks=disks)


def _record(world: FakeWorld, daemon: Daemon, **changes: object) -> None:
    if "web1" in world.domains:
        daemon.executor.record("local", "web1", **changes)


def _operator(world: FakeWorld, daemon: Daemon) -> None:
    """Does what the daemon says that it waits for, until it waits for nothing."""
    for _ in range(5):
        status = daemon.status.get("web1")
        assert status is not None
        if status.plan.replace_to:
            _record(world, daemon, approved=status.plan.replace_to)
        elif status.plan.condition(ConditionType.RESTART_REQUIRED) is not None:
            _record(world, daemon, restart_requested=world.clock())
        else:
            return
        daemon.settle("web1")


def _happen(
    event: str,
    world: FakeWorld,
    documents: Documents,
    daemon: Daemon,
    data: st.DataObject,
    *,
    cloud_init: bool,
) -> Daemon:
    domain = world.domains.get("web1")
    running = domain is not None and domain.state is DomainState.RUNNING
    match event:
        case "crash" | "destroy" | "shutdown" if running:
            reason = {"crash": "crashed", "destroy": "destroyed", "shutdown": "shutdown"}[event]
            world.stop("web1", StateReason(reason))
        case "boot" if domain is not None and not running:
            world.fail.clear()
            world.kill_at = world.break_at = None
            world.start("local", "web1")
        case "drift" if "web1" in world.insides:
            inside = world.insides["web1"]
            units = {u: replace(f, active="inactive") for u, f in inside.units.items()}
            files = {p: replace(f, sha256="0" * 64) for p, f in inside.files.items()}
            world.insides["web1"] = replace(inside, hostname="x", units=units, files=files)
        case "new-base":
            world.base = data.draw(st.sampled_from(["gk-base-debian12-abc.qcow2", *NEW_BASES]))
        case "broken-base":
            world.broken = {data.draw(st.sampled_from(NEW_BASES))}
        case "approve":
            status = daemon.status.get("web1")
            if status is not None:
                _record(world, daemon, approved=status.plan.replace_to)
        case "roll-back":
            _record(world, daemon, rollback=True)
        case "restart":
            _record(world, daemon, restart_requested=world.clock())
        case "suspend":
            _record(world, daemon, suspended=data.draw(st.booleans()))
        case "deaf":
            world.deaf = {"web1"}
        case "redefined" if domain is not None:
            world.domains["web1"] = replace(domain, config=replace(domain.config, vcpus=3))
        case "host-gone":
            world.view = HostView("local", "test:///", reachable=False, why="gone")
        case "agent-gone":
            world.fail = {"look": AgentUnavailableError("no agent")}
        case "step-fails":
            name = data.draw(st.sampled_from(["define", "start", "create_volume", "apply"]))
            world.fail = {name: TransientError("no")}
        case "kill-before" | "kill-after":
            world.kill_at = (len(world.effects) + data.draw(st.integers(0, 3)), event[5:])
        case "refused" | "no-answer":
            hows = [Break.REFUSED] if event == "refused" else [Break.LOST, Break.DONE]
            how = data.draw(st.sampled_from(hows))
            world.break_at = len(world.calls) + data.draw(st.integers(0, 3)), how
        case "clock-set":
            world.ahead = data.draw(st.sampled_from([-3600.0, -60.0, 0.0, 300.0, 8 * 86400.0]))
        case "new-document":
            documents.guests["web1"] = data.draw(guests(cloud_init=cloud_init))
        case "restart-daemon":
            return Daemon(world, documents)
        case "time":
            world.now += data.draw(st.sampled_from([1.0, 60.0, 4000.0]))
            world.view = a_host()
            world.fail.clear()
        case _:
            pass
    return daemon
