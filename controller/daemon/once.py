"""``plan`` and ``apply`` without a daemon: plan once, or reconcile until guests are as wanted."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from controller.daemon.house import House
from controller.daemon.lock import locked
from controller.desired.effective import EffectiveGuest
from controller.desired.text.problems import Problem
from controller.errors import GuestkeeperError, PermanentError
from controller.loop.status import GuestStatus
from controller.observed.image import ImageState
from controller.planning.conditions import ConditionType, Health, Printable, Sync
from controller.planning.steps import LookInside
from controller.settings import Settings

QUIET = 3.0
"""Seconds without change after which ``apply`` stops waiting for guests that are held back in a
roll-out: each decides by itself, in a pass of its own, whether its turn has come."""


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a run without a daemon. ``unreachable``: hosts that gave no answer."""

    statuses: tuple[GuestStatus, ...]
    problems: tuple[Problem, ...]
    unreachable: tuple[str, ...]


def plan_once(settings: Settings, names: Sequence[str] = ()) -> Report:
    """Read documents, hosts and the inside of guests and plan; changes nothing.

    Guests whose document is gone are in the report, too. Raises ``PermanentError`` for a name that
    neither a usable document nor such a guest has.
    """
    with opened(settings, read_only=True) as house:
        orphans = [
            orphan.domain.name
            for orphan in house.fleets.census().orphans
            if not names or orphan.domain.name in names
        ]
        left = [name for name in names if name not in orphans]
        guests = _chosen(house, left) if left or not names else []
        with ThreadPoolExecutor(settings.workers) as pool:
            statuses = list(pool.map(lambda guest: _preview(house, guest), guests))
        for name in orphans:
            house.reconciler.reconcile(name, act=False)
            status = house.status.get(name)
            statuses += [status] if status is not None else []
        return _report(house, tuple(statuses))


def apply_once(
    settings: Settings,
    names: Sequence[str],
    timeout: float,
    progress: Callable[[GuestStatus], None],
) -> Report:
    """Reconcile until every guest is as wanted or cannot be, at most ``timeout`` seconds.

    ``progress`` is called when a guest's sentence changes. Raises ``PermanentError`` for a name
    that no usable document has, and where another process holds ``state_dir``.
    """
    with locked(settings.state_dir), opened(settings, read_only=False) as house:
        guests = _chosen(house, names)
        deadline = time.monotonic() + timeout
        house.start_loop()
        for guest in guests:
            house.queue.add(guest.name)
        told: dict[str, str] = {}
        version, quiet_since = -1, float("inf")
        while time.monotonic() < deadline:
            seen = [house.status.get(guest.name) for guest in guests]
            for status in seen:
                if status is not None and told.get(status.name) != status.plan.sentence:
                    told[status.name] = status.plan.sentence
                    progress(status)
            if all(status is not None and _ended(house, status) for status in seen):
                queued = [one.name for one in seen if one is not None and _queued(one)]
                quiet_since = min(quiet_since, time.monotonic())
                if not queued or time.monotonic() - quiet_since >= QUIET:
                    break
                for name in queued:
                    house.queue.add(name)
            else:
                quiet_since = float("inf")
            version = house.status.wait(version, min(0.5, max(0.0, deadline - time.monotonic())))
        final = tuple(house.status.get(guest.name) for guest in guests)
        return _report(house, tuple(status for status in final if status is not None))


@contextmanager
def opened(settings: Settings, *, read_only: bool) -> Iterator[House]:
    """A house with its documents read and its hosts connected, as far as they answer."""
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
    """Plan a guest; if the plan ends with ``LookInside``, do that look and plan again."""
    observed, plan = house.reconciler.preview(guest)
    if plan.steps and isinstance(plan.steps[-1], LookInside) and observed.domain is not None:
        try:
            house.knowledge.learnt(guest.name, house.ports.inside.look(guest, observed.domain))
        except GuestkeeperError as error:
            house.knowledge.failed(guest.name, "LookInside", error, guest.digest, house.clock.now())
        observed, plan = house.reconciler.preview(guest)
    return house.status.put(guest, observed, plan, time.time())


def _ended(house: House, status: GuestStatus) -> bool:
    """Is there nothing to wait for: is the guest as wanted, or known why it cannot be?"""
    plan = status.plan
    if house.operations.current(status.name) is not None or plan.steps:
        return False
    stuck = plan.health in (Health.DEGRADED, Health.UNKNOWN)
    stuck = stuck or plan.printable is Printable.PAUSED or plan.is_true(ConditionType.SUSPENDED)
    # A guest that is out of sync and has no step waits for an operator (an approval, a cold boot,
    # an old value) or for a window, unless something of its own is still going on.
    quiet = plan.health is Health.HEALTHY or plan.printable is Printable.STOPPED
    held = plan.sync is Sync.OUT_OF_SYNC and quiet and not _goes_on(status)
    return plan.settled or stuck or held


def _goes_on(status: GuestStatus) -> bool:
    """Will the daemon change the guest by itself, though it has no step at this moment?"""
    synced = status.plan.condition(ConditionType.SYNCED)
    if synced is None or status.guest is None:
        return False
    if synced.reason in ("Restarting", "Replacing"):
        return True
    image, by_itself = status.observed.image, status.guest.spec.update_policy.replace == "Automatic"
    preparing = image is not None and image.state is ImageState.PREPARING
    return synced.reason == "ImageOutdated" and preparing and by_itself


def _queued(status: GuestStatus) -> bool:
    """Does the guest wait for its turn in the roll-out of its image?"""
    synced = status.plan.condition(ConditionType.SYNCED)
    return synced is not None and synced.reason == "ReplaceHeld"


def _report(house: House, statuses: tuple[GuestStatus, ...]) -> Report:
    unreachable = tuple(host.name for host in house.host_views() if not host.reachable)
    return Report(statuses, house.catalog.snapshot.problems, unreachable)
