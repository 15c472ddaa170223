"""The XML of a builder: the same machine as a guest's, but for what an installation needs."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import libvirt
import pytest

from controller.errors import PermanentError
from controller.hypervisor.xml.builder import render_builder
from controller.hypervisor.xml.render import Dialect
from controller.observed.build import (
    LOG_CHANNEL,
    MARKER_CHANNEL,
    BuildDrive,
    BuilderConfig,
    BuildRecord,
    builder_name,
)
from controller.observed.domain_xml import parse_domain

GOLDEN = Path(__file__).parents[3] / "data" / "domain_xml"
MIB = 2**20
NAME = builder_name("rocky9", "default", "0123abcd")
UUID = "6a9c2f31-9d5e-5f0e-9d2b-0d8e3a1f5c13"
RECORD = BuildRecord("rocky9", "0123abcd", "default", "gk-base-rocky9-0123abcd.qcow2")
CONFIG = BuilderConfig(
    name=NAME,
    accelerator="kvm",
    vcpus=2,
    memory=2048 * MIB,
    pool="default",
    disk="gk-base-rocky9-0123abcd.qcow2",
    kernel="/pool/k",
    initrd="/pool/i",
    args="inst.ks=file:/ks.cfg console=ttyS0 'a & <b>'",
    drives=(BuildDrive("isos", "rocky.iso"), BuildDrive("default", "oemdrv.iso")),
    firmware="efi",
)


@pytest.mark.parametrize(
    ("file", "config"),
    [
        ("builder-started", CONFIG),
        ("builder-stored", CONFIG.without_installer),
        ("builder-bios-bridge", replace(CONFIG, firmware="bios", bridge="br0", accelerator="tcg")),
    ],
)
def test_the_xml_is_the_one_that_was_reviewed(
    file: str, config: BuilderConfig, golden: Callable[[Path, str], None]
) -> None:
    channels = (MARKER_CHANNEL, LOG_CHANNEL)
    xml = render_builder(config, RECORD, UUID, channels=channels)
    # What a record holds is test_builder_record's.
    shown = re.sub(r"(<gkb:build [^>]*>)[^<]*", r"\1(the record)", xml)
    golden(GOLDEN / f"{file}.xml", shown + "\n")


def test_nothing_of_the_installer_is_in_the_stored_form() -> None:
    stored = ET.fromstring(render_builder(CONFIG.without_installer, RECORD, UUID))
    for path in ("os/kernel", "os/initrd", "os/cmdline", "devices/disk[@device='cdrom']"):
        assert stored.find(path) is None


def test_the_disk_is_cached_as_durably_as_a_guests() -> None:
    root = ET.fromstring(render_builder(CONFIG, RECORD, UUID))
    for driver in root.iterfind("devices/disk/driver"):
        assert driver.get("cache") is None


def test_a_builder_is_no_guest_to_those_who_look_after_guests() -> None:
    assert parse_domain(render_builder(CONFIG, RECORD, UUID)).ownership is None


def test_the_same_build_on_two_hosts_has_two_macs() -> None:
    one, other = (
        ET.fromstring(render_builder(replace(CONFIG, bridge="br0"), RECORD, uuid))
        for uuid in (UUID, UUID.replace("6a9c", "6a9d"))
    )
    macs = [root.find("devices/interface/mac") for root in (one, other)]
    assert macs[0] is not None and macs[1] is not None
    assert macs[0].get("address") != macs[1].get("address")


@pytest.mark.parametrize("config", [CONFIG, CONFIG.without_installer])
def test_libvirts_schema_takes_it(config: BuilderConfig) -> None:
    connection = libvirt.open("test:///default")
    xml = render_builder(replace(config, accelerator="tcg"), RECORD, UUID, Dialect.TEST)
    domain = connection.defineXMLFlags(xml, libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
    assert domain.name() == NAME
    connection.close()


def test_more_drives_than_letters_are_refused() -> None:
    drives = tuple(BuildDrive("default", f"{n}.iso") for n in range(27))
    with pytest.raises(PermanentError, match="27 CD-ROMs"):
        render_builder(replace(CONFIG, drives=drives), RECORD, UUID)
