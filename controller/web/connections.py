"""Limits and timeouts for client connections, so that they do not use up file descriptors.

uvicorn waits for ever for a client's first request, for the rest of a request that came in part,
and for a client that does not read its answer. libvirt, the journal and the probes need these
descriptors.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


@dataclass(frozen=True, slots=True)
class Bounds:
    """The limits of one socket: connections at once, and times in seconds."""

    connections: int
    patience: float = 5.0
    """From the connection's start, or its last answer, to the next complete request head."""
    unread: float | None = 30.0
    """How long an answer may stay unread; None where readers may pause (of a console)."""


class BoundedConnection(H11Protocol):
    """An HTTP connection that closes itself when its client takes too long.

    A connection too many closes the one that has waited longest for a request; if all are being
    answered, the new one is closed.
    """

    def __init__(self, *args: Any, bounds: Bounds, **more: Any) -> None:
        super().__init__(*args, **more)
        self._bounds = bounds
        self._waiting_since = self._unread_since = self.loop.time()
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._waiting_since = self._unread_since = self.loop.time()
        self._look_again()
        if len(self.connections) > self._bounds.connections:
            others = (each for each in self.connections if isinstance(each, BoundedConnection))
            idle = [each for each in others if each is not self and each._waits()]
            min(idle, key=lambda each: each._waiting_since, default=self)._abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        self._waiting_since = self.loop.time()
        super().on_response_complete()

    def _waits(self) -> bool:
        """Does the connection wait for the client's next request?"""
        return self.cycle is None or self.cycle.response_complete

    def _look_again(self) -> None:
        self._timer = self.loop.call_later(self._bounds.patience / 5, self._look)

    def _look(self) -> None:
        now, bounds = self.loop.time(), self._bounds
        if self.transport.get_write_buffer_size() == 0:
            self._unread_since = now
            late = self._waits() and now - self._waiting_since > bounds.patience
        else:
            late = bounds.unread is not None and now - self._unread_since > bounds.unread
        if late:
            self._abort()
        else:
            self._look_again()

    def _abort(self) -> None:
        # Removed now and not in connection_lost: new connections are counted before that.
        self.connections.discard(self)
        self.transport.abort()


def bounded(bounds: Bounds) -> Callable[..., asyncio.Protocol]:
    """The protocol factory for uvicorn's option ``http``."""
    return partial(BoundedConnection, bounds=bounds)
