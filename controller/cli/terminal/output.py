"""Formats terminal output: aligned columns, colours by severity, readable ages and sizes.

Data goes to stdout, messages to stderr. Where stdout is no terminal, no line is wrapped or cut.
Tables show the most informative line of a longer text; ``describe`` shows all of it. rich honours
``NO_COLOR``.
"""

import re
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from controller.observed.guest_text import harmless

GOOD, WAITING, BAD, FAINT = "green", "yellow", "bold red", "dim"
_WORDS = {
    GOOD: "Healthy Synced True Success Ready Running yes reachable Normal",
    WAITING: "Installing Replacing Starting Stopping Progressing OutOfSync RestartRequired Paused"
    " Preparing Terminating",
    BAD: "Degraded CrashLoopBackOff Stalled Missing False Failure Failed no unreachable Warning",
    FAINT: "Unknown Stopped Suspended - unknown",
}
_STYLES = {word: style for style, words in _WORDS.items() for word in words.split()}
GAP = 3
"""Spaces between two columns of a table."""
_NARROW = 30
"""Characters of width below which a column is not wrapped, because that reads worse."""
_LONGEST = 160
"""Most characters of the one line that is shown for a longer text."""
_TELLING = [
    re.compile(pattern)
    for pattern in (
        "guestkeeper retry ",  # our own advice on what to do about the lines that follow
        r"\[emerg\]",
        r"(?:^|\s)E: ",
        "(?i)error",
        "(?i)failed",
    )
]
"""Patterns of the line of a program's output that says why it failed; earlier patterns win."""

Cell = str | Text


class Harmless(Console):
    """A console that escapes control characters in texts, which may come from guests."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        """Escape the segments; everything printed passes through here, live tables, too."""
        for segment in super().render(renderable, options):
            if segment.control is None and not segment.text.isprintable():
                segment = Segment(harmless(segment.text, "\n"), segment.style)
            yield segment


def stdout(**options: Any) -> Console:
    return Harmless(highlight=False, markup=False, emoji=False, soft_wrap=True, **options)


def stderr() -> Console:
    return stdout(stderr=True)


def write(text: str) -> None:
    """Write data to stdout and flush: escaped for a terminal, unchanged for a file or pipe."""
    sys.stdout.write(harmless(text, "\n\t") if person_looks() else text)
    sys.stdout.flush()


def write_raw(data: bytes) -> None:
    """Write bytes to stdout unchanged, and flush."""
    sys.stdout.buffer.write(data)
    sys.stdout.flush()


def say(message: str) -> None:
    """Print a message on stderr."""
    stderr().print("\n".join(printable(line) for line in message.split("\n")))


def hint(message: str) -> None:
    """Print on stderr what to do next, only where stdout is a terminal."""
    if person_looks():
        stderr().print(Text(message, FAINT))


def person_looks() -> bool:
    """Is stdout a terminal?"""
    return sys.stdout.isatty()


def printable(text: str) -> str:
    """One line in which control characters and marks of text direction are escaped."""
    return harmless(text)


def one_line(text: str) -> str:
    """The most informative line of ``text``, with "…" for the others; a single line stays whole."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) < 2:
        return lines[0] if lines else ""
    marked = (line for mark in _TELLING for line in lines if mark.search(line))
    return next(marked, lines[0])[:_LONGEST].rstrip("… ") + " …"


def coloured(word: str) -> Text:
    """A status word in its colour."""
    return Text(word, _STYLES.get(word, ""))


def arrow() -> str:
    """An arrow that stdout can encode."""
    encoding = (getattr(sys.stdout, "encoding", None) or "ascii").lower()
    return "→" if "utf" in encoding else "->"


class Line(Text):
    """A line of a table; ``hang`` is the offset of its last column, for wrapping."""

    hang = 0


def columns(
    headers: Sequence[str], rows: Sequence[Sequence[Cell]], indent: int = 0, gap: int = GAP
) -> list[Text]:
    """The lines of a table; the last column has no width limit."""
    grid = [[Text(header, "bold") for header in headers]] if headers else []
    grid += [[cell if isinstance(cell, Text) else coloured(cell) for cell in row] for row in rows]
    if not grid:
        return []
    widths = [max(cell_len(row[i].plain) for row in grid) for i in range(len(grid[0]))]
    lines: list[Text] = []
    for row in grid:
        line = Line(" " * indent)
        for index, cell in enumerate(row):
            if index == len(row) - 1:
                line.hang = len(line)
            line.append_text(cell)
            if index < len(row) - 1:
                line.append(" " * (widths[index] - cell_len(cell.plain) + gap))
        line.rstrip()
        lines.append(line)
    return lines


def show(console: Console, lines: Sequence[Text], *, cutting: bool = False) -> None:
    """Print lines; on a terminal a long last column is wrapped within its column, or cut with
    ``cutting``, which keeps each row on one line."""
    for line in lines:
        for part in _fitted(console, line, cutting=cutting):
            console.print(part)


def _fitted(console: Console, line: Text, *, cutting: bool) -> list[Text]:
    if not console.is_terminal or cell_len(line.plain) <= console.width:
        return [line]
    if cutting:
        line = line.copy()
        line.truncate(console.width, overflow="ellipsis")
        return [line]
    hang = line.hang if isinstance(line, Line) else 0
    room = console.width - hang
    if room < _NARROW:
        return [line]
    first, *others = line[hang:].wrap(console, room)
    return [line[:hang].append_text(first), *(Text(" " * hang).append_text(o) for o in others)]


def now() -> float:
    return time.time()


def seconds(text: str | None) -> float | None:
    """An RFC 3339 time of the API as epoch seconds, None for none."""
    return datetime.fromisoformat(text).timestamp() if text else None


def duration(amount: float) -> str:
    """Seconds as ``45s``, ``3m``, ``5h``, ``12d``: in the largest unit of which there are two."""
    amount = max(0, int(amount))
    if amount < 120:
        return f"{amount}s"
    if amount < 2 * 3600:
        return f"{amount // 60}m"
    if amount < 48 * 3600:
        return f"{amount // 3600}h"
    return f"{amount // 86400}d"


def age(text: str | None, at: float | None = None) -> str:
    """How long ago a time of the API was; ``-`` for none."""
    then = seconds(text)
    return "-" if then is None else duration((now() if at is None else at) - then)


def clock(text: str | None) -> str:
    """A time of the API as local time, ``HH:MM:SS``; ``-`` for none."""
    then = seconds(text)
    return "-" if then is None else f"{datetime.fromtimestamp(then).astimezone():%H:%M:%S}"


def size(amount: int | None) -> str:
    """Bytes in a readable unit: ``4Gi``, ``1.5Gi``; ``-`` for None."""
    if amount is None:
        return "-"
    value, unit = float(amount), ""
    for larger in ("Ki", "Mi", "Gi", "Ti"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f}{unit}" if value == int(value) else f"{value:.1f}{unit}"


def nobody_has(labels: str) -> str:
    """The message that no guest matches a selector."""
    key, equal, value = labels.replace("==", "=").partition("=")
    simple = "," not in labels and "!" not in key and equal
    return f"no guest has {key}={value}" if simple else f"no guest matches {labels}"


def count(number: int, noun: str, plural: str = "") -> str:
    """``1 guest``, ``2 guests``."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
