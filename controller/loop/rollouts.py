"""Gathers the facts for automatic roll-outs of an image's new content: which guest may be replaced
next (``planning.fleet.rollout`` decides).

To hold a guest back, facts that are a moment old are good enough. Before a guest may go, they are
gathered anew; from then on it counts as being replaced, although its domain does not say so yet, so
that two guests that ask at the same time do not exceed the limit. A guest that does not use its
turn, for whatever reason, is waited for only ``PATIENCE`` seconds.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from controller.desired.effective import EffectiveGuest
from controller.desired.schema.guest import MaintenanceWindow
from controller.errors import GuestkeeperError
from controller.execution.ports import Hypervisor
from controller.observed.domain import DomainView
from controller.observed.image import ImageView
from controller.planning.fleet.rollout import Peer, Queue, hold_in, is_able, queue_of
from controller.planning.power.maintenance_windows import window_state
from controller.planning.replacement.system_disks import too_small

_FRESH = 1.0
"""Seconds for which the facts are good enough to hold a guest back."""
_TAKING = 10.0
"""Seconds that a guest has to begin after it was allowed to."""
PATIENCE = 120.0
"""Seconds to wait for a guest to use its turn; it is observed several times in them."""
_IDLE = 3600.0
"""Seconds after which a roll-out that nobody asked about is forgotten."""


@dataclass(slots=True)
class _Rollout:
    """The roll-out of one content of one image. Times are monotonic seconds."""

    counted: float
    queue: Queue
    turns: dict[str, float] = field(default_factory=dict)
    """Guest -> since when it has its turn."""
    let_go: dict[str, float] = field(default_factory=dict)
    """Guest -> when it was last allowed to begin."""

    def take(self, queue: Queue, counted: float) -> None:
        """Takes new facts: guests that began, or cannot be replaced any more, lose their turn.

        Facts older than the current ones, which a slow worker gathered, are ignored.
        """
        if counted < self.counted:
            return
        self.queue, self.counted = queue, counted
        waiting = frozenset(queue.waiting)
        self.turns = {name: at for name, at in self.turns.items() if name in waiting}
        self.let_go = {name: at for name, at in self.let_go.items() if name in waiting}

    def passed(self, now: float) -> set[str]:
        return {name for name, at in self.turns.items() if now - at > PATIENCE}

    def busy(self, now: float) -> list[str]:
        passed = self.passed(now)
        return [
            name
            for name, at in self.let_go.items()
            if now - at < (_FRESH if name in passed else _TAKING)
        ]


class Rollouts:
    """All roll-outs. ``guests`` returns the desired guests by name. Thread-safe."""

    def __init__(
        self,
        hypervisor: Hypervisor,
        guests: Callable[[], Mapping[str, EffectiveGuest]],
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hypervisor = hypervisor
        self._guests = guests
        self._clock = clock
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str], _Rollout] = {}

    def hold(self, guest: EffectiveGuest, image: ImageView) -> str:
        """Why ``guest`` has to wait before it gets a disk of ``image``; '' if it may begin."""
        windows = _Windows(self._clock())
        peer = self._peer(guest, image, windows)
        rollout = self._rollout(image, windows)
        with self._lock:
            why = self._hold(rollout, guest)
        if peer is None or not peer.waiting:  # it does not begin now in any case
            return why
        told = peer.owner.record.approved == peer.base  # approved by an operator: does not wait
        if why and not told:
            return why
        began, queue = self._count(image, windows)
        with self._lock:
            rollout.take(queue, began)
            why = self._hold(rollout, guest)
            if told or not why:
                now = self._monotonic()
                rollout.turns.setdefault(guest.name, now)
                rollout.let_go[guest.name] = now
        return why

    def _hold(self, rollout: _Rollout, guest: EffectiveGuest) -> str:
        now = self._monotonic()
        why, turns = hold_in(
            guest.name,
            rollout.queue,
            guest.image.spec.rollout.max_parallel,
            busy=rollout.busy(now),
            passed=rollout.passed(now),
        )
        for name in turns:
            rollout.turns.setdefault(name, now)
        return why

    def _rollout(self, image: ImageView, windows: "_Windows") -> _Rollout:
        """The roll-out, with facts at most ``_FRESH`` seconds old. Hosts are asked outside the
        lock.
        """
        key, now = (image.name, image.base or ""), self._monotonic()
        known = self._known.get(key)
        if known is not None and 0 <= now - known.counted < _FRESH:
            return known
        began, queue = self._count(image, windows)
        with self._lock:
            for one in [one for one, old in self._known.items() if now - old.counted > _IDLE]:
                del self._known[one]
            known = self._known.setdefault(key, _Rollout(began, queue))
            known.take(queue, began)
            return known

    # --- The facts --------------------------------------------------------------------------------

    def _count(self, image: ImageView, windows: "_Windows") -> tuple[float, Queue]:
        """The facts, and when gathering them began."""
        began = self._monotonic()
        peers = (
            self._peer(guest, image, windows)
            for guest in self._guests().values()
            if guest.spec.image == image.name
        )
        return began, queue_of(peer for peer in peers if peer is not None)

    def _peer(self, guest: EffectiveGuest, image: ImageView, windows: "_Windows") -> Peer | None:
        """The guest's facts; None if it does not count: no domain of ours, or its host is lost."""
        try:
            domain = self._hypervisor.domain(guest.spec.host, guest.name)
        except GuestkeeperError:
            return None
        if domain is None or not domain.ours or domain.ownership is None:
            return None
        automatic = guest.spec.update_policy.replace == "Automatic"
        able = automatic and self._is_able(guest, domain, image, windows)
        return Peer(guest.name, domain.ownership, image.base or "", automatic, able)

    @staticmethod
    def _is_able(
        guest: EffectiveGuest, domain: DomainView, image: ImageView, windows: "_Windows"
    ) -> bool:
        return (
            is_able(domain)
            and not too_small(guest, image)
            and windows.open(guest.spec.update_policy.maintenance_windows)
        )


class _Windows:
    """Caches which maintenance windows are open at one moment; many guests have the same ones."""

    def __init__(self, now: float) -> None:
        self._now = now
        self._known: dict[tuple[tuple[str, float, str], ...], bool] = {}

    def open(self, windows: Sequence[MaintenanceWindow]) -> bool:
        if not windows:
            return True
        key = tuple((one.cron, one.duration, one.time_zone) for one in windows)
        if key not in self._known:
            self._known[key] = window_state(windows, self._now).open
        return self._known[key]
