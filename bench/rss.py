"""The memory of a real daemon that keeps a thousand guests, web server included, and its scrapes.

The host is libvirt's test driver, which lives in the daemon's own process, so what it holds (a real
host's libvirtd would) is in the figure; how much that is, is told beside.
"""

import tempfile
import time
from pathlib import Path

from bench import resync
from bench.daemon_process import DaemonProcess, daemon_process, resident_bytes
from bench.documents import write_many
from bench.private_libvirtd import wait_until
from bench.progress import say
from bench.result import Result, median
from bench.scratch import PREFIX, settings_for

GUESTS = 1_000
BOUND = 150.0
SCRAPE_BOUND = 0.5
"""Seconds: Prometheus asks every 15 s or so, and gives up after 10."""
MB = 1_000_000
CONVERGE_TIMEOUT = 600.0
WATCHED = 12.0
"""Seconds in which the most counts, once all is converged."""


def measure() -> list[Result]:
    """``rss`` of the daemon with 1,000 guests; the floor is the same daemon with none."""
    driver = resync.world_of(GUESTS, 1)["driver_bytes"] / MB
    (megabytes, scrape), (least, quickest) = _of(GUESTS), _of(0)
    return [
        Result(f"rss: {GUESTS} guests, steady", megabytes, least, "MB", BOUND),
        Result("rss: of which the test driver's domains", driver, None, "MB", None),
        Result(f"scrape: /metrics of {GUESTS} guests", scrape, quickest, "s", SCRAPE_BOUND),
    ]


def _of(guests: int) -> tuple[float, float]:
    """Megabytes at most, and seconds of a scrape (median)."""
    with tempfile.TemporaryDirectory(prefix=PREFIX) as scratch:
        settings = settings_for(
            Path(scratch),
            uri="test:///default",
            pool=Path("/gkbench"),
            resync_seconds=2,
            rescan_seconds=5,
            log_level="error",
        )
        (settings.images_dir / "tiny.raw").write_bytes(b"\1" * (1 << 20))
        write_many(settings.desired_dir, PREFIX, guests)
        with daemon_process(settings) as daemon:
            daemon.wait_ready(CONVERGE_TIMEOUT)
            wait_until(lambda: _running(daemon) == guests, CONVERGE_TIMEOUT, "all guests run")
            most = 0
            scrapes = []
            deadline = time.monotonic() + WATCHED
            while time.monotonic() < deadline:
                began = time.perf_counter()
                daemon.client.get("/metrics").raise_for_status()
                scrapes.append(time.perf_counter() - began)
                daemon.get("guests?view=summary")
                most = max(most, resident_bytes(daemon.pid))
                time.sleep(1.0)
            say(f"  {guests} guests: {most / MB:.1f} MB, a scrape {median(scrapes):.3f} s")
            return most / MB, median(scrapes)


def _running(daemon: DaemonProcess) -> int:
    time.sleep(0.5)
    status = daemon.get("status") or {}
    words = status.get("printable", {})
    return int(words.get("Healthy", 0))
