"""Callbacks that may fail without taking anybody along.

Who is called back from libvirt's event thread or a host's own thread is a guest there: its bug may
cost its own news, which the resync makes up for, never the thread that all news come through.
"""

from collections.abc import Callable
from typing import ParamSpec

import structlog

P = ParamSpec("P")
log = structlog.get_logger(__name__)


def never_raises(callback: Callable[P, None]) -> Callable[P, None]:
    """``callback``, whose exceptions are logged with their traceback and go no further."""

    def called(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            callback(*args, **kwargs)
        except Exception:  # whatever it is: see above
            log.exception(
                "callback panicked", callback=getattr(callback, "__qualname__", repr(callback))
            )

    return called
