"""A foreign domain taken over on libvirt's test driver: shown, done, and running on untouched."""

from collections.abc import Callable, Iterator
from pathlib import Path

import libvirt
import pytest

from controller.daemon.export import export_once
from controller.daemon.house import House
from controller.errors import GuestkeeperError, HostUnreachableError, PermanentError
from controller.hypervisor.connection.config import Role
from controller.loop.status import GuestStatus
from controller.observed.domain import DomainState, DomainView
from controller.planning.conditions import ConditionType
from controller.settings import Settings
from tests.libvirt.looks import domain_of
from tests.libvirt.test_house import IMAGE, NODE
from tests.waiting import wait_until

pytestmark = pytest.mark.libvirt
UUID = "5e0f6a3c-0000-4000-8000-000000000001"
MAC = "52:54:00:00:00:01"
FOREIGN = f"""<domain type='test'><name>web</name><uuid>{UUID}</uuid>
<title>An old web server</title>
<memory unit='MiB'>128</memory><vcpu>1</vcpu>
<os><type>hvm</type></os><devices>
<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>
 <source file='/gk-a/old-root.img'/><target dev='sda' bus='scsi'/></disk>
<disk type='volume' device='disk'><driver name='qemu' type='qcow2'/>
 <source pool='gk' volume='old-data.qcow2'/><target dev='sdb' bus='scsi'/></disk>
<interface type='network'><mac address='{MAC}'/><source network='default'/>
 <model type='virtio'/></interface>
<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
<filesystem type='mount'><source dir='/srv'/><target dir='code'/></filesystem>
</devices></domain>"""
GUEST = """\
apiVersion: guestkeeper/v1alpha1
kind: Guest
metadata: {name: web}
spec:
  host: a
  image: tiny
  title: An old web server
  memory: {size: %s}
  disks: [{name: data, size: 2Mi}]
  interfaces: [{name: lan, network: default}]
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    for name in ("desired", "images", "state", "cache"):
        (tmp_path / name).mkdir()
    hosts = {}
    for name in ("a", "b"):
        (tmp_path / f"{name}.xml").write_text(NODE)
        hosts[name] = {"uri": f"test://{tmp_path}/{name}.xml", "pool": "gk"}
        hosts[name]["pools"] = {"gk": f"/gk-{name}"}  # type: ignore[assignment]
    (tmp_path / "images" / "tiny.raw").write_bytes(b"\1" * 2**20)
    (tmp_path / "desired" / "image.yaml").write_text(IMAGE)
    return Settings.model_validate(
        {
            "desired_dir": tmp_path / "desired",
            "state_dir": tmp_path / "state",
            "cache_dir": tmp_path / "cache",
            "images_dir": tmp_path / "images",
            "socket": tmp_path / "gk.sock",
            "listen": "",
            "identity": "test",
            "hosts": hosts,
        }
    )


def foreign(house: House) -> None:
    """What somebody made with virsh, and its disks."""
    for name in ("old-root.img", "old-data.qcow2"):
        house.hypervisor.create_volume("a", "gk", name, capacity=2 * 2**20)

    def define(one: libvirt.virConnect) -> None:
        one.defineXML(FOREIGN).create()

    house.hypervisor._hosts["a"].link.call(Role.ACT, "define", define, 5)

    def seen() -> bool:
        domain = domain_of(house.hypervisor, "a", "web")
        return domain is not None and domain.state is DomainState.RUNNING

    wait_until(seen, 10, "the foreign domain is seen")


@pytest.fixture
def house(settings: Settings) -> Iterator[House]:
    one = House(settings, journal=":memory:")
    one.triggers.on_scan(one.catalog.scan())
    one.open()
    foreign(one)
    one.start_loop()
    yield one
    one.close()


def redefine(house: House, xml: str) -> None:
    def define(one: libvirt.virConnect) -> None:
        one.defineXML(xml)

    house.hypervisor._hosts["a"].link.call(Role.ACT, "define", define, 5)


def write(house: House, text: str = GUEST % "128Mi") -> None:
    (house.settings.desired_dir / "web.yaml").write_text(text)
    house.triggers.on_scan(house.catalog.scan())


def status(house: House, wanted: Callable[[GuestStatus], bool], what: str) -> GuestStatus:
    def found() -> GuestStatus | None:
        status = house.status.get("web")
        return status if status is not None and wanted(status) else None

    return wait_until(found, 20, what)  # type: ignore[return-value]


def conflicts(status: GuestStatus) -> bool:
    found = status.plan.condition(ConditionType.SYNCED)
    return found is not None and found.reason == "NameConflict"


def view(house: House) -> DomainView:
    found = domain_of(house.hypervisor, "a", "web")
    assert found is not None
    return found


def raises(words: str, kind: type[GuestkeeperError] = PermanentError):  # type: ignore[no-untyped-def]
    return pytest.raises(kind, match=words)


def test_a_foreign_domain_is_taken_over_without_a_change_and_runs_on(house: House) -> None:
    before = view(house)
    assert not before.ours
    write(house)
    told = status(house, conflicts, "the conflict is told")
    assert "guestkeeper adopt web" in told.plan.sentence
    shown = house.adoptions.preview("web")
    assert (shown.problems, shown.changes) == ((), ())
    assert view(house).ownership is None
    house.adoptions.adopt("web", shown.digest)
    status(house, lambda one: one.plan.settled, "it is looked after")
    after = view(house)
    assert after.ours
    assert (after.run, after.state) == (before.run, before.state)
    assert {one.alias for one in after.config.disks} == {"disk-system", "disk-data"}
    assert {one.alias for one in after.config.nics} == {"nic-lan"}
    assert [disk.target for disk in after.config.disks] == ["sda", "sdb"]
    reasons = [event.reason for event in house.journal.events("web")]
    assert "DomainAdopted" in reasons
    assert not {"DomainDefined", "DomainStarted", "DomainDestroyed"} & set(reasons)
    owner = after.ownership
    assert owner is not None
    assert (owner.generation, owner.base) == (1, "")
    assert owner.record.controller == house.reconciler._policy.controller != ""
    with raises("is Guestkeeper's already"):
        house.adoptions.preview("web")


def test_what_differs_is_shown_before_and_carried_out_after(house: House) -> None:
    write(house, GUEST % "96Mi")
    shown = house.adoptions.preview("web")
    assert [change.path for change in shown.changes] == ["memory.size", "memory.max"]
    before = view(house)
    house.adoptions.adopt("web", shown.digest)
    told = status(
        house,
        lambda one: one.plan.is_true(ConditionType.RESTART_REQUIRED) and not one.plan.steps,
        "it waits for a cold boot",
    )
    # The balloon of a guest without an agent is not judged: it may not be there yet.
    assert [change.path for change in told.plan.changes] == ["memory.max"]
    assert view(house).run == before.run


def test_a_disk_that_is_not_in_the_document_keeps_it_from_being_adopted(house: House) -> None:
    write(house, GUEST.replace("disks: [{name: data, size: 2Mi}]", "disks: []") % "128Mi")
    shown = house.adoptions.preview("web")
    assert "- {name: sdb, pool: gk, size: 2Mi}" in shown.problems[0]
    with raises("cannot be adopted: its disk sdb"):
        house.adoptions.adopt("web", shown.digest)
    assert view(house).ownership is None


def test_another_domain_or_document_than_was_shown_is_not_adopted(house: House) -> None:
    write(house)
    shown = house.adoptions.preview("web")
    write(house, GUEST % "96Mi")
    with raises("is another by now"):
        house.adoptions.adopt("web", shown.digest)
    write(house)
    assert house.adoptions.preview("web").digest == shown.digest
    turned = FOREIGN.replace("old-root.img", "x").replace("old-data.qcow2", "old-root.img")
    redefine(house, turned.replace("/gk-a/x", "/gk-a/old-data.qcow2"))
    wait_until(lambda: house.adoptions.preview("web").digest != shown.digest, 10, "it is seen")
    with raises("is another by now"):
        house.adoptions.adopt("web", shown.digest)
    assert view(house).ownership is None


def test_disks_that_were_changed_since_it_was_looked_at_are_seen_while_it_is_done(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(house)
    shown = house.adoptions.preview("web")
    step = shown.step
    assert step is not None
    other = (("sda", "", "/gk-a/other.img"), *step.disks[1:])
    monkeypatch.setattr("controller.planning.adoption.adopt._sources", lambda _: other)
    with raises("has other disks by now"):
        house.adoptions.adopt("web", shown.digest)
    assert view(house).ownership is None


def test_a_disk_of_two_domains_is_not_adopted(house: House) -> None:
    write(house)
    twin = FOREIGN.replace("<name>web<", "<name>old<").replace(UUID, UUID[:-1] + "2")
    redefine(house, twin.replace(MAC, "52:54:00:00:00:02"))
    (one, two) = house.adoptions.preview("web").problems
    assert "its disk sda (gk/old-root.img) is used by domain old, too" in one
    assert "its disk sdb (gk/old-data.qcow2) is used by domain old, too" in two


def test_what_is_no_conflict_is_refused(house: House) -> None:
    with raises("guestkeeper export web"):
        house.adoptions.preview("web")
    write(house)
    text = (GUEST % "128Mi").replace("name: web", "name: fresh").replace("host: a", "host: b")
    (house.settings.desired_dir / "fresh.yaml").write_text(text)
    house.triggers.on_scan(house.catalog.scan())
    with raises("no domain fresh to adopt"):
        house.adoptions.preview("fresh")
    (house.settings.desired_dir / "web.yaml").write_text("kind: Guest\n")
    house.triggers.on_scan(house.catalog.scan())
    with raises(r"has to be corrected first|no Guest document"):
        house.adoptions.preview("web")


def test_while_everything_is_suspended_nothing_is_adopted(house: House) -> None:
    write(house)
    house.fleets.suspend_all()
    with raises("resume --all"):
        house.adoptions.adopt("web", "")
    assert view(house).ownership is None


def test_a_host_that_gives_no_answer_is_told(house: House) -> None:
    write(house)
    house.hypervisor.close()
    with raises("host a is not reachable", HostUnreachableError):
        house.adoptions.preview("web")


# --- export ---------------------------------------------------------------------------------------


def test_a_domain_is_adopted_with_the_document_that_export_wrote(
    house: House, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = exported(house, settings, monkeypatch)
    assert made.foreign
    assert "shared folder: code (9p)" in made.kept_lines
    write(house, made.text)
    shown = house.adoptions.preview("web")
    assert (shown.problems, shown.changes) == ((), ())
    house.adoptions.adopt("web", shown.digest)
    status(house, lambda one: one.plan.settled, "it is looked after")
    ours = exported(house, settings, monkeypatch)
    assert not ours.foreign
    assert "runStrategy: Always" in ours.text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nobody", None, None), "no domain is named nobody on a, b"),
        (("web", "b", None), "no domain is named web on b"),
        (("web", "c", None), r"\[hosts\.c\]"),
        (("web", None, "tin"), "did you mean `tiny`"),
    ],
)
def test_what_cannot_be_exported_says_why(
    house: House,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, str | None, str | None],
    words: str,
) -> None:
    with raises(words):
        exported(house, settings, monkeypatch, *arguments)


def test_an_image_has_to_be_named_where_none_fits(
    house: House, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = IMAGE.replace("tiny.raw}", "tiny.raw}, boot: {kernel: vmlinuz}")
    (settings.desired_dir / "image.yaml").write_text(kernel)
    house.triggers.on_scan(house.catalog.scan())
    with raises("no image boots as it does"):
        exported(house, settings, monkeypatch)
    assert "image: tiny" in exported(house, settings, monkeypatch, "web", "a", "tiny").text


def exported(  # type: ignore[no-untyped-def]
    house: House,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    name: str = "web",
    host: str | None = None,
    image: str | None = None,
):
    """The test driver's domains are its connection's, so the command looks with the same."""
    from contextlib import contextmanager

    @contextmanager
    def same(_: Settings, *, read_only: bool) -> Iterator[House]:
        assert read_only
        yield house

    monkeypatch.setattr("controller.daemon.export.opened", same)
    return export_once(settings, name, host, image)
