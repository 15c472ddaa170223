"""Power of a guest: started, asked to shut down, powered off; and what is written down of it.

An intention is not a fact. What was tried is written down once the call came back, never before; a
call that the host refused, or that gave no answer, leaves no note, and is made again.
"""

from collections.abc import Callable
from typing import Any

from controller.errors import GuestkeeperError, HostBusyError, HostUnreachableError
from controller.execution.ports import Hypervisor
from controller.planning.power.starting import HOST_LACKS, NOT_TRIED
from controller.planning.power.stopping import NOT_STOPPED
from controller.planning.steps import ShutdownDomain, StartDomain

Note = Callable[[tuple[tuple[str, Any], ...]], None]
"""Writes fields of the guest's ``GuestRecord`` down."""
_NO_TRY = (HostUnreachableError, HostBusyError)
"""Errors of a start that was not tried, or of which nobody knows."""


class Power:
    """``clock`` is epoch seconds. Each method raises what the host's call raises."""

    def __init__(self, world: Hypervisor, clock: Callable[[], float]) -> None:
        self._world = world
        self._clock = clock

    def start(self, host: str, name: str, step: StartDomain, note: Note) -> None:
        """A start that was tried is written down, also one that failed.

        Where the host lacks what any run of the guest needs, only its number is, for the pause that
        follows: what was promised still is.
        """
        error: GuestkeeperError | None = None
        try:
            self._world.start(host, name)
        except GuestkeeperError as raised:
            if isinstance(raised, _NO_TRY) or raised.reason in NOT_TRIED:
                raise
            error = raised
        noted = step.noted
        if error is not None and error.reason in HOST_LACKS:
            noted = tuple(one for one in noted if one[0] == "start_attempts")
        if noted:
            note((*noted, ("last_start_attempt", self._clock())))
        if error is not None:
            raise error

    def shutdown(self, host: str, name: str, step: ShutdownDomain, note: Note) -> None:
        """Its time to go down begins when the call came back. What the host refused is not meant
        any more, until it is tried again: an operator may shut the guest down meanwhile.
        """
        try:
            self._world.shutdown(host, name, step.run)
        except _NO_TRY:
            raise
        except GuestkeeperError:
            note(tuple(NOT_STOPPED.items()))
            raise
        note((("shutdown_requested", self._clock()), ("stop_run", step.run)))

    def destroy(self, host: str, name: str, run: int | None) -> None:
        """``run`` is the one that was looked at: no other, which nobody asked, is powered off."""
        self._world.destroy(host, name, run)
