"""Run probes inside a guest, through its agent.

A probe is one exec, and its timeout runs in the guest, so a slow agent (or TCG) never counts
against a service. The answer None means that nothing was learnt about the service; it must not be
taken for a failure.
"""

import re
import shlex
from typing import Final

from controller.errors import AgentUnavailableError, GuestkeeperError
from controller.guest_access.agent import GuestAgent
from controller.guest_access.rendering import SHELL, script_source
from controller.observed.guest_text import printable
from controller.observed.health import ProbeTarget

_NO_TOOL: Final = 90
_START_ALLOWANCE: Final = 10.0
_LINE: Final = re.compile(r"probe\t([0-9]{1,10})\t(.*)")

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


Answer = tuple[bool | None, str]
"""(healthy, or None where nothing was learnt; message)."""


class InsideProber:
    """Runs probes in guests. Safe for many threads; a call takes as long as its probe."""

    def __init__(self, agent: GuestAgent) -> None:
        self._agent = agent

    def probe(self, target: ProbeTarget, domain_name: str) -> Answer:
        """Run one probe. Raises nothing: an error that prevented it becomes the message."""
        try:
            if target.kind == "guestAgentPing":
                return self._ping(target, domain_name)
            return self._ask(target, domain_name)
        except GuestkeeperError as error:
            return None, str(error)

    def _ping(self, target: ProbeTarget, name: str) -> Answer:
        try:
            self._agent.ping(target.host, name, target.timeout)
        except AgentUnavailableError as error:
            return False, str(error)
        return True, "the guest agent answers"

    def _ask(self, target: ProbeTarget, name: str) -> Answer:
        result = self._agent.exec(
            target.host,
            name,
            SHELL,
            stdin=_script(target),
            timeout=target.timeout + _START_ALLOWANCE,
        )
        line = _LINE.match(result.stdout.decode(errors="replace"))
        if line is None:
            return None, f"the guest gave no answer (exit status {result.exit_code})"
        return _judged(target, int(line[1]), line[2])


def _script(target: ProbeTarget) -> bytes:
    words = " ".join(shlex.quote(word) for word in _command(target))
    lines = (script_source("probe.sh"), f"gk_probe {target.timeout:.3f} {words}", "exit 0")
    return ("\n".join(lines) + "\n").encode()


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


def _judged(target: ProbeTarget, code: int, said: str) -> Answer:
    said = printable(said.strip())
    if code == 0:
        return True, said
    if code in (124, 137):
        return False, f"timed out after {target.timeout:g} s"
    if code == _NO_TOOL and target.kind == "httpGet" and target.scheme == "https":
        return None, "httpGet with scheme: https and from: guest needs curl in the guest"
    if target.kind == "systemdUnit":
        return False, f"{' '.join(target.command)} is {said or 'not active'}"
    if target.kind == "exec":
        return False, f"exited {code}" + (f": {said}" if said else "")
    return False, said or f"exited {code}"
