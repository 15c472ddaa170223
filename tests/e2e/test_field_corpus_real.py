"""The corpus is of domains that libvirt's QEMU driver holds: it accepts each, defined only."""

import shutil
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest

from tests.field_corpus import CORPUS, a_libvirtd, acceptable

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
    capabilities = ET.fromstring(connection.getCapabilities())
    kinds = {kind.get("type", "") for kind in capabilities.iterfind("guest/arch/domain")}
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
