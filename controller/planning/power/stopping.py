"""Stopping a running guest in good order, whatever for: asked once, waited for, then powered off.

Which run is stopped and what for stands in the domain's metadata before it is asked, so that a
restarted daemon knows why the guest is off. That it *was* asked, and when, is written down after
the call came back well: nobody is powered off for not having heard what nobody said.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from controller.observed.domain import DomainView, GuestRecord
from controller.observed.guest import Failure
from controller.planning.steps import DestroyDomain, ShutdownDomain, Step, remember

_FORGOTTEN = 600.0
"""Seconds after its deadline from which on a request counts for nothing; and those after which a
decision to stop that led to nothing is written down anew."""
NOT_STOPPED: Mapping[str, Any] = MappingProxyType(
    {
        "stop_for": "",
        "shutdown_requested": None,
        "stop_run": None,
        "stop_wanted": None,
        "stop_key": "",
    }
)
"""The fields of ``GuestRecord`` that say it was asked to shut down, where that is over."""


def stop_is_over(stop_for: str, record: GuestRecord) -> dict[str, Any]:
    """What to write down of a guest that runs anew since it was to be stopped for that."""
    noted = dict(NOT_STOPPED)
    if stop_for == StopFor.RESTART:
        noted["restart_requested"] = None
        if record.stop_key:
            noted["restarted_for"] = record.stop_key
    return noted


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


def asked_to_stop(
    domain: DomainView, record: GuestRecord, why: StopFor, *, since: float = 0.0
) -> bool:
    """Was this very run of the domain asked to shut down for this?

    ``since`` (epoch seconds) is when the daemon started: of runs before it only libvirt's id is
    known, which begins anew when the host is booted. So what was asked before is asked again.
    """
    asked = record.shutdown_requested
    began = max(since, domain.started_at or 0.0)
    return (
        record.stop_for == why
        and asked is not None
        and asked >= began
        and record.stop_run == domain.run
    )


def stop(
    domain: DomainView,
    record: GuestRecord,
    why: StopFor,
    *,
    timeout: float,
    now: float,
    since: float = 0.0,
    failure: Failure | None = None,
    key: str = "",
) -> Stopping:
    """For a running domain. ``timeout`` in seconds, from the request to pulling the plug; ``since``
    as for ``asked_to_stop``. ``key`` is what the guest is booted cold for by itself.

    A request that the host refused (a job runs) was none: ``failure`` tells. A request to another
    run is none; nor is one from the future, by another clock, nor one of long
    ago. None of them may cost a guest its orderly shutdown.
    """
    asked = record.shutdown_requested
    old = asked is not None and not 0 <= now - asked < timeout + _FORGOTTEN
    refused = (
        failure is not None and failure.step == "ShutdownDomain" and failure.at >= (asked or 0)
    )
    if refused and failure is not None and now < failure.retry_at:
        return Stopping(
            (),
            f"ShutdownDomain failed: {failure.message}; it is tried again later",
            failure.retry_at,
        )
    if not asked_to_stop(domain, record, why, since=since) or asked is None or old or refused:
        noted = _decided(domain, record, why, key, now)
        return Stopping(
            (*noted, ShutdownDomain(domain.run)), "asking it to shut down", now + timeout
        )
    if now < asked + timeout:
        message = f"asked to shut down {now - asked:.0f} s ago; it has {timeout:.0f} s"
        return Stopping((), message, asked + timeout)
    message = f"it did not shut down within {timeout:.0f} s; powering it off"
    return Stopping((DestroyDomain("shutdown timed out"),), message, now + 5)


def _decided(
    domain: DomainView, record: GuestRecord, why: StopFor, key: str, now: float
) -> tuple[Step, ...]:
    """What is written down before it is asked; nothing where that stands there already."""
    fresh = record.stop_wanted is not None and 0 <= now - record.stop_wanted < _FORGOTTEN
    known = (record.stop_for, record.stop_run, record.stop_key) == (why.value, domain.run, key)
    if fresh and known and record.shutdown_requested is None:
        return ()
    wanted: dict[str, Any] = {"stop_for": why.value, "stop_run": domain.run, "stop_wanted": now}
    if record.stop_key != key:
        wanted["stop_key"] = key
    if record.shutdown_requested is not None:
        wanted["shutdown_requested"] = None
    return (remember(**wanted),)
