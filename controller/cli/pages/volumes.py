"""Formats volumes for ``get volumes``."""

from rich.text import Text

from controller.cli.client.client import Json
from controller.cli.terminal.output import (
    BAD,
    FAINT,
    WAITING,
    Cell,
    count,
    duration,
    now,
    printable,
    seconds,
    size,
)

HEADERS = ("NAME", "POOL", "HOST", "SIZE")
WIDE = ("ALLOCATED", "OVERLAY OF")


def row(item: Json) -> list[Cell]:
    name = printable(item["name"])
    return [Text(name), Text(item["pool"]), Text(item["host"]), size(item["size"])]


def wide_row(item: Json) -> list[Cell]:
    backing = (item["backing"] or "").rpartition("/")[2]
    return [size(item["allocation"]), Text(printable(backing) or "-")]


def used_by(item: Json) -> Text:
    """What uses the volume, in words."""
    guest, disk = item["guest"], _disk(item)
    match item["use"]:
        case "base":
            overlays = f" ({count(item['overlays'], 'overlay')})" if item["overlays"] else ""
            return Text(f"image {item['image']}{overlays}")
        case "orphaned":
            return Text(f"nobody; it was the {disk} of {guest}", BAD)
        case "possibly-orphaned":
            return Text(f"perhaps nobody; it was the {disk} of {guest}", WAITING)
        case "unknown":
            return Text(f"not known; it was the {disk} of {guest}", WAITING)
        case "foreign":
            by = printable(item["why"])
            return Text(f"{by}, no guest; it is named like the {disk} of {guest}", FAINT)
        case "retired":
            return Text(f"{guest} (retired system disk{_kept(item)})")
        case "replacement":
            return Text(f"{guest} ({disk}, being replaced)")
        case _:
            return Text(f"{guest} ({disk})")


def _disk(item: Json) -> str:
    disk = item["disk"]
    if disk == "system":
        return "system disk"
    if disk == "seed":
        return "cloud-init seed"
    return f"drive {disk}" if item["use"] == "cdrom" else f"disk {disk}"


def _kept(item: Json) -> str:
    until = seconds(item["until"])
    return f", kept for {duration(until - now())}" if until is not None else ""
