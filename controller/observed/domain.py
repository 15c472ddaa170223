"""A domain as Guestkeeper sees it: only the fields it owns.

The same ``DomainConfig`` is what the planner wants and what ``domain_xml.parse`` reads, so drift
is a comparison of two values of one type, and libvirt's own defaults, which the type has no room
for, can never be drift. ``hypervisor/`` renders it to XML.

Longer than other modules on purpose: all that is known of a domain stands on one page.
"""

import shlex
from dataclasses import dataclass, field
from enum import StrEnum

from controller.observed.base_names import file_name, is_base_name
from controller.observed.surroundings import Surroundings

NAMESPACE = "urn:guestkeeper:v1"
ALIAS_PREFIX = "ua-"
"""libvirt keeps an alias of ours across definitions only when it begins with this."""


class DomainState(StrEnum):
    """libvirt's virDomainState, by name."""

    RUNNING = "running"
    BLOCKED = "blocked"
    PAUSED = "paused"
    SHUTDOWN = "shutdown"  # being shut down
    SHUTOFF = "shutoff"
    CRASHED = "crashed"
    PMSUSPENDED = "pmsuspended"
    UNKNOWN = "unknown"

    @property
    def active(self) -> bool:
        return self not in (DomainState.SHUTOFF, DomainState.CRASHED, DomainState.UNKNOWN)


class StateReason(StrEnum):
    """The reasons of a state that a decision hangs on (virDomainShutoffReason and kin)."""

    SHUTDOWN = "shutdown"  # the guest powered itself off
    DESTROYED = "destroyed"  # somebody pulled the plug through libvirt
    CRASHED = "crashed"  # QEMU died
    FAILED = "failed"  # it could not be started, or libvirt lost it
    DAEMON = "daemon"  # libvirtd, started anew, could not get hold of its QEMU again
    IO_ERROR = "ioerror"  # paused: no room or a disk error
    USER = "user"  # paused by somebody
    PANICKED = "panicked"  # the guest's kernel panicked
    MIGRATED = "migrated"  # it runs on another host now
    SAVED = "saved"  # its run was saved to the host's disk, to go on from there
    OTHER = "other"  # libvirt does not know: never started, or off since before libvirtd started


@dataclass(frozen=True, slots=True)
class BootConfig:
    """Direct kernel boot; the paths are on the host, inside a pool."""

    kernel: str
    initrd: str | None
    args: str


@dataclass(frozen=True, slots=True)
class IoTune:
    """Limits of a disk (libvirt's ``<iotune>``), each a second; 0 is none. Bytes or operations."""

    total_bytes_sec: int = 0
    read_bytes_sec: int = 0
    write_bytes_sec: int = 0
    total_iops_sec: int = 0
    read_iops_sec: int = 0
    write_iops_sec: int = 0


NO_LIMITS = IoTune()


@dataclass(frozen=True, slots=True)
class DiskConfig:
    """A disk or CD-ROM: a volume of a pool. ``alias`` is without the ``ua-`` prefix."""

    alias: str  # "disk-system", "disk-NAME", "cdrom-seed", "cdrom-NAME"
    pool: str
    volume: str | None  # None: an empty CD-ROM drive
    format: str = "qcow2"  # qcow2 | raw
    device: str = "disk"  # disk | cdrom
    target: str = "vda"
    cache: str = ""  # libvirt's driver/@cache; '': the hypervisor's own choice
    io_tune: IoTune = NO_LIMITS
    path: str = field(default="", compare=False)
    """The path by which the definition names it, where it does so; the volume is that file."""
    bound: tuple[str, ...] = field(default=(), compare=False)
    """What of its source belongs to that very disk, and no document has words for."""
    below: tuple[str, ...] = field(default=(), compare=False, repr=False)
    """As it runs: the files it is an overlay of, as libvirt names them, the nearest first; a volume
    as POOL/VOLUME."""

    def __post_init__(self) -> None:
        # An empty drive has no pool, and libvirt's live XML forgets its format.
        if self.volume is None:
            object.__setattr__(self, "pool", "")
            object.__setattr__(self, "format", "raw")
        # Of another volume it is another path.
        if self.path.rpartition("/")[2] != self.volume:
            object.__setattr__(self, "path", "")

    @property
    def place(self) -> tuple[str, str | None]:
        return self.pool, self.volume

    @property
    def chained(self) -> bool:
        """Does it stand, as it runs, on more than the base of an image?"""
        return any(not is_base_name(file_name(path)) for path in self.below)


LIBVIRT_USER = "libvirt"
"""The source of ``<interface type='user'>``; ours stand among QEMU's arguments."""


@dataclass(frozen=True, slots=True)
class NicConfig:
    """A network interface. ``kind`` is user, network or bridge; ``source`` its name.

    Of a user interface that is '', or ``LIBVIRT_USER`` where it is none of ours.
    """

    alias: str  # "nic-NAME"
    kind: str
    source: str
    mac: str
    forwards: tuple[str, ...] = ()  # user only: "127.0.0.1:18080:80/tcp"
    model: str = "virtio"
    link: str = "up"  # up | down: is the cable plugged in?


def _whole_mib(size: int) -> int:
    return -(-size // 2**20) * 2**20


def _disk_order(disk: DiskConfig) -> tuple[bool, int, str]:
    return (disk.device == "cdrom", len(disk.target), disk.target)


def _nic_order(nic: NicConfig) -> bool:
    return nic.kind == "user"


@dataclass(frozen=True, slots=True)
class DomainConfig:
    """What a domain is defined as, in the fields we own. GuestRecord in bytes.

    Two values that libvirt would make the same domain of are equal: memory is rounded up to whole
    MiB (as libvirt does when the domain starts), disks stand in the order libvirt sorts them into
    (CD-ROMs after disks, then by target), QEMU's own user interfaces after libvirt's.
    """

    name: str
    uuid: str
    accelerator: str  # kvm | tcg
    vcpus: int
    max_vcpus: int
    memory: int
    max_memory: int
    firmware: str  # bios | efi
    boot: BootConfig | None
    disks: tuple[DiskConfig, ...]
    nics: tuple[NicConfig, ...]
    title: str = ""
    description: str = ""
    on_poweroff: str = "destroy"
    on_reboot: str = "restart"
    on_crash: str = "destroy"
    agent_channel: bool = True
    """Has it the virtio-serial port that the guest agent listens on?"""
    taken: frozenset[str] = field(default=frozenset(), compare=False, repr=False)
    """The targets of all its disks and drives, also of those that are not ours."""
    writes: frozenset[str] = field(default=frozenset(), compare=False, repr=False)
    """The bases of images (file names) that a disk of it is on itself, to be written to."""
    around: Surroundings = field(default=Surroundings(), compare=False, repr=False)
    """What of it is not ours and decides what can be changed."""
    addresses: frozenset[str] = field(default=frozenset(), compare=False, repr=False)
    """MAC addresses and ports of the host of all its interfaces, also of those that are not ours
    (``observed.addresses``)."""
    boot_disk: str = field(default="", compare=False)
    """Of a foreign domain: the target of the disk it boots from; '' where that is not known."""
    boot_doubt: str = field(default="", compare=False)
    """Of a foreign domain: why that is not known, and what to do."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "memory", _whole_mib(self.memory))
        object.__setattr__(self, "max_memory", _whole_mib(self.max_memory))
        object.__setattr__(self, "disks", tuple(sorted(self.disks, key=_disk_order)))
        object.__setattr__(self, "nics", tuple(sorted(self.nics, key=_nic_order)))

    def disk(self, alias: str) -> DiskConfig | None:
        return next((disk for disk in self.disks if disk.alias == alias), None)


@dataclass(frozen=True, slots=True)
class SystemDisk:
    """A system disk a guest has, had or shall have, with the kernel that belongs to it."""

    pool: str
    volume: str
    base: str = ""
    """The base volume it is an overlay of; '' where it is not known."""
    kernel: str = ""
    initrd: str = ""
    args: str = ""
    format: str = "qcow2"

    @property
    def place(self) -> tuple[str, str]:
        return self.pool, self.volume


@dataclass(frozen=True, slots=True)
class DiskVolume:
    """Which volume a disk of the guest is on, in what format, and as which target it has it."""

    alias: str
    pool: str
    volume: str
    format: str = ""
    target: str = ""
    """'' where an older version wrote it down."""

    @property
    def place(self) -> tuple[str, str]:
        return self.pool, self.volume


@dataclass(frozen=True, slots=True)
class NicAddress:
    """Which MAC address an interface of the guest has."""

    alias: str
    mac: str


@dataclass(frozen=True, slots=True)
class RetiredDisk:
    """A system disk that a replacement took out, kept for ``retiredDiskTTL``."""

    disk: SystemDisk
    since: float
    why: str
    """``replaced``: it worked, and ``rollback`` swaps it back; ``failed``: it did not come up;
    ``rolled-back``: an operator did not want it."""


class ReplacePhase(StrEnum):
    """How far the replacement of a system disk has come."""

    PREPARING = "preparing"  # the new disk is made beside the running guest
    STOPPING = "stopping"  # the guest was asked to shut down
    CONFIRMING = "confirming"  # the new disk is in; the guest starts and has to become ready
    RETURNING = "returning"  # it did not: the guest is stopped, to get its old disk back


@dataclass(frozen=True, slots=True)
class Replacement:
    """A replacement under way. Times are epoch seconds."""

    to: SystemDisk
    back: SystemDisk
    why: str  # image | rollback
    phase: ReplacePhase
    since: float
    agent: bool = False
    """The guest agent was connected before: so it has to be with the new disk."""
    swapped_at: float | None = None
    """When the new disk was put in: ``progressDeadline`` counts from here."""
    failure: str = ""
    """Why it goes back."""


@dataclass(frozen=True, slots=True)
class GuestRecord:
    """What must outlive the daemon about a guest; it lives in the domain's metadata.

    Times are seconds since the epoch. Several write it (the loop, the operator's commands), so
    nobody writes it whole: a step names the fields that it changes.
    """

    start_attempts: int = 0
    """Starts tried because the guest was found stopped, since it last ran undisturbed for long."""
    last_start_attempt: float | None = None
    shutdown_requested: float | None = None
    """When the guest was last asked to shut down by the daemon: written once the call came back
    well, never before."""
    stop_for: str = ""
    """What it is stopped for: ``halt``, ``restart``, ``replace``, ``delete``. An intention, until
    ``shutdown_requested`` says that it was asked."""
    stop_run: int | None = None
    """Which run of the domain is meant (``DomainView.run``); another run was not asked."""
    stop_wanted: float | None = None
    """When that was decided."""
    stop_key: str = ""
    """What becomes ``restarted_for`` once it has booted."""
    starting: bool = False
    """It is to be started whatever its run strategy says: we stopped it for something else."""
    agent_seen: bool = False
    """Its agent was connected once: where it is not, something is amiss."""
    finished: bool = False
    """It shut itself down; libvirt forgets that reason when it is restarted itself."""
    restart_requested: float | None = None
    """When an operator asked for a cold boot."""
    suspended: bool = False
    """An operator wants it left alone."""
    approved: str = ""
    """The base that an operator approved a replacement to."""
    approved_now: bool = False
    """That approval does not wait for a maintenance window."""
    refused: str = ""
    """A base that is not tried again unasked: a replacement to it failed or was rolled back."""
    refused_why: str = ""
    rollback: bool = False
    """An operator wants the last retired disk back."""
    replacement: Replacement | None = None
    retired: tuple[RetiredDisk, ...] = ()
    volumes: tuple[DiskVolume, ...] = ()
    """The volumes that its disks were put on; whatever else stands in the definition is drift."""
    macs: tuple[NicAddress, ...] = ()
    """The same of its interfaces."""
    restarted_for: str = ""
    """What the last cold boot by itself was for, written once it was booted: one that does not help
    is not done again."""
    controller: str = ""
    """The daemon that looks after it: only that one may ever delete it."""
    deletion_policy: str = ""
    """``deletionPolicy`` as last seen in its document: what counts once that is gone."""
    orphaned_since: float | None = None
    """Since when its document is missing."""
    deletion_blocked: bool = False
    """The deletion guard held its end back once: only an operator, or its document, ends that."""
    deletion_approved: float | None = None
    """When an operator approved what the deletion guard held back."""
    deleting: bool = False
    """Its disks are being deleted: there is no way back any more."""

    @property
    def stopped_at(self) -> float | None:
        """The latest moment at which it was asked to shut down, or that was decided: a kill between
        call and note leaves the decision alone."""
        times = [at for at in (self.shutdown_requested, self.stop_wanted) if at is not None]
        return max(times, default=None)


@dataclass(frozen=True, slots=True)
class Ownership:
    """Our element in the domain's ``<metadata>``; a domain without it is foreign."""

    uid: str
    name: str
    generation: int
    digest: str
    """Digest of the effective spec that was last applied whole; '' before the first time."""
    spec: str
    """That spec, as canonical JSON (``planning.changes.spec_document``); '' before."""
    record: GuestRecord = field(default_factory=GuestRecord)
    created: float = 0.0
    """When the guest was made, epoch seconds; 0 where it is not known."""
    base: str = ""
    """The base volume its system disk was made from; '' where it is not known."""


@dataclass(frozen=True, slots=True)
class DomainView:
    """One domain, looked at. ``config`` is the persistent definition, ``live`` the running one."""

    name: str
    uuid: str
    state: DomainState
    reason: StateReason
    ownership: Ownership | None
    config: DomainConfig
    live: DomainConfig | None
    persistent: bool = True
    agent_connected: bool = False
    started_at: float | None = None
    """Epoch seconds when the daemon saw it start; None when it was running before."""
    running_job: bool = False
    """A backup, migration, save or copy of a disk is under way."""
    run: int | None = None
    """libvirt's id of this run of the domain, another after each start; None while it is off."""
    autostart: bool = False
    saved: bool = False
    """libvirt keeps a saved run of it (managed save), also where the reason is forgotten: its next
    start goes on from there."""

    @property
    def ours(self) -> bool:
        """Carries our element, and as its own: a clone of one of our domains is foreign."""
        owner = self.ownership
        return owner is not None and owner.uid == self.uuid and owner.name == self.name

    @property
    def go_on(self) -> str:
        """The command that lets a paused or sleeping one go on."""
        verb = "dompmwakeup" if self.state is DomainState.PMSUSPENDED else "resume"
        return f"virsh {verb} {shlex.quote(self.name)}"

    @property
    def record(self) -> GuestRecord:
        """What our element remembers; of a domain without one, nothing."""
        return self.ownership.record if self.ownership is not None else GuestRecord()
