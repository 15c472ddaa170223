"""The settings of a host as this package takes them, roles of connections, types of callbacks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class HostConfig:
    """One libvirt host.

    ``pools`` maps a pool's name to the directory in which it is created if the host lacks it; ''
    means that the pool must exist on the host.
    """

    name: str
    uri: str
    default_pool: str = "default"
    pools: Mapping[str, str] = field(default_factory=dict)
    read_only: bool = False
    """Only observe: no pool is created or started, and every call of ``Role.ACT`` is refused."""

    @property
    def in_process(self) -> bool:
        """Whether it is libvirt's test driver, in this process: it has no libvirtd to lose."""
        return self.uri.startswith("test:")


class Role(StrEnum):
    """Separate connections to one host: a stuck call of one role never delays the others."""

    EVENTS = "events"
    LOOK = "look"
    STORAGE = "storage"
    """Reads pools and volumes: a file system that hangs does not stop the reading of domains."""
    ACT = "act"
    AGENT = "agent"
    SILENT = "silent"
    """For agents that did not answer lately: libvirtd handles only five calls per connection."""


OnEvent = Callable[[str, str, str], None]
"""(host, domain, kind): the domain may have changed. Only enqueue; called from any thread."""
OnHost = Callable[[str, bool, str], None]
"""(host, reachable, why): the host was connected (and all domains listed anew) or lost."""
OnCall = Callable[[str, str, str, float], None]
"""(host, operation, code, seconds): one call to libvirt ended. ``code`` is 'ok' or the error's
reason."""
