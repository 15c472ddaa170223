"""Base and boot volumes of images, known by their names. Pure.

A base is what the disks of many guests stand on, so whoever meets one has to know it, wherever its
file is: its name holds a digest of its content, and is given to nothing else.
"""

import posixpath
import re

_DIGESTS = r"[0-9a-f]{12}(-[0-9a-f]{8})?"
_NAME = re.compile(
    rf"gk-base-(?P<disk>.+)-{_DIGESTS}\.(qcow2|raw)|gk-(kernel|initrd)-(?P<boot>.+)-{_DIGESTS}"
)


def image_of(volume: str) -> str | None:
    """The image whose base or boot volume that is, by its name; None where it is none."""
    found = _NAME.fullmatch(volume)
    return (found["disk"] or found["boot"]) if found is not None else None


def is_base_name(volume: str) -> bool:
    """A base or boot volume of ours, by its name; a marker is none, nor a disk of a guest."""
    return image_of(volume) is not None


def marker_name(volume: str) -> str:
    """The name of the volume that is made when a base is whole."""
    return f"{volume}.ok"


def file_name(path: str) -> str:
    """The last part of a path, which may be written in many ways."""
    return posixpath.basename(path)
