"""A domain's document: what it says, what it tells a person, and that it is the domain's own."""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.desired.catalog.catalog import load_paths
from controller.desired.effective import EffectiveGuest
from controller.desired.schema.model import Firmware
from controller.observed.domain import (
    BootConfig,
    DiskConfig,
    DomainConfig,
    DomainState,
    DomainView,
    IoTune,
    NicConfig,
    StateReason,
)
from controller.observed.guest import Observed
from controller.observed.host import VolumeView
from controller.observed.kept_devices import Kept
from controller.observed.locating import located_view
from controller.planning.adoption.adopt import plan_adoption
from controller.planning.adoption.export import (
    disk_volumes,
    export,
    fitting_images,
)
from controller.planning.adoption.exported import Exported
from controller.planning.adoption.yaml_text import document_text
from controller.planning.planner import plan
from tests.factories import NOW, a_domain, a_guest, a_service, an_image, an_install_image
from tests.unit.planning.adoption.test_adopting import (
    DATA,
    DMZ,
    DRIVE,
    HOST,
    LAN,
    LOGS,
    POLICY,
    SYSTEM,
    UUID,
    a_foreign,
)

IMAGE = """\
apiVersion: guestkeeper/v1alpha1
kind: Image
metadata: {name: debian12}
spec: {osFamily: debian, source: {file: debian12.qcow2}%s}
"""
BOOT = ", boot: {kernel: vmlinuz, args: console=ttyS0}"


def exported(domain: DomainView, image: str | None = "debian12", **fields: Any) -> Exported:
    sizes = {
        place: VolumeView(*place, f"/x/{place[1]}", "qcow2", 3 * 2**30 + 512, 0, None)
        for place in disk_volumes(domain, HOST)
    }
    return export(domain, HOST, image, fields.pop("volumes", sizes), **fields)


def body(made: Exported) -> str:
    """Without its comments."""
    lines = made.text.splitlines()
    return "\n".join(line for line in lines if not line.startswith("#"))


def loaded(tmp: Path, text: str, boot: bool = False) -> EffectiveGuest:
    (tmp / "image.yaml").write_text(IMAGE % (BOOT if boot else ""))
    (tmp / "guest.yaml").write_text(text)
    snapshot = load_paths([tmp], None)
    assert snapshot.problems == ()
    (guest,) = snapshot.guests.values()
    return guest


# --- what it says ---------------------------------------------------------------------------------


def test_the_system_disk_is_the_one_it_boots_from() -> None:
    made = exported(a_foreign(SYSTEM, LOGS, boot_disk="vdc"))
    assert "systemDisk:\n    pool: fast" in made.text
    assert "- name: vda\n    pool: default" in made.text
    with pytest.raises(ValueError, match="who knows"):
        exported(a_foreign(SYSTEM, LOGS, boot_doubt="who knows"))


def test_of_interfaces_with_one_mac_the_first_is_written() -> None:
    made = exported(a_foreign(nics=(LAN, replace(LAN, source="other"))))
    assert made.text.count(f'mac: "{LAN.mac}"') == 1
    assert f"2 of its interfaces have the MAC address {LAN.mac}" in "".join(made.notes)


@pytest.mark.parametrize(
    "odd", ["\x7f", "\x9b2J", "\u202e", "\u2028", "\x85", "\ufeff", "\U000e0001"]
)
def test_what_steers_a_terminal_or_breaks_yaml_is_written_out(tmp_path: Path, odd: str) -> None:
    drive = replace(DRIVE, volume=f"/isos/{odd}x.iso")
    disk = replace(SYSTEM, volume=f"/pool/{odd}.img")
    made = exported(a_foreign(disk, drive), kept=[Kept("a thing", odd)])
    assert made.text.replace("\n", "").isprintable()
    assert loaded(tmp_path, made.text).name == "web1"


def test_text_comes_back_as_it_was() -> None:
    text = 'back\\slash "q" \u202e \\\u202e \xa0 \U0001f600 \U000e0001 \x9b \u2028 null'
    written = document_text("x", {"a": text}, [text])
    assert yaml.safe_load(written)["spec"]["a"] == text
    assert written.replace("\n", "").isprintable()


def test_the_document_says_all_that_documents_have_words_for() -> None:
    domain = a_foreign(
        replace(SYSTEM, cache="none"),
        replace(LOGS, io_tune=IoTune(total_bytes_sec=2**20, read_iops_sec=500)),
        replace(DRIVE, pool="fast", volume="tools.iso"),
        replace(DRIVE, alias="sdb", target="sdb"),
        nics=(replace(LAN, model="e1000e"), replace(DMZ, link="down")),
        title="The web",
        max_vcpus=4,
        max_memory=2**30,
        firmware="efi",
        view={"autostart": True},
    )
    assert body(exported(domain)) == (
        """\
apiVersion: guestkeeper/v1alpha1
kind: Guest
metadata:
  name: web1
spec:
  host: local
  image: debian12
  title: "The web"
  runStrategy: Always
  autostart: true
  cpu:
    vcpus: 1
    max: 4
  memory:
    size: 512Mi
    max: 1Gi
  firmware: efi
  accelerator: tcg
  systemDisk:
    pool: default
    size: "3221225984"
    cache: none
  disks:
  - name: vdc
    pool: fast
    size: "3221225984"
    ioTune:
      totalBytesSec: 1Mi
      readIopsSec: 500
  cdroms:
  - name: sda
    pool: fast
    volume: tools.iso
  - name: sdb
  interfaces:
  - name: net0
    mac: "52:54:00:00:00:01"
    network: lan
    model: e1000e
  - name: net1
    mac: "52:54:00:00:00:02"
    bridge: br0
    link: down"""
    )


def test_a_domain_that_is_off_stays_off() -> None:
    assert "runStrategy: Manual" in exported(a_foreign(state=DomainState.SHUTOFF)).text


def test_what_documents_have_no_words_for_is_told() -> None:
    domain = a_foreign(
        SYSTEM,
        replace(DATA, pool="", volume="/srv/vm/data.img"),
        replace(DRIVE, volume="/isos/a.iso"),
        nics=(replace(DMZ, kind="direct", source="eth0"),),
        on_crash="restart",
        agent_channel=False,
        title="T" * 300,
    )
    made = exported(domain, kept=(Kept("shared folder", "code"), Kept("TPM"), Kept("TPM")))
    notes = "\n".join(made.notes)
    assert "its disk vdb is /srv/vm/data.img, which lies in no pool of host local" in notes
    assert "--target /srv/vm, then virsh pool-start NAME and virsh pool-autostart NAME; so" in notes
    assert "drive sda can be managed once the CD in it lies in a pool of host local" in notes
    assert "on_crash is restart and becomes destroy" in notes
    assert "no channel for the guest agent" in notes
    assert made.kept_lines == (
        "shared folder: code",
        "TPM",
        "CD-ROM drive: sda (/isos/a.iso)",
        f"interface: {DMZ.mac} (direct eth0, model virtio: not one of network, bridge, user)",
    )
    assert all(f"#   {line}" in made.text for line in made.kept_lines)
    assert "title is left out" in notes
    assert "write it as hostname" in notes
    assert all(f"# - {note}" in made.text for note in made.notes)
    assert "TTT" not in made.text


def test_a_line_that_is_not_valid_is_told_with_its_number_and_why() -> None:
    odd = replace(DATA, pool="My pool")
    made = exported(a_foreign(SYSTEM, odd, memory=2**24, max_memory=2**24))
    lines = made.text.splitlines()
    size, pool = (note for note in made.notes if "is not valid" in note)
    assert lines[int(size.split()[1]) - 1].strip() in ("memory:", "size: 16Mi")
    assert "spec.memory: size must be at least 64Mi" in size
    assert lines[int(pool.split()[1]) - 1].strip() == 'pool: "My pool"'
    assert "spec.disks[0].pool: must be the name of a storage pool" in pool
    assert all(f"# - {note}" in lines for note in (size, pool))


@pytest.mark.parametrize("missing", [DomainState.RUNNING])
def test_a_volume_that_is_not_there_ends_it(missing: DomainState) -> None:
    with pytest.raises(ValueError, match=r"volume default/web1\.img of its disk vda"):
        exported(a_foreign(state=missing), volumes={})


@pytest.mark.parametrize(
    ("name", "guest"),
    [
        ("Win 10 (Buchhaltung)", "win-10-buchhaltung"),
        ("www.example.org", "www-example-org"),
        ("büro-größe", "buro-grosse"),
        ("shop_default", "shop-default"),
        ("-_-", "guest"),
        ("x" * 70, "x" * 63),
        (f"{'x' * 62}_y", "x" * 62),
    ],
)
def test_of_a_name_that_no_guest_can_have_the_nearest_is_taken(
    tmp_path: Path, name: str, guest: str
) -> None:
    domain = a_foreign()
    made = exported(replace(domain, name=name, config=replace(domain.config, name=name)))
    assert made.name == guest
    assert loaded(tmp_path, made.text).name == guest
    (note,) = (note for note in made.notes if "domrename" in note)
    assert shlex.split(note.rpartition(": ")[2]) == ["virsh", "domrename", name, guest]


def test_an_iso_and_a_network_may_have_spaces_and_brackets_in_their_names(tmp_path: Path) -> None:
    drive = replace(DRIVE, pool="fast", volume="my drivers (final) [x].iso")
    made = exported(a_foreign(SYSTEM, drive, nics=(replace(LAN, source="Büro (2. Stock)"),)))
    guest = loaded(tmp_path, made.text)
    assert guest.spec.cdroms[0].volume == "my drivers (final) [x].iso"
    assert guest.spec.interfaces[0].network == "Büro (2. Stock)"


def test_an_image_is_needed() -> None:
    with pytest.raises(ValueError, match="--image"):
        exported(a_foreign(), image=None)


def test_images_fit_that_boot_as_the_domain_does() -> None:
    images = {
        one.name: one
        for one in (
            an_image("disk"),
            an_image("kernel", boot={"kernel": "vmlinuz"}),
            an_install_image("bios"),
            an_install_image("efi", builder={"firmware": "efi"}),
        )
    }
    assert images["efi"].install is not None
    assert images["efi"].install.firmware is Firmware.EFI
    plain = a_foreign()
    kernel = a_foreign(boot=BootConfig("/pool/vmlinuz", None, ""))
    assert fitting_images(images, plain) == ["bios", "disk"]
    assert fitting_images(images, a_foreign(firmware="efi")) == ["disk", "efi"]
    assert fitting_images(images, kernel) == ["kernel"]


# --- of a domain of ours --------------------------------------------------------------------------


def test_a_domain_of_ours_gets_back_what_its_metadata_knows() -> None:
    guest = a_guest(
        services=(a_service(),),
        runStrategy="Manual",
        hostname="front",
        shutdownTimeout="5m",
        updatePolicy={"restart": "Automatic"},
        sshAuthorizedKeysFrom=[{"file": "/etc/keys"}],
        disks=[{"name": "data", "size": "1Gi"}],
        interfaces=[{"name": "nat", "user": {"forwards": ["127.0.0.1:8080:80/tcp"]}}],
    )
    made = exported(a_domain(guest), image=None)
    assert not made.foreign
    for line in (
        "image: debian12",
        "runStrategy: Manual",
        "hostname: front",
        "shutdownTimeout: 300",
        "restart: Automatic",
        "file: /etc/keys",
        "- name: data",
        "- name: nat",
        '- "127.0.0.1:8080:80/tcp"',
    ):
        assert line in made.text
    assert "driftInterval" not in made.text
    assert "maintenanceWindows" not in made.text
    assert "services:" not in body(made)
    assert any("its services (web) are not known whole" in note for note in made.notes)
    assert any("labels" in note for note in made.notes)


def test_a_domain_of_ours_with_that_document_plans_nothing(tmp_path: Path) -> None:
    guest = a_guest(disks=[{"name": "data", "size": "1Gi"}], interfaces=[{"name": "n", "user": {}}])
    domain = a_domain(guest)
    owner = domain.ownership
    assert owner is not None
    again = loaded(tmp_path, exported(domain, image=None).text)
    made = plan(again, Observed(HOST, domain), owner.record, NOW, POLICY)
    assert [c.path for c in made.changes if not c.path.endswith(".size")] == []


def test_another_versions_spec_costs_the_policies_only() -> None:
    domain = a_domain(a_guest())
    owner = domain.ownership
    assert owner is not None
    made = exported(replace(domain, ownership=replace(owner, spec='{"spec": {"image": 5}}')))
    assert any("another version's" in note for note in made.notes)
    assert "image: debian12" in made.text


# --- adopting with it changes nothing -------------------------------------------------------------

NAMES = st.from_regex(r"[A-Za-z0-9_.-]{1,15}", fullmatch=True)
VOLUMES = st.from_regex(r"[A-Za-z0-9_+@-][A-Za-z0-9_.+@-]{0,20}", fullmatch=True)
WORDS = st.text(
    st.characters(exclude_categories=["C", "Z"]) | st.sampled_from(" :#'\"{}[]&*!|>%@`-\\"),
    max_size=60,
).map(str.strip)
LINES = st.lists(WORDS, max_size=4).map("\n".join).map(str.strip)
MIB = st.integers(64, 2**20).map(lambda size: size * 2**20)
RATE = st.integers(0, 10**15)


@st.composite
def io_tunes(draw: st.DrawFn) -> IoTune:
    limits: dict[str, int] = {}
    for unit in ("bytes_sec", "iops_sec"):
        kinds = draw(st.sampled_from([("total",), ("read", "write")]))
        limits |= {f"{kind}_{unit}": draw(RATE) for kind in kinds}
    return IoTune(**limits)


@st.composite
def disks(draw: st.DrawFn, target: str, volume: str) -> DiskConfig:
    pool = draw(st.sampled_from(["default", "fast"]))
    as_file = draw(st.booleans())
    path = f"{HOST.pools[pool].path.rstrip('/')}/{volume}"
    return DiskConfig(
        target,
        "" if as_file else pool,
        path if as_file else volume,
        format=draw(st.sampled_from(["qcow2", "raw", "vmdk"])),
        target=target,
        cache=draw(
            st.sampled_from(["", "none", "writethrough", "writeback", "directsync", "unsafe"])
        ),
        io_tune=draw(io_tunes()),
    )


@st.composite
def drives(draw: st.DrawFn, target: str) -> DiskConfig:
    medium = draw(st.none() | st.tuples(st.sampled_from(["default", "fast"]), VOLUMES))
    pool, volume = medium or ("", None)
    return DiskConfig(target, pool, volume, "raw", device="cdrom", target=target)


@st.composite
def nics(draw: st.DrawFn, number: int) -> NicConfig:
    mac = f"52:54:00:{draw(st.integers(0, 255)):02x}:00:{number:02x}"
    kind = draw(st.sampled_from(["network", "bridge", "user", "direct"]))
    if kind == "user":
        forwards = (f"127.0.0.1:{8000 + number}:80/tcp",) if draw(st.booleans()) else ()
        return NicConfig(mac, "user", "", mac, forwards)
    return NicConfig(
        mac,
        kind,
        draw(NAMES),
        mac,
        model=draw(st.sampled_from(["virtio", "e1000e", "rtl8139"])),
        link=draw(st.sampled_from(["up", "down"])),
    )


@st.composite
def domains(draw: st.DrawFn) -> DomainView:
    vcpus, memory = draw(st.integers(1, 512)), draw(MIB)
    targets = draw(st.sampled_from([("vda", "vdb", "vdc", "vdz"), ("sda", "sdb", "vda", "hdc")]))
    volumes = draw(st.lists(VOLUMES, min_size=4, max_size=4, unique=True))
    count = draw(st.integers(1, 4))
    cds = draw(st.lists(st.sampled_from(["sdx", "sdy", "hda"]), unique=True, max_size=3))
    boot = draw(st.none() | st.just(BootConfig("/pool/vmlinuz", None, "console=ttyS0")))
    state = draw(st.sampled_from([DomainState.RUNNING, DomainState.SHUTOFF]))
    config = DomainConfig(
        name="web1",
        uuid=UUID,
        accelerator=draw(st.sampled_from(["kvm", "tcg"])),
        vcpus=vcpus,
        max_vcpus=draw(st.integers(vcpus, 512)),
        memory=memory,
        max_memory=draw(st.just(memory) | MIB.map(lambda more: memory + more)),
        firmware=draw(st.sampled_from(["bios", "efi"])),
        boot=boot,
        disks=(
            *(
                draw(disks(target, volume))
                for target, volume in zip(targets[:count], volumes, strict=False)
            ),
            *(draw(drives(target)) for target in cds),
        ),
        nics=tuple(draw(nics(number)) for number in range(draw(st.integers(0, 4)))),
        title=draw(WORDS),
        description=draw(LINES),
    )
    found = DomainView(
        name="web1",
        uuid=UUID,
        state=state,
        reason=StateReason.OTHER,
        ownership=None,
        config=config,
        live=config if state.active else None,
        run=1 if state.active else None,
        autostart=draw(st.booleans()),
    )
    return located_view(found, HOST.pools)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(domain=domains(), data=st.data())
def test_adopting_a_domain_with_its_own_document_changes_nothing(
    tmp_path: Path, domain: DomainView, data: st.DataObject
) -> None:
    sizes = {
        place: VolumeView(
            *place, f"/x/{place[1]}", "qcow2", data.draw(st.integers(1, 2**50)), 0, None
        )
        for place in disk_volumes(domain, HOST)
    }
    made = export(domain, HOST, "debian12", sizes)
    guest = loaded(tmp_path, made.text, boot=domain.config.boot is not None)
    seen = Observed(HOST, domain, volumes={name: view for (_, name), view in sizes.items()})
    adoption = plan_adoption(guest, seen, NOW, POLICY)
    assert adoption.problems == ()
    assert adoption.changes == ()
    written = {nic.name: nic.mac for nic in guest.spec.interfaces}
    assert (
        dict(adoption.adoption.aliases).items()
        >= {
            nic.mac: f"nic-{name}"
            for name, mac in written.items()
            for nic in domain.config.nics
            if nic.mac == mac
        }.items()
    )


@pytest.mark.parametrize(
    "text",
    [
        "a\ttab",
        "no\u00a0break",
        "a family: \U0001f468\u200d\U0001f469\u200d\U0001f467",
        "  space around it\n",
        "   ",
        "\u202eturned round",
        "x" * 5000,
        "one\ntwo",
    ],
)
def test_a_description_is_not_lost_by_adopting(tmp_path: Path, text: str) -> None:
    """A document says it, or it stays because no document can."""
    domain = a_foreign(description=text)
    made = exported(domain)
    guest = loaded(tmp_path, made.text)
    adoption = plan_adoption(guest, Observed(HOST, domain), NOW, POLICY)
    assert adoption.changes == ()
    said = guest.spec.description or ""
    assert said in ("", text.strip())
    other = replace(guest, spec=guest.spec.model_copy(update={"description": "other"}))
    changed = plan_adoption(other, Observed(HOST, domain), NOW, POLICY)
    assert [(one.path, one.new) for one in changed.changes] == [("description", "other")]
