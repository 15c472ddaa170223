"""A host as Guestkeeper sees it: reachability, capabilities, pools and volumes."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from controller.errors import TransientError


@dataclass(frozen=True, slots=True)
class PoolView:
    """A storage pool. Sizes in bytes; ``path`` is the directory or device on that host."""

    name: str
    path: str
    active: bool
    capacity: int
    available: int
    why: str = ""
    """Why it could not be read or started, in libvirt's words."""
    wanted_path: str = ""
    """The path that the settings have for a pool of that name, if this pool has another."""

    @property
    def usable(self) -> bool:
        """Whether the pool runs and has the path in the settings."""
        return self.active and not self.wanted_path


@dataclass(frozen=True, slots=True)
class VolumeView:
    """A volume. Sizes in bytes; ``backing`` is the path of its backing file."""

    pool: str
    name: str
    path: str
    format: str
    capacity: int
    allocation: int
    backing: str | None
    modified: float = 0.0
    """When its content was last written, epoch seconds; 0 if the pool does not tell."""

    def written_after(self, marker: "VolumeView") -> bool:
        """Whether it was written to over 1 s after ``marker`` (clocks and file systems differ)."""
        return 0 < marker.modified + 1 < self.modified


@dataclass(frozen=True, slots=True)
class HostView:
    """The connection to a host. ``why`` says what is wrong while it is not reachable."""

    name: str
    uri: str
    reachable: bool
    why: str = ""
    connecting: bool = False
    """The first connection attempt has not ended, so it is not known whether it is reachable."""
    kvm: bool = False
    """KVM really usable: offered by the host and, on x86, its CPU shows vmx or svm."""
    default_pool: str = "default"
    hotplug: bool = True
    """Devices can be changed while a domain runs; libvirt's test driver cannot."""
    pools: Mapping[str, PoolView] = field(default_factory=dict)
    networks: Mapping[str, bool] | None = None
    """libvirt's networks by name, and whether each is active; None if not known."""
    libvirt_version: str = ""
    hypervisor_version: str = ""

    def all_pools(self) -> tuple[PoolView, ...]:
        """All pools that exist now, for callers that search them before deleting something.

        Raises ``TransientError(reason="PoolBusy")`` while only the pools from before are known:
        what is in a pool that was made since would be missed.
        """
        old = next((pool.why for pool in self.pools.values() if pool.active and pool.why), "")
        if old or not self.reachable:
            raise TransientError(
                f"which pools host {self.name} has is not known just now: {old or self.why}",
                reason="PoolBusy",
            )
        return tuple(self.pools.values())

    def has_running(self, pool: str) -> bool:
        """Whether the host has a pool of that name that is ``usable``."""
        return pool in self.pools and self.pools[pool].usable
