"""Probes that are asked inside a guest, through its agent.

All that are due together are one exec: they run side by side in the guest, each under its own
timeout, so a slow agent (or TCG) is never counted against a service. The answer None means that
nothing was learnt about the service; it must not be taken for a failure.
"""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from controller.errors import (
    AgentUnavailableError,
    GuestkeeperError,
    HostUnreachableError,
    PermanentError,
    TransientError,
)
from controller.guest_access.agent import GuestAgent
from controller.guest_access.rendering import SHELL, script_source
from controller.observed.health import ProbeTarget

_NO_TOOL: Final = 90
_START_ALLOWANCE: Final = 10.0

# Run by bash, whose /dev/tcp speaks TCP: small guests have neither curl nor wget.
_TCP: Final = """
for address in 127.0.0.1 ::1; do
    if { exec 3<>"/dev/tcp/$address/$1"; } 2>/dev/null; then exit 0; fi
done
echo "nothing accepts connections on port $1"
exit 1
"""

_HTTP: Final = r"""
port=$1
shift
for address in 127.0.0.1 ::1; do
    if { exec 3<>"/dev/tcp/$address/$port"; } 2>/dev/null; then
        printf '%s\r\n' "$@" '' >&3
        IFS= read -r status <&3
        echo "${status:-the connection was closed without an answer}"
        [[ $status =~ ^HTTP/[0-9.]+\ [23][0-9][0-9] ]]
        exit
    fi
done
echo "nothing accepts connections on port $port"
exit 1
"""

_HTTPS: Final = """
command -v curl >/dev/null || exit 90
code=$(curl -sSk -o /dev/null -w '%{http_code}' "$@" 2>&1) # as the kubelet: any certificate
echo "$code"
case $code in 2??|3??) exit 0 ;; esac
exit 1
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one probe learnt: ``ok`` is None where nothing was."""

    ok: bool | None
    message: str


class InsideProber:
    """Asks probes within guests. Safe for many threads; a call takes as long as its probes."""

    def __init__(self, agent: GuestAgent) -> None:
        self._agent = agent

    def probe(self, target: ProbeTarget, domain_name: str) -> tuple[bool | None, str]:
        """Asks one probe. Raises nothing: what kept it from asking is the message."""
        answer = self.probe_all([target], domain_name)[0]
        return answer.ok, answer.message

    def probe_all(self, targets: Sequence[ProbeTarget], domain_name: str) -> list[Answer]:
        """Asks probes of one guest in one exec; the answers are in the order of ``targets``."""
        answers: dict[int, Answer] = {}
        calls: list[tuple[int, list[str]]] = []
        for number, target in enumerate(targets):
            if target.kind == "guestAgentPing":
                answers[number] = self._ping(target, domain_name)
            else:
                calls.append((number, _command(target)))
        if calls:
            answers.update(self._ask(targets, calls, domain_name))
        return [answers[number] for number in range(len(targets))]

    def _ping(self, target: ProbeTarget, name: str) -> Answer:
        try:
            self._agent.ping(target.host, name, target.timeout)
        except AgentUnavailableError as error:
            return Answer(False, str(error))
        except GuestkeeperError as error:
            return Answer(None, str(error))
        return Answer(True, "the guest agent answers")

    def _ask(
        self, targets: Sequence[ProbeTarget], calls: Sequence[tuple[int, list[str]]], name: str
    ) -> dict[int, Answer]:
        longest = max(targets[number].timeout for number, _ in calls)
        try:
            result = self._agent.exec(
                targets[calls[0][0]].host,
                name,
                SHELL,
                stdin=_script(targets, calls),
                timeout=longest + _START_ALLOWANCE,
            )
        except (HostUnreachableError, TransientError, PermanentError) as error:
            return {number: Answer(None, str(error)) for number, _ in calls}
        found = _read(result.stdout.decode(errors="replace"), targets)
        lost = Answer(None, f"the guest gave no answer (exit status {result.exit_code})")
        return {number: found.get(number, lost) for number, _ in calls}


def _script(targets: Sequence[ProbeTarget], calls: Sequence[tuple[int, list[str]]]) -> bytes:
    lines = [script_source("probe.sh")]
    for number, command in calls:
        words = " ".join(shlex.quote(word) for word in command)
        lines.append(f"gk_probe {number} {targets[number].timeout:.3f} {words}")
    return ("\n".join([*lines, "gk_probe_end", "exit 0"]) + "\n").encode()


def _command(target: ProbeTarget) -> list[str]:
    port = str(target.port)
    if target.kind == "exec":
        return list(target.command)
    if target.kind == "systemdUnit":
        return ["systemctl", "is-active", "--", *target.command]
    if target.kind == "tcpSocket":
        return ["bash", "-c", _TCP, "guestkeeper", port]
    headers = [f"{name}: {value}" for name, value in target.headers]
    if target.scheme == "https":
        options = [word for header in headers for word in ("--header", header)]
        url = f"https://localhost:{port}{target.path}"
        return ["sh", "-c", _HTTPS, "guestkeeper", *options, url]
    if not any(name.lower() == "host" for name, _ in target.headers):
        headers.insert(0, f"Host: localhost:{port}")
    request = [f"GET {target.path} HTTP/1.1", *headers, "Connection: close"]
    return ["bash", "-c", _HTTP, "guestkeeper", port, *request]


_LINE = re.compile(r"probe\t(\d+)\t(\d+)\t(.*)")


def _read(text: str, targets: Sequence[ProbeTarget]) -> dict[int, Answer]:
    answers: dict[int, Answer] = {}
    for line in text.split("\n"):
        match = _LINE.match(line)
        if match is not None and int(match[1]) < len(targets):
            number, code = int(match[1]), int(match[2])
            answers[number] = _judged(targets[number], code, match[3])
    return answers


def _judged(target: ProbeTarget, code: int, said: str) -> Answer:
    said = "".join(c for c in said if c.isprintable()).strip()
    if code == 0:
        return Answer(True, said)
    if code in (124, 137):
        return Answer(False, f"timed out after {target.timeout:g} s")
    if code == _NO_TOOL and target.kind == "httpGet" and target.scheme == "https":
        return Answer(None, "httpGet with scheme: https and from: guest needs curl in the guest")
    if target.kind == "systemdUnit":
        return Answer(False, f"{' '.join(target.command)} is {said or 'not active'}")
    if target.kind == "exec":
        return Answer(False, f"exited {code}" + (f": {said}" if said else ""))
    return Answer(False, said or f"exited {code}")
