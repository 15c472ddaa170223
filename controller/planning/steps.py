"""The steps a plan can have: data only, each one idempotent effect, for ``execution/``.

A step holds all that its effect needs, so what ``guestkeeper plan`` prints is what would be done.
``LONG`` steps run beside the loop, one at a time for a guest; nothing may follow one in a plan.
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
class DeleteVolume:
    """Delete a system disk, or a seed, that is not needed any more; never a data disk."""

    pool: str
    volume: str
    why: str

    def __str__(self) -> str:
        return f"delete volume {self.pool}/{self.volume} ({self.why})"


@dataclass(frozen=True, slots=True)
class DeleteRetired:
    """Delete a retired system disk, and strike it from the list of them."""

    retired: RetiredDisk
    why: str

    def __str__(self) -> str:
        disk = self.retired.disk
        return f"delete volume {disk.pool}/{disk.volume} ({self.why})"


@dataclass(frozen=True, slots=True)
class DefineDomain:
    """Define the domain, or redefine it under the same UUID.

    Of a domain that is there only ``marks`` (fields of ``Ownership``) and ``record`` (fields of
    its ``GuestRecord``) are changed in its element, with the definition and at once;
    ``ownership`` counts for a new one.
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
    """Put our mark on a foreign domain and our aliases on its devices; it runs on untouched.

    ``aliases`` are pairs of a device's place (a disk's target, an interface's MAC) and its alias;
    ``disks`` are all its disks as (target, pool, volume or path): with others it is not adopted.
    """

    uuid: str
    ownership: Ownership
    aliases: tuple[tuple[str, str], ...]
    disks: tuple[tuple[str, str, str], ...] = ()

    def __str__(self) -> str:
        return f"take over domain {self.ownership.name} ({self.uuid})"


@dataclass(frozen=True, slots=True)
class UndefineDomain:
    """Forget the domain, with its NVRAM; its volumes are other steps'."""

    def __str__(self) -> str:
        return "undefine the domain"


@dataclass(frozen=True, slots=True)
class UpdateRecord:
    """Write what must outlive the daemon into the domain's metadata.

    ``changes`` are fields of ``GuestRecord``; all others stay as they are then. So does one that
    holds an operator's wish and was written since it was looked at.
    """

    changes: tuple[tuple[str, Any], ...]

    def __str__(self) -> str:
        names = ", ".join(name.replace("_", " ") for name, _ in self.changes)
        return f"record in the domain's metadata: {names}"


def remember(**changes: Any) -> UpdateRecord:
    """``UpdateRecord`` of these fields of ``GuestRecord``."""
    return UpdateRecord(tuple(changes.items()))


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
    """``noted`` (fields of ``GuestRecord``) is written down once the start was tried, with the
    time: whether it went well or failed, but not where the host did not even try, or gave no
    answer.
    """

    why: str
    noted: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        return f"start domain ({self.why})"


@dataclass(frozen=True, slots=True)
class ShutdownDomain:
    """``run`` of the domain is asked. That it was is written down once the call came back well:
    what was refused, or gave no answer, is asked again.
    """

    run: int | None = None

    def __str__(self) -> str:
        return "ask the guest to shut down (agent, then ACPI)"


@dataclass(frozen=True, slots=True)
class DestroyDomain:
    """Pull the plug on the run that was looked at; on no other, which nobody asked."""

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
    """Set the balloon. Bytes."""

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
    """Detach a device, and wait until the guest has let go of it."""

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
    """Title and description of the running domain."""

    title: str
    description: str

    def __str__(self) -> str:
        return "set title and description of the running domain"


@dataclass(frozen=True, slots=True)
class SetAutostart:
    """Shall libvirt start the domain when it starts itself?"""

    on: bool

    def __str__(self) -> str:
        return f"turn autostart {'on' if self.on else 'off'}"


@dataclass(frozen=True, slots=True)
class GrowDisk:
    """Make a disk larger, whether its domain runs or not. Bytes."""

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

    ``why`` is ``NOTHING_KNOWN`` for the first look at a run; others are due by their time.
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
"""Nothing else of a plan leans on them: while one of them fails, the rest goes on."""
DRASTIC = (ShutdownDomain, DestroyDomain, DeleteVolume, DeleteRetired, UndefineDomain)
"""What cannot be taken back: right before it, an operator's word counts."""
LONG = (PrepareImage, UnplugDevice, LookInside, ApplyInside)


def step_name(step: Step) -> str:
    """The word for logs, failures and metrics: ``StartDomain``."""
    return type(step).__name__
