"""Domain XML becomes the fields we own; whatever stands in it, nothing crashes."""

import json
from dataclasses import replace

import pytest

from controller.observed.domain import (
    LIBVIRT_USER,
    DiskConfig,
    DomainConfig,
    GuestRecord,
    NicConfig,
    Ownership,
)
from controller.observed.domain_xml import (
    parse_config,
    parse_domain,
    parse_ownership,
    parse_record,
)
from controller.observed.host import PoolView
from controller.observed.locating import located

FOREIGN = """<domain type='kvm'><name>old</name><uuid>2fd0e4f3-78ef-4486-bef9-87d1ce58fb6e</uuid>
<memory unit='GiB'>2</memory><vcpu>3</vcpu>
<os><loader type='pflash'>/usr/share/OVMF/OVMF_CODE.fd</loader></os><devices>
<disk type='file' device='disk'><source file='/x.img'/><target dev='vda'/></disk>
<disk type='block' device='lun'><source dev='/dev/sdx'/><target dev='sda'/></disk>
<interface type='direct'><mac address='52:54:00:00:00:01'/><source dev='eth0'/></interface>
<interface type='user'><mac address='52:54:00:00:00:02'/></interface>
</devices></domain>"""


def owned(inner: str, **attributes: str) -> str:
    words = " ".join(f"{key}='{value}'" for key, value in attributes.items())
    return (
        "<domain><metadata><o:other xmlns:o='urn:o'/>"
        f"<gk:guest xmlns:gk='urn:guestkeeper:v1' {words}>{inner}</gk:guest></metadata></domain>"
    )


def made_ours(xml: str) -> str:
    mark = "<metadata><guest xmlns='urn:guestkeeper:v1'/></metadata>"
    return xml.replace("<devices>", f"{mark}<devices>")


def test_what_a_foreign_domain_says_is_read_with_all_its_devices() -> None:
    assert parse_config(FOREIGN) == DomainConfig(
        name="old",
        uuid="2fd0e4f3-78ef-4486-bef9-87d1ce58fb6e",
        accelerator="kvm",
        vcpus=3,
        max_vcpus=3,
        memory=2 << 30,
        max_memory=2 << 30,
        firmware="efi",
        boot=None,
        disks=(DiskConfig("vda", "", "/x.img", "raw"),),
        nics=(
            NicConfig("52:54:00:00:00:01", "direct", "eth0", "52:54:00:00:00:01", model=""),
            NicConfig("52:54:00:00:00:02", "user", LIBVIRT_USER, "52:54:00:00:00:02", model=""),
        ),
        agent_channel=False,
    )
    assert parse_ownership(FOREIGN) is None


@pytest.mark.parametrize(
    "xml",
    [
        "<domain/>",
        "<domain><memory>many</memory><vcpu current='x'>y</vcpu><os/><devices/></domain>",
        "<domain><devices><disk/><interface/><channel/><disk><source/></disk></devices></domain>",
        "<domain xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'><q:commandline>"
        "<q:arg value='-device'/><q:arg value='virtio-net-pci,netdev'/><q:arg value='-netdev'/>"
        "<q:arg value='user,hostfwd=::'/><q:arg/><q:env/></q:commandline></domain>",
    ],
)
def test_oddities_become_defaults(xml: str) -> None:
    assert parse_config(xml).name == ""


def test_what_is_no_xml_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="not XML"):
        parse_config("<domain>")


def test_ownership_is_read_with_and_without_prefixes() -> None:
    wanted = Ownership("u", "web1", 7, "d", '{"a":1}', GuestRecord(2, 1.5))
    memory = '{"start_attempts":2,"last_start_attempt":1.5}'
    head = {"uid": "u", "name": "web1", "generation": "7", "digest": "d"}
    for prefix in ("", "gk:"):
        inner = f'<{prefix}spec>{{"a":1}}</{prefix}spec><{prefix}memory>{memory}</{prefix}memory>'
        assert parse_ownership(owned(inner, **head)) == wanted


@pytest.mark.parametrize(
    "inner", ["", "text", "<gk:spec/>", "<gk:memory>{{{</gk:memory>", "<gk:memory>[]</gk:memory>"]
)
def test_a_broken_element_still_means_that_it_is_ours(inner: str) -> None:
    assert parse_ownership(owned(inner, generation="soon")) == Ownership("", "", 0, "", "")


@pytest.mark.parametrize(
    ("document", "record"),
    [
        ({"start_attempts": 3, "from_the_future": {"a": 1}}, GuestRecord(start_attempts=3)),
        ({"start_attempts": "3", "last_start_attempt": 5}, GuestRecord(last_start_attempt=5.0)),
        ({"start_attempts": True, "shutdown_requested": False}, GuestRecord()),
        ({"last_start_attempt": None}, GuestRecord()),
        ({"last_start_attempt": 10**400, "start_attempts": 3}, GuestRecord(start_attempts=3)),
        (
            {"start_attempts": 10**400, "last_start_attempt": 5.5},
            GuestRecord(last_start_attempt=5.5),
        ),
        ({"last_start_attempt": float("nan"), "start_attempts": 3}, GuestRecord(start_attempts=3)),
        ({"shutdown_requested": float("-inf"), "start_attempts": 3}, GuestRecord(start_attempts=3)),
        ("text", GuestRecord()),
        (None, GuestRecord()),
    ],
)
def test_memory_takes_what_it_knows_and_leaves_the_rest(
    document: object, record: GuestRecord
) -> None:
    assert parse_record(json.dumps(document)) == record


def test_memory_of_bottomless_json_is_empty() -> None:
    assert parse_record("[" * 100_000) == GuestRecord()


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999", "soon", ""])
def test_a_birthday_that_is_no_time_is_not_known(text: str) -> None:
    ownership = parse_ownership(owned("", created=text))
    assert ownership is not None
    assert ownership.created == 0.0


@pytest.mark.parametrize(
    ("state", "connected"),
    [(" state='connected'", True), (" state='disconnected'", False), ("", False)],
)
def test_the_agent_is_connected_when_its_channel_is(state: str, connected: bool) -> None:
    xml = (
        "<domain><devices><channel><target name='org.other' state='connected'/></channel>"
        f"<channel><target name='org.qemu.guest_agent.0'{state}/></channel></devices></domain>"
    )
    assert parse_domain(xml).agent_connected == connected


def test_a_running_interface_that_its_network_led_to_a_bridge_is_still_of_the_network() -> None:
    xml = (
        "<domain><devices><interface type='bridge'><source network='lan' portid='x' bridge='br0'/>"
        "<alias name='ua-nic-lan'/></interface></devices></domain>"
    )
    (nic,) = parse_config(made_ours(xml)).nics
    assert (nic.kind, nic.source) == ("network", "lan")


def test_of_a_domain_of_ours_only_our_devices_count() -> None:
    config = parse_config(made_ours(FOREIGN))
    assert (config.disks, config.nics) == ((), ())
    assert config.taken == parse_config(FOREIGN).taken == {"vda", "sda"}


def test_two_configs_that_mean_the_same_domain_are_equal() -> None:
    system = DiskConfig("disk-system", "p", "a", target="vda")
    many = DiskConfig("disk-many", "p", "b", target="vdaa")
    data = DiskConfig("disk-data", "p", "c", target="vdb")
    seed = DiskConfig("cdrom-seed", "p", None, "qcow2", "cdrom", "sda")
    user = NicConfig("nic-a", "user", "", "52:54:00:00:00:01")
    lan = NicConfig("nic-b", "network", "lan", "52:54:00:00:00:02")
    one = replace(
        parse_config("<domain/>"),
        disks=(seed, many, data, system),
        nics=(user, lan),
        memory=2**20 + 1,
    )
    assert [disk.alias for disk in one.disks] == [
        "disk-system",
        "disk-data",
        "disk-many",
        "cdrom-seed",
    ]
    assert (one.disks[-1].pool, one.disks[-1].format) == ("", "raw")
    assert [nic.alias for nic in one.nics] == ["nic-b", "nic-a"]
    assert one.memory == 2 * 2**20


NETWORK_DISK = """<domain><devices><disk type='network' device='disk'>
<source protocol='{protocol}' name='/pool/web1.qcow2'><host name='h'/></source>
<target dev='vda'/></disk></devices></domain>"""


@pytest.mark.parametrize("protocol", ["nfs", "ssh", "https", "rbd", "iscsi"])
def test_a_disk_on_the_network_is_no_file_and_no_volume_of_that_name(protocol: str) -> None:
    pools = {"gk": PoolView("gk", "/pool", True, 1, 1)}
    (disk,) = located(parse_config(NETWORK_DISK.format(protocol=protocol)), pools).disks
    assert disk.place == ("", f"{protocol}:/pool/web1.qcow2")


def test_a_running_disk_on_the_network_is_not_the_volume_of_the_definition() -> None:
    element = "<alias name='ua-disk-system'/><target dev='vda'/>"
    stored = made_ours(
        "<domain><devices><disk type='volume'><source pool='gk' volume='web1.qcow2'/>"
        f"{element}</disk></devices></domain>"
    )
    live = made_ours(NETWORK_DISK.format(protocol="nfs")).replace("<target dev='vda'/>", element)
    (disk,) = parse_domain(live, parse_domain(stored)).config.disks
    assert disk.place == ("", "nfs:/pool/web1.qcow2")


@pytest.mark.parametrize(
    "inside", ["<encryption format='luks'/>", "<slices><slice type='storage'/></slices>"]
)
def test_what_belongs_to_a_source_is_known_of_the_disk(inside: str) -> None:
    xml = FOREIGN.replace("<source file='/x.img'/>", f"<source file='/x.img'>{inside}</source>")
    (disk,) = parse_config(xml).disks
    assert disk.place == ("", "/x.img")
    assert len(disk.bound) == 1
    assert disk.bound[0] in inside


def test_a_directory_shown_as_a_disk_is_no_volume() -> None:
    pools = {"gk": PoolView("gk", "/pool", True, 1, 1)}
    xml = "<domain><devices><disk type='dir'><source dir='/pool/d'/></disk></devices></domain>"
    (disk,) = located(parse_config(xml), pools).disks
    assert disk.place == ("", "dir:/pool/d")


@pytest.mark.parametrize(
    ("loader", "firmware"),
    [
        ("<loader type='rom'>/usr/share/ovmf/OVMF.fd</loader>", "efi"),
        ("<loader>/usr/share/edk2/x64/firmware.fd</loader>", "efi"),
        ("<loader type='rom'>/usr/share/seabios/bios-256k.bin</loader>", "bios"),
        ("<loader type='pflash'>/srv/mine.fd</loader>", "efi"),
        ("", "bios"),
    ],
)
def test_uefi_as_one_file_is_efi(loader: str, firmware: str) -> None:
    xml = f"<domain><name>x</name><os><type>hvm</type>{loader}</os></domain>"
    assert parse_config(xml).firmware == firmware
