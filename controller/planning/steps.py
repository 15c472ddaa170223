"""The steps a plan can have: data only, each one idempotent effect, for ``execution/``.

A step holds all that its effect needs, so what ``guestkeeper plan`` prints is what would be done.
``LONG`` steps run beside the loop, one at a time for a guest; nothing may follow one in a plan.
"""

from dataclasses import dataclass

from controller.desired.quantities import format_size
from controller.observed.domain import DomainConfig, Memory, Ownership


@dataclass(frozen=True, slots=True)
class PrepareImage:
    """Bring the image's base volume into the pool."""

    pool: str
    image: str

    def __str__(self) -> str:
        return f"prepare image {self.image} in pool {self.pool}"


@dataclass(frozen=True, slots=True)
class CreateVolume:
    """Make a disk: an overlay of ``backing`` (path, format), or an empty one. Bytes."""

    pool: str
    volume: str
    capacity: int
    backing: tuple[str, str] | None = None

    def __str__(self) -> str:
        of = f", an overlay of {self.backing[0].rpartition('/')[2]}" if self.backing else ""
        return f"create volume {self.pool}/{self.volume} of {format_size(self.capacity)}{of}"


@dataclass(frozen=True, slots=True)
class CreateSeed:
    """Make the NoCloud seed that personalises the guest at its first boot."""

    pool: str
    volume: str
    instance_id: str

    def __str__(self) -> str:
        return f"create cloud-init seed {self.pool}/{self.volume}"


@dataclass(frozen=True, slots=True)
class EjectSeed:
    """Empty the seed's drive: it has been used."""

    alias: str

    def __str__(self) -> str:
        return "eject the used cloud-init seed"


@dataclass(frozen=True, slots=True)
class DeleteSeed:
    """Delete the seed, which no drive holds any more."""

    pool: str
    volume: str

    def __str__(self) -> str:
        return f"delete the used cloud-init seed {self.pool}/{self.volume}"


@dataclass(frozen=True, slots=True)
class DefineDomain:
    """Define the domain, or redefine it under the same UUID."""

    config: DomainConfig
    ownership: Ownership
    new: bool

    def __str__(self) -> str:
        verb = "define" if self.new else "redefine"
        return f"{verb} domain {self.config.name} ({self.config.uuid})"


@dataclass(frozen=True, slots=True)
class RecordMemory:
    """Write what must outlive the daemon into the domain's metadata, before acting on it."""

    memory: Memory

    def __str__(self) -> str:
        return "record the attempt in the domain's metadata"


@dataclass(frozen=True, slots=True)
class RecordApplied:
    """Write down that the spec with this digest is applied whole."""

    generation: int
    digest: str
    spec: str

    def __str__(self) -> str:
        return f"record generation {self.generation} as applied"


@dataclass(frozen=True, slots=True)
class StartDomain:
    why: str

    def __str__(self) -> str:
        return f"start domain ({self.why})"


@dataclass(frozen=True, slots=True)
class ShutdownDomain:
    def __str__(self) -> str:
        return "ask the guest to shut down (agent, then ACPI)"


@dataclass(frozen=True, slots=True)
class DestroyDomain:
    why: str

    def __str__(self) -> str:
        return f"power off the domain ({self.why})"


@dataclass(frozen=True, slots=True)
class LookInside:
    """One exec that finds the state of everything the guest's services name."""

    why: str

    def __str__(self) -> str:
        return f"look inside the guest ({self.why})"


@dataclass(frozen=True, slots=True)
class ApplyInside:
    """One exec that applies identity and these services, and looks again."""

    services: tuple[str, ...]
    identity: bool

    def __str__(self) -> str:
        what = [*(["identity"] if self.identity else []), *self.services]
        return f"apply {', '.join(what)} inside the guest"


Step = (
    PrepareImage
    | CreateVolume
    | CreateSeed
    | EjectSeed
    | DeleteSeed
    | DefineDomain
    | RecordMemory
    | RecordApplied
    | StartDomain
    | ShutdownDomain
    | DestroyDomain
    | LookInside
    | ApplyInside
)


LONG = (PrepareImage, LookInside, ApplyInside)


def step_name(step: Step) -> str:
    """The word for logs, failures and metrics: ``StartDomain``."""
    return type(step).__name__
