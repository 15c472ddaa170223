"""Unattended installs: whatever is killed, there is one good base in the end, or a told failure."""

import gzip
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from controller.desired.effective import EffectiveImage
from controller.desired.schema.model import SecretRef
from controller.errors import GuestkeeperError, PermanentError, TransientError
from controller.images.install.build import Build, StalledError
from controller.images.install.builder_resources import Tools, log_path
from controller.images.install.installer_source import Locations
from controller.images.install.log import BuildLog
from controller.images.pool.base_volumes import Volumes
from controller.images.progress import Phase
from controller.observed.build import BuildRecord, Step, is_builder_name
from controller.observed.domain import StateReason
from tests.factories import an_install_image
from tests.unit.images.builders import GOOD, Builders
from tests.unit.images.fake_pool import KilledError, qcow2_header
from tests.waiting import wait_until

HASH = "$6$salt$abcdefghijklmnopqrstuvwxyz./0123456789"
IMAGE = an_install_image()


class Keyring:
    """Secrets by file name."""

    def __init__(self) -> None:
        self.values = {"/root.hash": HASH, "/admin.pub": "ssh-ed25519 AAAA admin"}

    def read(self, ref: SecretRef) -> str:
        return self.values[ref.file or ""]


class Watching:
    """Notes what a build tells."""

    def __init__(self) -> None:
        self.told: list[tuple[Phase, str]] = []
        self.failed: list[BuildRecord] = []
        self.built_in: list[float] = []

    def built(self, seconds: float) -> None:
        self.built_in.append(seconds)

    def working(self, phase: Phase, done: int, total: int | None, detail: str) -> None:
        self.told.append((phase, detail))

    def attempt_failed(self, record: BuildRecord) -> None:
        self.failed.append(record)


class Background:
    """A build that runs in a thread of its own."""

    def __init__(self, build: Build) -> None:
        self.build = build
        self.error: GuestkeeperError | None = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.build.run()
        except GuestkeeperError as error:
            self.error = error

    def reason(self) -> str:
        """Waits for its end."""
        self.thread.join(60)
        assert not self.thread.is_alive()
        return self.error.reason if self.error is not None else ""


class World:
    """A host, and a daemon that can be started anew. A thousand seconds pass in one."""

    def __init__(self, root: Path, *scripts: tuple[str, ...]) -> None:
        self.root = root
        images = root / "images"
        images.mkdir()
        (images / "vmlinuz").write_bytes(b"kernel")
        (images / "initrd").write_bytes(b"initrd!")
        self.host = Builders(*scripts)
        self.secrets = Keyring()
        self.stop = threading.Event()
        self.watching = Watching()
        self.host.on_idle = self.passed
        self.jumped = 0.0
        """How far the clock was set forward."""
        self.hurry = False
        """Does the time of a builder whose script is over fly? Of one at work it stands still, so
        that nothing here depends on how fast the machine is."""
        self.babbles = False
        """Does the installer say something all the time?"""
        self._passed = 0.0
        self._looked = time.monotonic()
        self._lock = threading.Lock()

    def passed(self) -> float:
        """Seconds of the world's own time."""
        with self._lock:
            now = time.monotonic()
            self._passed += (now - self._looked) * self._pace()
            self._looked = now
            return self._passed

    def _pace(self) -> int:
        if any(thread.is_alive() for thread in self.host.threads):
            return 0
        if not any(domain.state.active for domain in self.host.domains.values()):
            return 1
        if self.babbles:
            consoles = [one for (_, port), one in self.host.ports.items() if port == "console"]
            if any(one.out for one in consoles):
                return 0
            for one in consoles:
                one.say(".\n")
        return 1000 if self.hurry else 1

    def clock(self) -> float:
        return 1_800_000_000.0 + self.jumped + self.passed()

    def wait(self, seconds: float) -> bool:
        """Whoever waits for nobody has waited at once."""
        with self._lock:
            if not any(thread.is_alive() for thread in self.host.threads):
                self._passed += min(seconds, 60)
        return self.stop.wait(min(seconds, 60) / 1000)

    def check_stop(self) -> None:
        if self.stop.is_set():
            raise TransientError("stopping", reason="Stopping")

    def build(
        self, image: EffectiveImage = IMAGE, turn: threading.Semaphore | None = None
    ) -> Build:
        locations = Locations(
            self.host,
            self.root / "images",
            self.root / "cache",
            stop=self.stop,
            check_stop=self.check_stop,
        )
        tools = Tools(
            builders=self.host,
            locations=locations,
            volumes=Volumes(self.host),
            secrets=self.secrets,
            owner="this daemon",
            log_dir=self.root / "builds",
            clock=self.clock,
            monotonic=self.passed,
            wait=self.wait,
            check_stop=self.check_stop,
        )
        made = Build(
            tools, "local", "default", image, turn or threading.Semaphore(1), self.watching
        )
        self.host.on_event = lambda _: made.knock()
        return made

    def run(self, image: EffectiveImage = IMAGE) -> None:
        self.hurry = True
        self.build(image).run()

    def start(self, image: EffectiveImage = IMAGE) -> "Background":
        """In the background, where the test itself does something meanwhile: no time flies."""
        self.hurry = False
        return Background(self.build(image))

    def stalled(self, image: EffectiveImage = IMAGE) -> BuildRecord:
        with pytest.raises(StalledError) as caught:
            self.run(image)
        return caught.value.record

    def in_packages(self) -> bool:
        return any(one.record.phase == "packages" for one in self.host.domains.values())

    def bases(self) -> list[str]:
        """Volumes that are there, which have to be bases with their markers and nothing else."""
        names = set(self.host.contents)
        bases = {name for name in names if not name.endswith(".ok")}
        assert names == bases | {f"{name}.ok" for name in bases}, "something was left over"
        return sorted(bases)

    def log(self) -> str:
        return "".join(path.read_text() for path in (self.root / "builds").glob("*.log"))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.stop.set()
    for thread in made.host.threads:
        thread.join(60)


def test_an_install_ends_in_one_base_and_leaves_nothing_else(world: World) -> None:
    world.run()
    assert len(world.bases()) == 1
    assert world.bases()[0].startswith("gk-base-rocky9-")
    assert not world.host.domains
    assert len(world.host.starts) == 1


def test_the_builder_is_started_with_the_installer_and_defined_without(world: World) -> None:
    world.host.scripts = [("hang",)]
    ongoing = world.start()
    wait_until(lambda: bool(world.host.starts), 10, "the builder to start")
    (name, domain), *_ = world.host.domains.items()
    assert is_builder_name(name)
    assert domain.config.kernel == "" and domain.config.drives == ()
    started = world.host.starts[0]
    assert started.args.split()[:1] == ["inst.ks=file:/ks.cfg"]
    assert "inst.repo=http://127.0.0.1/repo" in started.args
    world.stop.set()
    assert ongoing.reason() == "Stopping"


def test_the_answer_file_is_behind_the_initrd_with_its_secrets(world: World) -> None:
    image = an_install_image(
        answer="rootpw --iscrypted @guestkeeper:root-password-hash@\npoweroff\n",
        kickstart={"rootPasswordHashFrom": {"file": "/root.hash"}},
    )
    world.run(image)
    kernel, initrd = world.host.started_kernel[0]
    assert kernel == b"kernel"
    assert initrd.startswith(b"initrd!\0")
    archive = gzip.decompress(initrd[8:])
    assert archive.startswith(b"070701") and b"ks.cfg\0" in archive
    assert f"rootpw --iscrypted {HASH}\n".encode() in archive


def test_a_plaintext_password_is_refused_and_stands_in_no_message(world: World) -> None:
    world.secrets.values["/root.hash"] = "hunter2"
    image = an_install_image(kickstart={"rootPasswordHashFrom": {"file": "/root.hash"}})
    with pytest.raises(PermanentError) as caught:
        world.run(image)
    assert caught.value.reason == "PasswordNotHashed"
    assert "hunter2" not in str(caught.value)
    assert "openssl passwd -6" in str(caught.value)
    assert not world.host.starts


def test_a_hash_that_the_installer_prints_is_in_no_log_and_no_message(world: World) -> None:
    world.host.scripts = [
        (f"log rootpw {HASH}", f"phase {HASH}", f"failure bad line: rootpw {HASH}", "poweroff")
    ]
    record = world.stalled(an_install_image(retries=0))
    assert HASH not in world.log()
    assert HASH not in record.message + record.failure + record.phase
    assert "[hash removed]" in world.log()


@pytest.mark.parametrize(
    ("script", "reason", "says"),
    [
        (("phase packages", "failure no package nginx", "poweroff"), "InstallFailed", "nginx"),
        (("phase packages", "poweroff"), "NoSuccessMarker", "packages"),
        (("success", "poweroff"), "NotSealed", "seal"),
        (("unsealed /etc/machine-id", "sealed", "success", "poweroff"), "NotSealed", "machine-id"),
        (("phase packages", "crash"), "BuilderCrashed", "QEMU"),
        (("phase packages", "destroyed"), "BuilderDestroyed", "somebody"),
        (("phase packages", "hang"), "InstallStalled", "said nothing"),
    ],
)
def test_every_bad_end_is_told_apart_and_tried_again_as_often_as_asked(
    world: World, script: tuple[str, ...], reason: str, says: str
) -> None:
    world.host.scripts = [script]
    record = world.stalled(an_install_image(retries=2, stallTimeout="200s"))
    assert record.reason == reason
    assert says in record.message
    assert record.attempt == 3
    assert len(world.host.starts) == 3
    assert [one.reason for one in world.watching.failed] == [reason] * 3
    assert world.bases() == [], "no disk of a failed attempt is left"
    assert len(world.host.domains) == 1, "the builder stays as the record of what happened"


def test_a_failed_attempt_followed_by_a_good_one_is_a_base(world: World) -> None:
    world.host.scripts = [("crash",), GOOD]
    world.run()
    assert len(world.bases()) == 1
    assert [one.reason for one in world.watching.failed] == ["BuilderCrashed"]


def test_an_installer_that_talks_is_not_stalled_but_may_take_too_long(world: World) -> None:
    world.host.scripts = [("hang",)]
    image = an_install_image(retries=0, timeout="6000s", stallTimeout="5900s")
    world.babbles = True
    assert world.stalled(image).reason == "InstallTimedOut"


def test_a_daemon_started_anew_does_not_try_again_what_was_given_up(world: World) -> None:
    world.host.scripts = [("poweroff",)]
    image = an_install_image(retries=0)
    assert world.stalled(image).reason == "NoSuccessMarker"
    assert world.stalled(image).reason == "NoSuccessMarker"
    assert len(world.host.starts) == 1


def test_the_last_failed_builder_and_its_disk_are_kept_where_asked_for(world: World) -> None:
    world.host.scripts = [("failure x", "hang")]
    record = world.stalled(an_install_image(retries=0, keepFailedBuilder=True))
    (domain,) = world.host.domains.values()
    assert domain.state.active
    assert record.base in world.host.contents


def test_a_builder_of_an_older_content_is_removed_and_its_base_is_not(world: World) -> None:
    world.run()
    old = world.bases()
    world.host.scripts = [GOOD, ("failure x", "poweroff"), GOOD]
    newer = an_install_image(answer="# newer\npoweroff\n", retries=0)
    world.stalled(newer)
    newest = an_install_image(answer="# newest\npoweroff\n")
    world.run(newest)
    assert not world.host.domains
    assert len(world.bases()) == 2
    assert set(old) < set(world.bases())


def test_a_lost_host_is_waited_for_and_nothing_is_decided_meanwhile(world: World) -> None:
    world.host.scripts = [("phase packages", "hang")]
    image = an_install_image(retries=0, stallTimeout="100000s", timeout="900000s")
    ongoing = world.start(image)
    wait_until(world.in_packages, 10, "the installer to be at its packages")
    world.host.unreachable = True
    for one in list(world.host.ports.values()):
        with one.changed:
            one.reader = None
            one.changed.notify_all()
    looked = len(world.host.calls)
    world.hurry = True
    before = world.passed()
    wait_until(lambda: world.passed() > before + 200, 60, "two hundred seconds of its own time")
    assert len(world.host.calls) == looked
    world.host.unreachable = False
    wait_until(lambda: len(world.host.calls) > looked, 10, "the next look")
    (domain,) = world.host.domains.values()
    assert domain.record.step is Step.STARTED
    world.stop.set()
    assert ongoing.reason() == "Stopping"


def test_an_installer_is_answered_only_when_its_success_is_written_down(world: World) -> None:
    world.run()
    assert world.host.recorded_at_answer == [True]


def test_a_cancelled_build_ends_and_leaves_its_builder_to_the_next(world: World) -> None:
    world.host.scripts = [("phase packages", "hang")]
    ongoing = world.start()
    wait_until(lambda: bool(world.host.starts), 10, "the builder to start")
    ongoing.build.cancel()
    assert ongoing.reason() == "Superseded"
    assert world.host.domains


def test_killed_at_any_call_a_new_daemon_ends_with_one_good_base(tmp_path: Path) -> None:
    def lives(number: int, when: str) -> bool:
        """False when the build was over before the kill came."""
        root = tmp_path / f"{number}-{when}"
        root.mkdir()
        world = World(root)
        world.host.kill_at = (number, when)
        killed = False
        try:
            world.run()
        except KilledError:
            killed = True
            world.run(IMAGE)
        assert len(world.bases()) == 1, f"killed {when} call {number}"
        assert not world.host.domains, f"killed {when} call {number}"
        assert len(world.host.starts) <= 2
        return killed

    counts = dict.fromkeys(("before", "after"), 0)
    for when in counts:
        number = 0
        while lives(number, when):
            number += 1
        counts[when] = number
    assert min(counts.values()) > 20, counts


def test_killed_at_any_call_everything_in_the_pool_belongs_to_a_builder(tmp_path: Path) -> None:
    """So that a document removed meanwhile leaves no secret and no half disk behind."""
    number, killed = 0, True
    while killed:
        for when in ("before", "amid", "after"):
            root = tmp_path / f"{number}-{when}"
            root.mkdir()
            world = World(root)
            world.host.kill_at = (number, when)
            try:
                world.run()
                killed = when == "amid"  # not every call has something in its midst
            except KilledError:
                killed = True
            left = {name for name in world.host.contents if not name.endswith(".ok")}
            bases = {name for name in left if f"{name}.ok" in world.host.contents}
            owned = {
                volume
                for name, domain in world.host.domains.items()
                for volume in (
                    domain.record.base,
                    f"{name}-kernel",
                    f"{name}-initrd",
                    f"{name}-answer.iso",
                )
            }
            assert left <= bases | owned, f"killed {when} call {number}"
        number += 1
    assert number > 20


def test_qemu_killed_in_any_phase_ends_in_one_good_base(tmp_path: Path) -> None:
    for number in range(len(GOOD)):
        root = tmp_path / str(number)
        root.mkdir()
        world = World(root, (*GOOD[:number], "crash"), GOOD)
        world.run()
        assert len(world.bases()) == 1
        assert not world.host.domains


def test_a_marker_removed_by_hand_costs_no_base_that_guests_stand_on(world: World) -> None:
    world.run()
    (base,) = world.bases()
    world.host.contents[base] = precious = qcow2_header(1 << 20) + b"precious"
    del world.host.contents[f"{base}.ok"]
    world.host.contents["web1-system.qcow2"] = b""
    world.host.backings["web1-system.qcow2"] = f"/pool/{base}"
    world.run()
    assert world.host.contents[base] == precious
    assert f"{base}.ok" in world.host.contents
    assert len(world.host.starts) == 1


def test_a_marker_left_of_a_base_that_was_deleted_by_hand_blesses_no_other_disk(
    world: World,
) -> None:
    world.run()
    (base,) = world.bases()
    del world.host.contents[base]
    world.host.scripts = [GOOD, ("phase packages", "hang")]
    ongoing = world.start(an_install_image(retries=0, stallTimeout="200s"))
    world.hurry = True
    assert ongoing.reason() == "InstallStalled"
    assert world.bases() == []


def test_a_build_taken_up_while_it_runs_counts_as_one_that_runs(world: World) -> None:
    world.host.scripts = [("phase packages", "hang")]
    ongoing = world.start()
    wait_until(world.in_packages, 10, "the installer to be at its packages")
    world.stop.set()
    assert ongoing.reason() == "Stopping"
    world.stop.clear()
    turn = threading.Semaphore(1)
    again = Background(world.build(turn=turn))
    wait_until(lambda: not turn.acquire(blocking=False) or turn.release(), 10, "it has the turn")
    world.stop.set()
    assert again.reason() == "Stopping"


def test_a_clock_set_forward_is_no_silence_of_the_installer(world: World) -> None:
    world.host.scripts = [("phase packages", "hang")]
    ongoing = world.start(an_install_image(retries=0, stallTimeout="500s", timeout="900000s"))
    wait_until(world.in_packages, 10, "the installer to be at its packages")
    world.jumped = 2000.0
    (name,) = world.host.domains
    world.host.ports[name, "marker"].say("phase later\n")
    wait_until(
        lambda: any(one.record.phase == "later" for one in world.host.domains.values()),
        10,
        "it is heard after the jump",
    )
    world.stop.set()
    assert ongoing.reason() == "Stopping"


def test_media_are_gone_where_the_daemon_died_before_it_wrote_down_the_start(world: World) -> None:
    world.host.scripts = [("phase packages", "hang")]
    world.host.kill_before = "record started"
    with pytest.raises(KilledError):
        world.run()
    assert [name for name in world.host.contents if name.endswith("-initrd")]
    ongoing = world.start()
    wait_until(world.in_packages, 10, "the installer to be at its packages")
    assert not [name for name in world.host.contents if name.endswith(("-initrd", "-kernel"))]
    world.stop.set()
    assert ongoing.reason() == "Stopping"


@pytest.mark.parametrize(
    "written",
    [HASH, HASH.replace("$", "\\$"), HASH.replace("$", "%24"), "x" * 4090 + HASH],
    ids=["plain", "escaped", "encoded", "where a long line is cut"],
)
def test_a_hash_is_in_no_log_however_it_is_written(tmp_path: Path, written: str) -> None:
    log = BuildLog(tmp_path / "builds/x.log")
    log.add("console", written.encode())
    log.add("console", b" and more\n")
    log.close()
    assert HASH.rpartition("$")[2] not in (tmp_path / "builds/x.log").read_text()


def test_a_volume_deleted_under_the_installer_is_told(world: World) -> None:
    world.host.scripts = [("phase packages", "hang")]
    image = an_install_image(retries=0)
    ongoing = world.start(image)
    wait_until(world.in_packages, 10, "the installer to be at its packages")
    (name, domain), *_ = world.host.domains.items()
    with world.host.lock:
        del world.host.contents[domain.record.base]
        domain.record = replace(domain.record, sealed=True, succeeded=True)
    world.host.ports[name, "marker"].say("sealed\nsuccess\n")
    world.host.ports[name, "marker"].answered(5)
    world.host.stop(name, StateReason.SHUTDOWN)
    assert ongoing.reason() == "DiskVanished"


def test_a_builder_without_the_log_port_is_heard_on_its_console(world: World) -> None:
    world.host.absent = {"log"}
    world.run()
    assert "booting\n" in world.log()


def test_logs_of_contents_long_gone_are_deleted(world: World) -> None:
    for number in range(10):
        world.run(an_install_image(answer=f"# {number}\npoweroff\n"))
    logs = list((world.root / "builds").iterdir())
    assert 0 < len(logs) <= 7


def test_what_the_installer_said_is_in_its_log_with_a_heading(world: World) -> None:
    world.host.scripts = [("log Installing kernel", *GOOD)]
    world.run()
    assert "attempt 1 of 2: rocky9" in world.log()
    assert "Installing kernel\n" in world.log()
    assert "phase packages\n" in world.log()
    assert log_path(world.root / "builds", "local", "x").parent.stat().st_mode & 0o077 == 0
