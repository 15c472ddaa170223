"""Formats images for ``get images``, ``describe`` and ``explain``."""

from collections.abc import Iterable, Iterator

from rich.text import Text

from controller.cli.client.client import Json
from controller.cli.terminal.output import (
    BAD,
    FAINT,
    Cell,
    age,
    clock,
    coloured,
    columns,
    one_line,
    size,
)

HEADERS = ("NAME", "STATE", "MADE BY", "GUESTS", "OS")
WIDE = ("MADE FROM", "POOLS", "BASE")


def row(item: Json) -> list[Cell]:
    return [
        Text(item["name"]),
        coloured(item["state"] or "-"),
        Text(item["source_kind"] or "-"),
        str(item["guests"]),
        Text(item["os_family"] or "-"),
    ]


def wide_row(item: Json) -> list[Cell]:
    pools = ",".join(f"{pool['host']}/{pool['pool']}" for pool in item["pools"])
    bases = ",".join(dict.fromkeys(pool["base"] for pool in item["pools"] if pool["base"]))
    return [Text(item["source"] or "-"), Text(pools or "-"), Text(bases or "-")]


def message(item: Json) -> Text:
    """The image's progress, or what is wrong with it."""
    told = dict.fromkeys(one_line(pool["message"]) for pool in item["pools"] if pool["message"])
    return Text("; ".join(told) or "-")


def word(pool: Json) -> str:
    """The image's state in one pool."""
    return "Stalled" if pool["stalled"] else str(pool["state"])


def describe_lines(item: Json, events: list[Text]) -> list[Text]:
    """The page of ``describe``; ``events`` are lines of a table."""
    page = columns((), [(Text(f"{title}:"), value) for title, value in _head(item)])
    for pool in item["pools"]:
        page += [Text(), Text(f"On host {pool['host']}, pool {pool['pool']}:", "bold")]
        rows = [*_on_pool(pool), *_failure(pool)]
        page += columns((), [(Text(f"{title}:"), value) for title, value in rows], 2)
        page += _log_tail(pool, 2)
    page += [Text(), Text("Events:", "bold")]
    return page + (events or [Text("  none", FAINT)])


def _head(item: Json) -> Iterable[tuple[str, Cell]]:
    yield "Name", Text(item["name"], "bold")
    yield "State", coloured(item["state"]) if item["state"] else Text("in no pool", FAINT)
    if item["source_kind"] is not None:
        version = f" ({item['version']})" if item["version"] else ""
        yield "Made by", Text(f"{item['source_kind']}{version}")
        yield "Template" if item["template"] else "Made from", Text(item["source"])
    if item["location"]:
        yield "Installer", Text(item["location"])
    if item["os_family"] is not None:
        cloud_init = ", with cloud-init" if item["cloud_init"] else ""
        yield "OS", Text(item["os_family"] + cloud_init)
    yield "Used by", Text(", ".join(item["used_by"]) or "no guest")
    yield "Content", Text(item["content"] or "no document of that name")


def _on_pool(pool: Json) -> Iterator[tuple[str, Cell]]:
    yield "State", coloured(word(pool))
    if pool["base"]:
        room = f" ({size(pool['capacity'])})" if pool["capacity"] else ""
        yield "Base", Text(pool["base"] + room)
    if pool["phase"]:
        yield "Phase", Text(pool["message"] or pool["phase"])
        yield "For", age(pool["since"])
    elif pool["message"] and pool["state"] != "Failed":
        yield "Now", Text(pool["message"])


def failure_lines(pool: Json, indent: int) -> list[Text]:
    """Reason, message, remedy and the end of the log of a failure; empty if nothing failed."""
    rows = [(Text(f"{title}:"), value) for title, value in _failure(pool)]
    return [*columns((), rows, indent), *_log_tail(pool, indent)]


def _failure(pool: Json) -> Iterator[tuple[str, Cell]]:
    if pool["state"] != "Failed":
        return
    yield "Reason", Text(pool["reason"] or "Failed", BAD)
    yield "Message", Text(" ".join(pool["message"].split()))
    yield "Remedy", Text(pool["remedy"] or "-")
    if pool["retry_at"]:
        yield "Again at", clock(pool["retry_at"])


def _log_tail(pool: Json, indent: int) -> list[Text]:
    if not pool["log_tail"]:
        return []
    lines = [Text(f"{' ' * indent}  {line}") for line in pool["log_tail"].splitlines()]
    return [Text(" " * indent + "The end of its installer's log:"), *lines]


def explain_lines(item: Json) -> list[Text]:
    """The page of ``explain``: a sentence or two for each pool."""
    name = item["name"]
    first = Text(name, "bold").append(" is ", "not bold")
    first.append_text(coloured(item["state"] or "in no pool"))
    if not item["pools"]:
        return [first.append(f": {_unused(item)}", "not bold")]
    users = f"; used by {', '.join(item['used_by'])}" if item["used_by"] else "; no guest uses it"
    lines = [first.append(users, "not bold")]
    for pool in item["pools"]:
        where = f"{pool['host']}/{pool['pool']}"
        rows: list[tuple[Cell, Cell]] = [
            (Text(where if index == 0 else "", "bold"), Text(sentence))
            for index, sentence in enumerate(_sentences(item, pool))
        ]
        lines += [Text(), *columns((), rows)]
    return lines


def _unused(item: Json) -> str:
    if item["used_by"]:
        return "nothing is known of it; do its hosts answer? guestkeeper get hosts"
    if item["source_kind"] in ("file", "url"):
        return "it is put into a pool when a guest uses it"
    return (
        "it is built when a guest uses it, or by hand: guestkeeper images build"
        f" {item['name']} --wait"
    )


def _sentences(item: Json, pool: Json) -> Iterator[str]:
    name = item["name"]
    match word(pool):
        case "Ready":
            yield f"guests are made from its base {pool['base']}"
        case "Preparing":
            since = f", for {age(pool['since'])}" if pool["since"] else ""
            yield f"it is being made: {pool['message'] or 'begun'}{since}"
            if item["template"]:
                yield f"to see what the installer says: guestkeeper logs image/{name} -f"
        case "Missing":
            yield f"it is {pool['message'] or 'not there yet'}; a guest that waits for it begins it"
        case failed:
            yield f"{pool['reason'] or failed}: {one_line(pool['message'])}"
            again = f" (at {clock(pool['retry_at'])})" if pool["retry_at"] else ""
            yield f"{pool['remedy']}{again}"
            if pool["log_tail"]:
                yield f"the end of its installer's log: guestkeeper describe image/{name}"
