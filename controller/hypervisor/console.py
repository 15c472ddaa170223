"""A domain's serial console as a stream of bytes, from now on."""

import queue
import threading
from collections.abc import Iterator

import libvirt
import structlog

from controller.errors import PermanentError
from controller.hypervisor.connection import HostLink
from controller.hypervisor.host_config import Role
from controller.hypervisor.shield import shielded

log = structlog.get_logger(__name__)

_BLOCK = 65536
_BACKLOG = 1024  # blocks kept for a slow reader; beyond that the oldest go
_TIMEOUT = 15.0


class Console:
    """An open console: iterate over it for bytes; close it, or leave its ``with``, to end it."""

    def __init__(self, link: HostLink, stream: libvirt.virStream) -> None:
        self._link = link
        self._stream = stream
        self._blocks: queue.Queue[bytes | None] = queue.Queue(_BACKLOG)
        self._closed = threading.Event()

    def __enter__(self) -> "Console":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[bytes]:
        """Blocks of bytes until the domain stops or somebody closes it."""
        while True:
            block = self.read(1.0)
            if block is None:
                return
            if block:
                yield block

    def read(self, timeout: float) -> bytes | None:
        """The next bytes; b'' when none came within ``timeout`` seconds, None at its end."""
        try:
            block = self._blocks.get(timeout=timeout)
        except queue.Empty:
            return None if self._closed.is_set() else b""
        return block

    def close(self) -> None:
        if self._closed.is_set():
            return
        self._closed.set()
        self._put(None)
        self._link.call(Role.ACT, "close console", lambda _: _end(self._stream), _TIMEOUT)

    def _put(self, block: bytes | None) -> None:
        while True:
            try:
                self._blocks.put_nowait(block)
            except queue.Full:
                try:
                    self._blocks.get_nowait()
                except queue.Empty:
                    continue
            else:
                return

    def _ready(self, stream: libvirt.virStream, events: int, _opaque: object) -> None:
        """From libvirt's event thread: takes what is there, never blocks."""
        if events & libvirt.VIR_STREAM_EVENT_READABLE:
            try:
                block = stream.recv(_BLOCK)
            except libvirt.libvirtError as error:
                log.debug("console ended", error=str(error))
                block = b""
            if isinstance(block, int):  # -2: nothing there after all
                return
            if block:
                self._put(block)
                return
        self._closed.set()
        self._put(None)
        try:
            stream.eventRemoveCallback()
        except libvirt.libvirtError as error:
            log.debug("console callback not removed", error=str(error))

    def listen(self) -> None:
        """Begins to take in bytes."""
        self._stream.eventAddCallback(
            libvirt.VIR_STREAM_EVENT_READABLE
            | libvirt.VIR_STREAM_EVENT_ERROR
            | libvirt.VIR_STREAM_EVENT_HANGUP,
            shielded(self._ready),
            None,
        )


def open_console(link: HostLink, name: str) -> Console:
    """``virDomainOpenConsole`` of the first serial port.

    Whoever has it open keeps it. Raises ``PermanentError(reason='NotRunning')`` for a domain that
    is off, and as a call does (``ConsoleBusy`` comes as libvirt words it).
    """

    def open_it(connection: libvirt.virConnect) -> Console:
        domain = connection.lookupByName(name)
        if not domain.isActive():
            raise PermanentError(f"domain {name} is not running", reason="NotRunning")
        stream = connection.newStream(libvirt.VIR_STREAM_NONBLOCK)
        domain.openConsole(None, stream, libvirt.VIR_DOMAIN_CONSOLE_SAFE)
        console = Console(link, stream)
        console.listen()
        return console

    return link.call(Role.ACT, "open console", open_it, _TIMEOUT)


def _end(stream: libvirt.virStream) -> None:
    for step in (stream.eventRemoveCallback, stream.abort):
        try:
            step()
        except libvirt.libvirtError as error:
            log.debug("console not closed cleanly", error=str(error))
