"""What an apply does to a guest, case by case, with the real scripts in a sandbox."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controller.desired.effective import EffectiveGuest, EffectiveService
from controller.desired.schema.service import OnChange
from controller.errors import PermanentError, TransientError
from controller.guest_access.inside import ApplyFailedError
from controller.observed.inside import InsideView
from controller.planning.compare.changes import inside_changes
from tests.unit.guest_access.sandbox import Sandbox

CASES = sorted((Path(__file__).parent / "cases").glob("*.json"))


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_apply(sandbox: Sandbox, path: Path) -> None:
    case: dict[str, Any] = json.loads(path.read_text())
    for name in case.get("packages", []):
        (sandbox.state / f"package.{name}").touch()
    for name, state in case.get("units", {}).items():
        (sandbox.state / f"unit.{name}").write_text(f"{state}\n")
    for name, state in case.get("brings", {}).items():
        (sandbox.state / f"brings.{name}").write_text(f"{state}\n")
    for name, (content, mode) in case.get("files", {}).items():
        sandbox.write(name[1:], content, int(mode, 8))
    for name in case.get("state", []):
        (sandbox.state / name).touch()
    if "pending" in case:
        sandbox.write("run/guestkeeper/pending.app", case["pending"] + "\n")
    wanted = case["service"]
    service = sandbox.service(
        *(sandbox.file(name[1:], text.encode()) for name, text in wanted.get("files", {}).items()),
        packages=tuple(wanted.get("packages", ())),
        unit=wanted.get("unit"),
        on_change=OnChange(wanted.get("on_change", "restart")),
    )
    guest = sandbox.guest(service, family=case.get("family", "debian"))

    if "failure" in case:
        action, code, output = case["failure"]
        with pytest.raises(ApplyFailedError) as failed:
            sandbox.access.apply(guest, sandbox.domain, [service])
        failure = failed.value.failures[0]
        assert (failure.service, failure.action, failure.exit_code) == ("app", action, code)
        assert output in failure.output
        assert len(failure.output.splitlines()) <= 20
        view = failed.value.view
    else:
        view = sandbox.access.apply(guest, sandbox.domain, [service])
        _assert_as_wanted(view, sandbox, service.files)
    assert sandbox.calls() == case["calls"]
    assert bool(view.pending) == case.get("still_pending", False)
    assert not list(sandbox.root.rglob(".gk-*"))

    if "failure" not in case:
        assert inside_changes(guest, view) == {}
        seen = sandbox.access.look(guest, sandbox.domain)
        assert view == seen
        _assert_nothing_to_do(sandbox, guest, [service])


def _assert_nothing_to_do(
    sandbox: Sandbox, guest: EffectiveGuest, services: list[EffectiveService]
) -> None:
    """Another apply calls nothing and puts no file in place anew."""
    before = {path: path.lstat().st_ino for path in sandbox.root.rglob("*")}
    sandbox.access.apply(guest, sandbox.domain, services)
    assert sandbox.calls() == []
    assert {path: path.lstat().st_ino for path in sandbox.root.rglob("*")} == before


def _assert_as_wanted(view: InsideView, sandbox: Sandbox, files: Any) -> None:
    for file in files:
        assert Path(file.path).read_bytes() == file.content
        fact = view.files[file.path]
        assert (fact.sha256, fact.mode, fact.owner) == (file.sha256, file.mode, file.owner)
    assert all(version for version in view.packages.values())
    assert all(unit.active == "active" or unit.ran for unit in view.units.values())


def test_a_oneshot_that_failed_is_run_again_and_after_a_success_no_more(sandbox: Sandbox) -> None:
    (sandbox.state / "unit.job.service").write_text("inactive static forgotten\n")
    (sandbox.state / "fail.start").touch()
    service = sandbox.service(unit="job.service")
    guest = sandbox.guest(service)
    for _ in range(2):
        with pytest.raises(ApplyFailedError):
            sandbox.access.apply(guest, sandbox.domain, [service])
        assert sandbox.calls() == ["systemctl start job.service"]
    (sandbox.state / "fail.start").unlink()
    sandbox.access.apply(guest, sandbox.domain, [service])
    assert sandbox.calls() == ["systemctl start job.service"]
    _assert_nothing_to_do(sandbox, guest, [service])


def test_a_oneshot_runs_once_again_after_a_reboot_that_did_not_run_it(sandbox: Sandbox) -> None:
    (sandbox.state / "unit.job.service").write_text("inactive static oneshot\n")
    service = sandbox.service(unit="job.service")
    guest = sandbox.guest(service)
    sandbox.access.apply(guest, sandbox.domain, [service])
    for path in (sandbox.root / "run/guestkeeper").iterdir():  # /run is gone with a reboot
        path.unlink()
    (sandbox.state / "unit.job.service").write_text("inactive static oneshot 0\n")
    seen = sandbox.access.look(guest, sandbox.domain)
    assert list(inside_changes(guest, seen)) == ["app"]
    sandbox.calls()
    sandbox.access.apply(guest, sandbox.domain, [service])
    assert sandbox.calls() == ["systemctl start job.service"]
    _assert_nothing_to_do(sandbox, guest, [service])


HARD_NAMES = [
    "with space", "quote'd", 'double"quote', "$(touch pwned)", "`id`", "back\\slash", "tab\there",
    "ünïcode", "*?[a]", ";rm -rf x", "-n", "#hash", "look-end", "a=b", "~",
]  # fmt: skip


def test_no_path_or_content_can_become_a_command(sandbox: Sandbox) -> None:
    files = [
        sandbox.file(f"etc/new dir/{name}", f"GK_EOF\n$(touch pwned) {name}\n\0\xff".encode())
        for name in HARD_NAMES
    ]
    service = sandbox.service(*files)
    guest = sandbox.guest(service)
    view = sandbox.access.apply(guest, sandbox.domain, [service])
    _assert_as_wanted(view, sandbox, files)
    _assert_nothing_to_do(sandbox, guest, [service])
    assert not list(Path.cwd().glob("pwned"))


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o755, 0o4755, 0o000])
def test_a_file_gets_its_mode(sandbox: Sandbox, mode: int) -> None:
    service = sandbox.service(sandbox.file("etc/app", b"x" * 100_000, mode))
    view = sandbox.access.apply(sandbox.guest(service), sandbox.domain, [service])
    assert view.files[service.files[0].path].mode == mode


def test_a_symlink_is_replaced_and_its_target_left_alone(sandbox: Sandbox) -> None:
    target = sandbox.write("etc/target", "mine")
    (sandbox.root / "etc/link").symlink_to(target)
    service = sandbox.service(sandbox.file("etc/link", b"ours"))
    seen = sandbox.access.look(sandbox.guest(service), sandbox.domain)
    assert seen.files[service.files[0].path].sha256 is None
    view = sandbox.access.apply(sandbox.guest(service), sandbox.domain, [service])
    assert view.files[service.files[0].path].sha256 == service.files[0].sha256
    assert target.read_text() == "mine"


def test_a_directory_at_a_files_path_is_told_and_the_services_other_files_stay(
    sandbox: Sandbox,
) -> None:
    (sandbox.root / "etc/app").mkdir()
    bad = sandbox.service(sandbox.file("etc/first"), sandbox.file("etc/app"), name="bad")
    good = sandbox.service(sandbox.file("etc/good"), name="good")
    guest = sandbox.guest(bad, good)
    with pytest.raises(ApplyFailedError, match="a directory or device stands") as failed:
        sandbox.access.apply(guest, sandbox.domain, [bad, good])
    assert failed.value.failures[0].service == "bad"
    assert failed.value.view.files[bad.files[1].path].sha256 is None
    assert not (sandbox.root / "etc/first").exists()
    assert (sandbox.root / "etc/good").read_bytes() == b"hello\n"
    assert not list(sandbox.root.rglob(".gk-*"))


def test_an_unknown_owner_is_told(sandbox: Sandbox) -> None:
    file = replace(sandbox.file("etc/app"), owner="no-such-user")
    service = sandbox.service(file)
    with pytest.raises(ApplyFailedError, match="no-such-user"):
        sandbox.access.apply(sandbox.guest(service), sandbox.domain, [service])
    assert not (sandbox.root / "etc/app").exists()


def test_what_a_killed_apply_left_beside_a_file_is_removed(sandbox: Sandbox) -> None:
    sandbox.write("etc/.gk-tmp.0123.1", "half")
    mine = sandbox.write("etc/.gk-own", "the user's")
    service = sandbox.service(sandbox.file("etc/app"))
    sandbox.access.apply(sandbox.guest(service), sandbox.domain, [service])
    assert not (sandbox.root / "etc/.gk-tmp.0123.1").exists()
    assert mine.exists()


def test_the_hostname_and_its_line_in_hosts_are_set(sandbox: Sandbox) -> None:
    sandbox.write("proc/sys/kernel/hostname", "debian\n")
    sandbox.write("etc/hostname", "debian\n")
    sandbox.write("etc/hosts", "127.0.0.1 localhost\n127.0.1.1\tdebian old\n10.0.0.1 peer")
    assert sandbox.access.look(sandbox.guest(), sandbox.domain).hostname == "debian"
    view = sandbox.access.apply(sandbox.guest(), sandbox.domain, [])
    assert view.hostname == "web"
    assert (sandbox.root / "etc/hostname").read_text() == "web\n"
    assert (
        sandbox.root / "etc/hosts"
    ).read_text() == "127.0.0.1 localhost\n127.0.1.1 web\n10.0.0.1 peer\n"


def test_a_hostname_that_a_reboot_would_undo_counts_as_wrong(sandbox: Sandbox) -> None:
    sandbox.write("etc/hostname", "debian\n")
    assert sandbox.access.look(sandbox.guest(), sandbox.domain).hostname == "debian"


KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
OTHER = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQDZ other@host"


def test_ssh_keys_are_added_and_others_stay(sandbox: Sandbox) -> None:
    ssh = sandbox.home / ".ssh"
    ssh.mkdir()
    (ssh / "authorized_keys").write_text(f'# {KEY}\nfrom="10.*" {OTHER}')
    keys = f"# admins\n{KEY} admin\n\n{OTHER}\n"
    guest = sandbox.guest(keys=keys)
    assert sandbox.access.look(guest, sandbox.domain).missing_ssh_keys == 1
    view = sandbox.access.apply(guest, sandbox.domain, [])
    assert view.missing_ssh_keys == 0
    assert (ssh / "authorized_keys").read_text() == f'# {KEY}\nfrom="10.*" {OTHER}\n{KEY} admin\n'
    before = (ssh / "authorized_keys").read_text()
    _assert_nothing_to_do(sandbox, guest, [])
    assert (ssh / "authorized_keys").read_text() == before


def test_the_ssh_directory_is_made_for_root_alone(sandbox: Sandbox) -> None:
    view = sandbox.access.apply(sandbox.guest(keys=KEY), sandbox.domain, [])
    assert view.missing_ssh_keys == 0
    ssh = sandbox.home / ".ssh"
    assert (ssh.stat().st_mode & 0o777, (ssh / "authorized_keys").stat().st_mode & 0o777) == (
        0o700,
        0o600,
    )


def test_what_is_no_public_key_is_refused_without_showing_it(sandbox: Sandbox) -> None:
    guest = sandbox.guest(keys="-----BEGIN OPENSSH PRIVATE KEY-----\n")
    with pytest.raises(PermanentError, match="line 1 of /keys is no SSH public key") as refused:
        sandbox.access.look(guest, sandbox.domain)
    assert "PRIVATE" not in str(refused.value)


def test_contents_and_keys_never_stand_in_a_command_line(sandbox: Sandbox) -> None:
    service = sandbox.service(sandbox.file("etc/app", b"s3cr3t"))
    sandbox.access.apply(sandbox.guest(service, keys=KEY), sandbox.domain, [service])
    sandbox.access.look(sandbox.guest(service, keys=KEY), sandbox.domain)
    for request in sandbox.requests:
        assert request["arg"][2:] == ["/bin/sh", "-s"]


def test_an_apply_while_another_runs_is_put_off(sandbox: Sandbox) -> None:
    flock = sandbox.root / "bin/flock"
    flock.write_text("#!/bin/sh\nexit 1\n")
    flock.chmod(0o755)
    with pytest.raises(TransientError) as busy:
        sandbox.access.apply(sandbox.guest(), sandbox.domain, [])
    assert busy.value.reason == "ApplyInProgress"


def test_a_look_tells_all_facts(sandbox: Sandbox) -> None:
    (sandbox.state / "package.nginx").touch()
    (sandbox.state / "unit.nginx.service").write_text("active enabled\n")
    service = sandbox.service(packages=("nginx", "curl"), unit="alias.nginx.service")
    service = replace(service, unit="nginx.service")
    view = sandbox.access.look(sandbox.guest(service), sandbox.domain)
    assert view.boot_id == "11111111-2222-3333-4444-555555555555"
    assert view.packages == {"nginx": "1.0-1", "curl": None}
    assert view.units["nginx.service"].enabled == "enabled"
    assert view.addresses == ("10.0.2.15", "2001:db8::7")
    assert view.cloud_init == ""
    assert len(sandbox.requests) == 1


@pytest.mark.parametrize(
    ("files", "status"),
    [
        ({}, "disabled"),
        ({"run/cloud-init/enabled": ""}, "running"),
        ({"run/cloud-init/disabled": ""}, "disabled"),
        ({"run/cloud-init/result.json": '{\n "v1": {\n  "errors": []\n }\n}'}, "done"),
        ({"run/cloud-init/result.json": '{"v1": {"errors": ["x"]}}'}, "error"),
        ({"run/cloud-init/result.json": '{"v1": {'}, "running"),
    ],
)
def test_cloud_init_is_read_without_asking_it(
    sandbox: Sandbox, files: dict[str, str], status: str
) -> None:
    sandbox.write("usr/bin/cloud-init", "")
    for name, text in files.items():
        sandbox.write(name, text)
    assert sandbox.access.look(sandbox.guest(), sandbox.domain).cloud_init == status


def test_what_dpkg_said_is_kept_until_its_database_is_written(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path / "guest", "/bin/dash")
    sandbox.write("var/lib/dpkg/status", "")  # dates the database before any later look
    os.utime(sandbox.root / "var/lib/dpkg/status", (1e9, 1e9))
    sandbox.write("run/guestkeeper/lock", "")
    (sandbox.state / "package.nginx").touch()
    guest = sandbox.guest(sandbox.service(packages=("nginx",)))

    def version() -> str | None:
        return sandbox.access.look(guest, sandbox.domain).packages["nginx"]

    assert version() == "1.0-1"
    (sandbox.state / "package.nginx").unlink()
    assert version() == "1.0-1"
    cache = sandbox.root / "run/guestkeeper/packages"
    cache.write_text(cache.read_text().replace("end\n", ""))  # as if killed while it was written
    assert version() is None
    os.utime(sandbox.root / "var/lib/dpkg/status", (4e9, 4e9))
    (sandbox.state / "package.nginx").touch()
    assert version() == "1.0-1"
