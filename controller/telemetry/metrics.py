"""The daemon's Prometheus metrics: counted as things happen, or read from a snapshot at a scrape.

Each ``Metrics`` has a registry of its own, so that tests and a reload never share counters. Other
packages get its methods as callbacks; names and labels stay in ``catalog.py``.
"""

import threading
from collections.abc import Callable, Iterator

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from controller.telemetry import catalog
from controller.telemetry.catalog import Definition
from controller.telemetry.samples import Snapshot


class Metrics:
    """All metrics. Thread-safe; durations are in seconds."""

    def __init__(self, version: str, snapshot: Snapshot | None = None) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # extra series, unused
        self.registry = CollectorRegistry(auto_describe=False)
        self.snapshot = snapshot or Snapshot()
        """Where scrapes read from; may be set later, once the parts that it reads are built."""
        self._guests: dict[str, set[tuple[Counter, tuple[str, ...]]]] = {}
        self._lock = threading.Lock()

        self._gauge(catalog.BUILD_INFO).labels(version).set(1)
        self._calls = self._counter(catalog.HOST_CALLS)
        self._call_duration = self._histogram(catalog.HOST_CALL_DURATION)
        self._reconciles = self._counter(catalog.RECONCILE)
        for result in ("success", "error", "requeue", "requeue_after"):
            self._reconciles.labels(result)
        self._reconcile_duration = self._histogram(catalog.RECONCILE_DURATION)
        self._panics = self._counter(catalog.RECONCILE_PANICS)
        self._queue_adds = self._counter(catalog.QUEUE_ADDS)
        self._queue_retries = self._counter(catalog.QUEUE_RETRIES)
        self._queue_wait = self._histogram(catalog.QUEUE_WAIT)
        self._queue_work = self._histogram(catalog.QUEUE_WORK)
        self._phases = self._histogram(catalog.PHASE_TRANSITION)
        self._restarts = self._counter(catalog.RESTARTS)
        self._replacements = self._counter(catalog.REPLACEMENTS)
        self._start_failures = self._counter(catalog.START_FAILURES)
        self._drift = self._counter(catalog.DRIFT)
        self._applies = self._counter(catalog.SERVICE_APPLIES)
        self._builds = self._histogram(catalog.IMAGE_BUILD_SECONDS)
        self._build_failures = self._counter(catalog.IMAGE_BUILD_FAILURES)
        self.registry.register(_SnapshotCollector(lambda: self.snapshot))
        ProcessCollector(registry=self.registry)

    # --- Counted as it happens --------------------------------------------------------------------

    def host_call(self, host: str, operation: str, code: str, seconds: float) -> None:
        """A call to libvirt ended; ``code`` is ``ok`` or libvirt's error in words."""
        self._calls.labels(host, operation, code).inc()
        self._call_duration.labels(host, operation).observe(seconds)

    def reconciled(self, result: str, seconds: float) -> None:
        """A reconcile ended: ``success``, ``error``, ``requeue`` or ``requeue_after``."""
        self._reconciles.labels(result).inc()
        self._reconcile_duration.observe(seconds)

    def reconcile_panicked(self) -> None:
        """A reconcile or a long action ended in an unexpected error (a bug)."""
        self._panics.inc()

    def queue_added(self, name: str) -> None:
        """An item was added to the work queue ``name``."""
        self._queue_adds.labels(name).inc()

    def queue_retried(self, name: str) -> None:
        """An item was added again, rate-limited, because it failed."""
        self._queue_retries.labels(name).inc()

    def queue_waited(self, name: str, seconds: float) -> None:
        """An item was taken from the queue after it waited ``seconds``."""
        self._queue_wait.labels(name).observe(seconds)

    def queue_worked(self, name: str, seconds: float) -> None:
        """Work on an item ended after ``seconds``."""
        self._queue_work.labels(name).observe(seconds)

    def phase_reached(self, phase: str, seconds: float) -> None:
        """A guest reached ``phase`` after ``seconds``; the metric's help says since when."""
        self._phases.labels(phase).observe(seconds)

    def guest_restarted(self, guest: str, reason: str) -> None:
        """The daemon started ``guest`` again; ``reason`` is why the guest had stopped."""
        self._count(self._restarts, guest, reason)

    def guest_replaced(self, guest: str, result: str) -> None:
        """A replacement of the system disk of ``guest`` ended with ``result``."""
        self._count(self._replacements, guest, result)

    def guest_start_failed(self, guest: str) -> None:
        """A start of ``guest`` failed."""
        self._count(self._start_failures, guest)

    def drift_found(self, guest: str, field: str) -> None:
        """``field`` of ``guest`` differed, and no change of a document explains it."""
        self._count(self._drift, guest, field)

    def service_applied(self, guest: str, service: str, *, ok: bool) -> None:
        """A service's configuration was applied (``ok``), or applying it failed."""
        self._count(self._applies, guest, service, "success" if ok else "error")

    def image_built(self, image: str, host: str, seconds: float) -> None:
        """An unattended install produced a base, ``seconds`` after its attempt was started."""
        self._builds.labels(image, host).observe(seconds)

    def image_build_failed(self, image: str, host: str, reason: str) -> None:
        """An attempt to install ``image`` failed."""
        self._build_failures.labels(image, host, reason).inc()

    def forget_guest(self, guest: str) -> None:
        """Remove the counters of a guest that is gone, so that its series end."""
        with self._lock:
            for metric, labels in self._guests.pop(guest, set()):
                metric.remove(*labels)

    def _count(self, metric: Counter, guest: str, *labels: str) -> None:
        with self._lock:
            self._guests.setdefault(guest, set()).add((metric, (guest, *labels)))
            metric.labels(guest, *labels).inc()

    # --- Scraping ---------------------------------------------------------------------------------

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """A scrape's body and content type for the request's ``Accept`` header."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    # --- Creating metrics -------------------------------------------------------------------------

    def _counter(self, definition: Definition) -> Counter:
        return Counter(*_arguments(definition), registry=self.registry)

    def _gauge(self, definition: Definition) -> Gauge:
        return Gauge(*_arguments(definition), registry=self.registry)

    def _histogram(self, definition: Definition) -> Histogram:
        return Histogram(
            *_arguments(definition), registry=self.registry, buckets=definition.buckets
        )


def _arguments(definition: Definition) -> tuple[str, str, tuple[str, ...]]:
    return definition.name, definition.help, definition.labels


class _Family:
    """A gauge that is built anew for each scrape."""

    def __init__(self, definition: Definition) -> None:
        self.metric = GaugeMetricFamily(definition.name, definition.help, labels=definition.labels)

    def add(self, labels: tuple[str, ...], value: float) -> None:
        self.metric.add_metric(labels, value)


class _SnapshotCollector(Collector):
    """Reads the snapshot at each scrape, so the series of a guest or image end with it."""

    def __init__(self, source: Callable[[], Snapshot]) -> None:
        self._source = source

    def collect(self) -> Iterator[Metric]:
        snapshot = self._source()
        yield from _hosts(snapshot)
        yield from _queues(snapshot)
        yield from _guests(snapshot)
        yield from _images(snapshot)
        yield from _desired(snapshot)
        for definition, read in (
            (catalog.EVENTS_DROPPED, snapshot.events_dropped),
            (catalog.PROBES_SHED, snapshot.probes_shed),
        ):
            counter = CounterMetricFamily(definition.name, definition.help)
            counter.add_metric((), read())
            yield counter


def _hosts(snapshot: Snapshot) -> Iterator[Metric]:
    up = _Family(catalog.HOST_UP)
    for host, answers in snapshot.hosts().items():
        up.add((host,), answers)
    yield up.metric


def _queues(snapshot: Snapshot) -> Iterator[Metric]:
    depth, unfinished, longest = (
        _Family(definition)
        for definition in (
            catalog.QUEUE_DEPTH,
            catalog.QUEUE_UNFINISHED,
            catalog.QUEUE_LONGEST,
        )
    )
    for name, queue in snapshot.queues().items():
        depth.add((name,), queue.depth)
        unfinished.add((name,), queue.unfinished_seconds)
        longest.add((name,), queue.longest_seconds)
    yield from (depth.metric, unfinished.metric, longest.metric)


def _guests(snapshot: Snapshot) -> Iterator[Metric]:
    info, conditions, ready, success, duration = (
        _Family(definition)
        for definition in (
            catalog.GUEST_INFO,
            catalog.GUEST_CONDITION,
            catalog.SERVICE_READY,
            catalog.PROBE_SUCCESS,
            catalog.PROBE_DURATION,
        )
    )
    for guest in snapshot.guests():
        name = guest.guest
        info.add((name, guest.host, guest.image, guest.sync, guest.health), 1)
        for kind, status in guest.conditions:
            conditions.add((name, kind, status), 1)
        for service, is_ready in guest.services:
            if is_ready is not None:
                ready.add((name, service), is_ready)
        for probe in guest.probes:
            labels = (name, probe.service, probe.probe)
            if probe.ok is not None:
                success.add(labels, probe.ok)
            if probe.seconds is not None:
                duration.add(labels, probe.seconds)
    yield from (family.metric for family in (info, conditions, ready, success, duration))


def _images(snapshot: Snapshot) -> Iterator[Metric]:
    info, done, size, phase = (
        _Family(definition)
        for definition in (
            catalog.IMAGE_INFO,
            catalog.IMAGE_DONE,
            catalog.IMAGE_SIZE,
            catalog.IMAGE_PHASE,
        )
    )
    for image in snapshot.images():
        place = (image.image, image.host, image.pool)
        info.add((*place, image.state), 1)
        if image.done_bytes is not None:
            done.add(place, image.done_bytes)
        if image.total_bytes is not None:
            size.add(place, image.total_bytes)
        if image.phase is not None:
            phase.add((*place, image.phase), 1)
    yield from (info.metric, done.metric, size.metric, phase.metric)


def _desired(snapshot: Snapshot) -> Iterator[Metric]:
    blocked, documents, invalid, scanned, revision = (
        _Family(definition)
        for definition in (
            catalog.DELETIONS_BLOCKED,
            catalog.DOCUMENTS,
            catalog.INVALID_DOCUMENTS,
            catalog.LAST_SCAN,
            catalog.REVISION_INFO,
        )
    )
    blocked.add((), snapshot.deletions_blocked())
    desired = snapshot.desired()
    if desired is not None:
        for kind, number in desired.documents.items():
            documents.add((kind,), number)
        invalid.add((), desired.invalid)
        scanned.add((), desired.scanned_at)
        if desired.revision is not None:
            revision.add((desired.revision,), 1)
    yield from (blocked.metric, documents.metric, invalid.metric, scanned.metric, revision.metric)
