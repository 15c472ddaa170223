"""What building an image needs of the world, as small protocols.

``hypervisor.Hypervisor`` fits ``Builders``, ``guest_access.FileSecrets`` fits ``Secrets``; neither
room may be imported from here. Errors are those of ``controller.errors``, as in
``execution.ports``.
"""

from collections.abc import Sequence
from typing import Protocol

from controller.desired.schema.model import SecretRef
from controller.images.pool.base_volumes import Storage
from controller.observed.build import BuilderConfig, BuilderView, BuildRecord
from controller.observed.host import VolumeView


class Channel(Protocol):
    """A serial port of a builder, as bytes from now on. Safe to read and write from two threads."""

    def read(self, timeout: float) -> bytes | None:
        """The next bytes; b'' when none came within ``timeout`` seconds, None at its end."""

    def write(self, data: bytes) -> None:
        """Sends a few bytes into the builder; raises as a call does."""

    def close(self) -> None: ...


class Builders(Storage, Protocol):
    """Builder domains, and what building needs of the storage beyond uploads.

    Every call to a builder raises ``PermanentError(reason="NameConflict")`` where the domain of
    that name carries no build record of ours. All are idempotent.
    """

    def define_builder(self, host: str, config: BuilderConfig, record: BuildRecord) -> None:
        """Makes or replaces the persistent definition: without the installer, with the record."""

    def start_builder(self, host: str, config: BuilderConfig) -> None:
        """Starts the defined builder with the installer's kernel, initrd and drives.

        The persistent definition stays without them; the record stands in the running one, too.
        A builder that runs already is fine.
        """

    def builder(self, host: str, name: str) -> BuilderView | None:
        """Freshly looked at; None where there is no domain of that name."""

    def builders(self, host: str) -> Sequence[BuilderView]:
        """Every builder domain of ours on the host."""

    def record_build(self, host: str, name: str, record: BuildRecord) -> None:
        """Writes the record, persistent and, where it runs, live."""

    def destroy_builder(self, host: str, name: str) -> None:
        """Pulls the plug; one that is off, or not there, is fine."""

    def undefine_builder(self, host: str, name: str) -> None:
        """Removes the definition (NVRAM too) of a builder that is off; none there is fine."""

    def open_builder_channel(self, host: str, name: str, channel: str) -> Channel:
        """``virDomainOpenChannel``; whoever had it open loses it.

        Raises ``PermanentError``: ``NotRunning`` for a builder that is off, ``NoChannel`` for one
        that has no such port.
        """

    def open_builder_console(self, host: str, name: str) -> Channel:
        """The serial console; whoever had it open loses it. Raises as the channel does."""

    def volumes(self, host: str, pool: str) -> Sequence[VolumeView]:
        """Every volume of the pool, after a scan where one is possible."""

    def scanned_volumes(self, host: str, pool: str) -> Sequence[VolumeView]:
        """The same, for who deletes what none of them uses: raises where no scan is possible."""

    def file_paths(self, host: str) -> frozenset[str]:
        """Every path on the host that any domain, ours or not, names: as a disk's source or its
        backing store (live or persistent), as kernel or as initrd."""


class Secrets(Protocol):
    """Values that stand outside the documents."""

    def read(self, ref: SecretRef) -> str: ...
