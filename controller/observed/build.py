"""An image's build as it is seen: the builder domain, and what is written down in its metadata.

The builder domain is the record of its own build: which image and content it is for, which attempt
it is, how far it came and how it ended. So a daemon that is killed and started anew goes on where
the other one stopped, and a failure stands next to the thing that failed. No I/O.
"""

import hashlib
from dataclasses import dataclass, replace
from enum import StrEnum

from controller.observed.domain import DomainState, StateReason

MARKER_CHANNEL = "org.guestkeeper.build.0"
"""The virtio-serial port on which the answer file's scripts say how far they are, and how it ended.

A line is a word and its text: ``phase NAME``, ``unsealed WHAT`` (it should be clean and is not),
``sealed`` (everything was inspected and is clean), ``failure TEXT``, ``success`` (the last). The
last two are answered with the line ``ok`` once they are written down; the scripts say them again
until then, so that a daemon killed in between loses nothing.
"""
LOG_CHANNEL = "org.fedoraproject.anaconda.log.0"
"""The port on which Anaconda writes its log, if there is one of that name."""


INFIX = ".build-"


class Step(StrEnum):
    """How far the build's own bookkeeping is; what the installer says is ``phase``."""

    DEFINED = "defined"  # its disk and media are there; it may or may not have been started
    STARTED = "started"
    FAILED = "failed"  # this attempt is over; ``reason`` and ``message`` say why


@dataclass(frozen=True, slots=True)
class BuildRecord:
    """What the builder's metadata holds. Times are epoch seconds."""

    image: str
    content: str
    """``EffectiveImage.content``: what the documents said of it when it was begun."""
    pool: str
    base: str
    """The volume that is installed to, and becomes the base when it gets its marker."""
    owner: str = ""
    """Which daemon began it: only that one removes it when nobody wants it any more."""
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
        """The attempt is over."""
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
    """The volume installed to; qcow2, seen as ``vda``."""
    kernel: str = ""
    initrd: str = ""
    args: str = ""
    drives: tuple[BuildDrive, ...] = ()
    firmware: str = "bios"  # bios | efi
    network: str | None = None
    """libvirt network; with no ``bridge`` either, QEMU's own NAT."""
    bridge: str | None = None

    def with_media(self, kernel: str, initrd: str, answer_iso: str | None) -> "BuilderConfig":
        """With what was put into the pool to start it; ``answer_iso`` is a volume of ``pool``."""
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
    """A builder domain, looked at freshly. ``record`` None: a domain of that name is not ours."""

    name: str
    state: DomainState
    reason: StateReason
    record: BuildRecord | None

    @property
    def active(self) -> bool:
        return self.state.active


def builder_name(image: str, pool: str, base: str) -> str:
    """The domain name of the builder of the volume ``base``; '.' is in no guest's name."""
    digest = hashlib.sha256(f"{pool}/{base}".encode()).hexdigest()
    return f"{image}{INFIX}{digest[:12]}"


def is_builder_name(domain: str) -> bool:
    """Whether a domain of that name can be a builder, and no guest."""
    return INFIX in domain
