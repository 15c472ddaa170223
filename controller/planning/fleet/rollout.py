"""Decides which guests may be replaced next when an image's new content is rolled out.

Guests go one after the other (``rollout.maxParallel``), in the order of their names, and the
roll-out stops if one fails. Every guest is planned from the same facts about all of them. A guest
that cannot be replaced now is not waited for: others would never get their turn.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from controller.observed.domain import DomainState, DomainView, Ownership

_TAKES_A_DISK = (
    DomainState.RUNNING, DomainState.BLOCKED, DomainState.SHUTOFF, DomainState.CRASHED,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Peer:
    """A guest of the image. ``owner`` is its domain's metadata, ``base`` the base it should have.

    ``able``: nothing known prevents its replacement now.
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
    """All peers of one roll-out, in order of their names.

    ``failed``: guest -> why its replacement failed.
    """

    failed: Mapping[str, str]
    replacing: tuple[str, ...]
    waiting: tuple[str, ...]


def is_able(domain: DomainView) -> bool:
    """True if nothing in the domain's state or record prevents a new system disk."""
    record = domain.ownership.record if domain.ownership is not None else None
    return (
        record is not None
        and domain.state in _TAKES_A_DISK
        and not domain.running_job
        and not (record.suspended or record.deleting or record.rollback)
    )


def queue_of(peers: Iterable[Peer]) -> Queue:
    """The state of the roll-out."""
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
    """Why ``name`` has to wait, '' if it may begin; and those that may, but did not begin yet.

    ``busy`` are about to be replaced, but their records do not say so yet; ``passed`` are not
    waited for.
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
    for other in queue.waiting if name not in busy else ():  # it was already allowed to begin
        if other >= name or len(ongoing) + len(turns) >= max_parallel:
            break
        if other not in ongoing and other not in passed:
            turns.append(other)
    if len(ongoing) + len(turns) >= max_parallel:
        return f"{(ongoing or turns)[0]} comes first {limit}", tuple(turns)
    return "", tuple(turns)
