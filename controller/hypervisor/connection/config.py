"""What the daemon's settings say about a host, as this room takes it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class HostConfig:
    """One libvirt host.

    ``pools`` maps a pool's name to the directory it is made in where the host lacks it; '' means
    that the host must have it.
    """

    name: str
    uri: str
    default_pool: str = "default"
    pools: Mapping[str, str] = field(default_factory=dict)
    read_only: bool = False
    """Only look: no pool is made or started, and every act (``Role.ACT``) is refused."""

    @property
    def in_process(self) -> bool:
        """Is it libvirt's test driver inside of this process? It has no daemon to lose."""
        return self.uri.startswith("test:")


class Role(StrEnum):
    """The separate connections: a stuck call of one kind never holds up the others."""

    EVENTS = "events"
    LOOK = "look"
    STORAGE = "storage"
    """Looks at pools and volumes: a file system that hangs keeps no domain from being seen."""
    ACT = "act"
    AGENT = "agent"
    SILENT = "silent"
    """For agents that did not answer of late: libvirtd works on five calls of a connection only."""


OnEvent = Callable[[str, str, str], None]
"""(host, domain, kind): something may have changed there. Only enqueue; called from any thread."""
OnHost = Callable[[str, bool, str], None]
"""(host, reachable, why): the host came or went; after it came, everything was listed anew."""
OnCall = Callable[[str, str, str, float], None]
"""(host, operation, code, seconds): one call to libvirt ended. ``code`` is 'ok' or the error's
reason."""
