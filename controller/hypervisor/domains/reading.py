"""Reads domains from libvirt, for the index.

Each function runs in a worker, under a deadline, with a connection; none knows the index. A domain
that cannot be read becomes ``Unreadable``, so that the others can still be read.
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
    """A domain as the bulk calls list it."""

    name: str
    domain: libvirt.virDomain
    raw: tuple[int, int]
    persistent: bool
    autostart: bool
    saved: bool = False


@dataclass(frozen=True, slots=True)
class Read:
    """The result of reading one domain; ``live`` is its live XML, None while it is off."""

    uuid: str
    raw: tuple[int, int]
    identity: int
    """libvirt's number of this run (``virDomainGetID``); -1 while it is off."""
    persistent: bool
    autostart: bool
    saved: bool
    inactive: ParsedDomain
    live: ParsedDomain | None
    job: bool


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A domain that exists but cannot be read."""

    why: str


def reason_of(raw: tuple[int, int], panicked: bool) -> StateReason:
    """Why the domain is in its state; ``raw`` is (state, reason) of ``virDomainGetState``."""
    reason = _REASONS.get(raw, StateReason.OTHER)
    # With on_crash=destroy a panic ends as an ordinary crash; only its event showed the difference.
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
    """The persistent definition (``virDomainGetXMLDesc``), without its secrets."""
    xml: str = connection.lookupByName(name).XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    return xml


def _tried(connection: libvirt.virConnect, read: Callable[[], Read]) -> Read | Unreadable | None:
    """Calls ``read``; None if the domain is gone. Raises only if the connection is lost."""
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
    """Reads the persistent definition and, if it runs, the live XML (``virDomainGetXMLDesc``)."""
    domain = listed.domain
    state = STATES.get(listed.raw[0], DomainState.UNKNOWN)
    # The QEMU of a crashed domain may still run (on_crash=preserve); its state does not tell.
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
