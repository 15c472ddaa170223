"""An image's new content rolls through its guests one after the other, and stops where one fails.

Nobody holds a lock: each guest is planned from the same facts about all of them, in the order of
their names, so the same one finds that it is its turn, whoever looks and whenever.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from controller.observed.domain import Ownership


@dataclass(frozen=True, slots=True)
class Peer:
    """A guest of the image: what its domain says of itself, and the base that it shall have."""

    name: str
    owner: Ownership
    base: str
    automatic: bool

    @property
    def replacing(self) -> bool:
        return self.owner.memory.replacement is not None

    @property
    def failed(self) -> bool:
        return self.base != "" and self.owner.memory.refused == self.base

    @property
    def waiting(self) -> bool:
        outdated = self.owner.base != "" and self.owner.base != self.base
        return self.automatic and outdated and not self.replacing and not self.failed


def hold(name: str, peers: Iterable[Peer], max_parallel: int) -> str:
    """Why the guest ``name`` may not be replaced by itself now; '' where it may."""
    others = sorted((peer for peer in peers if peer.name != name), key=lambda peer: peer.name)
    failed = [peer.name for peer in others if peer.failed]
    if failed:
        return (
            f"the roll-out stopped: the replacement of {failed[0]} failed; mend the image, or go on"
            f" with guestkeeper approve {name}"
        )
    busy = [peer.name for peer in others if peer.replacing]
    before = [peer.name for peer in others if peer.waiting and peer.name < name]
    ahead = [*busy, *before]
    if len(ahead) >= max_parallel:
        return f"{ahead[0]} comes first (rollout.maxParallel {max_parallel})"
    return ""
