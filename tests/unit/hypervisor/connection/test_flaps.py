"""A host that comes, goes and hangs: it is found again each time, and nothing is left behind."""

import random
import threading
from collections.abc import Callable, Iterator

import libvirt
import pytest

from controller.errors import GuestkeeperError, HostUnreachableError
from controller.hypervisor.connection.config import HostConfig, Role
from controller.hypervisor.connection.link import HostLink, Pace
from controller.hypervisor.connection.session import Session
from controller.hypervisor.connection.stream_line import stream_line, take
from tests.waiting import wait_until

FAST = Pace(open=0.02, look=0.02, close=0.02, turn=0.002, first=0.001, last=0.002, stuck=0.01)
FLAPS = 1000


class Connection:
    """As far as a link knows libvirt's."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._callback: Callable[..., None] | None = None
        self.alive = True
        self.closed = 0
        self.calls = 0

    def setKeepAlive(self, *_: int) -> None:  # noqa: N802 - libvirt's name
        """Nothing to keep."""

    def registerCloseCallback(self, callback: Callable[..., None], _: object) -> None:  # noqa: N802
        self._callback = callback

    def unregisterCloseCallback(self) -> None:  # noqa: N802
        self._callback = None

    def isAlive(self) -> bool:  # noqa: N802
        return self.alive

    def listAllDomains(self, _: int) -> list[object]:  # noqa: N802
        return []

    def close(self) -> None:
        assert self.calls == 0, "freed below a call"
        if self._world.closes_hang:
            self._world.hang()
        self.closed += 1

    def end(self) -> None:
        """libvirtd closes it."""
        self.alive = False
        if self._callback is not None:
            self._callback(self, libvirt.VIR_CONNECT_CLOSE_REASON_EOF, None)

    def stall(self) -> None:
        """A call that comes back only when the world lets go."""
        self.calls += 1
        try:
            self._world.hang()
        finally:
            self.calls -= 1


class World:
    """A host behind ``libvirt.open``."""

    def __init__(self) -> None:
        self.made: list[Connection] = []
        self.opens_hang = 0
        self.refuses = 0
        self.closes_hang = False
        self.hanging = 0
        self._let_go = threading.Event()
        self._lock = threading.Lock()

    def open(self, _: str) -> Connection:
        with self._lock:
            hangs, refused = self.opens_hang > 0, self.refuses > 0
            self.opens_hang -= hangs
            self.refuses -= refused and not hangs
        if hangs:
            self.hang()
        elif refused:
            raise libvirt.libvirtError("refused")
        connection = Connection(self)
        with self._lock:
            self.made.append(connection)
        return connection

    def hang(self) -> None:
        held = self._let_go
        with self._lock:
            self.hanging += 1
        held.wait(60)
        with self._lock:
            self.hanging -= 1

    def let_go(self) -> None:
        """Whatever hangs comes back; what is begun from now on may hang again."""
        held, self._let_go = self._let_go, threading.Event()
        held.set()

    @property
    def open_ones(self) -> list[Connection]:
        with self._lock:
            return [one for one in self.made if not one.closed]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    one = World()
    monkeypatch.setattr(libvirt, "open", one.open)
    yield one
    one.closes_hang = False
    one.let_go()


class Host:
    """The link, and what it told."""

    def __init__(self) -> None:
        self.came = 0
        self.link = HostLink(
            HostConfig("far", "qemu+tls://far/system"),
            connected=lambda *_: None,
            on_host=self._on_host,
            on_call=lambda *_: None,
            pace=FAST,
        )
        self.link.start()

    def _on_host(self, _: str, reachable: bool, _why: str) -> None:
        self.came += reachable

    def up(self, times: int = 1) -> Session:
        wait_until(lambda: self.came >= times, 20, f"it came {times} times", interval=0.002)
        return self.link.ensure_reachable()

    def stall(self, role: Role, times: int) -> None:
        for _ in range(times):
            with pytest.raises(HostUnreachableError):
                self.link.call(role, "look", lambda one: one.stall(), 0.01)


@pytest.fixture
def host(world: World) -> Iterator[Host]:
    one = Host()
    yield one
    world.let_go()
    one.link.stop(5)


def test_a_host_is_found_again_after_connects_that_never_end(world: World, host: Host) -> None:
    host.up()
    world.opens_hang = 6
    for connection in world.open_ones:
        connection.end()
    host.up(2)
    assert world.hanging == 6, "they still do; nobody waits for them"
    wait_until(lambda: len(world.open_ones) == len(Role), 10, "the lost ones were closed")


def test_a_connection_that_was_replaced_is_closed_when_its_last_call_comes_back(
    world: World, host: Host
) -> None:
    session = host.up()
    old = session.connections[Role.AGENT]
    host.stall(Role.AGENT, 3)
    wait_until(lambda: session.connections[Role.AGENT] is not old, 10, "it was replaced")
    assert host.link.call(Role.AGENT, "look", lambda one: one.isAlive(), 5)
    assert old.closed == 0, "libvirt would free it below the calls"
    world.let_go()
    wait_until(lambda: old.closed == 1, 10, "it was closed")
    assert len(world.open_ones) == len(Role)


def test_the_late_end_of_a_connection_that_was_replaced_is_no_loss(
    world: World, host: Host
) -> None:
    session = host.up()
    old = session.connections[Role.ACT]
    host.stall(Role.ACT, 3)
    wait_until(lambda: session.connections[Role.ACT] is not old, 10, "it was replaced")
    old.end()
    assert host.link.ensure_reachable() is session
    session.connections[Role.ACT].end()
    assert session.lost, "that of the new one is"
    host.up(2)


def test_looks_that_hang_lose_no_host_whose_domains_can_be_listed(world: World, host: Host) -> None:
    session = host.up()
    old = session.connections[Role.LOOK]
    host.stall(Role.LOOK, 3)
    wait_until(lambda: session.connections[Role.LOOK] is not old, 10, "it was replaced")
    assert host.link.ensure_reachable() is session
    assert host.came == 1


def test_looks_that_hang_on_a_fresh_connection_too_lose_the_host(
    world: World, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = host.up()
    monkeypatch.setattr(Connection, "listAllDomains", lambda self, _: self.stall())
    host.stall(Role.LOOK, 3)
    assert session.wait_lost(10)
    assert "no other does" in session.why


def test_closes_that_hang_keep_no_host_from_being_connected(world: World, host: Host) -> None:
    host.up()
    world.closes_hang = True
    for times in range(2, 12):
        world.open_ones[-1].end()
        host.up(times)
    world.closes_hang = False
    world.let_go()
    wait_until(lambda: len(world.open_ones) == len(Role), 20, "all but the last were closed")
    assert all(one.closed <= 1 for one in world.made)


def test_a_stream_has_a_connection_that_nothing_else_is_called_on(world: World, host: Host) -> None:
    session = host.up()
    with stream_line(host.link) as one, stream_line(host.link) as other:
        used = [line.call(Role.ACT, "send", lambda on: on, 5) for line in (one, other)]
        assert used[0] is not used[1]
        assert not {*used} & {*session.connections.values()}
        assert len(world.open_ones) == len(Role) + 2
    with stream_line(host.link) as again:
        assert again.call(Role.STORAGE, "receive", lambda on: on, 5) in used
    assert len(world.open_ones) == len(Role) + 2, "they are kept for the next"
    for _ in range(2):
        lines = [take(host.link) for _ in range(5)]
        for line in lines:
            line.give_back()
        wait_until(lambda: len(world.open_ones) == len(Role) + 2, 10, "two are kept")


def test_a_connection_whose_stream_failed_is_closed_after_its_last_call(
    world: World, host: Host
) -> None:
    session = host.up()
    with pytest.raises(HostUnreachableError), stream_line(host.link) as line:
        broken = line.call(Role.ACT, "begin", lambda on: on, 5)
        line.call(Role.ACT, "send", lambda on: on.stall(), 0.01)
    with stream_line(host.link) as line:
        assert line.call(Role.ACT, "begin", lambda on: on, 5) is not broken
    assert broken.closed == 0
    world.let_go()
    wait_until(lambda: broken.closed == 1, 10, "it was closed")
    assert host.link.ensure_reachable() is session, "a stream that hangs loses no host"


def test_a_connection_that_two_give_up_is_closed_once(world: World, host: Host) -> None:
    """Who asked for a console gave up, and it came open later."""
    host.up()
    line = take(host.link)
    used = line.call(Role.ACT, "open", lambda on: on, 5)
    line.close()
    wait_until(lambda: used.closed == 1, 10, "it was closed")
    line.close()
    after = take(host.link)
    last = after.call(Role.ACT, "open", lambda on: on, 5)
    after.close()
    wait_until(lambda: last.closed == 1, 10, "what was given up after it was closed")
    assert used.closed == 1


def test_streams_of_a_lost_host_end_with_it(world: World, host: Host) -> None:
    session = host.up()
    held = take(host.link)
    with stream_line(host.link):
        assert len(world.open_ones) == len(Role) + 2
    session.connections[Role.LOOK].end()
    host.up(2)
    held.give_back()
    wait_until(lambda: len(world.open_ones) == len(Role), 10, "only the new ones are open")
    fresh = take(host.link)
    fresh.call(Role.ACT, "send", lambda on: on.end(), 5)
    assert fresh.session.lost, "its end is the host's, as that of any other"


def test_after_a_thousand_flaps_with_hangs_nothing_is_left(world: World, host: Host) -> None:
    chance = random.Random(9)  # noqa: S311 - the same flaps each time
    threads = most = threading.active_count()
    for flap in range(1, FLAPS + 1):
        session = host.up(flap)
        what = chance.randrange(10)
        world.refuses = chance.choice((0, 0, 1))
        world.opens_hang = 1 if what == 0 else 0
        world.closes_hang = what == 1
        if what == 2:
            _stall_somewhere(host, chance)
        if what == 3:
            _break_in_a_call(host, session)
        else:
            chance.choice(list(session.connections.values())).end()
        most = max(most, threading.active_count())
        if flap % 20 == 0:
            world.let_go()
    world.closes_hang = False
    world.opens_hang = world.refuses = 0
    host.up(FLAPS + 1)
    world.let_go()
    wait_until(lambda: len(world.open_ones) == len(Role), 20, "all but the last were closed")
    assert all(one.closed <= 1 for one in world.made)
    wait_until(lambda: world.hanging == 0 and host.link.stuck_calls == 0, 10, "nothing is stuck")
    assert most - threads < 120
    assert host.link.call(Role.LOOK, "look", lambda one: one.isAlive(), 5)


def _stall_somewhere(host: Host, chance: random.Random) -> None:
    try:
        host.link.call(chance.choice((Role.ACT, Role.AGENT)), "act", lambda one: one.stall(), 0.005)
    except GuestkeeperError:
        return


def _break_in_a_call(host: Host, session: Session) -> None:
    def breaks(connection: Connection) -> None:
        connection.alive = False
        raised = libvirt.libvirtError("failed")
        words = "End of file while reading data: Input/output error"
        code, domain = libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_FROM_RPC
        raised.err = (code, domain, words, 2, "", "", "", -1, -1)
        raise raised

    with pytest.raises(GuestkeeperError):
        host.link.call(Role.LOOK, "look", breaks, 5)
    assert session.wait_lost(5)
