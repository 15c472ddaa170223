"""The daemon's own settings: one TOML file, overridden by ``GUESTKEEPER_*`` in the environment.

``--config`` or ``GUESTKEEPER_CONFIG`` names the file; without them
``/etc/guestkeeper/guestkeeper.toml`` is read if it exists, else the defaults below apply.
"""

import os
import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from controller.errors import PermanentError

DEFAULT_FILE = Path("/etc/guestkeeper/guestkeeper.toml")
ENVIRONMENT_FILE = "GUESTKEEPER_CONFIG"


class SettingsError(PermanentError):
    """The settings cannot be used; the message names file, field and remedy."""

    reason = "InvalidSettings"


class HostSettings(BaseModel):
    """One libvirt connection."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    uri: str = Field("qemu:///system", description="libvirt's connection URI")
    pool: str = Field("default", description="storage pool of disks that name none")
    pools: dict[str, Path] = Field(
        default={}, description="directory pools the daemon makes where the host lacks them"
    )


class Settings(BaseSettings):
    """All settings with their defaults."""

    model_config = SettingsConfigDict(
        env_prefix="GUESTKEEPER_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    desired_dir: Path = Field(
        Path("/etc/guestkeeper/desired-state"), description="the directory of documents"
    )
    state_dir: Path = Field(
        Path("/var/lib/guestkeeper"), description="journal, lock, logs of installs"
    )
    cache_dir: Path = Field(Path("/var/cache/guestkeeper"), description="downloaded images")
    images_dir: Path = Field(
        Path("/var/lib/guestkeeper/images"),
        description="where source.file of an Image is looked for",
    )
    socket: Path = Field(
        Path("/run/guestkeeper/guestkeeper.sock"), description="unix socket of the API"
    )
    listen: str = Field(
        "127.0.0.1:9750", description="address of /metrics, /healthz, /readyz; '' for none"
    )
    listen_names: list[str] = Field(
        default=[],
        description="names that `listen` may be asked by (Host), beside loopback's and the address"
        " itself; `*` for any",
    )
    identity: str = Field(
        "",
        description="tells controllers apart: guests' UUIDs and MAC addresses derive from it and"
        " the guest's name; empty: this machine's id",
    )
    workers: int = Field(8, ge=1, le=256, description="reconcile workers")
    operation_workers: int = Field(
        16, ge=1, le=256, description="long actions (looks, applies, image preparations) at once"
    )
    image_builds: int = Field(1, ge=1, le=64, description="installers at once on a host")
    unused_base_seconds: float = Field(
        604800.0, ge=0, description="seconds after which a base volume that nobody uses is deleted"
    )
    prune_grace_seconds: float = Field(
        600.0,
        ge=0,
        description="seconds after which the deletionPolicy of a guest whose document is gone"
        " applies",
    )
    max_deletions: int = Field(
        1, ge=0, description="guests that may be stopped or deleted at once without approval"
    )
    max_deletions_percent: int = Field(
        10, ge=0, le=100, description="the same as a share of all guests; the larger number counts"
    )
    resync_seconds: float = Field(
        60.0, ge=1, description="seconds between bulk looks at every host"
    )
    slow_resync_seconds: float = Field(
        600.0, ge=1, description="seconds between looks at every domain's XML"
    )
    rescan_seconds: float = Field(
        30.0, ge=1, description="seconds between rescans of the directory by content"
    )
    debounce_seconds: float = Field(
        0.2, ge=0, le=60, description="seconds a file must be quiet before it is read"
    )
    log_level: str = Field("info", description="debug, info, warning, error")
    hosts: dict[str, HostSettings] = Field(
        default={"local": HostSettings()}, description="libvirt connections by name"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic-settings' signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file, whose values are passed as ``init`` arguments."""
        return env_settings, init_settings


def load_settings(path: Path | None = None) -> Settings:
    """Read ``path``, else the file of ``GUESTKEEPER_CONFIG``, else the default file if it exists.

    Raises ``SettingsError``.
    """
    named = path or (Path(os.environ[ENVIRONMENT_FILE]) if ENVIRONMENT_FILE in os.environ else None)
    document: dict[str, Any] = {}
    source = named or DEFAULT_FILE
    if named is not None or source.exists():
        try:
            document = tomllib.loads(source.read_text(encoding="utf-8"))
        except OSError as error:
            raise SettingsError(f"{source}: {error.strerror}; name the file by --config") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError(f"{source}: not TOML: {error}") from error
    try:
        return Settings(**document)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise SettingsError(f"{source}: {field}: {first['msg']}") from error


def machine_identity(settings: Settings) -> str:
    """The setting ``identity``, else ``/etc/machine-id``, else the host name."""
    if settings.identity:
        return settings.identity
    try:
        return Path("/etc/machine-id").read_text(encoding="ascii").strip() or os.uname().nodename
    except OSError:
        return os.uname().nodename
