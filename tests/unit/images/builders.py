"""A host in memory that can hold builder domains, and the installers that run in them.

An installer is a script of lines for the marker port, played by a thread of its own as QEMU is a
process of its own: it goes on while the daemon is dead. What nobody reads stays in the port.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from controller.errors import HostUnreachableError, PermanentError, TransientError
from controller.observed.build import BuilderConfig, BuilderView, BuildRecord
from controller.observed.domain import DomainState, StateReason
from controller.observed.host import VolumeView
from tests.unit.images.fake_pool import KilledError, Pool

GOOD = ("phase partitioning", "phase packages", "sealed", "success", "poweroff")


class Port:
    """One serial port: bytes out of the guest wait in it; bytes into the guest too."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.out = b""
        self.into = b""
        self.ended = False
        self.reader: object = None

    def say(self, text: str, *, patient: bool = False) -> None:
        """``patient``: as a virtio port does, only when somebody has taken it."""
        with self.changed:
            self.out += text.encode()
            self.changed.notify_all()
            if patient:
                self.changed.wait_for(lambda: not self.out or self.ended)

    def end(self) -> None:
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def answered(self, timeout: float) -> bool:
        with self.changed:
            got = self.changed.wait_for(lambda: b"\n" in self.into, timeout)
            self.into = b""
            return got


class FakeChannel:
    """Whoever opened the port last reads it."""

    def __init__(
        self,
        port: Port,
        on_write: Callable[[], None] = lambda: None,
    ) -> None:
        self._port = port
        self._on_write = on_write
        with port.changed:
            port.reader = self
            port.changed.notify_all()

    def read(self, timeout: float) -> bytes | None:
        port = self._port
        with port.changed:
            port.changed.wait_for(
                lambda: port.out or port.ended or port.reader is not self, timeout
            )
            if port.reader is not self:
                return None
            data, port.out = port.out, b""
            port.changed.notify_all()
            return data or (None if port.ended else b"")

    def write(self, data: bytes) -> None:
        self._on_write()
        with self._port.changed:
            self._port.into += data
            self._port.changed.notify_all()

    def close(self) -> None:
        with self._port.changed:
            if self._port.reader is self:
                self._port.reader = None
            self._port.changed.notify_all()


@dataclass
class Domain:
    config: BuilderConfig
    record: BuildRecord
    state: DomainState = DomainState.SHUTOFF
    reason: StateReason = StateReason.OTHER
    started_with: BuilderConfig | None = None


class Builders(Pool):
    """Satisfies ``images.ports.Builders``; ``scripts`` are played by one builder after the other,
    the last one for all that follow.
    """

    def __init__(self, *scripts: Sequence[str]) -> None:
        super().__init__()
        self.scripts = list(scripts) or [GOOD]
        self.domains: dict[str, Domain] = {}
        self.ports: dict[tuple[str, str], Port] = {}
        self.starts: list[BuilderConfig] = []
        self.started_kernel: list[tuple[bytes, bytes]] = []
        self.backings: dict[str, str] = {}
        self.used: set[str] = set()
        self.unreachable = False
        self.stubborn: set[str] = set()
        self.absent: set[str] = set()
        self.recorded_at_answer: list[bool] = []
        """For each answer: was what it answers written down by then?"""
        self.on_idle: Callable[[], object] = lambda: None
        """A script is over; called while its thread still is one."""
        self.on_event: Callable[[str], None] = lambda _: None
        self.kill_before = ""
        self.threads: list[threading.Thread] = []

    # --- The port ---------------------------------------------------------------------------------

    def define_builder(self, host: str, config: BuilderConfig, record: BuildRecord) -> None:
        with self._effect(f"define {config.name}"), self.lock:
            self.domains[config.name] = Domain(config.without_installer, record)

    def start_builder(self, host: str, config: BuilderConfig) -> None:
        with self._effect(f"start {config.name}"), self.lock:
            domain = self.domains[config.name]
            if domain.state.active:
                return
            assert config.disk in self.contents, "started before its disk"
            domain.state, domain.reason = DomainState.RUNNING, StateReason.OTHER
            domain.started_with = config
            number = len(self.starts)
            self.starts.append(config)
            names = [path.rpartition("/")[2] for path in (config.kernel, config.initrd)]
            self.started_kernel.append((self.contents[names[0]], self.contents[names[1]]))
            for port in ("marker", "log", "console"):
                self.ports[config.name, port] = Port()
            script = self.scripts[min(number, len(self.scripts) - 1)]
            thread = threading.Thread(
                target=self._install, args=(config.name, number, script), daemon=True
            )
            self.threads.append(thread)
        thread.start()

    def builder(self, host: str, name: str) -> BuilderView | None:
        self._call(f"look {name}")
        with self.lock:
            domain = self.domains.get(name)
            if domain is None:
                return None
            return BuilderView(name, domain.state, domain.reason, domain.record)

    def builders(self, host: str) -> Sequence[BuilderView]:
        self._call("builders")
        with self.lock:
            return [
                BuilderView(name, domain.state, domain.reason, domain.record)
                for name, domain in self.domains.items()
            ]

    def record_build(self, host: str, name: str, record: BuildRecord) -> None:
        if self.kill_before == f"record {record.step}":
            self.kill_before = ""
            raise KilledError
        with self._effect(f"record {record.step} {name}"), self.lock:
            self.domains[name].record = record

    def destroy_builder(self, host: str, name: str) -> None:
        with self._effect(f"destroy {name}"):
            if name in self.stubborn:
                raise PermanentError("QEMU does not end", reason="DestroyFailed")
            self.stop(name, StateReason.DESTROYED)

    def undefine_builder(self, host: str, name: str) -> None:
        with self._effect(f"undefine {name}"), self.lock:
            self.domains.pop(name, None)

    def open_builder_channel(self, host: str, name: str, channel: str) -> FakeChannel:
        return self._open(name, "marker" if "build" in channel else "log")

    def open_builder_console(self, host: str, name: str) -> FakeChannel:
        return self._open(name, "console")

    def _open(self, name: str, port: str) -> FakeChannel:
        self._call(f"open {port} {name}")
        if port in self.absent:
            raise PermanentError(f"{name} has no {port}", reason="NoChannel")
        with self.lock:
            if not self.domains[name].state.active:
                raise PermanentError(f"{name} is off", reason="NotRunning")
            return FakeChannel(self.ports[name, port], lambda: self._answered(name))

    def _answered(self, name: str) -> None:
        record = self.domains[name].record
        self.recorded_at_answer.append(record.succeeded or bool(record.failure))

    def volumes(self, host: str, pool: str) -> Sequence[VolumeView]:
        self._call("volumes")
        with self.lock:
            return [
                replace(self._view(name), backing=self.backings.get(name)) for name in self.contents
            ]

    def scanned_volumes(self, host: str, pool: str) -> Sequence[VolumeView]:
        self._call("scanned_volumes")
        if self.busy:
            raise TransientError("cannot be scanned", reason="PoolBusy")
        return self.volumes(host, pool)

    def file_paths(self, host: str) -> frozenset[str]:
        self._call("file paths")
        return frozenset(self.used)

    def _call(self, what: str) -> None:
        if self.unreachable:
            raise HostUnreachableError("the host is not reachable")
        super()._call(what)

    # --- The world behind it ----------------------------------------------------------------------

    def stop(self, name: str, reason: StateReason) -> None:
        """The builder ends; its ports with it."""
        with self.lock:
            domain = self.domains.get(name)
            if domain is None or not domain.state.active:
                return
            domain.state, domain.reason = DomainState.SHUTOFF, reason
        for port in ("marker", "log", "console"):
            self.ports[name, port].end()
        self.on_event(name)

    def running(self, name: str, number: int) -> bool:
        with self.lock:
            return (
                len(self.starts) == number + 1
                and name in self.domains
                and self.domains[name].state.active
            )

    def _install(self, name: str, number: int, script: Sequence[str]) -> None:
        try:
            self._play(name, number, script)
        finally:
            self.on_idle()

    def _play(self, name: str, number: int, script: Sequence[str]) -> None:
        marker = self.ports[name, "marker"]
        self.ports[name, "console"].say("booting\n")
        for line in script:
            word = line.partition(" ")[0]
            if word == "poweroff":
                self.stop(name, StateReason.SHUTDOWN)
            elif word == "crash":
                self.stop(name, StateReason.CRASHED)
            elif word == "destroyed":
                self.stop(name, StateReason.DESTROYED)
            elif word == "hang":
                return
            elif word == "log":
                self.ports[name, "log"].say(line.partition(" ")[2] + "\n")
            elif word in ("success", "failure"):
                marker.say(line + "\n", patient=True)
                while not marker.answered(0.2):
                    if not self.running(name, number):
                        return
                    marker.say(line + "\n", patient=True)
            else:
                marker.say(line + "\n", patient=True)
