"""What is rendered is read back as the same value: from our XML and from libvirt's."""

import string
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import libvirt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.errors import PermanentError
from controller.hypervisor.xml.render import SPARE_PORTS, Dialect, render, render_ownership
from controller.observed.domain import (
    NO_LIMITS,
    BootConfig,
    DiskConfig,
    DomainConfig,
    GuestRecord,
    IoTune,
    NicConfig,
    Ownership,
)
from controller.observed.domain_xml import parse_config, parse_domain, parse_ownership

GOLDEN = Path(__file__).parents[3] / "data" / "domain_xml"
MIB = 2**20

SMALL = DomainConfig(
    name="web1",
    uuid="6a9c2f31-9d5e-5f0e-9d2b-0d8e3a1f5c11",
    accelerator="tcg",
    vcpus=1,
    max_vcpus=1,
    memory=512 * MIB,
    max_memory=512 * MIB,
    firmware="bios",
    boot=None,
    disks=(DiskConfig("disk-system", "default", "web1.qcow2"),),
    nics=(),
)
LARGE = DomainConfig(
    name="db-1",
    uuid="6a9c2f31-9d5e-5f0e-9d2b-0d8e3a1f5c12",
    accelerator="kvm",
    vcpus=2,
    max_vcpus=8,
    memory=1024 * MIB,
    max_memory=4096 * MIB,
    firmware="efi",
    boot=BootConfig("/pool/k", "/pool/i", "root=/dev/vda rw console=ttyS0"),
    disks=(
        DiskConfig("disk-system", "default", "db-1.qcow2"),
        DiskConfig("disk-data", "big", "db-1-data.raw", "raw", "disk", "vdb"),
        DiskConfig("cdrom-seed", "default", "db-1-seed.iso", "raw", "cdrom", "sda"),
    ),
    nics=(
        NicConfig("nic-lan", "network", "default", "52:54:00:00:00:01"),
        NicConfig("nic-br", "bridge", "br0", "52:54:00:00:00:02"),
        NicConfig(
            "nic-out",
            "user",
            "",
            "52:54:00:00:00:03",
            ("127.0.0.1:18080:80/tcp", "127.0.0.1:5353:53/udp"),
        ),
    ),
    title="A & <B>",
)
OURS = Ownership(
    "uid-1", "db-1", 3, "sha256:abc", '{"memory":"4Gi","ä":"<&>"}', GuestRecord(2, 1.5)
)


FULL = replace(
    LARGE,
    title="",
    description="What it is for,\nin two lines",
    on_reboot="destroy",
    on_crash="preserve",
    agent_channel=False,
    disks=(
        replace(LARGE.disks[0], cache="none", io_tune=IoTune(1000, 0, 0, 0, 20, 30)),
        replace(LARGE.disks[2], alias="cdrom-tools", volume=None),
        replace(LARGE.disks[2], alias="cdrom-docs", target="sdb"),
    ),
    nics=(
        replace(LARGE.nics[0], model="e1000e"),
        replace(LARGE.nics[1], link="down"),
    ),
)


@pytest.mark.parametrize(("name", "config"), [("small", SMALL), ("large", LARGE), ("full", FULL)])
def test_the_xml_is_the_one_that_was_reviewed(
    name: str, config: DomainConfig, golden: Callable[[Path, str], None]
) -> None:
    golden(GOLDEN / f"{name}.xml", render(config, OURS) + "\n")


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("libvirt-*.xml")), ids=lambda path: path.stem)
def test_what_libvirt_made_of_it_reads_back_the_same(path: Path) -> None:
    """``virsh dumpxml`` of libvirt 9.0 with QEMU 7.2, inactive and running."""
    parsed = parse_domain(path.read_text(encoding="utf-8"))
    wanted = replace(LARGE, accelerator="tcg", nics=LARGE.nics[2:])
    assert replace(parsed.config, memory=wanted.memory) == wanted
    assert parsed.ownership == OURS


def test_a_domain_has_spare_ports_beyond_its_devices() -> None:
    root = ET.fromstring(render(LARGE, OURS))
    ports = root.findall("devices/controller[@model='pcie-root-port']")
    assert len(ports) >= SPARE_PORTS + 2 + 2


def test_only_user_interfaces_are_arguments_of_qemu() -> None:
    assert "commandline" not in render(SMALL, OURS)
    assert "commandline" in render(LARGE, OURS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nics": (NicConfig("a,b", "user", "", "52:54:00:00:00:01"),)}, "malformed"),
        ({"nics": (NicConfig("a", "user", "", "52:54:00:00:00:01,x=y"),)}, "malformed"),
        (
            {"nics": (NicConfig("a", "user", "", "52:54:00:00:00:01", ("1:2,exec=x:3/tcp",)),)},
            "forward",
        ),
        ({"nics": (NicConfig("a", "direct", "eth0", "52:54:00:00:00:01"),)}, "not supported"),
        (
            {"nics": tuple(NicConfig(f"a{n}", "user", "", "52:54:00:00:00:01") for n in range(11))},
            "room for 10",
        ),
        ({"disks": (DiskConfig("disk-system", "p", None),)}, "has no volume"),
    ],
)
def test_what_has_no_form_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(PermanentError, match=message):
        render(replace(SMALL, **change), OURS)  # type: ignore[arg-type]


def test_the_test_driver_has_no_kvm() -> None:
    with pytest.raises(PermanentError, match="no KVM"):
        render(LARGE, OURS, Dialect.TEST)


# --- The round-trip law ---------------------------------------------------------------------------

names = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?", fullmatch=True)
words = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,19}", fullmatch=True)
texts = st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Z")) | st.sampled_from(" /=,'\"<&>"),
    max_size=40,
).map(str.strip)
macs = st.integers(0, 2**24 - 1).map(
    lambda n: f"52:54:00:{n >> 16:02x}:{n >> 8 & 255:02x}:{n & 255:02x}"
)
ports = st.integers(1, 65535)
forwards = st.builds(
    lambda host, port, guest, protocol: f"{host}:{port}:{guest}/{protocol}",
    st.sampled_from(["127.0.0.1", "0.0.0.0"]),
    ports,
    ports,
    st.sampled_from(["tcp", "udp"]),
)


limits = st.just(NO_LIMITS) | st.builds(
    IoTune,
    total_bytes_sec=st.integers(0, 2**40),
    read_iops_sec=st.integers(0, 10**6),
    write_iops_sec=st.integers(0, 10**6),
)


@st.composite
def disks(draw: st.DrawFn) -> tuple[DiskConfig, ...]:
    found = [
        DiskConfig(
            f"disk-{name}",
            draw(words),
            draw(words),
            draw(st.sampled_from(["qcow2", "raw"])),
            "disk",
            f"vd{chr(ord('a') + number)}",
            draw(st.sampled_from(["", "none", "writeback"])),
            draw(limits),
        )
        for number, name in enumerate(draw(st.lists(names, unique=True, max_size=5)))
    ]
    for letter in "abc"[: draw(st.integers(0, 3))]:
        volume = draw(st.none() | words)
        found.append(
            DiskConfig(f"cdrom-{letter}", draw(words), volume, "raw", "cdrom", f"sd{letter}")
        )
    return tuple(found)


@st.composite
def nics(draw: st.DrawFn) -> tuple[NicConfig, ...]:
    addresses = draw(st.lists(macs, unique=True, max_size=6))
    found = []
    for number, mac in enumerate(addresses):
        kind = draw(st.sampled_from(["user", "network", "bridge"]))
        source = (
            "" if kind == "user" else draw(st.from_regex(r"[a-z][a-z0-9]{0,14}", fullmatch=True))
        )
        let_in = tuple(draw(st.lists(forwards, max_size=3))) if kind == "user" else ()
        model, link = "virtio", "up"
        if kind != "user":
            model = draw(st.sampled_from(["virtio", "e1000e"]))
            link = draw(st.sampled_from(["up", "down"]))
        found.append(NicConfig(f"nic-{number}", kind, source, mac, let_in, model, link))
    return tuple(found)


boots = st.none() | st.builds(
    BootConfig, kernel=st.just("/p/k"), initrd=st.none() | st.just("/p/i"), args=texts
)


@st.composite
def configs(draw: st.DrawFn) -> DomainConfig:
    vcpus, memory = draw(st.integers(1, 16)), draw(st.integers(64 * MIB, 8192 * MIB))
    return DomainConfig(
        name=draw(names),
        uuid=str(draw(st.uuids(version=4))),
        accelerator=draw(st.sampled_from(["tcg", "kvm"])),
        vcpus=vcpus,
        max_vcpus=vcpus + draw(st.integers(0, 16)),
        memory=memory,
        max_memory=memory + draw(st.integers(0, 8192 * MIB)),
        firmware=draw(st.sampled_from(["bios", "efi"])),
        boot=draw(boots),
        disks=draw(disks()),
        nics=draw(nics()),
        title=draw(texts),
        description=draw(texts),
        on_poweroff=draw(st.sampled_from(["destroy", "restart"])),
        on_reboot=draw(st.sampled_from(["destroy", "restart"])),
        on_crash=draw(st.sampled_from(["destroy", "preserve"])),
        agent_channel=draw(st.booleans()),
    )


ownerships = st.builds(
    Ownership,
    uid=texts,
    name=names,
    generation=st.integers(0, 2**31),
    digest=st.text(string.hexdigits, max_size=64),
    spec=texts,
    record=st.builds(
        GuestRecord,
        start_attempts=st.integers(0, 10**6),
        last_start_attempt=st.none() | st.floats(0, 4e9),
        shutdown_requested=st.none() | st.floats(0, 4e9),
    ),
)


@given(configs(), ownerships)
def test_rendering_and_reading_are_inverse(config: DomainConfig, ownership: Ownership) -> None:
    xml = render(config, ownership)
    assert parse_config(xml) == config
    assert parse_ownership(xml) == ownership
    assert parse_ownership(render_ownership(ownership)) == ownership


@pytest.fixture(scope="module")
def connection() -> libvirt.virConnect:
    from controller.hypervisor.connection.event_loop import ensure_running

    ensure_running()
    return libvirt.open("test:///default")


@pytest.mark.libvirt
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(config=configs(), ownership=ownerships)
def test_what_libvirt_returns_after_define_is_what_was_asked_for(
    connection: libvirt.virConnect, config: DomainConfig, ownership: Ownership
) -> None:
    config = replace(config, accelerator="tcg")
    domain = connection.defineXMLFlags(
        render(config, ownership, Dialect.TEST), libvirt.VIR_DOMAIN_DEFINE_VALIDATE
    )
    try:
        parsed = parse_domain(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
        assert parsed.config == config
        assert parsed.ownership == ownership
    finally:
        domain.undefine()


def test_what_the_guest_says_on_its_serial_port_is_kept_where_the_host_has_a_place() -> None:
    xml = render(SMALL, None, serial_log="/var/log/libvirt/qemu/web1-serial.log")
    log = ET.fromstring(xml).find("devices/serial/log")
    assert log is not None
    assert log.attrib == {"file": "/var/log/libvirt/qemu/web1-serial.log", "append": "on"}
