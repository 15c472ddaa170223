"""The whole loop, wired as the daemon wires it, over two hosts of libvirt's test driver."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import libvirt
import pytest

from controller.daemon.house import House
from controller.daemon.lock import locked
from controller.daemon.once import apply_once, plan_once
from controller.errors import PermanentError
from controller.loop.status import GuestStatus
from controller.observed.domain import DomainState
from controller.planning.conditions import ConditionType
from controller.settings import Settings
from tests.libvirt.looks import domain_of
from tests.libvirt.nodes import node
from tests.waiting import wait_until

pytestmark = pytest.mark.libvirt
NODE = node("default")
IMAGE = """\
apiVersion: guestkeeper/v1alpha1
kind: Image
metadata: {name: tiny}
spec: {osFamily: debian, source: {file: tiny.raw}}
"""


def guest(name: str, host: str, memory: str = "64Mi") -> str:
    return (
        "apiVersion: guestkeeper/v1alpha1\nkind: Guest\n"
        f"metadata: {{name: {name}}}\n"
        f"spec: {{host: {host}, image: tiny, memory: {{size: {memory}}}}}\n"
    )


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    for name in ("desired", "images", "state", "cache"):
        (tmp_path / name).mkdir()
    hosts = {}
    for name in ("a", "b"):
        (tmp_path / f"{name}.xml").write_text(NODE)
        hosts[name] = {"uri": f"test://{tmp_path}/{name}.xml", "pool": "gk"}
        hosts[name]["pools"] = {"gk": f"/gk-{name}"}  # type: ignore[assignment]
    (tmp_path / "images" / "tiny.raw").write_bytes(b"\1" * 2**20)
    (tmp_path / "desired" / "image.yaml").write_text(IMAGE)
    (tmp_path / "desired" / "one.yaml").write_text(guest("one", "a"))
    (tmp_path / "desired" / "two.yaml").write_text(guest("two", "b"))
    return Settings.model_validate(
        {
            "desired_dir": tmp_path / "desired",
            "state_dir": tmp_path / "state",
            "cache_dir": tmp_path / "cache",
            "images_dir": tmp_path / "images",
            "socket": tmp_path / "gk.sock",
            "listen": "",
            "identity": "test",
            "hosts": hosts,
        }
    )


@pytest.fixture
def house(settings: Settings) -> Iterator[House]:
    one = House(settings, journal=":memory:")
    one.triggers.on_scan(one.catalog.scan())
    one.open()
    one.start_loop()
    yield one
    one.close()


def status(house: House, name: str, wanted: Callable[[GuestStatus], bool]) -> GuestStatus:
    def found() -> GuestStatus | None:
        status = house.status.get(name)
        return status if status is not None and wanted(status) else None

    return wait_until(found, 20, f"{name} comes to it")  # type: ignore[return-value]


def healthy(status: GuestStatus) -> bool:
    return status.plan.settled


def rescan(house: House) -> None:
    house.triggers.on_scan(house.catalog.scan())


def missed(house: House, name: str) -> bool:
    """One look is no evidence; the watcher makes several."""
    rescan(house)
    return name not in house.catalog.snapshot.guests


def domain(house: House, host: str, name: str) -> DomainState | None:
    view = domain_of(house.hypervisor, host, name)
    return view.state if view is not None else None


def test_each_guest_runs_on_its_host_and_on_no_other(house: House) -> None:
    status(house, "one", healthy)
    status(house, "two", healthy)
    assert (domain(house, "a", "one"), domain(house, "b", "one")) == (DomainState.RUNNING, None)
    assert (domain(house, "a", "two"), domain(house, "b", "two")) == (None, DomainState.RUNNING)


def test_a_guest_that_dies_is_started_again_by_its_event_alone(house: House) -> None:
    status(house, "one", healthy)
    house.hypervisor.destroy("a", "one")
    wait_until(lambda: domain(house, "a", "one") is DomainState.RUNNING, 20, "it runs again")
    status(house, "one", healthy)
    reasons = [event.reason for event in house.journal.events("one")]
    assert "DomainStarted" in reasons[reasons.index("GuestReady") :]


def test_a_guest_whose_document_names_another_host_is_not_made_there(
    house: House, settings: Settings
) -> None:
    status(house, "one", healthy)
    (settings.desired_dir / "one.yaml").write_text(guest("one", "b"))
    rescan(house)
    told = status(house, "one", lambda s: "immutable" in s.plan.sentence)
    assert "host: a" in told.plan.sentence
    assert domain(house, "b", "one") is None
    assert domain(house, "a", "one") is DomainState.RUNNING


def test_more_memory_is_defined_and_waits_for_a_cold_boot(house: House, settings: Settings) -> None:
    status(house, "one", healthy)
    (settings.desired_dir / "one.yaml").write_text(guest("one", "a", "96Mi"))
    rescan(house)
    told = status(house, "one", lambda s: s.plan.is_true(ConditionType.RESTART_REQUIRED))
    assert [change.path for change in told.plan.changes] == ["memory.size"]
    house.hypervisor.destroy("a", "one")
    status(house, "one", healthy)


def test_steady_state_reads_no_xml_and_plans_no_step(house: House) -> None:
    for name in ("one", "two"):
        status(house, name, healthy)
    wait_until(lambda: house.queue.stats().depth == 0, 10, "the queue is empty")
    before = {name: house.hypervisor.xml_reads(name) for name in ("a", "b")}
    executed = len(house.journal.events())
    house.resync.once()
    wait_until(lambda: house.queue.stats().depth == 0, 10, "the queue is empty again")
    assert {name: house.hypervisor.xml_reads(name) for name in ("a", "b")} == before
    assert len(house.journal.events()) == executed


def test_a_vanished_document_leaves_its_guest_running_and_is_told(
    house: House, settings: Settings
) -> None:
    status(house, "one", healthy)
    (settings.desired_dir / "one.yaml").unlink()

    def believed() -> bool:
        result = house.catalog.scan()
        house.triggers.on_scan(result)
        return not result.again

    wait_until(believed, 20, "it is believed to be gone")
    status(house, "one", lambda s: "document is gone" in s.plan.sentence)
    assert domain(house, "a", "one") is DomainState.RUNNING

    def told() -> bool:
        return "DocumentVanished" in [event.reason for event in house.journal.events("one")]

    wait_until(told, 5, "the journal tells it")


def test_a_plan_without_a_daemon_changes_nothing_on_the_host(settings: Settings) -> None:
    report = plan_once(settings)
    assert {status.name for status in report.statuses} == {"one", "two"}
    assert all("has no pool gk" in status.plan.sentence for status in report.statuses)
    assert report.unreachable == ()


def test_an_apply_makes_it_so_and_leaves_no_lock(settings: Settings) -> None:
    told: list[str] = []
    for _ in range(2):
        report = apply_once(settings, [], 30, lambda status: told.append(status.name))
        assert [status.plan.settled for status in report.statuses] == [True, True]
    assert set(told) == {"one", "two"}


def test_an_apply_beside_a_daemon_is_refused(settings: Settings) -> None:
    with locked(settings.state_dir), pytest.raises(PermanentError, match=r"holds .*/lock"):
        apply_once(settings, [], 30, lambda _: None)


def test_metrics_tell_of_both_hosts_and_guests(house: House) -> None:
    for name in ("one", "two"):
        status(house, name, healthy)
    text = house.metrics.render()[0].decode()
    assert 'guestkeeper_host_up{host="a"} 1.0' in text
    assert 'guest="two",health="Healthy",host="b",image="tiny",sync="Synced"' in text
    assert 'guestkeeper_desired_documents{kind="Guest"} 2.0' in text
    assert 'guestkeeper_guest_phase_transition_seconds_count{phase="Ready"} 2.0' in text


def test_a_host_that_hangs_at_connect_delays_no_other(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go = threading.Event()
    connect = libvirt.open

    def hang_at_b(uri: str) -> libvirt.virConnect:
        if uri.endswith("b.xml"):
            let_go.wait(60)
        return connect(uri)

    monkeypatch.setattr(libvirt, "open", hang_at_b)
    one = House(settings, journal=":memory:")
    keeper = connect(settings.hosts["a"].uri)
    try:
        one.triggers.on_scan(one.catalog.scan())
        one.open(0)
        one.start_loop()
        told = status(one, "one", lambda s: s.observed.host.reachable)
        assert told.observed.unseen_host == "b", "it may have that guest, so none is made yet"
        wait_until(lambda: not one.queue.stats().depth, 10, "both were looked at")
        assert one.hypervisor.host("b").connecting
        assert one.status.get("two") is None, "of its guests nothing is known, and nothing told"
        let_go.set()
        status(one, "one", healthy)
        status(one, "two", healthy)
    finally:
        let_go.set()
        one.close()
        keeper.close()


def test_a_guest_is_looked_at_though_the_storage_of_another_host_hangs(
    house: House, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To make a guest, every other host is asked whether it has it already."""
    status(house, "one", healthy)
    status(house, "two", healthy)
    let_go = threading.Event()
    storage = house.hypervisor._hosts["b"].storage
    monkeypatch.setattr(storage, "pools", lambda: let_go.wait(60) and storage.known_pools())
    try:
        (settings.desired_dir / "three.yaml").write_text(guest("three", "a"))
        rescan(house)
        for _ in range(20):
            house.queue.add("two")
        status(house, "three", healthy)
        (settings.desired_dir / "three.yaml").unlink()
        wait_until(lambda: missed(house, "three"), 20, "its absence is believed")
        status(house, "three", lambda s: s.plan.is_true(ConditionType.ORPHANED))
    finally:
        let_go.set()
