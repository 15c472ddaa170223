"""``get``: lists, as kubectl would print them; ``-w`` goes on watching."""

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.text import Text

from controller.cli import image_pages
from controller.cli.client import Client, Json
from controller.cli.errors import DIFFERENT, DONE, INVALID, CliError
from controller.cli.formats import dump
from controller.cli.options import Output
from controller.cli.terminal import (
    BAD,
    FAINT,
    GOOD,
    WAITING,
    Cell,
    Line,
    age,
    coloured,
    columns,
    count,
    hint,
    nobody_has,
    one_line,
    person_looks,
    say,
    show,
    size,
    stdout,
)
from controller.desired.problems import closest, suggestion
from controller.web import FORMAT_VERSION

POLL = 20.0
"""Seconds of one long poll."""
_FINE = ("Healthy", "Stopped")
_READABLE = 20
"""Columns of a message that still say something."""


@dataclass(frozen=True, slots=True)
class Kind:
    """How a kind is listed; ``wide`` columns are added to ``headers``, ``last`` ends each line."""

    headers: tuple[str, ...]
    wide: tuple[str, ...]
    row: Callable[[Json], list[Cell]]
    wide_row: Callable[[Json], list[Cell]]
    nothing: str
    last: str = ""
    last_cell: Callable[[Json], Cell] = lambda _: ""

    def grid(self, items: list[Json], wide: int) -> tuple[tuple[str, ...], list[list[Cell]]]:
        """Headings and rows with so many of the wide columns."""
        headers = self.headers + self.wide[:wide] + ((self.last,) if self.last else ())
        rows = []
        for item in items:
            row = [*self.row(item), *(self.wide_row(item)[:wide] if wide else [])]
            rows.append([*row, self.last_cell(item)] if self.last else row)
        return headers, rows


def _guest(item: Json) -> list[Cell]:
    return [
        Text(item["name"], "" if item["printable"] in _FINE else "bold"),
        coloured(item["printable"]),
        coloured(item["sync"]),
        coloured(item["health"]),
        coloured(item["ready"]),
        _ratio(item["services_ready"], item["services_total"]),
        age(item["created_at"]),
    ]


def _guest_wide(item: Json) -> list[Cell]:
    where = [*item["addresses"], *item["forwards"]]
    return [
        Text(item["host"] or "-"),
        Text(item["image"] or "-"),
        Text(",".join(where) or "-"),
        Text(one_line(item["message"]) or "-"),
    ]


def _ratio(ready: int, total: int) -> Text:
    if not total:
        return Text("-", FAINT)
    return Text(f"{ready}/{total}", GOOD if ready == total else WAITING if ready else BAD)


def _service(item: Json) -> list[Cell]:
    kind = "shared" if item["shared"] else "inline"
    return [Text(item["name"]), _ratio(item["ready"], item["total"]), Text(kind)]


def _service_wide(item: Json) -> list[Cell]:
    guests = ",".join(member["guest"] for member in item["guests"])
    return [Text(",".join(item["units"]) or "-"), Text(guests or "-")]


def _host(item: Json) -> list[Cell]:
    status = coloured("reachable" if item["reachable"] else "unreachable")
    return [
        Text(item["name"]),
        status,
        Text(item["accelerator"] if item["reachable"] else "-"),
        str(item["guests"]),
        Text(item["uri"]),
    ]


def _host_wide(item: Json) -> list[Cell]:
    pools = ",".join(f"{pool['name']}({size(pool['available'])} free)" for pool in item["pools"])
    return [
        Text(item["libvirt_version"] or "-"),
        Text(item["hypervisor_version"] or "-"),
        Text(pools or "-"),
        Text(one_line(item["why"]) or "-"),
    ]


def _problem(item: Json) -> list[Cell]:
    place = f"{item['file']}:{item['line']}" if item["line"] else item["file"]
    return [Text(place), Text(item["field"] or "-"), Text(item["message"], BAD)]


KINDS = {
    "guests": Kind(
        ("NAME", "STATUS", "SYNC", "HEALTH", "READY", "SERVICES", "AGE"),
        ("HOST", "IMAGE", "ADDRESS/FORWARDS", "MESSAGE"),
        _guest,
        _guest_wide,
        "no guests; put a Guest document into the desired-state directory",
    ),
    "images": Kind(
        image_pages.HEADERS,
        image_pages.WIDE,
        image_pages.row,
        image_pages.wide_row,
        "no images; put an Image document into the desired-state directory",
        "MESSAGE",
        image_pages.message,
    ),
    "services": Kind(
        ("NAME", "READY", "KIND"), ("UNITS", "GUESTS"), _service, _service_wide, "no services"
    ),
    "hosts": Kind(
        ("NAME", "STATUS", "ACCELERATOR", "GUESTS", "URI"),
        ("LIBVIRT", "HYPERVISOR", "POOLS", "WHY"),
        _host,
        _host_wide,
        "no hosts; name one under [hosts.NAME] in the settings",
    ),
    "problems": Kind(
        ("WHERE", "FIELD", "PROBLEM"), (), _problem, lambda _: [], "no problems in the documents"
    ),
}
_SHORT = {"guest": "guests", "image": "images", "service": "services", "svc": "services"}
_SHORT |= {"host": "hosts", "problem": "problems", "vm": "guests", "vms": "guests"}


def kind_of(word: str) -> str:
    """``guests`` for ``guest`` and the like; raises ``CliError``."""
    kind = _SHORT.get(word.lower(), word.lower())
    if kind not in KINDS:
        tip = suggestion(word, KINDS, listing="there are")
        end = "" if tip.endswith("?") else "."
        raise CliError(
            f"cannot get `{word}`; {tip}{end} For one guest: guestkeeper get guests {word}", INVALID
        )
    return kind


def get(client: Client, kind: str, names: Sequence[str], labels: str, output: Output) -> int:
    """Prints once."""
    if labels and kind != "guests":
        raise CliError(f"-l selects guests only, not {kind}", INVALID)
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


def _key(kind: str) -> str:
    return "file" if kind == "problems" else "name"


def _nothing(client: Client, kind: str, labels: str) -> str:
    """What to say of an empty list."""
    if labels:
        return nobody_has(labels)
    if kind == "guests" and _problems(client):
        return "no guests; their documents have problems: guestkeeper get problems"
    return KINDS[kind].nothing


def _no_such(client: Client, kind: str, name: str, labels: str) -> str:
    """What to say of a name that the list has not."""
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
    """How many problems the documents have."""
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
            sys.stdout.write(f"{item.get('name') or item['file']}\n")
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

    Where they are wider than ``room`` columns, first the last of the wide columns gives way, then
    the others: a line that a terminal wraps has no headings above its second half.
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
    """A last column that can be cut and still be read does not count."""
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
    broken = [item for item in items if item["printable"] not in _FINE]
    if broken:
        worst = min(broken, key=lambda item: (item["health"] != "Degraded", item["name"]))["name"]
        hint(f"\n{count(len(broken), 'guest')} not healthy; why: guestkeeper explain {worst}")


def watch(
    client: Client, kind: str, names: Sequence[str], labels: str, output: Output, timeout: float
) -> int:
    """Prints again whenever something moves, until Ctrl-C or ``timeout`` (0: never)."""
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
                line = json.dumps({"format_version": FORMAT_VERSION, "item": item})
                sys.stdout.write(line + "\n")
        elif output is Output.NAME:
            sys.stdout.writelines(f"{item['name']}\n" for item in fresh)
        elif fresh:
            lines = table(kind, fresh, wide=output is Output.WIDE)
            show(console, lines[1:] if widths_known else lines, cutting=True)
            widths_known = True
        sys.stdout.flush()
        if not _wait(client, version, deadline):
            return DONE


def _told(item: Json) -> str:
    """What makes a watched guest worth printing again."""
    return json.dumps({key: item[key] for key in item if key not in ("updated_at", "recheck_at")})


def _wait(client: Client, version: int, deadline: float) -> bool:
    """False when the time is up."""
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
            # Ages grow without any change: once a second, or at once when something moves.
            client.get("wait", patience=left, version=version, timeout=left)
