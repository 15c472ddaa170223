"""Recognise base and boot volumes of images by their names. Pure.

The disks of many guests are overlays of a base, so all code must recognise one, wherever its file
is: its name contains a digest of its content, and is given to nothing else.
"""

import posixpath
import re

_DIGESTS = r"[0-9a-f]{12}(-[0-9a-f]{8})?"
_NAME = re.compile(
    rf"gk-base-(?P<disk>.+)-{_DIGESTS}\.(qcow2|raw)|gk-(kernel|initrd)-(?P<boot>.+)-{_DIGESTS}"
)


def image_of(volume: str) -> str | None:
    """The image that a base or boot volume belongs to, by its name; None for other volumes."""
    found = _NAME.fullmatch(volume)
    return (found["disk"] or found["boot"]) if found is not None else None


def is_base_name(volume: str) -> bool:
    """Whether it is a base or boot volume, by its name; not a marker or a guest's disk."""
    return image_of(volume) is not None


def marker_name(volume: str) -> str:
    """The name of the marker volume, which is made when a base is complete."""
    return f"{volume}.ok"


def file_name(path: str) -> str:
    """The last part of a path, which may be written in many ways."""
    return posixpath.basename(path)
