"""The steady state: what a resync of guests that changed nothing costs, and how it grows."""

import json
import subprocess
import sys
from typing import Any

from bench.private_libvirtd import ROOT
from bench.progress import say
from bench.result import Result, median

COUNTS = (100, 1_000, 10_000)
BOUNDS = {1_000: 0.25, 10_000: 2.5}
FLATNESS = 1.5
TIMEOUT = 900.0


def measure(runs: int = 5) -> list[Result]:
    """``resync`` of each count, the ratio a guest, and what was done besides looking."""
    worlds = {}
    for count in COUNTS:
        say(f"  {count} guests on the test driver")
        worlds[count] = world_of(count, runs if count >= 1_000 else 4 * runs)
    return results(worlds)


def world_of(count: int, runs: int) -> dict[str, Any]:
    """What ``resync_world`` measured in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.resync_world", str(count), str(runs)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        timeout=TIMEOUT,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def results(worlds: dict[int, dict[str, Any]]) -> list[Result]:
    """The figures of ``resync_world``'s answers, one a number of guests."""
    made = [
        Result(
            f"resync: {count} guests, nothing changed",
            median(world["seconds"]),
            median(world["floors"]),
            "s",
            BOUNDS.get(count),
        )
        for count, world in worlds.items()
    ]
    made += [
        Result(
            f"resync: {count} guests, the slow one (all XML)",
            world["slow_seconds"],
            None,
            "s",
            None,
        )
        for count, world in worlds.items()
        if count >= 1_000
    ]
    few, many = min(worlds), max(worlds)
    # Flat: no steeper than libvirt's own bulk call in the same run, which is not flat itself.
    each = {count: median(world["seconds"]) / count for count, world in worlds.items()}
    bulk = {count: median(world["floors"]) / count for count, world in worlds.items()}
    steepness = bulk[many] / bulk[few]
    made.append(
        Result(
            f"resync: time per guest, {many} against {few}",
            each[many] / each[few],
            steepness,
            "times",
            max(FLATNESS, steepness),
        )
    )
    for what, words in (("xml_reads", "XML documents read"), ("steps", "steps planned")):
        total = sum(world[what] for world in worlds.values())
        made.append(Result(f"resync: {words}", float(total), 0.0, "", 0.0))
    return made
