"""Everything seen of one guest at one moment: the planner's right-hand side. No I/O."""

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
    """A long action that runs for this guest beside the loop. ``since`` is epoch seconds."""

    name: str
    since: float


@dataclass(frozen=True, slots=True)
class Failure:
    """How the last try of a step ended badly. Times are epoch seconds.

    ``digest`` is the effective digest it failed with: what failed for one spec may do for another.
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
    """What was done several times in a row. ``content`` tells it from anything else; ``retry_at``
    (epoch seconds) is when it may be done again.
    """

    content: int
    times: int
    retry_at: float


@dataclass(frozen=True, slots=True)
class Fleet:
    """What a decision about one guest has to know of all of them."""

    suspended: bool = False
    """An operator wants every guest left alone."""
    uncertain: str = ""
    """Why a missing document may not be believed to be gone; '' where it may."""
    empty: bool = False
    """The directory has no documents at all: emptied, or not mounted."""
    deletions: int = 0
    """Guests to be stopped or deleted, now or after their grace."""
    max_deletions: int = 1
    """How many of those it may without being told."""
    unheard: str = ""
    """A host that was not heard since the daemon started: it may have more of those."""
    absent: float = math.inf
    """Seconds for which this daemon itself has known that its document is gone, by a clock that
    nobody sets; infinite where that does not matter."""
    last_policy: str = ""
    """``deletionPolicy`` as its document was last read; '' where this daemon never read it."""
    hold: str = ""
    """Why the roll-out of its image waits before this guest; '' where it is its turn."""


@dataclass(frozen=True, slots=True)
class Observed:
    host: HostView
    domain: DomainView | None = None
    image: ImageView | None = None
    """On the pool of its system disk, as far as it is known."""
    volumes: Mapping[tuple[str, str], VolumeView] = field(default_factory=dict)
    """By pool and name: its disks' volumes as last looked at (their size counts), and those that a
    plan may have to make; only those that are there."""
    missing: frozenset[tuple[str, str]] = frozenset()
    """Of the volumes that its domain has or stands on, those that are certainly not there."""
    held: bool = False
    """There is no domain, and an operator had it suspended when it was last seen."""
    base_writers: tuple[str, ...] = ()
    """Domains whose running disk is the very base that the guest's system disk stands on."""
    address_uses: tuple[AddressUse, ...] = ()
    """Addresses the guest wants that other domains of its host have; mostly none."""
    elsewhere: str | None = None
    """Another host that has the guest's domain, where its own has none."""
    unseen_host: str | None = None
    """A host that never answered since the daemon started: it may have the guest's domain."""
    inside: InsideView | None = None
    probes: Mapping[tuple[str, str], ProbeView] = field(default_factory=dict)
    fleet: Fleet = field(default_factory=Fleet)
    watched_since: float = 0.0
    """Epoch seconds since which it has been looked at again and again; told while it matters."""
    operation: Operation | None = None
    failure: Failure | None = None
    repeats: tuple[Repeat, ...] = ()
    """What waits before it is done once more."""
    clock_ahead: float = 0.0
    """Seconds by which the host's clock is ahead of the one that all times are by: it was set since
    the daemon started. Maintenance windows are by the host's."""
