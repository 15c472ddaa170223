"""Long polls without a thread each: any number of clients share one thread that waits.

The status store and the journal wait with a ``threading.Condition``, which blocks a thread. A
``Waiter`` runs one such wait while any client waits, and wakes all clients after it.
"""

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

_SLICE = 0.5
"""Seconds of one blocking wait, and the longest that closing takes."""

_PAUSE = 0.02
"""Seconds between two waits, so that a burst of changes wakes clients once."""


class Waiter:
    """``wait_once(seconds)`` blocks until something may have changed. For one event loop."""

    def __init__(self, wait_once: Callable[[float], object]) -> None:
        self._wait_once = wait_once
        self._waiting: set[asyncio.Future[None]] = set()
        self._pump: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def closed(self) -> bool:
        return self._closed

    async def until(self, changed: Callable[[], bool], timeout: float) -> None:
        """Return when ``changed()`` is true, after ``timeout`` seconds, or when this is closed."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while not changed() and not self._closed:
            left = deadline - loop.time()
            if left <= 0:
                return
            future: asyncio.Future[None] = loop.create_future()
            self._waiting.add(future)
            if self._pump is None or self._pump.done():
                self._pump = loop.create_task(self._run())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(future, left)
            self._waiting.discard(future)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        # A thread of its own, so that slow requests cannot delay waking the clients.
        with ThreadPoolExecutor(1, thread_name_prefix="web-wait") as pool:
            while self._waiting and not self._closed:
                await loop.run_in_executor(pool, self._wait_once, _SLICE)
                for future in self._waiting:
                    if not future.done():
                        future.set_result(None)
                await asyncio.sleep(_PAUSE)

    def close(self) -> None:
        """End every long poll, and later ones at once. Call it in the event loop's thread."""
        self._closed = True
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
