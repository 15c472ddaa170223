"""Long actions, beside the loop: at most one for a key, a bounded number at once.

A look inside, an apply or an image takes seconds to minutes; the loop goes on meanwhile, sees
``Operation`` and waits for it. When one ends, its key is called back, and the loop looks again.
"""

import threading
import time
from collections import deque
from collections.abc import Callable

import structlog

from controller.errors import TransientError
from controller.observed.guest import Operation

log = structlog.get_logger(__name__)


class Operations:
    """Threads are made as needed, up to ``workers``, and are daemons: exit never waits for one."""

    def __init__(
        self,
        workers: int,
        *,
        clock: Callable[[], float] = time.time,
        on_done: Callable[[str], None],
        on_panic: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._workers = workers
        self._clock = clock
        self._on_done = on_done
        self._on_panic = on_panic
        self._changed = threading.Condition()
        self._queue: deque[tuple[str, Callable[[], None]]] = deque()
        self._current: dict[str, Operation] = {}
        self._threads = 0
        self._idle = 0
        self._closed = False

    def start(self, key: str, name: str, action: Callable[[], None]) -> bool:
        """False where an action for ``key`` runs or waits already. ``action`` tells its own end.

        Raises ``TransientError(reason="NoThread")`` where the process can have no further thread.
        """
        with self._changed:
            if self._closed or key in self._current:
                return False
            self._current[key] = Operation(name, self._clock())
            self._queue.append((key, action))
            if self._idle >= len(self._queue) or self._threads >= self._workers:
                self._changed.notify()
            else:
                self._add_thread(key)
            return True

    def _add_thread(self, key: str) -> None:
        """For the action of ``key``, which was put last on the queue. Under the lock."""
        self._threads += 1
        number = self._threads
        try:
            threading.Thread(target=self._work, name=f"operation-{number}", daemon=True).start()
        except RuntimeError as error:
            self._threads -= 1
            self._queue.pop()
            del self._current[key]
            raise TransientError(
                f"no thread could be made for {key} ({error}): look at the daemon's TasksMax and at"
                " its memory",
                reason="NoThread",
                retry_after=5.0,
            ) from error

    def current(self, key: str) -> Operation | None:
        return self._current.get(key)

    def stop(self, timeout: float) -> bool:
        """Takes no more work and drops what waits; True when what runs ended too.

        Waits for that at most ``timeout`` seconds. Whoever can cut a running action short (the
        images, the waits for an agent) has to be told before.
        """
        with self._changed:
            self._closed = True
            for key, _ in self._queue:
                self._current.pop(key, None)
            self._queue.clear()
            self._changed.notify_all()
            return self._changed.wait_for(lambda: not self._current, timeout)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._idle += 1
                self._changed.wait_for(lambda: bool(self._queue) or self._closed)
                self._idle -= 1
                if not self._queue:
                    self._threads -= 1
                    return
                key, action = self._queue.popleft()
            try:
                action()
            except Exception:  # a worker's panic is counted and told, never fatal
                log.exception("operation panicked", key=key)
                self._tell(self._on_panic, key)
            finally:
                with self._changed:
                    self._current.pop(key, None)
                    self._changed.notify_all()
                self._tell(self._on_done, key)

    def _tell(self, callback: Callable[[str], None], key: str) -> None:
        try:
            callback(key)
        except Exception:  # the thread is counted on: it may not end by a callback's fault
            log.exception("callback of operations panicked", key=key)
