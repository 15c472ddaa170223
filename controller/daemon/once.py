"""One pass without a daemon: ``plan`` looks and tells, ``apply`` goes on until all is as wanted."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from controller.daemon.house import House
from controller.daemon.lock import locked
from controller.desired.effective import EffectiveGuest
from controller.desired.problems import Problem
from controller.errors import GuestkeeperError, PermanentError
from controller.loop.status import GuestStatus
from controller.planning.conditions import Health, Sync
from controller.planning.steps import LookInside
from controller.settings import Settings


@dataclass(frozen=True, slots=True)
class Report:
    """What one pass without a daemon found. ``unreachable`` names hosts that gave no answer."""

    statuses: tuple[GuestStatus, ...]
    problems: tuple[Problem, ...]
    unreachable: tuple[str, ...]


def plan_once(settings: Settings, names: Sequence[str] = ()) -> Report:
    """Looks at documents, hosts and the inside of guests, plans, and changes nothing.

    Raises ``PermanentError`` for a name that no document has.
    """
    with _opened(settings, read_only=True) as house:
        guests = _chosen(house, names)
        with ThreadPoolExecutor(settings.workers) as pool:
            statuses = tuple(pool.map(lambda guest: _preview(house, guest), guests))
        return _report(house, statuses)


def apply_once(
    settings: Settings,
    names: Sequence[str],
    timeout: float,
    progress: Callable[[GuestStatus], None],
) -> Report:
    """Works until every guest is as wanted, cannot be, or ``timeout`` seconds are over.

    ``progress`` hears each new word on a guest. Raises as ``plan_once`` does.
    """
    with locked(settings.state_dir), _opened(settings, read_only=False) as house:
        guests = _chosen(house, names)
        deadline = time.monotonic() + timeout
        house.start_loop()
        for guest in guests:
            house.queue.add(guest.name)
        told: dict[str, str] = {}
        version = -1
        while time.monotonic() < deadline:
            seen = [house.status.get(guest.name) for guest in guests]
            for status in seen:
                if status is not None and told.get(status.name) != status.plan.sentence:
                    told[status.name] = status.plan.sentence
                    progress(status)
            if all(status is not None and _ended(house, status) for status in seen):
                break
            version = house.status.wait(version, min(0.5, max(0.0, deadline - time.monotonic())))
        final = tuple(house.status.get(guest.name) for guest in guests)
        return _report(house, tuple(status for status in final if status is not None))


@contextmanager
def _opened(settings: Settings, *, read_only: bool) -> Iterator[House]:
    house = House(settings, journal=":memory:", read_only=read_only)
    try:
        house.catalog.scan()
        house.open()
        yield house
    finally:
        house.close()


def _chosen(house: House, names: Sequence[str]) -> list[EffectiveGuest]:
    guests = house.catalog.snapshot.guests
    unknown = [name for name in names if name not in guests]
    if unknown:
        known = ", ".join(sorted(guests)[:10]) or "none"
        raise PermanentError(
            f"no usable Guest document is named {unknown[0]}; there are: {known}",
            reason="UnknownGuest",
        )
    return [guests[name] for name in names or sorted(guests)]


def _preview(house: House, guest: EffectiveGuest) -> GuestStatus:
    """Looks inside where the plan begins with a look, for the plan behind it is what counts."""
    observed, plan = house.reconciler.preview(guest)
    if plan.steps and isinstance(plan.steps[-1], LookInside) and observed.domain is not None:
        try:
            house.knowledge.learnt(guest.name, house.ports.inside.look(guest, observed.domain))
        except GuestkeeperError as error:
            house.knowledge.failed(guest.name, "LookInside", error, guest.digest, time.time())
        observed, plan = house.reconciler.preview(guest)
    return house.status.put(guest, observed, plan, time.time())


def _ended(house: House, status: GuestStatus) -> bool:
    """Nothing more comes of waiting: it is as wanted, or told why it cannot be."""
    plan = status.plan
    if house.operations.current(status.name) is not None or plan.steps:
        return False
    stuck = plan.health in (Health.DEGRADED, Health.UNKNOWN)
    # What is out of sync, healthy and without a step waits for somebody: a cold boot, an old value.
    held = plan.sync is Sync.OUT_OF_SYNC and plan.health is Health.HEALTHY
    return plan.settled or stuck or held


def _report(house: House, statuses: tuple[GuestStatus, ...]) -> Report:
    unreachable = tuple(host.name for host in house.host_views() if not host.reachable)
    return Report(statuses, house.catalog.snapshot.problems, unreachable)
