"""One dead guest agent costs its own guest time, nobody else's."""

import threading
from typing import Any

import pytest

from controller.errors import AgentUnavailableError, FilesystemsFrozenError, HostBusyError
from controller.hypervisor.connection.config import HostConfig, Role
from controller.hypervisor.guest_io.agent import Agents
from tests.waiting import wait_until


class FakeLink:
    """Stands for a host: commands to a guest in ``dead`` hang until ``release``, then fail."""

    def __init__(self, dead: set[str]) -> None:
        self.config = HostConfig("far", "qemu:///system")
        self.dead = dead
        self.roles: dict[str, Role] = {}
        self.release = threading.Event()
        self.lock = threading.Lock()
        self.running: list[str] = []
        self.most: dict[str, int] = {}

    def call(self, role: Role, _operation: str, function: Any, _timeout: float) -> str:
        name = function.__closure__[_free(function, "name")].cell_contents
        with self.lock:
            self.roles[name] = role
            self.running.append(name)
            self.most[name] = max(self.most.get(name, 0), self.running.count(name))
        try:
            if name in self.dead:
                self.release.wait(60)
                raise AgentUnavailableError("no answer")
            return '{"return": {}}'
        finally:
            with self.lock:
                self.running.remove(name)


class Answering:
    """A host all of whose agents answer the same."""

    def __init__(self, answer: str) -> None:
        self.answer = answer

    def call(self, _role: object, _operation: str, _function: Any, _timeout: float) -> str:
        if not self.answer:
            raise AgentUnavailableError("no answer")
        return self.answer


def test_a_guest_with_frozen_file_systems_is_left_alone() -> None:
    frozen = Agents(Answering('{"return": "frozen"}'))  # type: ignore[arg-type]
    with pytest.raises(FilesystemsFrozenError, match="virsh domfsthaw web1") as caught:
        frozen.refuse_while_frozen("web1")
    assert (caught.value.reason, caught.value.retry_after) == ("FilesystemsFrozen", 5)


@pytest.mark.parametrize("answer", ['{"return": "thawed"}', "", "no JSON", "[]", '{"error": {}}'])
def test_an_agent_that_does_not_say_frozen_is_no_reason(answer: str) -> None:
    Agents(Answering(answer)).refuse_while_frozen("web1")  # type: ignore[arg-type]


def _free(function: Any, name: str) -> int:
    return int(function.__code__.co_freevars.index(name))


def test_an_answer_is_returned() -> None:
    agents = Agents(FakeLink(set()))  # type: ignore[arg-type]
    assert agents.command("web1", "{}", 5) == '{"return": {}}'


def test_commands_to_one_guest_run_one_after_the_other() -> None:
    link = FakeLink({"web1"})
    agents = Agents(link)  # type: ignore[arg-type]
    threads = [threading.Thread(target=_try, args=(agents, "web1", 5.0)) for _ in range(3)]
    for thread in threads:
        thread.start()
    wait_until(lambda: link.running == ["web1"], 5, "the first command runs")
    link.release.set()
    for thread in threads:
        thread.join(60)
    assert link.most["web1"] == 1


def _try(agents: Agents, name: str, timeout: float) -> None:
    try:
        agents.command(name, "{}", timeout)
    except AgentUnavailableError:
        return


def test_a_guest_whose_agent_is_busy_for_too_long_is_told_so() -> None:
    link = FakeLink({"web1"})
    agents = Agents(link)  # type: ignore[arg-type]
    thread = threading.Thread(target=_try, args=(agents, "web1", 5.0))
    thread.start()
    wait_until(lambda: link.running == ["web1"], 5, "the first command runs")
    with pytest.raises(AgentUnavailableError, match="busy"):
        agents.command("web1", "{}", 0.05)
    assert agents.command("web2", "{}", 5) == '{"return": {}}'
    link.release.set()
    thread.join(60)


def test_silent_agents_share_a_few_places_and_nobody_waits_for_one() -> None:
    dead = [f"dead{n}" for n in range(8)]
    link = FakeLink(set(dead))
    agents = Agents(link)  # type: ignore[arg-type]
    link.release.set()
    for name in dead:
        _try(agents, name, 5)
    assert set(link.roles.values()) == {Role.AGENT}
    link.release.clear()
    threads = [threading.Thread(target=_try, args=(agents, name, 5.0)) for name in dead[:4]]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(link.running) == 4, 5, "four of them are tried")
    for name in dead[4:]:
        with pytest.raises(HostBusyError, match=f"the agent of {name} did not answer of late"):
            agents.command(name, "{}", 5)
    assert agents.command("web1", "{}", 5) == '{"return": {}}'
    assert {link.roles[name] for name in dead[:4]} == {Role.SILENT}
    assert link.roles["web1"] is Role.AGENT
    link.release.set()
    for thread in threads:
        thread.join(60)


def test_an_agent_that_answers_again_or_was_started_anew_is_asked_like_any_other() -> None:
    link = FakeLink({"web1", "web2"})
    agents = Agents(link)  # type: ignore[arg-type]
    link.release.set()
    for name in ("web1", "web2"):
        _try(agents, name, 5)
    link.dead.clear()
    heard: list[str] = []
    hear = agents.hearing(lambda _host, _name, kind: heard.append(kind))
    for kind in ("agent-disconnected", "agent-connected"):
        hear("far", "web2", kind)
    assert heard == ["agent-disconnected", "agent-connected"]
    agents.command("web1", "{}", 5)
    agents.command("web2", "{}", 5)
    assert link.roles == {"web1": Role.SILENT, "web2": Role.AGENT}
    agents.command("web1", "{}", 5)
    assert link.roles["web1"] is Role.AGENT
