"""What documents say about the later life of a guest, and what is no change of its image."""

from pathlib import Path

import pytest

from controller.desired.catalog.snapshot import Snapshot
from controller.desired.schema.documents import GuestDocument
from controller.desired.schema.guest import GuestSpec
from controller.desired.text.parse import read_documents
from tests.unit.desired.support import DATA, catalog, copy_into, guest, image, make_directory, put


def spec_of(text: str) -> GuestSpec:
    (document,) = read_documents(guest(spec=text).encode(), "web.yaml")
    assert document.problems == ()
    assert isinstance(document.model, GuestDocument)
    return document.model.spec


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_directory(tmp_path / "desired")


def _scan(root: Path) -> Snapshot:
    snapshot = catalog(root).scan().snapshot
    assert snapshot.problems == ()
    return snapshot


def test_all_that_can_be_said_is_understood(root: Path) -> None:
    copy_into(DATA / "valid" / "whole-life", root)
    snapshot = _scan(root)
    assert snapshot.images["debian12"].spec.rollout.max_parallel == 2
    spec = snapshot.guests["web1"].spec
    assert spec.title == "The shop's front end"
    assert spec.description == "Asks db1 for everything.\nRing 1234 before you stop it."
    assert spec.autostart
    assert spec.system_disk.cache == "none"
    assert spec.system_disk.io_tune is not None
    assert spec.system_disk.io_tune.model_dump(exclude_none=True) == {
        "total_bytes_sec": 100_000_000,
        "total_iops_sec": 500,
    }
    (data,) = spec.disks
    assert data.io_tune is not None
    assert data.io_tune.read_iops_sec == 300
    assert [(drive.name, drive.pool, drive.volume) for drive in spec.cdroms] == [
        ("tools", "iso", "tools.iso"),
        ("empty", None, None),
    ]
    assert [(nic.link, nic.model) for nic in spec.interfaces] == [
        ("up", "virtio"),
        ("down", "e1000e"),
    ]
    policy = spec.update_policy
    assert (policy.restart, policy.replace) == ("Automatic", "Automatic")
    windows = [(one.cron, one.duration, one.time_zone) for one in policy.maintenance_windows]
    assert windows == [
        ("0 3 * * 0", 7200.0, "UTC"),
        ("30 22 L * *", 5400.0, "Europe/Berlin"),
    ]
    assert (policy.retired_disk_ttl, policy.progress_deadline) == (0.0, 30.0)
    assert spec.deletion_policy == "Delete"


def test_a_document_that_says_nothing_gets_what_changes_least() -> None:
    spec = spec_of("  interfaces: [{name: lan, user: {}}]\n  disks: [{name: data, size: 1Gi}]\n")
    assert (spec.title, spec.description, spec.autostart, spec.cdroms) == (None, None, False, [])
    assert spec.system_disk.cache is None
    assert spec.disks[0].io_tune is None
    assert (spec.interfaces[0].link, spec.interfaces[0].model) == ("up", "virtio")
    policy = spec.update_policy
    assert (policy.restart, policy.replace) == ("Staged", "Manual")
    assert policy.maintenance_windows == []
    assert (policy.retired_disk_ttl, policy.progress_deadline) == (7 * 86400.0, 900.0)
    assert spec.deletion_policy == "Retain"


@pytest.mark.parametrize(
    ("written", "meant"),
    [("''", ""), ("'  '", ""), ("' a  b '", "a  b"), ("Wäsche 洗", "Wäsche 洗")],
)
def test_white_space_around_a_title_means_nothing(written: str, meant: str) -> None:
    assert spec_of(f"  title: {written}\n").title == meant


@pytest.mark.parametrize(
    "text", ["a\\tb", "a\\u00a0b", "\\U0001f468\\u200d\\U0001f469", "a\\u3000b", "a\\nb"]
)
def test_a_description_may_have_any_text_that_moves_no_terminal(text: str) -> None:
    found = spec_of(f'  description: "{text}"\n').description
    assert found == text.encode().decode("unicode_escape")


def test_a_limit_of_reads_may_stand_beside_the_total_of_another_unit() -> None:
    spec = spec_of("  systemDisk: {ioTune: {totalIopsSec: 500, readBytesSec: 1000T}}\n")
    assert spec.system_disk.io_tune is not None
    assert spec.system_disk.io_tune.read_bytes_sec == 10**15


def test_two_guests_may_have_the_same_medium_in_their_drives(root: Path) -> None:
    drive = "  cdroms: [{name: tools, volume: tools.iso}]\n"
    put(root / "image.yaml", image())
    put(root / "a.yaml", guest("web1", spec=drive))
    put(root / "b.yaml", guest("web2", spec=drive))
    assert set(_scan(root).guests) == {"web1", "web2"}


def test_how_an_image_goes_round_is_no_part_of_its_content(root: Path) -> None:
    put(root / "web.yaml", guest())
    put(root / "image.yaml", image())
    before = _scan(root)
    put(root / "image.yaml", image().rstrip("}\n") + "}, rollout: {maxParallel: 3}}\n")
    after = _scan(root)
    assert after.images["debian12"].spec.rollout.max_parallel == 3
    assert after.images["debian12"].content == before.images["debian12"].content
    assert after.images["debian12"].digest != before.images["debian12"].digest
    assert after.guests["web1"].digest == before.guests["web1"].digest


@pytest.mark.parametrize("name", ["Win11 (1).iso", "openSUSE Leap [15.5].iso", "a & b, c.iso", "ü"])
def test_a_medium_and_a_network_are_named_as_libvirt_lets_them_be(name: str) -> None:
    spec = spec_of(f'  cdroms: [{{name: cd, volume: "{name}"}}]\n')
    assert spec.cdroms[0].volume == name
    spec = spec_of(f'  interfaces: [{{name: lan, network: "{name}"}}]\n')
    assert spec.interfaces[0].network == name


@pytest.mark.parametrize("name", ["", " a", "a ", ".", "..", "a/b", "a\\nb", "a\\u202eb", "a\\x7f"])
def test_what_is_no_name_of_a_volume_or_a_network_is_refused(name: str) -> None:
    for field in (
        f'cdroms: [{{name: cd, volume: "{name}"}}]',
        f'interfaces: [{{name: lan, network: "{name}"}}]',
    ):
        with pytest.raises(AssertionError, match=r"must|at least|control"):
            spec_of(f"  {field}\n")
