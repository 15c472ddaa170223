"""``adopt``: show what taking over a foreign domain would change, ask, and adopt it.

``export``: print the document of an existing domain.
"""

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from rich.text import Text

from controller.cli.client.client import Client, Json
from controller.cli.client.options import Output
from controller.cli.commands.describe import step_lines
from controller.cli.errors import DIFFERENT, DONE
from controller.cli.terminal.formats import dump
from controller.cli.terminal.output import (
    BAD,
    FAINT,
    Cell,
    arrow,
    columns,
    hint,
    person_looks,
    printable,
    say,
    show,
    stdout,
    write,
)
from controller.cli.terminal.prompts import confirm

if TYPE_CHECKING:
    from controller.settings import Settings

_PATIENCE = 60.0
"""Seconds that the preview may take: it also looks inside the guest."""


def adopt(client: Client, name: str, *, yes: bool, dry_run: bool, output: Output) -> int:
    """Show the plan, ask, and adopt; the exit code is 1 where the domain cannot be adopted.

    Raises ``CliError`` without a yes.
    """
    path = f"guests/{quote(name, safe='')}/adoption"
    item = client.get(path, patience=_PATIENCE)["item"]
    people = output in (Output.TABLE, Output.WIDE)
    if people:
        show(stdout(), lines(item))
    if item["problems"] or dry_run:
        if not people:
            _print(item, output)
        return DIFFERENT if item["problems"] else DONE
    confirm(f"take over domain {name}?", yes=yes, undone="nothing was adopted")
    done = client.post(path, digest=item["digest"])["item"]
    if people:
        stdout().print(f"{name} is Guestkeeper's now; it was not stopped")
        hint(f"how it goes on: guestkeeper describe {name}")
    else:
        _print(done, output)
    return DONE


def _print(item: Json, output: Output) -> None:
    if output is Output.NAME:
        write(f"{item['name']}\n")
    else:
        dump({"item": item}, output)


def lines(item: Json) -> list[Text]:
    """The plan for people; names, titles and paths are escaped, as others have chosen them."""
    item = _printable(item)
    head = Text(item["name"], "bold")
    head.append(f"  (domain {item['uuid']} on host {item['host']}, {item['state']})", FAINT)
    page = [head]
    if item["problems"]:
        page += [Text(f"  {problem}", BAD) for problem in item["problems"]]
        return [*page, Text("  it cannot be adopted before")]
    page.append(Text("  takes over:"))
    page += columns(
        (),
        [(Text(one["place"]), Text(one["is"]), Text(one["field"])) for one in item["devices"]],
        4,
    )
    if item["changes"]:
        page.append(Text("  would change:"))
        page += columns(("FIELD", "FROM", "TO", "CLASS", "DISRUPTION"), _rows(item), 4)
    else:
        page.append(Text("  would change nothing"))
    if item["inside"] == "unknown":
        page.append(
            Text("  what differs inside is not known: its guest agent does not answer", FAINT)
        )
    if item["then"]:
        page.append(Text(f"  {arrow()} then, as for every guest:"))
        page += step_lines(item["then"], indent=4)
    return page


def _printable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _printable(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_printable(one) for one in value]
    return printable(value) if isinstance(value, str) else value


def _rows(item: Json) -> list[tuple[Cell, ...]]:
    return [
        (
            Text(change["path"]),
            Text(change["old"] or "(none)"),
            Text(change["new"] or "(none)"),
            Text(change["class"]),
            Text(_disruption(change)),
        )
        for change in item["changes"]
    ]


def _disruption(change: Json) -> str:
    waits = f"; waits for: {change['needs']}" if change["needs"] else ""
    return f"{change['disruption']}{waits}"


def export(settings: "Settings", name: str, host: str | None, image: str | None) -> int:
    """Print the document; what has to be decided is in its comments, and on stderr for a pipe."""
    from controller.daemon.export import export_once

    made = export_once(settings, name, host, image)
    write(made.text)
    if not person_looks():  # on a terminal, the document's comments already show them
        for note in made.notes:
            say(f"note: {note}")
        for line in made.kept_lines:
            say(f"kept as it is, and not managed: {line}")
    elif made.foreign:
        hint(
            f"put it into {settings.desired_dir}; what taking the domain over would change:"
            f" guestkeeper adopt {made.name} --dry-run"
        )
    return DONE
