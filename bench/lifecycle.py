"""A guest's creation and its restart, with the daemon and with bare libvirt, in turns.

Both take the demo's image (kernel, initrd, overlay of one base) on a private libvirtd. Every run
takes a fresh guest: the first start in a row is at once, later ones are held back on purpose.
"""

import os
import signal
import time
import uuid
from dataclasses import dataclass, replace

import libvirt

from bench.daemon_process import DaemonProcess, daemon_process
from bench.demo_image import demo_image
from bench.documents import DIRECT_BOOT, GUEST, IMAGE
from bench.private_libvirtd import (
    Lifecycle,
    PrivateLibvirtd,
    private_libvirtd,
    qemu_pid,
    remove_domain,
    settings_beside,
    wait_until,
)
from bench.progress import say
from bench.result import Result, median
from bench.scratch import POOL, PREFIX, put
from controller.hypervisor.xml.render import render
from controller.observed.domain import DomainConfig, Ownership
from controller.observed.domain_xml import parse_config, parse_ownership

STARTED, STOPPED = libvirt.VIR_DOMAIN_EVENT_STARTED, libvirt.VIR_DOMAIN_EVENT_STOPPED
TIMEOUT = 120.0
DEBOUNCE = 0.2
CREATE_FACTOR = 1.5
RESTART_EXTRA = 0.5
SETTLE = 1.0
"""Seconds between a measured start and the kill: libvirt and QEMU are through with it then."""


@dataclass(frozen=True, slots=True)
class Template:
    """What the daemon sent to libvirt for its first guest; the floor sends the same."""

    config: DomainConfig
    ownership: Ownership
    base: str
    capacity: int


@dataclass(frozen=True, slots=True)
class Times:
    """Medians, in seconds, with the daemon and with bare libvirt."""

    create: float
    create_floor: float
    restart: float
    restart_floor: float


def measure(runs: int = 5) -> list[Result]:
    """``create`` and ``restart``; medians of ``runs`` each, after one that is not counted."""
    image = demo_image()
    with private_libvirtd() as libvirtd:
        settings = settings_beside(libvirtd, images_dir=image)
        text = IMAGE.format(name="debian12", file="debian12.qcow2") + DIRECT_BOOT
        put(settings.desired_dir, "image.yaml", text)
        with daemon_process(settings) as daemon:
            daemon.wait_ready(TIMEOUT)
            say("  the daemon runs; the first guest brings the image into the pool")
            times = in_turns(libvirtd, daemon, "debian12", runs)
    return [
        Result(
            "create: document renamed in → domain running",
            times.create,
            times.create_floor,
            "s",
            create_bound(times),
        ),
        Result(
            "restart: QEMU killed → running again",
            times.restart,
            times.restart_floor,
            "s",
            times.restart_floor + RESTART_EXTRA,
        ),
    ]


def create_bound(times: Times) -> float:
    """The most that a creation may take, whatever its image is made of."""
    return DEBOUNCE + CREATE_FACTOR * times.create_floor


def in_turns(libvirtd: PrivateLibvirtd, daemon: DaemonProcess, image: str, runs: int) -> Times:
    """A guest of ``image`` made and killed by the daemon's side, and by libvirt alone, in turns."""
    seen = Lifecycle(libvirtd.uri)
    made: list[tuple[float, float]] = []
    floors: list[tuple[float, float]] = []
    template = None
    for number in range(runs + 1):
        create, restart, taken = _with_daemon(libvirtd, daemon, seen, f"{PREFIX}d{number}", image)
        template = template or taken
        bare = _bare(libvirtd, seen, f"{PREFIX}f{number}", template)
        say(
            f"  run {number}: create {create:.2f} s (bare {bare[0]:.2f} s),"
            f" restart {restart:.2f} s (bare {bare[1]:.2f} s)"
        )
        if number:
            made.append((create, restart))
            floors.append(bare)
    seen.close()
    return Times(*(median(run[what] for run in side) for what in (0, 1) for side in (made, floors)))


def _with_daemon(
    libvirtd: PrivateLibvirtd, daemon: DaemonProcess, seen: Lifecycle, name: str, image: str
) -> tuple[float, float, Template]:
    desired = daemon.settings.desired_dir
    text = GUEST.format(name=name, image=image, memory="256Mi")
    began = time.perf_counter()
    put(desired, f"{name}.yaml", text)
    made = seen.wait(name, STARTED, began, TIMEOUT) - began
    template = _template(seen.connection, name)
    time.sleep(SETTLE)
    killed = time.perf_counter()
    os.kill(qemu_pid(libvirtd, name), signal.SIGKILL)
    again = seen.wait(name, STARTED, killed, TIMEOUT) - killed
    # Without its document it is left alone, so it can be taken away under the daemon's eyes.
    (desired / f"{name}.yaml").unlink()
    wait_until(lambda: _orphaned(daemon, name), TIMEOUT, f"{name} is orphaned")
    _remove(seen.connection, name)
    time.sleep(SETTLE)
    return made, again, template


def _orphaned(daemon: DaemonProcess, name: str) -> bool:
    found = daemon.get(f"guests/{name}")
    return found is None or "Orphaned" in str(found)


def _template(connection: libvirt.virConnect, name: str) -> Template:
    xml = connection.lookupByName(name).XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    config, ownership = parse_config(xml), parse_ownership(xml)
    assert ownership is not None
    pool = connection.storagePoolLookupByName(POOL)
    volume = pool.storageVolLookupByName(str(config.disks[0].volume))
    backing = volume.XMLDesc(0).partition("<backingStore>")[2]
    base = backing.partition("<path>")[2].partition("</path>")[0]
    return Template(config, ownership, base, volume.info()[1])


def _bare(
    libvirtd: PrivateLibvirtd, seen: Lifecycle, name: str, template: Template
) -> tuple[float, float]:
    """The same by libvirt alone: overlay volume, definition, start; after a kill, start."""
    connection = seen.connection
    volume = f"{name}.qcow2"
    identity = str(uuid.uuid4())
    disks = (replace(template.config.disks[0], volume=volume), *template.config.disks[1:])
    config = replace(template.config, name=name, uuid=identity, disks=disks)
    xml = render(config, replace(template.ownership, uid=identity, name=name))
    overlay = (
        f"<volume><name>{volume}</name><capacity>{template.capacity}</capacity>"
        "<allocation>0</allocation><target><format type='qcow2'/><compat>1.1</compat></target>"
        f"<backingStore><path>{template.base}</path><format type='qcow2'/></backingStore></volume>"
    )
    began = time.perf_counter()
    connection.storagePoolLookupByName(POOL).createXML(overlay, 0)
    domain = connection.defineXMLFlags(xml, libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
    domain.create()
    made = seen.wait(name, STARTED, began, TIMEOUT) - began
    time.sleep(SETTLE)
    killed = time.perf_counter()
    os.kill(qemu_pid(libvirtd, name), signal.SIGKILL)
    seen.wait(name, STOPPED, killed, TIMEOUT)
    domain.create()
    again = seen.wait(name, STARTED, killed, TIMEOUT) - killed
    _remove(connection, name)
    time.sleep(SETTLE)
    return made, again


def _remove(connection: libvirt.virConnect, name: str) -> None:
    """The domain and its disk."""
    domain = connection.lookupByName(name)
    volumes = [disk.volume for disk in parse_config(domain.XMLDesc(0)).disks if disk.volume]
    remove_domain(domain)
    pool = connection.storagePoolLookupByName(POOL)
    for volume in volumes:
        pool.storageVolLookupByName(volume).delete(0)
