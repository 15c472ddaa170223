"""What decides gets the one clock that nobody sets; the host's is for windows and for people."""

import ast
import inspect
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

MODULES = [import_module(f"controller.daemon.{name}") for name in ("house", "run")]
PEOPLES = {
    ("Rollouts", "clock"),
    ("Reconciler", "wall"),
    ("Journal", "clock"),
    ("SteadyClock", "wall"),
}
"""What asks whether a window is open, what people are shown, and where the time comes from."""


def host_clocks(module: object) -> set[tuple[str, str]]:
    """(class, parameter) of the classes that a module builds things of and that would take the
    host's clock if nobody gave them another."""
    return {
        (name, parameter.name)
        for name, value in vars(module).items()
        if inspect.isclass(value) and value.__module__.startswith("controller.")
        for parameter in inspect.signature(value).parameters.values()
        if parameter.default is time.time
    }


def calls(module: object) -> Iterator[ast.Call]:
    tree = ast.parse(Path(inspect.getfile(module)).read_text(encoding="utf-8"))  # type: ignore[arg-type]
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


@pytest.mark.parametrize("module", MODULES)
def test_whoever_decides_gets_the_clock_of_the_house(module: object) -> None:
    wanted = host_clocks(module) - PEOPLES
    assert wanted
    left = dict.fromkeys(wanted, "is not built")
    for call in calls(module):
        name = call.func.id if isinstance(call.func, ast.Name) else ""
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        for one in [one for one in wanted if one[0] == name]:
            left[one] = given.get(one[1], "is not given")
    assert {value.rpartition("clock.")[2] for value in left.values()} == {"now"}, left


@pytest.mark.parametrize("module", MODULES)
def test_the_house_itself_does_not_ask_the_hosts_clock(module: object) -> None:
    asked = [ast.unparse(call.func) for call in calls(module)]
    assert "time.time" not in asked
