"""What requests about guests act on: a fleet that remembers, records that are written."""

from dataclasses import dataclass, field, replace
from typing import Any

from controller.loop.fleet import Orphan
from controller.loop.status import GuestStatus, StatusStore
from controller.observed.domain import DomainView, GuestRecord
from controller.planning.conditions import ConditionType
from controller.planning.deletion.orphan import awaits_approval, plan_orphan
from controller.planning.planner import plan
from tests import factories as make


@dataclass
class FakeFleet:
    """Orphans are those of the statuses whose document is gone."""

    store: StatusStore
    suspended: bool = False
    full: bool = False
    """Nothing can be written down."""

    def suspend_all(self) -> None:
        self._write(suspended=True)

    def resume_all(self) -> None:
        self._write(suspended=False)

    def _write(self, *, suspended: bool) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        self.suspended = suspended

    def to_approve(self) -> list[Orphan]:
        found = []
        for status in self.store.all():
            domain = status.observed.domain
            gone = status.plan.condition(ConditionType.ORPHANED)
            if domain is not None and gone is not None and awaits_approval(domain, make.POLICY):
                found.append(Orphan(status.observed.host.name, domain, True))
        return found


@dataclass
class Metadata:
    """``Executor.record`` over a status store: what is written is planned with at once."""

    store: StatusStore
    now: float
    written: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def __call__(self, host: str, name: str, **changes: Any) -> None:
        status = self.store.get(name)
        assert status is not None
        assert status.observed.host.name == host
        domain = status.observed.domain
        assert domain is not None
        self.written.append((name, changes))
        self.put(status, remembering(domain, **changes))

    def put(self, status: GuestStatus, domain: DomainView) -> None:
        observed = replace(status.observed, domain=domain)
        owner = domain.ownership
        record = owner.record if owner is not None else GuestRecord()
        guest = status.guest
        if guest is None or status.plan.condition(ConditionType.ORPHANED) is not None:
            made = plan_orphan(status.name, domain, observed.fleet, self.now, make.POLICY)
        else:
            made = plan(guest, observed, record, self.now, make.POLICY)
        self.store.put(guest, observed, made, self.now)

    def domain(self, host: str, name: str) -> DomainView | None:
        status = self.store.get(name)
        return status.observed.domain if status is not None else None


def remembering(domain: DomainView, **changes: Any) -> DomainView:
    """``domain`` with these fields of its ``GuestRecord``."""
    owner = domain.ownership
    assert owner is not None
    return replace(domain, ownership=replace(owner, record=replace(owner.record, **changes)))
