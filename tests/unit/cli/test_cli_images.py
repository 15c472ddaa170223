"""Images at the command line: get, describe, explain, logs, events, images build, retry."""

import json
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from controller.cli.commands import images as building
from controller.cli.terminal import output as terminal
from controller.images.progress import MIB, Phase
from controller.web.server import WebServer
from tests.unit.cli.conftest import Cli
from tests.unit.web.images import TAIL, a_view, ready, stalled, unreachable_tree
from tests.unit.web.support import World, stalls, with_install

pytestmark = pytest.mark.usefixtures("daemon")
GOLDEN = Path(__file__).parents[2] / "data" / "cli"


@pytest.fixture(autouse=True)
def install(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with_install(world)
    monkeypatch.setattr(building, "POLL", 0.02)


def steady(text: str) -> str:
    """Without clocks, ages of what the test itself did, and the digest of the factory's image."""
    text = re.sub(r"\b[0-9a-f]{64}\b", "DIGEST", text)
    return re.sub(r"\d\d:\d\d:\d\d|\b\d{1,2}s\b", "…", text)


def in_turn(*changes: Callable[[], object]) -> Callable[[], object]:
    """For ``on_build``: does the changes one by one in the background, slower than one looks."""

    def work() -> None:
        for change in changes:
            change()
            time.sleep(0.15)  # not waited for: how long a build takes

    def start() -> None:
        changes[0]()
        threading.Thread(target=work, daemon=True).start()

    return start


# --- get, describe, explain -----------------------------------------------------------------------


def test_images_are_listed_with_what_they_are_made_by_and_how_far_they_are(
    cli: Cli, world: World
) -> None:
    assert cli("get", "images").stdout == (
        "NAME       STATE   MADE BY     GUESTS   OS       MESSAGE\n"
        "debian12   Ready   file        3        debian   -\n"
        "rocky9     -       kickstart   1        rhel     -\n"
    )
    world.images.installing()
    assert cli("get", "images", "rocky9").stdout.splitlines()[1] == (
        "rocky9   Preparing   kickstart   1        rhel   installing, attempt 1 of 2: packages"
    )
    world.images.shows(stalled())
    assert cli("get", "images", "rocky9").stdout.splitlines()[1].split()[1] == "Stalled"


def test_wide_adds_template_pool_and_base_before_the_message(cli: Cli, world: World) -> None:
    world.images.shows(ready())
    assert cli("get", "images", "rocky9", "-o", "wide").stdout == (
        "NAME     STATE   MADE BY     GUESTS   OS     MADE FROM             POOLS           BASE"
        "                                         MESSAGE\n"
        "rocky9   Ready   kickstart   1        rhel   rhel9-minimal.ks.j2   local/default  "
        " gk-base-rocky9-0123456789ab-01234567.qcow2   -\n"
    )


def test_a_narrow_terminal_keeps_the_message_and_gives_up_the_wide_columns(
    cli: Cli, world: World
) -> None:
    from controller.cli.commands import get as listing

    world.images.installing()
    items = json.loads(cli("get", "images", "-o", "json").stdout)["items"]
    lines = listing.table("images", items, wide=True, room=80)
    assert lines[0].plain.split()[-2:] == ["OS", "MESSAGE"]


def test_an_image_as_json_has_all_there_is_to_know_of_a_failure(cli: Cli, world: World) -> None:
    world.images.shows(stalled())
    (pool,) = json.loads(cli("get", "images", "rocky9", "-o", "json").stdout)["item"]["pools"]
    assert (pool["reason"], pool["stalled"], pool["log_tail"]) == ("InstallFailed", True, TAIL)


def test_a_person_is_told_of_images_that_failed(
    cli: Cli, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from controller.cli.commands import get as listing

    for module in (listing, terminal):
        monkeypatch.setattr(module, "person_looks", lambda: True)
    world.images.shows(stalled())
    told = cli("get", "images").stderr
    assert told == "\n1 image failed; why: guestkeeper explain rocky9\n"


@pytest.mark.parametrize("state", ["unbuilt", "installing", "ready", "stalled", "failed"])
@pytest.mark.parametrize("command", ["describe", "explain"])
def test_pages_about_an_image(
    cli: Cli,
    world: World,
    golden,  # type: ignore[no-untyped-def]
    command: str,
    state: str,
) -> None:
    match state:
        case "installing":
            world.images.installing()
        case "ready":
            world.images.shows(ready())
        case "stalled":
            world.images.shows(stalled())
            message = "attempt 1 on host local: the installer reported a failure: no package ngnix"
            world.journal.record("image/rocky9", "InstallFailed", message, warning=True)
            assert world.journal.flush()
        case "failed":
            world.images.shows(unreachable_tree(world.now))
    result = cli(command, "rocky9")
    assert (result.exit_code, result.stderr) == (0, "")
    golden(GOLDEN / f"{command}-image-{state}.txt", steady(result.stdout))


def test_a_ready_disk_has_its_page_too(cli: Cli) -> None:
    page = cli("describe", "debian12").stdout
    assert re.search(r"Made by: +file\nMade from: +debian12.qcow2\n", page)
    assert "debian12 is Ready; used by db1, web1, web2" in cli("explain", "debian12").stdout


@pytest.mark.parametrize("command", ["describe", "explain", "logs"])
def test_a_guest_wins_over_an_image_of_its_name(cli: Cli, world: World, command: str) -> None:
    from tests import factories as make

    images = {**world.snapshot.images, "web1": make.an_install_image("web1")}
    world.snapshot = world.snapshot.__class__(
        guests=world.snapshot.guests, images=images, scanned_at=world.now
    )
    world.blocks = [b"login: "]
    world.images.blocks = [b"installing packages\n"]
    of_guest = cli(command, "web1").stdout
    of_image = cli(command, "image/web1").stdout
    word = {"describe": ("Domain:", "Template:"), "explain": ("Wanted", "in no pool")}
    guests, images_word = word.get(command, ("login: ", "installing packages"))
    assert guests in of_guest
    assert images_word not in of_guest
    assert images_word in of_image


@pytest.mark.parametrize("command", ["describe", "explain", "logs", "events"])
def test_a_name_that_nothing_has_is_told_whatever_was_meant(cli: Cli, command: str) -> None:
    result = cli(command, "rokcy9")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "error: no guest is named `rokcy9`; did you mean the image `rocky9`?\n"
    )
    result = cli(command, "image/rokcy9")
    assert result.stderr == "error: no image is named `rokcy9`; did you mean `rocky9`?\n"
    assert cli(command, "image/").exit_code == 2


def test_reconcile_says_that_an_image_is_no_guest(cli: Cli) -> None:
    result = cli("reconcile", "rocky9")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "error: `rocky9` is an image, not a guest; see: guestkeeper describe image/rocky9\n"
    )


# --- guests that wait for it ----------------------------------------------------------------------


def test_a_guest_of_a_stalled_image_is_stalled_in_one_line(cli: Cli, world: World) -> None:
    stalls(world)
    first = (
        "image rocky9: the installer reported a failure: no package ngnix. It is not tried again"
        " before: guestkeeper retry rocky9. The whole log: guestkeeper"
    )
    lines = cli("get", "guests", "web3", "-o", "wide").stdout.splitlines()
    assert len(lines) == 2
    assert lines[1].split()[1] == "Stalled"
    assert first in lines[1]
    assert "cannot find package" not in lines[1]
    waiting = cli("wait", "web3", "--timeout", "0.1").stderr.splitlines()[0]
    assert waiting.startswith(f"web3: Ready is False (InstallFailed: {first}")


def test_a_guest_of_a_stalled_image_is_described_with_the_log(
    cli: Cli,
    world: World,
    golden,  # type: ignore[no-untyped-def]
) -> None:
    stalls(world)
    page = cli("describe", "web3").stdout
    for line in TAIL.splitlines():
        assert page.count(line) == 1
    golden(GOLDEN / "describe-web3.txt", steady(page))
    golden(GOLDEN / "explain-web3.txt", steady(cli("explain", "web3").stdout))


# --- logs and events ------------------------------------------------------------------------------


def test_an_installers_log_is_printed_and_followed_to_its_end(cli: Cli, world: World) -> None:
    rest = iter([b"", "größer\n".encode()[:3], "größer\n".encode()[3:], None])
    world.images.blocks = [b"partitioning\n"]
    world.images.more = lambda: next(rest)
    assert cli("logs", "rocky9").stdout == "partitioning\n"
    result = cli("logs", "image/rocky9", "-f")
    assert (result.exit_code, result.stdout) == (0, "partitioning\ngrößer\n")


def test_an_image_without_a_log_says_how_to_build_it(cli: Cli, world: World) -> None:
    world.images.blocks = [b""]
    result = cli("logs", "rocky9")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "guestkeeper images build rocky9 --wait" in result.stderr


@pytest.mark.parametrize("name", ["rocky9", "image/rocky9"])
def test_events_of_an_image(cli: Cli, world: World, name: str) -> None:
    assert cli("events", name).stderr == "no events yet\n"
    world.journal.record("image/rocky9", "ImageBuilt", "built on host local in 745 s")
    assert world.journal.flush()
    for command in (["events", name], ["events", name, "-f", "--timeout", "0.1"]):
        (line,) = (one for one in cli(*command).stdout.splitlines() if "ImageBuilt" in one)
        assert line.split()[1:3] == ["image/rocky9", "ImageBuilt"]


# --- images build ---------------------------------------------------------------------------------


def test_a_build_by_hand_is_begun_where_it_is_said(cli: Cli, world: World) -> None:
    world.images.on_build = world.images.installing
    result = cli("images", "build", "rocky9", "--host", "local", "--pool", "fast", "--refresh")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "rocky9 is being built on local/default\n"
    assert world.images.asked == [("rocky9", "local", "fast", True)]
    world.images.on_build = lambda: world.images.shows(ready())
    result = cli("images", "build", "image/rocky9")
    assert result.stdout == (
        "rocky9 is ready on local/default: gk-base-rocky9-0123456789ab-01234567.qcow2\n"
    )


def test_waiting_tells_each_new_word_and_ends_with_the_base(cli: Cli, world: World) -> None:
    images = world.images
    images.on_build = in_turn(
        lambda: images.works(Phase.DOWNLOADING, 10 * MIB, 100 * MIB),
        lambda: images.works(Phase.DOWNLOADING, 11 * MIB, 100 * MIB),
        lambda: images.works(Phase.DOWNLOADING, 90 * MIB, 100 * MIB),
        images.installing,
        lambda: world.journal.record(
            "image/rocky9", "InstallFailed", "attempt 1 on host local: it stopped", warning=True
        ),
        lambda: images.installing(2),
        lambda: images.shows(ready()),
    )
    result = cli("images", "build", "rocky9", "--wait", "--timeout", "20s")
    assert (result.exit_code, result.stdout) == (
        0,
        "rocky9 is ready on local/default: gk-base-rocky9-0123456789ab-01234567.qcow2\n",
    )
    assert result.stderr.splitlines() == [
        "rocky9 on local/default: downloading 10 of 100 MiB (10 %)",
        "rocky9 on local/default: downloading 90 of 100 MiB (90 %)",
        "rocky9 on local/default: installing, attempt 1 of 2: packages",
        "InstallFailed: attempt 1 on host local: it stopped",
        "rocky9 on local/default: installing, attempt 2 of 2: packages",
    ]


def test_a_build_that_stalls_exits_1_with_all_that_helps(cli: Cli, world: World) -> None:
    world.images.on_build = in_turn(world.images.installing, lambda: world.images.shows(stalled()))
    result = cli("images", "build", "rocky9", "--wait")
    assert (result.exit_code, result.stdout) == (1, "")
    told = result.stderr.split("rocky9 on local/default: Stalled\n")[1]
    assert told == (
        "  Reason:    InstallFailed\n"
        "  Message:   the installer reported a failure: no package ngnix\n"
        "  Remedy:    correct what made it fail, then: guestkeeper retry rocky9; a change of its"
        " document is tried by itself. The whole log: guestkeeper logs image/rocky9\n"
        "  The end of its installer's log:\n"
        "    Installing: kernel\n"
        "    error: cannot find package ngnix\n"
        "    the installer gives up\n"
    )


def test_a_build_that_has_stalled_before_is_not_said_to_begin(cli: Cli, world: World) -> None:
    world.images.shows(stalled())
    result = cli("images", "build", "rocky9")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "guestkeeper retry rocky9" in result.stderr


def test_waiting_gives_up_in_time_and_the_build_goes_on(cli: Cli, world: World) -> None:
    world.images.on_build = world.images.installing
    result = cli("images", "build", "rocky9", "--wait", "--timeout", "0.2")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines()[1:] == [
        "gave up after 0.2 s; rocky9 on local/default goes on:"
        " installing, attempt 1 of 2: packages",
        "to see what its installer says: guestkeeper logs image/rocky9 -f",
    ]


def test_waiting_survives_a_daemon_that_restarts_and_forgets(
    cli: Cli, world: World, daemon: WebServer, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "POLL", 0.5)  # so that it goes while nothing is asked of it
    images = world.images
    second = WebServer(world.application, listen="", socket=directory / "gk.sock")

    def restart() -> None:
        daemon.stop()
        images.shows(a_view())
        images.on_build = lambda: images.shows(ready())
        second.start()

    images.on_build = in_turn(images.installing, restart)
    result = cli("images", "build", "rocky9", "--wait", "--refresh", "--timeout", "20s")
    second.stop()
    assert (result.exit_code, images.stand[-1]) == (0, ready())
    assert [refresh for *_, refresh in images.asked] == [True, False]


def test_a_terminal_shows_a_bar(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(force_terminal=True, width=120, record=True, soft_wrap=True)
    monkeypatch.setattr(building, "stderr", lambda: console)
    pool = {
        **dict.fromkeys(("phase", "detail", "since", "base"), None),
        "host": "local",
        "pool": "default",
        "state": "Preparing",
        "stalled": False,
    }
    with building._Screen("rocky9") as screen:
        screen.show([{**pool, "message": "uploading [3] MiB", "done": 25, "total": 100}])
        screen.say("an attempt failed")
        screen._progress.refresh()
        (task,) = screen._progress.tasks
        assert (task.percentage, task.fields["told"]) == (25.0, "uploading [3] MiB")
        screen.show([{**pool, "message": "installing", "done": None, "total": None}])
        assert task.total is None
    shown = console.export_text()
    assert "rocky9 on local/default" in shown
    assert "uploading [3] MiB" in shown
    assert "an attempt failed" in shown


def test_an_unknown_image_host_or_pool_is_a_usage_error(cli: Cli, world: World) -> None:
    result = cli("images", "build", "rocky8")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "error: no image is named `rocky8`; did you mean `rocky9`?\n"
    assert cli("images", "build", "rocky9", "--timeout", "soon").exit_code == 2


def test_without_a_daemon_nothing_is_built(cli: Cli, daemon: WebServer) -> None:
    daemon.stop()
    for command in (["images", "build", "rocky9", "--wait"], ["retry", "rocky9"]):
        result = cli(*command)
        assert (result.exit_code, result.stdout) == (3, "")
        assert "no daemon answers on" in result.stderr


# --- retry ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rocky9", "image/rocky9"])
def test_retry_builds_anew_what_had_stalled(cli: Cli, world: World, name: str) -> None:
    world.images.shows(stalled())
    result = cli("retry", name)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "rocky9 is being built on local/default\n"


@pytest.mark.parametrize(
    ("prepare", "told"),
    [
        (lambda images: images.shows(), "it was not built yet"),
        (lambda images: images.shows(ready()), "it is Ready"),
        (lambda images: images.installing(), "it is Preparing"),
    ],
)
def test_retry_of_what_has_not_failed_says_so(
    cli: Cli, world: World, prepare: Callable[[object], None], told: str
) -> None:
    prepare(world.images)
    result = cli("retry", "rocky9")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"error: nothing of image rocky9 has failed ({told}), so there is nothing to retry\n"
    )


def test_retry_of_a_guest_that_did_not_fail_says_so(cli: Cli) -> None:
    result = cli("retry", "web2")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "error: nothing of web2 is held back because it failed; see: guestkeeper explain web2\n"
    )
    assert cli("retry", "rocky8").stderr == (
        "error: no guest is named `rocky8`; did you mean the image `rocky9`?\n"
    )
    assert "no image is named `rocky8`; did you mean `rocky9`?" in (
        cli("retry", "image/rocky8").stderr
    )
