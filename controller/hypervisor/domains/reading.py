"""Reading domains: the calls to libvirt that the index is filled by.

Each is run by a worker, under a deadline, with a connection; none of them knows the index. A domain
that cannot be read is ``Unreadable``, so that it is no reason to know nothing of the others.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import libvirt
import structlog

from controller.hypervisor.domains.jobs import has_job
from controller.hypervisor.errors.translate import lost
from controller.observed.domain import DomainState, StateReason
from controller.observed.domain_xml import ParsedDomain, parse_domain

STATES = {
    libvirt.VIR_DOMAIN_RUNNING: DomainState.RUNNING,
    libvirt.VIR_DOMAIN_BLOCKED: DomainState.BLOCKED,
    libvirt.VIR_DOMAIN_PAUSED: DomainState.PAUSED,
    libvirt.VIR_DOMAIN_SHUTDOWN: DomainState.SHUTDOWN,
    libvirt.VIR_DOMAIN_SHUTOFF: DomainState.SHUTOFF,
    libvirt.VIR_DOMAIN_CRASHED: DomainState.CRASHED,
    libvirt.VIR_DOMAIN_PMSUSPENDED: DomainState.PMSUSPENDED,
}
_REASONS = {
    (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN): StateReason.SHUTDOWN,
    (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_DESTROYED): StateReason.DESTROYED,
    (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_CRASHED): StateReason.CRASHED,
    (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_FAILED): StateReason.FAILED,
    (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_DAEMON): StateReason.DAEMON,
    (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED): StateReason.MIGRATED,
    (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_SAVED): StateReason.SAVED,
    (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_USER): StateReason.USER,
    (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR): StateReason.IO_ERROR,
    (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_CRASHED): StateReason.PANICKED,
    (libvirt.VIR_DOMAIN_CRASHED, libvirt.VIR_DOMAIN_CRASHED_PANICKED): StateReason.PANICKED,
    (libvirt.VIR_DOMAIN_CRASHED, libvirt.VIR_DOMAIN_CRASHED_UNKNOWN): StateReason.CRASHED,
}
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Listed:
    """A domain as one of many: what the bulk calls told of it."""

    name: str
    domain: libvirt.virDomain
    raw: tuple[int, int]
    persistent: bool
    autostart: bool
    saved: bool = False


@dataclass(frozen=True, slots=True)
class Read:
    """What one reading of a domain found; ``live`` is the running definition."""

    uuid: str
    raw: tuple[int, int]
    identity: int
    """libvirt's number of this run of the domain; -1 while it is off."""
    persistent: bool
    autostart: bool
    saved: bool
    inactive: ParsedDomain
    live: ParsedDomain | None
    job: bool


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A domain that is there, and of which nothing more can be told."""

    why: str


def reason_of(raw: tuple[int, int], panicked: bool) -> StateReason:
    """Why it is in the state that ``virDomainGetState`` gave as ``raw``."""
    reason = _REASONS.get(raw, StateReason.OTHER)
    # With on_crash=destroy a panic ends as an ordinary crash; only its event told the difference.
    return StateReason.PANICKED if reason is StateReason.CRASHED and panicked else reason


def _stats(connection: libvirt.virConnect) -> list[tuple[libvirt.virDomain, dict[str, Any]]]:
    found: list[tuple[libvirt.virDomain, dict[str, Any]]] = connection.getAllDomainStats(
        libvirt.VIR_DOMAIN_STATS_STATE, libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
    )
    return found


def _raw(stats: dict[str, Any]) -> tuple[int, int]:
    return stats.get("state.state", -1), stats.get("state.reason", -1)


def bulk(connection: libvirt.virConnect) -> list[tuple[str, tuple[int, int]]]:
    return [(domain.name(), _raw(stats)) for domain, stats in _stats(connection)]


def list_all(
    connection: libvirt.virConnect,
) -> list[Listed]:
    def names(flag: int) -> set[str]:
        return {domain.name() for domain in connection.listAllDomains(flag)}

    persistent = names(libvirt.VIR_CONNECT_LIST_DOMAINS_PERSISTENT)
    autostart = names(libvirt.VIR_CONNECT_LIST_DOMAINS_AUTOSTART)
    saved = names(libvirt.VIR_CONNECT_LIST_DOMAINS_MANAGEDSAVE)
    return [
        Listed(
            name := domain.name(),
            domain,
            _raw(stats),
            name in persistent,
            name in autostart,
            name in saved,
        )
        for domain, stats in _stats(connection)
    ]


def read_many(
    connection: libvirt.virConnect, listed: list[Listed]
) -> list[tuple[str, Read | Unreadable | None]]:
    return [(one.name, _tried(connection, partial(_read, one))) for one in listed]


def read_one(connection: libvirt.virConnect, name: str) -> Read | Unreadable | None:
    def read() -> Read:
        domain = connection.lookupByName(name)
        state, reason = domain.state()
        persistent, autostart = bool(domain.isPersistent()), bool(domain.autostart())
        saved = bool(domain.hasManagedSaveImage(0))
        return _read(Listed(name, domain, (state, reason), persistent, autostart, saved))

    return _tried(connection, read)


def inactive_xml(connection: libvirt.virConnect, name: str) -> str:
    """``virDomainGetXMLDesc`` of the persistent definition, without its secrets."""
    xml: str = connection.lookupByName(name).XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    return xml


def _tried(connection: libvirt.virConnect, read: Callable[[], Read]) -> Read | Unreadable | None:
    """None when the domain is gone; raises only where the connection is lost."""
    try:
        return read()
    except libvirt.libvirtError as error:
        if lost(error, connection):
            raise
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        return Unreadable(error.get_error_message() or str(error))
    except Exception as error:
        log.debug("reading a domain failed unexpectedly", exc_info=True)
        return Unreadable(repr(error))


def _read(listed: Listed) -> Read:
    """``virDomainGetXMLDesc`` of both definitions."""
    domain = listed.domain
    state = STATES.get(listed.raw[0], DomainState.UNKNOWN)
    # A crashed domain may have its QEMU still (on_crash=preserve): no state tells that.
    active = state.active or (state is not DomainState.SHUTOFF and bool(domain.isActive()))
    inactive = parse_domain(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
    live = parse_domain(domain.XMLDesc(0), inactive) if active else None
    return Read(
        uuid=domain.UUIDString(),
        raw=listed.raw,
        identity=domain.ID() if active else -1,
        persistent=listed.persistent,
        autostart=listed.autostart,
        saved=listed.saved,
        inactive=inactive,
        live=live,
        job=live is not None and (live.block_job or has_job(domain)),
    )
