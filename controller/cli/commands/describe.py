"""``describe``: everything about one guest or image, in sections."""

from collections.abc import Iterable
from typing import Any

from rich.text import Text

from controller.cli.client.client import Client, Json
from controller.cli.client.names import find
from controller.cli.pages import images as image_pages
from controller.cli.pages import lifecycle as life_pages
from controller.cli.terminal.output import (
    BAD,
    FAINT,
    GOOD,
    Cell,
    age,
    arrow,
    clock,
    coloured,
    columns,
    hint,
    one_line,
    show,
    size,
    stdout,
)

EVENTS = 12
BAD_WHEN_TRUE = ("Orphaned", "RestartRequired", "Stalled", "Suspended")
"""Conditions that are bad when True; all others are bad when False."""


def describe(client: Client, name: str) -> None:
    """Print the page of a guest or image; raises ``CliError`` where there is neither."""
    found = find(client, name)
    item = found.item
    events = client.get("events", guest=found.subject, limit=EVENTS)["items"]
    if found.is_image:
        show(stdout(), image_pages.describe_lines(item, event_lines(events, indent=2)))
        return
    show(stdout(), lines(item, events))
    if item["printable"] != "Healthy":
        hint(f"\nwhy, and what happens next: guestkeeper explain {name}")


def lines(item: Json, events: list[Json]) -> list[Text]:
    """The page of a guest."""
    page = columns((), list(_head(item)))
    for title, rows in (
        ("Last failure", _failure(item)),
        ("Domain", _domain(item)),
        ("Network", _network(item)),
        ("Services", _services(item)),
        ("Replacement of its system disk", life_pages.replacement_lines(item)),
        ("Retired system disks", life_pages.retired_lines(item)),
        ("Conditions", _conditions(item)),
        ("Differences", change_lines(item, indent=2)),
        ("Planned steps", step_lines(item["steps"], indent=2)),
        ("Problems of its document", [Text(f"  {p['text']}", BAD) for p in item["problems"]]),
        ("Events", event_lines(events, indent=2) or [Text("  none", FAINT)]),
    ):
        if rows:
            page += [Text(), Text(f"{title}:", "bold"), *rows]
    return page


def _head(item: Json) -> Iterable[tuple[Cell, Cell]]:
    def row(title: str, value: Any) -> tuple[Cell, Cell]:
        return Text(f"{title}:"), value if isinstance(value, Text) else Text(str(value))

    yield row("Name", Text(item["name"], "bold"))
    yield row("Status", coloured(item["printable"]))
    yield row("Sync", coloured(item["sync"]))
    yield row("Health", coloured(item["health"]))
    yield row("Now", sentence(item))
    for title, text in life_pages.head(item):
        yield row(title, text)
    if item["operation"] is not None:
        operation = item["operation"]
        yield row("At work", f"{operation['name']} for {age(operation['since'])}")
    if item["recheck_at"] is not None:
        yield row("Looks again", f"at {clock(item['recheck_at'])}, or when something changes")
    if item["origin"] is not None:
        yield row("Document", f"{item['origin']['file']}:{item['origin']['line']}")
    if item["labels"]:
        yield row("Labels", ", ".join(f"{key}={value}" for key, value in item["labels"].items()))
    yield row("Host", item["host"] or "-")
    yield row("Image", item["image"] or "-")
    if item["generation"] is not None:
        yield row("Generation", _generation(item))
    yield row("Age", age(item["created_at"]))


def sentence(item: Json) -> str:
    """The sentence of the guest's plan, on one line."""
    text, failure = str(item["sentence"]), item["failure"]
    if failure is not None:
        text = text.replace(failure["message"], one_line(failure["message"]))
    return one_line(text)


def _failure(item: Json) -> list[Text]:
    """The complete text of the last failure, which tables shorten to a line."""
    failure = item["failure"]
    if failure is not None:
        tries = f" (try {failure['attempts']})" if failure["attempts"] > 1 else ""
        again = f", again at {clock(failure['retry_at'])}"
        head = [Text(f"  {failure['step']}{tries}, {age(failure['at'])} ago{again}")]
        told = failure["message"]
    else:
        head = []
        told = next((c["message"] for c in item["conditions"] if "\n" in c["message"]), "")
    return head + [Text(f"    {line}".rstrip(), BAD) for line in told.splitlines()]


def _generation(item: Json) -> str:
    if item["applied_digest"] is None:
        return "none applied whole yet"
    if item["applied_digest"] == item["digest"]:
        return f"{item['generation']}, applied"
    return f"{item['generation']} applied; the document is newer"


def _domain(item: Json) -> list[Text]:
    domain = item["domain"]
    if domain is None:
        return [Text("  there is none", FAINT)]
    since = state_since(item)
    since = f", since {since}" if since else ""
    rows: list[tuple[Cell, Cell]] = [
        (Text("State:"), Text(state_of(domain) + since)),
        (Text("UUID:"), Text(item["uuid"])),
        (Text("CPUs:"), Text(f"{domain['vcpus']} (at most {domain['max_vcpus']})")),
        (
            Text("Memory:"),
            Text(f"{size(domain['memory'])} (at most {size(domain['max_memory'])})"),
        ),
        (Text("Runs by:"), Text(f"{domain['accelerator']}, {domain['firmware']}")),
        (
            Text("Agent:"),
            Text("connected", GOOD) if domain["agent_connected"] else Text("not connected"),
        ),
    ]
    if not domain["ours"]:
        rows.append((Text("Owner:"), Text("not Guestkeeper; it is left alone", BAD)))
    if domain["running_job"]:
        rows.append((Text("Job:"), Text("libvirt is at work on it (backup, migration, snapshot)")))
    if domain["title"]:
        rows.append((Text("Title:"), Text(one_line(domain["title"]))))
    if domain["autostart"]:
        rows.append((Text("Autostart:"), Text("on: libvirt starts it when it starts itself")))
    for disk in domain["disks"]:
        rows.append((Text(f"{disk['name']}:"), Text(_disk(disk))))
    return columns((), rows, indent=2)


def _disk(disk: Json) -> str:
    what = f"{disk['pool']}/{disk['volume']}" if disk["volume"] else "empty"
    cache = [f"cache {disk['cache']}"] if disk["cache"] else []
    limits = [f"{name} {value}" for name, value in disk["io_tune"].items()]
    return f"{disk['target']}  {what} ({', '.join([disk['format'], *cache, *limits])})"


def state_of(domain: Json) -> str:
    """The domain's state, with its reason where that adds something."""
    state, reason = str(domain["state"]), str(domain["reason"])
    return state if state in ("running", reason) or reason == "other" else f"{state} ({reason})"


def state_since(item: Json) -> str:
    """How long the domain has been in its state; '' where that is not known."""
    if item["domain"]["state"] == "running":
        started = item["domain"]["started_at"]
        return age(started) if started else ""
    seen = {found["type"]: found["since"] for found in item["conditions"]}
    since = seen.get("Running") or seen.get("Ready")
    return age(since) if since else ""


def _network(item: Json) -> list[Text]:
    rows: list[tuple[Cell, Cell]] = []
    interfaces = item["domain"]["interfaces"] if item["domain"] is not None else []
    for nic in interfaces:
        source = f" {nic['source']}" if nic["source"] else ""
        model = f", {nic['model']}" if nic["model"] != "virtio" else ""
        link = f", link {nic['link']}" if nic["link"] != "up" else ""
        text = f"{nic['kind']}{source}, {nic['mac']}{model}{link}"
        rows.append((Text(f"{nic['name']}:"), Text(text)))
    if item["addresses"]:
        rows.append((Text("Addresses:"), Text(", ".join(item["addresses"]))))
    for forward in item["forwards"]:
        outside, _, inside = forward.rpartition(":")
        rows.append((Text("Forward:"), Text(f"{outside} {arrow()} {inside} in the guest")))
    return columns((), rows, indent=2)


def _services(item: Json) -> list[Text]:
    found: list[Text] = []
    for service in item["services"]:
        line = Text("  ").append(service["name"], "bold").append("  ")
        line.append_text(ready_word(service["ready"]))
        details = [service["unit"] or "", ", ".join(service["packages"])]
        line.append("  " + "  ".join(detail for detail in details if detail))
        line.rstrip()
        found.append(line)
        probes: list[tuple[Cell, ...]] = [
            (
                Text(probe["name"]),
                coloured(probe["status"]),
                Text(f"for {age(probe['since'])}" if probe["since"] else "-"),
                Text(probe["asks"] or "-"),
                Text(one_line(probe["message"]) or "-"),
            )
            for probe in service["probes"]
        ]
        found += columns((), probes, indent=6)
    return found


def ready_word(ready: bool | None) -> Text:
    """A service's readiness as a word."""
    if ready is None:
        return Text("unknown", FAINT)
    return Text("ready", GOOD) if ready else Text("not ready", BAD)


def _conditions(item: Json) -> list[Text]:
    rows: list[tuple[Cell, ...]] = []
    for found in item["conditions"]:
        status = found["status"]
        bad = status == ("True" if found["type"] in BAD_WHEN_TRUE else "False")
        good = status != "Unknown" and not bad
        rows.append(
            (
                Text(found["type"]),
                Text(status, BAD if bad else GOOD if good else FAINT),
                Text(found["reason"]),
                Text(age(found["since"])),
                Text(one_line(found["message"])),
            )
        )
    return columns(("TYPE", "STATUS", "REASON", "SINCE", "MESSAGE"), rows, indent=2) if rows else []


def change_lines(item: Json, indent: int) -> list[Text]:
    """``path: old → new (class: what the guest notices; needs: command)``, a line per change."""
    rows: list[tuple[Cell, ...]] = []
    for change in item["changes"]:
        value = Text().append(change["old"] or "(none)", "red" if change["old"] else FAINT)
        value.append(f" {arrow()} ").append(
            change["new"] or "(none)", "green" if change["new"] else FAINT
        )
        cost = f": {change['disruption']}" if change["disruption"] not in (None, "none") else ""
        value.append(f"  ({change['class']}{cost}", FAINT)
        if change["needs"]:
            value.append(f"; needs: guestkeeper {change['needs']} {item['name']}", FAINT)
        rows.append((Text(f"{change['path']}:"), value.append(")", FAINT)))
    return columns((), rows, indent)


def step_lines(steps: list[Json], indent: int) -> list[Text]:
    """The steps, numbered in the order in which they are done."""
    return [Text(f"{' ' * indent}{number}. {step['text']}") for number, step in enumerate(steps, 1)]


def event_lines(events: list[Json], indent: int = 0) -> list[Text]:
    """A table of events of one guest, oldest first."""
    if not events:
        return []
    rows = [
        (
            Text(age(event["at"])),
            Text(event["reason"], BAD if event["warning"] else ""),
            Text(said(event)),
        )
        for event in events
    ]
    return columns(("AGE", "REASON", "MESSAGE"), rows, indent)


def said(event: Json) -> str:
    """An event's message, with how often it was repeated."""
    times = f" ({event['count']} times in {_span(event)})" if event["count"] > 1 else ""
    return f"{one_line(event['message'])}{times}"


def _span(event: Json) -> str:
    from controller.cli.terminal.output import duration, seconds

    return duration((seconds(event["at"]) or 0) - (seconds(event["first_at"]) or 0))
