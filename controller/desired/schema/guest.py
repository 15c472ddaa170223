"""The schema of a Guest: its machine, disks, interfaces, updates."""

import re
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from controller.desired.schema.fields import (
    BridgeName,
    Change,
    Cron,
    Description,
    Mac,
    Name,
    NetworkName,
    NotYet,
    Only,
    PoolName,
    Port,
    TimeZone,
    Title,
    VolumeName,
)
from controller.desired.schema.model import Accelerator, Firmware, Model, SecretRef, one_of
from controller.desired.schema.quantities import Duration, Lasting, Size, format_size
from controller.desired.schema.service import GuestService, distinct


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
    """I/O limits of a disk, each per second; a limit that is left out does not apply."""

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
"""How the host caches a disk, by libvirt's names."""


class SystemDisk(Model):
    """The system disk, an overlay of the image; without ``size`` it is as large as the image."""

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
    """A port of the host that leads to a port of the guest (user networking)."""

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
    """QEMU's own NAT: the guest can connect out; ``forwards`` make ports of it reachable."""

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
        one_of(self, "user", "network", "bridge")
        extra = sorted({"link", "model"} & self.model_fields_set)
        if self.user is not None and extra:
            raise PydanticCustomError(
                "not_of_user",
                "belongs to an interface with network or bridge; remove it",
                {"field": extra[0]},
            )
        return self


class MaintenanceWindow(Model):
    """A span of time that begins whenever the clock of ``timeZone`` matches ``cron``."""

    cron: Annotated[Cron, Change.CONTROLLER]
    duration: Annotated[Duration, Lasting(1, 7 * 86400), Change.CONTROLLER]
    time_zone: Annotated[TimeZone, Change.CONTROLLER] = Field("UTC", alias="timeZone")


class UpdatePolicy(Model):
    """When to carry out changes that a guest's users would notice."""

    restart: Annotated[Literal["Staged", "Automatic"], Change.CONTROLLER] = "Staged"
    replace: Annotated[Literal["Manual", "Automatic"], Change.CONTROLLER] = "Manual"
    maintenance_windows: Annotated[
        list[MaintenanceWindow], Field(max_length=50), Change.CONTROLLER
    ] = Field([], alias="maintenanceWindows")
    retired_disk_ttl: Annotated[Duration, Change.CONTROLLER] = Field(
        7 * 86400.0, alias="retiredDiskTTL"
    )
    """Seconds to keep a system disk after another replaced it; 0 deletes it at once."""
    progress_deadline: Annotated[Duration, Lasting(30), Change.CONTROLLER] = Field(
        900.0, alias="progressDeadline"
    )
    """Seconds in which a new system disk must make the guest Ready; else the old one returns."""


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
        distinct("disks", "name", [disk.name for disk in self.disks])
        distinct("cdroms", "name", [drive.name for drive in self.cdroms])
        distinct("interfaces", "name", [nic.name for nic in self.interfaces])
        distinct("services", "name", [item.use or item.name or "" for item in self.services])
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
