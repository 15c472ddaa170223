"""Run work once at a time for each key: a call for work that is already under way joins it.

Ten guests of one image ask for it at once; it is fetched and uploaded once.
"""

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future

from controller.errors import GuestkeeperError, TransientError


class SingleFlight:
    """Work by key. Safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: dict[Hashable, Future[None]] = {}

    def run(self, key: Hashable, work: Callable[[], None]) -> None:
        """Do ``work``, or wait for the same key's work under way and share its outcome.

        Waits as long as the work takes, because every wait inside it has a deadline of its own.
        """
        with self._lock:
            flight = self._under_way.get(key)
            mine = flight is None
            if flight is None:
                flight = self._under_way[key] = Future()
        if not mine:
            flight.result()
            return
        failure: GuestkeeperError | None = TransientError(
            "the work that was joined was interrupted", reason="Interrupted"
        )
        try:
            work()
            failure = None
        except GuestkeeperError as error:
            failure = error
            raise
        finally:
            with self._lock:
                del self._under_way[key]
            if failure is None:
                flight.set_result(None)
            else:
                flight.set_exception(failure)
