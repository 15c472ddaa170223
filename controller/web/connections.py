"""One client's connection, with bounds: clients must not take the daemon's file descriptors.

uvicorn waits for ever for the first request of a client, for the rest of a request that came in
part, and for a client that does not read its answer. The descriptors those hold are the ones that
libvirt, the journal and the probes need.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


@dataclass(frozen=True, slots=True)
class Bounds:
    """What clients of one socket may take; times in seconds."""

    connections: int
    patience: float = 5.0
    """From a connection's begin, or its last answer, to the next whole request head."""
    unread: float | None = 30.0
    """That an answer may lie unread; None for readers who may pause (the console's)."""


class BoundedConnection(H11Protocol):
    """Closes itself when its client takes too long.

    One connection too many ends the one that has waited longest for a request; where all are being
    answered, the new one is refused.
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
        """Is it the client's turn to ask?"""
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
        # At once, and not when the loop tells the loss: others are counted before that.
        self.connections.discard(self)
        self.transport.abort()


def bounded(bounds: Bounds) -> Callable[..., asyncio.Protocol]:
    """What uvicorn takes as ``http``."""
    return partial(BoundedConnection, bounds=bounds)
