"""The steps a plan can have. They are data only; ``execution/`` carries out each as one idempotent
effect.

A step holds all that its effect needs, so what ``guestkeeper plan`` prints is what would be done.
``LONG`` steps run in the background, one at a time for a guest; nothing may follow one in a plan.
"""

from dataclasses import dataclass
from typing import Any

from controller.desired.schema.quantities import format_size
from controller.observed.domain import DomainConfig, Ownership, RetiredDisk


@dataclass(frozen=True, slots=True)
class PrepareImage:
    """Bring the image's base volume into the pool."""

    pool: str
    image: str

    def __str__(self) -> str:
        return f"prepare image {self.image} in pool {self.pool}"


@dataclass(frozen=True, slots=True)
class CreateVolume:
    """Make a disk of ``capacity`` bytes: an overlay of ``backing`` (path, format), or empty."""

    pool: str
    volume: str
    capacity: int
    backing: tuple[str, str] | None = None

    def __str__(self) -> str:
        of = f", an overlay of {self.backing[0].rpartition('/')[2]}" if self.backing else ""
        return f"create volume {self.pool}/{self.volume} of {format_size(self.capacity)}{of}"


@dataclass(frozen=True, slots=True)
class CreateSeed:
    """Make the NoCloud seed that configures the guest at its first boot."""

    pool: str
    volume: str
    instance_id: str

    def __str__(self) -> str:
        return f"create cloud-init seed {self.pool}/{self.volume}"


@dataclass(frozen=True, slots=True)
class EjectSeed:
    """Empty the drive of the seed, which has been used."""

    alias: str

    def __str__(self) -> str:
        return "eject the used cloud-init seed"


@dataclass(frozen=True, slots=True)
class DeleteSeed:
    """Delete the seed, which is in no drive any more."""

    pool: str
    volume: str

    def __str__(self) -> str:
        return f"delete the used cloud-init seed {self.pool}/{self.volume}"


@dataclass(frozen=True, slots=True)
class DeleteVolume:
    """Delete a system disk, or a seed, that is not needed any more; never a data disk."""

    pool: str
    volume: str
    why: str

    def __str__(self) -> str:
        return f"delete volume {self.pool}/{self.volume} ({self.why})"


@dataclass(frozen=True, slots=True)
class DeleteRetired:
    """Delete a retired system disk, and remove it from the list in the record."""

    retired: RetiredDisk
    why: str

    def __str__(self) -> str:
        disk = self.retired.disk
        return f"delete volume {disk.pool}/{disk.volume} ({self.why})"


@dataclass(frozen=True, slots=True)
class DefineDomain:
    """Define the domain, or redefine it under the same UUID.

    In the metadata of an existing domain only ``marks`` (fields of ``Ownership``) and ``record``
    (fields of its ``GuestRecord``) are changed, in the same call as the definition. ``ownership``
    is for a new domain.
    """

    config: DomainConfig
    ownership: Ownership
    new: bool
    marks: tuple[tuple[str, Any], ...] = ()
    record: tuple[tuple[str, Any], ...] = ()
    why: str = ""

    def __str__(self) -> str:
        verb = "define" if self.new else "redefine"
        why = f": {self.why}" if self.why else ""
        return f"{verb} domain {self.config.name} ({self.config.uuid}){why}"


@dataclass(frozen=True, slots=True)
class AdoptDomain:
    """Put our metadata on a foreign domain and our aliases on its devices; it is not stopped.

    ``aliases`` are pairs of a device's place (a disk's target, an interface's MAC) and its alias;
    ``disks`` are all its disks as (target, pool, volume or path): if it has others by then, it is
    not adopted.
    """

    uuid: str
    ownership: Ownership
    aliases: tuple[tuple[str, str], ...]
    disks: tuple[tuple[str, str, str], ...] = ()

    def __str__(self) -> str:
        return f"take over domain {self.ownership.name} ({self.uuid})"


@dataclass(frozen=True, slots=True)
class UndefineDomain:
    """Undefine the domain, with its NVRAM; other steps delete its volumes."""

    def __str__(self) -> str:
        return "undefine the domain"


@dataclass(frozen=True, slots=True)
class UpdateRecord:
    """Write what must outlive the daemon into the domain's metadata.

    ``changes`` are fields of ``GuestRecord``; the others stay as they are. So does a field with an
    operator's request that was written after the observation.
    """

    changes: tuple[tuple[str, Any], ...]

    def __str__(self) -> str:
        names = ", ".join(name.replace("_", " ") for name, _ in self.changes)
        return f"record in the domain's metadata: {names}"


def update_record(**changes: Any) -> UpdateRecord:
    """An ``UpdateRecord`` of these fields of ``GuestRecord``."""
    return UpdateRecord(tuple(changes.items()))


@dataclass(frozen=True, slots=True)
class RecordApplied:
    """Write into the metadata that the spec with this digest is applied whole."""

    generation: int
    digest: str
    spec: str

    def __str__(self) -> str:
        return f"record generation {self.generation} as applied"


@dataclass(frozen=True, slots=True)
class StartDomain:
    """Start the domain. ``noted`` (fields of ``GuestRecord``) is written after the start was tried,
    with the time, also if it failed; not if the host did not even try or gave no answer.
    """

    why: str
    noted: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        return f"start domain ({self.why})"


@dataclass(frozen=True, slots=True)
class ShutdownDomain:
    """Ask ``run`` of the domain to shut down. The request is recorded after the call succeeded; one
    that was refused, or gave no answer, is repeated.
    """

    run: int | None = None

    def __str__(self) -> str:
        return "ask the guest to shut down (agent, then ACPI)"


@dataclass(frozen=True, slots=True)
class DestroyDomain:
    """Power off the run that was observed, and no later one, which was not asked to shut down."""

    why: str

    def __str__(self) -> str:
        return f"power off the domain ({self.why})"


# --- Changes of a domain, most of them while it runs: the definition has them already -------------


@dataclass(frozen=True, slots=True)
class SetVcpus:
    """Plug in vCPUs, up to the domain's maximum."""

    count: int

    def __str__(self) -> str:
        return f"give the running domain {self.count} vCPUs"


@dataclass(frozen=True, slots=True)
class SetMemory:
    """Set the memory balloon. ``size`` in bytes."""

    size: int

    def __str__(self) -> str:
        return f"give the running domain {format_size(self.size)} of memory"


@dataclass(frozen=True, slots=True)
class PlugDevice:
    """Attach a device as the definition has it."""

    alias: str

    def __str__(self) -> str:
        return f"attach {self.alias} to the running domain"


@dataclass(frozen=True, slots=True)
class UnplugDevice:
    """Detach a device, and wait until the guest has released it."""

    alias: str

    def __str__(self) -> str:
        return f"detach {self.alias} from the running domain"


@dataclass(frozen=True, slots=True)
class UpdateDevice:
    """Change an interface's source or link, or a drive's medium, to what the definition has."""

    alias: str

    def __str__(self) -> str:
        return f"change {self.alias} of the running domain"


@dataclass(frozen=True, slots=True)
class SetIoTune:
    """Set the limits of a disk to those of the definition."""

    alias: str

    def __str__(self) -> str:
        return f"set the I/O limits of {self.alias} of the running domain"


@dataclass(frozen=True, slots=True)
class SetTitle:
    """Set title and description of the running domain."""

    title: str
    description: str

    def __str__(self) -> str:
        return "set title and description of the running domain"


@dataclass(frozen=True, slots=True)
class SetAutostart:
    """Set whether libvirt starts the domain when it starts itself."""

    on: bool

    def __str__(self) -> str:
        return f"turn autostart {'on' if self.on else 'off'}"


@dataclass(frozen=True, slots=True)
class GrowDisk:
    """Make a disk larger, whether its domain runs or not. ``size`` in bytes."""

    alias: str
    pool: str
    volume: str
    size: int

    def __str__(self) -> str:
        return f"grow {self.pool}/{self.volume} to {format_size(self.size)}"


# --- The inside -----------------------------------------------------------------------------------


NOTHING_KNOWN = "nothing is known yet"


@dataclass(frozen=True, slots=True)
class LookInside:
    """One exec that finds the state of everything the guest's services name.

    ``why`` is ``NOTHING_KNOWN`` for the first look at a run; later looks become due by time.
    """

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
    | DeleteVolume
    | DeleteRetired
    | DefineDomain
    | AdoptDomain
    | UndefineDomain
    | UpdateRecord
    | RecordApplied
    | StartDomain
    | ShutdownDomain
    | DestroyDomain
    | SetVcpus
    | SetMemory
    | PlugDevice
    | UnplugDevice
    | UpdateDevice
    | SetIoTune
    | SetTitle
    | SetAutostart
    | GrowDisk
    | LookInside
    | ApplyInside
)


ALONE = (
    SetVcpus, SetMemory, PlugDevice, UnplugDevice, UpdateDevice, SetIoTune, SetTitle, SetAutostart,
    GrowDisk, DeleteRetired,
)  # fmt: skip
"""Steps that no other step depends on: if one of them fails, the rest goes on."""
DRASTIC = (ShutdownDomain, DestroyDomain, DeleteVolume, DeleteRetired, UndefineDomain)
"""Steps that cannot be undone: right before one, it is checked that no operator suspended it."""
LONG = (PrepareImage, UnplugDevice, LookInside, ApplyInside)


def step_name(step: Step) -> str:
    """The step's name in logs, failures and metrics, for example ``StartDomain``."""
    return type(step).__name__
