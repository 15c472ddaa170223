"""Builders on libvirt's test driver: their two forms, their record, and who may touch them."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import libvirt
import pytest

from controller.errors import PermanentError, TransientError
from controller.hypervisor.connection.config import HostConfig
from controller.hypervisor.hypervisor import Hypervisor
from controller.images.ports import Builders
from controller.observed.build import (
    MARKER_CHANNEL,
    BuildDrive,
    BuilderConfig,
    BuilderView,
    BuildRecord,
    Step,
    builder_name,
)
from controller.observed.domain import DomainState, StateReason
from tests.libvirt.test_hypervisor_test_driver import NODE

pytestmark = pytest.mark.libvirt
MIB = 2**20
NAME = builder_name("rocky9", "gk", "c0ffee")
RECORD = BuildRecord("rocky9", "c0ffee", "gk", "base.qcow2")
CONFIG = BuilderConfig(
    name=NAME,
    accelerator="tcg",
    vcpus=1,
    memory=512 * MIB,
    pool="gk",
    disk="base.qcow2",
    kernel="/gk/k",
    initrd="/gk/i",
    args="console=ttyS0",
    drives=(BuildDrive("gk", "answers.iso"),),
)


@pytest.fixture
def hypervisor(tmp_path: Path) -> Iterator[Hypervisor]:
    node = tmp_path / "node.xml"
    node.write_text(NODE)
    one = Hypervisor([HostConfig("a", f"test://{node}", "gk", {"gk": "/gk-a"})])
    one.open()
    yield one
    one.close()


@pytest.fixture
def port(hypervisor: Hypervisor) -> Builders:
    return hypervisor


@pytest.fixture
def connection(hypervisor: Hypervisor) -> libvirt.virConnect:
    """The one and only connection to that world."""
    return next(iter(hypervisor._hosts["a"].link.ensure_reachable().connections.values()))


def view_of(port: Builders) -> BuilderView:
    view = port.builder("a", NAME)
    assert view is not None
    return view


def assert_refused(port: Builders, host: str, config: BuilderConfig, record: BuildRecord) -> None:
    """Whatever could touch the domain of that name is refused for being somebody else's."""
    name = config.name
    for touch in (
        lambda: port.define_builder(host, config, record),
        lambda: port.start_builder(host, config),
        lambda: port.record_build(host, name, record),
        lambda: port.destroy_builder(host, name),
        lambda: port.undefine_builder(host, name),
        lambda: port.open_builder_channel(host, name, MARKER_CHANNEL),
        lambda: port.open_builder_console(host, name),
    ):
        with pytest.raises(PermanentError) as caught:
            touch()
        assert caught.value.reason == "NameConflict"


def test_a_builder_runs_with_its_installer_and_is_stored_without(
    port: Builders, connection: libvirt.virConnect
) -> None:
    port.define_builder("a", CONFIG, RECORD)
    assert view_of(port).state is DomainState.SHUTOFF
    port.start_builder("a", CONFIG)
    port.start_builder("a", CONFIG)
    assert view_of(port) == BuilderView(NAME, DomainState.RUNNING, StateReason.OTHER, RECORD)
    domain = connection.lookupByName(NAME)
    for word in ("<kernel>", "<initrd>", "<cmdline>", "answers.iso"):
        assert word in domain.XMLDesc(0)
        assert word not in domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    port.destroy_builder("a", NAME)
    port.destroy_builder("a", NAME)
    view = view_of(port)
    assert (view.state, view.reason) == (DomainState.SHUTOFF, StateReason.DESTROYED)
    assert "<kernel>" not in domain.XMLDesc(0)
    port.undefine_builder("a", NAME)
    port.undefine_builder("a", NAME)
    port.destroy_builder("a", NAME)
    assert port.builder("a", NAME) is None


def test_the_record_is_written_while_it_runs_and_stays_when_it_is_off(port: Builders) -> None:
    port.define_builder("a", CONFIG, RECORD)
    port.start_builder("a", CONFIG)
    failed = replace(RECORD, step=Step.STARTED, started=3.5).failed("InstallFailed", "ä <&>", 9.0)
    port.record_build("a", NAME, failed)
    assert view_of(port).record == failed
    port.destroy_builder("a", NAME)
    assert view_of(port).record == failed
    assert [view.record for view in port.builders("a")] == [failed]


def test_defining_again_keeps_the_domain_and_replaces_the_rest(
    port: Builders, connection: libvirt.virConnect
) -> None:
    port.define_builder("a", CONFIG, RECORD)
    uuid = connection.lookupByName(NAME).UUIDString()
    again = replace(RECORD, attempt=2)
    port.define_builder("a", replace(CONFIG, vcpus=2), again)
    domain = connection.lookupByName(NAME)
    assert (domain.UUIDString(), view_of(port).record) == (uuid, again)
    assert domain.vcpusFlags(libvirt.VIR_DOMAIN_AFFECT_CONFIG) == 2


def test_a_foreign_domain_of_that_name_is_left_untouched(
    port: Builders, connection: libvirt.virConnect
) -> None:
    foreign = connection.defineXML(
        f"<domain type='test'><name>{NAME}</name><memory>65536</memory>"
        "<os><type>hvm</type></os></domain>"
    )
    before = foreign.XMLDesc(0)
    assert view_of(port).record is None
    assert_refused(port, "a", CONFIG, RECORD)
    assert foreign.XMLDesc(0) == before
    assert list(port.builders("a")) == []


def test_the_guests_do_not_see_a_builder_as_their_own(
    hypervisor: Hypervisor, port: Builders
) -> None:
    port.define_builder("a", CONFIG, RECORD)
    assert NAME not in hypervisor.owned("a")
    view = hypervisor.domain("a", NAME)
    assert view is not None and not view.ours


def test_a_builder_that_runs_is_not_undefined_and_one_that_is_off_has_no_ports(
    port: Builders,
) -> None:
    port.define_builder("a", CONFIG, RECORD)
    for open_it in (
        lambda: port.open_builder_channel("a", NAME, MARKER_CHANNEL),
        lambda: port.open_builder_console("a", NAME),
    ):
        with pytest.raises(PermanentError) as caught:
            open_it()
        assert caught.value.reason == "NotRunning"
    port.start_builder("a", CONFIG)
    with pytest.raises(TransientError) as busy:
        port.undefine_builder("a", NAME)
    assert busy.value.reason == "WrongState"
    assert view_of(port).active


def test_the_files_of_every_domain_are_known(
    hypervisor: Hypervisor, port: Builders, connection: libvirt.virConnect
) -> None:
    volume = hypervisor.create_volume("a", "gk", "base.qcow2", capacity=MIB)
    top = hypervisor.create_volume("a", "gk", "top", capacity=MIB, backing=(volume.path, "qcow2"))
    connection.defineXML(
        "<domain type='test'><name>theirs</name><memory>65536</memory><os><type>hvm</type></os>"
        "<devices><disk type='file' device='disk'><source file='/theirs.img'/>"
        f"<target dev='vda'/></disk><disk type='file' device='disk'><source file='{top.path}'/>"
        "<target dev='vdb'/></disk><disk type='volume' device='disk'>"
        "<source pool='gone' volume='x'/><target dev='vdc'/></disk></devices></domain>"
    )
    assert {"/theirs.img", top.path, volume.path} <= port.file_paths("a")
    users = hypervisor.file_users("a")
    assert all("theirs" in users[path] for path in (top.path, volume.path)), "and what is below"
    assert "/gk/k" not in port.file_paths("a")
    port.define_builder("a", CONFIG, RECORD)
    port.start_builder("a", CONFIG)
    assert {"/gk/k", "/gk/i", volume.path} <= port.file_paths("a")
    connection.storagePoolLookupByName("gk").destroy()
    assert "/gk-a/base.qcow2" in port.file_paths("a"), "also while its pool is stopped"


def test_what_a_disk_in_no_pool_stands_on_is_told_as_not_known(
    hypervisor: Hypervisor, connection: libvirt.virConnect
) -> None:
    base = hypervisor.create_volume("a", "gk", "base.qcow2", capacity=MIB)
    top = hypervisor.create_volume("a", "gk", "top", capacity=MIB, backing=(base.path, "qcow2"))

    def define(name: str, source: str) -> None:
        connection.defineXML(
            f"<domain type='test'><name>{name}</name><memory>65536</memory><os><type>hvm</type>"
            f"</os><devices><disk type='{'volume' if 'pool' in source else 'file'}' device='disk'>"
            f"<driver name='qemu' type='qcow2'/><source {source}/><target dev='vda'/></disk>"
            "</devices></domain>"
        )

    define("known", f"file='{top.path}'")
    assert hypervisor.file_uses("a").loose == {}
    assert hypervisor.file_uses("a").users[base.path] == {"known"}
    define("theirs", "file='/srv/theirs.qcow2'")
    define("lost", "pool='gone' volume='x'")
    define("early", "pool='gk' volume='not-there'")
    loose = {
        "/srv/theirs.qcow2": {"theirs"},
        "gone/x": {"lost"},
        "gk/not-there": {"early"},
    }
    assert hypervisor.file_uses("a").loose == loose
    connection.storagePoolLookupByName("gk").destroy()
    found = hypervisor.file_uses("a").loose
    assert found[top.path] == {"known"}
    assert "/gk-a/not-there" in found or "gk/not-there" in found


def test_all_volumes_are_listed_and_none_can_be_read(
    hypervisor: Hypervisor, port: Builders
) -> None:
    made = [hypervisor.create_volume("a", "gk", name, capacity=MIB) for name in ("b", "a")]
    assert list(port.volumes("a", "gk")) == sorted(made, key=lambda view: view.name)
    with pytest.raises(PermanentError):
        port.read_volume("a", "gk", "a", 0, 10)
    with pytest.raises(PermanentError) as caught:
        port.volumes("a", "none")
    assert caught.value.reason == "PoolMissing"
