"""The command line (typer): every command with its arguments and its help, and nothing else.

The code of a command is imported when it runs: ``guestkeeper version`` and shell completion must
not wait for libvirt, and the daemon must not keep in memory what only commands need.
"""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from controller import __version__
from controller.cli.client.options import (
    As,
    Config,
    Labels,
    Output,
    Timeout,
    client_of,
    config_of,
    quiet_logs,
    seconds_of,
    settings_of,
)
from controller.cli.commands import guest_args as guest_commands
from controller.cli.errors import INTERRUPTED, INVALID, UNREACHABLE, CliError
from controller.errors import GuestkeeperError, HostUnreachableError

OBSERVE, ACT = "See what is", "Act on guests and images"
DOCUMENTS, DAEMON = "Documents, without the daemon", "The daemon"


class Commands(TyperGroup):
    """Turns exceptions of commands into one message and an exit code, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except CliError as error:
            _fail(str(error), error.code)
        except HostUnreachableError as error:
            _fail(str(error), UNREACHABLE)
        except GuestkeeperError as error:
            _fail(str(error), INVALID)
        except BrokenPipeError:
            # The reader of our output (head, less) has ended; exit quietly.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None


def _fail(message: str, code: int) -> None:
    from rich.text import Text

    from controller.cli.terminal.output import BAD, stderr

    stderr().print(Text("error: ", BAD).append(message, "default not bold"))
    raise typer.Exit(code)


app = typer.Typer(
    name="guestkeeper",
    cls=Commands,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="A virtual machine and its services as one object, kept real on plain libvirt/KVM.",
    epilog="Exit codes: 0 done; 1 differences, or not met; 2 usage or documents; 3 no answer.",
)
Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="A guest's name, or an image's (image/NAME where a guest has it, too).",
    ),
]
Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", show_default=False)]


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"guestkeeper {__version__}")
        raise typer.Exit(0)


@app.callback()
def common(
    ctx: typer.Context,
    config: Config = None,
    _: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Options before the command count for every command."""
    ctx.obj = config


@app.command(rich_help_panel=DAEMON)
def run(ctx: typer.Context, config: Config = None) -> None:
    """Run the daemon in the foreground, until SIGTERM or Ctrl-C; SIGHUP reloads."""
    settings_of(ctx, config)  # so that errors in them are printed as of other commands
    file = config or config_of(ctx)
    arguments = ["--config", str(file)] if file is not None else []
    # execv: the same process becomes the daemon, without the modules that commands loaded.
    os.execv(sys.executable, [sys.executable, "-m", "controller.daemon", *arguments])  # noqa: S606


@app.command(rich_help_panel=DOCUMENTS)
def validate(
    ctx: typer.Context,
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PATH]...", help="Files, directories. [default: desired_dir]"),
    ] = None,
    config: Config = None,
    output: As = Output.TABLE,
) -> None:
    """Check documents; every problem as file:line: field: what to write instead."""
    from controller.cli.commands import documents

    settings = None if paths else settings_of(ctx, config)
    where = list(paths or [settings.desired_dir if settings is not None else Path()])
    raise typer.Exit(documents.validate(where, settings, output))


@app.command(rich_help_panel=DOCUMENTS)
def plan(
    ctx: typer.Context,
    names: Names = None,
    detailed_exitcode: Annotated[
        bool,
        typer.Option("--detailed-exitcode", help="Exit 0 no changes, 1 error, 2 changes."),
    ] = False,
    config: Config = None,
    output: As = Output.TABLE,
) -> None:
    """Show what would be changed, field by field, and the steps. Exits 1 where there is any."""
    from controller.cli.commands import plan_apply as planned
    from controller.daemon import once

    quiet_logs()
    try:
        report = once.plan_once(settings_of(ctx, config), tuple(names or ()))
    except GuestkeeperError as error:
        if detailed_exitcode:
            raise CliError(str(error), 1) from error  # 2 means that there are changes
        raise
    raise typer.Exit(planned.show_plan(report, output, detailed=detailed_exitcode))


@app.command(rich_help_panel=DOCUMENTS)
def apply(
    ctx: typer.Context,
    names: Names = None,
    timeout: Timeout = "15m",
    config: Config = None,
    output: As = Output.TABLE,
) -> None:
    """Make it so in one pass, without a daemon."""
    from controller.cli.commands import plan_apply as planned
    from controller.daemon import once
    from controller.web.server import socket_answers

    settings = settings_of(ctx, config)
    if socket_answers(settings.socket):
        raise CliError(
            f"a daemon answers on {settings.socket} and applies the documents by itself; to have it"
            " look at a guest at once: guestkeeper reconcile NAME"
        )
    quiet_logs()
    with planned.Progress() as progress:
        report = once.apply_once(settings, tuple(names or ()), seconds_of(timeout), progress)
    raise typer.Exit(planned.show_applied(report, output))


@app.command(rich_help_panel=OBSERVE)
def get(
    ctx: typer.Context,
    kind: Annotated[
        str,
        typer.Argument(
            metavar="[KIND]", help="guests, images, services, hosts, volumes, problems."
        ),
    ] = "guests",
    names: Names = None,
    labels: Labels = "",
    orphaned: Annotated[
        bool, typer.Option("--orphaned", help="Of volumes only those that nobody uses any more.")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on, print changes.")] = False,
    timeout: Timeout = "0s",
    config: Config = None,
    output: As = Output.TABLE,
) -> None:
    """List guests, images, services, hosts, volumes or the documents' problems."""
    from controller.cli.commands import get as listing
    from controller.cli.pages.kinds import kind_of

    kind = kind_of(kind)
    with client_of(ctx, config) as client:
        if watch:
            limit = seconds_of(timeout)
            code = listing.watch(client, kind, names or [], labels, output, limit)
        else:
            code = listing.get(client, kind, names or [], labels, output, orphaned=orphaned)
    raise typer.Exit(code)


@app.command(rich_help_panel=OBSERVE)
def describe(ctx: typer.Context, name: Name, config: Config = None) -> None:
    """Show everything about a guest, or an image."""
    from controller.cli.commands.describe import describe as show

    with client_of(ctx, config) as client:
        show(client, name)


@app.command(rich_help_panel=OBSERVE)
def explain(ctx: typer.Context, name: Name, config: Config = None) -> None:
    """Say in sentences what was decided about a guest (or how an image stands), and why."""
    from controller.cli.commands.explain import explain as show

    with client_of(ctx, config) as client:
        show(client, name)


@app.command(rich_help_panel=OBSERVE)
def events(
    ctx: typer.Context,
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Only of this guest, or image.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as they come.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10000, help="How many.")] = 50,
    timeout: Timeout = "0s",
    config: Config = None,
    output: As = Output.TABLE,
) -> None:
    """Show what happened."""
    from controller.cli.commands import follow as following

    with client_of(ctx, config) as client:
        if follow:
            patience = seconds_of(timeout)
            code = following.follow_events(client, name, output, limit, patience)
        else:
            code = following.events(client, name, output, limit)
    raise typer.Exit(code)


@app.command(rich_help_panel=OBSERVE)
def logs(
    ctx: typer.Context,
    name: Name,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as it comes.")] = False,
    raw: Annotated[
        bool, typer.Option("--raw", help="With its escape sequences, which steer a terminal.")
    ] = False,
    config: Config = None,
) -> None:
    """Show a guest's serial console, or what an image's installer said."""
    from controller.cli.commands import follow as following

    with client_of(ctx, config) as client:
        raise typer.Exit(following.logs(client, name, follow=follow, raw=raw))


@app.command(rich_help_panel=OBSERVE)
def wait(
    ctx: typer.Context,
    names: Names = None,
    every: Annotated[bool, typer.Option("--all", help="All guests.")] = False,
    labels: Labels = "",
    condition: Annotated[
        str, typer.Option("--for", metavar="condition=TYPE[=STATUS]", help="What to wait for.")
    ] = "condition=Ready",
    timeout: Timeout = "5m",
    config: Config = None,
) -> None:
    """Wait until guests have a condition; exits 1 when it takes too long."""
    from controller.cli.commands import follow as following

    if bool(names) + every + bool(labels) != 1:
        raise CliError("name guests, or say --all, or -l KEY=VALUE: one of them", INVALID)
    wanted, patience = following.condition_of(condition), seconds_of(timeout)
    with client_of(ctx, config) as client:
        raise typer.Exit(following.wait(client, names or [], labels, wanted, patience))


guest_commands.register(app, ACT)


@app.command(rich_help_panel=DOCUMENTS)
def render(
    ctx: typer.Context, name: Name, config: Config = None, output: As = Output.TABLE
) -> None:
    """Show what a guest or an image would be made of: XML, packages, files, answer file."""
    from controller.cli.commands import documents

    raise typer.Exit(documents.render(settings_of(ctx, config), name, output))


@app.command(rich_help_panel=DOCUMENTS)
def export(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A domain's name.")],
    host: Annotated[
        str | None, typer.Option("--host", metavar="HOST", help="Only there. [default: any]")
    ] = None,
    image: Annotated[
        str | None,
        typer.Option(
            "--image", metavar="IMAGE", help="The guest's image. [default: the one that fits]"
        ),
    ] = None,
    config: Config = None,
) -> None:
    """Write the Guest document of a domain that exists, also of a foreign one."""
    from controller.cli.commands import adopt as adoption

    quiet_logs()
    raise typer.Exit(adoption.export(settings_of(ctx, config), name, host, image))


@app.command(rich_help_panel=DOCUMENTS)
def schema() -> None:
    """Print the documents' JSON Schema."""
    from controller.cli.commands import documents

    documents.schema()


@app.command(rich_help_panel=DAEMON)
def doctor(ctx: typer.Context, config: Config = None, output: As = Output.TABLE) -> None:
    """Check whether this machine can do the job, and say what to mend."""
    from controller.cli.commands import doctor as checks

    quiet_logs()
    named = config or config_of(ctx)
    raise typer.Exit(checks.doctor(lambda: settings_of(ctx, config), named, output))


@app.command(rich_help_panel=DAEMON)
def version(output: As = Output.TABLE) -> None:
    """Print the version."""
    if output in (Output.JSON, Output.YAML):
        from controller.cli.terminal.formats import dump

        dump({"version": __version__}, output)
    else:
        typer.echo(f"guestkeeper {__version__}")
