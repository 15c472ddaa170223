"""One figure, its floor and its bound; the table and the file that figures end in."""

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).with_name("results.json")


@dataclass(frozen=True, slots=True)
class Result:
    """``floor`` is the same without Guestkeeper, ``bound`` the most that is allowed.

    Either may be None: there is no such thing as a floor, or the figure is told for information.
    """

    name: str
    value: float
    floor: float | None
    unit: str
    bound: float | None
    holds: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "holds", self.bound is None or self.value <= self.bound)


def median(values: Iterable[float]) -> float:
    """Of at least one value."""
    return float(statistics.median(values))


def write(results: Sequence[Result], file: Path = RESULTS, *, everything: bool = False) -> None:
    """The list as JSON; a run that was not of ``everything`` replaces its own figures only."""
    fresh = [_rounded(asdict(result)) for result in results]
    names = {result.name for result in results}
    kept = [] if everything else [old for old in _read(file) if old["name"] not in names]
    part = file.with_suffix(".tmp")
    part.write_text(json.dumps([*kept, *fresh], indent=2) + "\n", encoding="utf-8")
    part.replace(file)


def _read(file: Path) -> list[dict[str, object]]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    if not isinstance(found, list):
        return []
    return [one for one in found if isinstance(one, dict) and "name" in one]


def _rounded(result: dict[str, object]) -> dict[str, object]:
    return {
        key: float(f"{value:.4g}") if isinstance(value, float) else value
        for key, value in result.items()
    }


def table(results: Sequence[Result]) -> Table:
    """For the terminal."""
    made = Table(title="Guestkeeper's figures", title_justify="left")
    made.add_column("figure")
    for column in ("measured", "floor", "bound"):
        made.add_column(column, justify="right")
    made.add_column("unit")
    made.add_column("holds")
    for one in results:
        holds = "[green]yes[/]" if one.holds else "[bold red]NO[/]"
        made.add_row(
            one.name,
            _number(one.value),
            _number(one.floor),
            _number(one.bound),
            one.unit,
            "" if one.bound is None else holds,
        )
    return made


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def told(results: Sequence[Result], console: Console) -> int:
    """Prints the table; the exit status: 1 if a bound does not hold."""
    console.print(table(results))
    missed = [one.name for one in results if not one.holds]
    if missed:
        console.print(f"[bold red]not within bounds:[/] {', '.join(missed)}")
    return 1 if missed else 0
