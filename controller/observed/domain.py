"""A domain as Guestkeeper sees it: only the fields that it owns.

The planner's wanted domain and the result of ``domain_xml.parse_config`` are both a
``DomainConfig``, so drift is a comparison of two values of one type; libvirt's own defaults have no
field in it, so they can never be drift. ``hypervisor/`` renders it to XML.

Longer than other modules on purpose: all that is known of a domain is on one page.
"""

import shlex
from dataclasses import dataclass, field
from enum import StrEnum

from controller.observed.base_names import file_name, is_base_name
from controller.observed.surroundings import Surroundings

NAMESPACE = "urn:guestkeeper:v1"
ALIAS_PREFIX = "ua-"
"""libvirt keeps an alias across definitions only if it begins with this."""


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
    """The reasons of a state that decisions depend on (virDomainShutoffReason and similar)."""

    SHUTDOWN = "shutdown"  # the guest powered itself off
    DESTROYED = "destroyed"  # forced off through libvirt
    CRASHED = "crashed"  # QEMU died
    FAILED = "failed"  # it could not be started, or libvirt lost it
    DAEMON = "daemon"  # libvirtd was restarted and could not reconnect to its QEMU
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
    """I/O limits of a disk (``<iotune>``), in bytes or operations per second; 0 is no limit."""

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
    """The path by which the definition names the disk, if it does; the volume is that file."""
    bound: tuple[str, ...] = field(default=(), compare=False)
    """Elements of its source that belong to that very disk, and that documents cannot express."""
    below: tuple[str, ...] = field(default=(), compare=False, repr=False)
    """In live XML: the files that it is an overlay of, as libvirt names them, the nearest first; a
    volume as POOL/VOLUME."""

    def __post_init__(self) -> None:
        # An empty drive has no pool, and libvirt's live XML forgets its format.
        if self.volume is None:
            object.__setattr__(self, "pool", "")
            object.__setattr__(self, "format", "raw")
        # The path of another volume is not the path of this one.
        if self.path.rpartition("/")[2] != self.volume:
            object.__setattr__(self, "path", "")

    @property
    def place(self) -> tuple[str, str | None]:
        return self.pool, self.volume

    @property
    def chained(self) -> bool:
        """Whether the running disk is an overlay of anything but the base of an image."""
        return any(not is_base_name(file_name(path)) for path in self.below)


LIBVIRT_USER = "libvirt"
"""The source of ``<interface type='user'>``; our own are among QEMU's arguments."""


@dataclass(frozen=True, slots=True)
class NicConfig:
    """A network interface. ``kind`` is user, network or bridge; ``source`` is its name.

    For a user interface ``source`` is '', or ``LIBVIRT_USER`` if it is not ours.
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
    """A domain's definition in the fields that we own. Memory in bytes.

    Two values that give the same domain in libvirt are equal: memory is rounded up to whole MiB (as
    libvirt does when the domain starts), disks are in the order that libvirt sorts them into
    (CD-ROMs after disks, then by target), QEMU's own user interfaces come after libvirt's.
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
    """Whether it has the virtio-serial port that the guest agent listens on."""
    taken: frozenset[str] = field(default=frozenset(), compare=False, repr=False)
    """The targets of all its disks and drives, including those that are not ours."""
    writes: frozenset[str] = field(default=frozenset(), compare=False, repr=False)
    """Bases of images (file names) that one of its disks uses directly, and can write to."""
    around: Surroundings = field(default=Surroundings(), compare=False, repr=False)
    """Parts of it that are not ours but decide what can be changed."""
    addresses: frozenset[str] = field(default=frozenset(), compare=False, repr=False)
    """MAC addresses and ports of the host of all its interfaces, including those that are not ours
    (``observed.addresses``)."""
    boot_disk: str = field(default="", compare=False)
    """Of a foreign domain: the target of the disk that it boots from; '' if not known."""
    boot_doubt: str = field(default="", compare=False)
    """Of a foreign domain: why the boot disk is not known, and what to do."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "memory", _whole_mib(self.memory))
        object.__setattr__(self, "max_memory", _whole_mib(self.max_memory))
        object.__setattr__(self, "disks", tuple(sorted(self.disks, key=_disk_order)))
        object.__setattr__(self, "nics", tuple(sorted(self.nics, key=_nic_order)))

    def disk(self, alias: str) -> DiskConfig | None:
        return next((disk for disk in self.disks if disk.alias == alias), None)


@dataclass(frozen=True, slots=True)
class SystemDisk:
    """A system disk that a guest has, had or will have, and the kernel that belongs to it."""

    pool: str
    volume: str
    base: str = ""
    """The base volume that it is an overlay of; '' if not known."""
    kernel: str = ""
    initrd: str = ""
    args: str = ""
    format: str = "qcow2"

    @property
    def place(self) -> tuple[str, str]:
        return self.pool, self.volume


@dataclass(frozen=True, slots=True)
class DiskVolume:
    """The volume of a guest's disk, its format, and its target in the domain."""

    alias: str
    pool: str
    volume: str
    format: str = ""
    target: str = ""
    """'' in a record of an older version."""

    @property
    def place(self) -> tuple[str, str]:
        return self.pool, self.volume


@dataclass(frozen=True, slots=True)
class NicAddress:
    """The MAC address of a guest's interface."""

    alias: str
    mac: str


@dataclass(frozen=True, slots=True)
class RetiredDisk:
    """A system disk that a replacement took out, kept for ``retiredDiskTTL``."""

    disk: SystemDisk
    since: float
    why: str
    """``replaced``: the replacement worked, and ``rollback`` swaps the disk back; ``failed``: the
    guest did not come up with it; ``rolled-back``: an operator did not want it."""


class ReplacePhase(StrEnum):
    """The phase of a replacement of a system disk."""

    PREPARING = "preparing"  # the new disk is made beside the running guest
    STOPPING = "stopping"  # the guest was asked to shut down
    CONFIRMING = "confirming"  # the new disk is in; the guest starts and has to become ready
    RETURNING = "returning"  # not ready: the guest is stopped, to get its old disk back


@dataclass(frozen=True, slots=True)
class Replacement:
    """A replacement in progress. Times are epoch seconds."""

    to: SystemDisk
    back: SystemDisk
    why: str  # image | rollback
    phase: ReplacePhase
    since: float
    agent: bool = False
    """The guest agent was connected before, so it must connect with the new disk, too."""
    swapped_at: float | None = None
    """When the new disk was put in: ``progressDeadline`` counts from here."""
    failure: str = ""
    """Why the old disk is put back."""


@dataclass(frozen=True, slots=True)
class GuestRecord:
    """What must outlive the daemon about a guest; stored in the domain's metadata.

    Times are epoch seconds. The loop and the operator's commands write it, so nobody writes it
    whole: a step names the fields that it changes (``UpdateRecord``).
    """

    start_attempts: int = 0
    """Attempts to start the guest because it was found stopped, since its last long quiet run."""
    last_start_attempt: float | None = None
    shutdown_requested: float | None = None
    """When the daemon last asked the guest to shut down; written after the call succeeded, never
    before."""
    stop_for: str = ""
    """Why it is stopped: ``halt``, ``restart``, ``replace``, ``delete``. Only an intention until
    ``shutdown_requested`` says that the guest was asked."""
    stop_run: int | None = None
    """The run of the domain that is to stop (``DomainView.run``); another run was not asked."""
    stop_wanted: float | None = None
    """When the stop was decided."""
    stop_key: str = ""
    """The value that ``restarted_for`` gets once the guest has booted."""
    starting: bool = False
    """Start it whatever its run strategy says, because we stopped it for something else."""
    agent_seen: bool = False
    """Its agent was connected once, so a missing agent is a fault."""
    finished: bool = False
    """It shut itself down; libvirt forgets that reason when libvirtd is restarted."""
    restart_requested: float | None = None
    """When an operator asked for a cold boot."""
    suspended: bool = False
    """An operator suspended it: the daemon leaves it alone."""
    approved: str = ""
    """The base to which an operator approved a replacement."""
    approved_now: bool = False
    """The approval does not wait for a maintenance window."""
    refused: str = ""
    """A base that is only tried again on request: a replacement to it failed or was rolled back."""
    refused_why: str = ""
    rollback: bool = False
    """An operator requested the last retired disk back."""
    replacement: Replacement | None = None
    retired: tuple[RetiredDisk, ...] = ()
    volumes: tuple[DiskVolume, ...] = ()
    """The volumes that its disks were put on; any other volume in the definition is drift."""
    macs: tuple[NicAddress, ...] = ()
    """The MAC addresses that its interfaces got; any other in the definition is drift."""
    restarted_for: str = ""
    """Why the daemon last did a cold boot on its own, written after the boot: a cold boot that does
    not help is not repeated."""
    controller: str = ""
    """The daemon that manages it: only that one may ever delete it."""
    deletion_policy: str = ""
    """``deletionPolicy`` as last seen in its document; it applies once the document is gone."""
    orphaned_since: float | None = None
    """Since when its document is missing."""
    deletion_blocked: bool = False
    """The deletion guard blocked its deletion; only an operator or its document ends that."""
    deletion_approved: float | None = None
    """When an operator approved what the deletion guard blocked."""
    deleting: bool = False
    """Its system disks are being deleted: this cannot be undone."""

    @property
    def stopped_at(self) -> float | None:
        """The latest time at which a shutdown was requested or decided: a daemon that is killed
        between the call and its record leaves only the decision."""
        times = [at for at in (self.shutdown_requested, self.stop_wanted) if at is not None]
        return max(times, default=None)


@dataclass(frozen=True, slots=True)
class Ownership:
    """Our element in the domain's ``<metadata>``; a domain without it is foreign."""

    uid: str
    name: str
    generation: int
    digest: str
    """Digest of the effective spec that was last applied completely; '' before the first time."""
    spec: str
    """That spec as canonical JSON (``planning.compare.changes.spec_document``); '' before."""
    record: GuestRecord = field(default_factory=GuestRecord)
    created: float = 0.0
    """When the guest was created, epoch seconds; 0 if not known."""
    base: str = ""
    """The base volume that its system disk was made from; '' if not known."""


@dataclass(frozen=True, slots=True)
class DomainView:
    """An observed domain. ``config`` is the persistent definition, ``live`` the running one."""

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
    """Epoch seconds at which the daemon saw it start; None if it was running before."""
    running_job: bool = False
    """A backup, migration, save or copy of a disk is under way."""
    run: int | None = None
    """libvirt's id of this run of the domain, another after each start; None while it is off."""
    autostart: bool = False
    saved: bool = False
    """libvirt has a saved run of it (managed save), even if the reason is forgotten: the next start
    resumes from there."""

    @property
    def ours(self) -> bool:
        """Whether it has our element, made for it: a clone of one of our domains is foreign."""
        owner = self.ownership
        return owner is not None and owner.uid == self.uuid and owner.name == self.name

    @property
    def go_on(self) -> str:
        """The command that resumes a paused or sleeping domain."""
        verb = "dompmwakeup" if self.state is DomainState.PMSUSPENDED else "resume"
        return f"virsh {verb} {shlex.quote(self.name)}"

    @property
    def record(self) -> GuestRecord:
        """The record in our element; an empty record if the domain has none."""
        return self.ownership.record if self.ownership is not None else GuestRecord()
