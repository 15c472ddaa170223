"""A host stays with us whatever fails there: a callback, one domain, calls that hang."""

import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import libvirt
import pytest
from structlog.testing import capture_logs

import controller.hypervisor.domains.reading as reading
import controller.hypervisor.storage.pools as pools_module
from controller.errors import (
    GuestkeeperError,
    HostBusyError,
    HostUnreachableError,
    PermanentError,
    TransientError,
)
from controller.hypervisor.connection import event_loop
from controller.hypervisor.connection.config import HostConfig, Role
from controller.hypervisor.hypervisor import Hypervisor
from controller.hypervisor.xml.render import Dialect, render
from controller.loop.queue import WorkQueue
from controller.loop.reconciler import Result
from controller.loop.workers import Workers
from controller.observed.domain import DomainState, GuestRecord, Ownership
from controller.observed.domain_xml import ParsedDomain, parse_domain
from tests.libvirt.test_hypervisor_test_driver import NODE, config_of, ours, state
from tests.waiting import wait_until

pytestmark = pytest.mark.libvirt
Opener = Callable[..., Hypervisor]


@pytest.fixture
def opener(tmp_path: Path) -> Iterator[Opener]:
    """Opens hosts of the test driver that begin with ``inside`` (XML of domains)."""
    opened: list[Hypervisor] = []

    def open_them(
        names: str = "a", inside: str = "", read_only: bool = False, **callbacks: object
    ) -> Hypervisor:
        hosts = []
        for name in names:
            file = tmp_path / f"{name}.xml"
            file.write_text(NODE.replace("</node>", f"{inside}</node>"))
            pools = {"gk": "/gk-test"}
            hosts.append(HostConfig(name, f"test://{file}", "gk", pools, read_only=read_only))
        one = Hypervisor(hosts, **callbacks)  # type: ignore[arg-type]
        opened.append(one)
        one.open(5)
        return one

    yield open_them
    for one in opened:
        one.close(1)


def xml_of(name: str, memory: str = "{}") -> str:
    """A domain of ours; ``memory`` stands there as it is."""
    whole = render(config_of(name), ours(name), Dialect.TEST)
    return re.sub(r"(<gk:memory>).*?(</gk:memory>)", rf"\g<1>{memory}\g<2>", whole)


def make(hypervisor: Hypervisor, host: str, names: Sequence[str]) -> None:
    for name in names:
        hypervisor.define(host, config_of(name), ours(name))


def lose(hypervisor: Hypervisor, host: str = "a") -> None:
    hypervisor._hosts[host].link.ensure_reachable().lose("libvirtd was restarted")


# --- its own thread -------------------------------------------------------------------------------


def test_a_host_comes_back_though_everybody_who_is_told_fails(opener: Opener) -> None:
    told: list[bool] = []

    def fail(_host: str, reachable: bool, _why: str) -> None:
        told.append(reachable)
        raise ZeroDivisionError

    def fail_call(*_: object) -> None:
        raise ZeroDivisionError

    with capture_logs() as logs:
        one = opener(on_host=fail, on_call=fail_call)
        assert one.host("a").reachable
        lose(one)
        wait_until(lambda: told == [True, False, True], 10, "it went and came back")
        wait_until(lambda: one.host("a").reachable, 5, "it is reachable")
    assert one.owned("a") == frozenset()
    assert any(log["event"] == "callback panicked" and log["exc_info"] for log in logs)


@pytest.mark.parametrize("error", [ZeroDivisionError("a bug"), PermanentError("no such pool")])
def test_a_host_that_cannot_be_prepared_is_tried_again_with_growing_pauses(
    opener: Opener, error: Exception
) -> None:
    one = opener()
    link = one._hosts["a"].link
    prepared, tries = link._connected, []

    def fail_thrice(*arguments: object) -> None:
        tries.append(time.monotonic())
        if len(tries) <= 3:
            raise error
        prepared(*arguments)  # type: ignore[arg-type]

    link._connected = fail_thrice
    with capture_logs() as logs:
        lose(one)
        wait_until(lambda: len(tries) >= 1 and not one.host("a").reachable, 5, "it failed")
        wait_until(lambda: one.host("a").reachable, 10, "it was prepared in the end")
    assert len(tries) == 4
    pauses = [after - before for before, after in pairwise(tries)]
    assert min(pauses) >= 0.1
    traced = any(log["event"] == "host could not be prepared" for log in logs)
    assert traced == isinstance(error, ZeroDivisionError)


def test_a_hosts_thread_outlives_its_own_panic(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = opener()
    link = one._hosts["a"].link
    with monkeypatch.context() as patched, capture_logs() as logs:
        patched.setattr(link, "_connect", lambda: 1 // 0)
        lose(one)
        wait_until(lambda: "ZeroDivisionError" in one.host("a").why, 5, "it panicked")
    wait_until(lambda: one.host("a").reachable, 10, "it is back")
    assert any(log["event"] == "host's thread panicked" for log in logs)


def test_an_event_that_somebody_fails_at_is_the_only_one_that_is_lost(opener: Opener) -> None:
    seen: list[tuple[str, str]] = []

    def fail_at_web1(_host: str, name: str, kind: str) -> None:
        if name == "web1":
            raise ZeroDivisionError
        seen.append((name, kind))

    one = opener(on_event=fail_at_web1)
    with capture_logs() as logs:
        one.define("a", config_of("web1"), ours("web1"))
        one.define("a", config_of("web2"), ours("web2"))
        wait_until(lambda: ("web2", "defined") in seen, 5, "the next event")
    assert any(log["event"] == "callback panicked" for log in logs)


def test_the_event_loop_outlives_a_turn_that_panics(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    one = opener(on_event=lambda _host, name, _kind: seen.append(name))
    turn, panicked = libvirt.virEventRunDefaultImpl, threading.Event()

    def panic_once() -> None:
        if panicked.is_set():
            turn()
        else:
            panicked.set()
            raise ZeroDivisionError

    with capture_logs() as logs, monkeypatch.context() as patched:
        patched.setattr(libvirt, "virEventRunDefaultImpl", panic_once)
        assert panicked.wait(60)
        one.define("a", config_of("web1"), ours("web1"))
        wait_until(lambda: seen, 5, "events come")
    assert [log["event"] for log in logs if log["log_level"] == "error"] == ["event loop panicked"]
    assert event_loop._thread is not None
    assert event_loop._thread.is_alive()


# --- errors that are not the connection's ---------------------------------------------------------


@pytest.mark.parametrize("role", [Role.LOOK, Role.ACT, Role.AGENT])
def test_an_error_in_the_transports_name_is_no_loss_while_the_connection_lives(
    opener: Opener, tmp_path: Path, role: Role
) -> None:
    """A real one: libvirtd, and the test driver of Debian 13, get it from other daemons."""
    hosts: list[bool] = []
    one = opener(on_host=lambda _host, reachable, _why: hosts.append(reachable))
    link = one._hosts["a"].link
    session = link.ensure_reachable()

    def speak_to_another(_: libvirt.virConnect) -> None:
        libvirt.open(f"qemu+unix:///session?socket={tmp_path}/none").close()

    with pytest.raises(TransientError, match="Failed to connect socket") as caught:
        link.call(role, "attach device", speak_to_another, 5)
    assert not isinstance(caught.value, HostUnreachableError)
    error = caught.value.__cause__
    assert isinstance(error, libvirt.libvirtError)
    assert (error.get_error_domain(), error.get_error_code()) == (
        libvirt.VIR_FROM_RPC,
        libvirt.VIR_ERR_SYSTEM_ERROR,
    )
    assert link.ensure_reachable() is session
    assert not session.lost
    assert hosts == [True]


# --- one domain among many ------------------------------------------------------------------------


@pytest.mark.parametrize("text", ['{"last_start_attempt":1' + "0" * 400 + "}", '{"a":NaN}', "{{"])
def test_a_memory_that_is_broken_costs_the_memory_alone(opener: Opener, text: str) -> None:
    one = opener(inside=xml_of("web1", text))
    view = one.domain("a", "web1")
    assert view is not None
    assert view.ours
    assert view.ownership is not None
    assert view.ownership.record == GuestRecord()


def broken(xml: str, stored: ParsedDomain | None = None) -> ParsedDomain:
    if "<name>bad</name>" in xml:
        raise OverflowError("a bug")
    return parse_domain(xml, stored)


def test_a_domain_that_cannot_be_read_is_no_reason_to_lose_its_host(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    with capture_logs() as logs, monkeypatch.context() as patched:
        patched.setattr(reading, "parse_domain", broken)
        one = opener(inside=xml_of("bad") + xml_of("web1"))
        assert one.host("a").reachable
        for _ in range(2):
            assert one.owned("a") == {"web1"}
            with pytest.raises(TransientError, match="domain bad on host a cannot be read"):
                one.domain("a", "bad")  # to say that there is none would make a second one
            one.resync("a", deep=True)
        assert one.domain("a", "web1") is not None
    assert [log["domain"] for log in logs if log["event"] == "domain cannot be read"] == ["bad"]
    view = one.domain("a", "bad")
    assert view is not None, "as soon as it can be read again"
    assert one.owned("a") == {"bad", "web1"}


def test_a_known_domain_that_cannot_be_read_any_more_is_not_told_from_memory(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = opener(inside=xml_of("bad"))
    assert one.domain("a", "bad") is not None
    monkeypatch.setattr(reading, "parse_domain", broken)
    wait_until(lambda: one.resync("a") == frozenset(), 5, "the events are through")
    lose(one)
    wait_until(lambda: not one.host("a").reachable, 5, "it went")
    wait_until(lambda: one.host("a").reachable, 10, "it came back")
    with pytest.raises(GuestkeeperError) as caught:
        one.domain("a", "bad")
    assert caught.value.reason == "DomainUnreadable"


def test_a_clone_of_our_domain_is_never_written_to(opener: Opener) -> None:
    one = opener()
    one.define("a", config_of("web1"), ours("web1"))
    link = one._hosts["a"].link
    copied = render(config_of("clone"), ours("web1"), Dialect.TEST)
    named = render(
        config_of("named"), Ownership(config_of("web1").uuid, "named", 1, "", ""), Dialect.TEST
    )

    def clone(connection: libvirt.virConnect) -> None:
        for xml in (copied, named):
            connection.defineXML(xml)

    link.call(Role.ACT, "clone", clone, 5)
    for name in ("clone", "named"):
        for write in (
            lambda name=name: one.define("a", config_of(name), ours(name)),
            lambda name=name: one.set_ownership("a", name, ours(name)),
            lambda name=name: one.start("a", name),
            lambda name=name: one.shutdown("a", name),
            lambda name=name: one.destroy("a", name),
            lambda name=name: one.eject("a", name, "cdrom-seed"),
        ):
            with pytest.raises(PermanentError, match="carries the mark of another") as caught:
                write()
            assert caught.value.reason == "NameConflict"
    one.start("a", "web1")


# --- looking changes nothing ----------------------------------------------------------------------


def pools(one: Hypervisor) -> dict[str, bool]:
    return {name: view.active for name, view in one.host("a").pools.items()}


def test_who_only_looks_makes_no_pool_and_starts_none(opener: Opener) -> None:
    one = opener(read_only=True)
    assert one.host("a").reachable
    assert pools(one) == {}
    with pytest.raises(PermanentError) as caught:
        one.volume("a", "gk", "base")
    assert caught.value.reason == "PoolMissing"


def test_who_only_looks_is_refused_every_act(opener: Opener) -> None:
    one = opener(read_only=True, inside=xml_of("web1"))
    assert one.owned("a") == {"web1"}
    for act in (
        lambda: one.start("a", "web1"),
        lambda: one.define("a", config_of("web2"), ours("web2")),
        lambda: one.create_volume("a", "gk", "disk", capacity=1),
        lambda: one.delete_volume("a", "gk", "disk"),
    ):
        with pytest.raises(PermanentError) as caught:
            act()
        assert caught.value.reason == "ReadOnly"


def test_a_pool_that_somebody_stopped_is_told_and_not_started(opener: Opener) -> None:
    one = opener()
    one.create_volume("a", "gk", "disk", capacity=1 << 20)
    one._hosts["a"].link.call(
        Role.ACT, "stop", lambda there: there.storagePoolLookupByName("gk").destroy(), 5
    )
    for look in (
        lambda: one.volume("a", "gk", "disk"),
        lambda: one.create_volume("a", "gk", "disk", capacity=1 << 20),
        lambda: one.delete_volume("a", "gk", "disk"),
    ):
        with pytest.raises(PermanentError, match="virsh pool-start gk") as caught:
            look()
        assert caught.value.reason == "PoolInactive"
    assert pools(one) == {"gk": False}, "and the next look at the host knows"


# --- calls that hang ------------------------------------------------------------------------------


def test_a_host_whose_starts_hang_leaves_the_workers_to_the_other_host(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go = threading.Event()
    done: list[str] = []
    busy: list[str] = []
    guests = [f"nfs{number}" for number in range(16)]
    one = opener("ab")
    make(one, "a", guests)
    make(one, "b", ["web1"])
    create = libvirt.virDomain.create

    def hang(domain: libvirt.virDomain) -> int:
        if domain.name().startswith("nfs"):
            let_go.wait(60)
        return int(create(domain))

    def reconcile(name: str, _: bool) -> Result:
        try:
            one.start("a" if name.startswith("nfs") else "b", name)
        except TransientError as error:
            assert not isinstance(error, HostUnreachableError)
            assert error.retry_after is not None
            busy.append(error.reason)
            return Result("requeue_after", error.retry_after)
        done.append(name)
        return Result("success")

    monkeypatch.setattr(libvirt.virDomain, "create", hang)
    queue: WorkQueue = WorkQueue(time.monotonic)
    workers = Workers(queue, reconcile, 8)
    workers.start()
    for name in guests:
        queue.add(name)
    wait_until(lambda: len(busy) >= 13, 10, "all but those who have a place were told to come")
    for _ in range(3):
        queue.add("web1")
        wait_until(lambda: done, 5, "the other host's guest was started")
        done.clear()
    assert set(busy) == {"HostBusy"}
    let_go.set()
    wait_until(lambda: set(guests) <= set(done), 20, "in the end all are started")
    assert workers.stop(5)


def test_a_host_comes_back_while_one_of_its_pools_hangs(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pools are as they were last known, and say why."""
    let_go = threading.Event()
    one = opener()
    make(one, "a", ["web1"])
    assert one.host("a").pools["gk"].usable
    read = pools_module.read_pools

    def hang(connection: libvirt.virConnect) -> object:
        let_go.wait(60)
        return read(connection)

    monkeypatch.setattr(pools_module, "read_pools", hang)
    monkeypatch.setattr(pools_module, "TIMEOUT", 0.2)
    lose(one)
    wait_until(lambda: not one.reachable("a"), 5, "it is gone")
    wait_until(lambda: one.reachable("a"), 10, "it is back")
    pool = one.host("a").pools["gk"]
    assert pool.usable
    assert "read pools" in pool.why
    let_go.set()


def test_readings_that_hang_are_told_to_come_again_and_other_hosts_are_read(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go, reading_now = threading.Event(), threading.Semaphore(0)
    one = opener("ab")
    names = [f"nfs{number}" for number in range(4)]
    make(one, "a", names)
    make(one, "b", ["web1"])
    read = reading.read_one

    def hang(connection: libvirt.virConnect, name: str) -> object:
        if name.startswith("nfs"):
            reading_now.release()
            let_go.wait(60)
        return read(connection, name)

    monkeypatch.setattr("controller.hypervisor.domains.index.read_one", hang)
    for host, name in (*(("a", name) for name in names), ("b", "web1")):
        one._hosts[host].index.touch(name)
    threads = [threading.Thread(target=one.domain, args=("a", name)) for name in names[:3]]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert reading_now.acquire(timeout=10)
    for look in (lambda: one.domain("a", names[3]), lambda: one._hosts["a"].index._try(names[3])):
        with pytest.raises(HostBusyError, match="host a is busy"):
            look()
    assert one.domain("b", "web1") is not None
    let_go.set()
    for thread in threads:
        thread.join(10)
    assert one.domain("a", names[3]) is not None


def test_a_host_that_is_well_starts_many_at_once_without_a_word(opener: Opener) -> None:
    names = [f"web{number}" for number in range(16)]
    one = opener()
    make(one, "a", names)
    failed: list[str] = []

    def start(name: str) -> None:
        try:
            one.start("a", name)
        except GuestkeeperError as error:
            failed.append(str(error))

    threads = [threading.Thread(target=start, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []
    assert all(state(one, "a", name)[0] is DomainState.RUNNING for name in names)
