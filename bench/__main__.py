"""``python -m bench [NAME…]``: measures, prints a table, writes ``bench/results.json``.

Exits 1 if a figure is not within its bound.
"""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence

from rich.console import Console

from bench import edit, fairness, installs, lifecycle, probes, replacement, resync, rss
from bench.progress import say
from bench.result import Result, told, write

BENCHMARKS: dict[str, Callable[[], list[Result]]] = {
    "create": lifecycle.measure,
    "restart": lifecycle.measure,
    "edit": edit.measure,
    "installs": installs.measure,
    "replacement": replacement.measure,
    "resync": resync.measure,
    "rss": rss.measure,
    "probes": probes.measure,
    "fairness": fairness.measure,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; all if none"
    )
    chosen = parser.parse_args(arguments).names
    names = chosen or list(BENCHMARKS)
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark {unknown[0]}; there are: {', '.join(BENCHMARKS)}")
    # Ended from outside, it still takes away what it made.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    _warn_of_load()
    results: list[Result] = []
    done = set()
    for name in names:
        measure = BENCHMARKS[name]
        if measure not in done:
            done.add(measure)
            say(name)
            results += measure()
    write(results, everything=not chosen)
    return told(results, Console())


def _warn_of_load() -> None:
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load > cores / 2:
        say(f"this machine is busy (load {load:.1f}, {cores} cores): figures will be too high")


if __name__ == "__main__":
    sys.exit(main())
