"""Converts the hosts of the settings to the hypervisor package's ``HostConfig``."""

from collections.abc import Sequence

from controller.hypervisor.connection.config import HostConfig
from controller.settings import Settings


def host_configs(settings: Settings, *, read_only: bool) -> Sequence[HostConfig]:
    """One ``HostConfig`` for each host; with ``read_only`` every change of a host is refused."""
    return [
        HostConfig(
            name=name,
            uri=host.uri,
            default_pool=host.pool,
            pools={pool: str(path) for pool, path in host.pools.items()},
            read_only=read_only,
        )
        for name, host in settings.hosts.items()
    ]
