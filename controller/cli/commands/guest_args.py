"""Commands that act on guests and images (suspend, approve, build ...): arguments and help."""

from typing import Annotated

import typer

from controller.cli.client.options import As, Config, Output, Timeout, client_of, seconds_of
from controller.cli.errors import INVALID, CliError

Names = Annotated[list[str], typer.Argument(metavar="NAME...", help="Guests' names.")]
NamesOrAll = Annotated[
    list[str] | None,
    typer.Argument(metavar="[NAME]...", help="Guests' names.", show_default=False),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


images_app = typer.Typer(no_args_is_help=True, help="Build images by hand.")


def register(app: typer.Typer, panel: str) -> None:
    """Add these commands to ``app``, listed in the help under ``panel``."""
    for command in (suspend, resume, restart, approve, rollback, retry, adopt, reconcile):
        app.command(rich_help_panel=panel)(command)
    app.add_typer(images_app, name="images", rich_help_panel=panel)


def _names_or_all(names: list[str] | None, *, every: bool) -> list[str]:
    if bool(names) == every:
        raise CliError("name guests, or say --all: one of them", INVALID)
    return names or []


def suspend(
    ctx: typer.Context,
    names: NamesOrAll = None,
    every: Annotated[
        bool, typer.Option("--all", help="Every guest, also those that come.")
    ] = False,
    config: Config = None,
) -> None:
    """Leave guests alone: they are looked at, and nothing is done to them."""
    from controller.cli.commands import guests

    names = _names_or_all(names, every=every)
    with client_of(ctx, config) as client:
        code = (
            guests.wish(client, names, "suspend")
            if names
            else guests.wish_of_all(client, "suspend")
        )
    raise typer.Exit(code)


def resume(
    ctx: typer.Context,
    names: NamesOrAll = None,
    every: Annotated[
        bool, typer.Option("--all", help="All but those that were suspended by name.")
    ] = False,
    config: Config = None,
) -> None:
    """Look after suspended guests again."""
    from controller.cli.commands import guests

    names = _names_or_all(names, every=every)
    with client_of(ctx, config) as client:
        code = (
            guests.wish(client, names, "resume") if names else guests.wish_of_all(client, "resume")
        )
    raise typer.Exit(code)


def restart(
    ctx: typer.Context,
    names: Names,
    wait: Annotated[
        bool, typer.Option("--wait", help="Go on until they are ready again (0).")
    ] = False,
    timeout: Timeout = "15m",
    config: Config = None,
) -> None:
    """Shut guests down and start them again, which applies staged changes."""
    from controller.cli.commands import guests

    patience = seconds_of(timeout)
    with client_of(ctx, config) as client:
        raise typer.Exit(guests.restart(client, names, wait=wait, timeout=patience))


def approve(
    ctx: typer.Context,
    names: NamesOrAll = None,
    now: Annotated[
        bool, typer.Option("--now", help="Do not wait for a maintenance window.")
    ] = False,
    deletions: Annotated[
        bool,
        typer.Option(
            "--deletions",
            help="Approve the stopping and deleting of guests whose documents are gone.",
        ),
    ] = False,
    yes: Yes = False,
    config: Config = None,
) -> None:
    """Let the system disks of guests be replaced, or guests be deleted."""
    from controller.cli.commands import guests

    if not names and not deletions:
        raise CliError("name guests, or say --deletions", INVALID)
    if now and deletions:
        raise CliError("--now goes with replacements, not with --deletions", INVALID)
    with client_of(ctx, config) as client:
        if deletions:
            code = guests.approve_deletions(client, names or [], yes=yes)
        else:
            code = guests.approve(client, names or [], now=now)
    raise typer.Exit(code)


def rollback(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A guest's name.")],
    yes: Yes = False,
    config: Config = None,
) -> None:
    """Give a guest its earlier system disk back; the present one is kept."""
    from controller.cli.commands import guests

    with client_of(ctx, config) as client:
        raise typer.Exit(guests.rollback(client, name, yes=yes))


def retry(
    ctx: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="A guest's name, or an image's (image/NAME where a guest has it, too).",
        ),
    ],
    config: Config = None,
) -> None:
    """Try again what failed and is not tried again by itself: a replacement, an installation."""
    from controller.cli.client.client import NotFoundError
    from controller.cli.client.names import image_name
    from controller.cli.commands import guests, images

    with client_of(ctx, config) as client:
        if image_name(name) is not None:
            raise typer.Exit(images.retry(client, name))
        try:
            code = guests.wish(client, [name], "retry")
        except NotFoundError as error:
            code = images.retry(client, name, neither=error)
    raise typer.Exit(code)


def reconcile(ctx: typer.Context, names: Names, config: Config = None) -> None:
    """Have the daemon look at guests now."""
    from controller.cli.terminal.output import stdout

    with client_of(ctx, config) as client:
        for name in names:
            client.post(f"guests/{name}/reconcile")
            stdout().print(f"{name} will be looked at now")


def adopt(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A guest's name.")],
    yes: Yes = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what it would change.")
    ] = False,
    config: Config = None,
    output: As = Output.TABLE,
) -> None:
    """Take over the domain of a guest's name that somebody else made, without stopping it."""
    from controller.cli.commands import adopt as adoption

    with client_of(ctx, config) as client:
        raise typer.Exit(adoption.adopt(client, name, yes=yes, dry_run=dry_run, output=output))


@images_app.command("build")
def images_build(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="An image's name.")],
    host: Annotated[
        str | None,
        typer.Option("--host", metavar="HOST", help="Only there. [default: where guests use it]"),
    ] = None,
    pool: Annotated[
        str | None,
        typer.Option(
            "--pool", metavar="POOL", help="Into this one. [default: where guests use it]"
        ),
    ] = None,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Ask the installer's tree anew what it holds.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Go on until it is ready (0) or has failed (1).")
    ] = False,
    timeout: Timeout = "0s",
    config: Config = None,
) -> None:
    """Build an image that is made by an unattended install."""
    from controller.cli.commands import images

    patience = seconds_of(timeout)
    with client_of(ctx, config) as client:
        code = images.build(
            client,
            name,
            host=host,
            pool=pool,
            refresh=refresh,
            wait=wait,
            timeout=patience,
        )
    raise typer.Exit(code)
