"""What building an image needs from outside, as small protocols.

``hypervisor.Hypervisor`` satisfies ``Builders``, ``guest_access.secrets.FileSecrets`` satisfies
``Secrets``; neither package may be imported from here. Errors are those of ``controller.errors``,
as in ``execution.ports``.
"""

from collections.abc import Sequence
from typing import Protocol

from controller.desired.schema.model import SecretRef
from controller.images.pool.base_volumes import Storage
from controller.observed.build import BuilderConfig, BuilderView, BuildRecord
from controller.observed.host import VolumeView


class Channel(Protocol):
    """The bytes of a builder's serial port from now on. Safe to read and write from two threads."""

    def read(self, timeout: float) -> bytes | None:
        """The next bytes; b'' when none came within ``timeout`` seconds, None at its end."""

    def write(self, data: bytes) -> None:
        """Send a few bytes into the builder; raises as a call to the host does."""

    def close(self) -> None: ...


class Builders(Storage, Protocol):
    """Builder domains, and what building needs of the storage beyond uploads.

    Every call to a builder raises ``PermanentError(reason="NameConflict")`` where the domain of
    that name has no build record of ours. All are idempotent.
    """

    def define_builder(self, host: str, config: BuilderConfig, record: BuildRecord) -> None:
        """Make or replace the definition: with the record, without the installer's boot media."""

    def start_builder(self, host: str, config: BuilderConfig) -> None:
        """Start the defined builder with the installer's kernel, initrd and drives.

        The definition stays without them; the live XML holds the record, too. It is no error if
        the builder runs already.
        """

    def builder(self, host: str, name: str) -> BuilderView | None:
        """The builder, looked at now; None where there is no domain of that name."""

    def builders(self, host: str) -> Sequence[BuilderView]:
        """Every builder domain of ours on the host."""

    def record_build(self, host: str, name: str, record: BuildRecord) -> None:
        """Write the record into the definition and, if the builder runs, into the live XML."""

    def destroy_builder(self, host: str, name: str) -> None:
        """Power the builder off; no error if it is off or not there."""

    def undefine_builder(self, host: str, name: str) -> None:
        """Remove the definition (NVRAM too) of a builder that is off; no error if there is none."""

    def open_builder_channel(self, host: str, name: str, channel: str) -> Channel:
        """Open a channel (``virDomainOpenChannel``); whoever had it open loses it.

        Raises ``PermanentError``: ``NotRunning`` for a builder that is off, ``NoChannel`` for one
        that has no such port.
        """

    def open_builder_console(self, host: str, name: str) -> Channel:
        """Open the serial console; whoever had it open loses it. Raises as for a channel."""

    def volumes(self, host: str, pool: str) -> Sequence[VolumeView]:
        """Every volume of the pool, after a scan where one is possible."""

    def scanned_volumes(self, host: str, pool: str) -> Sequence[VolumeView]:
        """The same, for callers that delete what no volume uses: raises if no scan is possible."""

    def file_paths(self, host: str) -> frozenset[str]:
        """Every path on the host that any domain, ours or not, names: as a disk's source or its
        backing store (live or persistent), as kernel or as initrd."""


class Secrets(Protocol):
    """Secret values that are kept outside the documents."""

    def read(self, ref: SecretRef) -> str: ...
