"""No test reads the wall clock: what is true at noon is true at three in the morning."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
WALL = frozenset(
    {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.today"}
    | {"date.today", "datetime.datetime.now", "datetime.date.today"}
)
MOVES_IT = frozenset({"tests/libvirt/test_deletions.py"})
"""Sets a clock of its own forward and back, from where the clock of its daemon is."""


def calls(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


@pytest.mark.parametrize("room", ["unit", "property", "libvirt"])
def test_no_test_without_guests_asks_what_time_it_is(room: str) -> None:
    asking = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "tests" / room).rglob("*.py")
        if WALL & set(calls(path))
    }
    assert asking - MOVES_IT == set()


def test_a_run_at_another_time_of_day_is_one_for_every_python_of_it() -> None:
    """As ``tests/steady.sh`` starts them; else its four times of day would be one."""
    code = (
        "import subprocess, sys, time; print(time.time());"
        "sys.stdout.flush();"
        "subprocess.run([sys.executable, '-c', 'import time; print(time.time())'])"
    )
    seconds = 1e9
    shown = subprocess.run(
        [sys.executable, "-c", code],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT / "tests/steady"),
            "GUESTKEEPER_TEST_CLOCK": str(seconds),
        },
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    ).stdout.split()
    assert len(shown) == 2
    assert all(float(one) > 2.7e9 for one in shown)


def test_whoever_waits_is_patient() -> None:
    """A tight deadline is a test of the machine."""
    ready = iter([False] * 3 + [True])
    assert wait_until(lambda: next(ready), 0.0, "the fourth look", interval=0.001)
