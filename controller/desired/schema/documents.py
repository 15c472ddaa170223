"""The documents' schema: every field, its bounds, its default and its change class.

Pydantic at the edge: a document becomes one of these frozen models or one clear error. The
change class (DESIGN section 5) stands beside each field of a Guest, so that the planner, the CLI
and the reference page read the same word. A field whose behaviour is not built yet is declared
and refused (``NotYet``), never silently ignored.

Longer than other modules on purpose: the whole language of documents stands on one page.
"""

import re
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from controller.desired.schema.fields import (
    AbsolutePath,
    BridgeName,
    Cron,
    Description,
    FileMode,
    FileOrUrl,
    KernelArguments,
    KickstartVersion,
    LabelValue,
    Mac,
    Matching,
    Name,
    NetworkName,
    NotYet,
    Only,
    OpenUrl,
    PackageName,
    PoolName,
    Port,
    RelativeFile,
    Sha256,
    TemplateFile,
    TimeZone,
    Title,
    UnitName,
    Url,
    User,
    VolumeName,
)
from controller.desired.schema.fields import Change as Change
from controller.desired.schema.quantities import Duration, Lasting, Size, format_size

API_VERSION = "guestkeeper/v1alpha1"


class Model(BaseModel):
    """Strict, frozen, unknown fields refused; documents write camelCase, code snake_case."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)


def _one_of(model: BaseModel, *names: str) -> None:
    given = [name for name in names if getattr(model, name) is not None]
    if len(given) != 1:
        wrong = [type(model).model_fields[name].alias or name for name in given]
        aliases = ", ".join(type(model).model_fields[name].alias or name for name in names)
        raise PydanticCustomError(
            "one_of",
            "needs exactly one of {names}; {remedy}",
            {
                "names": aliases,
                "remedy": f"keep one of {' and '.join(wrong)}" if wrong else "add one",
            },
        )


class Metadata(Model):
    """Identity: the name is what the domain is called; the file's path means nothing."""

    name: Name
    labels: dict[str, LabelValue] = {}
    annotations: dict[str, str] = {}


class SecretRef(Model):
    """Where a value that must not stand in a document is read from, at the time it is used."""

    file: AbsolutePath | None = None
    credential: Name | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        _one_of(self, "file", "credential")
        return self


# --- Probes ---------------------------------------------------------------------------------------

ProbeFrom = Literal["host", "guest"]


class HttpGet(Model):
    """An HTTP GET; a status of 200 to 399 is success. ``port`` is the guest's port."""

    port: Port
    path: Annotated[str, Matching(r"/[!-~]*", "path", "must begin with /")] = "/"
    scheme: Literal["http", "https"] = "http"
    headers: dict[str, str] = {}
    from_: ProbeFrom = Field("host", alias="from")


class TcpSocket(Model):
    """A TCP connection that is accepted is success. ``port`` is the guest's port."""

    port: Port
    from_: ProbeFrom = Field("host", alias="from")


class ExecProbe(Model):
    """A command in the guest; exit status 0 is success."""

    command: list[str] = Field(min_length=1)


class SystemdUnitProbe(Model):
    """A unit that is active is success."""

    unit: UnitName


class GuestAgentPing(Model):
    """The guest agent that answers a ping is success."""


class Probe(Model):
    """One question asked about a service again and again."""

    name: Name
    http_get: HttpGet | None = Field(None, alias="httpGet")
    tcp_socket: TcpSocket | None = Field(None, alias="tcpSocket")
    exec: ExecProbe | None = None
    systemd_unit: SystemdUnitProbe | None = Field(None, alias="systemdUnit")
    guest_agent_ping: GuestAgentPing | None = Field(None, alias="guestAgentPing")
    period_seconds: float = Field(10.0, alias="periodSeconds", ge=1, le=86400)
    timeout_seconds: float = Field(2.0, alias="timeoutSeconds", ge=0.1, le=600)
    failure_threshold: int = Field(3, alias="failureThreshold", ge=1, le=1000)
    success_threshold: int = Field(1, alias="successThreshold", ge=1, le=1000)
    initial_delay_seconds: float = Field(0.0, alias="initialDelaySeconds", ge=0, le=86400)
    startup_seconds: float = Field(300.0, alias="startupSeconds", ge=0, le=86400)
    """Seconds from the service's start in which a failure counts as still starting."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        _one_of(self, "http_get", "tcp_socket", "exec", "systemd_unit", "guest_agent_ping")
        return self


# --- Services -------------------------------------------------------------------------------------


class File(Model):
    """A file in the guest, rendered by Jinja2 from ``content`` or the file ``source``."""

    path: AbsolutePath
    content: str | None = None
    source: str | None = None
    owner: User = "root"
    group: User = "root"
    mode: FileMode = "0644"

    @model_validator(mode="after")
    def _one(self) -> Self:
        _one_of(self, "content", "source")
        return self


class OnChange(StrEnum):
    """What is done to the unit after one of its files changed."""

    RELOAD = "reload"
    RESTART = "restart"
    NONE = "none"


class ServiceSpec(Model):
    """What runs in a guest: packages, files, a unit, probes."""

    packages: Annotated[list[PackageName], Change.GUEST] = []
    files: Annotated[list[File], Change.GUEST] = []
    unit: Annotated[UnitName | None, Change.GUEST] = None
    validate_: Annotated[str | None, NotYet] = Field(None, alias="validate")
    on_change: Annotated[OnChange, Change.GUEST] = Field(
        OnChange.RESTART, alias="onChange", strict=False
    )
    values: Annotated[dict[str, Any], Change.GUEST] = {}
    probes: Annotated[list[Probe], Change.CONTROLLER] = []

    @model_validator(mode="after")
    def _unique(self) -> Self:
        _distinct("files", "path", [file.path for file in self.files])
        _distinct("probes", "name", [probe.name for probe in self.probes])
        return self


def _distinct(field: str, key: str, values: list[str]) -> None:
    doubles = sorted({value for value in values if values.count(value) > 1})
    if doubles:
        raise PydanticCustomError(
            "duplicate",
            "has {key} {double} twice; keep one",
            {"field": field, "key": key, "double": doubles[0]},
        )


class GuestService(ServiceSpec):
    """A service of one guest: ``use`` names a Service document, ``name`` begins an inline one."""

    use: Annotated[Name | None, Change.GUEST] = None
    name: Annotated[Name | None, Change.GUEST] = None

    @model_validator(mode="after")
    def _use_or_inline(self) -> Self:
        _one_of(self, "use", "name")
        extra = {
            type(self).model_fields[name].alias or name
            for name in self.model_fields_set - {"use", "values"}
        }
        if self.use is not None and extra:
            raise PydanticCustomError(
                "use_only_values",
                "beside use: only values: may be given; put {extra} into the Service document",
                {"extra": ", ".join(sorted(extra))},
            )
        return self


# --- Images ---------------------------------------------------------------------------------------


class OsFamily(StrEnum):
    """How packages are handled: apt, dnf, zypper."""

    DEBIAN = "debian"
    RHEL = "rhel"
    SUSE = "suse"


class Firmware(StrEnum):
    BIOS = "bios"
    EFI = "efi"


class Accelerator(StrEnum):
    """``auto`` takes KVM where the host really offers it (DESIGN section 9)."""

    AUTO = "auto"
    KVM = "kvm"
    TCG = "tcg"


class IsoVolume(Model):
    """An installation medium: a volume of a pool of the host."""

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
    """Kernel arguments beside those that the kind of install needs."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        _one_of(self, "tree", "iso", "kernel")
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
    """An unattended install: an answer file, rendered from a template, and an installer.

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
    """RHEL and its kin, Fedora: Anaconda."""

    version: KickstartVersion
    delivery: Delivery = Field(Delivery.INITRD, strict=False)


class Preseed(Install):
    """Debian: debian-installer; the answer file goes into its initrd."""


class Autoinstall(Install):
    """Ubuntu: subiquity; the answer file goes onto a volume labelled CIDATA."""

    @model_validator(mode="after")
    def _no_tree(self) -> Self:
        if self.location.tree is not None:
            raise PydanticCustomError(
                "no_tree", "Ubuntu has no installer tree; give location iso, or kernel and initrd"
            )
        return self


class ImageDisk(Model):
    """The disk that is installed to; a guest's own may be larger."""

    size: Size = 10 * 2**30


class ImageBuilder(Model):
    """The machine that the installer runs on. Without ``network`` or ``bridge``: QEMU's NAT.

    ``firmware`` is also that of the guests: what is installed boots by no other.
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
            _one_of(self, "network", "bridge")
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
        _one_of(self, "file", "url", "kickstart", "preseed", "autoinstall")
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
    """Kernel and initrd given to QEMU directly, for images without a boot loader."""

    kernel: RelativeFile
    initrd: RelativeFile | None = None
    args: KernelArguments = ""


class Rollout(Model):
    """How a changed image goes round the guests that say ``updatePolicy.replace: Automatic``."""

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
    """Seconds an attempt may take; without it 45 minutes with KVM, 180 without."""
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


# --- Guests ---------------------------------------------------------------------------------------


class RunStrategy(StrEnum):
    """Whether a stopped guest is started again (KubeVirt's words)."""

    ALWAYS = "Always"
    RERUN_ON_FAILURE = "RerunOnFailure"
    MANUAL = "Manual"
    HALTED = "Halted"


class Cpu(Model):
    vcpus: Annotated[int, Field(ge=1, le=512), Change.LIVE] = 1
    max: Annotated[int | None, Field(ge=1, le=512), Change.RESTART] = None

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.max is not None and self.max < self.vcpus:
            raise PydanticCustomError(
                "cpu_max",
                "max ({max}) must be at least vcpus ({vcpus}); raise max or lower vcpus",
                {"max": self.max, "vcpus": self.vcpus},
            )
        return self


class Memory(Model):
    size: Annotated[Size, Change.LIVE]
    max: Annotated[Size | None, Change.RESTART] = None

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.size < 64 * 2**20:
            raise PydanticCustomError(
                "memory_small",
                "size must be at least 64Mi, not {size}; write such as 512Mi",
                {"size": format_size(self.size)},
            )
        if self.max is not None and self.max < self.size:
            raise PydanticCustomError(
                "memory_max",
                "max ({max}) must be at least size ({size}); raise max or lower size",
                {"max": format_size(self.max), "size": format_size(self.size)},
            )
        return self


_MOST_A_SECOND = 10**15  # QEMU's own bound of a throttle (THROTTLE_VALUE_MAX)
_BytesASecond = Annotated[Size | None, Change.LIVE]
_IopsASecond = Annotated[int | None, Field(ge=1, le=_MOST_A_SECOND), Change.LIVE]


class IoTune(Model):
    """Limits of a disk, each a second; what is left out is not limited."""

    total_bytes_sec: _BytesASecond = Field(None, alias="totalBytesSec")
    read_bytes_sec: _BytesASecond = Field(None, alias="readBytesSec")
    write_bytes_sec: _BytesASecond = Field(None, alias="writeBytesSec")
    total_iops_sec: _IopsASecond = Field(None, alias="totalIopsSec")
    read_iops_sec: _IopsASecond = Field(None, alias="readIopsSec")
    write_iops_sec: _IopsASecond = Field(None, alias="writeIopsSec")

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        for unit in ("bytes_sec", "iops_sec"):
            total, *parts = (f"{kind}_{unit}" for kind in ("total", "read", "write"))
            given = [self._alias(part) for part in parts if getattr(self, part) is not None]
            if getattr(self, total) is not None and given:
                raise PydanticCustomError(
                    "total_alone",
                    "limits reads and writes together; remove it, or remove {parts}",
                    {"field": self._alias(total), "parts": " and ".join(given)},
                )
        for name in ("total_bytes_sec", "read_bytes_sec", "write_bytes_sec"):
            if (getattr(self, name) or 0) > _MOST_A_SECOND:
                raise PydanticCustomError(
                    "rate_large",
                    "must be at most 1000T; leave it out for no limit",
                    {"field": self._alias(name)},
                )
        return self

    @classmethod
    def _alias(cls, name: str) -> str:
        return cls.model_fields[name].alias or name


Cache = Literal["none", "writethrough", "writeback", "directsync", "unsafe"]
"""How the host caches a disk, in libvirt's words."""


class SystemDisk(Model):
    """The overlay of the image; without ``size`` it is as large as the image."""

    size: Annotated[Size | None, Change.LIVE] = None
    pool: Annotated[PoolName | None, Change.IMMUTABLE] = None
    cache: Annotated[Cache | None, Change.RESTART] = None
    io_tune: Annotated[IoTune | None, Change.LIVE] = Field(None, alias="ioTune")


class Disk(Model):
    """A data disk; the daemon never deletes it on its own."""

    name: Annotated[Name, Field(max_length=20), Change.LIVE]
    size: Annotated[Size, Change.LIVE]
    pool: Annotated[PoolName | None, Change.IMMUTABLE] = None
    cache: Annotated[Cache | None, Change.RESTART] = None
    io_tune: Annotated[IoTune | None, Change.LIVE] = Field(None, alias="ioTune")


class Cdrom(Model):
    """A CD-ROM drive; without ``volume`` it is empty."""

    name: Annotated[Name, Field(max_length=20), Change.RESTART]
    pool: Annotated[PoolName | None, Change.LIVE] = None
    volume: Annotated[VolumeName | None, Change.LIVE] = None


class Forward(Model):
    """A port of the host that reaches one of the guest (user networking)."""

    address: str
    host_port: Port
    guest_port: Port
    protocol: Literal["tcp", "udp"]

    def __str__(self) -> str:
        return f"{self.address}:{self.host_port}:{self.guest_port}/{self.protocol}"


_FORWARD = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,3}){3}):([0-9]{1,5}):([0-9]{1,5})(?:/(tcp|udp))?")


def _parse_forward(value: Any) -> Any:
    match = _FORWARD.fullmatch(value) if isinstance(value, str) else None
    if match is None or any(int(part) > 255 for part in match[1].split(".")):
        raise PydanticCustomError(
            "forward", "must be ADDRESS:HOSTPORT:GUESTPORT/tcp, such as 127.0.0.1:8080:80/tcp"
        )
    if not all(1 <= int(port) <= 65535 for port in (match[2], match[3])):
        raise PydanticCustomError("forward_port", "must have ports between 1 and 65535")
    return {
        "address": ".".join(str(int(part)) for part in match[1].split(".")),
        "host_port": int(match[2]),
        "guest_port": int(match[3]),
        "protocol": match[4] or "tcp",
    }


class UserNetwork(Model):
    """QEMU's own NAT: the guest reaches out; ``forwards`` let the host in."""

    forwards: Annotated[
        list[
            Annotated[
                Forward,
                BeforeValidator(_parse_forward),
                WithJsonSchema(
                    {
                        "type": "string",
                        "pattern": f"^{_FORWARD.pattern}$",
                        "examples": ["127.0.0.1:8080:80/tcp"],
                    }
                ),
            ]
        ],
        Change.RESTART,
    ] = []


class Interface(Model):
    name: Annotated[Name, Field(max_length=20), Change.LIVE]
    mac: Annotated[Mac | None, Change.LIVE] = None
    user: Annotated[UserNetwork | None, Change.RESTART] = None
    network: Annotated[NetworkName | None, Change.LIVE] = None
    bridge: Annotated[BridgeName | None, Change.LIVE] = None
    link: Annotated[Literal["up", "down"], Change.LIVE] = "up"
    model: Annotated[Literal["virtio", "e1000e"], Change.LIVE] = "virtio"

    @model_validator(mode="after")
    def _one(self) -> Self:
        _one_of(self, "user", "network", "bridge")
        extra = sorted({"link", "model"} & self.model_fields_set)
        if self.user is not None and extra:
            raise PydanticCustomError(
                "not_of_user",
                "belongs to an interface with network or bridge; remove it",
                {"field": extra[0]},
            )
        return self


class MaintenanceWindow(Model):
    """A span of time that begins whenever the clock of ``timeZone`` shows what ``cron`` says."""

    cron: Annotated[Cron, Change.CONTROLLER]
    duration: Annotated[Duration, Lasting(1, 7 * 86400), Change.CONTROLLER]
    time_zone: Annotated[TimeZone, Change.CONTROLLER] = Field("UTC", alias="timeZone")


class UpdatePolicy(Model):
    """When changes are carried out that a guest's users would notice."""

    restart: Annotated[Literal["Staged", "Automatic"], Change.CONTROLLER] = "Staged"
    replace: Annotated[Literal["Manual", "Automatic"], Change.CONTROLLER] = "Manual"
    maintenance_windows: Annotated[
        list[MaintenanceWindow], Field(max_length=50), Change.CONTROLLER
    ] = Field([], alias="maintenanceWindows")
    retired_disk_ttl: Annotated[Duration, Change.CONTROLLER] = Field(
        7 * 86400.0, alias="retiredDiskTTL"
    )
    """Seconds that a system disk is kept after another took its place; 0: deleted at once."""
    progress_deadline: Annotated[Duration, Lasting(30), Change.CONTROLLER] = Field(
        900.0, alias="progressDeadline"
    )
    """Seconds that a new system disk has to make the guest Ready before the old one comes back."""


class GuestSpec(Model):
    """One server: hardware, image, services, policies."""

    host: Annotated[Name, Change.IMMUTABLE] = "local"
    image: Annotated[Name, Change.REPLACE]
    title: Annotated[Title | None, Change.LIVE] = None
    description: Annotated[Description | None, Change.LIVE] = None
    run_strategy: Annotated[RunStrategy, Change.CONTROLLER] = Field(
        RunStrategy.ALWAYS, alias="runStrategy", strict=False
    )
    autostart: Annotated[bool, Change.LIVE] = False
    cpu: Cpu = Cpu()
    memory: Memory
    firmware: Annotated[Firmware, Change.RESTART] = Field(Firmware.BIOS, strict=False)
    accelerator: Annotated[Accelerator, Change.RESTART] = Field(Accelerator.AUTO, strict=False)
    hostname: Annotated[Name | None, Change.GUEST] = None
    ssh_authorized_keys_from: Annotated[list[SecretRef], Change.GUEST] = Field(
        [], alias="sshAuthorizedKeysFrom"
    )
    system_disk: SystemDisk = Field(SystemDisk(), alias="systemDisk")
    disks: Annotated[list[Disk], Change.LIVE] = []
    cdroms: Annotated[list[Cdrom], Change.RESTART] = []
    interfaces: Annotated[list[Interface], Change.LIVE] = []
    services: Annotated[list[GuestService], Change.GUEST] = []
    drift_interval: Annotated[Duration, Change.CONTROLLER] = Field(300.0, alias="driftInterval")
    shutdown_timeout: Annotated[Duration, Change.CONTROLLER] = Field(120.0, alias="shutdownTimeout")
    update_policy: Annotated[UpdatePolicy, Change.CONTROLLER] = Field(
        UpdatePolicy(), alias="updatePolicy"
    )
    remediation: Annotated[dict[str, Any] | None, NotYet] = None
    deletion_policy: Annotated[Literal["Retain", "Stop", "Delete"], Change.CONTROLLER] = Field(
        "Retain", alias="deletionPolicy"
    )
    guest_access: Annotated[
        Literal["auto", "agent", "ssh"], Only("auto", "agent"), Change.CONTROLLER
    ] = Field("auto", alias="guestAccess")

    @model_validator(mode="after")
    def _unique(self) -> Self:
        _distinct("disks", "name", [disk.name for disk in self.disks])
        _distinct("cdroms", "name", [drive.name for drive in self.cdroms])
        _distinct("interfaces", "name", [nic.name for nic in self.interfaces])
        _distinct("services", "name", [item.use or item.name or "" for item in self.services])
        if any(disk.name in ("system", "seed") for disk in self.disks):
            raise PydanticCustomError(
                "disk_name",
                "may not have one named system or seed, which the daemon keeps for itself;"
                " write another name",
                {"field": "disks"},
            )
        if any(drive.name == "seed" for drive in self.cdroms):
            raise PydanticCustomError(
                "cdrom_name",
                "may not have one named seed, which the daemon keeps for itself;"
                " write another name",
                {"field": "cdroms"},
            )
        return self


class GuestDocument(Model):
    api_version: Literal["guestkeeper/v1alpha1"] = Field(alias="apiVersion")
    kind: Literal["Guest"]
    metadata: Metadata
    spec: GuestSpec


class ImageDocument(Model):
    api_version: Literal["guestkeeper/v1alpha1"] = Field(alias="apiVersion")
    kind: Literal["Image"]
    metadata: Metadata
    spec: ImageSpec


class ServiceDocument(Model):
    api_version: Literal["guestkeeper/v1alpha1"] = Field(alias="apiVersion")
    kind: Literal["Service"]
    metadata: Metadata
    spec: ServiceSpec


Document = GuestDocument | ImageDocument | ServiceDocument
DOCUMENTS: dict[str, type[GuestDocument] | type[ImageDocument] | type[ServiceDocument]] = {
    "Guest": GuestDocument,
    "Image": ImageDocument,
    "Service": ServiceDocument,
}
