"""The corpus is of domains that libvirt's QEMU driver holds: it accepts each, defined only."""

import shlex
import shutil
import subprocess
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import libvirt
import pytest

from controller.observed.domain_xml import parse_config
from controller.observed.locating import located
from controller.planning.adoption.export import export
from controller.planning.adoption.match import match
from controller.planning.adoption.yaml_text import guest_name
from controller.planning.compare.changes import config_changes
from tests.factories import a_guest
from tests.field_adopted import Adopted, adopted, belongs, changes
from tests.field_corpus import (
    BY_KEY,
    CORPUS,
    HOST,
    a_libvirtd,
    acceptable,
    host_with_pools,
    view_of,
    volumes_of,
)
from tests.trees import differences
from tests.unit.planning.adoption.test_adopting import SYSTEM, a_foreign

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def connection() -> Iterator[libvirt.virConnect]:
    root = Path(tempfile.mkdtemp(prefix="gkf", dir="/var/tmp"))
    root.chmod(0o755)
    try:
        with a_libvirtd(root) as libvirtd:
            opened = libvirt.open(libvirtd.uri)
            try:
                yield opened
            finally:
                opened.close()
    finally:
        shutil.rmtree(root)


def test_libvirt_accepts_every_domain_of_the_corpus(connection: libvirt.virConnect) -> None:
    kinds = _kinds(connection)
    refused = []
    for field in CORPUS:
        xml = acceptable(field.xml, kinds)
        try:
            connection.defineXMLFlags(xml, libvirt.VIR_DOMAIN_DEFINE_VALIDATE).undefineFlags(
                libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM
            )
        except libvirt.libvirtError as error:
            refused.append(f"{field.key}: {error}")
    assert refused == []
    assert len(CORPUS) >= 120


def test_the_renames_that_export_prints_are_done(connection: libvirt.virConnect) -> None:
    kinds = _kinds(connection)
    done = []
    for field in CORPUS:
        domain = view_of(field)
        if domain.config.boot_doubt or guest_name(domain.name) == domain.name:
            continue
        made = export(domain, HOST, "any", volumes_of(domain.config))
        (note,) = (note for note in made.notes if "virsh domrename" in note)
        held = _define(connection, acceptable(field.xml, kinds))
        try:
            _run(connection, note.rpartition(": ")[2])
            assert connection.lookupByName(made.name).UUIDString() == domain.uuid
        finally:
            held = connection.lookupByUUIDString(domain.uuid)
            held.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM)
        done.append(made.name)
    assert len(done) == 9


def test_a_diskless_domain_edited_as_its_doubt_says_is_held_and_its_disk_is_known(
    connection: libvirt.virConnect,
) -> None:
    """It goes on booting from the network."""
    field = BY_KEY["vi-pxe-only"]
    doubt = parse_config(field.xml).boot_doubt
    assert "<boot order='1'/> in what it boots from now, <boot order='2'/> in that disk" in doubt
    root = ET.fromstring(acceptable(field.xml, _kinds(connection)))
    os, nic, disk = (root.find(path) for path in ("os", "devices/interface", "devices/disk"))
    assert os is not None
    assert nic is not None
    assert disk is not None
    for boot in os.findall("boot"):
        os.remove(boot)
    ET.SubElement(nic, "boot", order="1")
    ET.SubElement(disk, "boot", order="2")
    domain = _define(connection, ET.tostring(root, encoding="unicode"))
    try:
        held = parse_config(_held(domain))
    finally:
        domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM)
    assert (held.boot_disk, held.boot_doubt) == ("vda", "")


def test_the_pool_that_adopting_asks_for_is_made(connection: libvirt.virConnect) -> None:
    odd = replace(SYSTEM, volume="/var/tmp/no pool (yet)/it's.img")
    (problem,) = match(a_guest(), a_foreign(odd), HOST).problems
    command = problem.partition("directory: ")[2].partition(", then")[0]
    _run(connection, command.replace("NAME", "made"))
    pool = connection.storagePoolLookupByName("made")
    try:
        assert ET.fromstring(pool.XMLDesc()).findtext("target/path") == "/var/tmp/no pool (yet)"
    finally:
        pool.undefine()


def _kinds(connection: libvirt.virConnect) -> set[str]:
    capabilities = ET.fromstring(connection.getCapabilities())
    return {kind.get("type", "") for kind in capabilities.iterfind("guest/arch/domain")}


def _run(connection: libvirt.virConnect, command: str) -> None:
    virsh, *arguments = shlex.split(command)
    subprocess.run(
        [virsh, "-c", connection.getURI(), *arguments], check=True, capture_output=True, timeout=30
    )


_OF_THE_HOST = ("devices/controller",)
"""libvirt adds buses for a new device."""


def test_libvirt_holds_what_was_redefined_and_all_else_as_it_was(
    connection: libvirt.virConnect,
) -> None:
    """Adopted, then with one field changed; another with each domain, so that all are tried."""
    kinds = _kinds(connection)
    wrong: list[str] = []
    for number, found in enumerate(CORPUS):
        field = replace(found, xml=acceptable(found.xml, kinds))
        made = adopted(field)
        domain = _define(connection, made.xml)
        one = replace(made, xml=_held(domain))
        if places := differences(made.xml, one.xml):
            wrong.append(f"{field.key}: adopting: {places}")
        every = [change for change in changes(one) if _is_taken(one, change[0])]
        name, (wanted, fields) = every[number % len(every)]
        try:
            after = _held(_define(connection, one.redefined(wanted)))
        except libvirt.libvirtError as error:
            wrong.append(f"{field.key}: {name}: {error}")
        else:
            allowed = (*fields, *_OF_THE_HOST)
            places = differences(one.xml, after)
            much = [place for place in places if not belongs(place, allowed)]
            wrong += [f"{field.key}: {name}: {place}" for place in much]
            has = located(parse_config(after), host_with_pools(field).pools)
            wrong += [f"{field.key}: {name}: {left}" for left in config_changes(has, wanted)]
        domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM)
    assert wrong == []


def _define(connection: libvirt.virConnect, xml: str) -> libvirt.virDomain:
    return connection.defineXMLFlags(xml, libvirt.VIR_DOMAIN_DEFINE_VALIDATE)


def _held(domain: libvirt.virDomain) -> str:
    text: str = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE)
    return text


def _is_taken(one: Adopted, name: str) -> bool:
    """Not what libvirt refuses whoever asks for it, which the planner has to know beforehand."""
    if name in ("maximum memory", "more vcpus", "fewer vcpus"):
        return "<numa>" not in one.xml
    if name.startswith("cache of "):
        return "io='native'" not in one.xml
    return not (name.startswith("model of ") and "<driver " in one.xml.partition("<interface")[2])
