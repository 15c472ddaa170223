"""The effective desired state: what a Guest means once everything it names is resolved.

The catalog resolves ``use:``, merges values, renders templates and hangs the image on; from here
on nothing needs the documents. ``digest`` changes if and only if something a guest is made from
changed, so it is what "is this already applied?" compares.
"""

from dataclasses import dataclass

from controller.desired.schema import GuestSpec, ImageSpec, OnChange, OsFamily, Probe


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


@dataclass(frozen=True, slots=True)
class EffectiveImage:
    name: str
    spec: ImageSpec
    digest: str
    """sha256 of the Image's spec. The content's own digest is known only to ``images/``."""


@dataclass(frozen=True, slots=True)
class EffectiveGuest:
    name: str
    labels: tuple[tuple[str, str], ...]
    spec: GuestSpec
    image: EffectiveImage
    services: tuple[EffectiveService, ...]
    origin: Origin
    digest: str
    """sha256 of spec, image digest and service digests."""

    @property
    def hostname(self) -> str:
        return self.spec.hostname or self.name

    @property
    def os_family(self) -> OsFamily:
        return self.image.spec.os_family
