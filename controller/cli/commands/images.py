"""``images build``, with progress and ``--wait``, and ``retry`` of an image."""

import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from controller.cli.client.client import Client, Json, NoDaemonError, NotFoundError
from controller.cli.client.names import image_name, image_path
from controller.cli.errors import DIFFERENT, DONE, INVALID, CliError
from controller.cli.pages.images import failure_lines, word
from controller.cli.terminal.output import age, hint, one_line, say, show, stderr, stdout

POLL = 1.0
RESTART_GRACE = 60.0
"""Seconds for which a daemon that does not answer any more may restart."""
_EVENTS = 50
_Place = tuple[str, str]


def build(
    client: Client,
    name: str,
    *,
    host: str | None,
    pool: str | None,
    refresh: bool,
    wait: bool,
    timeout: float,
) -> int:
    """Have the daemon build an image; returns the exit code. ``timeout`` in seconds, 0: none."""
    name = image_name(name) or name

    def begin(*, anew: bool = False) -> list[Json]:
        given = {"host": host, "pool": pool, "refresh": "1" if anew else None}
        return list(client.post(f"{image_path(name)}/build", **given)["pools"])

    try:
        seen = client.get("events", guest=f"image/{name}", limit=1)["last"]
        pools = begin(anew=refresh)
    except NotFoundError as error:
        raise CliError(str(error), INVALID) from error
    if not wait:
        return _told(name, pools)
    waiting = _Waiting(client, name, [_place(pool) for pool in pools], begin, seen)
    return waiting.run(timeout)


def _told(name: str, pools: Sequence[Json]) -> int:
    """Print what was begun at each place; returns the exit code."""
    failed = [pool for pool in pools if pool["state"] == "Failed"]
    for pool in pools:
        if pool["state"] == "Ready":
            stdout().print(_ready(name, pool))
        elif pool not in failed:
            stdout().print(f"{name} is being built on {_where(pool)}")
    for pool in failed:
        _tell_failure(name, pool)
    if failed:
        return DIFFERENT
    if any(pool["state"] != "Ready" for pool in pools):
        hint(f"to see it go on: guestkeeper images build {name} --wait")
    return DONE


def retry(client: Client, name: str, *, neither: NotFoundError | None = None) -> int:
    """Forget an image's failure and have it built anew; returns the exit code.

    Raises ``neither`` (or ``NotFoundError``) where no image has that name, ``CliError`` where
    nothing had failed.
    """
    name = image_name(name) or name
    try:
        answer = client.post(f"{image_path(name)}/retry")
    except NotFoundError as error:
        raise (neither or error) from error
    if not answer["had_failed"]:
        state = client.get(image_path(name))["item"]["state"]
        now = f"it is {state}" if state else "it was not built yet"
        raise CliError(f"nothing of image {name} has failed ({now}), so there is nothing to retry")
    if not answer["pools"]:
        stdout().print(f"the failure of image {name} is forgotten; it is built when it is wanted")
        hint(f"to have it built now: guestkeeper images build {name}")
        return DONE
    return _told(name, answer["pools"])


class _Waiting:
    """Waits until an image is ready, or has failed, at each of the places."""

    def __init__(
        self,
        client: Client,
        name: str,
        places: Sequence[_Place],
        begin: Callable[[], list[Json]],
        seen: int,
    ) -> None:
        self._client = client
        self._name = name
        self._places = places
        self._begin = begin
        self._seen = seen

    def run(self, timeout: float) -> int:
        deadline = time.monotonic() + timeout if timeout else float("inf")
        answered = time.monotonic()
        with _Screen(self._name) as screen:
            while True:
                try:
                    pools = self._look()
                    ended = all(pool["state"] in ("Ready", "Failed") for pool in pools)
                    news = [] if ended else self._failed_attempts()
                    answered = time.monotonic()
                except NoDaemonError:
                    # A daemon that restarts goes on with the build that it finds.
                    if time.monotonic() >= min(deadline, answered + RESTART_GRACE):
                        raise
                    time.sleep(POLL)
                    continue
                if ended:
                    break
                for attempt in news:
                    screen.say(attempt)
                screen.show(pools)
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                time.sleep(min(POLL, left))
        return self._ended(pools, timeout)

    def _look(self) -> list[Json]:
        """The state at each place; the build is started again where nothing of it is left."""
        item = self._client.get(image_path(self._name))["item"]
        found = {_place(pool): pool for pool in item["pools"]}
        gone = [place for place in self._places if place not in found]
        if gone or any(found[place]["state"] == "Missing" for place in self._places):
            # The daemon was restarted before it made the builder, or the document changed.
            found |= {_place(pool): pool for pool in self._begin()}
        return [found[place] for place in self._places if place in found]

    def _failed_attempts(self) -> list[str]:
        """The messages of attempts that failed since the last call."""
        about = f"image/{self._name}"
        answer = self._client.get("events", guest=about, after=self._seen, limit=_EVENTS)
        self._seen = answer["last"]
        return [
            f"{event['reason']}: {one_line(event['message'])}"
            for event in answer["items"]
            if event["warning"]
        ]

    def _ended(self, pools: Sequence[Json], timeout: float) -> int:
        code = DONE
        for pool in pools:
            if pool["state"] == "Ready":
                stdout().print(_ready(self._name, pool))
                continue
            code = DIFFERENT
            if pool["state"] == "Failed":
                _tell_failure(self._name, pool)
            else:
                say(
                    f"gave up after {timeout:g} s; {self._name} on {_where(pool)} goes on:"
                    f" {pool['message']}"
                )
                say(f"to see what its installer says: guestkeeper logs image/{self._name} -f")
        return code


class _Screen:
    """Shows progress on stderr: a bar for each place on a terminal, else a line per change."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._console = stderr()
        self._progress: Any = None
        self._tasks: dict[_Place, Any] = {}
        self._shown: dict[_Place, tuple[Any, ...]] = {}

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            from rich.progress import BarColumn, Progress, TextColumn
            from rich.table import Column

            self._progress = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[since]}", markup=False),
                TextColumn(
                    "{task.fields[told]}",
                    markup=False,
                    table_column=Column(no_wrap=True, overflow="ellipsis"),
                ),
                console=self._console,
                transient=True,
            )
            self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def say(self, message: str) -> None:
        console = self._console if self._progress is None else self._progress.console
        console.print(message)

    def show(self, pools: Sequence[Json]) -> None:
        for pool in pools:
            place = _place(pool)
            told = one_line(pool["message"]) or word(pool)
            if self._progress is None:
                self._news(place, pool, told)
                continue
            if place not in self._tasks:
                title = f"{self._name} on {_where(pool)}"
                number = self._progress.add_task(title, start=True, told="", since="")
                self._tasks[place] = next(t for t in self._progress.tasks if t.id == number)
            task = self._tasks[place]
            task.total = _total(pool)  # None: the bar shows activity only
            self._progress.update(
                task.id,
                completed=pool["done"] or 0,
                told=told,
                since=age(pool["since"]) if pool["since"] else "",
            )

    def _news(self, place: _Place, pool: Json, told: str) -> None:
        """Print a line for each new state, phase or detail, and each tenth of a transfer."""
        done, total = pool["done"], _total(pool)
        news = (pool["state"], pool["phase"], pool["detail"], done * 10 // total if total else None)
        if self._shown.get(place) != news:
            self._shown[place] = news
            self._console.print(f"{self._name} on {_where(pool)}: {told}")


def _total(pool: Json) -> int | None:
    """The bytes to transfer, None where that is not known."""
    return pool["total"] if pool["total"] and pool["done"] is not None else None


def _place(pool: Json) -> _Place:
    return pool["host"], pool["pool"]


def _where(pool: Json) -> str:
    return f"{pool['host']}/{pool['pool']}"


def _ready(name: str, pool: Json) -> str:
    return f"{name} is ready on {_where(pool)}: {pool['base']}"


def _tell_failure(name: str, pool: Json) -> None:
    say(f"{name} on {_where(pool)}: {word(pool)}")
    show(stderr(), failure_lines(pool, indent=2))
