"""Documents that go, from real directories, with the whole house over libvirt's test driver.

Whatever happens to the directory, a data disk is there afterwards.
"""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pytest

from controller.daemon import house as house_module
from controller.daemon.house import House
from controller.errors import GuestkeeperError, PermanentError
from controller.hypervisor.hypervisor import Hypervisor
from controller.loop.status import GuestStatus
from controller.observed.domain import DomainState, DomainView, GuestRecord
from controller.operator.guests import GuestRequests
from controller.planning.conditions import ConditionType
from controller.settings import Settings
from tests.libvirt.looks import domain_of
from tests.libvirt.nodes import node
from tests.waiting import wait_until

pytestmark = pytest.mark.libvirt
NODE = node()
IMAGE = """\
apiVersion: guestkeeper/v1alpha1
kind: Image
metadata: {name: tiny}
spec: {osFamily: debian, source: {file: tiny.raw}}
"""
HOST, POOL = "a", "gk"
GRACE = 600.0
LONG = 30 * 86400.0


def document(name: str, policy: str = "Delete", memory: str = "64Mi") -> str:
    return (
        "apiVersion: guestkeeper/v1alpha1\nkind: Guest\n"
        f"metadata: {{name: {name}}}\n"
        f"spec: {{host: {HOST}, image: tiny, memory: {{size: {memory}}}, deletionPolicy: {policy},"
        " disks: [{name: data, size: 1Mi}]}\n"
    )


class Site:
    """A directory, a host, and one daemon after the other."""

    def __init__(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        self.settings = settings
        self.root = settings.desired_dir
        self.ahead = 0.0
        self.wrong = 0.0  # how far the clock that people set is off
        self.house: House | None = None
        self.hypervisor: Hypervisor | None = None
        monkeypatch.setattr(house_module, "Hypervisor", self._connect)
        self.write("image", IMAGE)

    def _connect(self, hosts: Any, **_: Any) -> Hypervisor:
        """The test driver forgets everything with its connection: a new daemon takes the old."""
        if self.hypervisor is None:
            self.hypervisor = Hypervisor(
                hosts,
                on_event=lambda *event: self.at_work.triggers.on_event(*event),
                on_host=lambda *event: self.at_work._on_host(*event),
            )
        return self.hypervisor

    @property
    def at_work(self) -> House:
        assert self.house is not None
        return self.house

    @property
    def libvirt(self) -> Hypervisor:
        assert self.hypervisor is not None
        return self.hypervisor

    def now(self) -> float:
        return time.time() + self.ahead + self.wrong

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead

    # --- The daemon -------------------------------------------------------------------------------

    def start(self, passes: int = 99) -> None:
        first = self.hypervisor is None
        house = self.house = House(self.settings, journal=":memory:")
        house.reconciler._clock = self.now
        house.catalog._monotonic = house.fleets._clock = self.monotonic
        self.passes(passes)
        if first:
            house.open()
        else:
            house._on_host(HOST, True, "")
        house.workers.start()
        self.idle()

    def stop(self) -> None:
        """As far as a daemon ends that leaves its connection to the next."""
        house = self.at_work
        assert house.workers.stop(10)
        assert house.operations.stop(10)
        house.prober.stop()

    def restart(self) -> None:
        self.stop()
        self.start()

    def close(self) -> None:
        if self.house is not None:
            self.house.close()

    def requests(self) -> GuestRequests:
        house = self.at_work

        def believe(names: Collection[str]) -> None:
            house.on_scan(house.catalog.scan())
            house.catalog.approve_missing(names)
            house.on_scan(house.catalog.scan())

        return GuestRequests(
            statuses=house.status,
            snapshot=lambda: house.catalog.snapshot,
            believe=believe,
            domain=house.hypervisor.domain,
            record=house.executor.record,
            fleet=house.fleets,
            policy=house.policy,
            journal=house.journal,
            queue=house.queue.add,
            queue_all=house.triggers.all,
            clock=self.now,
        )

    def scan(self) -> None:
        self.passes()
        self.look()

    def passes(self, most: int = 99, *, tell: bool = True) -> None:
        """As often as the watcher would, until what is missing is known."""
        house = self.at_work
        for _ in range(most):
            result = house.catalog.scan()
            if tell:
                house.on_scan(result)
            if not result.again:
                return
            self.ahead += 0.5

    def look(self) -> None:
        """What a resync does: everything is looked at, until nothing is left to do."""
        self.at_work.triggers.all()
        for name in self.libvirt.owned(HOST):
            self.at_work.queue.add(name)
        self.idle()

    def later(self, seconds: float) -> None:
        self.ahead += seconds
        self.look()

    def idle(self) -> None:
        def quiet() -> bool:
            stats = self.at_work.queue.stats()
            return stats.depth == 0 and stats.unfinished_seconds == 0.0

        wait_until(quiet, 20, "nothing is in work")

    # --- The directory ----------------------------------------------------------------------------

    def write(self, name: str, text: str) -> None:
        (self.root / f"{name}.yaml").write_text(text)

    def remove(self, *names: str) -> None:
        for name in names:
            (self.root / f"{name}.yaml").unlink()

    def empty(self) -> None:
        for path in self.root.iterdir():
            path.unlink()

    # --- The world --------------------------------------------------------------------------------

    def runs(self, *names: str) -> None:
        for name in names:
            wait_until(lambda: self._settled(name), 20, f"{name} runs")  # noqa: B023
        self.idle()

    def _settled(self, name: str) -> GuestStatus | None:
        status = self.at_work.status.get(name)
        return status if status is not None and status.plan.settled else None

    def has(self, name: str, policy: str = "Delete") -> None:
        self.write(name, document(name, policy))

    def domain(self, name: str) -> DomainView | None:
        return domain_of(self.libvirt, HOST, name)

    def record(self, name: str) -> GuestRecord:
        domain = self.domain(name)
        assert domain is not None
        assert domain.ownership is not None
        return domain.ownership.record

    def told(self, name: str) -> tuple[str, str]:
        """The condition Orphaned."""
        status = self.at_work.status.get(name)
        assert status is not None
        found = status.plan.condition(ConditionType.ORPHANED)
        return (found.status.value, found.reason) if found is not None else ("", "")

    def said(self, name: str) -> str:
        """All that its conditions and its document's problems say."""
        status = self.at_work.status.get(name)
        assert status is not None
        problems = self.at_work.catalog.snapshot.document_problems(name)
        told = [condition.message for condition in status.plan.conditions]
        return " ".join((*told, *(problem.message for problem in problems)))

    def volumes(self, name: str) -> set[str]:
        """By the disk they were made for."""
        there = self.libvirt.volumes(HOST, POOL)
        return {
            one.name.rpartition("-")[2].removesuffix(".qcow2")
            for one in there
            if one.name.startswith(f"{name}-")
        }

    def blocked(self) -> int:
        return len(self.at_work.fleets.deletions_blocked())

    def untouched(self, *names: str) -> None:
        for name in names:
            domain = self.domain(name)
            assert domain is not None, f"{name} is gone"
            assert domain.state is DomainState.RUNNING
            assert self.volumes(name) == {"system", "data"}

    def gone(self, *names: str) -> None:
        for name in names:
            wait_until(lambda: self.domain(name) is None, 20, f"{name} is gone")  # noqa: B023
        self.idle()
        for name in names:
            assert self.volumes(name) == {"data"}
            assert self.at_work.status.get(name) is None


@pytest.fixture
def make_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Site]]:
    sites: list[Site] = []

    def make(desired: Path | None = None, **fields: Any) -> Site:
        for name in ("desired", "images", "state", "cache"):
            (tmp_path / name).mkdir()
        (tmp_path / "node.xml").write_text(NODE)
        (tmp_path / "images" / "tiny.raw").write_bytes(b"\1" * 2**20)
        settings = Settings.model_validate(
            {
                "desired_dir": desired or tmp_path / "desired",
                "state_dir": tmp_path / "state",
                "cache_dir": tmp_path / "cache",
                "images_dir": tmp_path / "images",
                "socket": tmp_path / "gk.sock",
                "listen": "",
                "identity": "test",
                "prune_grace_seconds": GRACE,
                "hosts": {
                    HOST: {
                        "uri": f"test://{tmp_path}/node.xml",
                        "pool": POOL,
                        "pools": {POOL: "/gk"},
                    }
                },
                **fields,
            }
        )
        sites.append(Site(settings, monkeypatch))
        return sites[-1]

    yield make
    for site in sites:
        site.close()


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    return make_site()


class _Before:
    """The documents, to a worker that read them when there was none of ``one``."""

    def __init__(self, desired: Any) -> None:
        self.problems = desired.problems

    def guest(self, name: str) -> tuple[None, bool]:
        return None, False


def with_guests(site: Site, *names: str, policy: str = "Delete") -> None:
    for name in names:
        site.has(name, policy)
    site.start()
    site.runs(*names)


# --- One document ---------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["Retain", "Stop", "Delete"])
def test_a_removed_document_does_what_its_policy_says_and_not_before_its_grace_is_over(
    site: Site, policy: str
) -> None:
    site.has("keep", "Delete")
    with_guests(site, "one", policy=policy)
    site.runs("keep")
    site.remove("one")
    site.scan()
    assert site.told("one") == ("True", "DocumentVanished")
    assert site.record("one").orphaned_since is not None
    site.later(GRACE - 30)
    site.untouched("one", "keep")
    site.later(60)
    site.untouched("keep")
    if policy == "Delete":
        site.gone("one")
        return
    domain = site.domain("one")
    assert domain is not None
    assert domain.state is (DomainState.RUNNING if policy == "Retain" else DomainState.SHUTOFF)
    assert site.volumes("one") == {"system", "data"}
    site.later(LONG)
    after = site.domain("one")
    assert after is not None
    assert after.state is domain.state
    assert site.blocked() == 0


def test_the_policy_is_the_last_that_the_document_had(site: Site) -> None:
    with_guests(site, "one", policy="Delete")
    site.has("one", "Retain")
    site.scan()
    site.remove("one")
    site.scan()
    site.later(LONG)
    site.untouched("one")


def test_a_document_that_comes_back_in_time_changes_nothing(site: Site) -> None:
    with_guests(site, "one")
    domain = site.domain("one")
    site.remove("one")
    site.scan()
    site.later(GRACE - 30)
    site.has("one")
    site.scan()
    site.later(LONG)
    site.untouched("one")
    again = site.domain("one")
    assert again is not None
    assert domain is not None
    assert again.run == domain.run, "it was not even restarted"
    assert site.record("one").orphaned_since is None
    site.remove("one")
    site.scan()
    site.later(GRACE - 30)
    site.untouched("one")  # its grace began anew


def test_a_deleted_guest_that_comes_back_finds_its_data_disk(site: Site) -> None:
    with_guests(site, "one")
    before = site.domain("one")
    site.remove("one")
    site.scan()
    site.later(GRACE + 1)
    site.gone("one")
    site.has("one")
    site.scan()
    site.runs("one")
    site.untouched("one")
    after = site.domain("one")
    assert before is not None
    assert after is not None
    assert after.uuid == before.uuid
    assert {d.volume for d in after.config.disks} == {d.volume for d in before.config.disks}


def test_a_deletion_that_was_cut_off_is_finished_before_the_guest_is_made_anew(site: Site) -> None:
    with_guests(site, "one")
    site.at_work.executor.record(HOST, "one", deleting=True)
    site.look()
    wait_until(lambda: not site.record("one").deleting, 20, "it is a new domain",
               ignoring=(AssertionError, GuestkeeperError))  # fmt: skip
    site.runs("one")
    site.untouched("one")
    events = [event.reason for event in site.at_work.journal.events("one")]
    assert events.index("VolumeDeleted") < events.index("DomainUndefined")


def test_a_renamed_file_and_a_moved_document_are_nothing(site: Site) -> None:
    with_guests(site, "one", "two")
    domains = [site.domain("one"), site.domain("two")]
    (site.root / "one.yaml").rename(site.root / "other.yaml")
    site.write("all", document("two") + "---\n" + (site.root / "other.yaml").read_text())
    site.remove("two", "other")
    site.scan()
    site.later(LONG)
    site.untouched("one", "two")
    assert [site.domain("one"), site.domain("two")] == domains


# --- Many -----------------------------------------------------------------------------------------


def test_of_many_nothing_goes_until_an_operator_approves_it(site: Site) -> None:
    with_guests(site, "one", "two", "three")
    site.remove("one", "two", "three")
    site.scan()
    site.later(LONG)
    site.untouched("one", "two", "three")
    assert site.told("two") == ("True", "DeletionBlocked")
    assert site.blocked() == 3
    assert b"guestkeeper_deletions_blocked 3.0" in site.at_work.metrics.render()[0]
    told = site.requests().approve_deletions([])
    assert set(told) == {"one", "two", "three"}
    site.gone("one", "two", "three")
    wait_until(lambda: site.blocked() == 0, 10, "nobody waits any more")


def test_one_alone_may_be_approved_and_one_that_comes_back_is_kept(site: Site) -> None:
    with_guests(site, "one", "two", "three")
    site.remove("one", "two", "three")
    site.scan()
    site.later(GRACE + 1)
    site.requests().approve_deletions(["two"])
    site.gone("two")
    site.untouched("one", "three")
    site.has("three")
    site.scan()
    site.later(LONG)
    site.untouched("one", "three")  # it is the only one now, but was one of too many
    assert site.told("one") == ("True", "DeletionBlocked")
    assert site.blocked() == 1
    site.requests().approve_deletions(["one"])
    site.gone("one")
    site.untouched("three")
    assert not site.record("three").deletion_blocked


@pytest.mark.parametrize("how", ["suspended", "restarted"])
def test_one_of_too_many_stays_held_whatever_becomes_of_the_others(site: Site, how: str) -> None:
    with_guests(site, "one", "two")
    site.remove("one", "two")
    site.scan()
    site.later(GRACE + 1)
    if how == "suspended":
        site.at_work.executor.record(HOST, "two", suspended=True)
    else:
        site.libvirt.destroy(HOST, "two")
        site.libvirt.undefine(HOST, "two")
        site.restart()
    site.look()
    site.later(LONG)
    site.untouched("one")
    assert site.told("one") == ("True", "DeletionBlocked")


def test_a_document_that_came_back_is_seen_by_who_still_thinks_it_gone(site: Site) -> None:
    with_guests(site, "one")
    site.remove("one")
    site.scan()
    site.later(GRACE - 30)
    site.stop()
    site.ahead += 60
    site.has("one")
    site.at_work.catalog.scan()  # the worker below took its turn before that
    house = site.at_work
    house.reconciler._desired = _Before(house.reconciler._desired)
    house.reconciler.reconcile("one")
    site.untouched("one")


def test_a_larger_limit_lets_more_go(make_site: Callable[..., Site]) -> None:
    site = make_site(max_deletions=2)
    with_guests(site, "one", "two")
    site.remove("one", "two")
    site.scan()
    site.later(GRACE + 1)
    site.gone("one", "two")


# --- A directory that cannot be believed ----------------------------------------------------------


def test_an_emptied_directory_waits_for_an_operator(site: Site) -> None:
    with_guests(site, "one", "two")
    site.empty()
    site.scan()
    site.later(LONG)
    site.untouched("one", "two")
    assert site.blocked() == 2
    site.restart()
    site.later(LONG)
    site.untouched("one", "two")
    assert site.told("one") == ("Unknown", "DirectoryUncertain")
    site.requests().approve_deletions([])
    site.look()
    site.untouched("one", "two")  # its grace begins with the operator's word
    site.later(GRACE + 1)
    site.gone("one", "two")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_an_unmounted_directory_deletes_nothing_and_is_not_approved(site: Site) -> None:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "mode=0755", "none", str(site.root)], check=False
    )
    if mounted.returncode:
        pytest.skip("nothing may be mounted here")
    try:
        site.write("image", IMAGE)
        with_guests(site, "one")
        texts = {path.name: path.read_text() for path in site.root.iterdir()}
    finally:
        subprocess.run(["umount", str(site.root)], check=True)
    (site.root / "image.yaml").unlink()  # what is below the mount is an empty directory
    site.scan()
    site.later(LONG)
    site.untouched("one")
    with pytest.raises(GuestkeeperError):
        site.requests().approve_deletions([])
    with pytest.raises(PermanentError, match="another file system"):
        site.at_work.catalog.approve_missing()
    for name, text in texts.items():
        (site.root / name).write_text(text)
    site.scan()
    site.untouched("one")
    assert site.at_work.catalog.snapshot.uncertain == ""


def test_a_directory_that_is_not_there_deletes_nothing(site: Site) -> None:
    with_guests(site, "one")
    away = site.root.with_name("away")
    site.root.rename(away)
    site.scan()
    site.later(LONG)
    site.restart()
    site.later(LONG)
    site.untouched("one")
    with pytest.raises(PermanentError, match="not there"):
        site.at_work.catalog.approve_missing()
    away.rename(site.root)
    site.scan()
    site.runs("one")
    site.untouched("one")


def break_by(how: str, path: Path) -> None:
    if how == "chmod":
        path.chmod(0o666)
    elif how == "chown":
        os.chown(path, 12345, 12345)
    elif how == "syntax":
        path.write_text("kind: [")
    else:
        path.write_text(path.read_text().replace("64Mi", "64MB"))


@pytest.mark.parametrize("how", ["chmod", "chown", "syntax", "value"])
def test_a_file_that_cannot_be_used_keeps_its_guest_and_every_other(site: Site, how: str) -> None:
    if how == "chown" and os.geteuid() != 0:
        pytest.skip("giving files away needs root")
    with_guests(site, "one", "two")
    text = (site.root / "two.yaml").read_text()
    break_by(how, site.root / "two.yaml")
    site.remove("one")
    site.scan()
    site.later(LONG)
    site.untouched("one", "two")
    site.restart()  # a daemon that never saw either of them
    site.later(LONG)
    site.untouched("one", "two")
    assert site.told("one") == ("Unknown", "DirectoryUncertain")
    site.remove("two")
    site.write("two", text)
    site.scan()
    assert site.told("one") == ("True", "DocumentVanished")
    site.later(GRACE + 1)
    site.gone("one")
    site.untouched("two")


@pytest.mark.skipif(os.geteuid() != 0, reason="root reads whatever its mode is: another user looks")
def test_a_file_turned_unreadable_keeps_its_guest(make_site: Callable[..., Site]) -> None:
    desired = Path(tempfile.mkdtemp())  # where everybody can get to
    desired.chmod(0o755)
    try:
        site = make_site(desired)
        with_guests(site, "one", "two")
        (desired / "one.yaml").chmod(0)
        os.seteuid(65534)
        try:
            result = site.at_work.catalog.scan()
        finally:
            os.seteuid(0)
        assert "may not be read" in result.snapshot.uncertain
        site.at_work.on_scan(result)
        site.later(LONG)
        site.untouched("one", "two")
        site.scan()
        site.untouched("one", "two")
    finally:
        shutil.rmtree(desired)


# --- Places below it that are lost ----------------------------------------------------------------


def in_team(site: Site, *names: str) -> Path:
    """A site with the guests ``names`` whose documents are in a sub-directory, and two others."""
    team = site.root / "team"
    team.mkdir()
    for name in names:
        (team / f"{name}.yaml").write_text(document(name))
    with_guests(site, "keep", "keep2")
    site.runs(*names)
    return team


def vanished(team: Path) -> None:
    shutil.rmtree(team)


def emptied(team: Path) -> None:
    for path in team.iterdir():
        path.unlink()


def truncated(team: Path) -> None:
    for path in team.iterdir():
        path.write_bytes(b"")


def no_directory(team: Path) -> None:
    shutil.rmtree(team)
    os.mkfifo(team)


@pytest.mark.parametrize("lose", [vanished, emptied, truncated, no_directory])
def test_a_lost_place_ends_no_guest_until_an_operator_approves_it(
    site: Site, lose: Callable[[Path], None]
) -> None:
    team = in_team(site, "one")
    lose(team)
    site.scan()
    site.later(LONG)
    site.untouched("one", "keep")
    assert "guestkeeper approve --deletions" in site.said("one")
    site.restart()  # a daemon that never saw it
    site.later(LONG)
    site.untouched("one", "keep")
    assert site.told("one") == ("Unknown", "DirectoryUncertain")
    assert "guestkeeper approve --deletions" in site.said("one")
    assert site.blocked() == 1
    assert set(site.requests().approve_deletions([])) == {"one"}
    site.look()
    site.untouched("one")  # its grace begins with the operator's word
    site.later(GRACE + 1)
    site.gone("one")
    site.untouched("keep", "keep2")
    assert site.blocked() == 0


def test_of_a_lost_place_only_the_guest_that_was_named_goes(
    make_site: Callable[..., Site],
) -> None:
    site = make_site(max_deletions=9)
    team = in_team(site, "one", "two")
    vanished(team)
    site.remove("keep2")  # in the same moment
    site.scan()
    site.later(LONG)
    site.untouched("one", "two", "keep", "keep2")
    assert site.blocked() == 2
    assert list(site.requests().approve_deletions(["two"])) == ["two"]
    site.passes()
    site.later(GRACE + 1)
    site.gone("two")
    site.later(LONG)
    site.restart()
    site.later(LONG)
    site.untouched("one", "keep", "keep2")
    team.mkdir()
    (team / "one.yaml").write_text(document("one"))
    site.scan()
    site.later(GRACE + 1)
    site.gone("keep2")
    site.untouched("one", "keep")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
@pytest.mark.parametrize("daemon", ["same", "next"])
def test_an_unmounted_sub_directory_deletes_nothing(site: Site, daemon: str) -> None:
    team = site.root / "team"
    team.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "mode=0755", "none", str(team)], check=False
    )
    if mounted.returncode:
        pytest.skip("nothing may be mounted here")
    try:
        (team / "one.yaml").write_text(document("one"))
        with_guests(site, "keep")
        site.runs("one")
    finally:
        subprocess.run(["umount", str(team)], check=True)
    if daemon == "next":
        site.restart()
    site.scan()
    site.later(LONG)
    site.untouched("one", "keep")
    (team / "one.yaml").write_text(document("one"))
    site.scan()
    site.later(LONG)
    site.untouched("one", "keep")


def test_without_any_grace_a_rename_that_one_listing_missed_ends_nobody(
    make_site: Callable[..., Site],
) -> None:
    site = make_site(prune_grace_seconds=0)
    with_guests(site, "one", "keep")
    made = site.domain("one")
    assert made is not None
    assert made.ownership is not None

    def is_the_same() -> None:
        now = site.domain("one")
        assert now is not None
        assert now.ownership is not None
        assert (now.run, now.ownership.created) == (made.run, made.ownership.created)
        site.untouched("one", "keep")

    here, there = site.root / "one.yaml", site.root / ".one"
    here.rename(there)
    site.at_work.on_scan(site.at_work.catalog.scan())
    site.look()
    there.rename(here)
    site.scan()
    is_the_same()
    here.rename(there)
    site.stop()
    site.at_work.on_scan(site.at_work.catalog.scan())
    site.house = None
    site.start(passes=1)  # what the next daemon sees first
    site.look()
    there.rename(here)
    site.scan()
    is_the_same()
    here.unlink()
    site.scan()
    site.gone("one")
    site.untouched("keep")


# --- A checkout -----------------------------------------------------------------------------------


def git(root: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=m"]
    subprocess.run(["git", "-C", str(root), *identity, *arguments], check=True, capture_output=True)


def commit(site: Site, *names: str) -> None:
    for name in names:
        site.has(name)
    git(site.root, "add", "-A")
    git(site.root, "commit", "-m", " ".join(names))


def test_an_older_commit_lets_one_guest_go_and_holds_several(site: Site) -> None:
    git(site.root, "init")
    commit(site, "one")
    commit(site, "two")
    commit(site, "three", "four")
    site.start()
    site.runs("one", "two", "three", "four")
    git(site.root, "checkout", "HEAD~1")
    site.scan()
    site.later(LONG)
    site.untouched("one", "two", "three", "four")
    assert site.told("three") == ("True", "DeletionBlocked")
    git(site.root, "checkout", "m")
    site.scan()
    site.later(LONG)
    site.untouched("one", "two", "three", "four")
    assert site.record("three").orphaned_since is None
    git(site.root, "checkout", "HEAD~1")
    site.scan()
    site.requests().approve_deletions([])
    site.later(GRACE + 1)
    site.gone("three", "four")
    git(site.root, "checkout", "HEAD~1")
    site.scan()
    site.untouched("one", "two")
    site.later(GRACE + 1)
    site.gone("two")
    site.untouched("one")


# --- A restart ------------------------------------------------------------------------------------


def test_the_grace_begins_anew_with_the_daemon(site: Site) -> None:
    """What became of the document while it was off is not known."""
    site.has("keep")
    with_guests(site, "one")
    site.remove("one")
    site.scan()
    site.later(GRACE - 30)
    site.stop()
    site.ahead += LONG
    site.start()
    site.look()
    site.later(GRACE - 30)
    site.untouched("one", "keep")
    assert site.told("one") == ("True", "DocumentVanished")
    site.later(60)
    site.gone("one")


def test_a_clock_that_jumps_takes_nothing_from_the_grace(site: Site) -> None:
    site.has("keep")
    with_guests(site, "one")
    site.remove("one")
    site.scan()
    site.wrong = LONG
    site.look()
    site.later(GRACE - 30)
    site.untouched("one", "keep")
    site.later(60)
    site.gone("one")


def test_an_absence_that_was_over_unnoticed_takes_nothing_from_the_next_grace(site: Site) -> None:
    site.has("keep")
    with_guests(site, "one")
    site.remove("one")
    site.scan()
    site.stop()
    site.has("one")
    site.at_work.catalog.scan()  # nobody looked at its domain then: its host was lost, say
    site.ahead += LONG
    site.remove("one")
    site.passes(tell=False)
    house = site.at_work
    house.reconciler.reconcile("one")
    assert site.record("one").orphaned_since is not None
    site.untouched("one")
    site.ahead += GRACE - 30
    house.reconciler.reconcile("one")
    site.untouched("one")


def test_the_milder_of_what_the_domain_knows_and_its_last_document_counts(site: Site) -> None:
    site.has("keep")
    with_guests(site, "one", policy="Retain")
    site.at_work.executor.record(HOST, "one", deletion_policy="Delete")
    site.remove("one")
    site.scan()
    site.later(LONG)
    site.untouched("one")


# --- Cut off --------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["gone", "broken", "gone for good"])
def test_what_the_daemon_took_down_runs_again_without_its_document(site: Site, how: str) -> None:
    site.has("keep")
    with_guests(site, "one", policy="Delete" if how == "gone for good" else "Retain")
    run = site.domain("one")
    assert run is not None
    site.stop()
    at = site.now()
    site.at_work.executor.record(
        HOST, "one", stop_for="restart", shutdown_requested=at, stop_run=run.run
    )
    site.libvirt.destroy(HOST, "one")
    if how == "broken":
        site.write("one", "kind: [")
    else:
        site.remove("one")
    site.start()
    site.look()
    site.untouched("one")
    assert site.record("one").stop_for == ""
    site.libvirt.destroy(HOST, "one")
    site.look()
    off = site.domain("one")
    assert off is not None
    assert off.state is DomainState.SHUTOFF, "who turns it off now wants that"


def test_documents_that_went_while_the_daemon_was_off_are_counted_too(site: Site) -> None:
    site.has("keep")
    with_guests(site, "one", "two")
    site.stop()
    site.remove("one", "two")
    site.start()
    site.look()
    site.later(LONG)
    site.untouched("one", "two", "keep")
    assert site.told("one") == ("True", "DeletionBlocked")


def test_a_suspended_fleet_loses_nobody(site: Site) -> None:
    site.has("keep")
    with_guests(site, "one")
    site.at_work.fleets.suspend_all()
    site.remove("one")
    site.scan()
    site.later(LONG)
    site.restart()
    site.later(LONG)
    site.untouched("one")
    site.at_work.fleets.resume_all()
    site.later(GRACE + 1)
    site.later(GRACE + 1)
    site.gone("one")
