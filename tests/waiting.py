"""Waiting for the world: tests poll a condition with a deadline instead of sleeping and hoping."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
INTERVAL = 0.05
PATIENCE = 60.0
"""Seconds that anything may take. It ends a test in which something will never be; no test is about
how fast this machine is, for tomorrow it may be busy. What is fast is shown by ``make bench``.
"""


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

    Exceptions named in ``ignoring`` count as "not yet". After ``timeout`` seconds, or ``PATIENCE``
    if that is more, it fails with ``what``, and with the last value or exception.
    """
    timeout = max(timeout, PATIENCE)
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
