"""Read and write the record of a build, an element in the builder domain's ``<metadata>``.

Its namespace is not that of the guests: code for guests takes a builder for a foreign domain, and
leaves it alone. Like a guest's element it names the domain that it was made for, so that a clone of
a builder, which has the element too, is no builder. Pure.
"""

import json
import xml.etree.ElementTree as ET
from dataclasses import asdict
from typing import Any

from controller.observed.build import BuildRecord
from controller.observed.stored import stored_fields

BUILD_NAMESPACE = "urn:guestkeeper:build:v1"
_TAG = "build"
_REQUIRED: dict[str, Any] = {"image": "", "content": "", "pool": "", "base": ""}


def build_element(
    record: BuildRecord, *, name: str, uuid: str, namespaced: bool = True
) -> ET.Element:
    """The element for the domain ``name`` with that ``uuid``.

    ``virDomainSetMetadata`` adds the namespace itself and refuses an element that declares it:
    give it one that is not ``namespaced``.
    """
    tag = f"{{{BUILD_NAMESPACE}}}{_TAG}" if namespaced else _TAG
    element = ET.Element(tag, {"uid": uuid, "name": name})
    # JSON escapes what XML cannot hold: a failure's text is whatever an installer printed.
    element.text = json.dumps(asdict(record), sort_keys=True, separators=(",", ":"))
    return element


def parse_build(xml: str, *, name: str, uuid: str) -> BuildRecord | None:
    """The record in a domain XML, or in the element alone (``virDomainGetMetadata``).

    None if there is none, or if it was made for another domain than ``name``, ``uuid``. If its
    content cannot be read, the domain is still ours, as a build that has only been defined.
    Raises ``ValueError`` if ``xml`` is not XML.
    """
    try:
        # libvirt's own output, or what it accepted: it expands no entities.
        root = ET.fromstring(xml)  # noqa: S314
    except ET.ParseError as error:
        raise ValueError(f"not XML: {error}") from error
    # The element alone is found by local name: libvirt returns it with any prefix, or with none.
    alone = root.tag.rpartition("}")[2] == _TAG
    element = root if alone else root.find(f"metadata/{{{BUILD_NAMESPACE}}}{_TAG}")
    if element is None or (element.get("name"), element.get("uid")) != (name, uuid):
        return None
    return BuildRecord(**{**_REQUIRED, **stored_fields(BuildRecord, element.text or "")})
