"""Probes asked inside: real commands of this machine, in the sandbox's agent."""

import http.server
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from controller.errors import AgentUnavailableError, HostUnreachableError, PermanentError
from controller.guest_access.agent import GuestAgent
from controller.guest_access.probing import InsideProber
from controller.observed.health import ProbeTarget
from tests.unit.guest_access.sandbox import Sandbox, a_target


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(int(self.path[1:]) if self.headers["X-Token"] == "it's" else 403)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_a_probe_is_one_exec(sandbox: Sandbox, port: int) -> None:
    (sandbox.root / "bin/systemctl").write_text('#!/bin/sh\necho inactive\n[ "$3" = up.service ]\n')
    token = (("X-Token", "it's"),)
    cases: list[tuple[ProbeTarget, bool | None, str]] = [
        (a_target("httpGet", port=port, path="/200", headers=token), True, "200 OK"),
        (a_target("httpGet", port=port, path="/302", headers=token), True, "302"),
        (a_target("httpGet", port=port, path="/404", headers=token), False, "404"),
        (a_target("httpGet", port=port, path="/200"), False, "403"),
        (a_target("httpGet", port=1), False, "nothing accepts connections on port 1"),
        (a_target("tcpSocket", port=port), True, ""),
        (a_target("tcpSocket", port=1), False, "nothing accepts connections on port 1"),
        (a_target("systemdUnit", command=("up.service",)), True, ""),
        (a_target("systemdUnit", command=("down.service",)), False, "down.service is inactive"),
        (a_target("exec", command=("printf", "%s", "it's $(id)\tok")), True, "it's $(id) ok"),
        (a_target("exec", command=("sh", "-c", "echo no; exit 3")), False, "exited 3: no"),
        (a_target("exec", command=("sleep", "9"), timeout=0.1), False, "timed out after 0.1 s"),
        (a_target("exec", command=("no-such-command",)), False, "exited 127"),
        (a_target("exec", command=("seq", "100000")), True, "1"),
    ]
    prober = InsideProber(sandbox.agent)
    for target, ok, message in cases:
        answer = prober.probe(target, "web")
        assert answer[0] is ok, (target, answer)
        assert message in answer[1]
    assert len(sandbox.requests) == len(cases)


def test_https_needs_curl_in_the_guest(sandbox: Sandbox) -> None:
    curl = sandbox.root / "bin/curl"
    curl.write_text("#!/bin/sh\nprintf 204\n")
    curl.chmod(0o755)
    prober = InsideProber(sandbox.agent)
    assert prober.probe(a_target("httpGet", scheme="https"), "web") == (True, "204")
    curl.write_text("#!/bin/sh\nexit 90\n")
    assert prober.probe(a_target("httpGet", scheme="https"), "web")[0] is False


@pytest.mark.parametrize(
    "error", [AgentUnavailableError("gone"), HostUnreachableError("gone"), PermanentError("no")]
)
def test_what_could_not_be_asked_is_not_a_failure(error: Exception) -> None:
    def channel(*_: Any) -> str:
        raise error

    prober = InsideProber(GuestAgent(channel, lambda: 0.0, lambda _: False))
    assert prober.probe(a_target("exec", command=("true",)), "web") == (None, str(error))
    silent = isinstance(error, AgentUnavailableError)
    expected = False if silent else None
    assert prober.probe(a_target("guestAgentPing"), "web") == (expected, str(error))
    assert InsideProber(
        GuestAgent(lambda *_: '{"return": {}}', lambda: 0.0, lambda _: False)
    ).probe(a_target("guestAgentPing"), "web") == (True, "the guest agent answers")
