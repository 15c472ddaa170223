"""Starts a guest, asks it to shut down or powers it off, and updates its record.

The record holds facts, not intentions: it is written after the call came back, never before. A call
that the host refused, or that gave no answer, is not written down, and is made again.
"""

from collections.abc import Callable
from typing import Any

from controller.errors import GuestkeeperError, HostBusyError, HostUnreachableError
from controller.execution.ports import Hypervisor
from controller.planning.power.starting import HOST_LACKS, NOT_TRIED
from controller.planning.power.stopping import NOT_STOPPED
from controller.planning.steps import ShutdownDomain, StartDomain

Note = Callable[[tuple[tuple[str, Any], ...]], None]
"""Writes fields of the guest's ``GuestRecord``."""
_NO_TRY = (HostUnreachableError, HostBusyError)
"""Errors of a call that was not tried, or whose result is unknown."""


class Power:
    """``clock`` is epoch seconds. Each method raises what the host's call raises."""

    def __init__(self, world: Hypervisor, clock: Callable[[], float]) -> None:
        self._world = world
        self._clock = clock

    def start(self, host: str, name: str, step: StartDomain, note: Note) -> None:
        """Starts the domain and writes the attempt down, also a failed one.

        If the host lacks what any run of the guest needs, only the number and the time of the
        attempt are written, for the pause that follows; a promised start stays promised.
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
        """Asks for a shutdown; its timeout runs from when the call came back. If the host refuses,
        the intent to stop is removed from the record until the next try, because an operator may
        shut the guest down meanwhile.
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
        """Powers off the run that was observed; no later run, which was not asked to shut down."""
        self._world.destroy(host, name, run)
