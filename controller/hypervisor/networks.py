"""Virtual networks of a host: which ones exist, and which are active."""

import threading
from collections.abc import Callable, Mapping

import libvirt
import structlog

from controller.errors import GuestkeeperError, HostUnreachableError, TransientError
from controller.hypervisor.connection.config import Role
from controller.hypervisor.connection.link import HostLink

log = structlog.get_logger(__name__)
_TIMEOUT = 15.0
_INTERVAL = 30.0
_LAST_PAUSE = 300.0


class Networks:
    """The networks of one host. Thread-safe. ``monotonic`` in seconds."""

    def __init__(self, link: HostLink, monotonic: Callable[[], float]) -> None:
        self._link = link
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._views: Mapping[str, bool] | None = None
        self._read = False
        self._reading = False
        self._ask_at, self._pause = -1e9, _INTERVAL

    def connected(self) -> None:
        """Resets the back-off: the host was connected anew and may answer again."""
        with self._lock:
            self._ask_at, self._pause = -1e9, _INTERVAL

    def views(self) -> Mapping[str, bool] | None:
        """Whether each network is active, by name; None if the host does not tell.

        At most half a minute old; older while this call fails. Raises ``HostUnreachableError``.
        """
        with self._lock:
            if self._monotonic() < self._ask_at or (self._read and self._reading):
                return self._views  # one caller asks for all, to spare a slow host
            self._reading = True
        pause, known = 0.0, True
        views: Mapping[str, bool] | None = None
        try:
            views = self._link.call(Role.LOOK, "read networks", _read, _TIMEOUT)
        except TransientError as error:  # this call failed; others may be answered
            if error.reason == HostUnreachableError.reason:
                raise
            log.warning("networks not read", host=self._link.config.name, why=str(error))
            pause, known = self._pause, False
        except GuestkeeperError as error:  # the host has no network driver: nothing is known
            log.debug("networks not read", host=self._link.config.name, why=str(error))
        finally:
            with self._lock:
                self._reading = False
        with self._lock:
            self._read = True
            self._ask_at = self._monotonic() + (pause or _INTERVAL)
            self._pause = min(2 * pause, _LAST_PAUSE) if pause else _INTERVAL
            if known:
                self._views = views
            return self._views

    def known(self) -> Mapping[str, bool] | None:
        """The last known state of the networks; makes no call."""
        with self._lock:
            return self._views


def _read(connection: libvirt.virConnect) -> Mapping[str, bool]:
    """``virConnectListAllNetworks``, twice."""
    active = {one.name() for one in connection.listAllNetworks(_ACTIVE)}
    return dict.fromkeys(active, True) | {
        one.name(): one.name() in active for one in connection.listAllNetworks(0)
    }


_ACTIVE = libvirt.VIR_CONNECT_LIST_NETWORKS_ACTIVE
