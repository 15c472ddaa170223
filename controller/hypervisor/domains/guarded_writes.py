"""Writes to domains: behind an ownership guard, in one of the host's few places, with a deadline.

A domain's name proves nothing. Only our element in its metadata does, and only on the domain for
which it was made. So the element is read again in the same worker, right before each write. Guests
and builders carry different elements and share everything else.
"""

from collections.abc import Callable
from typing import TypeVar

import libvirt

from controller.errors import GuestkeeperError, HostUnreachableError, PermanentError
from controller.hypervisor.connection.concurrency import Places
from controller.hypervisor.connection.config import Role
from controller.hypervisor.connection.link import HostLink
from controller.hypervisor.domains.jobs import refuse_during_job
from controller.hypervisor.domains.runs import refuse_another_run

T = TypeVar("T")
LIFECYCLE = 90.0
"""libvirt itself waits up to 30 s for a domain's lock, and a start may format a TPM or NVRAM."""

_NOT_TRIED = frozenset({"DomainMissing", "HostBusy", "JobRunning", "NoThread", "RunChanged"})

Guard = Callable[[libvirt.virDomain], object]
"""Raises ``PermanentError(reason='NameConflict')`` for a domain that is not ours."""


class Writes:
    """Writes to the domains of one host that ``guard`` accepts.

    ``touched`` is called with the name after each write. Each write raises ``HostBusyError`` while
    too many others run on that host.
    """

    def __init__(
        self, link: HostLink, places: Places, touched: Callable[[str], None], guard: Guard
    ) -> None:
        self._link = link
        self._places = places
        self._touched = touched
        self._guard = guard

    def run(self, name: str, operation: str, function: Callable[[libvirt.virConnect], T]) -> T:
        """Runs ``function`` in a worker; it must call the guard itself."""
        with self._places.take(operation):
            try:
                return self._link.call(Role.ACT, operation, function, LIFECYCLE)
            finally:
                # Also after a failure: it is not known how much was done.
                self._touched(name)

    def write(
        self,
        name: str,
        operation: str,
        write: Callable[[libvirt.virConnect, libvirt.virDomain], T],
    ) -> T:
        """Runs ``write`` in a worker if the domain exists (else ``DomainMissing``) and is ours."""

        def guarded(connection: libvirt.virConnect) -> T:
            domain = connection.lookupByName(name)
            self._guard(domain)
            return write(connection, domain)

        return self.run(name, operation, guarded)

    def destroy(self, name: str, *, spare_jobs: bool = False, run: int | None = None) -> None:
        """Powers the domain off (``virDomainDestroyFlags(GRACEFUL)``); one that is off is no error.

        A failure is ``PermanentError(reason='DestroyFailed')``: its disks must not be touched then.
        With ``spare_jobs`` raises ``TransientError(reason='JobRunning')`` while it has a job; with
        ``run``, ``HostBusyError(reason='RunChanged')`` if another run has begun.
        """

        def write(_connection: libvirt.virConnect, domain: libvirt.virDomain) -> None:
            if not domain.isActive():
                return
            if spare_jobs:
                refuse_during_job(domain)
            refuse_another_run(domain, run)
            graceful = libvirt.VIR_DOMAIN_DESTROY_GRACEFUL
            unless(lambda: not domain.isActive(), lambda: domain.destroyFlags(graceful))

        try:
            self.write(name, "destroy", write)
        except (HostUnreachableError, PermanentError):
            raise
        except GuestkeeperError as error:
            if error.reason in _NOT_TRIED:
                raise
            raise PermanentError(
                f"{error}: the domain may still run; look at its QEMU process on the host",
                reason="DestroyFailed",
            ) from error


# --- Parts of the calls, run by a worker ----------------------------------------------------------


def find(connection: libvirt.virConnect, name: str) -> libvirt.virDomain | None:
    """The domain (``virDomainLookupByName``), or None if there is no such domain."""
    try:
        return connection.lookupByName(name)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise


def element_of(domain: libvirt.virDomain, namespace: str) -> str | None:
    """The metadata element of ``namespace`` (``virDomainGetMetadata``), or None.

    From the persistent definition if there is one, else from the running domain.
    """
    flags = libvirt.VIR_DOMAIN_AFFECT_LIVE
    if domain.isPersistent():
        flags = libvirt.VIR_DOMAIN_AFFECT_CONFIG
    try:
        return _element(domain, namespace, flags)
    except libvirt.libvirtError as error:
        if error.get_error_code() is not None:
            raise
    # Python freed another libvirt object in between, which cleared libvirt's last error: try again.
    return _element(domain, namespace, flags)


def _element(domain: libvirt.virDomain, namespace: str, flags: int) -> str | None:
    try:
        xml: str = domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, namespace, flags)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN_METADATA:
            raise
        return None
    return xml


def set_element(domain: libvirt.virDomain, xml: str, prefix: str, namespace: str) -> None:
    """Writes a metadata element (``virDomainSetMetadata``), persistent and, if it runs, live."""
    flags = 0
    if domain.isPersistent():
        flags |= libvirt.VIR_DOMAIN_AFFECT_CONFIG
    if domain.isActive():
        flags |= libvirt.VIR_DOMAIN_AFFECT_LIVE
    domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, xml, prefix, namespace, flags)


def unless(already: Callable[[], bool], act: Callable[[], object]) -> None:
    """Runs ``act``; ignores ``VIR_ERR_OPERATION_INVALID`` if ``already()`` says that it is done."""
    try:
        act()
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_OPERATION_INVALID or not already():
            raise
