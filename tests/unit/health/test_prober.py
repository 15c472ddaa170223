"""The prober against real servers on 127.0.0.1: what it finds, when, and what it never claims."""

import asyncio
import itertools
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controller.health.checks import Outcome
from controller.health.prober import Prober, _Entry, _spread
from controller.observed.health import ProbeStatus, ProbeTarget, ProbeView
from tests.waiting import PATIENCE

UNKNOWN, STARTING = ProbeStatus.UNKNOWN, ProbeStatus.STARTING
SUCCESS, FAILURE = ProbeStatus.SUCCESS, ProbeStatus.FAILURE

BASE = ProbeTarget(
    guest="web-1",
    host="local",
    service="web",
    probe="http",
    kind="httpGet",
    inside=False,
    address="127.0.0.1",
    port=1,
    path="/",
    scheme="http",
    headers=(),
    command=(),
    period=0.1,
    timeout=0.5,
    failure_threshold=1,
    success_threshold=1,
    initial_delay=0.0,
    startup=0.0,
    epoch="boot-1",
)


WALL = 1_800_000_000
"""The time of day at the first look; each look takes a second."""


def eventually(condition: Callable[[], object], timeout: float = 10.0) -> None:
    deadline = time.monotonic() + max(timeout, PATIENCE)
    while not condition():
        assert time.monotonic() < deadline, "not within the deadline"
        time.sleep(0.005)


class Server:
    """Raw TCP servers in a thread: each port has its own behaviour, a coroutine of the streams."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.requests: list[bytes] = []
        self.connections = 0
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[object]] = set()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    def port(
        self, answer: bytes | None, *, tls: ssl.SSLContext | None = None, hold: bool = False
    ) -> int:
        """Answers every request with these bytes; None accepts and says nothing."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._tasks.add(asyncio.current_task())  # type: ignore[arg-type]
            self.connections += 1
            try:
                if answer != b"":
                    self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                    writer.write(answer or b"")
                    if answer is None or hold:
                        await reader.read()
            except (OSError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()

        async def listen() -> int:
            server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
            self._servers.append(server)
            return int(server.sockets[0].getsockname()[1])

        return asyncio.run_coroutine_threadsafe(listen(), self.loop).result(60)

    def close(self) -> None:
        async def end() -> None:
            for server in self._servers:
                server.close()
            tasks = [task for task in self._tasks if not task.done()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self.loop).result(60)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(60)
        self.loop.close()


class Recording(Prober):
    """Writes down every check that was made: (target, ok, seconds)."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.results: list[tuple[ProbeTarget, bool | None, float]] = []

    def _settle(self, entry: _Entry, ok: bool | None, message: str, seconds: float | None) -> None:
        asked = not entry.dropped
        super()._settle(entry, ok, message, seconds)
        if asked and seconds is not None:
            self.results.append((entry.target, ok, seconds))


class Watch:
    """A running prober and what it reported."""

    def __init__(self, **settings: object) -> None:
        self.transitions: list[tuple[str, ProbeView, ProbeView]] = []
        self.errors: list[Exception] = []
        self.answer: Callable[[ProbeTarget], Outcome] = lambda target: (True, "fine")
        self.prober = Recording(
            inside=lambda target: self.answer(target),
            on_transition=lambda guest, old, new: self.transitions.append((guest, old, new)),
            on_error=lambda target, error: self.errors.append(error),
            wall=itertools.count(WALL).__next__,
            **settings,
        )
        self.results = self.prober.results
        self.prober.start()

    def view(self, guest: str = "web-1", service: str = "web", probe: str = "http") -> ProbeView:
        return self.prober.views(guest)[service, probe]

    def verdict(self, target: ProbeTarget) -> ProbeView:
        """Probes ``target`` until the first transition."""
        self.prober.set_targets(target.guest, [target])
        eventually(lambda: self.transitions)
        return self.transitions[0][2]


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture
def watch() -> Iterator[Watch]:
    made = Watch()
    yield made
    assert made.prober.stop(5)
    assert made.errors == []


def http(status: str, body: str = "", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", body]
    return "\r\n".join(lines).encode()


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "hold", "status", "message"),
    [
        (http("200 OK", "hi"), False, SUCCESS, "answered 200 OK"),
        (http("204 No Content"), True, SUCCESS, "answered 204 No Content"),
        (http("302 Found", "", "Location: http://127.0.0.1:1/"), False, SUCCESS, "302 Found"),
        (http("399 Odd"), False, SUCCESS, "answered 399"),
        (http("404 Not Found"), False, FAILURE, "answered 404 Not Found"),
        (http("500 Oops", "x" * 50_000), False, FAILURE, "answered 500 Internal Server Error"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n" + http("200 OK"), False, SUCCESS, "answered 200"),
        (CHUNKED, True, SUCCESS, "answered 200"),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", False, SUCCESS, "answered 200"),
        (b"HTTP/1.1 200 OK\r\n\r\na stream without end", True, SUCCESS, "answered 200"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ncut", False, SUCCESS, "answered 200"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", False, FAILURE, "without a complete HTTP answer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", True, FAILURE, "did not answer in HTTP"),
        (b"\x16\x03\x01" * 9000, False, FAILURE, "did not answer in HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 40_000, False, FAILURE, "did not answer in HTTP"),
        (b"HTTP/1.1 200", True, FAILURE, "no answer from http://127.0.0.1"),
        (b"HTTP/1.1 200", False, FAILURE, "without a complete HTTP answer"),
        (b"", False, FAILURE, "closed the connection"),
        (None, False, FAILURE, "within 0.5 s"),
    ],
)
def test_an_http_answer_is_judged_by_its_status(
    server: Server, watch: Watch, answer: bytes | None, hold: bool, status: str, message: str
) -> None:
    view = watch.verdict(replace(BASE, port=server.port(answer, hold=hold)))
    assert view.status is status
    assert message in view.message


def test_the_request_is_a_plain_get_with_the_targets_headers(server: Server, watch: Watch) -> None:
    port = server.port(http("200 OK"))
    headers = (("Host", "shop.example"), ("X-Probe", "1"))
    watch.verdict(replace(BASE, port=port, path="/healthz?full=1", headers=headers))
    lines = server.requests[0].decode().split("\r\n")
    assert lines[0] == "GET /healthz?full=1 HTTP/1.1"
    assert "Host: shop.example" in lines
    assert "X-Probe: 1" in lines
    assert "connection: close" in lines
    assert sum(line.lower().startswith("host:") for line in lines) == 1


def test_every_check_opens_a_connection_of_its_own(server: Server, watch: Watch) -> None:
    watch.verdict(replace(BASE, port=server.port(http("200 OK"), hold=True)))
    eventually(lambda: len(watch.results) >= 3)
    assert server.connections >= 3


def test_a_proxy_of_the_environment_is_not_asked(
    server: Server, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert watch.verdict(replace(BASE, port=server.port(http("200 OK")))).status is SUCCESS


def test_https_is_asked_without_verifying_the_certificate(
    server: Server, watch: Watch, tmp_path: Path
) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-days", "1", "-subj", "/CN=somebody.else", "-keyout", tmp_path / "key",
         "-out", tmp_path / "cert"],
        check=True, capture_output=True, timeout=30,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    port = server.port(http("200 OK"), tls=context)
    assert watch.verdict(replace(BASE, port=port, scheme="https", timeout=5)).status is SUCCESS


def test_https_to_a_plain_server_is_a_failure(server: Server, watch: Watch) -> None:
    view = watch.verdict(replace(BASE, port=server.port(http("400 Bad")), scheme="https"))
    assert view.status is FAILURE


def test_a_refused_connection_is_a_failure(watch: Watch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    for kind in ("httpGet", "tcpSocket"):
        watch.transitions.clear()
        view = watch.verdict(replace(BASE, kind=kind, port=port, epoch=kind))
        assert view.status is FAILURE
        assert "connection refused" in view.message


def test_an_accepted_tcp_connection_is_success(server: Server, watch: Watch) -> None:
    view = watch.verdict(replace(BASE, kind="tcpSocket", port=server.port(None)))
    assert view.status is SUCCESS


def test_a_forward_that_accepts_for_a_guest_that_refuses_is_a_failure(
    server: Server, watch: Watch
) -> None:
    """QEMU's user networking accepts first and asks the guest then."""
    view = watch.verdict(replace(BASE, kind="tcpSocket", port=server.port(b"")))
    assert view.status is FAILURE
    assert "closed the connection at once" in view.message


def test_without_an_address_nothing_is_learnt_and_the_message_has_the_remedy(watch: Watch) -> None:
    watch.prober.set_targets("web-1", [replace(BASE, address=None, port=80)])
    eventually(lambda: len(watch.results) >= 3)
    view = watch.view()
    assert view.status is UNKNOWN
    assert "httpGet.from: guest, or a forward to port 80" in view.message


def test_an_unsendable_header_is_no_failure_of_the_guest(watch: Watch) -> None:
    watch.prober.set_targets("web-1", [replace(BASE, headers=(("X-A", "b\r\nX-C: d"),))])
    eventually(lambda: len(watch.results) >= 2)
    assert watch.view().status is UNKNOWN
    assert "correct httpGet.path or headers" in watch.view().message


def test_a_transition_is_told_once_with_old_and_new(server: Server, watch: Watch) -> None:
    port = server.port(http("200 OK"))
    watch.verdict(replace(BASE, port=port))
    eventually(lambda: len(watch.results) >= 5)
    ((guest, old, new),) = watch.transitions
    assert (guest, old.status, new.status) == ("web-1", UNKNOWN, SUCCESS)
    assert new.since >= WALL
    view = watch.view()
    assert view.since == new.since
    assert view.checked_at is not None
    assert view.checked_at > new.since


def test_failing_in_the_startup_budget_is_starting_and_then_failure(watch: Watch) -> None:
    assert watch.verdict(replace(BASE, startup=0.5)).status is STARTING
    eventually(lambda: len(watch.transitions) == 2)
    assert watch.view().status is FAILURE


def test_the_initial_delay_is_kept(server: Server, watch: Watch) -> None:
    begin = time.monotonic()
    watch.verdict(replace(BASE, port=server.port(http("200 OK")), initial_delay=0.4))
    assert time.monotonic() - begin >= 0.4


def test_equal_targets_change_nothing(server: Server, watch: Watch) -> None:
    target = replace(BASE, port=server.port(http("200 OK")))
    watch.verdict(target)
    entry = watch.prober._entries["web-1"]["web", "http"]
    watch.prober.set_targets("web-1", [replace(target)])
    assert watch.prober._entries["web-1"]["web", "http"] is entry


def test_a_new_epoch_begins_anew_at_once(server: Server, watch: Watch) -> None:
    target = replace(BASE, port=server.port(http("200 OK")), period=30.0)
    watch.verdict(target)
    watch.prober.set_targets("web-1", [replace(target, epoch="boot-2")])
    assert watch.view().status is UNKNOWN
    eventually(lambda: len(watch.transitions) == 2)  # and does not wait for the period


def test_a_changed_address_keeps_the_verdict(server: Server, watch: Watch) -> None:
    target = replace(BASE, port=server.port(http("200 OK")), failure_threshold=1000)
    since = watch.verdict(target).since
    watch.prober.set_targets("web-1", [replace(target, port=server.port(http("500 No")))])
    eventually(lambda: "500" in watch.view().message)
    assert (watch.view().status, watch.view().since) == (SUCCESS, since)


def test_a_removed_guest_leaves_nothing_and_is_asked_no_more(server: Server, watch: Watch) -> None:
    watch.verdict(replace(BASE, port=server.port(http("200 OK"))))
    watch.prober.set_targets("web-1", [])
    assert watch.prober.views("web-1") == {}
    assert watch.prober.last_checks("web-1") == {}
    connections = server.connections
    other = replace(BASE, guest="web-2", port=server.port(http("200 OK")))
    watch.prober.set_targets("web-2", [other])
    eventually(lambda: sum(result[0].guest == "web-2" for result in watch.results) > 5)
    assert sum(result[0].guest == "web-1" for result in watch.results) <= connections + 1


def test_the_last_check_and_its_duration_are_kept(server: Server, watch: Watch) -> None:
    watch.verdict(replace(BASE, port=server.port(http("200 OK"))))
    last = watch.prober.last_checks("web-1")["web", "http"]
    assert last.ok is True
    assert 0 < last.seconds < 0.5


def test_an_inside_check_runs_through_the_given_callable(watch: Watch) -> None:
    asked: list[ProbeTarget] = []

    def answer(target: ProbeTarget) -> Outcome:
        asked.append(target)
        return False, "exit status 3"

    watch.answer = answer
    target = replace(BASE, kind="exec", inside=True, command=("/bin/check",))
    view = watch.verdict(target)
    assert (view.status, view.message) == (FAILURE, "exit status 3")
    assert asked[0] == target


def test_an_inside_check_that_learns_nothing_is_unknown(watch: Watch) -> None:
    watch.answer = lambda target: (None, "the agent does not answer")
    watch.prober.set_targets("web-1", [replace(BASE, kind="guestAgentPing", inside=True)])
    eventually(lambda: len(watch.results) >= 3)
    assert (watch.view().status, watch.view().message) == (UNKNOWN, "the agent does not answer")
    assert watch.transitions == []


def test_one_guest_is_asked_one_thing_at_a_time_and_guests_side_by_side(watch: Watch) -> None:
    running: Counter[str] = Counter()
    most: Counter[str] = Counter()
    lock = threading.Lock()

    def answer(target: ProbeTarget) -> Outcome:
        with lock:
            running[target.guest] += 1
            most[target.guest] = max(most[target.guest], running[target.guest])
            most["all"] = max(most["all"], sum(running.values()))
        time.sleep(0.02)
        with lock:
            running[target.guest] -= 1
        return True, "fine"

    watch.answer = answer
    for guest in ("a", "b", "c"):
        probes = [
            replace(BASE, guest=guest, inside=True, kind="exec", probe=f"p{n}") for n in range(4)
        ]
        watch.prober.set_targets(guest, probes)
    eventually(lambda: len(watch.results) >= 40)
    assert {most[guest] for guest in "abc"} == {1}
    assert most["all"] > 1


def test_a_guest_that_never_answers_holds_up_nobody_and_fades_to_unknown() -> None:
    release = threading.Event()
    watch = Watch(inside_workers=2)

    def answer(target: ProbeTarget) -> Outcome:
        if (target.guest, target.probe) == ("stuck", "http") and watch.transitions:
            release.wait(60)
        return True, "fine"

    watch.answer = answer
    base = replace(BASE, inside=True, kind="exec", failure_threshold=2)
    watch.prober.set_targets(
        "stuck", [replace(base, guest="stuck", probe=p) for p in ("http", "b")]
    )
    watch.prober.set_targets("well", [replace(base, guest="well")])
    eventually(lambda: watch.view("stuck", "web", "b").status is UNKNOWN and watch.transitions)
    done = len(watch.results)
    eventually(lambda: len(watch.results) > done + 5)
    assert watch.view("well").status is SUCCESS
    assert FAILURE not in {new.status for _, _, new in watch.transitions}
    assert watch.prober.stop(5)  # does not wait for the stuck call
    release.set()


def test_agents_that_hang_wait_in_a_line_and_those_that_answer_are_asked_on() -> None:
    """40 that hang and 20 that answer, and 16 threads."""
    release = threading.Event()
    watch = Watch(inside_workers=16)
    asked: Counter[str] = Counter()
    hanging: set[str] = set()

    def answer(target: ProbeTarget) -> Outcome:
        asked[target.guest] += 1
        if target.guest.startswith("web"):
            return True, "fine"
        hanging.add(target.guest)
        release.wait(2 * target.timeout if asked[target.guest] == 1 else 60)
        hanging.discard(target.guest)
        return None, "the agent does not answer"

    watch.answer = answer
    hung = [f"hung{number}" for number in range(40)]
    well = [f"web{number}" for number in range(20)]
    for guest in (*hung, *well):
        target = replace(BASE, guest=guest, inside=True, kind="exec", timeout=0.05)
        watch.prober.set_targets(guest, [target])
    eventually(lambda: all(asked[guest] for guest in (*hung, *well)), 30)
    eventually(lambda: len(hanging) == 4, 30)
    before = dict(asked)
    eventually(lambda: all(asked[guest] >= before[guest] + 10 for guest in well), 30)
    assert len(hanging) == 4, "what else hangs waits in a line, not in threads"
    assert all(watch.view(guest).status is SUCCESS for guest in well)
    release.set()
    eventually(lambda: all(asked[guest] > before[guest] + 1 for guest in hung), 30)
    assert watch.prober.stop(5)


def test_an_agent_that_answers_again_is_asked_like_any_other() -> None:
    watch = Watch()
    hangs = True

    def answer(target: ProbeTarget) -> Outcome:
        if hangs:
            threading.Event().wait(2 * target.timeout)
        return None if hangs else True, ""

    watch.answer = answer
    target = replace(BASE, inside=True, kind="exec", timeout=0.05)
    watch.prober.set_targets("web-1", [target])
    inside = watch.prober._inside
    assert inside is not None
    eventually(lambda: inside._silent == {"web-1"})
    hangs = False
    eventually(lambda: watch.view().status is SUCCESS)
    assert inside._silent == set()
    assert watch.prober.stop(5)


def test_a_check_that_breaks_is_reported_and_learns_nothing() -> None:
    watch = Watch()

    def answer(target: ProbeTarget) -> Outcome:
        raise ZeroDivisionError("a bug")

    watch.answer = answer
    watch.prober.set_targets("web-1", [replace(BASE, inside=True, kind="exec")])
    eventually(lambda: len(watch.errors) >= 2)
    assert watch.view().status is UNKNOWN
    assert isinstance(watch.errors[0], ZeroDivisionError)
    assert watch.prober.stop(5)


def test_a_callback_that_breaks_is_reported_and_the_probing_goes_on(server: Server) -> None:
    errors: list[Exception] = []

    def broken(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    prober = Prober(
        inside=lambda target: (None, ""),
        on_transition=broken,
        on_error=lambda target, error: errors.append(error),
    )
    prober.start()
    prober.set_targets("web-1", [replace(BASE, port=server.port(http("200 OK")))])
    eventually(lambda: errors)
    told = prober.views("web-1")["web", "http"]
    eventually(lambda: prober.views("web-1")["web", "http"].checked_at != told.checked_at)
    assert prober.views("web-1")["web", "http"].status is SUCCESS
    assert len(errors) == 1
    assert prober.stop(5)


def test_more_slow_probes_than_sockets_are_shed_as_no_data(server: Server) -> None:
    watch = Watch(concurrency=2)
    port = server.port(None)
    targets = [replace(BASE, port=port, timeout=0.3, probe=f"p{n}") for n in range(30)]
    watch.prober.set_targets("web-1", targets)
    eventually(lambda: watch.prober.shed > 20)
    assert len(watch.prober._tasks) <= 2
    assert watch.prober.stop(5)
    assert watch.errors == []


def test_probes_that_wait_when_it_is_stopped_are_not_begun(server: Server) -> None:
    watch = Watch(concurrency=2)
    port = server.port(None)
    targets = [replace(BASE, port=port, timeout=5.0, probe=f"p{n}") for n in range(30)]
    watch.prober.set_targets("web-1", targets)
    eventually(lambda: len(watch.prober._waiting) > 5)
    assert watch.prober.stop(5)
    assert watch.prober._tasks == set()
    assert watch.results == []


def test_a_loop_that_stood_still_does_not_take_its_lateness_for_a_failure(server: Server) -> None:
    stalled = threading.Event()

    def stall(guest: str, old: ProbeView, new: ProbeView) -> None:
        transitions.append(new.status)
        if new.probe == "stall" and not stalled.is_set():
            stalled.set()
            time.sleep(3.0)  # the loop's thread itself

    transitions: list[ProbeStatus] = []
    prober = Recording(
        inside=lambda target: (None, ""),
        on_transition=stall,
        on_error=lambda target, error: None,
    )
    results = prober.results
    prober.start()
    slow = server.port(http("200 OK"))
    probes = [replace(BASE, port=slow, timeout=1.5, probe=f"p{n}") for n in range(50)]
    prober.set_targets("web-1", probes)
    eventually(lambda: len(results) > 100)
    prober.set_targets("web-2", [replace(BASE, guest="web-2", port=slow, probe="stall")])
    assert stalled.wait(60)
    seen = len(results)
    eventually(lambda: len(results) > seen + 100)
    assert prober.stop(5)
    # On a machine that is busy for long some have no data for long: that is told as what it is.
    assert SUCCESS in transitions
    assert FAILURE not in transitions
    assert prober.shed > 0


def test_probes_of_one_period_spread_evenly_and_always_alike() -> None:
    slots = Counter(int(_spread(replace(BASE, guest=f"guest-{n}")) * 100) for n in range(2000))
    assert max(slots.values()) < 3 * 2000 / 100
    assert _spread(BASE) == _spread(replace(BASE, epoch="other"))


def test_stopping_twice_and_without_a_start_is_fine() -> None:
    prober = Prober(
        inside=lambda target: (None, ""),
        on_transition=lambda *_: None,
        on_error=lambda *_: None,
    )
    assert prober.stop()
    prober.start()
    assert prober.stop()
    assert prober.stop()
    prober.set_targets("web-1", [BASE])  # too late, but harmless


LOAD_SERVER = """
import asyncio, sys
BODY = b"x" * 600
ANSWER = (b"HTTP/1.1 200 OK\\r\\nServer: nginx\\r\\nContent-Type: text/html\\r\\n"
          b"Content-Length: 600\\r\\nConnection: close\\r\\n\\r\\n" + BODY)
class Answer(asyncio.Protocol):
    def connection_made(self, transport): self.transport = transport
    def data_received(self, data): self.transport.write(ANSWER); self.transport.close()
async def main():
    server = await asyncio.get_running_loop().create_server(Answer, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


def test_of_two_thousand_probes_everyone_has_its_turn() -> None:
    """What they cost is for ``make bench`` to say (``bench/probes.py``)."""
    server = subprocess.Popen(
        [sys.executable, "-c", LOAD_SERVER], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    port = int(server.stdout.readline())
    watch = Watch()
    try:
        base = replace(BASE, port=port, period=10.0, timeout=2.0)
        for number in range(1000):
            guest = f"guest-{number}"
            probes = [replace(base, guest=guest, probe=name) for name in ("a", "b")]
            watch.prober.set_targets(guest, probes)
        eventually(lambda: len({(each[0].guest, each[0].probe) for each in watch.results}) == 2000)
    finally:
        assert watch.prober.stop(5)
        server.terminate()
        server.wait(60)
        server.stdout.close()
