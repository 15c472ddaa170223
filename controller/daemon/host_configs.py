"""What the settings say about hosts, as the hypervisor room takes it."""

from collections.abc import Sequence

from controller.hypervisor.connection.config import HostConfig
from controller.settings import Settings


def host_configs(settings: Settings, *, read_only: bool) -> Sequence[HostConfig]:
    """``read_only``: nothing on them is changed, whatever is asked."""
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
