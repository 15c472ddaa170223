"""Everything observed of one guest at one moment: an input of the planner. No I/O."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from controller.observed.addresses import AddressUse
from controller.observed.domain import DomainView
from controller.observed.health import ProbeView
from controller.observed.host import HostView, VolumeView
from controller.observed.image import ImageView
from controller.observed.inside import InsideView


@dataclass(frozen=True, slots=True)
class Operation:
    """A long action that runs for this guest outside of the loop. ``since`` is epoch seconds."""

    name: str
    since: float


@dataclass(frozen=True, slots=True)
class Failure:
    """How the last attempt of a step failed. Times are epoch seconds.

    ``digest`` is the effective digest that it failed with: another spec may work.
    """

    step: str
    reason: str
    message: str
    at: float
    attempts: int
    retry_at: float
    digest: str


@dataclass(frozen=True, slots=True)
class Repeat:
    """A step that was done several times in a row and backs off. ``content`` identifies it;
    ``retry_at`` (epoch seconds) is when it may be done again.
    """

    content: int
    times: int
    retry_at: float


@dataclass(frozen=True, slots=True)
class Fleet:
    """What a decision about one guest must know about all guests."""

    suspended: bool = False
    """An operator suspended every guest."""
    uncertain: str = ""
    """Why a missing document may not be believed to be gone; '' if it may."""
    empty: bool = False
    """The directory has no documents at all: emptied, or not mounted."""
    deletions: int = 0
    """The number of guests to be stopped or deleted, now or after their grace period."""
    max_deletions: int = 1
    """How many of those are allowed without approval."""
    unheard: str = ""
    """A host that did not answer since the daemon started: it may have more of those guests."""
    absent: float = math.inf
    """Seconds for which this daemon itself has known that the guest's document is gone, by the
    monotonic clock; infinite if that does not matter."""
    last_policy: str = ""
    """``deletionPolicy`` as last read in the document; '' if this daemon never read it."""
    hold: str = ""
    """Why the roll-out of its image waits before this guest; '' if it does not wait."""


@dataclass(frozen=True, slots=True)
class Observed:
    host: HostView
    domain: DomainView | None = None
    image: ImageView | None = None
    """The image on the pool of the guest's system disk, as far as it is known."""
    volumes: Mapping[tuple[str, str], VolumeView] = field(default_factory=dict)
    """By pool and name: the volumes of its disks as last observed (their size counts), and those
    that a plan may have to make; only volumes that exist."""
    missing: frozenset[tuple[str, str]] = frozenset()
    """Volumes that its domain has, or has in a backing chain, and that certainly do not exist."""
    held: bool = False
    """There is no domain, and the guest was suspended when its domain was last seen."""
    base_writers: tuple[str, ...] = ()
    """Domains that run on the very base that the guest's system disk is an overlay of."""
    address_uses: tuple[AddressUse, ...] = ()
    """Addresses that the guest wants and other domains of its host have; mostly none."""
    elsewhere: str | None = None
    """Another host that has the guest's domain, if its own host has none."""
    unseen_host: str | None = None
    """A host that never answered since the daemon started: it may have the guest's domain."""
    inside: InsideView | None = None
    probes: Mapping[tuple[str, str], ProbeView] = field(default_factory=dict)
    fleet: Fleet = field(default_factory=Fleet)
    watched_since: float = 0.0
    """Epoch seconds since which the guest has been observed regularly; set while it matters."""
    operation: Operation | None = None
    failure: Failure | None = None
    repeats: tuple[Repeat, ...] = ()
    """Steps that back off before they are repeated once more."""
    clock_ahead: float = 0.0
    """Seconds by which the host's clock is ahead of the clock of all times here: it was set since
    the daemon started. Maintenance windows follow the host's clock."""
