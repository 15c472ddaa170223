"""Plans an orderly stop of a running guest, for any reason: ask once, wait, then power off.

Which run is stopped and why is in the domain's metadata before the guest is asked, so that a
restarted daemon knows why the guest is off. That it *was* asked, and when, is written after the
call succeeded, so that no guest is powered off that was not asked.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from controller.observed.domain import DomainView, GuestRecord
from controller.observed.guest import Failure
from controller.planning.steps import DestroyDomain, ShutdownDomain, Step, update_record

_FORGOTTEN = 600.0
"""Seconds after its deadline when a shutdown request no longer counts; also the seconds after which
a decision to stop that had no effect is written again."""
NOT_STOPPED: Mapping[str, Any] = MappingProxyType(
    {
        "stop_for": "",
        "shutdown_requested": None,
        "stop_run": None,
        "stop_wanted": None,
        "stop_key": "",
    }
)
"""The fields of ``GuestRecord`` about a stop, with their values for no stop."""


def stop_is_over(stop_for: str, record: GuestRecord) -> dict[str, Any]:
    """The record changes for a guest that runs again after a stop for ``stop_for``."""
    noted = dict(NOT_STOPPED)
    if stop_for == StopFor.RESTART:
        noted["restart_requested"] = None
        if record.stop_key:
            noted["restarted_for"] = record.stop_key
    return noted


class StopFor(StrEnum):
    """Why a guest is stopped."""

    HALT = "halt"
    RESTART = "restart"
    REPLACE = "replace"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Stopping:
    """The next steps, a clause for the message, and when to plan again (epoch seconds)."""

    steps: tuple[Step, ...]
    message: str
    recheck_at: float


def asked_to_stop(
    domain: DomainView, record: GuestRecord, why: StopFor, *, since: float = 0.0
) -> bool:
    """True if the present run of the domain was asked to shut down for ``why``.

    ``since`` (epoch seconds) is when the daemon started: an earlier run is known only by libvirt's
    id, which begins anew when the host boots. So an earlier request does not count and is repeated.
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
    """The next steps to stop a running domain. ``timeout``: seconds from the request to power-off.
    ``since`` is as for ``asked_to_stop``; ``key`` is the ``restart_key`` of an automatic cold boot.

    Requests that do not count: one that the host refused (a job runs; see ``failure``), one to
    another run, one in the future (from a wrong clock), and one of long ago. Otherwise the guest
    would lose its orderly shutdown.
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
    """The record update before the guest is asked; () if the record has it already."""
    fresh = record.stop_wanted is not None and 0 <= now - record.stop_wanted < _FORGOTTEN
    known = (record.stop_for, record.stop_run, record.stop_key) == (why.value, domain.run, key)
    if fresh and known and record.shutdown_requested is None:
        return ()
    wanted: dict[str, Any] = {"stop_for": why.value, "stop_run": domain.run, "stop_wanted": now}
    if record.stop_key != key:
        wanted["stop_key"] = key
    if record.shutdown_requested is not None:
        wanted["shutdown_requested"] = None
    return (update_record(**wanted),)
