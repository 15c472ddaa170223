"""``explain``: the decision about a guest in sentences, also the decision to do nothing.

It says what is wanted, seen and decided, why, what the guest waits for, and when it is looked at
again.
"""

from collections.abc import Iterator

from rich.text import Text

from controller.cli.client.client import Client, Json
from controller.cli.client.names import find
from controller.cli.commands.describe import (
    BAD_WHEN_TRUE,
    change_lines,
    sentence,
    state_of,
    state_since,
    step_lines,
)
from controller.cli.pages import images as image_pages
from controller.cli.pages import lifecycle as life_pages
from controller.cli.terminal.output import (
    age,
    clock,
    coloured,
    columns,
    count,
    duration,
    now,
    one_line,
    seconds,
    show,
    size,
    stdout,
)

_STRATEGIES = {
    "Always": "that always runs",
    "RerunOnFailure": "that runs until it shuts itself down",
    "Manual": "that only you start and stop",
    "Halted": "that is off",
}


def explain(client: Client, name: str) -> None:
    """Print the explanation of a guest or image; raises ``CliError`` where there is neither."""
    found = find(client, name)
    show(stdout(), image_pages.explain_lines(found.item) if found.is_image else lines(found.item))


def lines(item: Json) -> list[Text]:
    """The page of a guest."""
    first = Text(item["name"], "bold").append(" is ", "not bold")
    first.append_text(coloured(item["printable"]))
    first.append(" (sync: ", "not bold").append_text(coloured(item["sync"]))
    first.append(", health: ", "not bold").append_text(coloured(item["health"])).append(")")
    rows = [
        (Text(title, "bold"), Text(text))
        for title, texts in (
            ("Wanted", _wanted(item)),
            ("Seen", _seen(item)),
            ("Decided", _decided(item)),
            ("Because", _because(item)),
            ("Waits for", _waits(item)),
            ("Next", _next(item)),
        )
        for title, text in zip([title, *[""] * 50], texts, strict=False)
    ]
    page = [first, Text(), *columns((), rows)]
    if item["changes"]:
        page += [Text(), Text("Differences", "bold"), *change_lines(item, indent=2)]
    if item["steps"]:
        page += [Text(), Text("Steps, in order", "bold"), *step_lines(item["steps"], indent=2)]
    return page


def _wanted(item: Json) -> Iterator[str]:
    wanted = item["wanted"]
    if wanted is None:
        yield from _unusable(item) or ["nothing: no document names it"]
        return
    what = _STRATEGIES.get(wanted["run_strategy"], wanted["run_strategy"])
    yield (
        f"a guest {what}, of image {item['image']} on host {item['host']}, with"
        f" {count(wanted['vcpus'], 'CPU')} and {size(wanted['memory'])} of memory"
    )
    if item["services"]:
        yield f"serving {', '.join(service['name'] for service in item['services'])}"
    yield f"as {item['origin']['file']}:{item['origin']['line']} says"
    for problem in item["problems"]:
        yield f"its document has an error, so its last good version counts: {problem['text']}"


def _unusable(item: Json) -> list[str]:
    """Why the guest's document cannot be used, if that is why nothing is wanted."""
    found = [c["message"] for c in item["conditions"] if c["reason"] == "DocumentInvalid"]
    if not found:
        return []
    texts = [problem["text"] for problem in item["problems"]]
    if not texts:
        return [one_line(found[0])]
    return [f"its document cannot be used: {text}" for text in texts]


def _seen(item: Json) -> Iterator[str]:
    domain = item["domain"]
    if domain is None:
        yield "no domain of that name" if item["updated_at"] else "nothing yet"
    elif not domain["ours"]:
        yield f"a domain of that name that is not Guestkeeper's ({item['uuid']})"
    else:
        since = state_since(item)
        yield f"its domain is {state_of(domain)}{f' since {since}' if since else ''}"
        if domain["state"] == "running":
            yield f"its guest agent is{'' if domain['agent_connected'] else ' not'} connected"
    yield from life_pages.seen(item)
    if item["inside"] is not None:
        yield f"its inside was looked at {age(item['inside']['looked_at'])} ago"
    for service in item["services"]:
        for probe in service["probes"]:
            if probe["status"] not in ("Success", "Unknown"):
                since = f" for {age(probe['since'])}" if probe["since"] else ""
                yield (
                    f"probe {service['name']}/{probe['name']} ({probe['asks']}) is"
                    f" {probe['status']}{since}: {one_line(probe['message'])}"
                )
    ready = [service["name"] for service in item["services"] if service["ready"]]
    if ready:
        yield f"ready: {', '.join(ready)}"


def _decided(item: Json) -> Iterator[str]:
    yield sentence(item)
    if not item["steps"] and not item["sentence"].startswith(("doing nothing", "nothing")):
        yield "so nothing is done at this moment"


def _because(item: Json) -> Iterator[str]:
    same: dict[tuple[str, str, str], list[str]] = {}
    failure = item["failure"]
    for found in item["conditions"]:
        wanted = "False" if found["type"] in BAD_WHEN_TRUE else "True"
        if found["status"] == wanted:
            continue
        message = found["message"] or found["reason"]
        if message == item["sentence"] or (failure and failure["message"] in message):
            message = found["reason"]
        key = (found["status"], age(found["since"]), one_line(message))
        same.setdefault(key, []).append(found["type"])
    for (status, since, message), types in same.items():
        verb = "is" if len(types) == 1 else "are"
        yield f"{listed(types)} {verb} {status} since {since}: {message}"
    yield from life_pages.because(item)
    if failure is not None:
        yield (
            f"{failure['step']} failed {age(failure['at'])} ago"
            f" ({count(failure['attempts'], 'try', 'tries')}): {one_line(failure['message'])}"
        )


def listed(words: list[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _waits(item: Json) -> Iterator[str]:
    operation = item["operation"]
    if operation is not None:
        yield f"{operation['name']}, which has been at work for {age(operation['since'])}"
    failure = item["failure"]
    if failure is not None:
        yield f"the next try of {failure['step']} at {clock(failure['retry_at'])}"
    again = seconds(item["recheck_at"])
    if _awaits_agent(item):
        yield "the guest agent, which has not connected yet"
    elif again is not None:
        left = again - now()
        soon = f"in {duration(left)}" if left > 0 else "now"
        yield f"{clock(item['recheck_at'])} ({soon}), when it looks again by itself"
    yield "any change of its documents, its domain or its probes: then it looks at once"


def _awaits_agent(item: Json) -> bool:
    """Does the guest wait for its agent? ``recheck_at`` is then only when the wait is given up."""
    domain = item["domain"]
    if domain is None or domain["state"] != "running" or domain["agent_connected"]:
        return False
    return any(c["reason"] in ("AgentStarting", "WaitingForAgent") for c in item["conditions"])


def _next(item: Json) -> Iterator[str]:
    name = item["name"]
    if item["printable"] == "Healthy":
        return
    if item["printable"] == "Stalled" and item["domain"] is None:
        image = item["image"]
        yield f"correct what made its image fail, then: guestkeeper retry {image}"
        yield f"what its installer said: guestkeeper describe image/{image}"
    if item["problems"]:
        yield "correct the document, then: guestkeeper validate"
    if item["domain"] is not None and item["domain"]["state"] == "running":
        yield f"its console: guestkeeper logs {name} -f"
    if item["failure"] is not None and "\n" in item["failure"]["message"]:
        yield f"all that the failure said: guestkeeper describe {name}"
    yield f"what happened before: guestkeeper events {name}"
