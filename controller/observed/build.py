"""The observed state of an image's build: the builder domain, and the record in its metadata.

The builder domain has the record of its own build: the image and content, the attempt, how far it
is and how it ended. So a daemon that is killed and restarted continues where the other one stopped,
and a failure is recorded on what failed. No I/O.
"""

import hashlib
from dataclasses import dataclass, replace
from enum import StrEnum

from controller.observed.domain import DomainState, StateReason

MARKER_CHANNEL = "org.guestkeeper.build.0"
"""The virtio-serial port on which the answer file's scripts report progress and result.

A line is a word and its text: ``phase NAME``, ``unsealed WHAT`` (it should be clean and is not),
``sealed`` (everything was inspected and is clean), ``failure TEXT``, ``success`` (the last). The
last two are answered with the line ``ok`` once they are recorded; the scripts repeat them until
then, so that a daemon killed in between loses nothing.
"""
LOG_CHANNEL = "org.fedoraproject.anaconda.log.0"
"""The port on which Anaconda writes its log, if it exists."""


INFIX = ".build-"


class Step(StrEnum):
    """How far our record of the build is; how far the installer is is in ``phase``."""

    DEFINED = "defined"  # its disk and media are there; it may or may not have been started
    STARTED = "started"
    FAILED = "failed"  # this attempt is over; ``reason`` and ``message`` say why


@dataclass(frozen=True, slots=True)
class BuildRecord:
    """The record in the builder's metadata. Times are epoch seconds."""

    image: str
    content: str
    """``EffectiveImage.content`` when the build was begun."""
    pool: str
    base: str
    """The volume that the installer writes to; it becomes the base when it gets its marker."""
    owner: str = ""
    """The daemon that began the build; only that one removes it when it is not wanted any more."""
    attempt: int = 1
    step: Step = Step.DEFINED
    started: float = 0.0
    phase: str = ""
    sealed: bool = False
    unsealed: str = ""
    """What the inspection found that must not be in a base."""
    succeeded: bool = False
    """The success marker was read."""
    failure: str = ""
    """The failure line that was read."""
    reason: str = ""
    message: str = ""
    ended: float = 0.0

    def failed(self, reason: str, message: str, now: float) -> "BuildRecord":
        """The record with this attempt failed at ``now``."""
        return replace(self, step=Step.FAILED, reason=reason, message=message, ended=now)


@dataclass(frozen=True, slots=True)
class BuildDrive:
    """A volume the installer sees as a CD-ROM: the installation medium, or the answer file's."""

    pool: str
    volume: str


@dataclass(frozen=True, slots=True)
class BuilderConfig:
    """What a builder domain is made of. Memory in bytes; kernel, initrd are paths on the host."""

    name: str
    accelerator: str  # kvm | tcg
    vcpus: int
    memory: int
    pool: str
    disk: str
    """The volume that the installer writes to; qcow2, seen as ``vda``."""
    kernel: str = ""
    initrd: str = ""
    args: str = ""
    drives: tuple[BuildDrive, ...] = ()
    firmware: str = "bios"  # bios | efi
    network: str | None = None
    """The libvirt network; without it and without ``bridge``, QEMU's own NAT."""
    bridge: str | None = None

    def with_media(self, kernel: str, initrd: str, answer_iso: str | None) -> "BuilderConfig":
        """The config with the media that start it; ``answer_iso`` is a volume of ``pool``."""
        drives = self.drives
        if answer_iso is not None:
            drives = (BuildDrive(self.pool, answer_iso), *drives)
        return replace(self, kernel=kernel, initrd=initrd, drives=drives)

    @property
    def without_installer(self) -> "BuilderConfig":
        """The persistent definition: the installed disk alone, no kernel, initrd or media."""
        return replace(self, kernel="", initrd="", args="", drives=())


@dataclass(frozen=True, slots=True)
class BuilderView:
    """An observed builder domain. ``record`` is None if a domain of that name is not ours."""

    name: str
    state: DomainState
    reason: StateReason
    record: BuildRecord | None

    @property
    def active(self) -> bool:
        return self.state.active


def builder_name(image: str, pool: str, base: str) -> str:
    """The domain name of the builder of the volume ``base``; guests' names never have a '.'."""
    digest = hashlib.sha256(f"{pool}/{base}".encode()).hexdigest()
    return f"{image}{INFIX}{digest[:12]}"


def is_builder_name(domain: str) -> bool:
    """Whether a domain of that name can be a builder, and so not a guest."""
    return INFIX in domain
