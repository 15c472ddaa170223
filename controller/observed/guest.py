"""Everything seen of one guest at one moment: the planner's right-hand side. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field

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
class Observed:
    host: HostView
    domain: DomainView | None = None
    image: ImageView | None = None
    """Looked at while a disk must be made from it; an installed one at any time."""
    volumes: Mapping[str, VolumeView] = field(default_factory=dict)
    """Of the volumes that a plan may have to make, those that are there."""
    elsewhere: str | None = None
    """Another host that has the guest's domain, where its own has none."""
    unseen_host: str | None = None
    """A host that never answered since the daemon started: it may have the guest's domain."""
    inside: InsideView | None = None
    probes: Mapping[tuple[str, str], ProbeView] = field(default_factory=dict)
    operation: Operation | None = None
    failure: Failure | None = None
