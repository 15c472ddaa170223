"""What ``planner.plan`` gives: the steps, and everything there is to say about the guest."""

from dataclasses import dataclass

from controller.observed.health import ProbeTarget
from controller.planning.compare.changes import FieldChange
from controller.planning.conditions import (
    Condition,
    ConditionType,
    Health,
    Printable,
    Status,
    Sync,
)
from controller.planning.steps import LookInside, PrepareImage, Step, UpdateRecord


@dataclass(frozen=True, slots=True)
class Policy:
    """The daemon's own part of a decision. ``seed`` tells controllers apart (``identity``)."""

    seed: str
    daemon_started: float = 0.0
    """Epoch seconds; stands in for the start of domains that ran before the daemon did."""
    controller: str = ""
    """This daemon, as the domains it looks after name it (``Memory.controller``)."""
    prune_grace: float = 600.0
    """Seconds from a document's disappearance until its ``deletionPolicy`` applies."""


@dataclass(frozen=True, slots=True)
class Plan:
    """``recheck_at`` is the epoch second at which time alone may change the plan."""

    guest: str
    sentence: str
    steps: tuple[Step, ...] = ()
    changes: tuple[FieldChange, ...] = ()
    conditions: tuple[Condition, ...] = ()
    sync: Sync = Sync.UNKNOWN
    health: Health = Health.UNKNOWN
    printable: Printable = Printable.UNKNOWN
    probes: tuple[ProbeTarget, ...] = ()
    services_ready: tuple[tuple[str, bool | None], ...] = ()
    serves: bool = False
    """It would be Ready but for what happened to the storage or the networks under it."""
    replace_to: str = ""
    """The base that it would be replaced to, where that waits for ``guestkeeper approve``."""
    recheck_at: float | None = None

    def condition(self, type: ConditionType) -> Condition | None:
        return next((found for found in self.conditions if found.type is type), None)

    @property
    def differs(self) -> bool:
        """Is there anything to do, or something not as wanted that cannot be done?"""
        beside = PrepareImage if self.sync is Sync.SYNCED else LookInside
        acts = any(not isinstance(step, LookInside | UpdateRecord | beside) for step in self.steps)
        return (
            acts
            or bool(self.changes)
            or self.sync is Sync.OUT_OF_SYNC
            or self.printable is Printable.CRASH_LOOP
        )

    @property
    def settled(self) -> bool:
        """As wanted, and doing its work or meant to be off."""
        good = self.is_true(ConditionType.READY) or self.printable is Printable.STOPPED
        return good and not self.differs

    def is_true(self, type: ConditionType) -> bool:
        found = self.condition(type)
        return found is not None and found.status is Status.TRUE


def earliest(*times: float | None) -> float | None:
    """Of times to look again."""
    return min((time for time in times if time is not None), default=None)
