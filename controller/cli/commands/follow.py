"""``events``, ``logs`` and ``wait``, which may go on until something happens."""

import time
from collections.abc import Sequence

from rich.text import Text

from controller.cli.client.client import Client, Json, NoDaemonError
from controller.cli.client.names import find, image_path
from controller.cli.client.options import Output
from controller.cli.commands.describe import said
from controller.cli.errors import DIFFERENT, DONE, INVALID, CliError
from controller.cli.terminal.formats import dump, dump_line
from controller.cli.terminal.output import (
    BAD,
    age,
    clock,
    columns,
    nobody_has,
    one_line,
    person_looks,
    say,
    show,
    stdout,
    write,
    write_raw,
)
from controller.desired.text.problems import suggestion
from controller.observed.guest_text import ConsoleText
from controller.planning.conditions import ConditionType

POLL = 20.0
_RETRY = 0.5
_PAUSE = 0.1
"""Seconds between two queries: while many guests start, statuses change many times a second."""
_GRACE = 10.0
"""Seconds in which a daemon may still be starting, or a new document not be read yet."""
_GUEST, _REASON = 16, 20
"""Widths of columns while following, fixed because printed lines cannot be aligned again."""


def events(client: Client, name: str | None, output: Output, limit: int) -> int:
    """Print the last ``limit`` events, of all or of one guest or image; returns the exit code."""
    items = client.get("events", guest=name, limit=limit)["items"]
    if name is not None and not items:
        # An image's events are kept as image/NAME. The first query found those of deleted guests.
        items = client.get("events", guest=find(client, name).subject, limit=limit)["items"]
    if output in (Output.JSON, Output.YAML):
        dump({"items": items}, output)
        return DONE
    if not items:
        say("no events yet")
        return DONE
    rows = [
        (Text(age(event["at"])), Text(event["guest"] or "-"), _reason(event), Text(said(event)))
        for event in items
    ]
    show(stdout(), columns(("AGE", "GUEST", "REASON", "MESSAGE"), rows), cutting=True)
    return DONE


def _reason(event: Json) -> Text:
    return Text(event["reason"], BAD if event["warning"] else "")


def follow_events(
    client: Client, name: str | None, output: Output, limit: int, timeout: float
) -> int:
    """Print events as they come, until Ctrl-C or ``timeout`` seconds (0: no limit)."""
    deadline = time.monotonic() + timeout if timeout else float("inf")
    guest = find(client, name).subject if name is not None else None
    answer = client.get("events", guest=guest, limit=limit)
    console = stdout()
    while True:
        for event in answer["items"]:
            if output in (Output.JSON, Output.YAML):
                dump_line(event)
                continue
            text = Text(clock(event["at"]) + "  ")
            text.append((event["guest"] or "-").ljust(_GUEST) + "  ")
            reason = _reason(event)
            reason.pad_right(max(0, _REASON - len(reason.plain)))
            show(console, [text.append_text(reason).append(f"  {said(event)}")], cutting=True)
        wait = min(POLL, deadline - time.monotonic())
        if wait <= 0:
            return DONE
        answer = client.get("events", patience=wait, wait=wait, guest=guest, after=answer["last"])


def logs(client: Client, name: str, *, follow: bool, raw: bool = False) -> int:
    """Print the serial output of a guest, or the log of an image's installer.

    ``follow`` goes on with what comes: for a guest for ever, for an installer until its build ends.
    Without ``raw``, escape sequences are left out, also for a pipe: its reader may be a terminal.
    """
    found = find(client, name)
    if found.is_image:
        return _installer_log(client, str(found.item["name"]), follow=follow, raw=raw)
    if follow:
        say(f"the serial console of {name}; end with Ctrl-C")
    if not _copy(client, f"guests/{name}/console", follow=follow, raw=raw) and not follow:
        say(f"{name} says nothing now, and what it said before is not kept on its host;")
        say(f"to see what comes: guestkeeper logs {name} -f")
    return DONE


def _installer_log(client: Client, image: str, *, follow: bool, raw: bool) -> int:
    if not _copy(client, f"{image_path(image)}/log", follow=follow, raw=raw):
        say(
            f"no installer of image {image} has said anything that is kept here; to build it:"
            f" guestkeeper images build {image} --wait"
        )
    return DONE


def _copy(client: Client, path: str, *, follow: bool, raw: bool) -> bool:
    """Print the stream at ``path``; False where nothing came."""
    last = b""
    readable = ConsoleText()
    for block in client.stream(path, follow="1" if follow else "0"):
        last = block
        if raw:
            write_raw(block)
        else:
            write(readable.feed(block))
    write(readable.end())
    if last and not last.endswith(b"\n") and person_looks():
        write("\n")
    return bool(last)


def condition_of(text: str) -> tuple[str, str]:
    """``condition=Ready=True`` (kubectl's form) as (type, status); raises ``CliError``."""
    kind, _, rest = text.partition("=")
    wanted, _, status = rest.partition("=")
    status = status or "True"
    if kind != "condition" or not wanted:
        raise CliError(f"--for={text}: write such as --for=condition=Ready", INVALID)
    if status.capitalize() not in ("True", "False", "Unknown"):
        raise CliError(f"--for={text}: a status is True, False or Unknown", INVALID)
    types = {str(type).lower(): str(type) for type in ConditionType}
    if wanted.lower() not in types:
        tip = suggestion(wanted, types.values(), listing="there are")
        raise CliError(f"--for={text}: no condition is named `{wanted}`; {tip}", INVALID)
    return types[wanted.lower()], status.capitalize()


def wait(
    client: Client, names: Sequence[str], labels: str, wanted: tuple[str, str], timeout: float
) -> int:
    """Wait until every guest has the condition; each change is a line on stderr.

    Returns the exit code, 1 after ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    patient_until = min(deadline, time.monotonic() + _GRACE)
    shown: dict[str, str] = {}
    done: set[str] = set()
    reached = False
    while True:
        try:
            answer = client.get("guests", name=list(names), labels=labels, view="conditions")
            reached = True
            items = answer["items"]
            missing = sorted(set(names) - {item["name"] for item in items})
            if not names:
                # Guests whose document is gone are not expected to become ready.
                items = [item for item in items if not item["orphan"]]
            for item in items:
                _tell(item, wanted, shown, done)
            if items and not missing and all(_met(item, wanted) for item in items):
                return DONE
            if missing or not items:
                _be_patient(client, missing, labels, patient_until)
                continue
            left = deadline - time.monotonic()
            if left > 0:
                poll = min(POLL, left)
                client.get("wait", patience=poll, version=answer["version"], timeout=poll)
                time.sleep(_PAUSE)
        except NoDaemonError:
            # Wait for a daemon that restarts; for one that never answered only a short time.
            if time.monotonic() >= (deadline if reached else patient_until):
                raise
            time.sleep(_RETRY)
            continue
        if time.monotonic() >= deadline:
            return _gave_up(items, wanted, timeout)


def _be_patient(client: Client, missing: Sequence[str], labels: str, until: float) -> None:
    """Sleep a moment for guests that do not exist yet; raises ``CliError`` after ``until``."""
    if time.monotonic() < until:
        time.sleep(_RETRY)
        return
    if missing:
        client.get(f"guests/{missing[0]}")  # raises an error that suggests a name
        return
    what = nobody_has(labels) if labels else "no guest to wait for"
    raise CliError(f"{what}; see: guestkeeper get guests and guestkeeper get problems")


def _condition(item: Json, wanted: tuple[str, str]) -> Json:
    for found in item["conditions"]:
        if found["type"] == wanted[0]:
            return dict(found)
    return {"status": "Unknown", "reason": "NotSet", "message": item["sentence"]}


def _met(item: Json, wanted: tuple[str, str]) -> bool:
    return bool(_condition(item, wanted)["status"] == wanted[1])


def _why(found: Json) -> str:
    message = one_line(found["message"])
    return f"{found['reason']}: {message}" if message else str(found["reason"])


def _tell(item: Json, wanted: tuple[str, str], shown: dict[str, str], done: set[str]) -> None:
    name, found = item["name"], _condition(item, wanted)
    if _met(item, wanted):
        if name not in done:
            stdout().print(f"{name} condition met")
        done.add(name)
        return
    done.discard(name)
    line = f"{name}: {wanted[0]} is {found['status']} ({_why(found)})"
    if shown.get(name) != line:
        shown[name] = line
        say(line)


def _gave_up(items: list[Json], wanted: tuple[str, str], timeout: float) -> int:
    say(f"gave up after {timeout:g} s:")
    for item in items:
        if not _met(item, wanted):
            found = _condition(item, wanted)
            say(f"  {item['name']}: {wanted[0]} is {found['status']} ({_why(found)})")
            say(f"    see: guestkeeper explain {item['name']}")
    return DIFFERENT
