"""suspend, resume, restart, approve, rollback, retry: what they say, ask and refuse."""

import re
from dataclasses import replace
from typing import Any

import pytest
import typer

from controller.cli.commands import get as listing
from controller.cli.terminal import output as terminal
from controller.cli.terminal import prompts as asking
from controller.observed.domain import (
    DomainView,
    GuestRecord,
    Replacement,
    ReplacePhase,
    RetiredDisk,
    SystemDisk,
)
from controller.observed.guest import Fleet
from controller.observed.health import ProbeStatus
from controller.observed.host import VolumeView
from controller.operator.answers import VolumesSeen
from controller.planning.deletion.orphan import plan_orphan
from controller.planning.volumes.usage import Use, VolumeUse
from tests import factories as make
from tests.unit.cli.conftest import Cli, Meanwhile
from tests.unit.cli.test_cli_seeing import GOLDEN, steady
from tests.unit.web.support import World, a_status, lost_host, probes

pytestmark = pytest.mark.usefixtures("daemon")
NEW = "gk-base-debian12-new.qcow2"


def memory(world: World, name: str) -> GuestRecord:
    domain = world.metadata.domain("local", name)
    assert domain is not None
    assert domain.ownership is not None
    return domain.ownership.record


def shows(world: World, domain: DomainView, **seen: Any) -> None:
    """web1 with that domain; all its services are ready."""
    guest = world.snapshot.guests["web1"]
    inside = make.an_inside(guest, looked_at=world.now, addresses=("10.0.2.15",))
    ready = probes(world.now, ProbeStatus.SUCCESS, "200 in 3 ms")
    observed = make.observed(domain, inside=inside, probes=ready, **seen)
    a_status(guest, observed, world.store, world.now)


def a_server(world: World, **memory: Any) -> DomainView:
    guest = world.snapshot.guests["web1"]
    return make.a_domain(guest, record=GuestRecord(**memory), started_at=world.now - 60)


def person(monkeypatch: pytest.MonkeyPatch, *, agrees: bool) -> list[str]:
    """Somebody sits at a terminal; what they were asked."""
    asked: list[str] = []

    def confirm(question: str, **_: object) -> bool:
        asked.append(question)
        return agrees

    monkeypatch.setattr(asking, "somebody_is_there", lambda: True)
    monkeypatch.setattr(typer, "confirm", confirm)
    return asked


# --- suspend, resume ------------------------------------------------------------------------------


def test_suspending_says_how_to_go_on(cli: Cli, world: World) -> None:
    result = cli("suspend", "web1", "web2")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (
        "web1 is left alone from now on; to go on: guestkeeper resume web1\n"
        "web2 is left alone from now on; to go on: guestkeeper resume web2\n"
    )
    assert memory(world, "web1").suspended
    assert cli("resume", "web1").stdout == "web1 is looked after again, and looked at now\n"
    assert not memory(world, "web1").suspended


def test_all_guests_at_once(cli: Cli, world: World) -> None:
    assert cli("suspend", "--all").stdout == (
        "every guest is left alone from now on; to go on: guestkeeper resume --all\n"
    )
    assert world.fleet.suspended
    assert cli("resume", "--all").exit_code == 0
    assert not world.fleet.suspended


@pytest.mark.parametrize("command", ["suspend", "resume"])
@pytest.mark.parametrize("arguments", [[], ["web1", "--all"]])
def test_names_or_all_and_not_both(cli: Cli, command: str, arguments: list[str]) -> None:
    result = cli(command, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "name guests, or say --all: one of them" in result.stderr


def test_one_that_is_refused_does_not_keep_the_others_from_it(cli: Cli, world: World) -> None:
    result = cli("suspend", "db1", "web1", "wbe1")
    assert result.exit_code == 1
    assert result.stdout.startswith("web1 is left alone")
    assert result.stderr.splitlines() == [
        "db1 was not looked at yet; try again in a moment",
        "no guest is named `wbe1`; did you mean `web1`?",
    ]


def test_a_silent_host_is_exit_code_3(cli: Cli, world: World) -> None:
    lost_host(world)
    result = cli("suspend", "web1")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "host local of web1 does not answer (connection refused)" in result.stderr
    assert cli("suspend", "web1", "web2").exit_code == 3


# --- restart --------------------------------------------------------------------------------------


def test_a_restart_says_what_happens_next(cli: Cli, world: World) -> None:
    result = cli("restart", "web1")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "web1 is asked to shut down now (it has 120 s), and started again\n"
    assert memory(world, "web1").restart_requested is not None


def test_a_restart_can_be_waited_for(cli: Cli, world: World, meanwhile: Meanwhile) -> None:
    def boot() -> None:
        domain = a_server(world)
        shows(world, replace(domain, run=2))

    meanwhile(boot)
    result = cli("restart", "web1", "--wait", "--timeout", "60s")
    assert result.exit_code == 0
    assert result.stdout.endswith("web1 has booted anew and is ready\n")


def test_a_restart_that_takes_too_long_is_told(cli: Cli) -> None:
    result = cli("restart", "web1", "--wait", "--timeout", "0.3")
    assert result.exit_code == 1
    assert "gave up after 0.3 s:" in result.stderr
    assert "see: guestkeeper explain web1" in result.stderr


def test_what_is_off_is_not_restarted(cli: Cli, world: World) -> None:
    result = cli("restart", "db1", "--wait")
    assert (result.exit_code, result.stdout) == (1, "")


# --- approve --------------------------------------------------------------------------------------


def outdated(world: World, **memory: Any) -> None:
    image = make.a_ready_image(base=NEW, base_path=f"/pool/{NEW}")
    shows(world, a_server(world, **memory), image=image)


def test_a_replacement_is_approved(cli: Cli, world: World) -> None:
    outdated(world)
    text = cli("explain", "web1").stdout
    assert "(replace: stop, swap of the system disk, boot; needs: guestkeeper approve web1)" in text
    result = cli("approve", "web1", "--now")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"web1 gets a system disk of {NEW}")
    assert (memory(world, "web1").approved, memory(world, "web1").approved_now) == (NEW, True)
    assert "needs: guestkeeper approve" not in cli("explain", "web1").stdout


def test_where_nothing_waits_it_says_where_to_look(cli: Cli) -> None:
    result = cli("approve", "web1")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "error: nothing of web1 waits for approval; what it waits for: guestkeeper explain web1\n"
    )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "name guests, or say --deletions"),
        (["--deletions", "--now"], "--now goes with replacements"),
    ],
)
def test_what_is_to_be_approved_has_to_be_said(cli: Cli, arguments: list[str], told: str) -> None:
    result = cli("approve", *arguments)
    assert result.exit_code == 2
    assert told in result.stderr


# --- approve --deletions --------------------------------------------------------------------------


def orphans(world: World) -> None:
    for name, policy in (("old2", "Delete"), ("old3", "Stop")):
        guest = make.a_guest(name, deletionPolicy=policy)
        domain = make.a_domain(guest, record=GuestRecord(orphaned_since=world.now))
        fleet = Fleet(deletions=12)
        made = plan_orphan(name, domain, fleet, world.now, make.POLICY)
        world.store.put(guest, make.observed(domain, fleet=fleet), made, world.now)


def test_deletions_are_shown_and_asked_for(
    cli: Cli, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    orphans(world)
    asked = person(monkeypatch, agrees=True)
    result = cli("approve", "--deletions")
    assert result.exit_code == 0
    assert asked == ["their documents are meant to be gone, and this to happen?"]
    shown = result.stderr.splitlines()
    assert shown[0].split() == ["NAME", "WILL", "BE", "GONE", "FOR", "SYSTEM", "DISK"]
    assert re.match(r"old2 +deleted +3m +default/old2-[0-9a-f]{8}-system.qcow2", shown[1])
    assert re.match(r"old3 +stopped +3m +default/old3-", shown[2])
    first, second = result.stdout.splitlines()
    assert first.startswith("old2 is stopped and deleted with its system disk")
    assert second.startswith("old3 is stopped")
    assert memory(world, "old2").deletion_approved is not None


def test_who_says_no_deletes_nothing(
    cli: Cli, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    orphans(world)
    person(monkeypatch, agrees=False)
    result = cli("approve", "--deletions")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.endswith("error: nothing was done\n")
    assert memory(world, "old2").deletion_approved is None


def test_without_a_terminal_yes_has_to_be_said(cli: Cli, world: World) -> None:
    orphans(world)
    result = cli("approve", "--deletions")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "old2" in result.stderr
    assert "nobody can be asked here; add --yes" in result.stderr
    assert memory(world, "old2").deletion_approved is None
    assert cli("approve", "--deletions", "old3", "--yes").exit_code == 0
    assert memory(world, "old3").deletion_approved is not None
    assert memory(world, "old2").deletion_approved is None


def test_where_nothing_is_to_be_deleted_it_says_so(cli: Cli) -> None:
    result = cli("approve", "--deletions", "--yes")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "no guest whose document is gone waits" in result.stderr
    result = cli("approve", "--deletions", "web1", "--yes")
    assert "web1 does not wait to be stopped or deleted" in result.stderr


# --- rollback -------------------------------------------------------------------------------------


def with_retired(world: World, **memory: Any) -> None:
    old = SystemDisk("default", "web1-964c2e34-system.qcow2", "gk-base-debian12-old.qcow2")
    disk = RetiredDisk(old, world.now, "replaced")
    bad = RetiredDisk(SystemDisk("default", "web1-964c2e34-system-2.qcow2"), world.now, "failed")
    shows(world, a_server(world, retired=(disk, bad), **memory))


def test_a_rollback_shows_what_is_lost_and_asks(
    cli: Cli, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_retired(world)
    asked = person(monkeypatch, agrees=True)
    result = cli("rollback", "web1")
    assert result.exit_code == 0
    assert asked == ["go back to the earlier system disk of web1?"]
    assert (
        "would be stopped and boot from default/web1-964c2e34-system.qcow2, as it was 3m ago"
        in (result.stderr)
    )
    assert result.stdout.startswith("web1 is stopped and boots from default/web1-964c2e34-system")
    assert memory(world, "web1").rollback or memory(world, "web1").replacement is not None


def test_a_rollback_without_a_terminal_needs_yes(cli: Cli, world: World) -> None:
    with_retired(world)
    assert cli("rollback", "web1").exit_code == 2
    assert not memory(world, "web1").rollback
    assert cli("rollback", "web1", "--yes").exit_code == 0


def test_without_an_earlier_disk_nobody_is_asked(cli: Cli) -> None:
    result = cli("rollback", "web1")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "no earlier system disk to go back to: none is kept" in result.stderr


# --- retry ----------------------------------------------------------------------------------------


def test_what_failed_for_a_guest_is_tried_again(cli: Cli, world: World) -> None:
    outdated(world, refused=NEW, refused_why="not ready within 900 s")
    assert f"Not again:  a system disk of {NEW}" in re.sub(
        " +", " ", cli("describe", "web1").stdout
    ).replace("Not again: ", "Not again:  ")
    assert f"{NEW} is not taken again unasked" in cli("explain", "web1").stdout
    result = cli("retry", "web1")
    assert (result.exit_code, result.stderr) == (0, "")
    assert memory(world, "web1").refused == ""


# --- pages ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["describe", "explain"])
def test_pages_about_a_suspended_guest_with_retired_disks(
    cli: Cli, world: World, golden: Any, command: str
) -> None:
    with_retired(world, suspended=True)
    golden(GOLDEN / f"{command}-suspended.txt", steady(cli(command, "web1").stdout))


@pytest.mark.parametrize("command", ["describe", "explain"])
def test_pages_about_a_guest_that_is_replaced(
    cli: Cli, world: World, golden: Any, command: str
) -> None:
    old = SystemDisk("default", "web1-964c2e34-system.qcow2", "gk-base-debian12-abc.qcow2")
    new = SystemDisk("default", "web1-964c2e34-system-1.qcow2", NEW)
    ongoing = Replacement(new, old, "image", ReplacePhase.RETURNING, world.now, failure="not ready")
    shows(world, a_server(world, replacement=ongoing))
    golden(GOLDEN / f"{command}-replaced.txt", steady(cli(command, "web1").stdout))


@pytest.mark.parametrize("command", ["describe", "explain"])
def test_pages_about_a_guest_that_may_not_be_deleted(
    cli: Cli, world: World, golden: Any, command: str
) -> None:
    orphans(world)
    golden(GOLDEN / f"{command}-blocked.txt", steady(cli(command, "old2").stdout))


# --- get volumes ----------------------------------------------------------------------------------


def volumes(world: World, **unseen: str) -> None:
    def one(name: str, use: Use, guest: str = "", disk: str = "", **more: Any) -> VolumeUse:
        backing = "/pool/gk-base-debian12-abc.qcow2" if use is Use.SYSTEM else None
        volume = VolumeView("default", name, f"/pool/{name}", "qcow2", 2**30, 2**20, backing)
        return VolumeUse(volume, use, guest, disk, **more)

    world.volumes = VolumesSeen(
        {
            "local": (
                one("gk-base-debian12-abc.qcow2", Use.BASE, image="debian12", overlays=1),
                one("old1-0-data.qcow2", Use.ORPHANED, "old1", "data"),
                one("tools.iso", Use.CDROM, "web1", "tools"),
                one("web1-0-data.qcow2", Use.DATA, "web1", "data"),
                one("web1-0-seed.iso", Use.SEED, "web1", "seed"),
                one("web1-0-system-1.qcow2", Use.SYSTEM, "web1", "system"),
                one("web1-0-system-2.qcow2", Use.REPLACEMENT, "web1", "system"),
                one(
                    "web1-0-system.qcow2", Use.RETIRED, "web1", "system",
                    until=make.NOW + 3 * 86400 + 60,
                ),
                one("web9-0-data.qcow2", Use.FOREIGN, "web9", "data", why="domain clone"),
            )
        },
        unseen,
    )  # fmt: skip


def test_volumes_are_listed_with_who_uses_them(cli: Cli, world: World) -> None:
    volumes(world)
    result = cli("get", "volumes")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = [re.split(" {3,}", line) for line in result.stdout.splitlines()]
    assert lines[0] == ["NAME", "POOL", "HOST", "SIZE", "USED BY"]
    assert lines[1] == [
        "gk-base-debian12-abc.qcow2", "default", "local", "1Gi", "image debian12 (1 overlay)"
    ]  # fmt: skip
    assert [line[-1] for line in lines[2:]] == [
        "nobody; it was the disk data of old1",
        "web1 (drive tools)",
        "web1 (disk data)",
        "web1 (cloud-init seed)",
        "web1 (system disk)",
        "web1 (system disk, being replaced)",
        "web1 (retired system disk, kept for 3d)",
        "domain clone, no guest; it is named like the disk data of web9",
    ]
    wide = cli("get", "volumes", "-o", "wide").stdout.splitlines()
    assert wide[0].split() == [
        "NAME", "POOL", "HOST", "SIZE", "ALLOCATED", "OVERLAY", "OF", "USED", "BY"
    ]  # fmt: skip


def test_orphaned_volumes_are_told_apart(
    cli: Cli, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    volumes(world)
    for module in (listing, terminal):
        monkeypatch.setattr(module, "person_looks", lambda: True)
    result = cli("get", "volumes", "--orphaned")
    assert len(result.stdout.splitlines()) == 2
    assert "old1-0-data.qcow2" in result.stdout
    assert "never deleted unasked; to delete one: virsh vol-delete" in result.stderr
    assert cli("get", "volumes", "--orphaned", "-o", "name").stdout == "old1-0-data.qcow2\n"


def test_volumes_that_may_be_used_are_not_among_the_orphaned(cli: Cli, world: World) -> None:
    def one(name: str, use: Use, why: str) -> VolumeUse:
        volume = VolumeView("default", name, f"/pool/{name}", "qcow2", 2**30, 2**20, None)
        return VolumeUse(volume, use, "old1", "data", why=why)

    world.volumes = VolumesSeen(
        {
            "local": (
                one("a", Use.POSSIBLY, "pool p2 is\n\x9bstopped"),
                one("b", Use.POSSIBLY, "pool p2 is\n\x9bstopped"),
                one("c", Use.UNKNOWN, "host far cannot be asked"),
            )
        },
        {},
    )
    result = cli("get", "volumes", "--orphaned")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.splitlines() == [
        "no volumes that nobody uses",
        "who uses 1 volume is not certain: host far cannot be asked",
        r"who uses 2 volumes is not certain: pool p2 is\n\x9bstopped",
    ]
    lines = cli("get", "volumes").stdout.splitlines()
    assert lines[1].endswith("perhaps nobody; it was the disk data of old1")
    assert lines[3].endswith("not known; it was the disk data of old1")


def test_what_an_argument_does_to_a_terminal_is_written_out(cli: Cli) -> None:
    result = cli("suspend", "\x1b[31mx\u202e")
    assert result.exit_code == 1
    assert r"\x1b[31mx\u202e" in result.stderr
    assert not {"\x1b", "\u202e"} & set(result.stderr)


def test_a_host_whose_volumes_cannot_be_told_is_exit_code_3(cli: Cli, world: World) -> None:
    volumes(world, far="no route to host")
    result = cli("get", "volume", "tools.iso")
    assert result.exit_code == 3
    assert "tools.iso" in result.stdout
    assert result.stderr == "the volumes of host far cannot be told: no route to host\n"


def test_no_volumes_is_said(cli: Cli, world: World) -> None:
    world.volumes = VolumesSeen({"local": ()}, {})
    assert cli("get", "volumes", "--orphaned").stderr == "no volumes that nobody uses\n"
    result = cli("get", "volumes", "nix")
    assert (result.exit_code, result.stderr) == (
        1,
        "no volume is named `nix`; see: guestkeeper get volumes\n",
    )
    assert cli("get", "guests", "--orphaned").exit_code == 2
