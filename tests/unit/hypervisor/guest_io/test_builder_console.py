"""What a port's reader and writer get, with a stream that does what libvirt's may do."""

import threading
from typing import cast

import libvirt
import pytest

from controller.errors import HostUnreachableError, TransientError
from controller.hypervisor.connection.config import HostConfig
from controller.hypervisor.connection.link import HostLink, Session
from controller.hypervisor.connection.stream_line import StreamLine
from controller.hypervisor.guest_io import stream as console
from controller.hypervisor.guest_io.stream import BACKLOG, Console, Overflow
from tests.waiting import wait_until

READABLE, HANGUP = libvirt.VIR_STREAM_EVENT_READABLE, libvirt.VIR_STREAM_EVENT_HANGUP


class Stream:
    """One of libvirt's, as far as a console uses it. ``comes`` is what ``recv`` gives next."""

    def __init__(self) -> None:
        self.comes: list[bytes | int] = []
        self.takes: list[int] = []
        self.taken = b""
        self.aborted = threading.Event()
        self.gone = False

    def recv(self, _size: int) -> bytes | int:
        if self.gone:
            raise libvirt.libvirtError("stream aborted")
        return self.comes.pop(0) if self.comes else -2

    def send(self, data: bytes) -> int:
        if self.gone:
            raise libvirt.libvirtError("stream aborted")
        took = self.takes.pop(0) if self.takes else len(data)
        self.taken += data[: max(0, took)]
        return took

    def abort(self) -> None:
        self.aborted.set()

    def eventRemoveCallback(self) -> None:  # noqa: N802 - libvirt's name
        """Nothing calls back any more."""


class Port:
    """A console, its stream, its session, and libvirt's event thread."""

    def __init__(self, overflow: Overflow = Overflow.HANG_UP) -> None:
        config = HostConfig("a", "test:///default")
        link = HostLink(config, connected=lambda *_: None, on_host=lambda *_: None,
                        on_call=lambda *_: None)  # fmt: skip
        self.stream = Stream()
        stream = cast(libvirt.virStream, self.stream)
        connections = dict.fromkeys(console.Role, cast(libvirt.virConnect, None))
        self.session = Session(connections)
        line = StreamLine(link, self.session, self.session.line(console.Role.ACT))
        self.console = Console(line, stream, overflow)

    def say(self, *blocks: bytes, events: int = READABLE) -> None:
        self.stream.comes += blocks
        for _ in blocks or (b"",):
            self.console._ready(cast(libvirt.virStream, self.stream), events, None)


def test_bytes_are_read_in_their_order_and_then_none_for_ever() -> None:
    port = Port()
    port.say(b"one", b"two")
    port.say(b"")
    assert [port.console.read(0) for _ in range(4)] == [b"one", b"two", None, None]


def test_no_bytes_are_not_the_end() -> None:
    port = Port()
    port.console._ready(cast(libvirt.virStream, port.stream), READABLE, None)
    assert port.console.read(0) == b""


def test_a_lost_connection_ends_it_after_what_had_arrived() -> None:
    port = Port()
    port.say(b"taken")
    port.stream.comes = [b"still with libvirt"]
    port.session.lose("libvirtd is gone")
    assert port.console.read(0) == b"taken"
    assert port.console.read(0) == b"still with libvirt"
    assert port.console.read(0) is None


def test_a_reader_that_waits_learns_that_the_connection_is_lost() -> None:
    port = Port()
    got: list[bytes | None] = []
    reader = threading.Thread(target=lambda: got.append(port.console.read(60)), daemon=True)
    reader.start()
    port.session.lose("libvirtd is gone")
    reader.join(60)
    assert got == [None]


def test_a_log_loses_its_oldest_bytes_only() -> None:
    port = Port(Overflow.DROP_OLDEST)
    block = 1 << 16
    count = BACKLOG // block + 3
    port.say(*(bytes([n % 256]) * block for n in range(count)))
    first = port.console.read(0)
    assert first is not None and first[:1] == bytes([3])
    assert not port.stream.aborted.is_set()


def test_a_channel_on_which_every_line_counts_hangs_up_and_keeps_all_it_took() -> None:
    port = Port()
    block = b"x" * (1 << 16)
    count = BACKLOG // len(block) + 1
    port.say(*[block] * count)
    wait_until(port.stream.aborted.is_set, 5, "the stream is let go")
    assert [port.console.read(0) for _ in range(count + 1)] == [block] * count + [None]


def test_a_write_goes_on_where_the_stream_took_only_a_part() -> None:
    port = Port()
    port.stream.takes = [2, -2, 1]
    port.console.write(b"all of it\n")
    assert port.stream.taken == b"all of it\n"


def test_a_stream_that_takes_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "_WRITE_SECONDS", 0.1)
    port = Port()
    port.stream.takes = [-2] * 1000
    with pytest.raises(TransientError) as caught:
        port.console.write(b"ok\n")
    assert caught.value.reason == "ChannelBlocked"


def test_a_stream_that_broke_costs_the_channel_and_not_the_host() -> None:
    port = Port()
    port.stream.gone = True
    with pytest.raises(TransientError) as caught:
        port.console.write(b"ok\n")
    assert caught.value.reason == "ChannelClosed"
    assert not port.session.lost


def test_nothing_is_written_once_it_ended() -> None:
    port = Port()
    port.say(events=HANGUP)
    with pytest.raises(TransientError) as caught:
        port.console.write(b"ok\n")
    assert caught.value.reason == "ChannelClosed"
    lost = Port()
    lost.session.lose("libvirtd is gone")
    with pytest.raises(HostUnreachableError):
        lost.console.write(b"ok\n")


def test_closing_lets_the_stream_go_also_of_a_lost_connection() -> None:
    port = Port()
    port.session.lose("libvirtd is gone")
    port.console.close()
    port.console.close()
    assert port.stream.aborted.is_set()
    assert port.console.read(0) is None
