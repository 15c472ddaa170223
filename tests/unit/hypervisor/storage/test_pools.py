"""Pools that hang: what is believed of them, how often they are asked, and what is not deleted."""

import contextlib
import threading
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

import controller.hypervisor.storage.pools as module
from controller.errors import GuestkeeperError, HostBusyError, PermanentError, TransientError
from controller.execution.in_use import InUse
from controller.hypervisor.connection.config import HostConfig
from controller.hypervisor.connection.deadlines import DeadlineError, Deadlines
from controller.hypervisor.storage.pools import Pools
from controller.observed.host import HostView, PoolView, VolumeView
from tests.factories import a_host

SESSION: Any = SimpleNamespace(lost=False)


class Link:
    """libvirt: ``real`` are its pools; ``hangs``: it does not tell which there are."""

    def __init__(self) -> None:
        self.config = HostConfig(name="h", uri="x", pools={"a": "/a", "b": "/b"})
        self.hangs = False
        self.ensured: list[str] = []
        self.refuses: dict[str, GuestkeeperError] = {}
        self.real = {name: PoolView(name, f"/{name}", True, 9, 9) for name in "ab"}

    def ensure_reachable(self) -> Any:
        return SESSION

    def call_in(self, _session: Any, role: Any, what: str, function: Any, timeout: float) -> Any:
        return self.call(role, what, function, timeout)

    def call(self, _role: Any, _what: str, function: Callable[[Any], Any], _timeout: float) -> Any:
        return function(None)

    def ensure(self, _: object, name: str, path: str) -> None:
        self.ensured.append(name)
        if name in self.refuses:
            raise self.refuses[name]
        view = self.real[name]
        if view.path != path:
            raise PermanentError(f"it is at {view.path}, not at {path}")
        self.real[name] = replace(view, active=True)

    def read(self, _: object) -> dict[str, PoolView]:
        if self.hangs:
            raise DeadlineError("read pools did not answer within 15 s")
        return dict(self.real)


class Site:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.link = Link()
        monkeypatch.setattr(module, "ensure_pool", self.link.ensure)
        monkeypatch.setattr(module, "read_pools", self.link.read)
        self.pools = Pools(self.link, lambda: self.now)  # type: ignore[arg-type]
        self.connect()

    def connect(self) -> None:
        self.pools.connected(SESSION)

    def stopped(self, name: str) -> None:
        self.link.real[name] = replace(self.link.real[name], active=False)

    def looks(self, count: int) -> None:
        for _ in range(count):
            self.now += 60
            self.pools.views()


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(monkeypatch)


def test_a_pool_that_was_not_had_at_a_connect_that_hung_is_tried_again(site: Site) -> None:
    """The host was booted: the file system of one is not mounted yet, and the other hangs."""
    site.stopped("a")
    site.stopped("b")
    site.link.refuses = {
        "a": DeadlineError("ensure pool did not answer within 15 s"),
        "b": PermanentError("cannot open directory '/b'"),
    }
    site.link.hangs = True
    site.connect()
    views = site.pools.views()
    assert (views["a"].active, views["b"].active) == (True, False), "as far as is known"
    assert views["b"].why == "cannot open directory '/b'"
    site.link.hangs, site.link.refuses, site.link.ensured = False, {}, []
    site.looks(20)
    assert {"a", "b"} <= set(site.link.ensured)
    assert all(view.usable and not view.why for view in site.pools.views().values())


def test_one_that_was_had_at_a_connect_that_hung_is_not_started_against_its_operator(
    site: Site,
) -> None:
    site.stopped("b")
    site.link.refuses = {"b": PermanentError("cannot open directory '/b'")}
    site.connect()
    site.link.refuses, site.link.hangs = {}, True
    site.connect()
    assert site.link.real["b"].active
    site.link.hangs = False
    site.stopped("b")  # virsh pool-destroy b
    site.looks(20)
    assert not site.link.real["b"].active


def test_no_pool_of_a_host_that_is_only_looked_at_is_touched(site: Site) -> None:
    site.link.config = replace(site.link.config, read_only=True)
    site.pools = Pools(site.link, lambda: site.now)  # type: ignore[arg-type]
    site.link.real["b"] = replace(site.link.real["b"], path="/elsewhere")
    site.stopped("a")
    site.link.ensured = []
    site.connect()
    site.looks(20)
    assert site.link.ensured == []
    assert not site.pools.views()["b"].usable


def test_a_pool_that_is_elsewhere_by_now_is_not_used_while_another_hangs(site: Site) -> None:
    site.link.real["b"] = replace(site.link.real["b"], path="/elsewhere")
    site.link.hangs = True
    site.connect()
    assert not site.pools.views()["b"].usable
    assert site.pools.views()["a"].usable
    site.link.hangs = False
    site.looks(20)
    assert site.pools.views()["b"].wanted_path == "/b"


class Hosts:
    """libvirt as it is, its pools as they are believed to be."""

    def __init__(self, site: Site, volumes: dict[str, list[VolumeView]]) -> None:
        self._site = site
        self._volumes = volumes

    def host(self, _: str) -> HostView:
        return a_host(pools=self._site.pools.views())

    def domain(self, host: str, name: str) -> None:
        return None

    def volume(self, _: str, pool: str, name: str) -> VolumeView | None:
        return next((one for one in self._volumes[pool] if one.name == name), None)

    def absent(self, *_: object) -> frozenset[str]:
        return frozenset()

    def scanned_volumes(self, _: str, pool: str) -> list[VolumeView]:
        return self._volumes[pool]

    def file_users(self, _: str) -> dict[str, frozenset[str]]:
        return {}


def test_who_stands_on_a_disk_is_not_told_by_pools_as_they_were_before(site: Site) -> None:
    """The host was away for a week, and somebody made a pool of clones. It comes back while a pool
    hangs; when that does no more, its pools are those of a week ago until they are asked for."""
    site.now += 7 * 86400
    site.link.real["clones"] = PoolView("clones", "/clones", True, 9, 9)
    site.link.hangs = True
    site.connect()
    site.link.hangs = False
    site.now += 1
    old = VolumeView("a", "old", "/a/old", "qcow2", 1, 1, None)
    clone = VolumeView("clones", "clone", "/clones/clone", "qcow2", 1, 1, "/a/old")
    in_use = InUse(Hosts(site, {"a": [old], "b": [], "clones": [clone]}))
    with pytest.raises(TransientError, match="not known") as caught:
        in_use.check("h", "web1", "a", "old")
    assert caught.value.reason == "PoolBusy"
    site.now += 60
    with pytest.raises(PermanentError, match="clones/clone is an overlay of it"):
        in_use.check("h", "web1", "a", "old")


def test_one_asks_while_a_pool_hangs_also_after_a_volume_was_made(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And who asks about a volume in another pool is answered."""
    let_go, lines, asked = threading.Event(), Deadlines("storage", workers=6), []

    def hang(_: object) -> dict[str, PoolView]:
        asked.append(1)
        let_go.wait(60)
        return dict(site.link.real)

    def call(_role: Any, what: str, function: Callable[[Any], Any], _timeout: float) -> Any:
        return lines.call(what, lambda: function(None), 0.3)

    def look() -> None:
        with contextlib.suppress(GuestkeeperError):
            site.pools.views()

    monkeypatch.setattr(site.link, "call", call)
    monkeypatch.setattr(module, "read_pools", hang)
    pauses = []
    for _ in range(3):
        site.pools.changed()
        passes = [threading.Thread(target=look) for _ in range(6)]
        for one in passes:
            one.start()
        for one in passes:
            one.join()
        pauses.append(site.pools._ask_at - site.now)
        site.now = site.pools._ask_at + 1
    try:
        assert pauses == [30.0, 60.0, 120.0]
        assert len(asked) == 3
        with contextlib.suppress(DeadlineError):
            lines.call("look up a volume", lambda: None, 60.0)
    except HostBusyError as error:
        pytest.fail(f"refused: {error}")
    finally:
        let_go.set()
