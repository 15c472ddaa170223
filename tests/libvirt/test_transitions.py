"""Random histories of one document over libvirt's test driver: wherever a guest comes from, it ends
as one that was made from its last document, and nothing was made, stopped or deleted without need.
"""

import itertools
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.desired.effective import EffectiveGuest, EffectiveImage
from controller.desired.schema.guest import RunStrategy
from controller.errors import TransientError
from controller.execution.executor import Executor, Ports
from controller.execution.knowledge import Knowledge
from controller.hypervisor.connection.config import HostConfig
from controller.hypervisor.hypervisor import Hypervisor
from controller.loop.look import Look
from controller.loop.reconciler import Reconciler
from controller.loop.status import StatusStore
from controller.observed.domain import DomainConfig, DomainState, DomainView
from controller.observed.image import ImageState, ImageView
from controller.planning.compare.changes import config_changes
from controller.planning.conditions import ConditionType, Sync
from tests.factories import NOW, POLICY, a_guest, an_image
from tests.fakes import Documents, FakeWorld, InlineOperations
from tests.libvirt.nodes import absent_but_bases, node
from tests.waiting import wait_until

pytestmark = [pytest.mark.libvirt, pytest.mark.timeout(3600)]
CHAIN, CHAINS, FEW = 20, 150, 15  # 3,000 transitions, and 300 of them each time
SIZES = ("64Mi", "128Mi", "256Mi")
COUNTED = ("create_volume", "start", "shutdown", "destroy", "delete_volume", "undefine")
KEEPS_CHANGING = "keeps changing"
_names = (f"guest{number}" for number in itertools.count())


class Counting:
    """The hypervisor, with its calls of weight counted."""

    def __init__(self, hypervisor: Hypervisor) -> None:
        self._hypervisor = hypervisor
        self.calls: list[tuple[str, str]] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._hypervisor, name)
        if name not in COUNTED:
            return method

        def call(host: str, first: str, *rest: Any, **named: Any) -> Any:
            self.calls.append((name, rest[0] if name.endswith("volume") else first))
            return method(host, first, *rest, **named)

        return call

    def absent(self, host: str, pool: str, names: Collection[str]) -> frozenset[str]:
        return absent_but_bases(self._hypervisor, host, pool, names)

    def count(self, name: str) -> int:
        return sum(called == name for called, _ in self.calls)


class Images:
    def view(self, host: str, pool: str, image: EffectiveImage) -> ImageView:
        base = f"gk-base-{image.name}-0123456789ab.qcow2"
        return ImageView(
            image.name, host, pool, ImageState.READY,
            base=base, base_path=f"/pool/{base}", capacity=2**30,
        )  # fmt: skip


class Keeper:
    """The loop over a real hypervisor room, in this thread."""

    def __init__(self, hypervisor: Hypervisor) -> None:
        self.world = Counting(hypervisor)
        inside = FakeWorld()
        self.now = NOW
        self.documents = Documents()
        self.status = StatusStore()
        self.knowledge = knowledge = Knowledge()
        operations = InlineOperations()
        ports = Ports(self.world, inside, Images(), inside, inside)  # type: ignore[arg-type]
        clock = lambda: self.now  # noqa: E731
        look = Look(ports, knowledge, operations, POLICY.seed, clock=clock)
        look.listed("local", ())
        self.executor = Executor(ports, knowledge, operations, clock=clock)
        self.reconciler = Reconciler(
            self.documents, ports, look, self.executor, knowledge, self.status, POLICY, clock=clock
        )

    def settle(self, guest: EffectiveGuest) -> None:
        """Passes until there is nothing to do; whatever waits for an operator is asked for."""
        self.documents.guests[guest.name] = guest
        for _ in range(60):
            result = self.reconciler.reconcile(guest.name)
            if result.word == "requeue":
                continue
            failure = self.knowledge.failure(guest.name)
            if result.word == "error" and failure and KEEPS_CHANGING in failure.message:
                self.domain(guest.name)
                self.now = failure.retry_at
                continue
            assert result.word != "error", self.plan(guest).sentence
            made = self.plan(guest)
            if made.replace_to:
                self.executor.record("local", guest.name, approved=made.replace_to)
            elif made.condition(ConditionType.RESTART_REQUIRED):
                self.executor.record("local", guest.name, restart_requested=self.now)
            elif made.steps == () and made.sync is Sync.SYNCED:
                return
            else:
                raise AssertionError(f"stuck: {made.sentence}")
        raise AssertionError(f"does not settle: {self.plan(guest).sentence}")

    def plan(self, guest: EffectiveGuest):  # type: ignore[no-untyped-def]
        status = self.status.get(guest.name)
        assert status is not None
        return status.plan

    def domain(self, name: str) -> DomainView:
        """As it is once its events, which come in a thread of libvirt's, are through: on a busy
        machine those of a whole history may come in one go, amid a look.
        """
        found = wait_until(
            lambda: self.world.domain("local", name),
            60,
            f"{name} stands",
            ignoring=(TransientError,),
        )
        assert isinstance(found, DomainView)
        return found

    def remove(self, name: str) -> None:
        """What the test made, and no more."""
        self.documents.guests.pop(name, None)
        self.world.destroy("local", name)
        self.world.undefine("local", name)
        for volume in self.world.volumes("local", "gk"):
            if volume.name.startswith(f"{name}-"):
                self.world.delete_volume("local", "gk", volume.name)


@pytest.fixture(scope="module")
def hypervisor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hypervisor]:
    path = tmp_path_factory.mktemp("driver") / "node.xml"
    path.write_text(node("default", "other"))
    one = Hypervisor([HostConfig("local", f"test://{path}", "gk", {"gk": "/gk"})])
    one.open()
    yield one
    one.close()


@st.composite
def specs(draw: st.DrawFn) -> dict[str, Any]:
    size = draw(st.sampled_from(SIZES))
    vcpus = draw(st.integers(1, 3))
    disk = st.sampled_from(("a", "b", "c"))
    limits = draw(st.sampled_from((None, {"totalIopsSec": 100})))
    tuned = {"ioTune": limits} if limits else {}
    fields: dict[str, Any] = {
        "title": draw(st.sampled_from((None, "one", "two"))),
        "autostart": draw(st.booleans()),
        "memory": {"size": size, "max": draw(st.sampled_from(("256Mi", "512Mi")))},
        "cpu": {"vcpus": vcpus, "max": draw(st.sampled_from((3, 4)))},
        "disks": [
            {"name": name, "size": "1Gi", **tuned}
            for name in draw(st.lists(disk, unique=True, max_size=3))
        ],
        "interfaces": [
            {"name": "lan", "network": draw(st.sampled_from(("default", "other")))}
        ] * draw(st.integers(0, 1)),
        "runStrategy": draw(st.sampled_from(("Always", "Always", "Halted"))),
    }  # fmt: skip
    policy = {"replace": draw(st.sampled_from(("Manual", "Automatic")))}
    return fields | {
        "updatePolicy": policy,
        "image": an_image(draw(st.sampled_from(("one", "two")))),
    }


def comparable(config: DomainConfig) -> DomainConfig:
    """Without what tells one life from another: names, addresses, where a disk was plugged in."""
    disks = tuple(replace(disk, volume="", target=f"{disk.alias}") for disk in config.disks)
    nics = tuple(replace(nic, mac="") for nic in config.nics)
    return replace(config, name="", uuid="", disks=disks, nics=nics)


CHAINED = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@settings(CHAINED, max_examples=FEW)
@given(chain=st.lists(specs(), min_size=CHAIN, max_size=CHAIN))
def test_any_way_to_a_document_ends_as_if_made_from_it(
    hypervisor: Hypervisor, chain: list[dict[str, Any]]
) -> None:
    lead(hypervisor, chain)


@pytest.mark.long
@settings(CHAINED, max_examples=CHAINS)
@given(chain=st.lists(specs(), min_size=CHAIN, max_size=CHAIN))
def test_three_thousand_transitions_end_as_if_made_from_their_last_document(
    hypervisor: Hypervisor, chain: list[dict[str, Any]]
) -> None:
    lead(hypervisor, chain)


def lead(hypervisor: Hypervisor, chain: list[dict[str, Any]]) -> None:
    """A guest through all documents of the chain, and another from nothing to the last."""
    keeper = Keeper(hypervisor)
    name = next(_names)
    try:
        before: EffectiveGuest | None = None
        for spec in chain:
            guest = a_guest(name, **spec)
            had = keeper.domain(name) if before is not None else None
            keeper.world.calls.clear()
            keeper.settle(guest)
            check(keeper, before, had, guest)
            before = guest
        scratch = next(_names)
        try:
            keeper.settle(a_guest(scratch, **chain[-1]))
            has, wanted = keeper.domain(name), keeper.domain(scratch)
            assert comparable(has.config) == comparable(wanted.config)
            assert (has.live is None) == (wanted.live is None)
            if has.live is not None and wanted.live is not None:
                assert comparable(has.live) == comparable(wanted.live)
            assert (has.state, has.autostart) == (wanted.state, wanted.autostart)
        finally:
            keeper.remove(scratch)
    finally:
        keeper.remove(name)


def check(
    keeper: Keeper, before: EffectiveGuest | None, had: DomainView | None, guest: EffectiveGuest
) -> None:
    """One transition cost what it had to, and no more."""
    has = keeper.domain(guest.name)
    on = guest.spec.run_strategy is RunStrategy.ALWAYS
    assert has.state is (DomainState.RUNNING if on else DomainState.SHUTOFF)
    kept = {disk.name for disk in before.spec.disks} if before is not None else set()
    seen = {volume.name for volume in keeper.world.volumes("local", "gk")}
    other = before is not None and before.spec.image != guest.spec.image
    made = [volume for call, volume in keeper.world.calls if call == "create_volume"]
    assert len(made) == len(set(made))
    assert set(made) <= seen, "nothing of the guest's is ever deleted here"
    most = len({disk.name for disk in guest.spec.disks} - kept)
    most += 1 if before is None or other else 0
    assert len(made) <= most
    assert keeper.world.count("delete_volume") == 0
    assert keeper.world.count("undefine") == 0
    assert keeper.world.count("destroy") == 0
    was_on = had is not None and had.live is not None
    # libvirt's test driver plugs nothing into a running domain: that waits for a cold boot, too.
    cold = had is not None and had.live is not None and _needs_boot(had.live, has.config)
    boots = 0
    if on:
        boots = 1 if not was_on or other or cold else 0
        if other and not was_on and guest.spec.update_policy.replace == "Manual":
            boots = 2  # approved once it runs
    assert keeper.world.count("start") == boots, (keeper.world.calls, before, guest)
    stops = boots - 1 if not was_on else boots
    assert keeper.world.count("shutdown") == (stops if on else int(was_on))


def _needs_boot(live: DomainConfig, wanted: DomainConfig) -> bool:
    changes = config_changes(live, wanted)
    plugged = ("disks[", "interfaces[", "systemDisk")
    return any(
        str(change.change) == "restart" or change.path.startswith(plugged) for change in changes
    )
