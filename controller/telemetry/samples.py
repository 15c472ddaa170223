"""What a scrape reads of guests and images: small frozen values, taken at scrape time.

A gauge that is set by the loop outlives its guest and costs every reconcile; a snapshot that is
asked for when somebody scrapes costs neither. So everything that can be read off the present state
is exported from these, and only what is counted as it happens is a counter in ``metrics.py``.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProbeSample:
    """A probe's latest check; ``seconds`` is what it took. ``ok`` None = nothing was learnt."""

    service: str
    probe: str
    ok: bool | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class GuestSample:
    """A guest now. ``sync``, ``health`` and the statuses are the words of the conventions."""

    guest: str
    host: str
    image: str
    sync: str
    health: str
    conditions: tuple[tuple[str, str], ...] = ()
    """(type, status)."""
    services: tuple[tuple[str, bool | None], ...] = ()
    """(service, ready); None = unknown."""
    probes: tuple[ProbeSample, ...] = ()


@dataclass(frozen=True, slots=True)
class ImageSample:
    """An image on a host. Bytes are of a preparation under way, None if there is none."""

    image: str
    host: str
    state: str
    done_bytes: int | None = None
    total_bytes: int | None = None
    phase: str | None = None


@dataclass(frozen=True, slots=True)
class DesiredSample:
    """The latest pass over the desired-state directory."""

    documents: Mapping[str, int]
    """Kind -> how many."""
    invalid: int
    scanned_at: float
    """Epoch seconds."""
    revision: str | None
    """The directory's git revision, where it has one."""


@dataclass(frozen=True, slots=True)
class QueueSample:
    """What a work queue has under way, now; seconds."""

    depth: int
    unfinished_seconds: float
    """The sum over all items being worked on of how long they have been."""
    longest_seconds: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Where a scrape reads from. Each callable is called once a scrape, from the web's threads."""

    guests: Callable[[], Iterable[GuestSample]] = tuple
    images: Callable[[], Iterable[ImageSample]] = tuple
    hosts: Callable[[], Mapping[str, bool]] = dict
    """Host -> whether libvirt answers."""
    desired: Callable[[], DesiredSample | None] = lambda: None
    deletions_blocked: Callable[[], int] = lambda: 0
    """Guests whose deletion waits for an operator."""
    queues: Callable[[], Mapping[str, QueueSample]] = dict
    events_dropped: Callable[[], int] = lambda: 0
    probes_shed: Callable[[], int] = lambda: 0
