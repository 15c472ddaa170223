"""A file document's content edited → the new content served, and the agent round trips it took.

One demo guest (Debian, nginx) is booted. The parts are the daemon's own, in this process, so that
its counters can be read. The floor is one bare ``guest-exec`` that writes the file and reloads.
"""

import base64
import json
import time
from pathlib import Path

import httpx
import libvirt
import libvirt_qemu

from bench.demo_image import demo_image
from bench.documents import DIRECT_BOOT, IMAGE, WEB_GUEST
from bench.private_libvirtd import private_libvirtd, settings_beside, wait_until
from bench.progress import say
from bench.result import Result, median
from bench.scratch import PREFIX, free_port, put
from controller.daemon.house import House
from controller.desired.catalog.watcher import Watcher
from controller.hypervisor.connection.event_loop import ensure_running
from controller.planning.conditions import ConditionType, Status
from controller.telemetry import logging

BOOT_TIMEOUT = 300.0
EDIT_TIMEOUT = 60.0
ROUND_TRIPS = 2.0
PAGE = "/var/www/html/index.html"


def measure(runs: int = 5) -> list[Result]:
    """``edit``; medians of ``runs``."""
    image, port, name = demo_image(), free_port(), f"{PREFIX}e"
    logging.configure("error")
    with private_libvirtd() as libvirtd:
        settings = settings_beside(libvirtd, images_dir=image)
        text = IMAGE.format(name="debian12", file="debian12.qcow2") + DIRECT_BOOT
        put(settings.desired_dir, "image.yaml", text)
        put(settings.desired_dir, "guest.yaml", _document(name, port, "first"))
        house = House(settings)
        watcher = Watcher(
            house.catalog,
            settings.desired_dir,
            house.triggers.on_scan,
            debounce=settings.debounce_seconds,
            rescan=settings.rescan_seconds,
            on_failure=lambda what, error: say(f"  {what}: {error!r}"),
            on_notice=say,
        )
        try:
            house.triggers.on_scan(house.catalog.scan())
            house.open()
            watcher.start()
            house.start_loop()
            say("  booting a Debian guest (half a minute without KVM)")
            _until_ready(house, name, BOOT_TIMEOUT)
            say("  it is served; editing")
            return _edits(house, settings.desired_dir, libvirtd.uri, name, port, runs)
        finally:
            watcher.stop()
            house.close()


def _document(name: str, port: int, content: str) -> str:
    return WEB_GUEST.format(name=name, image="debian12", port=port, content=content)


def _edits(house: House, desired: Path, uri: str, name: str, port: int, runs: int) -> list[Result]:
    ensure_running()
    connection = libvirt.open(uri)
    domain = connection.lookupByName(name)
    seconds, floors, trips = [], [], []
    for number in range(runs):
        _until_ready(house, name, EDIT_TIMEOUT)
        floors.append(_bare(domain, port, f"bare {number}"))
        # What the floor wrote is drift; the next apply is the daemon's answer to both.
        before = house.agent.execs
        content = f"edit {number} {time.time_ns()}"
        began = time.perf_counter()
        put(desired, "guest.yaml", _document(name, port, content))
        _until_served(port, content, EDIT_TIMEOUT)
        seconds.append(time.perf_counter() - began)
        _until_ready(house, name, EDIT_TIMEOUT)
        trips.append(float(house.agent.execs - before))
        say(
            f"  edit {number}: {trips[-1]:.0f} round trips, {seconds[-1]:.2f} s"
            f" (one bare exec: {floors[-1]:.2f} s)"
        )
    connection.close()
    return [
        Result("edit: agent round trips", max(trips), 1.0, "execs", ROUND_TRIPS),
        Result("edit: document → new content served", median(seconds), median(floors), "s", None),
    ]


def _until_ready(house: House, name: str, timeout: float) -> None:
    def ready() -> bool:
        status = house.status.get(name)
        guest = house.catalog.snapshot.guests.get(name)
        if status is None or guest is None or status.plan.steps:
            return False
        owner = status.observed.domain.ownership if status.observed.domain is not None else None
        found = status.condition(ConditionType.READY)
        return (
            found is not None
            and found[0].status is Status.TRUE
            and house.operations.current(name) is None
            and owner is not None
            and owner.digest == guest.digest
        )

    try:
        wait_until(ready, timeout, f"{name} is ready")
    except TimeoutError as error:
        status = house.status.get(name)
        raise TimeoutError(f"{error}: {status.plan.sentence if status else 'no word'}") from error


def _until_served(port: int, content: str, timeout: float) -> None:
    def served() -> bool:
        try:
            return content in httpx.get(f"http://127.0.0.1:{port}/", timeout=5).text
        except httpx.TransportError:
            return False

    wait_until(served, timeout, f"{content!r} is served")


def _bare(domain: libvirt.virDomain, port: int, content: str) -> float:
    """The least there can be: one exec that writes and reloads."""
    script = f"printf '%s\\n' '{content}' >{PAGE}.new && mv {PAGE}.new {PAGE}"
    began = time.perf_counter()
    answer = _agent(
        domain,
        "guest-exec",
        {
            "path": "/bin/sh",
            "input-data": base64.b64encode(f"{script} && systemctl reload nginx".encode()).decode(),
            "capture-output": True,
        },
    )
    while not _agent(domain, "guest-exec-status", {"pid": answer["pid"]})["exited"]:
        time.sleep(0.01)
    _until_served(port, content, EDIT_TIMEOUT)
    return time.perf_counter() - began


def _agent(domain: libvirt.virDomain, command: str, arguments: dict[str, object]) -> dict[str, int]:
    request = json.dumps({"execute": command, "arguments": arguments})
    answer: dict[str, int] = json.loads(libvirt_qemu.qemuAgentCommand(domain, request, 30, 0))[
        "return"
    ]
    return answer
