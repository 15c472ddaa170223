"""The values that a metrics scrape reads of guests, images, hosts and queues, taken at scrape time.

A gauge that the loop sets outlives its guest and costs time in every reconcile; a snapshot that is
taken at a scrape does neither. So everything that can be read from the present state comes from
these values, and only what is counted as it happens is a counter in ``metrics.py``.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProbeSample:
    """A probe's latest check, which took ``seconds``. ``ok`` None: it had no result."""

    service: str
    probe: str
    ok: bool | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class GuestSample:
    """A guest now; ``sync``, ``health`` and statuses as in ``planning.conditions``."""

    guest: str
    host: str
    image: str
    sync: str
    health: str
    conditions: tuple[tuple[str, str], ...] = ()
    """(type, status)."""
    services: tuple[tuple[str, bool | None], ...] = ()
    """(service, ready); None: unknown."""
    probes: tuple[ProbeSample, ...] = ()


@dataclass(frozen=True, slots=True)
class ImageSample:
    """An image in a pool; bytes and phase are of its preparation, None if none is under way."""

    image: str
    host: str
    pool: str
    state: str
    done_bytes: int | None = None
    total_bytes: int | None = None
    phase: str | None = None


@dataclass(frozen=True, slots=True)
class DesiredSample:
    """The latest scan of the desired-state directory."""

    documents: Mapping[str, int]
    """Kind -> number of valid documents."""
    invalid: int
    scanned_at: float
    """Epoch seconds."""
    revision: str | None
    """The directory's git revision, where it has one."""


@dataclass(frozen=True, slots=True)
class QueueSample:
    """The load of a work queue now; times in seconds."""

    depth: int
    unfinished_seconds: float
    """The time that all items being worked on have taken so far, summed."""
    longest_seconds: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Where a scrape reads from; each callable is called once per scrape, in the web's threads."""

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
