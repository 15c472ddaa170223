"""get, describe, explain, events, logs, wait, reconcile: what an operator reads, word for word."""

import json
import re
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from controller.cli.commands import follow
from controller.cli.commands import get as listing
from controller.cli.terminal import output as terminal
from controller.desired.text.problems import Problem
from controller.observed.domain import DomainState, StateReason
from controller.observed.guest import Failure, Fleet
from controller.planning.deletion.orphan import plan_orphan
from controller.web.server import WebServer
from tests import factories as make
from tests.unit.cli.conftest import Cli, Meanwhile
from tests.unit.web.support import (
    World,
    a_status,
    crash_looping,
    lost_host,
    now_healthy,
    unable_to_start,
)

pytestmark = pytest.mark.usefixtures("daemon")
GOLDEN = Path(__file__).parents[2] / "data" / "cli"


def steady(text: str) -> str:
    """Without what differs from run to run: clocks, and ages of what the test itself did."""
    return re.sub(r"\d\d:\d\d:\d\d \(in \d+[sm]\)|\d\d:\d\d:\d\d|\b\d{1,2}s\b", "…", text)


# --- get ------------------------------------------------------------------------------------------


def test_get_lists_guests_as_kubectl_would(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "now", lambda: make.NOW - 3600 + 5 * 3600)
    result = cli("get")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (
        "NAME   STATUS     SYNC      HEALTH     READY     SERVICES   AGE\n"
        "db1    Unknown    Unknown   Unknown    Unknown   -          -\n"
        "old1   Unknown    Unknown   Unknown    Unknown   -          5h\n"
        "web1   Healthy    Synced    Healthy    True      1/1        5h\n"
        "web2   Degraded   Synced    Degraded   False     0/1        5h\n"
    )


def test_wide_adds_where_it_is_and_what_is_wrong(cli: Cli) -> None:
    lines = cli("get", "guests", "-l", "tier=web", "-o", "wide").stdout.splitlines()
    assert lines[0].split()[-4:] == ["HOST", "IMAGE", "ADDRESS/FORWARDS", "MESSAGE"]
    assert lines[1].split()[-3:] == ["debian12", "10.0.2.15,127.0.0.1:18080:80/tcp", "-"]
    assert lines[2].endswith("web/http: connection refused")


@pytest.mark.parametrize(
    ("kind", "first"),
    [
        (
            "images",
            "NAME       STATE   MADE BY   GUESTS   OS       MESSAGE\n"
            "debian12   Ready   file      3        debian   -\n",
        ),
        ("svc", "NAME    READY   KIND\nspare   -       shared\nweb     1/2     inline\n"),
        (
            "hosts",
            "NAME    STATUS      ACCELERATOR   GUESTS   URI\n"
            "local   reachable   tcg           3        test:///\n",
        ),
        (
            "problems",
            "WHERE         FIELD              PROBLEM\n"
            "web2.yaml:7   spec.memory.size   must be a size such as 512Mi\n",
        ),
    ],
)
def test_get_lists_the_other_kinds(cli: Cli, kind: str, first: str) -> None:
    assert cli("get", kind).stdout == first


def test_names_alone_can_be_fed_to_another_command(cli: Cli) -> None:
    assert cli("get", "-o", "name", "-l", "tier=web").stdout == "web1\nweb2\n"


def test_json_and_yaml_carry_the_format_version_and_everything(cli: Cli) -> None:
    many = json.loads(cli("get", "-o", "json").stdout)
    assert many["format_version"] == 1
    assert len(many["items"]) == 4
    one = yaml.safe_load(cli("get", "guest", "web1", "-o", "yaml").stdout)
    assert one["item"]["conditions"][0]["type"] == "Ready"


def test_a_name_that_is_not_there_is_told_beside_those_that_are(cli: Cli) -> None:
    result = cli("get", "guests", "web1", "nix")
    assert result.exit_code == 1
    assert "web1" in result.stdout
    assert result.stderr == "no guest is named `nix`; see: guestkeeper get guests\n"


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("get guests wbe1", "no guest is named `wbe1`; did you mean `web1`?"),
        ("get guests wbe1 -o json", "no guest is named `wbe1`; did you mean `web1`?"),
        ("get images debain12", "no image is named `debain12`; did you mean `debian12`?"),
        ("get guests web1 -l tier=db", "guest web1 does not match tier=db"),
    ],
)
def test_a_misspelt_name_is_told_alone(cli: Cli, command: str, told: str) -> None:
    result = cli(*command.split())
    assert (result.exit_code, result.stderr) == (1, f"{told}\n")


def test_a_misspelt_kind_is_told(cli: Cli) -> None:
    result = cli("get", "gests")
    assert result.exit_code == 2
    assert "cannot get `gests`; did you mean `guests`?" in result.stderr


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ("tier=cache", "no guest has tier=cache"),
        ("tier==cache", "no guest has tier=cache"),
        ("tier=web,tier!=web", "no guest matches tier=web,tier!=web"),
    ],
)
def test_labels_that_nobody_has_are_told(cli: Cli, labels: str, told: str) -> None:
    result = cli("get", "-l", labels)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", f"{told}\n")


def test_a_person_is_told_of_the_documents_problems(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (listing, terminal):
        monkeypatch.setattr(module, "person_looks", lambda: True)
    assert cli("get").stderr == (
        "\n1 problem in the documents; see: guestkeeper get problems\n"
        "\n3 guests not healthy; why: guestkeeper explain web2\n"
    )


def test_a_wide_table_gives_up_columns_before_it_is_wrapped(cli: Cli, world: World) -> None:
    items = json.loads(cli("get", "-o", "json").stdout)["items"]

    def headings(room: int | None) -> list[str]:
        return listing.table("guests", items, wide=True, room=room)[0].plain.split()

    everything = headings(None)
    assert everything[-4:] == ["HOST", "IMAGE", "ADDRESS/FORWARDS", "MESSAGE"]
    assert headings(170) == everything
    assert headings(120) == everything[:-1]
    assert headings(90) == everything[:-2]
    assert headings(60) == everything[:-4]
    lines = listing.table("guests", items, wide=True, room=60)
    assert max(line.cell_len for line in lines) <= 60


def test_a_guests_name_in_the_place_of_the_kind_is_helped(cli: Cli) -> None:
    result = cli("get", "web1")
    assert result.exit_code == 2
    assert "guestkeeper get guests web1" in result.stderr


def test_watching_prints_a_line_for_each_guest_that_moves(
    cli: Cli, world: World, meanwhile: Meanwhile
) -> None:
    meanwhile(lambda: now_healthy(world, "web2"), leave=True)
    lines = cli("get", "guests", "-l", "tier=web", "-w").stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["NAME", "STATUS"],
        ["web1", "Healthy"],
        ["web2", "Degraded"],
        ["web2", "Healthy"],
    ]


def test_an_empty_list_says_what_to_do(cli: Cli, world: World) -> None:
    world.guests()
    world.snapshot = replace(world.snapshot, problems=())
    for name in ("web1", "web2", "old1"):
        world.store.drop(name)
    result = cli("get")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "put a Guest document into" in result.stderr


# --- describe and explain -------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["describe", "explain"])
@pytest.mark.parametrize("name", ["web1", "web2", "db1", "old1"])
def test_pages_about_a_guest(cli: Cli, golden, command: str, name: str) -> None:  # type: ignore[no-untyped-def]
    result = cli(command, name)
    assert result.exit_code == 0
    golden(GOLDEN / f"{command}-{name}.txt", steady(result.stdout))


def test_explain_tells_a_crash_loop_with_its_next_try(cli: Cli, world: World) -> None:
    crash_looping(world)
    text = cli("explain", "web2").stdout
    assert "web2 is CrashLoopBackOff (sync: Synced, health: Degraded)" in text
    assert re.search("Decided     it crashed; start number 4", text)
    assert "when it looks again by itself" in text


def test_explain_tells_a_start_that_fails_as_that_and_not_as_a_crash(
    cli: Cli, world: World
) -> None:
    unable_to_start(world)
    text = cli("explain", "web2").stdout
    assert "web2 is Degraded (sync: Synced, health: Degraded)" in text
    assert re.search("Decided     no room; start number 4", text)
    assert re.search(r"StartDomain failed \ds ago \(2 tries\): no room", text)


def test_explain_tells_that_nothing_is_done_without_data(cli: Cli, world: World) -> None:
    lost_host(world)
    text = cli("explain", "web1").stdout
    assert "Decided     doing nothing: host local gives no data (connection refused)" in text


def test_a_documents_problem_is_told_with_the_guest(cli: Cli, world: World) -> None:
    world.snapshot = replace(world.snapshot, guest_problems={"web2": world.snapshot.problems})
    assert "web2.yaml:7: spec.memory.size: must be a size" in cli("describe", "web2").stdout
    text = cli("explain", "web2").stdout
    assert "so its last good version counts: web2.yaml:7" in text
    assert "correct the document, then: guestkeeper validate" in text


OUTPUT = """services web: apply exited 1: nginx: the configuration file is being tested
2026/01/02 [emerg] unknown directive "lisen" in /etc/nginx/sites-enabled/default:3
nginx: configuration file /etc/nginx/nginx.conf test failed"""


def failed_apply(world: World) -> None:
    """The configuration of web2 was refused by nginx, in several lines."""
    guest, now = world.snapshot.guests["web2"], make.NOW
    failure = Failure("ApplyInside", "Failed", OUTPUT, now - 5, 2, now + 85, guest.digest)
    inside = make.an_inside(guest, looked_at=now, packages={"nginx-light": None})
    domain = make.a_domain(guest, started_at=now - 60)
    seen = make.observed(domain, inside=inside, failure=failure)
    a_status(guest, seen, world.store, now)
    world.journal.record("web2", "ApplyFailed", OUTPUT, warning=True)
    assert world.journal.flush()


def test_a_failure_of_many_lines_is_one_line_in_tables(cli: Cli, world: World) -> None:
    failed_apply(world)
    telling = '2026/01/02 [emerg] unknown directive "lisen" in /etc/nginx/sites-enabled/default:3 …'
    lines = cli("get", "guests", "web2", "-o", "wide").stdout.splitlines()
    assert len(lines) == 2
    assert lines[1].endswith(telling)
    assert cli("events", "web2").stdout.splitlines()[-1].endswith(telling)
    waiting = cli("wait", "web2", "--timeout", "0.1").stderr.splitlines()[0]
    assert waiting == f"web2: Ready is False (ApplyFailed: {telling})"


def test_the_whole_failure_is_in_describe_once(cli: Cli, world: World) -> None:
    failed_apply(world)
    page = cli("describe", "web2").stdout
    assert "\nLast failure:\n  ApplyInside (try 2), " in page
    for line in OUTPUT.splitlines():
        assert f"\n    {line}\n" in page
    assert page.count("test failed") == page.count("is being tested") == 1
    text = cli("explain", "web2").stdout
    assert "test failed" not in text
    assert text.count("[emerg]") == 2
    assert "Decided     waiting: 2026/01/02 [emerg]" in text
    assert "all that the failure said: guestkeeper describe web2" in text


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", ""),
        ("one line\n", "one line"),
        (
            "Reading lists...\nE: Unable to locate package ngnix",
            "E: Unable to locate package ngnix …",
        ),
        ("first\nsecond", "first …"),
        ("it failed\nan Error came first", "an Error came first …"),
        ("x" * 500 + "\ny", "x" * 160 + " …"),
        ("to try again: guestkeeper retry x\nerror: y", "to try again: guestkeeper retry x …"),
    ],
)
def test_the_most_telling_line_stands_for_many(text: str, line: str) -> None:
    assert terminal.one_line(text) == line


def test_a_paused_domain_is_paused_since_it_was_seen_so(cli: Cli, world: World) -> None:
    guest, now = world.snapshot.guests["web1"], make.NOW
    paused = make.a_domain(guest, DomainState.PAUSED, StateReason.USER, started_at=now - 86400)
    a_status(guest, make.observed(paused), world.store, now - 600)
    assert "its domain is paused (user) since 10m" in cli("explain", "web1").stdout
    assert re.search(r"State: +paused \(user\), since 10m", cli("describe", "web1").stdout)


def test_a_guest_whose_document_cannot_be_used_is_not_said_to_have_none(
    cli: Cli, world: World
) -> None:
    problem = Problem("web2.yaml", 7, "spec.memory.size", "must be a size such as 512Mi")
    domain = make.a_domain(world.snapshot.guests["web2"])
    made = plan_orphan("web2", domain, Fleet(), make.NOW, make.POLICY, problems=(str(problem),))
    world.guests()
    world.snapshot = replace(world.snapshot, guest_problems={"web2": (problem,)})
    world.store.put(None, make.observed(domain), made, make.NOW)
    text = cli("explain", "web2").stdout
    assert f"Wanted      its document cannot be used: {problem}" in text
    assert "no document names it" not in text


def test_what_is_waited_for_is_the_agent_not_the_end_of_patience(cli: Cli, world: World) -> None:
    guest, now = world.snapshot.guests["web1"], make.NOW
    domain = make.a_domain(guest, applied=False, agent=False, started_at=now - 5)
    a_status(guest, make.observed(domain), world.store, now)
    text = cli("explain", "web1").stdout
    assert "Waits for   the guest agent, which has not connected yet" in text
    assert "when it looks again by itself" not in text


@pytest.mark.parametrize(
    ("amount", "text"),
    [(99 * 2**40, "99Ti"), (3 * 2**39, "1.5Ti"), (2**50, "1024Ti"), (512 * 2**20, "512Mi")],
)
def test_sizes_have_no_needless_fraction(amount: int, text: str) -> None:
    assert terminal.size(amount) == text


@pytest.mark.parametrize("command", ["describe", "explain", "logs", "reconcile", "events -f"])
def test_an_unknown_guest_is_an_error_with_a_suggestion(cli: Cli, command: str) -> None:
    result = cli(*command.split(), "wbe1")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "error: no guest is named `wbe1`; did you mean `web1`?\n"


# --- events, logs ---------------------------------------------------------------------------------


def test_events_are_a_table(cli: Cli) -> None:
    assert steady(cli("events").stdout) == (
        "AGE   GUEST   REASON          MESSAGE\n"
        "…    web1    DomainStarted   it is new\n"
        "…    web2    ProbeFailed     web/http: connection refused\n"
    )


def test_following_prints_events_as_they_come(cli: Cli, world: World, meanwhile: Meanwhile) -> None:
    meanwhile(lambda: world.journal.record("web2", "GuestReady", "all is well"), leave=True)
    lines = cli("events", "-f", "web2").stdout.splitlines()
    assert [line.split()[1:3] for line in lines] == [
        ["web2", "ProbeFailed"],
        ["web2", "GuestReady"],
    ]


def test_the_console_is_printed_as_it_is(cli: Cli, world: World) -> None:
    world.blocks = [b"Debian\r\n", b"", b"login: "]
    assert cli("logs", "web1").stdout == "Debian\nlogin: "


def test_a_silent_console_says_how_to_see_more(cli: Cli, world: World) -> None:
    world.blocks = [b""]
    result = cli("logs", "web1")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "guestkeeper logs web1 -f" in result.stderr


# --- wait, reconcile ------------------------------------------------------------------------------


def test_wait_ends_when_the_condition_holds(cli: Cli, world: World, meanwhile: Meanwhile) -> None:
    meanwhile(lambda: now_healthy(world, "web2"))
    result = cli("wait", "web1", "web2", "--for=condition=Ready", "--timeout", "60s")
    assert result.exit_code == 0
    assert result.stdout == "web1 condition met\nweb2 condition met\n"
    assert result.stderr == "web2: Ready is False (ProbeFailed: web/http: connection refused)\n"


def test_wait_gives_up_with_the_last_reason(cli: Cli) -> None:
    result = cli("wait", "web2", "--timeout", "0.2")
    assert result.exit_code == 1
    assert "gave up after 0.2 s" in result.stderr
    assert "web2: Ready is False (ProbeFailed: web/http: connection refused)" in result.stderr
    assert "guestkeeper explain web2" in result.stderr


def test_wait_for_all_leaves_out_what_has_no_document(cli: Cli, world: World) -> None:
    result = cli("wait", "--all", "--timeout", "0.2")
    assert "old1" not in result.stderr
    assert "db1: Ready is Unknown (NotSet: not looked at yet)" in result.stderr


def test_an_unknown_condition_is_refused_at_once(cli: Cli) -> None:
    result = cli("wait", "web1", "--for=condition=Redy")
    assert result.exit_code == 2
    assert "no condition is named `Redy`; did you mean `Ready`?" in result.stderr
    assert cli("wait", "web1", "--for=condition=servicesready", "--timeout", "1").exit_code == 0


def test_wait_for_nobody_says_who_was_meant(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "_GRACE", 0.1)
    assert "did you mean `web1`?" in cli("wait", "wbe1").stderr
    assert "no guest has tier=cache" in cli("wait", "-l", "tier=cache").stderr


def test_wait_can_wait_for_a_condition_to_be_false(cli: Cli) -> None:
    assert cli("wait", "web2", "--for=condition=Ready=false", "--timeout", "1").exit_code == 0


def test_wait_survives_a_daemon_that_restarts(
    cli: Cli, world: World, daemon: WebServer, directory: Path
) -> None:
    second = WebServer(world.application, listen="", socket=directory / "gk.sock")

    def restart() -> None:
        daemon.stop()
        now_healthy(world, "web2")
        second.start()

    later = threading.Timer(0.3, restart)
    later.start()
    result = cli("wait", "web2", "--timeout", "60s")
    later.join()
    second.stop()
    assert (result.exit_code, result.stdout) == (0, "web2 condition met\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["wait"],
        ["wait", "web1", "--all"],
        ["wait", "web1", "--for=delete"],
        ["wait", "web1", "--for=condition=Ready=Maybe"],
        ["wait", "web1", "--timeout", "soon"],
        ["get", "images", "-l", "a=b"],
        ["get", "hosts", "-w"],
        ["get", "-l", "=b"],
        ["get", "--bogus"],
        ["bogus"],
    ],
)
def test_wrong_usage_exits_2_without_a_traceback(cli: Cli, arguments: list[str]) -> None:
    result = cli(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Traceback" not in result.stderr


def test_reconcile_has_the_daemon_look_now(cli: Cli, world: World) -> None:
    assert cli("reconcile", "web1", "web2").stdout == (
        "web1 will be looked at now\nweb2 will be looked at now\n"
    )
    assert world.reconciled == ["web1", "web2"]


def test_apply_is_refused_while_a_daemon_answers(cli: Cli) -> None:
    result = cli("apply")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "guestkeeper reconcile NAME" in result.stderr
