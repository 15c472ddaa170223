"""The current status of every guest, as the CLI, the API and the metrics show it.

In memory only; a restarted daemon has it again after one observation. It adds what a pure plan
cannot know: since when each condition has its status.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from controller.desired.effective import EffectiveGuest
from controller.observed.guest import Observed
from controller.planning.conditions import Condition, ConditionType, Status
from controller.planning.plan import Plan


@dataclass(frozen=True, slots=True)
class GuestStatus:
    """A guest's status. ``since`` has one time for each of ``plan.conditions``, in their order.
    Times are epoch seconds.
    """

    name: str
    guest: EffectiveGuest | None  # None: an orphan whose document this daemon never saw
    observed: Observed
    plan: Plan
    since: tuple[float, ...]
    updated_at: float

    @property
    def created_at(self) -> float | None:
        """When the guest was created; None if it does not exist or the time is not recorded."""
        domain = self.observed.domain
        owner = domain.ownership if domain is not None else None
        return owner.created or None if owner is not None else None

    def condition(self, type: ConditionType | str) -> tuple[Condition, float] | None:
        """The condition of this type and since when it holds; None if the plan has none."""
        for found, since in zip(self.plan.conditions, self.since, strict=True):
            if found.type == type:
                return found, since
        return None


class StatusStore:
    """Thread-safe. ``on_change(old, new)`` is called when the conditions, an axis, the printable
    word or the sentence changed, ``on_drop(name)`` when a guest's status is removed; both outside
    the lock.
    """

    def __init__(
        self,
        on_change: Callable[[GuestStatus | None, GuestStatus], None] = lambda *_: None,
        on_drop: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._on_change = on_change
        self._on_drop = on_drop
        self._changed = threading.Condition()
        self._statuses: dict[str, GuestStatus] = {}
        self._version = 0

    def put(
        self, guest: EffectiveGuest | None, observed: Observed, plan: Plan, now: float
    ) -> GuestStatus:
        """Stores the new status; ``since`` is kept where a condition's status is unchanged."""
        with self._changed:
            old = self._statuses.get(plan.guest)
            new = GuestStatus(
                name=plan.guest,
                guest=guest,
                observed=observed,
                plan=plan,
                since=_since(old, plan, now),
                updated_at=now,
            )
            self._statuses[plan.guest] = new
            moved = old is None or _told(old) != _told(new)
            if moved:
                self._version += 1
                self._changed.notify_all()
        if moved:
            self._on_change(old, new)
        return new

    def drop(self, name: str) -> None:
        with self._changed:
            dropped = self._statuses.pop(name, None) is not None
            if dropped:
                self._version += 1
                self._changed.notify_all()
        if dropped:
            self._on_drop(name)

    def get(self, name: str) -> GuestStatus | None:
        return self._statuses.get(name)

    def all(self) -> tuple[GuestStatus, ...]:
        with self._changed:
            return tuple(self._statuses.values())

    @property
    def version(self) -> int:
        """Grows whenever a condition, an axis, the printable word or the sentence of a guest
        changes, or a status is removed.
        """
        return self._version

    def wait(self, version: int, timeout: float) -> int:
        """Blocks until the version is not ``version``, at most ``timeout`` seconds; returns it."""
        with self._changed:
            self._changed.wait_for(lambda: self._version != version, timeout)
            return self._version


def _since(old: GuestStatus | None, plan: Plan, now: float) -> tuple[float, ...]:
    if old is None:
        return (now,) * len(plan.conditions)
    if old.plan.conditions is plan.conditions:
        return old.since
    before: dict[ConditionType, tuple[Status, float]] = {
        found.type: (found.status, since)
        for found, since in zip(old.plan.conditions, old.since, strict=True)
    }
    times = []
    for found in plan.conditions:
        status, since = before.get(found.type, (None, now))
        times.append(since if status is found.status else now)
    return tuple(times)


def _told(status: GuestStatus) -> tuple[object, ...]:
    plan = status.plan
    return (plan.sync, plan.health, plan.printable, plan.sentence, plan.conditions)
