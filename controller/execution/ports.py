"""The ports: what the steps need of the world, as small protocols.

Each adapter room (``hypervisor``, ``guest_access``, ``images``, ``health``, ``journal``) has one
class that fits; tests give fakes. Every call has a deadline of its own and raises only
``controller.errors``: ``HostUnreachableError`` where nothing was learnt, ``TransientError`` where
a retry may help, ``PermanentError`` where it will not.
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
    """Every host's libvirt. All calls are idempotent: asking for what is there is no error."""

    def hosts(self) -> Collection[str]: ...

    def reachable(self, host: str) -> bool:
        """As of now, without asking it."""

    def host(self, host: str) -> HostView: ...

    def domain(self, host: str, name: str) -> DomainView | None:
        """From the index; XML is read again only if an event or an own write marked it dirty."""

    def address_users(
        self, host: str, name: str, addresses: Collection[str]
    ) -> tuple[AddressUse, ...]:
        """Which other domains there have one of them, ours or not. From the index; cheap."""

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
        """The same, also of files that the host does not know yet; raises where it cannot look."""

    def absent(self, host: str, pool: str, names: Collection[str]) -> frozenset[str]:
        """Those of the volumes that are certainly not there; of a pool that runs."""

    def written_bases(self, host: str) -> Mapping[str, frozenset[str]]:
        """Bases of images (file names) that running domains there have as their disk. Cheap."""

    def file_users(self, host: str) -> Mapping[str, frozenset[str]]:
        """Every path that a domain there names or stands on, with the names of those domains.

        What only the record of a guest names is none of them.
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
        """With NVRAM and managed save; one that is not there is fine, one that runs is not."""

    def set_ownership(self, host: str, name: str, ownership: Ownership) -> None: ...

    def start(self, host: str, name: str) -> None: ...

    def shutdown(self, host: str, name: str, run: int | None = None) -> None:
        """Asks the guest (agent, then ACPI) to power off; does not wait. Of another than ``run``
        nothing is asked."""

    def destroy(self, host: str, name: str, run: int | None = None) -> None:
        """Pulls the plug, gracefully towards QEMU; a failure is permanent. Another than ``run`` is
        left alone."""

    def eject(self, host: str, name: str, alias: str) -> None:
        """Empties the CD-ROM drive ``ua-{alias}``, live and persistent."""

    # Changes of a running domain, re-read to verify; ``TransientError`` where they had no effect.
    # What a device shall be like is taken from the definition, which ``define`` brought up to date.

    def set_vcpus(self, host: str, name: str, count: int) -> None:
        """Plugs in, and has the agent bring them online where one answers."""

    def set_memory(self, host: str, name: str, size: int) -> None:
        """Bytes; waits until the balloon has got there, some seconds at most."""

    def plug(self, host: str, name: str, alias: str) -> None: ...

    def unplug(self, host: str, name: str, alias: str, timeout: float) -> None:
        """Returns when the guest has let go of the device.

        Raises ``TransientError``: ``RemovalRefused``, or ``RemovalTimedOut`` after ``timeout`` s.
        """

    def update_device(self, host: str, name: str, alias: str) -> None:
        """An interface's source and link state, a drive's medium."""

    def set_io_tune(self, host: str, name: str, alias: str) -> None: ...

    def set_title(self, host: str, name: str, title: str, description: str) -> None: ...

    def set_autostart(self, host: str, name: str, on: bool) -> None: ...

    def grow_disk(self, host: str, name: str, alias: str, capacity: int) -> None:
        """Of a running domain (``virDomainBlockResize``). Bytes."""


class Inside(Protocol):
    """The inside of guests."""

    def authorized_keys(self, guest: EffectiveGuest) -> list[str]:
        """The public keys that root of this guest shall accept, read where they stand."""

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
        """What is known now, without waiting (a look at volumes happens when nothing is)."""

    def prepare(self, host: str, pool: str, image: EffectiveImage) -> None:
        """Fetches, checks and uploads; takes minutes. Safe to call again and from many threads."""

    def seed(
        self, host: str, pool: str, volume: str, *, instance_id: str, hostname: str, keys: list[str]
    ) -> None:
        """Makes the NoCloud seed volume."""


class Prober(Protocol):
    """The probes' scheduler."""

    def set_targets(self, guest: str, targets: Sequence[ProbeTarget]) -> None:
        """From now on exactly these probes run for ``guest``; () stops them. Cheap when equal."""

    def views(self, guest: str) -> Mapping[tuple[str, str], ProbeView]:
        """(service, probe) -> its state."""


class Journal(Protocol):
    """History."""

    def record(self, guest: str, reason: str, message: str, *, warning: bool = False) -> None: ...
