"""What the benchmarks' figures look like, and when a bound holds."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from bench import fairness
from bench.daemon_process import toml_of
from bench.result import Result, median, table, told, write
from bench.resync import results
from bench.scratch import settings_for
from controller.settings import load_settings


@pytest.mark.parametrize(
    ("value", "bound", "holds"),
    [(1.0, 2.0, True), (2.0, 2.0, True), (2.001, 2.0, False), (99.0, None, True), (0.0, 0.0, True)],
)
def test_a_bound_holds_up_to_its_value(value: float, bound: float | None, holds: bool) -> None:
    assert Result("x", value, None, "s", bound).holds is holds


def test_a_result_in_the_file_has_exactly_the_six_fields(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    write([Result("create", 0.5123456, 0.3, "s", 0.65)], file)
    assert json.loads(file.read_text()) == [
        {"name": "create", "value": 0.5123, "floor": 0.3, "unit": "s", "bound": 0.65, "holds": True}
    ]


def test_a_run_of_one_benchmark_keeps_the_figures_of_the_others(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    write([Result("a", 1.0, None, "s", None), Result("b", 1.0, None, "s", None)], file)
    write([Result("a", 2.0, None, "s", None)], file)
    found = {one["name"]: one["value"] for one in json.loads(file.read_text())}
    assert found == {"a": 2.0, "b": 1.0}
    write([Result("a", 3.0, None, "s", None)], file, everything=True)
    assert [one["name"] for one in json.loads(file.read_text())] == ["a"]


def test_a_broken_results_file_is_written_anew(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    file.write_text("{")
    write([Result("a", 1.0, None, "s", None)], file)
    assert len(json.loads(file.read_text())) == 1


def test_the_table_shows_every_figure_with_floor_and_bound() -> None:
    console = Console(width=100, no_color=True)
    with console.capture() as capture:
        console.print(
            table([Result("create", 0.5, 0.3, "s", 0.65), Result("x", 9, None, "%", None)])
        )
    text = capture.get()
    for word in ("create", "0.5", "0.3", "0.65", "yes", "%"):
        assert word in text


def test_a_missed_bound_is_named_and_makes_the_exit_status_1() -> None:
    console = Console(width=100, no_color=True)
    good, bad = Result("good", 1.0, None, "s", 1.0), Result("bad", 2.0, None, "s", 1.0)
    with console.capture():
        assert told([good], console) == 0
    with console.capture() as capture:
        assert told([good, bad], console) == 1
    assert "not within bounds: bad" in capture.get()
    assert "NO" in capture.get()


def test_the_median_is_not_moved_by_one_slow_run() -> None:
    assert median([1.0, 1.1, 1.2, 1.3, 50.0]) == 1.2


def _world(seconds: float, floor: float, **more: int) -> dict[str, object]:
    world = {"seconds": [seconds], "floors": [floor], "slow_seconds": 9.0}
    return {**world, "xml_reads": 0, "steps": 0, **more}


def test_a_resync_that_grows_with_the_number_of_guests_only_holds() -> None:
    made = results({100: _world(0.01, 0.001), 1_000: _world(0.1, 0.01), 10_000: _world(1.0, 0.1)})
    assert all(one.holds for one in made)
    flat = next(one for one in made if "per guest" in one.name)
    assert flat.value == pytest.approx(1.0)


def test_a_resync_that_grows_faster_reads_xml_or_plans_steps_does_not_hold() -> None:
    made = results({100: _world(0.01, 0.001), 10_000: _world(2.0, 0.1, xml_reads=3, steps=1)})
    missed = [one.name for one in made if not one.holds]
    assert missed == [
        "resync: time per guest, 10000 against 100",
        "resync: XML documents read",
        "resync: steps planned",
    ]


def test_a_resync_may_be_as_steep_as_libvirts_own_call_and_no_steeper() -> None:
    steep = results({100: _world(0.01, 0.001), 10_000: _world(1.8, 0.19)})
    steeper = results({100: _world(0.01, 0.001), 10_000: _world(1.95, 0.19)})
    assert all(one.holds for one in steep)
    assert not all(one.holds for one in steeper)


def test_a_daemon_reads_back_the_settings_it_is_started_with(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, uri='qemu+unix:///session?socket="/a b"', pool=Path("/pool"))
    file = tmp_path / "guestkeeper.toml"
    file.write_text(toml_of(settings))
    assert load_settings(file) == settings


@pytest.mark.parametrize(("beside", "holds"), [(0.02, True), (0.0201, False)])
def test_well_guests_may_wait_twice_as_long_beside_sick_ones(beside: float, holds: bool) -> None:
    floors = dict.fromkeys(fairness.WHAT, 0.01)
    world = {"floors": floors, "seconds": {**floors, "restart": beside}}
    ratios = [one for one in fairness.results(world) if one.unit == "times"]
    assert [one.bound for one in ratios] == [2.0] * 3
    assert all(one.holds for one in ratios) is holds
