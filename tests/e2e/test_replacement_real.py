"""System disks of real guests are replaced: by another image, back again, one after the other.

The guests' identity and data stay, a disk that does not work is taken out again by itself, and a
daemon that is killed at any point goes on where it was. ``STEADY`` and ``OTHER`` are two guests
that all tests share; ``OTHER`` gets a disk that is silent while the first tests run, since only its
deadline tells.
"""

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.e2e.life import SETTLED, Life, a_life
from tests.e2e.watching import Watch
from tests.micro import micro
from tests.waiting import wait_until

pytestmark = pytest.mark.e2e
DEADLINE = {"progressDeadline": "30s"}
"""Only for what never answers: on a busy machine a boot may take as long."""
SWAPPED = 120.0
"""Seconds that a replacement may take, on a busy machine under TCG, with all deadlines in it."""


@pytest.fixture(scope="module")
def life(prefix: str) -> Iterator[Life]:
    with a_life(prefix, images=("one", "two", "silent", "panic")) as made:
        yield made


@dataclass(frozen=True)
class Pair:
    """The two guests, and what the second one's users see from the beginning on."""

    steady: str
    other: str
    watch: Watch


@pytest.fixture(scope="module")
def pair(life: Life, prefix: str) -> Iterator[Pair]:
    steady, other = f"{prefix}a", f"{prefix}b"
    for name in (steady, other):
        life.write(name, life.spec(name))
    life.site.wait_ready(steady, other, timeout=90)
    for name in (steady, other):
        life.settled(name)
        life.inside(name, "echo precious >/data/kept; echo mine >/root/mark; sync")
    with Watch(life.site, other) as watch:
        life.read(other, life.specs[other] | {"image": "silent", "updatePolicy": DEADLINE})
        life.told(other, "Synced", "ReplaceRequired")
        approve(life, other)
        yield Pair(steady, other, watch)


def approve(life: Life, name: str) -> None:
    done = life.site.run("approve", name)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def measured(record_property: Callable[[str, object], None]) -> Callable[[str, float], None]:
    """Tells a downtime, in seconds: by pytest -s, and in its report; and that it is a sane one."""

    def tell(what: str, seconds: float) -> None:
        record_property(f"downtime of {what}", round(seconds, 2))
        print(f"{what}: {seconds:.1f} s without an answer")  # noqa: T201
        assert 0.5 < seconds < SWAPPED

    return tell


def macs(life: Life, name: str) -> list[str]:
    return re.findall(r"mac=([0-9a-f:]+)", life.domain(name).XMLDesc())


def retired(life: Life, name: str) -> list[tuple[str, str]]:
    return [(disk["volume"], disk["why"]) for disk in life.item(name)["retired"]]


def replaced(life: Life, name: str, image: str) -> None:
    """Waits until no replacement is under way and the guest serves ``image``."""
    life.site.serves(name, f"image {image}", timeout=SWAPPED)
    wait_until(
        lambda: life.item(name)["replacement"] is None, SWAPPED, f"{name}'s replacement has ended"
    )


def phase(life: Life, name: str) -> str:
    """How far a replacement has come, read from the domain's metadata; '' where there is none."""
    found = re.search(r'"phase":"([a-z]+)"', life.mark(name).replace("&quot;", '"'))
    return found[1] if found else ""


def kill_at(life: Life, name: str, phases: tuple[str, ...]) -> list[str]:
    """SIGKILL as soon as the domain's metadata shows each phase, and a new daemon each time.

    A phase may pass unseen while no daemon looks; returns those that were seen.
    """
    seen: list[str] = []
    until = time.monotonic() + SWAPPED

    began = False
    while time.monotonic() < until:
        now = phase(life, name)
        if now == "" and began:
            return seen
        began = began or now != ""
        if now in phases and now not in seen:
            life.site.kill()
            seen.append(now)
            life.site.start()
        else:
            time.sleep(0.01)  # the phases of a replacement are what is looked for
    pytest.fail(
        f"the replacement of {name} did not end; it is {phase(life, name)}, killed at {seen}"
    )


def test_another_image_waits_for_approval_then_swaps_the_disk_and_nothing_else(
    life: Life, pair: Pair, measured: Callable[[str, float], None]
) -> None:
    name = pair.steady
    run, disk, mac = life.run(name), life.system_disk(name), macs(life, name)
    life.read(name, life.specs[name] | {"image": "two"})
    said = life.told(name, "Synced", "ReplaceRequired")
    assert f"guestkeeper approve {name}" in said
    planned = life.site.run("plan", name)
    assert planned.returncode == 1, planned.stderr
    assert re.search(r"image: +one → two +\(replace", planned.stdout), planned.stdout
    assert life.run(name) == run
    with Watch(life.site, name) as watch:
        approve(life, name)
        replaced(life, name, "two")
        life.settled(name)
    measured("a replacement", watch.downtime)
    assert watch.pages == ["image one", "image two"]
    after = life.run(name)
    assert after.uuid == run.uuid
    assert after.boot != run.boot
    assert macs(life, name) == mac
    assert life.inside(name, "cat /data/kept") == "precious"
    assert life.inside(name, "cat /root/mark 2>&1 || true").endswith("No such file or directory")
    assert "micro=two" in life.inside(name, "cat /proc/cmdline")
    assert life.inside(name, "cat /srv/hello.txt") == f"hello {name}"
    assert life.system_disk(name) != disk
    assert retired(life, name) == [(disk, "replaced")]
    assert disk in life.site.volumes()
    life.plans_nothing(name)


def test_a_rollback_brings_the_old_disk_back_as_it_was(
    life: Life, pair: Pair, measured: Callable[[str, float], None]
) -> None:
    name = pair.steady
    run, disk = life.run(name), life.system_disk(name)
    ((old, _),) = retired(life, name)
    life.inside(name, "echo newer >/data/kept; sync")
    with Watch(life.site, name) as watch:
        done = life.site.run("rollback", name, "--yes")
        assert done.returncode == 0, done.stdout + done.stderr
        replaced(life, name, "one")
    measured("a rollback", watch.downtime)
    assert life.system_disk(name) == old
    assert life.inside(name, "cat /root/mark /data/kept") == "mine\nnewer"
    assert "micro=one" in life.inside(name, "cat /proc/cmdline")
    assert life.run(name).uuid == run.uuid
    assert (disk, "rolled-back") in retired(life, name)
    # The document still wants the other image, which an operator did not want: not again unasked.
    assert "an operator went back" in life.told(name, "Synced", "ReplaceFailed")
    life.put(name, image="one")
    life.plans_nothing(name)


EFI_VARIABLE = "/sys/firmware/efi/efivars/Guestkeeper-5d2f0b6e-7a35-4f6c-9d53-0f3d9c1c7b11"


@pytest.mark.long
def test_firmware_variables_survive_redefinition_stop_and_replacement(
    life: Life, prefix: str
) -> None:
    name = f"{prefix}c"
    spec = life.spec(name, firmware="efi", memory={"size": "256Mi"})
    life.write(name, spec)
    life.site.wait_ready(name, timeout=90)
    life.settled(name)
    life.inside(name, f"printf '\\007\\000\\000\\000kept' >{EFI_VARIABLE}")
    run = life.run(name)

    def kept() -> str:
        return life.inside(name, f"tail -c 4 {EFI_VARIABLE}")

    assert kept() == "kept"
    life.read(name, life.specs[name] | {"title": "redefined", "memory": {"size": "272Mi"}})
    life.told(name, "RestartRequired", "DefinitionChanged")
    life.read(name, life.specs[name] | {"image": "two"})
    life.told(name, "Synced", "ReplaceRequired")
    approve(life, name)
    replaced(life, name, "two")
    life.settled(name)
    after = life.run(name)
    assert after.uuid == run.uuid
    assert after.boot != run.boot
    assert kept() == "kept"
    life.plans_nothing(name)


def test_an_image_that_never_answers_gives_way_to_the_old_disk(
    life: Life, pair: Pair, measured: Callable[[str, float], None]
) -> None:
    name = pair.other
    said = life.told(name, "Synced", "ReplaceFailed", timeout=SWAPPED)
    replaced(life, name, "one")
    assert "not ready within" in said
    wait_until(lambda: life.condition(name, "Ready")[0] == "True", SETTLED, f"{name} is Ready")
    measured("a failed replacement", pair.watch.downtime)
    assert pair.watch.pages == ["image one"]
    assert life.inside(name, "cat /root/mark /data/kept") == "mine\nprecious"
    assert [why for _, why in retired(life, name)] == ["failed"]
    run = life.run(name)
    life.put(name, image="one")
    life.plans_nothing(name)
    assert life.run(name) == run


@pytest.mark.long
def test_a_daemon_killed_at_each_phase_of_a_failing_replacement_ends_with_the_old_disk(
    life: Life, pair: Pair
) -> None:
    name = pair.steady
    run, disk = life.run(name), life.system_disk(name)
    kept = life.inside(name, "cat /root/mark /data/kept")
    assert kept in ("mine\nnewer", "mine\nprecious"), "by the tests before it, or by the fixture"
    life.read(name, life.specs[name] | {"image": "panic"})
    life.told(name, "Synced", "ReplaceRequired")
    approve(life, name)
    killed = kill_at(life, name, ("confirming", "returning", "returned"))
    replaced(life, name, "one")
    assert {"confirming", "returning"} <= set(killed), killed
    life.told(name, "Synced", "ReplaceFailed")
    after = life.run(name)
    assert (after.uuid, life.system_disk(name)) == (run.uuid, disk)
    assert life.inside(name, "cat /root/mark /data/kept") == kept
    life.put(name, image="one")
    life.plans_nothing(name)


def test_a_changed_image_rolls_through_its_guests_one_at_a_time(life: Life, pair: Pair) -> None:
    names = (pair.steady, pair.other)
    for name in names:
        life.put(name, updatePolicy={"replace": "Automatic"})
    uuids = [life.run(name).uuid for name in names]
    order: list[tuple[str, ...]] = []
    with Watch(life.site, pair.steady) as first, Watch(life.site, pair.other) as second:
        life.site.write("image-one.yaml", micro.image_document("one", "two"))

        def both() -> bool:
            ongoing = tuple(name for name in names if phase(life, name))
            if not order or order[-1] != ongoing:
                order.append(ongoing)
            served = first.pages[-1:] + second.pages[-1:]
            return served == ["image two"] * 2 and not ongoing

        wait_until(both, SWAPPED, "both serve the image's new content")
    assert [ongoing for ongoing in order if ongoing] == [(pair.steady,), (pair.other,)]
    for name in names:
        life.settled(name)
        life.plans_nothing(name)
    assert [life.run(name).uuid for name in names] == uuids
    assert life.inside(pair.steady, "cat /data/kept") == "newer"
    assert life.inside(pair.other, "cat /data/kept") == "precious"


def test_a_daemon_killed_at_each_phase_of_a_replacement_ends_with_the_new_disk(
    life: Life, pair: Pair
) -> None:
    name = pair.steady
    run, disk = life.run(name), life.system_disk(name)
    life.site.write("image-back.yaml", micro.image_document("back", "one"))
    life.put(name, updatePolicy={})
    before = life.site.volumes()
    life.read(name, life.specs[name] | {"image": "back"})
    life.told(name, "Synced", "ReplaceRequired")
    approve(life, name)
    killed = kill_at(life, name, ("preparing", "stopping", "confirming"))
    replaced(life, name, "one")
    life.settled(name)
    assert {"stopping", "confirming"} <= set(killed), killed
    assert life.run(name).uuid == run.uuid
    assert life.inside(name, "cat /data/kept") == "newer"
    assert (disk, "replaced") in retired(life, name)
    made = {volume for volume in life.site.volumes() - before if volume.startswith(name)}
    assert made == {life.system_disk(name)}
    life.plans_nothing(name)


def test_retired_disks_are_deleted_when_their_time_is_over(life: Life, pair: Pair) -> None:
    name = pair.steady
    old = {volume for volume, _ in retired(life, name)}
    assert old
    assert old <= life.site.volumes()
    life.put(name, updatePolicy={"retiredDiskTTL": "1s"})
    wait_until(lambda: not old & life.site.volumes(), SETTLED, "the retired disks are gone")
    assert retired(life, name) == []
    assert life.inside(name, "cat /data/kept") == "newer"
