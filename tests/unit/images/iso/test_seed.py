"""NoCloud seeds: what cloud-init will read, and that equal ones are equal bytes."""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pycdlib
import pytest
import yaml

from controller.images.iso.cloud_init_seed import build_seed, meta_data, user_data

GOLDEN = Path(__file__).parent / "golden"
KEYS = ["ssh-ed25519 AAAAC3Nz one@example.org", "ssh-rsa AAAAB3Nz two@example.org"]


def seed(**changes: object) -> bytes:
    given = {"instance_id": "web1-0123", "hostname": "web1", "keys": KEYS, **changes}
    return build_seed(**given)  # type: ignore[arg-type]


def read(iso: bytes, kind: str) -> dict[str, bytes]:
    """The files as one of the three file systems shows them."""
    opened = pycdlib.PyCdlib()
    opened.open_fp(BytesIO(iso))
    found = {}
    for child in opened.list_children(**{kind: "/"}):
        if child.is_dir():
            continue
        if kind == "rr_path":
            name = child.rock_ridge.name().decode()
        elif kind == "joliet_path":
            name = child.file_identifier().decode("utf-16-be")
        else:
            name = child.file_identifier().decode()
        out = BytesIO()
        opened.get_file_from_iso_fp(out, **{kind: f"/{name}"})
        found[name] = out.getvalue()
    opened.close()
    return found


@pytest.mark.parametrize("kind", ["rr_path", "joliet_path"])
def test_linux_and_others_see_the_files_by_their_right_names(kind: str) -> None:
    files = read(seed(), kind)
    assert set(files) == {"meta-data", "user-data"}
    assert yaml.safe_load(files["meta-data"]) == {
        "instance-id": "web1-0123",
        "local-hostname": "web1",
    }
    assert files["user-data"].startswith(b"#cloud-config\n")
    told = yaml.safe_load(files["user-data"])
    assert told["hostname"] == "web1"
    assert told["preserve_hostname"] is False
    assert told["disable_root"] is False
    assert told["ssh_authorized_keys"] == KEYS


def test_the_label_is_what_cloud_init_looks_for(tmp_path: Path) -> None:
    if shutil.which("blkid") is None:
        pytest.skip("blkid is not installed")
    (tmp_path / "seed.iso").write_bytes(seed())
    told = subprocess.run(
        ["blkid", "-p", "-o", "export", str(tmp_path / "seed.iso")],
        check=True,
        capture_output=True,
        text=True,
        timeout=10,
    ).stdout
    assert "LABEL=cidata" in told.replace("LABEL_FATBOOT", "").splitlines()
    assert "TYPE=iso9660" in told.splitlines()


@pytest.fixture
def other_zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_equal_seeds_are_equal_bytes_at_any_time_in_any_zone(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    first = seed()
    request.getfixturevalue("other_zone")
    monkeypatch.setattr(time, "time", lambda: 1e9 + 10**7)
    assert seed() == first


def test_another_name_is_another_seed() -> None:
    assert seed(hostname="web2") != seed()


def test_the_seed_is_as_it_was(golden: Callable[[Path, str], None]) -> None:
    files = read(seed(), "rr_path")
    text = "".join(f"--- {name}\n{files[name].decode()}" for name in sorted(files))
    golden(GOLDEN / "seed.txt", text)


def test_a_seed_is_small() -> None:
    assert len(seed()) < 100_000


@pytest.mark.parametrize(
    "nasty", ["a: b", "x\nruncmd: [reboot]", "{{ x }}", "no", "1e3", "'\"", "&a *a", "- x", "#x"]
)
def test_no_value_can_add_a_directive(nasty: str) -> None:
    told = yaml.safe_load(user_data(hostname=nasty, keys=[nasty]))
    assert told["hostname"] == nasty
    assert told["ssh_authorized_keys"] == [nasty]
    assert set(told) == {
        "hostname",
        "preserve_hostname",
        "disable_root",
        "ssh_authorized_keys",
        "runcmd",
    }
    assert yaml.safe_load(meta_data(instance_id=nasty, hostname=nasty)) == {
        "instance-id": nasty,
        "local-hostname": nasty,
    }


def test_without_keys_nothing_is_said_of_keys() -> None:
    assert "ssh_authorized_keys" not in yaml.safe_load(user_data(hostname="a", keys=[]))


def test_many_long_keys_fit() -> None:
    keys = [f"ssh-rsa {'A' * 700} key{number}@example.org" for number in range(200)]
    files = read(seed(keys=keys), "rr_path")
    assert yaml.safe_load(files["user-data"])["ssh_authorized_keys"] == keys


def test_the_agent_is_started_only_where_it_is_installed(tmp_path: Path) -> None:
    """Run with a systemctl of ours: one that has no such unit, and one that has."""
    command = yaml.safe_load(user_data(hostname="a", keys=[]))["runcmd"][0]
    for found in (0, 1):
        log = tmp_path / f"log{found}"
        fake = tmp_path / "systemctl"
        fake.write_text(f'#!/bin/sh\necho "$@" >> {log}\n[ "$1" != cat ] || exit {found}\n')
        fake.chmod(0o755)
        subprocess.run(command, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, check=True, timeout=10)
        done = [line.split()[0] for line in log.read_text().splitlines()]
        assert done == (["cat", "enable", "start"] if found == 0 else ["cat"])
