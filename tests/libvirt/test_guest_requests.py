"""An operator's wishes through the daemon's API, carried out on libvirt's test driver."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest

from controller.daemon import house as house_module
from controller.daemon.house import House
from controller.daemon.once import plan_once
from controller.daemon.run import application
from controller.errors import PermanentError
from controller.hypervisor.connection.config import Role
from controller.hypervisor.hypervisor import Hypervisor
from controller.loop.status import GuestStatus
from controller.observed.domain import DomainState, DomainView
from controller.planning.conditions import ConditionType
from controller.settings import Settings
from controller.web.server import WebServer
from tests.libvirt.looks import domain_of
from tests.libvirt.nodes import node
from tests.waiting import wait_until

pytestmark = pytest.mark.libvirt
NODE = node()
IMAGE = """\
apiVersion: guestkeeper/v1alpha1
kind: Image
metadata: {name: tiny}
spec: {osFamily: debian, source: {file: tiny.raw}}
"""
GUEST = """\
apiVersion: guestkeeper/v1alpha1
kind: Guest
metadata: {name: one}
spec:
  host: a
  image: tiny
  memory: {size: 64Mi}
  deletionPolicy: Delete
  disks: [{name: data, size: 1Mi}]
"""


class Site:
    """A daemon with one guest, and an operator at its API."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.house = House(settings, journal=":memory:")
        self.house.on_scan(self.house.catalog.scan())
        self.house.open()
        self.house.start_loop()
        shown = application(self.house, lambda: (True, "it works"))
        self.web = WebServer(shown, listen="", socket=settings.socket)
        self.web.start()
        transport = httpx.HTTPTransport(uds=str(settings.socket))
        base = "http://guestkeeper/api/v1/"
        self.http = httpx.Client(transport=transport, base_url=base, timeout=60)

    def close(self) -> None:
        self.http.close()
        self.web.stop()
        self.house.close()

    def post(self, path: str, **parameters: str) -> tuple[int, str]:
        answer = self.http.post(path, params=parameters)
        body = answer.json()
        return answer.status_code, body.get("message") or body.get("error", {}).get("message", "")

    def get(self, path: str) -> Any:
        return self.http.get(path).json()

    def until(self, what: str, wanted: Any) -> GuestStatus:
        def found() -> GuestStatus | None:
            status = self.house.status.get("one")
            return status if status is not None and wanted(status) else None

        return wait_until(found, 20, what)  # type: ignore[return-value]

    def settled(self) -> DomainView:
        self.until("it is as wanted", lambda status: status.plan.settled)
        return self.domain()

    def domain(self) -> DomainView:
        found = domain_of(self.house.hypervisor, "a", "one")
        assert found is not None
        return found

    def write(self, text: str, file: str = "one.yaml") -> None:
        (self.settings.desired_dir / file).write_text(text)
        self.house.on_scan(self.house.catalog.scan())

    def volumes(self) -> dict[str, str]:
        """Volume -> what it is used for; the data disk's name is shortened."""
        return {
            "data.qcow2" if item["disk"] == "data" else item["name"]: item["use"]
            for item in self.get("volumes")["items"]
            if item["guest"] == "one"
        }


@pytest.fixture
def short() -> Iterator[Path]:
    """A unix socket's path has 107 bytes at most."""
    with TemporaryDirectory(prefix="gk") as path:
        yield Path(path)


@pytest.fixture
def site(tmp_path: Path, short: Path) -> Iterator[Site]:
    for name in ("desired", "images", "state", "cache"):
        (tmp_path / name).mkdir()
    (tmp_path / "a.xml").write_text(NODE)
    (tmp_path / "images" / "tiny.raw").write_bytes(b"\1" * 2**20)
    (tmp_path / "desired" / "image.yaml").write_text(IMAGE)
    (tmp_path / "desired" / "one.yaml").write_text(GUEST)
    host = {"uri": f"test://{tmp_path}/a.xml", "pool": "gk", "pools": {"gk": "/gk"}}
    made = Site(
        Settings.model_validate(
            {
                "desired_dir": tmp_path / "desired",
                "state_dir": tmp_path / "state",
                "cache_dir": tmp_path / "cache",
                "images_dir": tmp_path / "images",
                "socket": short / "gk.sock",
                "listen": "",
                "identity": "test",
                "prune_grace_seconds": 0,
                "max_deletions": 0,
                "max_deletions_percent": 0,
                "hosts": {"a": host},
            }
        )
    )
    yield made
    made.close()


def another_image(site: Site) -> None:
    (site.settings.images_dir / "other.raw").write_bytes(b"\2" * 2**20)
    site.write(IMAGE.replace("tiny.raw", "other.raw"), "image.yaml")


def system_disk(domain: DomainView) -> str:
    return str(next(disk.volume for disk in domain.config.disks if disk.alias == "disk-system"))


def test_a_suspended_guest_that_dies_is_started_when_it_is_resumed(site: Site) -> None:
    site.settled()
    assert site.post("guests/one/suspend")[0] == 202
    site.until("it is left alone", lambda status: status.plan.is_true(ConditionType.SUSPENDED))
    site.house.hypervisor.destroy("a", "one")
    site.until("that is seen", lambda status: not status.observed.domain.state.active)
    assert site.domain().state is DomainState.SHUTOFF
    assert site.post("guests/one/resume")[0] == 202
    assert site.settled().state is DomainState.RUNNING


def test_every_guest_is_left_alone(site: Site) -> None:
    site.settled()
    assert site.post("suspend")[0] == 202
    site.until("it is left alone", lambda status: status.plan.is_true(ConditionType.SUSPENDED))
    site.write(GUEST.replace("64Mi", "96Mi"))
    site.until("the change is told", lambda status: status.plan.changes)
    assert site.domain().config.memory == 64 * 2**20
    assert site.post("resume")[0] == 202
    site.until("it is done", lambda _: site.domain().config.memory == 96 * 2**20)


def test_a_change_that_libvirt_tells_nobody_of_is_seen_when_the_guest_is_asked_for(
    site: Site,
) -> None:
    site.settled()
    link = site.house.hypervisor._hosts["a"].link

    def autostart() -> bool:
        return link.call(Role.ACT, "look", lambda one: one.lookupByName("one").autostart(), 10.0)

    link.call(Role.ACT, "virsh", lambda one: one.lookupByName("one").setAutostart(1), 10.0)
    site.house.queue.add("one")
    site.settled()
    assert autostart()
    assert site.post("guests/one/reconcile")[0] == 202
    wait_until(lambda: not autostart(), 10, "it is found and put right")


def test_what_waits_because_it_was_done_in_vain_is_done_at_once_when_it_is_asked_for(
    site: Site,
) -> None:
    site.settled()

    def held() -> str:
        status = site.house.status.get("one")
        synced = status.plan.condition(ConditionType.SYNCED) if status is not None else None
        return synced.message if synced is not None and synced.reason == "StepRepeated" else ""

    while not held():
        site.house.hypervisor.set_autostart("a", "one", True)  # as somebody's cron job does
        site.house.queue.add("one")
        wait_until(lambda: held() or not site.domain().autostart, 10, "it is put right, or held")
    assert "at once: guestkeeper reconcile one" in held()
    assert site.domain().autostart
    assert site.post("guests/one/reconcile")[0] == 202
    assert not site.settled().autostart


def test_a_restart_applies_what_is_staged(site: Site) -> None:
    first = site.settled()
    site.write(GUEST.replace("64Mi", "96Mi"))
    site.until("it waits", lambda status: status.plan.is_true(ConditionType.RESTART_REQUIRED))
    told = site.get("guests/one")["item"]["changes"]
    assert {(change["disruption"], change["needs"]) for change in told} == {
        ("cold boot", "restart")
    }
    assert site.post("guests/one/restart")[0] == 202
    again = site.settled()
    assert again.run != first.run
    assert again.live is not None
    assert again.live.memory == 96 * 2**20
    assert site.get("guests/one")["item"]["restart_requested_at"] is None
    text = site.house.metrics.render()[0].decode()
    assert 'guest_restarts_total{guest="one",reason="restart"} 1.0' in text


def test_a_replacement_is_approved_and_rolled_back(site: Site) -> None:
    first = site.settled()
    assert site.post("guests/one/approve")[0] == 409
    another_image(site)
    site.until("it waits for approval", lambda status: status.plan.replace_to)
    base = site.get("guests/one")["item"]["approval"]
    assert base in site.post("guests/one/approve", base="another")[1]
    assert site.post("guests/one/approve", base=base)[0] == 202
    site.until("it has another disk", lambda _: system_disk(site.domain()) != system_disk(first))
    second = site.settled()
    assert (second.uuid, second.state) == (first.uuid, DomainState.RUNNING)
    assert site.volumes() == {
        "data.qcow2": "data",
        system_disk(first): "retired",
        system_disk(second): "system",
    }
    assert site.post("guests/one/rollback")[0] == 202
    site.until("it is back", lambda _: system_disk(site.domain()) == system_disk(first))
    site.until("that is told", lambda status: status.plan.replace_to)
    item = site.get("guests/one")["item"]
    assert [disk["why"] for disk in item["retired"]] == ["rolled-back"]
    assert item["refused"]["base"]
    text = site.house.metrics.render()[0].decode()
    for result in ("success", "rolled-back"):
        assert f'guest_replacements_total{{guest="one",result="{result}"}} 1.0' in text
    assert 'phase_transition_seconds_count{phase="Replacing"} 2.0' in text
    assert site.post("guests/one/retry")[0] == 202
    site.until("it may be tried", lambda _: not site.get("guests/one")["item"]["refused"])


class Kept:
    """A connection that a one-pass command may not end: the test driver would forget everything."""

    def __init__(self, hypervisor: Hypervisor) -> None:
        self._hypervisor = hypervisor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._hypervisor, name)

    def open(self, timeout: float) -> None: ...
    def close(self) -> None: ...


def test_a_plan_shows_what_becomes_of_a_guest_without_a_document(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = site.settled()
    site.house.workers.stop(10)
    (site.settings.desired_dir / "one.yaml").unlink()
    hypervisor = site.house.hypervisor
    monkeypatch.setattr(house_module, "Hypervisor", lambda *_, **__: Kept(hypervisor))
    (status,) = plan_once(site.settings).statuses
    assert status.name == "one"
    assert status.plan.is_true(ConditionType.ORPHANED)
    assert "guestkeeper approve --deletions" in status.plan.sentence
    (again,) = plan_once(site.settings, ["one"]).statuses
    assert again.name == "one"
    assert site.domain().run == before.run
    with pytest.raises(PermanentError, match="no usable Guest document is named two"):
        plan_once(site.settings, ["one", "two"])


def test_a_deletion_is_approved_and_leaves_the_data_disk(site: Site) -> None:
    site.settled()
    site.write(GUEST.replace("name: one", "name: two").replace("Delete", "Retain"), "two.yaml")
    (site.settings.desired_dir / "one.yaml").unlink()

    def believed() -> bool:
        result = site.house.catalog.scan()
        site.house.on_scan(result)
        return not result.again

    wait_until(believed, 20, "it is believed to be gone")

    def blocked(status: GuestStatus) -> bool:
        found = status.plan.condition(ConditionType.ORPHANED)
        return found is not None and found.reason == "DeletionBlocked"

    site.until("it is held back", blocked)
    assert "guestkeeper_deletions_blocked 1.0" in site.house.metrics.render()[0].decode()
    (waiting,) = site.get("deletions")["items"]
    assert (waiting["name"], waiting["policy"]) == ("one", "Delete")
    assert site.post("guests/one/restart")[0] == 409
    assert site.post("deletions/approve", name="one")[0] == 202
    wait_until(lambda: site.house.status.get("one") is None, 20, "it is gone")
    wait_until(lambda: site.volumes() == {"data.qcow2": "orphaned"}, 20, "its disk is gone")
    assert site.get("deletions")["items"] == []
