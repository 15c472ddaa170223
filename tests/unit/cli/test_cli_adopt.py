"""``guestkeeper adopt``: what is shown, the question, and what ends it."""

import json
from dataclasses import replace

import pytest

from controller.observed.domain import DiskConfig
from tests.unit.cli.conftest import Cli
from tests.unit.web.adoptions import CONFIG, UUID, FakeAdoptions
from tests.unit.web.support import World

pytestmark = pytest.mark.usefixtures("daemon")


@pytest.fixture(autouse=True)
def adoptions(world: World) -> FakeAdoptions:
    made = FakeAdoptions(world)
    world.adoptions = made
    return made


SHOWN = f"""\
db1  (domain {UUID} on host local, running)
  takes over:
    vda   default/db1.img   systemDisk
  would change:
    FIELD     FROM   TO       CLASS     DISRUPTION
    title     old    (none)   live      none, applied to the running guest
    cpu.max   4      1        restart   cold boot; waits for: guestkeeper restart db1
"""


def test_a_dry_run_shows_and_does_nothing(cli: Cli, adoptions: FakeAdoptions) -> None:
    done = cli("adopt", "db1", "--dry-run")
    assert done.exit_code == 0
    assert done.stdout.startswith(SHOWN)
    assert "then, as for every guest:\n    1. redefine domain db1" in done.stdout
    assert adoptions.adopted == []


def test_without_a_terminal_it_has_to_be_said(cli: Cli, adoptions: FakeAdoptions) -> None:
    done = cli("adopt", "db1")
    assert done.exit_code == 2
    assert "nothing was adopted: nobody can be asked here; add --yes" in done.stderr
    assert adoptions.adopted == []


def test_what_was_shown_is_what_is_adopted(cli: Cli, adoptions: FakeAdoptions) -> None:
    done = cli("adopt", "db1", "--yes")
    assert done.exit_code == 0
    assert done.stdout.startswith(SHOWN)
    assert "db1 is Guestkeeper's now; it was not stopped" in done.stdout
    assert adoptions.adopted == [("db1", adoptions.preview("db1").digest)]


def test_problems_end_it(cli: Cli, adoptions: FakeAdoptions) -> None:
    more = DiskConfig("vdb", "default", "more.qcow2", target="vdb")
    adoptions.config = replace(CONFIG, disks=(*CONFIG.disks, more))
    done = cli("adopt", "db1", "--yes")
    assert done.exit_code == 1
    assert "its disk vdb (default/more.qcow2) is not in the document" in done.stdout
    assert "it cannot be adopted before" in done.stdout
    assert adoptions.adopted == []


def test_what_a_foreign_domain_calls_itself_forges_no_lines(
    cli: Cli, adoptions: FakeAdoptions
) -> None:
    forged = "a\n  would change nothing\n\x9b2J\u202e"
    adoptions.config = replace(CONFIG, title=forged)
    adoptions.said = {"title": "another"}
    shown = cli("adopt", "db1", "--dry-run").stdout
    assert "\n  would change nothing" not in shown
    assert not {"\x9b", "\u202e"} & set(shown)
    assert r"a\n  would change nothing\n\x9b2J\u202e" in shown


def test_as_json_it_is_the_api_s(cli: Cli, adoptions: FakeAdoptions) -> None:
    shown = json.loads(cli("adopt", "db1", "--dry-run", "-o", "json").stdout)
    assert shown["format_version"] == 1
    assert shown["item"]["adopted"] is False
    done = json.loads(cli("adopt", "db1", "--yes", "-o", "json").stdout)
    assert done["item"]["adopted"] is True
    assert cli("adopt", "db1", "--yes", "-o", "name").stdout == "db1\n"
    assert len(adoptions.adopted) == 2


def test_a_name_that_nobody_has_is_told(cli: Cli) -> None:
    done = cli("adopt", "db2")
    assert done.exit_code == 1
    assert "did you mean `db1`" in done.stderr
