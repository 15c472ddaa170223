"""Options that many commands share, and their conversion to values."""

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli.errors import INVALID, CliError

if TYPE_CHECKING:
    from controller.cli.client.client import Client
    from controller.settings import Settings


class Output(StrEnum):
    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Settings. [default: $GUESTKEEPER_CONFIG, /etc/guestkeeper/guestkeeper.toml]",
        show_default=False,
    ),
]
As = Annotated[Output, typer.Option("--output", "-o", help="How to print.")]
Labels = Annotated[
    str,
    typer.Option("--selector", "-l", metavar="KEY=VALUE", help="Only guests with these labels."),
]
Timeout = Annotated[
    str, typer.Option("--timeout", metavar="DURATION", help="Give up after, such as 30s or 5m.")
]


def settings_of(ctx: typer.Context, config: Path | None) -> "Settings":
    """The settings; ``--config`` after the command wins over the one before it.

    Raises ``SettingsError``.
    """
    from controller.settings import load_settings

    return load_settings(config or config_of(ctx))


def config_of(ctx: typer.Context) -> Path | None:
    """``--config`` given before the command."""
    return ctx.obj if isinstance(ctx.obj, Path) else None


def quiet_logs() -> None:
    """Log errors only, for commands that run parts of the daemon and print the results."""
    from controller.telemetry.logging import configure

    configure("error")


def client_of(ctx: typer.Context, config: Path | None) -> "Client":
    from controller.cli.client.client import Client
    from controller.settings import DEFAULT_FILE, ENVIRONMENT_FILE

    socket = settings_of(ctx, config).socket
    named = config or config_of(ctx) or Path(os.environ.get(ENVIRONMENT_FILE) or DEFAULT_FILE)
    return Client(socket, named if named != DEFAULT_FILE else None)


def seconds_of(text: str) -> float:
    """The seconds of ``30s``, ``5m``, ``1h30m`` or a plain number; raises ``CliError``."""
    from pydantic_core import PydanticCustomError

    from controller.desired.schema.quantities import parse_duration

    try:
        return parse_duration(float(text) if text.replace(".", "", 1).isdecimal() else text)
    except PydanticCustomError as error:
        raise CliError(f"--timeout {text}: {error.message()}", INVALID) from error
