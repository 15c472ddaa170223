"""Commands that act on guests: ``suspend``, ``resume``, ``restart``, ``approve``, ``rollback``.

The daemon writes the request down and answers a sentence on what will happen, which is printed.
What takes something away (a guest's present disk, a guest) is shown and confirmed first.
"""

import time
from collections.abc import Callable, Sequence
from urllib.parse import quote

from rich.text import Text

from controller.cli.client.client import Client, Json, NoDaemonError
from controller.cli.commands.follow import POLL
from controller.cli.errors import DIFFERENT, DONE, CliError
from controller.cli.terminal.output import Cell, age, columns, one_line, say, show, stderr, stdout
from controller.cli.terminal.prompts import confirm

_ENDS = {"Delete": "deleted", "Stop": "stopped", "Retain": "left as it is"}
RETRY = 0.5
"""Seconds between two tries to reach a daemon that restarts."""


def wish(client: Client, names: Sequence[str], word: str) -> int:
    """Send the request ``word`` for each guest; if one is refused, go on with the others."""
    return _each(names, lambda name: client.post(_path(name, word)))


def _path(name: str, word: str) -> str:
    return f"guests/{quote(name, safe='')}/{word}"


def _each(names: Sequence[str], ask: Callable[[str], Json]) -> int:
    code = DONE
    for name in names:
        try:
            answer = ask(name)
        except NoDaemonError:
            raise
        except CliError as error:
            if len(names) == 1:
                raise
            say(str(error))
            code = max(code, error.code)
        else:
            stdout().print(answer["message"])
    return code


def wish_of_all(client: Client, word: str) -> int:
    """Send the request ``word`` for all guests at once."""
    stdout().print(client.post(word)["message"])
    return DONE


# --- restart --------------------------------------------------------------------------------------


def restart(client: Client, names: Sequence[str], *, wait: bool, timeout: float) -> int:
    """Request restarts; with ``wait``, wait until each guest has booted anew and is Ready.

    ``timeout`` is in seconds for all of them (0: no limit). Returns the exit code.
    """
    before = {name: _run(_item(client, name)) for name in names} if wait else {}
    code = wish(client, names, "restart")
    if code != DONE or not wait:
        return code
    deadline = time.monotonic() + timeout if timeout else float("inf")
    waiting = dict.fromkeys(names, "")
    while True:
        try:
            version = client.get("status")["version"]
            for name in list(waiting):
                item = _item(client, name)
                if _restarted(item, before[name]):
                    stdout().print(f"{name} has booted anew and is ready")
                    del waiting[name]
                elif waiting[name] != (told := one_line(item["sentence"])):
                    waiting[name] = told
                    say(f"{name}: {told}")
            left = deadline - time.monotonic()
            if not waiting or left <= 0:
                break
            poll = min(POLL, left)
            client.get("wait", patience=poll, version=version, timeout=poll)
        except NoDaemonError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(RETRY)  # it may be restarting; the request is in the domain's metadata
    if waiting:
        say(f"gave up after {timeout:g} s:")
    for name, told in waiting.items():
        say(f"  {name}: {told}; see: guestkeeper explain {name}")
    return DIFFERENT if waiting else DONE


def _item(client: Client, name: str) -> Json:
    return dict(client.get(f"guests/{quote(name, safe='')}")["item"])


def _run(item: Json) -> int | None:
    return item["domain"]["run"] if item["domain"] is not None else None


def _restarted(item: Json, before: int | None) -> bool:
    return (
        item["restart_requested_at"] is None
        and _run(item) not in (None, before)
        and item["ready"] == "True"
    )


# --- approve, rollback ----------------------------------------------------------------------------


def approve(client: Client, names: Sequence[str], *, now: bool) -> int:
    """Approve the replacement that each guest waits with now; the answers name its base."""
    return _each(names, lambda name: _approve(client, name, now=now))


def _approve(client: Client, name: str, *, now: bool) -> Json:
    base = _item(client, name)["approval"]
    return client.post(_path(name, "approve"), base=base, now="1" if now else None)


def approve_deletions(client: Client, names: Sequence[str], *, yes: bool) -> int:
    """Show what would be stopped and deleted, ask, and approve it; ``names`` empty means all."""
    waiting = client.get("deletions")["items"]
    missing = sorted(set(names) - {item["name"] for item in waiting})
    if missing:
        item = _item(client, missing[0])  # raises where there is no such guest
        raise CliError(
            f"{item['name']} does not wait to be stopped or deleted; see: guestkeeper explain"
            f" {item['name']}"
        )
    if not waiting:
        raise CliError("no guest whose document is gone waits to be stopped or deleted")
    chosen = [item for item in waiting if not names or item["name"] in names]
    rows: list[tuple[Cell, ...]] = [
        (
            Text(item["name"]),
            Text(_ENDS.get(item["policy"], item["policy"])),
            age(item["since"]),
            Text(item["system_disk"] or "-"),
        )
        for item in chosen
    ]
    show(stderr(), columns(("NAME", "WILL BE", "GONE FOR", "SYSTEM DISK"), rows))
    confirm("their documents are meant to be gone, and this to happen?", yes=yes)
    # By name: guests that vanished while the question was open are not approved.
    shown = [item["name"] for item in chosen]
    for told in client.post("deletions/approve", name=shown)["items"]:
        stdout().print(told["message"])
    return DONE


def rollback(client: Client, name: str, *, yes: bool) -> int:
    """Show which disk comes back and what stays on the present one, ask, and request it."""
    item = _item(client, name)
    good = [disk for disk in item["retired"] if disk["why"] != "failed"]
    if good and item["replacement"] is None:
        disk = max(good, key=lambda one: one["since"])
        say(
            f"{name} would be stopped and boot from {disk['pool']}/{disk['volume']}, as it was"
            f" {age(disk['since'])} ago; what was written to {_system_disk(item)} since then stays"
            " on that disk, which is kept"
        )
        confirm(f"go back to the earlier system disk of {name}?", yes=yes)
    return wish(client, [name], "rollback")


def _system_disk(item: Json) -> str:
    disks = item["domain"]["disks"] if item["domain"] is not None else []
    found = [f"{disk['pool']}/{disk['volume']}" for disk in disks if disk["name"] == "disk-system"]
    return found[0] if found else "the present disk"
