"""The schema of an Image: ready disks, unattended installs, direct boot."""

from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from controller.desired.schema.fields import (
    BridgeName,
    Change,
    FileOrUrl,
    KernelArguments,
    KickstartVersion,
    NetworkName,
    Only,
    OpenUrl,
    PoolName,
    RelativeFile,
    Sha256,
    TemplateFile,
    Url,
    VolumeName,
)
from controller.desired.schema.model import Accelerator, Firmware, Model, SecretRef, one_of
from controller.desired.schema.quantities import Duration, Size, format_size


class OsFamily(StrEnum):
    """The family of the operating system: decides the package manager (apt, dnf, zypper)."""

    DEBIAN = "debian"
    RHEL = "rhel"
    SUSE = "suse"


class IsoVolume(Model):
    """An installation medium: a volume in a pool of the host."""

    pool: PoolName | None = None
    volume: VolumeName


class InstallLocation(Model):
    """Where the installer comes from: a ``tree``, an ``iso``, or ``kernel`` and ``initrd``."""

    tree: OpenUrl | None = None
    iso: IsoVolume | None = None
    kernel: FileOrUrl | None = None
    kernel_sha256: Sha256 | None = Field(None, alias="kernelSha256")
    initrd: FileOrUrl | None = None
    initrd_sha256: Sha256 | None = Field(None, alias="initrdSha256")
    repo: OpenUrl | None = None
    args: KernelArguments = ""
    """Kernel arguments in addition to those that the kind of install needs."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        one_of(self, "tree", "iso", "kernel")
        if (self.kernel is None) != (self.initrd is None):
            raise PydanticCustomError(
                "kernel_initrd", "kernel and initrd belong together; give both or neither"
            )
        if self.tree is not None and self.repo is not None:
            raise PydanticCustomError(
                "repo_alone", "repo belongs beside kernel or iso; a tree is its own, remove it"
            )
        for name in ("kernel", "initrd"):
            source, sha256 = getattr(self, name), getattr(self, f"{name}_sha256")
            if source is None and sha256 is not None:
                raise PydanticCustomError(
                    "sha256_alone",
                    "{name}Sha256 belongs beside {name}; remove it or give {name}",
                    {"name": name},
                )
            if source is not None and "://" in source and sha256 is None:
                raise PydanticCustomError(
                    "sha256_missing",
                    "{name} needs {name}Sha256 beside it; add the sha256 of what it serves",
                    {"name": name},
                )
        return self


class Install(Model):
    """An unattended install: an installer, and an answer file rendered from a template.

    ``template`` is a file beside the document, or one of those that come with guestkeeper.
    """

    template: TemplateFile
    location: InstallLocation
    values: dict[str, Any] = {}
    root_password_hash_from: SecretRef | None = Field(None, alias="rootPasswordHashFrom")
    ssh_authorized_keys_from: list[SecretRef] = Field([], alias="sshAuthorizedKeysFrom")


class Delivery(StrEnum):
    """How a kickstart reaches Anaconda: in its initrd, or on a volume labelled OEMDRV."""

    INITRD = "initrd"
    OEMDRV = "oemdrv"


class Kickstart(Install):
    """An unattended install of RHEL, a relative of it, or Fedora, by Anaconda."""

    version: KickstartVersion
    delivery: Delivery = Field(Delivery.INITRD, strict=False)


class Preseed(Install):
    """An unattended install of Debian by debian-installer, with the answer file in its initrd."""


class Autoinstall(Install):
    """An unattended install of Ubuntu by subiquity, with the answer file on a volume CIDATA."""

    @model_validator(mode="after")
    def _no_tree(self) -> Self:
        if self.location.tree is not None:
            raise PydanticCustomError(
                "no_tree", "Ubuntu has no installer tree; give location iso, or kernel and initrd"
            )
        return self


class ImageDisk(Model):
    """The disk that the installer writes to; a guest's system disk may be larger."""

    size: Size = 10 * 2**30


class ImageBuilder(Model):
    """The machine that the installer runs on. Without ``network`` or ``bridge``: QEMU's NAT.

    ``firmware`` is also that of the guests: the installed system boots with no other.
    """

    vcpus: Annotated[int, Field(ge=1, le=512)] = 2
    memory: Size = 3 * 2**30
    firmware: Firmware = Field(Firmware.BIOS, strict=False)
    accelerator: Accelerator = Field(Accelerator.AUTO, strict=False)
    network: NetworkName | None = None
    bridge: BridgeName | None = None

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.network is not None and self.bridge is not None:
            one_of(self, "network", "bridge")
        if self.memory < 64 * 2**20:
            raise PydanticCustomError(
                "memory_small",
                "memory must be at least 64Mi, not {size}; write such as 3Gi",
                {"size": format_size(self.memory)},
            )
        return self


class ImageSource(Model):
    """Where the operating system's disk comes from."""

    file: RelativeFile | None = None
    url: Url | None = None
    sha256: Sha256 | None = None
    kickstart: Kickstart | None = None
    preseed: Preseed | None = None
    autoinstall: Autoinstall | None = None

    @property
    def install(self) -> Kickstart | Preseed | Autoinstall | None:
        """The unattended install; None for a ready disk."""
        return self.kickstart or self.preseed or self.autoinstall

    @model_validator(mode="after")
    def _one(self) -> Self:
        one_of(self, "file", "url", "kickstart", "preseed", "autoinstall")
        if self.url is not None and self.sha256 is None:
            raise PydanticCustomError(
                "sha256_missing", "url needs sha256 beside it; add the sha256 of what it serves"
            )
        if self.url is None and self.sha256 is not None:
            raise PydanticCustomError(
                "sha256_alone", "sha256 belongs beside url only; remove it or give url"
            )
        return self


class DirectBoot(Model):
    """Direct boot: QEMU gets kernel and initrd directly, for images without a boot loader."""

    kernel: RelativeFile
    initrd: RelativeFile | None = None
    args: KernelArguments = ""


class Rollout(Model):
    """How a changed image reaches the guests with ``updatePolicy.replace: Automatic``."""

    max_parallel: Annotated[int, Field(ge=1, le=1000), Change.CONTROLLER] = Field(
        1, alias="maxParallel"
    )


class ImageSpec(Model):
    """How an operating system gets onto a disk."""

    os_family: Annotated[OsFamily, Only("debian", "rhel")] = Field(alias="osFamily", strict=False)
    source: ImageSource
    boot: DirectBoot | None = None
    cloud_init: bool = Field(False, alias="cloudInit")
    disk: ImageDisk = ImageDisk()
    builder: ImageBuilder = ImageBuilder()
    timeout: Duration | None = None
    """Seconds that an attempt may take; unset: 45 minutes with KVM, 180 minutes without."""
    stall_timeout: Duration = Field(600.0, alias="stallTimeout")
    """Seconds without a byte from the installer after which the attempt has failed."""
    retries: Annotated[int, Field(ge=0, le=10)] = 1
    keep_failed_builder: bool = Field(False, alias="keepFailedBuilder")
    rollout: Annotated[Rollout, Change.CONTROLLER] = Rollout()

    @model_validator(mode="after")
    def _installs(self) -> Self:
        if self.source.install is not None:
            if self.boot is not None:
                raise PydanticCustomError(
                    "not_of_source",
                    "belongs to a ready disk; an installed one has its boot loader: remove it",
                    {"field": "boot"},
                )
            return self
        names = ("disk", "builder", "timeout", "stall_timeout", "retries", "keep_failed_builder")
        given = [
            type(self).model_fields[name].alias or name
            for name in names
            if name in self.model_fields_set
        ]
        if given:
            raise PydanticCustomError(
                "not_of_source",
                "belongs to an unattended install (kickstart, preseed, autoinstall); remove"
                " {given}",
                {"field": given[0], "given": ", ".join(given)},
            )
        return self
