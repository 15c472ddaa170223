"""Stopping a running guest in good order, whatever for: asked once, waited for, then powered off.

That it was asked, when, which run and what for stands in the domain's metadata before it is asked,
so a restarted daemon neither asks twice nor waits anew, and knows why the guest is off afterwards.
"""

from dataclasses import dataclass
from enum import StrEnum

from controller.observed.domain import DomainView, Memory
from controller.planning.steps import DestroyDomain, ShutdownDomain, Step, remember

_FORGOTTEN = 600.0
"""Seconds after its deadline from which on a request counts for nothing."""


class StopFor(StrEnum):
    """What a guest is stopped for."""

    HALT = "halt"
    RESTART = "restart"
    REPLACE = "replace"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Stopping:
    """The next steps, a clause to tell, and when to look again (epoch seconds)."""

    steps: tuple[Step, ...]
    message: str
    recheck_at: float


def asked_to_stop(domain: DomainView, memory: Memory, why: StopFor) -> bool:
    """Was this very run of the domain asked to shut down for this?"""
    return (
        memory.stop_for == why
        and memory.shutdown_requested is not None
        and memory.stop_run == domain.run
    )


def stop(
    domain: DomainView, memory: Memory, why: StopFor, *, timeout: float, now: float
) -> Stopping:
    """For a running domain. ``timeout`` in seconds, from the request to pulling the plug.

    A request to another run is none; nor is one from the future, by another clock, nor one of long
    ago (libvirt counts its runs anew when the host was booted). None of them may cost a guest its
    orderly shutdown.
    """
    asked = memory.shutdown_requested
    old = asked is not None and not 0 <= now - asked < timeout + _FORGOTTEN
    if not asked_to_stop(domain, memory, why) or asked is None or old:
        steps = (
            remember(shutdown_requested=now, stop_for=why.value, stop_run=domain.run),
            ShutdownDomain(),
        )
        return Stopping(steps, "asking it to shut down", now + timeout)
    if now < asked + timeout:
        message = f"asked to shut down {now - asked:.0f} s ago; it has {timeout:.0f} s"
        return Stopping((), message, asked + timeout)
    message = f"it did not shut down within {timeout:.0f} s; powering it off"
    return Stopping((DestroyDomain("shutdown timed out"),), message, now + 5)
