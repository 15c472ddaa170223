"""Sends commands to guest agents, so that a dead agent never delays the others.

An agent runs one command at a time, and libvirtd has a bounded number of workers for all agents.
So commands to one guest queue here, not in libvirtd. Agents that did not answer lately share a few
places, on a connection of their own, until they answer again. No caller waits for such a place,
because it may have other guests to serve.
"""

import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import libvirt
import libvirt_qemu  # type: ignore[import-untyped]

from controller.errors import (
    AgentUnavailableError,
    FilesystemsFrozenError,
    GuestkeeperError,
    HostBusyError,
    HostUnreachableError,
)
from controller.hypervisor.connection.config import OnEvent, Role
from controller.hypervisor.connection.events import AGENT_CONNECTED
from controller.hypervisor.connection.link import HostLink

_SUSPECTS_AT_ONCE = 4
_COME_AGAIN = 2.0
_MARGIN = 10.0  # seconds that libvirt gets in addition to the agent's timeout
_FROZEN_SECONDS = 3.0


class Agents:
    """The guest agents of one host."""

    def __init__(self, link: HostLink, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._link = link
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._domains: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._suspects: set[str] = set()
        self._places = threading.BoundedSemaphore(_SUSPECTS_AT_ONCE)

    def command(self, name: str, command: str, timeout: float) -> str:
        """Sends the JSON ``command`` and returns the JSON answer (``virDomainQemuAgentCommand``).

        ``timeout`` in seconds, with the wait for the guest's earlier commands; libvirt takes whole
        seconds only. Raises ``AgentUnavailableError`` when no agent answers in time, and
        ``HostBusyError`` if it was not tried, because too many agents of the host do not answer.
        """
        deadline = self._monotonic() + timeout
        with self._turn(name, deadline) as role:
            left = max(1, round(deadline - self._monotonic()))

            def run(connection: libvirt.virConnect) -> str:
                domain = connection.lookupByName(name)
                answer: str = libvirt_qemu.qemuAgentCommand(domain, command, left, 0)
                return answer

            try:
                answer = self._link.call(role, "agent command", run, left + _MARGIN)
            except (AgentUnavailableError, HostUnreachableError):
                with self._lock:
                    self._suspects.add(name)
                raise
            with self._lock:
                self._suspects.discard(name)
            return answer

    def refuse_while_frozen(self, name: str) -> None:
        """Raises ``FilesystemsFrozenError`` while a backup or snapshot has the file systems frozen.

        Stopping the guest would then break that backup, and lose data that waits to be written. An
        agent that does not answer is not taken as frozen.
        """
        try:
            answer = self.command(name, '{"execute":"guest-fsfreeze-status"}', _FROZEN_SECONDS)
            frozen = json.loads(answer).get("return") == "frozen"
        except (GuestkeeperError, ValueError, AttributeError, RecursionError):
            return
        if frozen:
            raise FilesystemsFrozenError(name)

    def hearing(self, on_event: OnEvent) -> OnEvent:
        """Wraps ``on_event``, so that this class handles a host's events first."""

        def heard(host: str, name: str, kind: str) -> None:
            if kind == AGENT_CONNECTED:
                self.trust(name)
            on_event(host, name, kind)

        return heard

    def trust(self, name: str) -> None:
        """Clears the suspicion: the guest's agent was restarted, so it may answer again."""
        with self._lock:
            self._suspects.discard(name)

    @contextmanager
    def _turn(self, name: str, deadline: float) -> Iterator[Role]:
        with self._lock:
            one = self._domains[name]
        if not one.acquire(timeout=max(0.0, deadline - self._monotonic())):
            raise AgentUnavailableError(f"the agent of {name} is busy with an earlier command")
        try:
            with self._lock:
                suspect = name in self._suspects
            if not suspect:
                yield Role.AGENT
                return
            if not self._places.acquire(blocking=False):
                raise HostBusyError(
                    f"the agent of {name} did not answer of late, and others like it are waited for"
                    f" on host {self._link.config.name}: it is asked again later",
                    retry_after=_COME_AGAIN,
                )
            try:
                yield Role.SILENT
            finally:
                self._places.release()
        finally:
            one.release()
