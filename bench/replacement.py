"""The downtime of a system disk's replacement, in turns with that of a stop and boot by bare virsh.

One demo guest (Debian, nginx) behind a forwarded port goes from one image to another of the same
content and back, each time as an operator does it: the document names the other image, the daemon
brings it into the pool, ``approve``. The floor is the same guest on the disk that it has then,
without a daemon: ``virsh shutdown --mode agent``, ``virsh start``.

Downtime is from the last 200 to the first 200. What is held to the bound is the page that the
document asks for, since that is what users mean: nginx with its own page, or a guest that is up and
serves nothing, is no service. Any 200 is told beside it; in this image, whose nginx is off until
the daemon turns it on, it can hardly come earlier. So ours includes what a new disk needs and an
old one has: its inside seen and made as the document says.
"""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import httpx

from bench.daemon_process import DaemonProcess, daemon_process
from bench.demo_image import demo_image
from bench.documents import DIRECT_BOOT, IMAGE, WEB_GUEST
from bench.lifecycle import STARTED, STOPPED, TIMEOUT
from bench.private_libvirtd import (
    AGENT_CONNECTED,
    Lifecycle,
    private_libvirtd,
    settings_beside,
    wait_until,
)
from bench.progress import say
from bench.result import Result, median
from bench.scratch import PREFIX, free_port, put
from bench.served import Served
from controller.observed.domain_xml import parse_config
from controller.planning.wanted.domain import SYSTEM
from controller.settings import Settings
from tests.e2e.private_libvirtd import PrivateLibvirtd

BOOT_TIMEOUT = 300.0
FACTOR = 1.3
IMAGES = ("debian12", "debian12b")
PAGE = "configured"


@dataclass(frozen=True, slots=True)
class Down:
    """Seconds. ``page`` and ``any`` are downtimes; then the parts of ``page``: from the last one to
    off, to started again, to the agent's connection, to the page (below 0 where that was first).
    ``work`` is QEMU's processor time from its start to the page, which other load hardly changes.
    """

    page: float
    any: float
    stop: float
    off: float
    boot: float
    inside: float
    work: float

    def __str__(self) -> str:
        return (
            f"{self.page:.2f} s (any 200: {self.any:.2f} s): stop {self.stop:.2f}, off"
            f" {self.off:.2f}, boot to agent {self.boot:.2f}, to page {self.inside:+.2f};"
            f" {self.work:.1f} s of processor"
        )


@dataclass(frozen=True, slots=True)
class Guest:
    """The measured guest, and the eyes on it."""

    name: str
    port: int
    libvirtd: PrivateLibvirtd
    settings: Settings
    seen: Lifecycle
    served: Served

    def put(self, image: str) -> None:
        text = WEB_GUEST.format(name=self.name, image=image, port=self.port, content=PAGE)
        put(self.settings.desired_dir, "guest.yaml", text)

    def system_volume(self) -> str:
        xml = self.seen.connection.lookupByName(self.name).XMLDesc(0)
        return next(str(disk.volume) for disk in parse_config(xml).disks if disk.alias == SYSTEM)


def measure(runs: int = 3) -> list[Result]:
    """``replacement``; medians of ``runs`` there and back each, floors between them."""
    files, port, name = demo_image(), free_port(), f"{PREFIX}r"
    with private_libvirtd() as libvirtd:
        settings = settings_beside(libvirtd, images_dir=files)
        for image in IMAGES:
            text = IMAGE.format(name=image, file="debian12.qcow2") + DIRECT_BOOT
            put(settings.desired_dir, f"{image}.yaml", text)
        seen, served = Lifecycle(libvirtd.uri), Served(port)
        guest = Guest(name, port, libvirtd, settings, seen, served)
        served.start()
        try:
            return _in_turns(guest, runs)
        finally:
            served.stop()
            seen.close()


def _in_turns(guest: Guest, runs: int) -> list[Result]:
    guest.put(IMAGES[0])
    with daemon_process(guest.settings) as daemon:
        say("  booting a Debian guest (half a minute without KVM)")
        _until_ready(daemon, guest, IMAGES[0], BOOT_TIMEOUT)
    ours, floors = [], []
    for number in range(2 * runs):
        floors.append(_bare(guest))
        say(f"  bare {number}: {floors[-1]}")
        with daemon_process(guest.settings) as daemon:
            ours.append(_replaced(guest, daemon, IMAGES[(number + 1) % 2]))
        say(f"  replacement {number}: {ours[-1]}")
    return results(ours, floors)


def results(ours: list[Down], floors: list[Down]) -> list[Result]:
    """Medians; the bound is the floor's page times ``FACTOR``."""

    def of(what: Callable[[Down], float], side: list[Down]) -> float:
        return median(what(one) for one in side)

    def told(name: str, what: Callable[[Down], float], bound: float | None = None) -> Result:
        return Result(name, of(what, ours), of(what, floors), "s", bound)

    bound = FACTOR * of(lambda down: down.page, floors)
    return [
        told("replacement: last → first 200 with the document's page", lambda d: d.page, bound),
        told("replacement: last → first 200 of any page", lambda d: d.any),
        told("replacement: last page → off", lambda d: d.stop),
        told("replacement: off → started on the other disk", lambda d: d.off),
        told("replacement: started → agent connected", lambda d: d.boot),
        told("replacement: agent connected → page served", lambda d: d.inside),
        told("replacement: processor time of the guest, started → page", lambda d: d.work),
    ]


def _replaced(guest: Guest, daemon: DaemonProcess, image: str) -> Down:
    """The document names ``image``; approved when it is there, until the replacement is over."""
    _until_ready(daemon, guest, _other(image), BOOT_TIMEOUT)
    before = guest.system_volume()
    guest.put(image)
    wait_until(lambda: _of(daemon, guest).get("approval"), TIMEOUT, "it waits for approval")
    base = _of(daemon, guest)["approval"]
    began = perf_counter()
    path = f"/api/v1/guests/{guest.name}/approve"
    answer = daemon.client.post(path, params={"base": base})
    if answer.status_code != httpx.codes.ACCEPTED:
        raise RuntimeError(f"the replacement is not approved: {answer.text}")
    down = _watched(guest, began)
    _until_ready(daemon, guest, image, BOOT_TIMEOUT)
    if guest.system_volume() == before:
        raise RuntimeError(f"{guest.name} is on its old system disk again")
    return down


def _bare(guest: Guest) -> Down:
    """Once it is up: stop by the agent, wait until it is off, start."""
    began = perf_counter()
    _virsh(guest, "shutdown", guest.name, "--mode", "agent,acpi")
    guest.seen.wait(guest.name, STOPPED, began, BOOT_TIMEOUT)
    _virsh(guest, "start", guest.name)
    return _watched(guest, began)


def _virsh(guest: Guest, *arguments: str) -> None:
    subprocess.run(
        ["virsh", "--quiet", "--connect", guest.libvirtd.uri, *arguments],
        stdin=subprocess.DEVNULL,
        check=True,
    )


def _watched(guest: Guest, began: float) -> Down:
    """Of the one stop and start that comes after ``began``; until page and agent are there."""
    name, seen, served, page = guest.name, guest.seen, guest.served, f"{PAGE}\n".encode()
    off = seen.wait(name, STOPPED, began, BOOT_TIMEOUT)
    started = seen.wait(name, STARTED, off, BOOT_TIMEOUT)
    again = served.first(page, started, BOOT_TIMEOUT)
    work = seen.connection.lookupByName(name).info()[4] / 1e9
    agent = seen.wait(name, AGENT_CONNECTED, started, BOOT_TIMEOUT)
    last = served.last(page, off)
    return Down(
        page=again - last,
        any=served.first(None, started, BOOT_TIMEOUT) - served.last(None, off),
        stop=off - last,
        off=started - off,
        boot=agent - started,
        inside=again - agent,
        work=work,
    )


def _of(daemon: DaemonProcess, guest: Guest) -> dict[str, Any]:
    found = daemon.get(f"guests/{guest.name}")
    return found["item"] if found is not None else {}


def _other(image: str) -> str:
    return IMAGES[1 - IMAGES.index(image)]


def _until_ready(daemon: DaemonProcess, guest: Guest, image: str, timeout: float) -> None:
    """As the document with ``image`` wants it, and nothing is done or planned any more."""

    def ready() -> bool:
        found = _of(daemon, guest)
        return (
            found.get("image") == image
            and found["ready"] == "True"
            and found["sync"] == "Synced"
            and found["replacement"] is None
            and found["operation"] is None
            and not found["steps"]
        )

    wait_until(ready, timeout, f"{guest.name} is ready on {image}")
