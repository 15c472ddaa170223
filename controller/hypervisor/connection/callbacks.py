"""Callbacks whose exceptions must not end the thread that calls them.

Callbacks run in libvirt's event thread or in a host's own thread. A bug in one may lose its own
event, which the resync makes up for, but must never end the thread that delivers all events.
"""

from collections.abc import Callable
from typing import ParamSpec

import structlog

P = ParamSpec("P")
log = structlog.get_logger(__name__)


def never_raises(callback: Callable[P, None]) -> Callable[P, None]:
    """Wraps ``callback``: its exceptions are logged with their traceback, and not raised."""

    def called(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            callback(*args, **kwargs)
        except Exception:  # of any kind: see above
            log.exception(
                "callback panicked", callback=getattr(callback, "__qualname__", repr(callback))
            )

    return called
