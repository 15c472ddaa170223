"""The record of a build as the element that its builder domain carries in ``<metadata>``.

Its namespace is not that of the guests: to all that looks after guests a builder is a domain that
is not ours, and stays untouched. Like a guest's element it says which domain it was made for, so
that a clone of a builder, which carries it too, is nobody's builder. Pure: text in, values out.
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

    ``virDomainSetMetadata`` puts the namespace in by itself and refuses an element that declares
    it: give it the one that is not ``namespaced``.
    """
    tag = f"{{{BUILD_NAMESPACE}}}{_TAG}" if namespaced else _TAG
    element = ET.Element(tag, {"uid": uuid, "name": name})
    # JSON escapes what XML has no room for: a failure's text is whatever an installer printed.
    element.text = json.dumps(asdict(record), sort_keys=True, separators=(",", ":"))
    return element


def parse_build(xml: str, *, name: str, uuid: str) -> BuildRecord | None:
    """The record in a domain XML, or in the element alone (``virDomainGetMetadata``).

    None where there is none, or one that was made for another domain than ``name``, ``uuid``.
    Content that cannot be read leaves the domain ours, as a build that has only been defined.
    Raises ``ValueError`` where ``xml`` is no XML.
    """
    try:
        # libvirt's own output, or what it accepted: it expands no entities.
        root = ET.fromstring(xml)  # noqa: S314
    except ET.ParseError as error:
        raise ValueError(f"not XML: {error}") from error
    # By local name where it stands alone: libvirt gives it back with any prefix, or with none.
    alone = root.tag.rpartition("}")[2] == _TAG
    element = root if alone else root.find(f"metadata/{{{BUILD_NAMESPACE}}}{_TAG}")
    if element is None or (element.get("name"), element.get("uid")) != (name, uuid):
        return None
    return BuildRecord(**{**_REQUIRED, **stored_fields(BuildRecord, element.text or "")})
