"""``get``: lists in the style of kubectl; ``-w`` watches for changes."""

import json
import time
from collections import Counter
from collections.abc import Sequence

from rich.text import Text

from controller.cli.client.client import Client, Json
from controller.cli.client.options import Output
from controller.cli.errors import DIFFERENT, DONE, INVALID, UNREACHABLE, CliError
from controller.cli.pages.kinds import FINE, KINDS
from controller.cli.terminal.formats import dump, dump_line
from controller.cli.terminal.output import (
    Line,
    columns,
    count,
    hint,
    nobody_has,
    person_looks,
    printable,
    say,
    show,
    stdout,
    write,
)
from controller.desired.text.problems import closest

POLL = 20.0
"""Seconds of one long poll."""
_READABLE = 20
"""Characters that a cut message needs to be readable."""
_DOUBTFUL = ("possibly-orphaned", "unknown")
_SCAN = 60.0
"""Seconds longer than usual that hosts may take to list the volumes of their pools."""


def get(
    client: Client,
    kind: str,
    names: Sequence[str],
    labels: str,
    output: Output,
    *,
    orphaned: bool = False,
) -> int:
    """Print a list once; ``orphaned``: only volumes that nothing uses. Returns the exit code."""
    if labels and kind != "guests":
        raise CliError(f"-l selects guests only, not {kind}", INVALID)
    if kind == "volumes":
        return _volumes(client, names, output, orphaned=orphaned)
    if orphaned:
        raise CliError(f"--orphaned selects volumes only, not {kind}", INVALID)
    items, _ = _fetch(client, kind, names, labels, output)
    if items or output in (Output.JSON, Output.YAML):
        _print(kind, items, output, single=len(names) == 1)
    elif output is not Output.NAME and not names:
        say(_nothing(client, kind, labels))
    if output in (Output.TABLE, Output.WIDE) and person_looks():
        _hint(client, kind, items)
    missing = [name for name in names if name not in {item.get(_key(kind)) for item in items}]
    for name in missing:
        say(_no_such(client, kind, name, labels))
    return DIFFERENT if missing and kind != "problems" else DONE


def _volumes(client: Client, names: Sequence[str], output: Output, *, orphaned: bool) -> int:
    answer = client.get("volumes", patience=_SCAN)
    items = [item for item in answer["items"] if not orphaned or item["orphaned"]]
    items = [item for item in items if not names or item["name"] in names]
    if items or output in (Output.JSON, Output.YAML):
        _print("volumes", items, output, single=len(names) == 1)
    elif output is not Output.NAME and not names:
        say("no volumes that nobody uses" if orphaned else KINDS["volumes"].nothing)
    doubts = Counter(item["why"] for item in answer["items"] if item["use"] in _DOUBTFUL)
    for why, number in sorted(doubts.items()) if output is not Output.NAME else ():
        say(f"who uses {count(number, 'volume')} is not certain: {printable(why)}")
    if orphaned and items and output in (Output.TABLE, Output.WIDE):
        hint("\nthey are never deleted unasked; to delete one: virsh vol-delete NAME --pool POOL")
    missing = [name for name in names if name not in {item["name"] for item in items}]
    for name in missing:
        say(f"no volume is named `{name}`; see: guestkeeper get volumes")
    for host in answer["unseen"]:
        say(f"the volumes of host {host['host']} cannot be told: {host['why']}")
    if answer["unseen"]:
        return UNREACHABLE
    return DIFFERENT if missing else DONE


def _key(kind: str) -> str:
    return "file" if kind == "problems" else "name"


def _nothing(client: Client, kind: str, labels: str) -> str:
    """The message for an empty list."""
    if labels:
        return nobody_has(labels)
    if kind == "guests" and _problems(client):
        return "no guests; their documents have problems: guestkeeper get problems"
    return KINDS[kind].nothing


def _no_such(client: Client, kind: str, name: str, labels: str) -> str:
    """The message for a name that is not in the list."""
    if kind == "problems":
        return f"no problems in `{name}`"
    if kind == "guests":
        try:
            client.get(f"guests/{name}")
        except CliError as error:
            return str(error)
        return f"guest {name} does not match {labels}"
    meant = closest(name, [item["name"] for item in client.get(kind)["items"]])
    tip = f"did you mean `{meant}`?" if meant else f"see: guestkeeper get {kind}"
    return f"no {kind.removesuffix('s')} is named `{name}`; {tip}"


def _problems(client: Client) -> int:
    """The number of problems of the documents."""
    return int(client.get("status")["problems"])


def _fetch(
    client: Client, kind: str, names: Sequence[str], labels: str, output: Output
) -> tuple[list[Json], int]:
    if kind != "guests":
        items = client.get(kind)["items"]
        return [item for item in items if not names or item[_key(kind)] in names], 0
    full = output in (Output.JSON, Output.YAML)
    answer = client.get(
        "guests", name=list(names), labels=labels, view="full" if full else "summary"
    )
    return answer["items"], answer["version"]


def _print(kind: str, items: list[Json], output: Output, *, single: bool) -> None:
    if output in (Output.JSON, Output.YAML):
        dump({"item": items[0]} if single and len(items) == 1 else {"items": items}, output)
        return
    if output is Output.NAME:
        for item in items:
            write(f"{item.get('name') or item['file']}\n")
        return
    console = stdout()
    wide = output is Output.WIDE
    room = console.width if console.is_terminal else None
    lines = table(kind, items, wide=wide, room=room)
    show(console, lines, cutting=wide or bool(KINDS[kind].last))
    if wide:
        left_out = [header for header in KINDS[kind].wide if header not in lines[0].plain]
        if left_out:
            hint(f"\nno room for {', '.join(left_out)}; widen the terminal, or add -o yaml")


def table(kind: str, items: list[Json], *, wide: bool, room: int | None = None) -> list[Text]:
    """The lines of a list, headings first.

    Where they are wider than ``room`` characters, wide columns are left out, from the last to the
    first: a line that a terminal wraps has no headings above its second half.
    """
    how = KINDS[kind]
    shown = len(how.wide) if wide else 0
    headers, rows = how.grid(items, shown)
    lines = columns(headers, rows)
    while room is not None and shown and _overflow(lines, room):
        shown -= 1
        headers, rows = how.grid(items, shown)
        lines = columns(headers, rows)
    return columns(headers, rows, gap=1) if room is not None and _overflow(lines, room) else lines


def _overflow(lines: list[Text], room: int) -> bool:
    """Are the lines too wide, with less than ``_READABLE`` left for the last column?"""
    widest = max(line.cell_len for line in lines)
    hang = max(line.hang for line in lines if isinstance(line, Line))
    return widest > room and room - hang < _READABLE


def _hint(client: Client, kind: str, items: list[Json]) -> None:
    if kind == "images":
        failed = [item["name"] for item in items if item["state"] in ("Stalled", "Failed")]
        if failed:
            hint(f"\n{count(len(failed), 'image')} failed; why: guestkeeper explain {failed[0]}")
    if kind != "guests":
        return
    problems = _problems(client)
    if problems:
        many = count(problems, "problem")
        hint(f"\n{many} in the documents; see: guestkeeper get problems")
    broken = [item for item in items if item["printable"] not in FINE]
    if broken:
        worst = min(broken, key=lambda item: (item["health"] != "Degraded", item["name"]))["name"]
        hint(f"\n{count(len(broken), 'guest')} not healthy; why: guestkeeper explain {worst}")


def watch(
    client: Client, kind: str, names: Sequence[str], labels: str, output: Output, timeout: float
) -> int:
    """Print guests that changed, until Ctrl-C or ``timeout`` seconds (0: no limit)."""
    if kind != "guests":
        raise CliError(f"-w watches guests only, not {kind}", INVALID)
    deadline = time.monotonic() + timeout if timeout else float("inf")
    console = stdout()
    live = console.is_terminal and output in (Output.TABLE, Output.WIDE)
    if live:
        return _watch_live(client, names, labels, output, deadline)
    shown: dict[str, str] = {}
    widths_known = False
    while True:
        items, version = _fetch(client, kind, names, labels, output)
        fresh = [item for item in items if shown.get(item["name"]) != _told(item)]
        shown = {item["name"]: _told(item) for item in items}
        if output in (Output.JSON, Output.YAML):
            for item in fresh:
                dump_line(item)
        elif output is Output.NAME:
            write("".join(f"{item['name']}\n" for item in fresh))
        elif fresh:
            lines = table(kind, fresh, wide=output is Output.WIDE)
            show(console, lines[1:] if widths_known else lines, cutting=True)
            widths_known = True
        if not _wait(client, version, deadline):
            return DONE


def _told(item: Json) -> str:
    """The parts of a watched guest that are printed again when they change."""
    return json.dumps({key: item[key] for key in item if key not in ("updated_at", "recheck_at")})


def _wait(client: Client, version: int, deadline: float) -> bool:
    """Wait for another version of the statuses; False when the deadline has passed."""
    while True:
        left = min(POLL, deadline - time.monotonic())
        if left <= 0:
            return False
        if client.get("wait", patience=left, version=version, timeout=left)["version"] != version:
            return True


def _watch_live(
    client: Client, names: Sequence[str], labels: str, output: Output, deadline: float
) -> int:
    from rich.console import Group
    from rich.live import Live

    with Live(console=stdout(), auto_refresh=False, vertical_overflow="visible") as live:
        while True:
            items, version = _fetch(client, "guests", names, labels, output)
            wide = output is Output.WIDE
            lines = table("guests", items, wide=wide, room=live.console.width)
            for line in lines:
                line.no_wrap, line.overflow = True, "ellipsis"
            live.update(Group(*lines), refresh=True)
            left = min(1.0 if items else POLL, deadline - time.monotonic())
            if left <= 0:
                return DONE
            # Drawn again once a second because ages grow, or at once when something changes.
            client.get("wait", patience=left, version=version, timeout=left)
