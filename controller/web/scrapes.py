"""Serves ``/metrics``, one scrape at a time.

A scrape asks every host for its pools, so a host that hangs makes scrapes slow. However many
clients scrape then, they must occupy one thread only and not delay health checks.
"""

import asyncio
from collections.abc import Callable

import anyio
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

PATIENCE = 5.0
"""Seconds that a scrape waits for its turn."""
MAX_WAITING = 8


class Scrapes:
    """``read`` returns the exposition and its content type; it may block. For one event loop."""

    def __init__(
        self, read: Callable[[], tuple[bytes, str]], *, patience: float | None = None
    ) -> None:
        self._read = read
        self._patience = PATIENCE if patience is None else patience
        self._lock = asyncio.Lock()
        self._limiter: anyio.CapacityLimiter | None = None
        self._waiting = 0

    async def answer(self, _: Request) -> Response:
        """The metrics; 503 if earlier scrapes last too long, or ``MAX_WAITING`` are waiting."""
        if not await self._turn():
            return PlainTextResponse(
                "an earlier scrape of the metrics has not ended: a host answers slowly, or too many"
                " scrape; see guestkeeper get hosts\n",
                status_code=503,
                headers={"connection": "close", "retry-after": "15"},
            )
        try:
            if self._limiter is None:  # made here because it belongs to the event loop
                self._limiter = anyio.CapacityLimiter(1)
            body, content_type = await anyio.to_thread.run_sync(self._read, limiter=self._limiter)
        finally:
            self._lock.release()
        return Response(body, headers={"content-type": content_type})

    async def _turn(self) -> bool:
        if self._waiting >= MAX_WAITING:
            return False
        self._waiting += 1
        try:
            async with asyncio.timeout(self._patience):
                return await self._lock.acquire()
        except TimeoutError:
            return False
        finally:
            self._waiting -= 1
