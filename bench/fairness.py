"""What the guests that are well wait for while a host hangs, one is slow, and agents hang."""

import json
import subprocess
import sys
from typing import Any

from bench.private_libvirtd import ROOT
from bench.progress import say
from bench.result import Result

BOUND = 2.0
"""Times what they wait for without the sick ones, in the same run."""
TIMEOUT = 120.0
WHAT = {
    "restart": "from a guest's end to its next start",
    "look": "a look into a guest",
    "probe": "between two answers to a probe",
}


def measure() -> list[Result]:
    """One ratio for each of what is waited for."""
    say("  five hosts, 1,000 guests")
    done = subprocess.run(
        [sys.executable, "-m", "bench.fairness_world"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        timeout=TIMEOUT,
        check=True,
    )
    return results(json.loads(done.stdout))


def results(world: dict[str, Any]) -> list[Result]:
    """The figures of ``fairness_world``'s answer."""
    made = []
    for what, words in WHAT.items():
        floor, value = world["floors"][what], world["seconds"][what]
        made.append(Result(f"fairness: {words}, beside sick hosts", value, floor, "s", None))
        made.append(Result(f"fairness: {words}, ratio", value / floor, 1.0, "times", BOUND))
    return made
