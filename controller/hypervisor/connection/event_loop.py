"""libvirt's event loop: one for the process, in a thread of its own, for ever.

Events, keepalive and streams only work while it turns, and it must be registered before the first
connection is opened, so whoever opens one calls ``ensure_running`` first.
"""

import threading
import time

import libvirt
import structlog

log = structlog.get_logger(__name__)

_TURN_MILLISECONDS = 1000
"""The loop turns at least this often; a wake-up that got lost costs no more than that."""

_PAUSE = 0.2  # seconds after a turn that failed: a loop that only fails must not eat a CPU

_lock = threading.Lock()
_thread: threading.Thread | None = None


def ensure_running() -> None:
    """Registers the default implementation and starts its thread, once per process.

    ``virEventRegisterDefaultImpl``; the loop wakes itself through a pipe of its own when handles
    are added from other threads. libvirt's habit of printing every error to stderr ends here.
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
    """Errors are raised as exceptions; nothing is to be printed."""


def _turn(_timer: int, _opaque: object) -> None:
    """Only lets ``poll`` return."""


def _run() -> None:
    while True:
        try:
            libvirt.virEventRunDefaultImpl()
        except libvirt.libvirtError as error:
            log.warning("event loop failed to turn", error=str(error))
            time.sleep(_PAUSE)
        except Exception:  # without this thread no event and no keepalive would ever come again
            log.exception("event loop panicked")
            time.sleep(_PAUSE)
