"""Reads the daemon's present state for a scrape of its metrics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from controller.images.progress import Phase
from controller.loop.status import GuestStatus
from controller.telemetry.samples import (
    DesiredSample,
    GuestSample,
    ImageSample,
    ProbeSample,
    QueueSample,
    Snapshot,
)

if TYPE_CHECKING:
    from controller.daemon.house import House

QUEUE = "guests"


def metrics_snapshot(house: House) -> Snapshot:
    """The callables that a scrape reads the house's parts with; nothing is read before that."""
    return Snapshot(
        guests=lambda: (_guest(house, status) for status in house.status.all()),
        images=lambda: _images(house),
        hosts=lambda: {name: house.hypervisor.reachable(name) for name in house.hypervisor.hosts()},
        desired=lambda: _desired(house),
        deletions_blocked=lambda: len(house.fleets.deletions_blocked()),
        queues=lambda: _queues(house),
        events_dropped=lambda: house.journal.dropped,
        probes_shed=lambda: house.prober.shed,
    )


def _guest(house: House, status: GuestStatus) -> GuestSample:
    guest, plan = status.guest, status.plan
    checks = house.prober.last_checks(status.name)
    return GuestSample(
        guest=status.name,
        host=status.observed.host.name,
        image=guest.image.name if guest is not None else "",
        sync=plan.sync.value,
        health=plan.health.value,
        conditions=tuple((found.type.value, found.status.value) for found in plan.conditions),
        services=plan.services_ready,
        probes=tuple(
            ProbeSample(service, probe, check.ok, check.seconds)
            for (service, probe), check in checks.items()
        ),
    )


def _images(house: House) -> Iterator[ImageSample]:
    ongoing = {(now.image, now.host, now.pool): now for now in house.images.progress()}
    for view in house.image_requests.views():
        now = ongoing.get((view.name, view.host, view.pool))
        yield ImageSample(
            view.name,
            view.host,
            view.pool,
            view.state.value,
            now.done if now is not None and now.phase is not Phase.INSTALLING else None,
            now.total if now is not None else None,
            now.phase.value if now is not None else None,
        )


def _desired(house: House) -> DesiredSample | None:
    seen = house.catalog.snapshot
    if not seen.scanned_at:
        return None
    return DesiredSample(seen.documents, seen.invalid, seen.scanned_at, seen.revision)


def _queues(house: House) -> dict[str, QueueSample]:
    stats = house.queue.stats()
    sample = QueueSample(stats.depth, stats.unfinished_seconds, stats.longest_running_seconds)
    return {QUEUE: sample}
