"""Two domain XMLs side by side: which elements, attributes and words of arguments differ."""

import xml.etree.ElementTree as ET
from functools import lru_cache

from controller.observed.adopted_devices import alias_name

_OUR_MARK = "{urn:guestkeeper:v1}guest"


def differences(before: str, after: str) -> set[str]:
    """Places that are not the same in both, such as ``devices/disk[ua-disk-system]/driver@cache``.

    Our mark in the metadata is no such place; the order of different elements is none either.
    """
    old, new = _places(before), _places(after)
    return {place for place in {*old, *new} if old.get(place) != new.get(place)}


@lru_cache(maxsize=4)
def _places(xml: str) -> dict[str, str]:
    found: dict[str, str] = {}
    _walk(ET.fromstring(xml), "", found)
    return found


def _walk(element: ET.Element, path: str, found: dict[str, str]) -> None:
    found[path] = (element.text or "") if not len(element) else ""
    found |= {f"{path}@{key}": value for key, value in element.attrib.items()}
    if element.tag.endswith("}arg"):
        kind, *words = element.get("value", "").split(",")
        del found[f"{path}@value"]
        found[f"{path}@kind"] = kind
        for word in words:
            key = word.partition("=")[0]
            found[f"{path}@{key}"] = found.get(f"{path}@{key}", "") + word
    numbers: dict[str, int] = {}
    for child in element:
        if child.tag == _OUR_MARK or not isinstance(child.tag, str):
            continue
        name = child.tag.rpartition("}")[2]
        if name in ("disk", "interface") and alias_name(child).startswith("ua-"):
            key = f"{name}[{alias_name(child)}]"
        elif name == "vcpupin":
            key = f"{name}[{child.get('vcpu')}]"
        else:
            numbers[name] = numbers.get(name, -1) + 1
            key = f"{name}[{numbers[name]}]" if numbers[name] else name
        _walk(child, f"{path}/{key}".lstrip("/"), found)
