"""Updating a definition: ours changes, theirs and libvirt's own stay."""

import xml.etree.ElementTree as ET
from dataclasses import asdict, replace

import pytest

from controller.errors import PermanentError
from controller.hypervisor.domains.adoption import marked
from controller.hypervisor.xml.disk_limits import live_limits
from controller.hypervisor.xml.render import render
from controller.hypervisor.xml.update import update
from controller.observed.domain import (
    BootConfig,
    DiskConfig,
    DomainConfig,
    IoTune,
    NicConfig,
    Ownership,
)
from controller.observed.domain_xml import parse_domain
from tests.trees import differences

MIB = 2**20
OWNER = Ownership(uid="u", name="web1", generation=1, digest="", spec="")
CONFIG = DomainConfig(
    name="web1",
    uuid="0e36cf07-a6ec-52d9-a499-b5d982a96d3e",
    accelerator="tcg",
    vcpus=1,
    max_vcpus=2,
    memory=512 * MIB,
    max_memory=1024 * MIB,
    firmware="bios",
    boot=BootConfig("/pool/k", "/pool/i", "root=/dev/vda"),
    disks=(
        DiskConfig("disk-system", "gk", "system.qcow2"),
        DiskConfig("disk-data", "gk", "data.qcow2", target="vdb"),
    ),
    nics=(
        NicConfig("nic-lan", "network", "default", "52:54:00:00:00:01"),
        NicConfig("nic-out", "user", "", "52:54:00:00:00:02", ("127.0.0.1:8080:80/tcp",)),
    ),
)
DRIVE = DiskConfig("cdrom-tools", "gk", "tools.iso", "raw", "cdrom", "sda")
FULL = replace(
    CONFIG,
    title="a title",
    description="what it is for",
    on_crash="preserve",
    disks=(
        replace(CONFIG.disks[0], cache="writeback", io_tune=IoTune(read_bytes_sec=5)),
        CONFIG.disks[1],
        DRIVE,
    ),
    nics=(replace(CONFIG.nics[0], link="down"), CONFIG.nics[1]),
)


def defined(config: DomainConfig = CONFIG) -> ET.Element:
    """As libvirt keeps it: addresses and the machine's version filled in."""
    root = ET.fromstring(render(config, OWNER))
    for number, device in enumerate((*root.iter("disk"), *root.iter("interface"))):
        ET.SubElement(device, "address", type="pci", bus=f"{number + 1:#04x}")
    machine = root.find("os/type")
    assert machine is not None
    machine.set("machine", "pc-q35-7.2")
    return root


def updated(has: ET.Element, config: DomainConfig) -> ET.Element:
    xml = update(ET.tostring(has, encoding="unicode"), render(config, OWNER))
    return ET.fromstring(xml)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"vcpus": 2},
        {"memory": 768 * MIB},
        {"max_memory": 2048 * MIB},
        {"accelerator": "kvm"},
        {"firmware": "efi", "boot": None},
        {"boot": BootConfig("/pool/k", "/pool/i", "root=/dev/vda quiet")},
        {"boot": None},
        {"title": "a title"},
        {"disks": CONFIG.disks[:1]},
        {"disks": (*CONFIG.disks, DiskConfig("disk-more", "gk", "more.qcow2", target="vdc"))},
        {"nics": CONFIG.nics[:1]},
        {"nics": CONFIG.nics[1:]},
        {"nics": (replace(CONFIG.nics[1], forwards=("127.0.0.1:9090:80/tcp",)),)},
        {"nics": (replace(CONFIG.nics[0], source="other"), CONFIG.nics[1])},
        {"nics": (replace(CONFIG.nics[0], kind="bridge", source="br0"), CONFIG.nics[1])},
        {"nics": (replace(CONFIG.nics[0], model="e1000e", link="down"), CONFIG.nics[1])},
        {"nics": (replace(CONFIG.nics[0], mac="52:54:00:00:00:09"), CONFIG.nics[1])},
        {"title": "", "description": ""},
        {"title": "a title", "description": "two\nlines"},
        {"on_poweroff": "restart", "on_reboot": "destroy", "on_crash": "preserve"},
        {"agent_channel": False},
        {"disks": (replace(CONFIG.disks[0], cache="none"), CONFIG.disks[1])},
        {"disks": (replace(CONFIG.disks[0], volume="new.qcow2"), CONFIG.disks[1])},
        {"disks": (replace(CONFIG.disks[0], io_tune=IoTune(1, 0, 0, 4)), CONFIG.disks[1])},
        {"disks": (CONFIG.disks[0], replace(CONFIG.disks[1], target="vdc", format="raw"))},
        {"disks": (*CONFIG.disks, DRIVE, replace(DRIVE, alias="cdrom-more", target="sdb"))},
        {"disks": (*CONFIG.disks, replace(DRIVE, volume=None))},
        {"disks": (*CONFIG.disks, replace(DRIVE, alias="cdrom-other"))},
    ],
    ids=str,
)
def test_what_was_asked_for_is_read_back(change: dict[str, object]) -> None:
    """And what changed back is again as it was."""
    wanted = replace(CONFIG, **change)  # type: ignore[arg-type]
    root = updated(defined(), wanted)
    assert parse_domain(ET.tostring(root, encoding="unicode")).config == wanted
    root = updated(root, FULL)
    assert parse_domain(ET.tostring(root, encoding="unicode")).config == FULL
    root = updated(root, wanted)
    assert parse_domain(ET.tostring(root, encoding="unicode")).config == wanted


def test_devices_that_stay_keep_their_address_and_the_machine_its_version() -> None:
    root = updated(defined(), replace(CONFIG, disks=CONFIG.disks[1:], vcpus=2))
    (disk,) = root.iter("disk")
    address = disk.find("address")
    assert address is not None
    assert address.get("bus") == "0x02"
    machine = root.find("os/type")
    assert machine is not None
    assert machine.get("machine") == "pc-q35-7.2"


def test_what_an_operator_added_by_hand_stays() -> None:
    has = defined()
    devices = has.find("devices")
    assert devices is not None
    ET.SubElement(devices, "hostdev", mode="subsystem", type="pci")
    disk = ET.SubElement(devices, "disk", type="file", device="disk")
    ET.SubElement(disk, "target", dev="vdz", bus="virtio")
    root = updated(has, replace(CONFIG, vcpus=2))
    assert root.find("devices/hostdev") is not None
    assert root.find("devices/disk/target[@dev='vdz']") is not None


def test_what_an_operator_set_on_a_device_of_ours_stays() -> None:
    has = defined()
    disk, nic = has.find("devices/disk"), has.find("devices/interface")
    assert disk is not None and nic is not None
    ET.SubElement(disk, "serial").text = "S1"
    driver = disk.find("driver")
    assert driver is not None
    driver.set("io", "threads")
    target = disk.find("target")
    assert target is not None
    target.set("bus", "sata")
    ET.SubElement(ET.SubElement(nic, "bandwidth"), "inbound", average="100")
    root = updated(has, replace(FULL, vcpus=2))
    assert root.findtext("devices/disk/serial") == "S1"
    assert root.find("devices/disk/driver[@io='threads'][@cache='writeback']") is not None
    assert root.find("devices/disk/target[@dev='vda'][@bus='sata']") is not None
    assert root.find("devices/disk/address") is not None
    assert root.find("devices/interface/bandwidth/inbound") is not None


def test_a_cable_that_is_pulled_leads_where_it_led() -> None:
    has = defined()
    nic = has.find("devices/interface")
    assert nic is not None
    source = nic.find("source")
    assert source is not None
    source.set("portgroup", "dmz")

    def source_of(wanted: DomainConfig) -> dict[str, str]:
        found = updated(has, wanted).find("devices/interface/source")
        assert found is not None
        return found.attrib

    pulled = replace(CONFIG.nics[0], link="down")
    other = replace(pulled, source="other")
    assert source_of(replace(CONFIG, nics=(pulled, CONFIG.nics[1]))) == source.attrib
    assert source_of(replace(CONFIG, nics=(other, CONFIG.nics[1]))) == {"network": "other"}


def test_what_libvirt_knew_of_a_disk_goes_with_the_disk() -> None:
    has = defined()
    disk = has.find("devices/disk")
    assert disk is not None
    ET.SubElement(disk, "backingStore", type="file")
    same = updated(has, replace(CONFIG, vcpus=2))
    assert same.find("devices/disk/backingStore") is not None
    swapped = (replace(CONFIG.disks[0], volume="new.qcow2"), CONFIG.disks[1])
    root = updated(same, replace(CONFIG, disks=swapped))
    assert root.find("devices/disk/backingStore") is None
    assert root.find("devices/disk/address") is not None


PATHS = replace(
    CONFIG,
    disks=tuple(replace(disk, path=f"/pool/{disk.volume}") for disk in CONFIG.disks),
)


def encrypted() -> ET.Element:
    """Its disks are files of a pool, the first of them with more than its path."""
    has = defined(PATHS)
    disk = has.find("devices/disk")
    assert disk is not None
    source = disk.find("source")
    assert source is not None
    assert source.attrib == {"file": "/pool/system.qcow2"}
    ET.SubElement(ET.SubElement(source, "encryption", format="luks"), "secret", uuid="s")
    ET.SubElement(source, "seclabel", model="dac", relabel="no")
    return has


def test_a_file_that_is_a_volume_is_not_rewritten_as_one() -> None:
    has = encrypted()
    before = [ET.tostring(disk) for disk in has.iter("disk")]
    after = updated(has, replace(PATHS, title="new", vcpus=2))
    assert [ET.tostring(disk) for disk in after.iter("disk")] == before


def test_an_encrypted_disk_is_not_exchanged() -> None:
    with pytest.raises(PermanentError, match="<encryption>") as caught:
        updated(encrypted(), CONFIG)
    assert caught.value.reason == "SourceBound"


def test_a_disk_that_goes_back_to_what_it_runs_on_gets_that_source_whole() -> None:
    """Somebody pointed the definition elsewhere; the guest that runs has the encrypted file."""
    live = encrypted()
    for source in live.iterfind("devices/disk/source"):
        source.set("index", "1")
    elsewhere = (replace(CONFIG.disks[0], volume="other.qcow2"), *PATHS.disks[1:])
    has = defined(replace(PATHS, disks=elsewhere))
    xml = update(
        ET.tostring(has, encoding="unicode"),
        render(PATHS, OWNER),
        ET.tostring(live, encoding="unicode"),
    )
    found = ET.fromstring(xml).find("devices/disk")
    wanted = encrypted().find("devices/disk")
    assert found is not None and wanted is not None
    assert differences(ET.tostring(found, "unicode"), ET.tostring(wanted, "unicode")) == set()


def test_a_block_device_of_a_pool_is_read_back_as_it_is_written() -> None:
    disk = replace(CONFIG.disks[0], format="raw", path="/dev/vg/system.qcow2")
    root = ET.fromstring(render(replace(CONFIG, disks=(disk,)), OWNER))
    found = root.find("devices/disk")
    assert found is not None
    assert found.get("type") == "block"
    assert found.find("source[@dev='/dev/vg/system.qcow2']") is not None


def test_firmware_that_libvirt_chose_and_its_nvram_stay() -> None:
    efi = replace(CONFIG, firmware="efi", boot=None)
    has = defined(efi)
    os = has.find("os")
    assert os is not None
    ET.SubElement(os, "loader", readonly="yes", type="pflash").text = "/fw/code.fd"
    ET.SubElement(os, "nvram", template="/fw/vars.fd").text = "/nvram/web1.fd"
    ET.SubElement(os, "smbios", mode="sysinfo")
    root = updated(has, replace(efi, title="new", boot=CONFIG.boot))
    assert root.findtext("os/loader") == "/fw/code.fd"
    assert root.findtext("os/nvram") == "/nvram/web1.fd"
    bios = updated(root, CONFIG)
    assert (bios.find("os/loader"), bios.find("os/nvram")) == (None, None)
    assert bios.find("os/smbios") is not None
    machine = bios.find("os/type")
    assert machine is not None
    assert machine.get("machine") == "pc-q35-7.2"


def test_what_would_contradict_the_number_of_vcpus_goes_with_a_change_of_it() -> None:
    has = defined()
    ET.SubElement(ET.SubElement(has, "vcpus"), "vcpu", id="0", enabled="yes")
    cpu = has.find("cpu")
    assert cpu is not None
    ET.SubElement(cpu, "topology", sockets="2", cores="1", threads="1")
    same = updated(has, replace(CONFIG, title="x"))
    assert same.find("vcpus/vcpu") is not None
    more = updated(same, replace(CONFIG, vcpus=2))
    assert more.find("vcpus") is None
    assert more.find("cpu/topology") is not None
    topology = updated(more, replace(CONFIG, max_vcpus=4)).find("cpu/topology")
    assert topology is not None
    assert topology.attrib == {"sockets": "4", "cores": "1", "threads": "1"}


@pytest.mark.parametrize(
    ("has", "maximum", "then"),
    [
        ((2, 2, 1), 2, (2, 1, 1)),
        ((1, 4, 1), 2, (1, 2, 1)),
        ((1, 4, 1), 8, (1, 8, 1)),
        ((4, 1, 1), 2, (2, 1, 1)),
        ((1, 2, 2), 6, (1, 3, 2)),
        ((2, 2, 2), 6, (2, 3, 1)),
        ((2, 1, 2), 3, (3, 1, 1)),
    ],
)
def test_sockets_and_cores_keep_their_shape_with_another_number_of_vcpus(
    has: tuple[int, ...], maximum: int, then: tuple[int, ...]
) -> None:
    root = defined(replace(CONFIG, vcpus=1, max_vcpus=has[0] * has[1] * has[2]))
    cpu = root.find("cpu")
    assert cpu is not None
    names = ("sockets", "cores", "threads")
    written = dict(zip(names, map(str, has), strict=True))
    ET.SubElement(cpu, "topology", written)
    found = updated(root, replace(CONFIG, vcpus=1, max_vcpus=maximum)).find("cpu/topology")
    assert found is not None
    assert tuple(int(found.get(name, "")) for name in names) == then
    product = then[0] * then[1] * then[2]
    assert product == maximum


def test_pins_of_the_vcpus_that_stay_stay() -> None:
    root = defined(replace(CONFIG, vcpus=4, max_vcpus=4))
    tune = ET.SubElement(root, "cputune")
    for number in range(4):
        ET.SubElement(tune, "vcpupin", vcpu=str(number), cpuset=str(number + 8))
    ET.SubElement(tune, "emulatorpin", cpuset="0-1")
    ET.SubElement(tune, "vcpusched", vcpus="1-3,^2", scheduler="fifo", priority="1")
    ET.SubElement(tune, "vcpusched", vcpus="2", scheduler="rr", priority="1")
    fewer = updated(root, replace(CONFIG, vcpus=1, max_vcpus=4)).find("cputune")
    assert fewer is not None
    assert [ET.tostring(one) for one in fewer] == [ET.tostring(one) for one in tune]
    less = updated(root, replace(CONFIG, vcpus=2, max_vcpus=2)).find("cputune")
    assert less is not None
    assert [(one.tag, one.get("vcpu"), one.get("vcpus")) for one in less] == [
        ("vcpupin", "0", None),
        ("vcpupin", "1", None),
        ("emulatorpin", None, None),
        ("vcpusched", None, "1"),
    ]


def test_a_first_drive_brings_the_controller_that_cloud_kernels_know() -> None:
    has = defined()
    assert has.find("devices/controller[@type='scsi']") is None
    root = updated(has, replace(CONFIG, disks=(*CONFIG.disks, DRIVE)))
    root = updated(root, replace(CONFIG, disks=(*CONFIG.disks, replace(DRIVE, volume="other"))))
    (controller,) = root.findall("devices/controller[@type='scsi']")
    assert controller.get("model") == "virtio-scsi"


def test_a_disk_whose_alias_was_lost_is_taken_back_not_doubled() -> None:
    has = defined()
    for disk in has.iter("disk"):
        alias = disk.find("alias")
        assert alias is not None
        disk.remove(alias)
    root = updated(has, CONFIG)
    assert len(list(root.iter("disk"))) == 2
    assert parse_domain(ET.tostring(root, encoding="unicode")).config == CONFIG


def test_qemu_arguments_of_somebody_else_stay() -> None:
    has = defined()
    line = has.find("{http://libvirt.org/schemas/domain/qemu/1.0}commandline")
    assert line is not None
    for value in ("-device", "foo"):
        ET.SubElement(line, "{http://libvirt.org/schemas/domain/qemu/1.0}arg", value=value)
    root = updated(has, replace(CONFIG, nics=()))
    line = root.find("{http://libvirt.org/schemas/domain/qemu/1.0}commandline")
    assert line is not None
    assert [argument.get("value") for argument in line] == ["-device", "foo"]


def test_metadata_of_somebody_else_stays() -> None:
    has = defined()
    metadata = has.find("metadata")
    assert metadata is not None
    ET.SubElement(metadata, "{urn:other}note").text = "keep"
    later = replace(OWNER, generation=2)
    xml = update(ET.tostring(has, encoding="unicode"), render(CONFIG, later))
    assert "keep" in xml
    assert parse_domain(xml).ownership == later


# --- What an operator set beside what we own ------------------------------------------------------

USER = (
    "user,id=u0,restrict=on,net=10.77.0.0/24,hostfwd=tcp::2222-:22,"
    "hostfwd=tcp:localhost:8443-:443,guestfwd=tcp:10.77.0.2:25-cmd:nc a,,b,smb=/srv"
)
DEVICE = "virtio-net-pci,netdev=u0,mac=52:54:00:0A:00:02,bootindex=3,addr=0x10"
ARG = "{http://libvirt.org/schemas/domain/qemu/1.0}arg"


def with_arguments() -> tuple[ET.Element, DomainConfig]:
    """Adopted, with a user interface of somebody's own words."""
    has = defined(replace(CONFIG, nics=CONFIG.nics[:1]))
    line = ET.SubElement(has, "{http://libvirt.org/schemas/domain/qemu/1.0}commandline")
    for value in ("-netdev", USER, "-device", DEVICE, "-device", "other,id=u0"):
        ET.SubElement(line, ARG, value=value)
    aliases = {CONFIG.nics[0].mac: "nic-lan", "52:54:00:0a:00:02": "nic-out"}
    xml = marked(ET.tostring(has, encoding="unicode"), OWNER, aliases)
    return ET.fromstring(xml), parse_domain(xml).config


def arguments(root: ET.Element) -> list[str]:
    return [argument.get("value", "") for argument in root.iter(ARG)]


def test_of_a_user_interface_only_the_words_of_ours_change() -> None:
    has, config = with_arguments()
    lan, out = config.nics
    assert out.forwards == ("0.0.0.0:2222:22/tcp",)
    assert arguments(updated(has, config)) == arguments(has)
    more = replace(out, forwards=("127.0.0.1:80:80/tcp", *out.forwards))
    found = arguments(updated(has, replace(config, nics=(lan, more))))
    new = "hostfwd=tcp:127.0.0.1:80-:80,hostfwd=tcp::2222-:22"
    assert found[1] == USER.replace("hostfwd=tcp::2222-:22", new)
    none = arguments(updated(has, replace(config, nics=(lan, replace(out, forwards=())))))
    assert none[1] == USER.replace("hostfwd=tcp::2222-:22,", "")
    other = replace(out, mac="52:54:00:0a:00:03")
    moved = arguments(updated(has, replace(config, nics=(lan, other))))
    assert moved[3] == DEVICE.replace("mac=52:54:00:0A:00:02", "mac=52:54:00:0a:00:03")
    assert moved[:3] == arguments(has)[:3]


def test_a_new_user_interface_takes_no_slot_that_libvirt_gave_away() -> None:
    has = defined(replace(CONFIG, nics=CONFIG.nics[:1]))
    devices = has.find("devices")
    assert devices is not None
    sound = ET.SubElement(devices, "sound", model="ich9")
    place = {"domain": "0x0000", "bus": "0x00", "slot": "0x10", "function": "0x0"}
    ET.SubElement(sound, "address", type="pci", **place)
    text = ET.tostring(updated(has, CONFIG), encoding="unicode")
    assert ("bus=pcie.0,addr=0x10" in text, "bus=pcie.0,addr=0x11" in text) == (False, True)


def test_another_user_interface_gets_a_slot_that_is_free() -> None:
    has, config = with_arguments()
    new = NicConfig("nic-more", "user", "", "52:54:00:0a:00:09")
    found = arguments(updated(has, replace(config, nics=(*config.nics, new))))
    assert found[:6] == arguments(has)
    assert found[9].endswith("addr=0x11")
    gone = updated(has, replace(config, nics=config.nics[:1]))
    assert arguments(gone) == ["-device", "other,id=u0"]


def test_half_a_user_interface_that_an_edit_left_is_made_whole() -> None:
    """Beside a second of its name QEMU would not start."""
    for lost in (0, 2):
        has = defined()
        line = has.find("{http://libvirt.org/schemas/domain/qemu/1.0}commandline")
        assert line is not None
        for argument in list(line)[lost : lost + 2]:
            line.remove(argument)
        assert sorted(arguments(updated(has, CONFIG))) == sorted(arguments(defined()))


@pytest.mark.parametrize(
    ("new", "left"),
    [
        ({"total_iops_sec": 600}, {"total_iops_sec_max", "total_iops_sec_max_length"}),
        ({"total_iops_sec": 1000}, set()),
        ({"total_iops_sec": 0, "read_iops_sec": 5}, set()),
    ],
)
def test_a_burst_stays_as_long_as_its_limit_is_below_it(
    new: dict[str, int], left: set[str]
) -> None:
    tune = replace(IoTune(total_iops_sec=500, write_bytes_sec=7), **new)
    has = defined(replace(CONFIG, disks=(replace(CONFIG.disks[0], io_tune=IoTune(0, 0, 7, 500)),)))
    element = has.find("devices/disk/iotune")
    assert element is not None
    extra = {
        "total_iops_sec_max": "900",
        "total_iops_sec_max_length": "5",
        "write_bytes_sec_max": "70",
        "size_iops_sec": "4096",
        "group_name": "g",
    }
    for name, text in extra.items():
        ET.SubElement(element, name).text = text
    disk = replace(CONFIG.disks[0], io_tune=tune)
    root = updated(has, replace(CONFIG, disks=(disk,)))
    found = {child.tag: child.text for child in root.iterfind("devices/disk/iotune/*")}
    ours = {name: str(limit) for name, limit in asdict(tune).items() if limit}
    kept = {"write_bytes_sec_max", "size_iops_sec", "group_name", *left}
    assert found == ours | {name: extra[name] for name in kept}
    free = updated(root, replace(CONFIG, disks=CONFIG.disks[:1]))
    assert free.find("devices/disk/iotune") is None


def test_a_running_disk_is_given_all_its_definition_says_and_loses_what_it_says_no_more() -> None:
    def disk(*tags: str) -> ET.Element:
        limits = "".join(f"<{tag}>{number}</{tag}>" for number, tag in enumerate(tags, 1))
        return ET.fromstring(f"<disk><iotune>{limits}</iotune></disk>")

    wanted = disk("total_iops_sec", "total_iops_sec_max", "group_name")
    # A group may be called "3", too.
    running = disk("total_iops_sec", "read_bytes_sec", "read_bytes_sec_max")
    assert {name: limit for name, limit in live_limits(wanted, running).items() if limit} == {
        "total_iops_sec": 1,
        "total_iops_sec_max": 2,
        "group_name": "3",
    }
    assert live_limits(wanted, running)["read_bytes_sec_max"] == 0


def test_of_a_drive_only_the_medium_changes() -> None:
    has = defined(replace(CONFIG, disks=(*CONFIG.disks, DRIVE)))
    drive = has.find("devices/disk[@device='cdrom']")
    assert drive is not None
    driver, source = drive.find("driver"), drive.find("source")
    assert driver is not None and source is not None
    driver.set("cache", "none")
    source.set("startupPolicy", "optional")
    ET.SubElement(source, "seclabel", model="dac", relabel="no")
    ET.SubElement(ET.SubElement(drive, "iotune"), "read_bytes_sec").text = "5"
    other = replace(DRIVE, volume="other.iso")
    root = updated(has, replace(CONFIG, title="x", disks=(*CONFIG.disks, other)))
    found = root.find("devices/disk[@device='cdrom']")
    assert found is not None
    source.set("volume", "other.iso")
    assert differences(ET.tostring(drive, "unicode"), ET.tostring(found, "unicode")) == set()


def test_a_disk_whose_alias_was_lost_keeps_what_an_operator_set_on_it() -> None:
    has = defined()
    disk = has.find("devices/disk")
    assert disk is not None
    alias = disk.find("alias")
    assert alias is not None
    disk.remove(alias)
    ET.SubElement(disk, "serial").text = "S1"
    root = updated(has, CONFIG)
    assert len(list(root.iter("disk"))) == 2
    assert root.findtext("devices/disk/serial") == "S1"
    assert root.find("devices/disk/address") is not None
    assert parse_domain(ET.tostring(root, encoding="unicode")).config == CONFIG


def test_another_accelerator_leaves_sockets_and_cells() -> None:
    has = defined()
    cpu = has.find("cpu")
    assert cpu is not None
    ET.SubElement(cpu, "topology", sockets="2", cores="1", threads="1")
    root = updated(has, replace(CONFIG, accelerator="kvm"))
    assert root.find("cpu[@mode='host-passthrough']/topology") is not None
