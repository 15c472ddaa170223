"""Commands without a daemon: validate, plan, apply, render, schema, doctor, version."""

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controller.cli.client.client import Client
from controller.cli.commands.doctor import pool_checks
from controller.cli.errors import CliError
from controller.daemon import once
from controller.daemon.once import Report
from controller.desired.answers import ksvalidator
from controller.desired.text.problems import Problem
from controller.errors import PermanentError
from controller.loop.status import GuestStatus, StatusStore
from controller.observed.domain import GuestRecord
from controller.observed.guest import Fleet
from controller.observed.host import HostView, PoolView
from controller.planning.deletion.orphan import plan_orphan
from tests import factories as make
from tests.unit.cli.conftest import Cli
from tests.unit.web.support import WEB, World, a_status, a_world

IMAGE = """
apiVersion: guestkeeper/v1alpha1
kind: Image
metadata: {name: debian12}
spec: {osFamily: debian, source: {file: debian12.qcow2}}
"""
GUEST = """
apiVersion: guestkeeper/v1alpha1
kind: Guest
metadata: {name: web1}
spec:
  image: debian12
  memory: {size: 512Mi}
  sshAuthorizedKeysFrom: [{file: /etc/keys/SECRET.pub}]
  services:
    - name: page
      packages: [nginx-light]
      files: [{path: /var/www/html/index.html, content: "hello from {{ guest.name }}\\n"}]
      unit: nginx.service
"""

INSTALL = """
apiVersion: guestkeeper/v1alpha1
kind: Image
metadata: {name: rocky9}
spec:
  osFamily: rhel
  source:
    kickstart:
      template: rocky9.ks.j2
      version: RHEL9
      location: {kernel: vmlinuz, initrd: initrd.img, repo: "http://127.0.0.1/os"}
      rootPasswordHashFrom: {file: /etc/keys/NOT-THERE.hash}
      sshAuthorizedKeysFrom: [{file: /etc/keys/a.pub}, {credential: b}]
"""
TEMPLATE = """lang en_US.UTF-8
url --url={{ install.repo }}
repo --name=own --baseurl=http://me:PASSWORD@127.0.0.1/own
rootpw --iscrypted {{ root_password_hash }}
poweroff
%packages
@core
%end
%post --erroronfail
echo {{ authorized_keys_base64 }} | base64 -d > /root/.ssh/authorized_keys
echo success > /dev/virtio-ports/org.guestkeeper.build.0
%end
"""
GOLDEN = Path(__file__).parents[2] / "data" / "cli"


@pytest.fixture
def documents(directory: Path) -> Path:
    desired = directory / "desired"
    (desired / "image.yaml").write_text(IMAGE)
    (desired / "web1.yaml").write_text(GUEST)
    (directory / "images").mkdir()
    (directory / "images" / "debian12.qcow2").write_bytes(b"QFI\xfb")
    return desired


# --- no daemon ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command", ["get", "describe x", "explain x", "events", "logs x", "wait x", "reconcile x"]
)
def test_without_a_daemon_it_says_how_to_start_one(cli: Cli, directory: Path, command: str) -> None:
    result = cli(*command.split())
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr == (
        f"error: no daemon answers on {directory}/gk.sock; start it with: guestkeeper run --config"
        f" {directory}/settings.toml (or, where the service reads that file: systemctl start"
        " guestkeeper)\n"
    )


def test_without_a_daemon_of_the_default_settings_its_service_is_named(directory: Path) -> None:
    with Client(directory / "gk.sock") as client, pytest.raises(CliError) as raised:
        client.get("guests")
    assert str(raised.value).endswith(
        "systemctl start guestkeeper (or in the foreground: guestkeeper run)"
    )


def test_settings_that_cannot_be_used_are_told(cli: Cli, directory: Path) -> None:
    (directory / "bad.toml").write_text("workers = 'many'\n")
    for arguments in (["get", "--config"], ["--config"]):
        result = cli(*arguments, str(directory / "bad.toml"), *(["get"] * (len(arguments) == 1)))
        assert result.exit_code == 2
        assert "bad.toml: workers:" in result.stderr


# --- validate -------------------------------------------------------------------------------------


def test_good_documents_are_counted(cli: Cli, documents: Path) -> None:
    result = cli("validate")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "valid: 1 guest, 1 image\n"


def test_each_problem_is_a_line_that_an_editor_can_jump_to(cli: Cli, documents: Path) -> None:
    (documents / "web1.yaml").write_text(GUEST.replace("512Mi", "512MB"))
    result = cli("validate", str(documents))
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"{documents}/web1.yaml:7: spec.memory.size: must be a size" in result.stderr
    assert result.stderr.endswith("1 problem in 1 file; without them: 1 image\n")


def test_what_is_well_written_and_names_nothing_is_not_counted_as_good(
    cli: Cli, documents: Path
) -> None:
    broken = GUEST.replace("image: debian12", "image: debian13\n  host: elsewhere")
    (documents / "web1.yaml").write_text(broken)
    (documents / "web2.yaml").write_text(GUEST.replace("web1", "web2"))
    result = cli("validate")
    assert result.exit_code == 2
    assert result.stderr.endswith("2 problems in 1 file; without them: 1 guest, 1 image\n")
    assert json.loads(cli("validate", "-o", "json").stdout)["documents"]["Guest"] == 1


def test_problems_as_json_are_data(cli: Cli, documents: Path) -> None:
    (documents / "web1.yaml").write_text(GUEST.replace("512Mi", "512MB"))
    result = cli("validate", "-o", "json")
    answer = json.loads(result.stdout)
    assert (result.exit_code, answer["valid"], answer["problems"][0]["line"]) == (2, False, 7)


def test_a_path_that_is_not_there_is_told(cli: Cli, directory: Path) -> None:
    result = cli("validate", str(directory / "nix"))
    assert result.exit_code == 2
    assert "does not exist" in result.stderr


# --- plan and apply -------------------------------------------------------------------------------


def a_report(*statuses: GuestStatus, **fields: object) -> Report:
    return Report(statuses, fields.get("problems", ()), fields.get("unreachable", ()))  # type: ignore[arg-type]


@pytest.fixture
def statuses(world: World) -> dict[str, GuestStatus]:
    """Converged, changed, to be made, unreachable."""
    now, store = make.NOW, StatusStore()
    changed = make.a_guest("web2", (WEB,), memory={"size": "1Gi"})
    old = make.a_domain(make.a_guest("web2", (WEB,)), started_at=now - 60)
    inside = make.an_inside(changed, looked_at=now, hostname="other")
    new = make.a_guest("new1")
    seen = {
        "web2": a_status(changed, make.observed(old, inside=inside), store, now),
        "new1": a_status(new, make.observed(image=make.a_ready_image()), store, now),
        "lost1": a_status(
            make.a_guest("lost1"),
            make.Observed(make.a_host(reachable=False, why="connection refused")),
            store,
            now,
        ),
    }
    web1 = world.store.get("web1")
    assert web1 is not None
    return {**seen, "web1": web1}


@pytest.fixture
def world() -> World:
    return a_world()


def planning(monkeypatch: pytest.MonkeyPatch, report: Report) -> None:
    monkeypatch.setattr(once, "plan_once", lambda settings, names=(): report)


def test_a_converged_plan_says_so_and_exits_0(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, statuses: dict[str, GuestStatus]
) -> None:
    planning(monkeypatch, a_report(statuses["web1"]))
    result = cli("plan")
    assert (result.exit_code, result.stdout) == (0, "no changes: 1 guest as wanted\n")
    assert cli("plan", "--detailed-exitcode").exit_code == 0


def test_a_plan_shows_fields_classes_and_steps_and_exits_1(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, statuses: dict[str, GuestStatus]
) -> None:
    planning(monkeypatch, a_report(statuses["web1"], statuses["web2"], statuses["new1"]))
    result = cli("plan")
    uid = statuses["web2"].observed.domain.uuid  # type: ignore[union-attr]
    assert result.exit_code == 1
    made, changed = result.stdout.split("\n\n")[:2]
    assert made.splitlines()[:3] == [
        "new1  (guests.yaml:1)",
        "  steps:",
        "    1. create volume default/"
        + made.split("default/")[1].split(" of ")[0]
        + " of 2Gi, an overlay of gk-base-debian12-abc.qcow2",
    ]
    assert changed.splitlines() == [
        "web2  (guests.yaml:1)",
        "  memory.size:   512Mi → 1Gi  (restart: cold boot; needs: guestkeeper restart web2)",
        "  hostname:      other → web2  (guest: none, applied inside the guest)",
        "  steps:",
        f"    1. redefine domain web2 ({uid})",
        "    2. apply identity inside the guest",
    ]
    assert result.stdout.endswith("2 guests to change, 1 unchanged\n")
    assert cli("plan", "--detailed-exitcode").exit_code == 2


def an_orphan(policy: str, **fleet: Any) -> GuestStatus:
    seen, now = Fleet(**fleet), make.NOW
    guest = make.a_guest("old1", deletionPolicy=policy)
    domain = make.a_domain(guest, record=GuestRecord(orphaned_since=now))
    made = plan_orphan("old1", domain, seen, now, make.POLICY)
    return StatusStore().put(None, make.observed(domain, fleet=seen), made, now)


def test_a_plan_tells_what_becomes_of_guests_without_a_document(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, statuses: dict[str, GuestStatus]
) -> None:
    planning(monkeypatch, a_report(statuses["web1"], an_orphan("Delete")))
    result = cli("plan")
    assert result.exit_code == 1
    first, second = result.stdout.splitlines()[:2]
    assert first == "old1"
    assert "deletionPolicy Delete: domain old1 and its system disk are deleted at" in second
    assert result.stdout.endswith("1 guest to change, 1 unchanged\n")
    planning(monkeypatch, a_report(an_orphan("Stop", deletions=12)))
    result = cli("plan")
    assert result.exit_code == 1
    assert "guestkeeper approve --deletions" in result.stdout


def test_a_guest_that_is_only_let_go_is_no_difference(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, statuses: dict[str, GuestStatus]
) -> None:
    planning(monkeypatch, a_report(statuses["web1"], an_orphan("Retain")))
    result = cli("plan")
    assert (result.exit_code, result.stdout) == (
        0,
        "no changes: 1 guest as wanted, 1 left without a document\n",
    )


def test_a_plan_names_the_commands_that_are_waited_for(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, guest = make.NOW, make.a_guest("web1", (WEB,))
    newer = make.a_ready_image(base="base-2", base_path="/pool/base-2")
    inside = make.an_inside(guest, looked_at=now)
    seen = make.observed(make.a_domain(guest, started_at=now - 60), inside=inside, image=newer)
    planning(monkeypatch, a_report(a_status(guest, seen, StatusStore(), now)))
    lines = cli("plan").stdout.splitlines()
    assert lines[1] == (
        "  image.base:   gk-base-debian12-abc.qcow2 → base-2  (replace: stop, swap of the system"
        " disk, boot; needs: guestkeeper approve web1)"
    )
    assert lines[2].startswith("  no steps now: its system disk is of another content of its image")
    assert lines[2].endswith("guestkeeper approve web1")
    window = {"replace": "Automatic", "maintenanceWindows": [NEVER]}
    later = make.a_guest("web1", (WEB,), updatePolicy=window)
    planning(monkeypatch, a_report(a_status(later, seen, StatusStore(), now)))
    lines = cli("plan").stdout.splitlines()
    assert "(replace: stop, swap of the system disk, boot)" in lines[1]
    assert "waits for the maintenance window; at once: guestkeeper approve web1 --now" in lines[2]


NEVER = {"cron": "0 3 29 2 *", "duration": "1m", "timeZone": "UTC"}


def test_invalid_documents_weigh_more_than_an_unreachable_host(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, statuses: dict[str, GuestStatus]
) -> None:
    lost = a_report(statuses["lost1"], statuses["web2"], unreachable=("local",))
    planning(monkeypatch, lost)
    result = cli("plan")
    assert result.exit_code == 3
    assert "host local is not reachable (connection refused); see: guestkeeper doctor" in (
        result.stderr
    )
    problem = Problem("web1.yaml", 3, "spec", "is required; add it")
    planning(monkeypatch, a_report(unreachable=("local",), problems=(problem,)))
    result = cli("plan")
    assert result.exit_code == 2
    assert "web1.yaml:3: spec: is required; add it" in result.stderr
    assert cli("plan", "--detailed-exitcode").exit_code == 1


def test_a_plan_as_json_has_every_guest(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, statuses: dict[str, GuestStatus]
) -> None:
    planning(monkeypatch, a_report(statuses["web1"], statuses["web2"]))
    answer = json.loads(cli("plan", "-o", "json").stdout)
    assert answer["format_version"] == 1
    assert answer["differences"] is True
    changes = [change["path"] for change in answer["items"][1]["changes"]]
    assert changes == ["memory.size", "hostname"]


def a_changed_cpu(store: StatusStore, **fields: Any) -> GuestStatus:
    """Redefined already; the new CPU comes with the next cold boot."""
    now = make.NOW
    wanted = make.a_guest("web1", (WEB,), cpu={"vcpus": 2}, **fields)
    old = make.a_domain(make.a_guest("web1", (WEB,), **fields), started_at=now - 60)
    new = make.a_domain(wanted, started_at=now - 60)
    seen = make.observed(replace(new, live=old.live), inside=make.an_inside(wanted, looked_at=now))
    return a_status(wanted, seen, store, now)


def test_a_difference_without_a_step_says_what_is_waited_for(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    planning(monkeypatch, a_report(a_changed_cpu(StatusStore())))
    result = cli("plan")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[1:3] == [
        "  cpu.vcpus:   1 → 2  (restart: cold boot; needs: guestkeeper restart web1)",
        "  no steps now: takes effect with the next cold boot: cpu.vcpus; to apply it: guestkeeper"
        " restart web1",
    ]


def test_a_plan_claims_no_readiness_for_it_asked_no_probe(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, statuses: dict[str, GuestStatus]
) -> None:
    status = a_changed_cpu(StatusStore())
    planning(monkeypatch, a_report(status, statuses["new1"]))
    new, item = json.loads(cli("plan", "-o", "json").stdout)["items"]
    assert (item["ready"], item["services_ready"], item["health"]) == ("Unknown", None, "Unknown")
    assert [service["ready"] for service in item["services"]] == [None]
    assert {
        found["reason"]
        for found in item["conditions"]
        if found["type"] in ("Ready", "ServicesReady")
    } == {"NotProbed"}
    assert item["sentence"].startswith("takes effect with the next cold boot")
    assert new["ready"] == "False"


def test_what_planning_refuses_is_told_and_is_no_difference(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(settings: object, names: object = ()) -> Report:
        raise PermanentError("no usable Guest document is named nix; there are: web1")

    monkeypatch.setattr(once, "plan_once", refuse)
    assert cli("plan", "nix").exit_code == 2
    assert cli("plan", "nix", "--detailed-exitcode").exit_code == 1


def test_apply_tells_progress_once_and_what_it_came_to(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, statuses: dict[str, GuestStatus]
) -> None:
    def work(settings: object, names: object, timeout: float, progress: object) -> Report:
        assert timeout == 60.0
        for status in (statuses["new1"], statuses["new1"], statuses["web1"]):
            progress(status)  # type: ignore[operator]
        return a_report(statuses["web1"])

    monkeypatch.setattr(once, "apply_once", work)
    result = cli("apply", "--timeout", "1m")
    assert result.exit_code == 0
    assert result.stderr.splitlines() == [
        "new1  Starting: creating it from image debian12",
        "web1  Healthy: nothing to do: it is as wanted and healthy",
    ]
    assert result.stdout == "web1: Healthy\n1 guest as wanted, 0 not\n"


def test_apply_exits_1_where_something_is_left(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, statuses: dict[str, GuestStatus]
) -> None:
    monkeypatch.setattr(once, "apply_once", lambda *_: a_report(statuses["new1"]))
    result = cli("apply")
    assert result.exit_code == 1
    assert result.stdout.startswith("new1: Starting (creating it from image debian12)\n")


# --- render, schema -------------------------------------------------------------------------------


def test_render_shows_domain_and_files_and_no_secret(cli: Cli, documents: Path) -> None:
    result = cli("render", "web1")
    assert result.exit_code == 0
    assert "<name>web1</name>" in result.stdout
    assert (
        "--- file /var/www/html/index.html of service page, root:root 0644\nhello from web1\n"
        in (result.stdout)
    )
    assert "packages: nginx-light" in result.stdout
    assert "SECRET" not in result.stdout
    assert "accelerator: auto is decided on the host" in result.stderr


def test_rendering_twice_gives_the_same(cli: Cli, documents: Path) -> None:
    assert cli("render", "web1", "-o", "json").stdout == cli("render", "web1", "-o", "json").stdout


def test_an_unknown_name_cannot_be_rendered(cli: Cli, documents: Path) -> None:
    result = cli("render", "nix")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "no guest or image is named `nix`" in result.stderr
    assert "there are: web1, debian12" in result.stderr


@pytest.fixture
def installs(documents: Path) -> Path:
    (documents / "rocky9.yaml").write_text(INSTALL)
    (documents / "rocky9.ks.j2").write_text(TEMPLATE)
    return documents


def test_render_of_an_image_shows_answer_file_arguments_and_builder(
    cli: Cli,
    installs: Path,
    golden,  # type: ignore[no-untyped-def]
) -> None:
    result = cli("render", "rocky9")
    assert result.exit_code == 0, result.stderr
    before, xml = result.stdout.split("--- builder domain on host local\n")
    golden(GOLDEN / "render-image.txt", before)
    root = ET.fromstring(xml)
    assert root.findtext("name") == "rocky9.build-BUILD"
    assert root.findtext("os/kernel") == "/POOL/default-pool/rocky9.build-BUILD-kernel"
    volume = root.find("devices/disk/source").get("volume")  # type: ignore[union-attr]
    assert re.fullmatch("gk-base-rocky9-[0-9a-f]{12}-LOCATION.qcow2", str(volume))
    assert "accelerator: auto is decided on the host" in result.stderr
    assert "LOCATION and BUILD stand for what the installer's location holds" in result.stderr


def test_render_of_an_image_reads_and_shows_no_secret(cli: Cli, installs: Path) -> None:
    for form in ("table", "json", "yaml"):
        text = cli("render", "image/rocky9", "-o", form).stdout
        assert "[from file /etc/keys/NOT-THERE.hash]" in text
        assert "[from file /etc/keys/a.pub, credential b]" in text
        assert "PASSWORD" not in text
        assert "@guestkeeper:" not in text
        assert "--baseurl=http://[login]@127.0.0.1/own" in text


def test_render_of_an_image_as_json_is_the_same(cli: Cli, installs: Path) -> None:
    text = cli("render", "rocky9").stdout
    made = json.loads(cli("render", "rocky9", "-o", "json").stdout)["item"]
    assert made["answer_file"]["path"] == "/ks.cfg"
    for part in (made["answer_file"]["content"], made["kernel_arguments"], made["domain_xml"]):
        assert part in text


def test_an_answer_file_on_a_medium_of_its_own_is_rendered_so(cli: Cli, installs: Path) -> None:
    with_iso = INSTALL.replace("version: RHEL9", "version: RHEL9\n      delivery: oemdrv")
    (installs / "rocky9.yaml").write_text(with_iso)
    made = json.loads(cli("render", "rocky9", "-o", "json").stdout)["item"]
    assert made["answer_file"]["delivery"] == "a CD-ROM labelled OEMDRV"
    assert "rocky9.build-BUILD-answer.iso" in made["domain_xml"]
    assert "inst.ks=" not in made["kernel_arguments"]


def test_an_image_is_rendered_for_where_its_guests_want_it(cli: Cli, installs: Path) -> None:
    (installs / "web2.yaml").write_text(
        GUEST.replace("web1", "web2").replace("debian12", "rocky9\n  systemDisk: {pool: fast}")
    )
    made = json.loads(cli("render", "rocky9", "-o", "json").stdout)["item"]
    assert (made["host"], made["pool"]) == ("local", "fast")
    assert "<kernel>/POOL/fast/rocky9.build-BUILD-kernel</kernel>" in made["domain_xml"]


def test_there_is_nothing_to_render_of_a_ready_disk(cli: Cli, documents: Path) -> None:
    result = cli("render", "debian12")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "image debian12 is a ready disk (debian12.qcow2)" in result.stderr


def test_the_schema_is_json_schema(cli: Cli) -> None:
    assert json.loads(cli("schema").stdout)["$schema"].startswith("https://json-schema.org/")


# --- doctor, version ------------------------------------------------------------------------------


def test_a_machine_that_can_do_the_job_is_well(cli: Cli, documents: Path) -> None:
    result = cli("doctor")
    assert result.exit_code == 0, result.stdout
    assert "✗" not in result.stdout
    assert "✓ documents: 1 guest, 1 image in" in result.stdout
    assert "✓ host local: test:///default answers" in result.stdout
    assert result.stderr == "\neverything needed is there\n"


def test_each_broken_thing_comes_with_its_remedy(
    cli: Cli, documents: Path, directory: Path
) -> None:
    settings = directory / "settings.toml"
    settings.write_text(settings.read_text().replace('"default-pool"', '"nix"'))
    (directory / "images" / "debian12.qcow2").unlink()
    (documents / "web1.yaml").write_text(GUEST.replace("512Mi", "512MB"))
    result = cli("doctor")
    assert result.exit_code == 1
    assert "✗ documents: 1 problem in" in result.stdout
    assert "    guestkeeper validate" in result.stdout
    assert "✗ host local: pool nix: there is none" in result.stdout
    assert "virsh pool-define-as nix" in result.stdout
    assert f"✗ image debian12: {directory}/images/debian12.qcow2 is missing" in result.stdout
    assert result.stderr == "\n3 checks failed; mend the first one first\n"


def pool_check(view: PoolView, uri: str = "qemu:///system") -> tuple[str, str]:
    """What doctor sees of the pool ``gk``, and what it says to do."""
    host = HostView("local", uri, True, pools={"gk": view})
    (check,) = pool_checks(host, ["gk"], ["gk"])
    assert check.good is False
    return check.seen, check.remedy


def test_doctor_has_both_paths_of_a_pool_that_is_elsewhere() -> None:
    view = PoolView("gk", "/theirs", active=False, capacity=1, available=1, wanted_path="/ours")
    seen, remedy = pool_check(view)
    assert "/theirs" in seen
    assert "/ours" in seen
    assert "pool-start" not in remedy, "it is not the one that is meant"
    assert "virsh pool-undefine gk" in remedy


def test_doctor_does_not_have_a_pool_started_whose_directory_is_gone(tmp_path: Path) -> None:
    gone = PoolView("gk", str(tmp_path / "gone"), active=False, capacity=1, available=1)
    seen, remedy = pool_check(gone)
    assert f"its directory {tmp_path}/gone is gone" in seen
    assert f"mkdir -p {tmp_path}/gone; then: virsh pool-start gk" in remedy
    assert "mkdir" not in pool_check(replace(gone, path=str(tmp_path)))[1]
    assert "mkdir" not in pool_check(gone, "qemu+ssh://far/system")[1], "its files are not here"


def test_doctor_looks_for_the_checker_of_kickstarts_and_installers_files(
    cli: Cli, documents: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (documents / "rocky9.yaml").write_text(INSTALL)
    (documents / "rocky9.ks.j2").write_text(TEMPLATE)
    result = cli("doctor")
    assert re.search(r"· ksvalidator: \S+/ksvalidator checks kickstarts", result.stdout)
    assert f"✗ image rocky9: {directory}/images/vmlinuz is missing" in result.stdout
    assert f"✗ image rocky9: {directory}/images/initrd.img is missing" in result.stdout
    monkeypatch.setattr(ksvalidator, "find_program", lambda: None)
    assert "! ksvalidator: not found" in cli("doctor").stdout


def test_doctor_as_json_is_data(cli: Cli, documents: Path) -> None:
    answer = json.loads(cli("doctor", "-o", "json").stdout)
    assert answer["healthy"] is True
    assert {item["state"] for item in answer["items"]} <= {"ok", "info", "warning"}


def test_doctor_stops_at_settings_it_cannot_read(cli: Cli, directory: Path) -> None:
    (directory / "settings.toml").write_text("nonsense\n")
    result = cli("doctor")
    assert result.exit_code == 1
    assert result.stdout.startswith("✗ settings: ")


def test_the_version_needs_nothing_and_loads_little(cli: Cli) -> None:
    from controller import __version__

    for command in ("version", "--version"):
        assert cli(command).stdout == f"guestkeeper {__version__}\n"
    heavy = "libvirt httpx starlette uvicorn rich.table controller.settings controller.daemon"
    code = (
        "import sys; from controller.cli.app import app; app(['version'], standalone_mode=False);"
        f"print([name for name in {heavy.split()!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_every_command_has_help(cli: Cli) -> None:
    from controller.cli.app import app

    names = [str(command.name or command.callback.__name__) for command in app.registered_commands]  # type: ignore[union-attr]
    assert len(names) == 23
    for name in [*names, "images", "images build"]:
        result = cli(*name.split(), "--help")
        assert result.exit_code == 0
        assert "Usage: " in result.stdout
