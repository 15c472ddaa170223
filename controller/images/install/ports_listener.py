"""Read the ports of a running builder at once: its marker, its log, its console.

One thread per port puts what it reads into one queue; the build takes it out with a deadline. A
port that ends while the builder runs (libvirtd was restarted) is opened again.
"""

import contextlib
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from controller.errors import GuestkeeperError, HostUnreachableError
from controller.images.ports import Builders, Channel
from controller.observed.build import LOG_CHANNEL, MARKER_CHANNEL

_log = structlog.get_logger(__name__)
MARKER: Final = "marker"
CONSOLE: Final = "console"
_PORTS: Final = (MARKER, "log", CONSOLE)
_READ_SECONDS: Final = 1.0
_BACKLOG: Final = 256


@dataclass(frozen=True, slots=True)
class Heard:
    """Data of a port; None: the port has ended. ``port`` '': no data, ``knock`` was called."""

    port: str
    data: bytes | None


class Listener:
    """Reads the ports of one builder. Use from one thread; ``knock`` from any."""

    def __init__(self, builders: Builders, host: str, name: str) -> None:
        self._builders = builders
        self._host = host
        self._name = name
        self._heard: queue.Queue[Heard] = queue.Queue(_BACKLOG)
        self._channels: dict[str, Channel] = {}
        self._absent: set[str] = set()
        self._closed = threading.Event()

    @property
    def open(self) -> bool:
        """Whether any port is open."""
        return bool(self._channels)

    def listen(self) -> None:
        """Open the ports that are not open; skip those that the builder does not have.

        Raises as a call to the host does; the ports that could be opened are open then.
        """
        failure: GuestkeeperError | None = None
        for port in _PORTS:
            if port in self._channels or port in self._absent:
                continue
            try:
                channel = self._open(port)
            except HostUnreachableError:
                raise
            except GuestkeeperError as error:
                if error.reason == "NoChannel":
                    self._absent.add(port)
                else:
                    failure = error
                continue
            self._channels[port] = channel
            threading.Thread(
                target=self._read,
                args=(port, channel),
                name=f"build-{port}-{self._name}",
                daemon=True,
            ).start()
        if failure is not None:
            raise failure

    def _open(self, port: str) -> Channel:
        if port == CONSOLE:
            return self._builders.open_builder_console(self._host, self._name)
        channel = MARKER_CHANNEL if port == MARKER else LOG_CHANNEL
        return self._builders.open_builder_channel(self._host, self._name, channel)

    def take(self, timeout: float) -> Heard | None:
        """The next data or knock; None when there was none for ``timeout`` seconds."""
        try:
            heard = self._heard.get(timeout=max(0.0, timeout))
        except queue.Empty:
            return None
        if heard.port and heard.data is None:
            self._channels.pop(heard.port, None)
        return heard

    def knock(self) -> None:
        """Make ``take`` return, because something about the builder may have changed."""
        with contextlib.suppress(queue.Full):  # then ``take`` returns anyway
            self._heard.put_nowait(Heard("", None))

    def answer(self, data: bytes) -> None:
        """Write to the marker port; raises as a call to the host does."""
        channel = self._channels.get(MARKER)
        if channel is not None:
            channel.write(data)

    def close(self) -> None:
        """Close every port."""
        self._closed.set()
        for port, channel in list(self._channels.items()):
            _quietly(channel.close, port)
        self._channels.clear()

    def _read(self, port: str, channel: Channel) -> None:
        try:
            while not self._closed.is_set():
                data = channel.read(_READ_SECONDS)
                if data is None:
                    break
                if data:
                    self._tell(Heard(port, data))
        except GuestkeeperError as error:
            _log.info("a builder's port ended", builder=self._name, port=port, why=str(error))
        self._tell(Heard(port, None))
        _quietly(channel.close, port)

    def _tell(self, heard: Heard) -> None:
        """Wait for room in the queue; meanwhile data stays in libvirt, and the installer waits."""
        while not self._closed.is_set():
            try:
                self._heard.put(heard, timeout=_READ_SECONDS)
            except queue.Full:
                continue
            return


def _quietly(close: Callable[[], None], port: str) -> None:
    try:
        close()
    except GuestkeeperError as error:
        _log.debug("a builder's port was not closed", port=port, why=str(error))
