"""The schema of a Service: packages, files, units, probes."""

from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from controller.desired.schema.fields import (
    AbsolutePath,
    Change,
    FileMode,
    Matching,
    Name,
    NotYet,
    PackageName,
    Port,
    UnitName,
    User,
)
from controller.desired.schema.model import Model, one_of

ProbeFrom = Literal["host", "guest"]


class HttpGet(Model):
    """An HTTP GET; a status of 200 to 399 is success. ``port`` is a port of the guest."""

    port: Port
    path: Annotated[str, Matching(r"/[!-~]*", "path", "must begin with /")] = "/"
    scheme: Literal["http", "https"] = "http"
    headers: dict[str, str] = {}
    from_: ProbeFrom = Field("host", alias="from")


class TcpSocket(Model):
    """A TCP connection; it is a success if accepted. ``port`` is a port of the guest."""

    port: Port
    from_: ProbeFrom = Field("host", alias="from")


class ExecProbe(Model):
    """A command in the guest; exit status 0 is success."""

    command: list[str] = Field(min_length=1)


class SystemdUnitProbe(Model):
    """A systemd unit in the guest; being active is success."""

    unit: UnitName


class GuestAgentPing(Model):
    """A ping of the guest agent; an answer is success."""


class Probe(Model):
    """A check of a service that is repeated periodically."""

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
    """Seconds from the service's start during which a failure counts as still starting."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        one_of(self, "http_get", "tcp_socket", "exec", "systemd_unit", "guest_agent_ping")
        return self


# --- Services -------------------------------------------------------------------------------------


class File(Model):
    """A file in the guest, rendered with Jinja2 from ``content`` or the file ``source``."""

    path: AbsolutePath
    content: str | None = None
    source: str | None = None
    owner: User = "root"
    group: User = "root"
    mode: FileMode = "0644"

    @model_validator(mode="after")
    def _one(self) -> Self:
        one_of(self, "content", "source")
        return self


class OnChange(StrEnum):
    """What happens to the unit after one of its files changed."""

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
        distinct("files", "path", [file.path for file in self.files])
        distinct("probes", "name", [probe.name for probe in self.probes])
        return self


def distinct(field: str, key: str, values: list[str]) -> None:
    doubles = sorted({value for value in values if values.count(value) > 1})
    if doubles:
        raise PydanticCustomError(
            "duplicate",
            "has {key} {double} twice; keep one",
            {"field": field, "key": key, "double": doubles[0]},
        )


class GuestService(ServiceSpec):
    """A service of one guest: ``use`` names a Service document; ``name`` is for an inline one."""

    use: Annotated[Name | None, Change.GUEST] = None
    name: Annotated[Name | None, Change.GUEST] = None

    @model_validator(mode="after")
    def _use_or_inline(self) -> Self:
        one_of(self, "use", "name")
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
