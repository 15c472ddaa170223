"""libvirt's event loop: one per process, in a thread of its own that ends with the process.

Events, keepalive and streams work only while it runs, and it must be registered before the first
connection is opened, so code that opens one calls ``ensure_running`` first.
"""

import atexit
import threading
import time

import libvirt
import structlog

log = structlog.get_logger(__name__)

_TURN_MILLISECONDS = 1000
"""The loop runs at least this often; a lost wake-up costs no more than that."""

_PAUSE = 0.2  # seconds after a failure, so that a loop that always fails does not use a whole CPU

_END_SECONDS = 2.0  # given to the thread at the end of the process

_lock = threading.Lock()
_ending = threading.Event()
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
        timer = libvirt.virEventAddTimeout(_TURN_MILLISECONDS, _turn, None)
        _thread = threading.Thread(target=_run, name="libvirt-events", daemon=True)
        _thread.start()
        atexit.register(_end, timer, _thread)


def _end(timer: int, thread: threading.Thread) -> None:
    """Ends the thread before Python ends: no callback may come while that is taken down."""
    _ending.set()
    libvirt.virEventUpdateTimeout(timer, 0)
    thread.join(_END_SECONDS)


def _silent(_context: object, _error: object) -> None:
    """Error handler that prints nothing: errors are raised as exceptions."""


def _turn(_timer: int, _opaque: object) -> None:
    """Timer callback that does nothing: the timer only makes ``poll`` return."""


def _run() -> None:
    while not _ending.is_set():
        try:
            libvirt.virEventRunDefaultImpl()
        except libvirt.libvirtError as error:
            log.warning("event loop failed to turn", error=str(error))
            time.sleep(_PAUSE)
        except Exception:  # without this thread there would be no events and no keepalive
            log.exception("event loop panicked")
            time.sleep(_PAUSE)
