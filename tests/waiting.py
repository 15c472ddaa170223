"""Waiting for the world: tests poll a condition with a deadline instead of sleeping and hoping."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
INTERVAL = 0.05


class WaitedInVainError(AssertionError):
    """The condition did not come true in time; says what was waited for and what was seen last."""


def wait_until(
    predicate: Callable[[], T],
    timeout: float,
    what: str,
    *,
    interval: float = INTERVAL,
    ignoring: tuple[type[Exception], ...] = (),
) -> T:
    """Calls ``predicate`` every ``interval`` seconds until it gives something true; returns that.

    Exceptions named in ``ignoring`` count as "not yet". After ``timeout`` seconds it fails with
    ``what``, and with the last value or exception.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            value = predicate()
            seen = f"last seen: {value!r}"
        except ignoring as error:
            seen = f"last error: {type(error).__name__}: {error}"
        else:
            if value:
                return value
        if time.monotonic() >= deadline:
            raise WaitedInVainError(f"not within {timeout:g} s: {what} ({seen})")
        time.sleep(interval)
