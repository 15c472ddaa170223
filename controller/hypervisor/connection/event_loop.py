"""libvirt's event loop: one per process, in a thread of its own that never ends.

Events, keepalive and streams work only while it runs, and it must be registered before the first
connection is opened, so code that opens one calls ``ensure_running`` first.
"""

import threading
import time

import libvirt
import structlog

log = structlog.get_logger(__name__)

_TURN_MILLISECONDS = 1000
"""The loop runs at least this often; a lost wake-up costs no more than that."""

_PAUSE = 0.2  # seconds after a failure, so that a loop that always fails does not use a whole CPU

_lock = threading.Lock()
_thread: threading.Thread | None = None


def ensure_running() -> None:
    """Registers libvirt's default event loop and starts its thread, once per process.

    ``virEventRegisterDefaultImpl``; the loop wakes itself through a pipe of its own when handles
    are added from other threads. Also stops libvirt from printing every error to stderr.
    """
    global _thread
    with _lock:
        if _thread is not None:
            return
        libvirt.registerErrorHandler(_silent, None)
        libvirt.virEventRegisterDefaultImpl()
        libvirt.virEventAddTimeout(_TURN_MILLISECONDS, _turn, None)
        _thread = threading.Thread(target=_run, name="libvirt-events", daemon=True)
        _thread.start()


def _silent(_context: object, _error: object) -> None:
    """Error handler that prints nothing: errors are raised as exceptions."""


def _turn(_timer: int, _opaque: object) -> None:
    """Timer callback that does nothing: the timer only makes ``poll`` return."""


def _run() -> None:
    while True:
        try:
            libvirt.virEventRunDefaultImpl()
        except libvirt.libvirtError as error:
            log.warning("event loop failed to turn", error=str(error))
            time.sleep(_PAUSE)
        except Exception:  # without this thread there would be no events and no keepalive
            log.exception("event loop panicked")
            time.sleep(_PAUSE)
