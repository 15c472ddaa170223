"""When a guest's page was answered with 200, asked all the time from the host.

One question every 50 ms, each on a connection of its own and none waiting for another: the
forwarded port of a guest that boots takes connections and then says nothing.
"""

import asyncio
import threading
import time

PERIOD = 0.05
PATIENCE = 1.0
"""Seconds that a question waits; the later ones do not wait for it."""


class Served:
    """Asks from ``start`` to ``stop``; times are ``perf_counter`` of the whole answer."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._answers: list[tuple[float, bytes]] = []
        self._changed = threading.Condition()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="served", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join(2 * PATIENCE)

    def last(self, content: bytes | None, before: float) -> float:
        """The last 200 (with that content) before then; ``LookupError`` if there was none."""
        with self._changed:
            found = [at for at in self._times(content) if at <= before]
        if not found:
            raise LookupError(f"port {self._port} had not served yet")
        return max(found)

    def first(self, content: bytes | None, after: float, timeout: float) -> float:
        """The first 200 (with that content) after then; ``TimeoutError`` if none comes."""
        found: list[float] = []

        def there() -> bool:
            found[:] = [at for at in self._times(content) if at >= after]
            return bool(found)

        with self._changed:
            if not self._changed.wait_for(there, timeout):
                raise TimeoutError(f"port {self._port} did not serve within {timeout:g} s")
        return min(found)

    def _times(self, content: bytes | None) -> list[float]:
        return [at for at, body in self._answers if content is None or content == body]

    def _run(self) -> None:
        asyncio.run(self._ask_on())

    async def _ask_on(self) -> None:
        async with asyncio.TaskGroup() as questions:
            while not self._ended.is_set():
                questions.create_task(self._ask())
                await asyncio.sleep(PERIOD)

    async def _ask(self) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                answer = await self._answer()
        except (OSError, TimeoutError):
            return
        head, _, body = answer.partition(b"\r\n\r\n")
        if b" 200 " not in head.partition(b"\r\n")[0]:
            return
        with self._changed:
            self._answers.append((time.perf_counter(), body))
            self._changed.notify_all()

    async def _answer(self) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(b"GET / HTTP/1.0\r\nHost: guest\r\n\r\n")
            await writer.drain()
            return await reader.read()
        finally:
            writer.close()
