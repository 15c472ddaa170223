"""The ports: small protocols for everything that steps need from hosts, guests and the journal.

Each adapter package (``hypervisor``, ``guest_access``, ``images``, ``health``, ``journal``) has one
class that implements its protocol; tests give fakes. Every call has a deadline of its own and
raises only ``controller.errors``: ``HostUnreachableError`` where nothing was learnt,
``TransientError`` where a retry may help, ``PermanentError`` where it will not.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from controller.desired.effective import EffectiveGuest, EffectiveImage, EffectiveService
from controller.observed.addresses import AddressUse
from controller.observed.domain import DomainConfig, DomainView, Ownership
from controller.observed.health import ProbeTarget, ProbeView
from controller.observed.host import HostView, VolumeView
from controller.observed.image import ImageView
from controller.observed.inside import InsideView


class Hypervisor(Protocol):
    """libvirt of all hosts. All calls are idempotent: to create what exists is no error."""

    def hosts(self) -> Collection[str]: ...

    def reachable(self, host: str) -> bool:
        """Whether the host is connected now; makes no call to it."""

    def host(self, host: str) -> HostView: ...

    def domain(self, host: str, name: str) -> DomainView | None:
        """From the index; XML is read again only if an event or our own write marked it stale."""

    def address_users(
        self, host: str, name: str, addresses: Collection[str]
    ) -> tuple[AddressUse, ...]:
        """Other domains of the host that have one of ``addresses``. From the index; cheap."""

    def volume(self, host: str, pool: str, name: str) -> VolumeView | None: ...

    def create_volume(
        self,
        host: str,
        pool: str,
        name: str,
        *,
        capacity: int,
        format: str = "qcow2",
        backing: tuple[str, str] | None = None,
    ) -> VolumeView:
        """``backing`` is (path, format) of the base. An existing volume is returned as it is."""

    def delete_volume(self, host: str, pool: str, name: str) -> None: ...

    def grow_volume(self, host: str, pool: str, name: str, capacity: int) -> None:
        """``capacity`` in bytes. Raises ``PermanentError`` where it would shrink."""

    def volumes(self, host: str, pool: str) -> list[VolumeView]: ...

    def scanned_volumes(self, host: str, pool: str) -> list[VolumeView]:
        """As ``volumes``, with files that libvirt does not know yet; raises if it cannot scan."""

    def absent(self, host: str, pool: str, names: Collection[str]) -> frozenset[str]:
        """Those of ``names`` that are certainly not in the pool, which has to be running."""

    def written_bases(self, host: str) -> Mapping[str, frozenset[str]]:
        """Base volumes (file names) that running domains use as a disk itself, without an overlay
        -> the names of those domains. Cheap.
        """

    def file_users(self, host: str) -> Mapping[str, frozenset[str]]:
        """The paths that domains of the host use, also as backing files -> names of those domains.

        A path that only a guest's record names is not included.
        """

    def define(self, host: str, config: DomainConfig, ownership: Ownership) -> None: ...

    def adopt(
        self,
        host: str,
        uuid: str,
        ownership: Ownership,
        aliases: Mapping[str, str],
        disks: Collection[tuple[str, str, str]] = (),
    ) -> None:
        """Marks a foreign domain as ours, running or not, without stopping it.

        ``aliases``: a device's place (a disk's target, an interface's MAC) -> its alias without
        prefix. ``disks``: all its disks as (target, pool, volume or path). Raises
        ``PermanentError(reason='NameConflict')`` for another UUID or another's mark, and
        ``PermanentError(reason='AdoptionOutdated')`` where it has other disks by now.
        """

    def undefine(self, host: str, name: str) -> None:
        """Undefines with NVRAM and managed save. An absent domain is no error, a running one is."""

    def set_ownership(self, host: str, name: str, ownership: Ownership) -> None: ...

    def start(self, host: str, name: str) -> None: ...

    def shutdown(self, host: str, name: str, run: int | None = None) -> None:
        """Asks the guest (agent, then ACPI) to power off; does not wait. Does nothing in another
        run than ``run``.
        """

    def destroy(self, host: str, name: str, run: int | None = None) -> None:
        """Powers off, terminating QEMU gracefully; a failure is permanent. Does nothing in another
        run than ``run``.
        """

    def eject(self, host: str, name: str, alias: str) -> None:
        """Empties the CD-ROM drive ``ua-{alias}``, live and persistent."""

    # Changes of a running domain, re-read to verify; ``TransientError`` where they had no effect.
    # How a device should be is taken from the definition, which ``define`` brought up to date.

    def set_vcpus(self, host: str, name: str, count: int) -> None:
        """Plugs in vCPUs, and has the guest agent bring them online if it answers."""

    def set_memory(self, host: str, name: str, size: int) -> None:
        """``size`` in bytes; waits until the balloon has that size, some seconds at most."""

    def plug(self, host: str, name: str, alias: str) -> None: ...

    def unplug(self, host: str, name: str, alias: str, timeout: float) -> None:
        """Unplugs a device; returns when the guest has released it.

        Raises ``TransientError``: ``RemovalRefused``, or ``RemovalTimedOut`` after ``timeout`` s.
        """

    def update_device(self, host: str, name: str, alias: str) -> None:
        """Changes an interface's source and link state, or a drive's medium."""

    def set_io_tune(self, host: str, name: str, alias: str) -> None: ...

    def set_title(self, host: str, name: str, title: str, description: str) -> None: ...

    def set_autostart(self, host: str, name: str, on: bool) -> None: ...

    def grow_disk(self, host: str, name: str, alias: str, capacity: int) -> None:
        """Grows a disk of a running domain (``virDomainBlockResize``). ``capacity`` in bytes."""


class Inside(Protocol):
    """Looks at guests from inside, and applies configuration there."""

    def authorized_keys(self, guest: EffectiveGuest) -> list[str]:
        """The public keys for root of this guest, read from their files."""

    def look(self, guest: EffectiveGuest, domain: DomainView) -> InsideView:
        """One exec: the facts of everything the guest's services and identity name."""

    def apply(
        self, guest: EffectiveGuest, domain: DomainView, services: Sequence[EffectiveService]
    ) -> InsideView:
        """One exec: applies identity and ``services``, then looks.

        Raises ``guest_access.inside.ApplyFailedError`` (with what the failed command printed, and
        a ``view`` of what was reached), or ``PermanentError`` where nothing could be run.
        """


class Images(Protocol):
    """Images on hosts."""

    def view(self, host: str, pool: str, image: EffectiveImage) -> ImageView:
        """The image's state as known now; only if nothing is known, volumes are read first."""

    def prepare(self, host: str, pool: str, image: EffectiveImage) -> None:
        """Fetches, checks and uploads; takes minutes. Safe to call again and from many threads."""

    def seed(
        self, host: str, pool: str, volume: str, *, instance_id: str, hostname: str, keys: list[str]
    ) -> None:
        """Makes the NoCloud seed volume."""


class Prober(Protocol):
    """The probes' scheduler."""

    def set_targets(self, guest: str, targets: Sequence[ProbeTarget]) -> None:
        """Runs exactly these probes for ``guest``; () stops them. Cheap if nothing changes."""

    def views(self, guest: str) -> Mapping[tuple[str, str], ProbeView]:
        """(service, probe) -> its state."""


class Journal(Protocol):
    """The history of events."""

    def record(self, guest: str, reason: str, message: str, *, warning: bool = False) -> None: ...
