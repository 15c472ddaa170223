"""The kinds that ``get`` lists: their headings, and the cells of their rows."""

from collections.abc import Callable
from dataclasses import dataclass

from rich.text import Text

from controller.cli.client.client import Json
from controller.cli.errors import INVALID, CliError
from controller.cli.pages import images as image_pages
from controller.cli.pages import volumes as volume_pages
from controller.cli.terminal.output import (
    BAD,
    FAINT,
    GOOD,
    WAITING,
    Cell,
    age,
    coloured,
    one_line,
    size,
)
from controller.desired.text.problems import suggestion

FINE = ("Healthy", "Stopped")
"""Status words of guests that need no attention."""


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
        """Headings and rows, with the first ``wide`` of the wide columns."""
        headers = self.headers + self.wide[:wide] + ((self.last,) if self.last else ())
        rows = []
        for item in items:
            row = [*self.row(item), *(self.wide_row(item)[:wide] if wide else [])]
            rows.append([*row, self.last_cell(item)] if self.last else row)
        return headers, rows


def _guest(item: Json) -> list[Cell]:
    return [
        Text(item["name"], "" if item["printable"] in FINE else "bold"),
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
    pools = ",".join(f"{pool['name']}({_room(pool)})" for pool in item["pools"])
    return [
        Text(item["libvirt_version"] or "-"),
        Text(item["hypervisor_version"] or "-"),
        Text(pools or "-"),
        Text(one_line(item["why"]) or "-"),
    ]


def _room(pool: Json) -> str:
    return f"{size(pool['available'])} free" if pool["active"] else "not active"


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
    "volumes": Kind(
        volume_pages.HEADERS,
        volume_pages.WIDE,
        volume_pages.row,
        volume_pages.wide_row,
        "no volumes that have to do with Guestkeeper",
        "USED BY",
        volume_pages.used_by,
    ),
    "problems": Kind(
        ("WHERE", "FIELD", "PROBLEM"), (), _problem, lambda _: [], "no problems in the documents"
    ),
}
_SHORT = {"guest": "guests", "image": "images", "service": "services", "svc": "services"}
_SHORT |= {"host": "hosts", "problem": "problems", "vm": "guests", "vms": "guests"}
_SHORT |= {"volume": "volumes", "vol": "volumes"}


def kind_of(word: str) -> str:
    """The kind for a word: ``guests`` for ``guest`` and so on; raises ``CliError``."""
    kind = _SHORT.get(word.lower(), word.lower())
    if kind not in KINDS:
        tip = suggestion(word, KINDS, listing="there are")
        end = "" if tip.endswith("?") else "."
        raise CliError(
            f"cannot get `{word}`; {tip}{end} For one guest: guestkeeper get guests {word}", INVALID
        )
    return kind
