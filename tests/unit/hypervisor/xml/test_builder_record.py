"""The record of a build is read back as it was written, whatever was written and by whom."""

import xml.etree.ElementTree as ET

import libvirt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.hypervisor.xml.builder import render_builder, render_record
from controller.hypervisor.xml.render import Dialect
from controller.observed.build import BuilderConfig, BuildRecord, Step, builder_name
from controller.observed.build_xml import BUILD_NAMESPACE, build_element, parse_build

NAME = builder_name("rocky9", "default", "0123abcd")
UUID = "6a9c2f31-9d5e-5f0e-9d2b-0d8e3a1f5c13"
RECORD = BuildRecord("rocky9", "0123abcd", "default", "base.qcow2", 2, Step.STARTED, 1.5)
CONFIG = BuilderConfig(NAME, "tcg", 1, 2**26, "default", "base.qcow2")

texts = st.text(st.characters(codec="utf-8"), max_size=40)
times = st.floats(0, 2**40)
records = st.builds(
    BuildRecord,
    *[texts] * 4,
    attempt=st.integers(1, 100),
    step=st.sampled_from(Step),
    started=times,
    phase=texts,
    sealed=st.booleans(),
    succeeded=st.booleans(),
    failure=texts,
    reason=texts,
    message=texts,
    ended=times,
)


@given(records)
def test_every_record_is_read_back(record: BuildRecord) -> None:
    assert parse_build(render_builder(CONFIG, record, UUID), name=NAME, uuid=UUID) == record
    assert parse_build(render_record(record, name=NAME, uuid=UUID), name=NAME, uuid=UUID) == record


@given(records)
def test_libvirt_keeps_every_record(record: BuildRecord) -> None:
    connection = libvirt.open("test:///default")
    domain = connection.defineXML(render_builder(CONFIG, RECORD, UUID, Dialect.TEST))
    config = libvirt.VIR_DOMAIN_AFFECT_CONFIG
    kind = libvirt.VIR_DOMAIN_METADATA_ELEMENT
    xml = render_record(record, name=NAME, uuid=UUID)
    domain.setMetadata(kind, xml, "gkb", BUILD_NAMESPACE, config)
    alone = domain.metadata(kind, BUILD_NAMESPACE, config)
    assert parse_build(alone, name=NAME, uuid=UUID) == record
    assert parse_build(domain.XMLDesc(0), name=NAME, uuid=UUID) == record
    connection.close()


def test_a_domain_without_the_element_is_not_ours() -> None:
    assert parse_build("<domain><metadata/></domain>", name=NAME, uuid=UUID) is None
    assert parse_build("<domain/>", name=NAME, uuid=UUID) is None


def test_the_element_of_another_domain_makes_none_ours() -> None:
    xml = render_builder(CONFIG, RECORD, UUID)
    assert parse_build(xml, name=f"{NAME}-clone", uuid=UUID) is None
    assert parse_build(xml, name=NAME, uuid=UUID.replace("6a9c", "6a9d")) is None


@pytest.mark.parametrize("text", ["", "no json", "[]", '{"step":"flying","attempt":"x","new":1}'])
def test_a_record_that_cannot_be_read_is_ours_and_has_only_been_defined(text: str) -> None:
    element = build_element(RECORD, name=NAME, uuid=UUID)
    element.text = text
    read = parse_build(ET.tostring(element, encoding="unicode"), name=NAME, uuid=UUID)
    assert read == BuildRecord("", "", "", "")


def test_what_is_no_xml_is_said_to_be_none() -> None:
    with pytest.raises(ValueError, match="not XML"):
        parse_build("<domain", name=NAME, uuid=UUID)
