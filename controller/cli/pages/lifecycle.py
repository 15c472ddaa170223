"""Formats suspension, replacement, retired disks and deletion for ``describe`` and ``explain``."""

from collections.abc import Iterator

from rich.text import Text

from controller.cli.client.client import Json
from controller.cli.terminal.output import (
    BAD,
    FAINT,
    Cell,
    age,
    columns,
    duration,
    now,
    one_line,
    seconds,
)

_PHASES = {
    "preparing": "its new disk is made beside it",
    "stopping": "it is asked to shut down",
    "confirming": "it runs on the new disk and has to become ready",
    "returning": "it is stopped, to get its old disk back",
}
_WHY = {
    "replaced": "another took its place",
    "failed": "the guest did not become ready on it",
    "rolled-back": "an operator went back from it",
}


def head(item: Json) -> Iterator[tuple[str, str]]:
    """Titles and texts for the top of the page of ``describe``."""
    if item["suspended"]:
        every = "" if item["suspended_alone"] else ", with every guest"
        yield "Suspended", f"by an operator{every}: it is only looked at"
    deletion = item["deletion"]
    if deletion is not None:
        since = f", for {age(deletion['since'])}" if deletion["since"] else ""
        approved = ", approved by an operator" if deletion["approved_at"] else ""
        policy = f"; deletionPolicy {deletion['policy']}" if deletion["policy"] else ""
        yield "Gone", f"its document{since}{policy}{approved}"
    if item["restart_requested_at"]:
        yield "Restart", f"asked for by an operator {age(item['restart_requested_at'])} ago"
    if item["approved"]:
        yield "Approved", f"a system disk of {item['approved']}"
    if item["refused"] is not None:
        refused = item["refused"]
        yield "Not again", f"a system disk of {refused['base']}: {one_line(refused['why'])}"


def replacement_lines(item: Json) -> list[Text]:
    """The replacement that is under way; empty if there is none."""
    ongoing = item["replacement"]
    if ongoing is None:
        return []
    rows: list[tuple[Cell, Cell]] = [
        (Text("Phase:"), Text(f"{ongoing['phase']}: {_PHASES.get(ongoing['phase'], '')}")),
        (Text("For:"), age(ongoing["since"])),
        (Text("From:"), Text(_disk(ongoing["from"]))),
        (Text("To:"), Text(_disk(ongoing["to"]))),
    ]
    if ongoing["failure"]:
        rows.append((Text("Failed:"), Text(one_line(ongoing["failure"]), BAD)))
    return columns((), rows, indent=2)


def retired_lines(item: Json) -> list[Text]:
    """The retired system disks that are kept, the latest first."""
    disks = sorted(item["retired"], key=lambda disk: str(disk["since"]), reverse=True)
    if not disks:
        return []
    rows: list[tuple[Cell, ...]] = [
        (
            Text(f"{disk['pool']}/{disk['volume']}"),
            Text(disk["base"] or "-"),
            f"{age(disk['since'])} ago",
            _kept(disk) or "-",
            Text(_WHY.get(disk["why"], disk["why"])),
        )
        for disk in disks
    ]
    lines = columns(("DISK", "OF", "OUT", "KEPT FOR", "WHY"), rows, indent=2)
    if any(disk["why"] != "failed" for disk in disks):
        hint = f"  to go back to the last one that worked: guestkeeper rollback {item['name']}"
        lines.append(Text(hint, FAINT))
    return lines


def seen(item: Json) -> Iterator[str]:
    """Sentences on a replacement under way and retired disks, for ``explain``."""
    ongoing = item["replacement"]
    if ongoing is not None:
        yield (
            f"its system disk is being replaced since {age(ongoing['since'])}, from"
            f" {_disk(ongoing['from'])} to {_disk(ongoing['to'])}:"
            f" {_PHASES.get(ongoing['phase'], '')}"
        )
    kept = [f"{disk['pool']}/{disk['volume']} ({disk['why']})" for disk in item["retired"]]
    if kept:
        plural = "s are" if len(kept) > 1 else " is"
        yield f"its retired system disk{plural} kept: {', '.join(kept)}"


def because(item: Json) -> Iterator[str]:
    """Sentences on what an operator or an earlier failure decided, for ``explain``."""
    refused = item["refused"]
    if refused is not None:
        yield f"{refused['base']} is not taken again unasked: {one_line(refused['why'])}"
    deletion = item["deletion"]
    if deletion is not None and deletion["policy"]:
        yield f"deletionPolicy {deletion['policy']} is what its document last said"
    if deletion is not None and deletion["approved_at"]:
        yield f"an operator approved that {age(deletion['approved_at'])} ago"


def _disk(disk: Json) -> str:
    of = f" (of {disk['base']})" if disk["base"] else ""
    return f"{disk['pool']}/{disk['volume']}{of}"


def _kept(disk: Json) -> str:
    until = seconds(disk["until"])
    return duration(until - now()) if until is not None else ""
