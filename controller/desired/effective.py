"""The effective desired state: what a Guest means once everything it names is resolved.

The catalog resolves ``use:``, merges values, renders templates and hangs the image on; from here
on nothing needs the documents. ``digest`` changes if and only if something a guest is made from
changed, so it is what "is this already applied?" compares.
"""

from dataclasses import dataclass
from enum import StrEnum

from controller.desired.schema.guest import GuestSpec
from controller.desired.schema.image import Delivery, ImageSpec, InstallLocation, OsFamily
from controller.desired.schema.model import Firmware, SecretRef
from controller.desired.schema.service import OnChange, Probe


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a document stands: a path relative to the directory, and the line it begins on."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class RenderedFile:
    """A file as it shall be in the guest. ``mode`` is a number (0o644)."""

    path: str
    content: bytes
    sha256: str
    owner: str
    group: str
    mode: int


@dataclass(frozen=True, slots=True)
class EffectiveService:
    name: str
    packages: tuple[str, ...]
    files: tuple[RenderedFile, ...]
    unit: str | None
    on_change: OnChange
    probes: tuple[Probe, ...]
    digest: str
    """sha256 of everything above but the probes: what applying it would send."""


class InstallKind(StrEnum):
    KICKSTART = "kickstart"
    PRESEED = "preseed"
    AUTOINSTALL = "autoinstall"


ROOT_PASSWORD_HASH = "@guestkeeper:root-password-hash@"  # noqa: S105 - a placeholder
AUTHORIZED_KEYS_BASE64 = "@guestkeeper:authorized-keys-base64@"
"""What stands in a rendered answer file for a secret, until the builder's medium is made."""


@dataclass(frozen=True, slots=True)
class EffectiveInstall:
    """An unattended install, rendered. ``answer`` holds placeholders where secrets go."""

    kind: InstallKind
    answer: str
    location: InstallLocation
    delivery: Delivery | None
    """Of a kickstart; the other kinds have one way each."""
    disk_size: int
    firmware: Firmware
    root_password_hash_from: SecretRef | None
    ssh_authorized_keys_from: tuple[SecretRef, ...]
    digest: str
    """sha256 of everything above and the kickstart's version, without logins in addresses: the part
    of the base's content that the documents decide."""


@dataclass(frozen=True, slots=True)
class EffectiveImage:
    name: str
    spec: ImageSpec
    digest: str
    """sha256 of everything the documents (and their templates) say of the image."""
    content: str
    """sha256 of the part that the disks made from it depend on. What the source holds is known
    only to ``images/``."""
    install: EffectiveInstall | None = None


@dataclass(frozen=True, slots=True)
class EffectiveGuest:
    name: str
    labels: tuple[tuple[str, str], ...]
    spec: GuestSpec
    image: EffectiveImage
    services: tuple[EffectiveService, ...]
    origin: Origin
    digest: str
    """sha256 of labels, spec, the image's content and the services' digests."""

    @property
    def hostname(self) -> str:
        return self.spec.hostname or self.name

    @property
    def os_family(self) -> OsFamily:
        return self.image.spec.os_family
