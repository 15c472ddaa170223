"""A host as Guestkeeper sees it: reachable or not, what it can do, its pools and volumes."""

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
    """What kept it from being read or started, in libvirt's words."""
    wanted_path: str = ""
    """The path that the settings have for a pool of that name, where this one is at another."""

    @property
    def usable(self) -> bool:
        """Does it run, and is it the one that the settings mean?"""
        return self.active and not self.wanted_path


@dataclass(frozen=True, slots=True)
class VolumeView:
    """A volume. Sizes in bytes; ``backing`` is the path of what it overlays."""

    pool: str
    name: str
    path: str
    format: str
    capacity: int
    allocation: int
    backing: str | None
    modified: float = 0.0
    """When its content was last written, epoch seconds; 0 where the pool does not tell."""

    def written_after(self, marker: "VolumeView") -> bool:
        """Was it written to since that was made? A second is the clocks' and file systems'."""
        return 0 < marker.modified + 1 < self.modified


@dataclass(frozen=True, slots=True)
class HostView:
    """A libvirt connection. ``why`` says what is wrong while it is not reachable."""

    name: str
    uri: str
    reachable: bool
    why: str = ""
    connecting: bool = False
    """The first attempt to reach it has not ended: whether it is reachable is not known."""
    kvm: bool = False
    """KVM really usable: offered by the host and, on x86, its CPU shows vmx or svm."""
    default_pool: str = "default"
    hotplug: bool = True
    """Devices can be changed while a domain runs; libvirt's test driver cannot."""
    pools: Mapping[str, PoolView] = field(default_factory=dict)
    networks: Mapping[str, bool] | None = None
    """libvirt's networks by name, and whether each is active; None: not known."""
    libvirt_version: str = ""
    hypervisor_version: str = ""

    def all_pools(self) -> tuple[PoolView, ...]:
        """All pools there are by now, for who looks through them before something is deleted.

        Raises ``TransientError(reason="PoolBusy")`` while only those are known that it had: what
        is in one that was made since, nobody would see.
        """
        old = next((pool.why for pool in self.pools.values() if pool.active and pool.why), "")
        if old or not self.reachable:
            raise TransientError(
                f"which pools host {self.name} has is not known just now: {old or self.why}",
                reason="PoolBusy",
            )
        return tuple(self.pools.values())

    def has_running(self, pool: str) -> bool:
        """Does it have a pool of that name, which runs and is the one that the settings mean?"""
        return pool in self.pools and self.pools[pool].usable
