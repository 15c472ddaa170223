"""Each domain of the corpus: read, exported, adopted with what was exported; nothing kept quiet.

That libvirt accepts them is ``tests/e2e/test_field_corpus_real.py``'s.
"""

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import pytest

from controller.desired.catalog.catalog import load_paths
from controller.desired.effective import EffectiveGuest
from controller.observed.domain import DomainState, DomainView
from controller.observed.domain_xml import parse_config, parse_domain
from controller.observed.guest import Observed
from controller.observed.host import HostView
from controller.observed.kept import kept
from controller.observed.kept_devices import Kept
from controller.planning.adoption.adopt import plan_adoption
from controller.planning.adoption.export import export
from controller.planning.adoption.exported import Exported
from controller.planning.plan import Policy
from controller.planning.steps import RecordApplied
from tests.factories import NOW
from tests.field_corpus import (
    BY_KEY,
    CORPUS,
    HOST,
    FieldDomain,
    each_field_domain,
    host_with_pools,
    renamed,
    view_of,
    volumes_of,
)

POLICY = Policy(seed="test", daemon_started=NOW - 10, controller="me")
IMAGE = """\
apiVersion: guestkeeper/v1alpha1
kind: Image
metadata: {name: any}
spec: {osFamily: debian, source: {file: any.qcow2}%s}
"""
BOOT = ", boot: {kernel: vmlinuz, args: '%s'}"
NO_DOCUMENT = {
    "disk-none": "it has no disk",
    "lun-boot": "passed through \\(lun\\); a guest's system disk is a volume of a pool",
    "nvme-hostdev-boot": "boots from its hostdev first; a guest's system disk is a volume of a",
    "vi-pxe-only": "boots from the network first; name its system disk after that",
}
"""What is said of those of which there is none."""
NOT_ADOPTED = {
    "net-hostdev-pool": "as a team",
    **dict.fromkeys(
        (
            "disk-dir-fat",
            "disk-gluster",
            "disk-http",
            "disk-iscsi",
            "disk-nbd",
            "disk-nfs",
            "disk-rbd-data",
            "disk-vhostuser",
            "gpu-win10-single",
            "nvme-disk-second",
            "nvme-disk-type",
            "os-iscsi-multipath",
            "os-rbd",
            "os-rbd-volume-iotune",
            "pve-scsi-lvm",
            "pve-zvol",
            "vi-lvm-two-and-file",
            "vi-raw-partition",
        ),
        "which is no volume of a pool",
    ),
}
"""What is said of those that stay foreign, whatever pools there are."""
TOLD = {
    "domain.agentChannel": "it has no channel for the guest agent",
    "domain.on_poweroff": "on_poweroff is",
    "domain.on_reboot": "on_reboot is",
    "domain.on_crash": "on_crash is",
}
"""What adopting changes, and the beginning of the note that says so."""


def exported(field: FieldDomain, domain: DomainView, host: HostView = HOST) -> Exported:
    return export(domain, host, "any", volumes_of(domain.config, host), kept(field.xml))


def loaded(directory: Path, made: Exported, domain: DomainView) -> EffectiveGuest:
    """Through the real loader and catalog."""
    boot = domain.config.boot
    (directory / "image.yaml").write_text(IMAGE % (BOOT % boot.args if boot is not None else ""))
    (directory / "guest.yaml").write_text(made.text)
    snapshot = load_paths([directory], None)
    assert snapshot.problems == ()
    return snapshot.guests[made.name]


def seen(domain: DomainView, host: HostView) -> Observed:
    return Observed(host, domain, volumes=volumes_of(domain.config, host))


def test_the_corpus_is_there() -> None:
    assert len(CORPUS) >= 120
    assert len({field.shape for field in CORPUS}) == len(CORPUS)
    assert len({parse_config(field.xml).uuid for field in CORPUS}) == len(CORPUS)


@each_field_domain
def test_it_is_read(field: FieldDomain) -> None:
    parsed = parse_domain(field.xml)
    config = parsed.config
    assert parsed.ownership is None
    assert config.name
    assert config.memory >= 64 * 2**20
    assert config.vcpus >= 1
    assert len(config.disks) == len(
        [
            disk
            for disk in ET.fromstring(field.xml).iterfind("devices/disk")
            if disk.get("device") in ("disk", "cdrom")
        ]
    )
    assert bool(config.boot_disk) != bool(config.boot_doubt) or field.key == "disk-none"
    # Read beside itself, as the running one is beside the definition, it is itself.
    assert parse_domain(field.xml, parsed).config == config


@each_field_domain
def test_its_document_is_valid(field: FieldDomain, tmp_path: Path) -> None:
    domain = view_of(field)
    if field.key in NO_DOCUMENT:
        with pytest.raises(ValueError, match=NO_DOCUMENT[field.key]):
            exported(field, domain)
        return
    made = exported(field, domain)
    guest = loaded(tmp_path, made, domain)
    assert guest.name == made.name
    assert [note for note in made.notes if "is not valid" in note] == []
    renamed = [note for note in made.notes if "virsh domrename" in note]
    assert bool(renamed) == (made.name != domain.name)
    named = {disk.target for disk in domain.config.disks if disk.device == "disk" and disk.pool}
    written = {disk.name for disk in guest.spec.disks} | {domain.config.boot_disk}
    assert written >= named


@pytest.mark.parametrize(
    "field",
    [pytest.param(one, id=one.key) for one in CORPUS if one.key not in NO_DOCUMENT | NOT_ADOPTED],
)
def test_adopted_with_its_document_only_what_was_told_changes(
    field: FieldDomain, tmp_path: Path
) -> None:
    host = host_with_pools(field)
    domain = view_of(field, DomainState.RUNNING, host)
    made = exported(field, domain, host)
    guest = loaded(tmp_path, made, domain)
    domain = renamed(domain, made.name)
    adoption = plan_adoption(guest, seen(domain, host), NOW, POLICY)
    assert adoption.problems == ()
    assert adoption.adoption.adopted.ours
    assert adoption.after is not None
    for change in adoption.changes:
        assert any(note.startswith(TOLD[change.path]) for note in made.notes), change
    if not adoption.changes:
        assert {type(step) for step in adoption.after.steps} <= {RecordApplied}
    aliases = dict(adoption.adoption.aliases)
    assert all(nic.mac in aliases for nic in guest.spec.interfaces)
    assert all(drive.name in aliases for drive in guest.spec.cdroms)


@pytest.mark.parametrize("key", NOT_ADOPTED)
def test_what_is_never_adopted_says_why(key: str, tmp_path: Path) -> None:
    field = BY_KEY[key]
    host = host_with_pools(field)
    domain = view_of(field, DomainState.RUNNING, host)
    guest = loaded(tmp_path, exported(field, domain, host), domain)
    adoption = plan_adoption(guest, seen(domain, host), NOW, POLICY)
    assert adoption.step is None
    assert NOT_ADOPTED[field.key] in adoption.problems[0]


# --- Nothing is kept quiet ------------------------------------------------------------------------

_KINDS = {
    "devices/graphics": "graphics",
    "devices/sound": "sound",
    "devices/video": "video",
    "devices/hostdev": "passed-through device",
    "devices/filesystem": "shared folder",
    "devices/tpm": "TPM",
    "devices/watchdog": "watchdog",
    "devices/redirdev": "USB redirection",
    "devices/shmem": "shared memory",
    "devices/vsock": "vsock",
    "devices/interface/filterref": "network filter",
    "devices/interface/bandwidth": "bandwidth",
    "devices/interface/vlan": "VLAN",
    "devices/interface/virtualport": "virtual port",
    "devices/interface/source[@portgroup]": "port group",
    "devices/interface/mtu": "MTU",
    "devices/disk/serial": "serial number",
    "devices/disk/source/encryption": "encryption",
    "devices/disk/encryption": "encryption",
    "devices/disk/backingStore": "backing chain",
    "cputune/vcpupin": "CPU pinning",
    "cputune/emulatorpin": "CPU pinning",
    "memoryBacking/hugepages": "huge pages",
    "numatune": "NUMA placement",
    "cpu/numa/cell": "NUMA cell",
    "cpu/topology": "CPU topology",
    "iothreads": "I/O threads",
    "os/loader": "firmware file",
    "clock/timer": "clock",
}


@each_field_domain
def test_what_documents_have_no_words_for_is_listed_once(
    field: FieldDomain, tmp_path: Path
) -> None:
    root, found = ET.fromstring(field.xml), kept(field.xml)
    assert len(set(found)) == len(found)
    kinds = {one.kind for one in found}
    assert {kind for path, kind in _KINDS.items() if root.find(path) is not None} <= kinds
    for device in root.iterfind("devices/hostdev/source/address[@slot]"):
        where = f"{int(device.get('bus', ''), 0):02x}:{int(device.get('slot', ''), 0):02x}."
        assert any(one.kind == "passed-through device" and where in one.place for one in found)
    if field.key not in NO_DOCUMENT:
        made = exported(field, view_of(field))
        assert len(set(made.kept_lines)) == len(made.kept_lines)
        assert len({line.partition(":")[0] for line in made.kept_lines}) == len(made.kept_lines)
        assert all(f"#   {line}" in made.text.splitlines() for line in made.kept_lines)


_PLUMBING = {
    "uuid", "os", "os/type", "features", "features/acpi", "features/apic", "cpu", "clock",
    "devices", "metadata", "currentMemory", "on_poweroff", "on_reboot", "on_crash", "cpu/model",
    "cpu/vendor", "devices/interface/source/local", "devices/interface/source/address",
    "devices/emulator", "devices/controller", "devices/memballoon", "devices/rng",
    "devices/serial", "devices/console", "devices/channel", "devices/input", "devices/audio",
    "devices/panic", "devices/disk/address", "devices/disk/driver", "devices/disk/readonly",
    "devices/disk/source/address", "devices/disk/source/host", "devices/interface/address",
    "devices/interface/model", "devices/interface/target", "devices/disk/target",
    "memoryBacking", "cputune", "os/boot", "os/firmware", "devices/interface/source",
    "devices/interface/link",
}  # fmt: skip
"""What can be taken away without that what is said or listed becomes another: libvirt makes it
by itself, Guestkeeper makes it too, or it only holds what is listed."""


_TOLD_IN_PARTS = ("os", "features", "cpu", "clock", "memoryBacking", "cputune", "devices")


def _parts(root: ET.Element) -> Iterator[tuple[str, ET.Element, ET.Element]]:
    """(path, parent, element) down to what is in a device."""
    for child in root:
        yield child.tag, root, child
        for part in child if child.tag in _TOLD_IN_PARTS else ():
            path = f"{child.tag}/{part.tag}"
            yield path, child, part
            if part.tag in ("disk", "interface"):
                for detail in part:
                    yield f"{path}/{detail.tag}", part, detail
                    if detail.tag == "source":
                        for inner in detail:
                            yield f"{path}/{detail.tag}/{inner.tag}", detail, inner


def test_whatever_is_in_a_definition_is_said_by_documents_or_listed() -> None:
    tried: set[str] = set()
    quiet: set[str] = set()
    for field in CORPUS:
        root = ET.fromstring(field.xml)
        before = parse_config(field.xml), kept(field.xml)
        for path, parent, element in list(_parts(root)):
            shape = f"{path} {sorted(element.attrib)} {sorted({part.tag for part in element})}"
            if shape in tried or path in _PLUMBING:
                continue
            tried.add(shape)
            index = list(parent).index(element)
            parent.remove(element)
            text = ET.tostring(root, encoding="unicode")
            if (parse_config(text), kept(text)) == before:
                quiet.add(path)
            parent.insert(index, element)
    assert len(tried) > 150
    assert quiet == set()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        (".", "novelty"),
        ("os", "novelty"),
        ("features", "feature of the machine"),
        ("cpu", "CPU option"),
        ("cputune", "CPU limits"),
        ("memoryBacking", "memory backing"),
        ("devices", "novelty"),
        ("devices/disk", "disk option"),
        ("devices/disk/source", "disk source option"),
        ("devices/interface", "interface option"),
    ],
)
def test_an_element_that_this_version_never_heard_of_is_listed(path: str, kind: str) -> None:
    root = ET.fromstring(BY_KEY["hand-everything"].xml)
    changed = deepcopy(root)
    place = changed.find(path)
    assert place is not None
    ET.SubElement(place, "novelty")
    before = kept(ET.tostring(root, encoding="unicode"))
    more = set(kept(ET.tostring(changed, encoding="unicode"))) - set(before)
    assert [one.kind for one in more] == [kind]


# --- Single shapes --------------------------------------------------------------------------------


def text_of(key: str) -> str:
    return exported(BY_KEY[key], view_of(BY_KEY[key])).text


def test_a_forward_without_an_address_is_one_of_all_addresses_and_a_mac_is_lower_case() -> None:
    text = text_of("qemu-user-forward-all")
    assert 'mac: "52:54:00:ab:cd:ef"' in text
    assert '- "0.0.0.0:2222:22/tcp"' in text
    assert '- "0.0.0.0:8080:80/tcp"' in text


def test_the_only_interface_without_a_mac_address_is_told() -> None:
    made = exported(BY_KEY["qemu-user-no-mac"], view_of(BY_KEY["qemu-user-no-mac"]))
    assert Kept("interface without a MAC address", "netdev net0") in made.kept
    (note,) = (note for note in made.notes if "MAC address" in note)
    assert "its interface on netdev net0 has no MAC address" in note
    assert "virsh edit no-mac" in note


def test_what_of_user_networking_cannot_be_said_is_told() -> None:
    found = {one.place for one in kept(BY_KEY["qemu-user-restrict"].xml) if "network" in one.kind}
    mac = "52:54:00:5a:5b:5c"
    assert found == {
        f"{mac} restrict",
        f"{mac} net",
        f"{mac} smb",
        f"{mac} bootindex",
        f"{mac} tcp:127.0.0.1:2224-10.77.0.15:22",
    }
    assert "0.0.0.0:5353:53/udp" in text_of("qemu-user-restrict")


@pytest.mark.parametrize("key", ["efi-rom-loader", "efi-rom-old-path", "efi-secureboot-enrolled"])
def test_uefi_is_efi_however_it_is_given(key: str) -> None:
    assert "firmware: efi" in text_of(key)


def test_a_bios_of_ones_own_is_bios() -> None:
    assert "firmware: bios" in text_of("seabios-loader")


@pytest.mark.parametrize("key", ["vi-pxe", "vi-pxe-by-order", "vi-maas", "bootmenu-order"])
def test_a_disk_after_the_network_is_the_system_disk_and_the_network_stays_first(key: str) -> None:
    field = BY_KEY[key]
    made = exported(field, view_of(field))
    assert any(one.kind == "boot order" for one in made.kept)
    assert not any("<boot" in note for note in made.notes)
