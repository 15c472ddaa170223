"""The ports: what the steps need of the world, as small protocols.

Each adapter room (``hypervisor``, ``guest_access``, ``images``, ``health``, ``journal``) has one
class that fits; tests give fakes. Every call has a deadline of its own and raises only
``controller.errors``: ``HostUnreachableError`` where nothing was learnt, ``TransientError`` where
a retry may help, ``PermanentError`` where it will not.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from controller.desired.effective import EffectiveGuest, EffectiveImage, EffectiveService
from controller.observed.domain import DomainConfig, DomainView, Ownership
from controller.observed.health import ProbeTarget, ProbeView
from controller.observed.host import HostView, VolumeView
from controller.observed.image import ImageView
from controller.observed.inside import InsideView


class Hypervisor(Protocol):
    """Every host's libvirt. All calls are idempotent: asking for what is there is no error."""

    def hosts(self) -> Collection[str]: ...

    def host(self, host: str) -> HostView: ...

    def domain(self, host: str, name: str) -> DomainView | None:
        """From the index; XML is read again only if an event or an own write marked it dirty."""

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

    def define(self, host: str, config: DomainConfig, ownership: Ownership) -> None: ...

    def set_ownership(self, host: str, name: str, ownership: Ownership) -> None: ...

    def start(self, host: str, name: str) -> None: ...

    def shutdown(self, host: str, name: str) -> None:
        """Asks the guest (agent, then ACPI) to power off; does not wait."""

    def destroy(self, host: str, name: str) -> None:
        """Pulls the plug, gracefully towards QEMU; a failure is permanent."""

    def eject(self, host: str, name: str, alias: str) -> None:
        """Empties the CD-ROM drive ``ua-{alias}``, live and persistent."""


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
