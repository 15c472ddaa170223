"""The result of ``planner.plan``: the steps, and everything to report about the guest."""

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
    """The daemon's own inputs for the planner. ``seed`` distinguishes controllers that share a
    network (``planning.wanted.names``).
    """

    seed: str
    daemon_started: float = 0.0
    """Epoch seconds; used as the start time of domains that ran before the daemon did."""
    controller: str = ""
    """This daemon's name in the records of the domains it manages (``GuestRecord.controller``)."""
    prune_grace: float = 600.0
    """Seconds from a document's disappearance until its ``deletionPolicy`` applies."""


@dataclass(frozen=True, slots=True)
class Plan:
    """``sentence`` sums the plan up for people. ``recheck_at`` (epoch seconds) is when time alone
    may change the plan; None for never.
    """

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
    """True if the guest is Ready, apart from problems with its storage or networks."""
    replace_to: str = ""
    """The base of the next system disk, if that waits for ``guestkeeper approve``."""
    recheck_at: float | None = None

    def condition(self, type: ConditionType) -> Condition | None:
        return next((found for found in self.conditions if found.type is type), None)

    @property
    def differs(self) -> bool:
        """True if there is something to do, or a difference that cannot be carried out."""
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
        """True if the guest is as wanted, and is ready or meant to be off."""
        good = self.is_true(ConditionType.READY) or self.printable is Printable.STOPPED
        return good and not self.differs

    def is_true(self, type: ConditionType) -> bool:
        found = self.condition(type)
        return found is not None and found.status is Status.TRUE


def earliest(*times: float | None) -> float | None:
    """The earliest of several times to plan again; None if all are None."""
    return min((time for time in times if time is not None), default=None)
