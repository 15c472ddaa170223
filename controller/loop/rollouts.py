"""Whose turn is it, where an image's new content rolls through its guests by itself?

``planning.rollout`` decides; here the facts about all guests of the image are gathered. They are
kept for a moment: a fact that is a second old only makes a guest wait a second longer.
"""

import time
from collections.abc import Callable, Mapping

from controller.desired.effective import EffectiveGuest
from controller.errors import GuestkeeperError
from controller.execution.ports import Hypervisor
from controller.observed.image import ImageView
from controller.planning.rollout import Peer, hold

_FRESH = 1.0


class Rollouts:
    """``guests`` are the desired ones by name. Thread-safe."""

    def __init__(
        self,
        hypervisor: Hypervisor,
        guests: Callable[[], Mapping[str, EffectiveGuest]],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hypervisor = hypervisor
        self._guests = guests
        self._monotonic = monotonic
        self._known: tuple[float, str, tuple[Peer, ...]] = (-_FRESH, "", ())

    def hold(self, guest: EffectiveGuest, image: ImageView) -> str:
        """Why the replacement of ``guest`` by a disk of ``image`` has to wait; '' where not."""
        parallel = guest.image.spec.rollout.max_parallel
        return hold(guest.name, self._peers(image), parallel)

    def _peers(self, image: ImageView) -> tuple[Peer, ...]:
        base = image.base or ""
        at, known, peers = self._known
        now = self._monotonic()
        if known == base and now - at < _FRESH:
            return peers
        found = []
        for guest in self._guests().values():
            if guest.spec.image != image.name:
                continue
            try:
                domain = self._hypervisor.domain(guest.spec.host, guest.name)
            except GuestkeeperError:
                continue  # a host that is lost holds up nobody on the others
            if domain is None or not domain.ours or domain.ownership is None:
                continue
            automatic = guest.spec.update_policy.replace == "Automatic"
            found.append(Peer(guest.name, domain.ownership, base, automatic))
        peers = tuple(found)
        self._known = (now, base, peers)
        return peers
