"""The corpus: whole domains of the shapes that are found in the field, as libvirt 9 holds them.

``tests/data/field/*.xml``, each begun by a comment that tells its shape. All names, addresses and
paths are made up. ``HOST`` is where they are; what is found there of their disks is made up from
their names.
"""

import hashlib
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from controller.observed.domain import DomainConfig, DomainState, DomainView, StateReason
from controller.observed.domain_xml import parse_domain
from controller.observed.host import HostView, PoolView, VolumeView
from controller.observed.locating import located, located_view
from tests.e2e.private_libvirtd import PrivateLibvirtd
from tests.e2e.system_libvirtd import AVAILABLE, SystemLibvirtd
from tests.factories import a_host

DIRECTORY = Path(__file__).parent / "data" / "field"
POOLS = {
    "default": "/var/lib/libvirt/images",
    "vms": "/srv/vms",
    "iso": "/srv/iso",
    "fast": "/srv/fast",
    "bulk": "/srv/bulk",
    "vg0": "/dev/vg0",
    "iscsi-san": "/dev/disk/by-path",
}
"""Some disks of the corpus lie in none of them, as in the field."""
_GIB = 2**30


@dataclass(frozen=True, slots=True)
class FieldDomain:
    """``key`` is the file's name, ``shape`` its first line, ``xml`` what libvirt told of it."""

    key: str
    shape: str
    xml: str

    @property
    def name(self) -> str:
        return parse_domain(self.xml).config.name


def _read(path: Path) -> FieldDomain:
    first, _, xml = path.read_text(encoding="utf-8").partition("\n")
    found = re.fullmatch(r"<!-- (.+) -->", first)
    assert found is not None, f"{path} does not begin with its shape"
    return FieldDomain(path.stem, found[1], xml)


CORPUS = tuple(_read(path) for path in sorted(DIRECTORY.glob("*.xml")))
BY_KEY = {domain.key: domain for domain in CORPUS}
each_field_domain = pytest.mark.parametrize(
    "field", [pytest.param(domain, id=domain.key) for domain in CORPUS]
)
"""Has a test run once on each, as its ``field``."""


# --- The host they are on -------------------------------------------------------------------------


def pools_of(paths: dict[str, str]) -> dict[str, PoolView]:
    return {name: PoolView(name, path, True, 2**50, 2**50) for name, path in paths.items()}


HOST = a_host(name="a", kvm=True, pools=pools_of(POOLS))


def host_with_pools(field: FieldDomain) -> HostView:
    """``HOST`` once somebody made a pool over each directory that a disk of it lies in."""
    paths = dict(POOLS)
    for source in ET.fromstring(field.xml).iterfind("devices/disk/source"):
        directory = (source.get("file") or "").rpartition("/")[0]
        if directory and directory not in paths.values():
            paths[f"more{len(paths)}"] = directory
    return replace(HOST, pools=pools_of(paths))


def volume(pool: str, name: str, host: HostView = HOST) -> VolumeView:
    """As it is found there: its size is made up from its name, and not always a round one."""
    number = hashlib.sha256(f"{pool}/{name}".encode()).digest()[0]
    size = (2 + number % 40) * _GIB + (512 * number if number % 7 == 0 else 0)
    path = f"{host.pools[pool].path}/{name}" if pool in host.pools else f"/{pool}/{name}"
    kind = "qcow2" if "qcow2" in name else "raw"
    return VolumeView(pool, name, path, kind, size, size // 3, None)


def volumes_of(config: DomainConfig, host: HostView = HOST) -> dict[tuple[str, str], VolumeView]:
    """The volumes of its disks and CDs, by pool and name."""
    disks = located(config, host.pools).disks
    return {
        (disk.pool, disk.volume): volume(disk.pool, disk.volume, host)
        for disk in disks
        if disk.pool and disk.volume
    }


def view_of(
    field: FieldDomain, state: DomainState = DomainState.SHUTOFF, host: HostView = HOST
) -> DomainView:
    """The domain as it is looked at; where it runs, as ``running`` tells it."""
    parsed = parse_domain(field.xml)
    live = parse_domain(running(field, host), parsed).config if state.active else None
    view = DomainView(
        name=parsed.config.name,
        uuid=parsed.config.uuid,
        state=state,
        reason=StateReason.OTHER,
        ownership=parsed.ownership,
        config=parsed.config,
        live=live,
        run=1 if state.active else None,
    )
    return located_view(view, host.pools)


def renamed(domain: DomainView, name: str) -> DomainView:
    """After ``virsh domrename``."""
    live = replace(domain.live, name=name) if domain.live is not None else None
    return replace(domain, name=name, config=replace(domain.config, name=name), live=live)


def running(field: FieldDomain, host: HostView = HOST) -> str:
    """What libvirt tells of it while it runs: with names of its own, and volumes by their paths."""
    root = ET.fromstring(field.xml)
    root.set("id", "3")
    for number, device in enumerate(root.iterfind("devices/*")):
        source = device.find("source")
        if device.tag == "disk" and source is not None:
            source.set("index", str(number))
            pool, name = source.attrib.pop("pool", ""), source.attrib.pop("volume", "")
            if pool in host.pools:
                device.set("type", "file")
                source.set("file", f"{host.pools[pool].path}/{name}")
            elif pool:
                device.set("type", "block")
                source.set("dev", f"/dev/{pool}/{name}")
        if device.tag == "interface":
            if device.get("type") == "network" and source is not None:
                source.set("portid", "5f1d4a0c-0000-4000-8000-000000000001")
                source.set("bridge", "virbr0")
            if device.find("target") is None:
                ET.SubElement(device, "target", dev=f"vnet{number}")
        if device.tag == "channel":
            for target in device.iterfind("target"):
                target.set("state", "disconnected")
        if device.tag != "emulator" and device.find("alias") is None:
            ET.SubElement(device, "alias", name=f"{device.tag}{number}")
    ET.SubElement(root, "seclabel", type="dynamic", model="dac", relabel="yes")
    return ET.tostring(root, encoding="unicode")


# --- The libvirt that accepts them ----------------------------------------------------------------

_SWTPM = """\
#!/bin/sh
echo '{"type": "swtpm", "features": ["tpm-1.2", "tpm-2.0"], "version": "0.7.1"}'
"""


@contextmanager
def a_libvirtd(root: Path) -> Iterator[PrivateLibvirtd]:
    """A libvirtd of the test's own that accepts the corpus; nothing of it can be started.

    A stub answers for swtpm, which this machine may not have. ``root`` has to be short.
    """
    stubs = root / "stubs"
    stubs.mkdir(parents=True)
    for name in ("swtpm", "swtpm_setup", "swtpm_ioctl"):
        (stubs / name).write_text(_SWTPM)
        (stubs / name).chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(stubs), prepend=":")
        libvirtd = (SystemLibvirtd if AVAILABLE else PrivateLibvirtd)(root)
        libvirtd.start()
    try:
        yield libvirtd
    finally:
        libvirtd.stop()


def acceptable(xml: str, kinds: Iterable[str]) -> str:
    """``xml`` for a host that offers these ``kinds`` of domains (kvm, qemu)."""
    if "kvm" in kinds:
        return xml
    return xml.replace("<domain type='kvm'", "<domain type='qemu'")
