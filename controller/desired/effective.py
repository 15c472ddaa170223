"""The effective desired state: a Guest with everything that its document names resolved.

The catalog resolves ``use:``, merges values, renders templates and attaches the image; from here
on the documents are not needed. ``digest`` changes if and only if something changed that a guest
is made from, so comparing it answers "is this already applied?".
"""

from dataclasses import dataclass
from enum import StrEnum

from controller.desired.schema.guest import GuestSpec
from controller.desired.schema.image import Delivery, ImageSpec, InstallLocation, OsFamily
from controller.desired.schema.model import Firmware, SecretRef
from controller.desired.schema.service import OnChange, Probe


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a document is: a path relative to the directory, and the line where it begins."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class RenderedFile:
    """A file as it must be in the guest. ``mode`` is a number (0o644)."""

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
    """sha256 of everything above except the probes: of what an apply would send."""


class InstallKind(StrEnum):
    KICKSTART = "kickstart"
    PRESEED = "preseed"
    AUTOINSTALL = "autoinstall"


ROOT_PASSWORD_HASH = "@guestkeeper:root-password-hash@"  # noqa: S105 - a placeholder
AUTHORIZED_KEYS_BASE64 = "@guestkeeper:authorized-keys-base64@"
"""Placeholders for the secrets in a rendered answer file, until the builder's medium is made."""


@dataclass(frozen=True, slots=True)
class EffectiveInstall:
    """A rendered unattended install. ``answer`` has placeholders where the secrets go."""

    kind: InstallKind
    answer: str
    location: InstallLocation
    delivery: Delivery | None
    """Only of a kickstart; the other kinds have one way each."""
    disk_size: int
    firmware: Firmware
    root_password_hash_from: SecretRef | None
    ssh_authorized_keys_from: tuple[SecretRef, ...]
    digest: str
    """sha256 of everything above and the kickstart's version, without logins in URLs: of the part
    of the base's content that the documents decide."""


@dataclass(frozen=True, slots=True)
class EffectiveImage:
    name: str
    spec: ImageSpec
    digest: str
    """sha256 of everything that the documents and their templates say about the image."""
    content: str
    """sha256 of the part that decides the disks made from the image. The content of the source is
    known only to ``images/``."""
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
