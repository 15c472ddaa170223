"""An image's new content rolls through its guests one after the other, and stops where one fails.

The order is that of their names, and every guest is planned from the same facts about all of them.
One that cannot be replaced now is not waited for: others would never get their turn.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from controller.observed.domain import DomainState, DomainView, Ownership

_TAKES_A_DISK = (
    DomainState.RUNNING, DomainState.BLOCKED, DomainState.SHUTOFF, DomainState.CRASHED,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Peer:
    """A guest of the image: what its domain says of itself, and the base that it shall have.

    ``able``: nothing that is known of it stands in the way of its replacement now.
    """

    name: str
    owner: Ownership
    base: str
    automatic: bool
    able: bool = False

    @property
    def replacing(self) -> bool:
        return self.owner.record.replacement is not None

    @property
    def failed(self) -> bool:
        return self.base != "" and self.owner.record.refused == self.base

    @property
    def waiting(self) -> bool:
        outdated = self.owner.base not in ("", self.base)
        return self.automatic and self.able and outdated and not self.replacing and not self.failed


@dataclass(frozen=True, slots=True)
class Queue:
    """All peers of one roll-out, summed up; names in their order.

    ``failed`` is why each that failed did.
    """

    failed: Mapping[str, str]
    replacing: tuple[str, ...]
    waiting: tuple[str, ...]


def is_able(domain: DomainView) -> bool:
    """Can the domain's system disk be replaced, as far as the domain itself says?"""
    record = domain.ownership.record if domain.ownership is not None else None
    return (
        record is not None
        and domain.state in _TAKES_A_DISK
        and not domain.running_job
        and not (record.suspended or record.deleting or record.rollback)
    )


def queue_of(peers: Iterable[Peer]) -> Queue:
    """Where the roll-out stands."""
    ordered = sorted(peers, key=lambda peer: peer.name)
    return Queue(
        {peer.name: peer.owner.record.refused_why for peer in ordered if peer.failed},
        tuple(peer.name for peer in ordered if peer.replacing),
        tuple(peer.name for peer in ordered if peer.waiting),
    )


def hold_in(
    name: str,
    queue: Queue,
    max_parallel: int,
    *,
    busy: Collection[str] = (),
    passed: Collection[str] = (),
) -> tuple[str, tuple[str, ...]]:
    """Why ``name`` may not go now, '' where it may; and those who may, but did not begin yet.

    ``busy`` are about to be replaced, though nothing says so yet; ``passed`` are not waited for.
    """
    for failed, why in queue.failed.items():
        if failed != name:
            because = f" ({why})" if why else ""
            return (
                f"the roll-out stopped: {failed} did not keep its new disk{because}; mend the"
                f" image, or go on with guestkeeper approve {name}"
            ), ()
    ongoing = [other for other in dict.fromkeys((*queue.replacing, *busy)) if other != name]
    limit = f"(rollout.maxParallel {max_parallel})"
    if len(ongoing) >= max_parallel:
        return f"{ongoing[0]} comes first {limit}", ()
    turns: list[str] = []
    for other in queue.waiting if name not in busy else ():  # it was told to go
        if other >= name or len(ongoing) + len(turns) >= max_parallel:
            break
        if other not in ongoing and other not in passed:
            turns.append(other)
    if len(ongoing) + len(turns) >= max_parallel:
        return f"{(ongoing or turns)[0]} comes first {limit}", tuple(turns)
    return "", tuple(turns)
