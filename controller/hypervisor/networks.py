"""Which virtual networks a host has, and which of them are up."""

import threading
from collections.abc import Callable, Mapping

import libvirt
import structlog

from controller.errors import GuestkeeperError, HostUnreachableError
from controller.hypervisor.connection import HostLink
from controller.hypervisor.host_config import Role

log = structlog.get_logger(__name__)
_TIMEOUT = 15.0
_INTERVAL = 30.0


class Networks:
    """Thread-safe. ``monotonic`` in seconds."""

    def __init__(self, link: HostLink, monotonic: Callable[[], float]) -> None:
        self._link = link
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._views: Mapping[str, bool] | None = None
        self._read_at = -1e9

    def views(self) -> Mapping[str, bool] | None:
        """By name: is it active? At most half a minute old; None where the host does not tell.

        Raises ``HostUnreachableError``.
        """
        with self._lock:
            if self._monotonic() - self._read_at < _INTERVAL:
                return self._views
        try:
            views: Mapping[str, bool] | None = self._link.call(
                Role.LOOK, "read networks", _read, _TIMEOUT
            )
        except HostUnreachableError:
            raise
        except GuestkeeperError as error:  # no driver for networks: nothing is known of them
            log.debug("networks not read", host=self._link.config.name, why=str(error))
            views = None
        with self._lock:
            self._views, self._read_at = views, self._monotonic()
        return views

    def known(self) -> Mapping[str, bool] | None:
        """What was last known of them."""
        with self._lock:
            return self._views


def _read(connection: libvirt.virConnect) -> Mapping[str, bool]:
    """``virConnectListAllNetworks``, twice."""
    active = {one.name() for one in connection.listAllNetworks(_ACTIVE)}
    return dict.fromkeys(active, True) | {
        one.name(): one.name() in active for one in connection.listAllNetworks(0)
    }


_ACTIVE = libvirt.VIR_CONNECT_LIST_NETWORKS_ACTIVE
