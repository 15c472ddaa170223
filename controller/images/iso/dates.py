"""Set every date in a small ISO 9660 image to one fixed value.

pycdlib writes the current time and the local time zone into descriptors, directory records and
Rock Ridge entries, and has no option for that; equal seeds would never be equal bytes. Layout:
ECMA-119, sections 8.4 and 9.1; Rock Ridge (RRIP 1.12), section 4.1.6, "TF".
"""

import struct
from collections.abc import Iterator

_SECTOR = 2048
_FIRST_DESCRIPTOR = 16
_PRIMARY, _SUPPLEMENTARY, _TERMINATOR = 1, 2, 255
_SHORT_DATE = bytes((100, 1, 1, 0, 0, 0, 0))  # 2000-01-01 00:00:00 UTC
_LONG_DATE = b"2000010100000000\0"
_NO_DATE = b"0" * 16 + b"\0"
_DESCRIPTOR_DATES = ((813, _LONG_DATE), (830, _LONG_DATE), (847, _NO_DATE), (864, _LONG_DATE))
_ROOT_RECORD = 156


def fix_dates(image: bytes) -> bytes:
    """The same image with every date set to 2000-01-01 UTC."""
    fixed = bytearray(image)
    sector = _FIRST_DESCRIPTOR
    while (kind := fixed[sector * _SECTOR]) != _TERMINATOR:
        start = sector * _SECTOR
        if kind in (_PRIMARY, _SUPPLEMENTARY):
            for offset, date in _DESCRIPTOR_DATES:
                fixed[start + offset : start + offset + 17] = date
            _fix_directory(fixed, start + _ROOT_RECORD)
        sector += 1
    return bytes(fixed)


def _fix_directory(image: bytearray, record: int) -> None:
    """Fix a directory and those below it; ``record`` is the offset of its own record."""
    image[record + 18 : record + 25] = _SHORT_DATE
    for child in _children(image, record):
        image[child + 18 : child + 25] = _SHORT_DATE
        name_length = image[child + 32]
        system_use = child + 33 + name_length + (1 - name_length % 2)
        _fix_system_use(image, system_use, child + image[child])
        dots = name_length == 1 and image[child + 33] in (0, 1)
        if image[child + 25] & 2 and not dots:
            _fix_directory(image, child)


def _children(image: bytearray, record: int) -> Iterator[int]:
    extent, size = _little(image, record + 2), _little(image, record + 10)
    position, end = extent * _SECTOR, extent * _SECTOR + size
    while position < end:
        length = image[position]
        if length == 0:  # records do not cross sectors
            position = (position // _SECTOR + 1) * _SECTOR
            continue
        yield position
        position += length


def _fix_system_use(image: bytearray, position: int, end: int) -> None:
    while position + 4 <= end and image[position + 2] >= 4:
        signature, length = bytes(image[position : position + 2]), image[position + 2]
        if signature == b"TF":
            for stamp in range(position + 5, position + length - 6, 7):
                image[stamp : stamp + 7] = _SHORT_DATE
        elif signature == b"CE":
            block, offset, size = (_little(image, position + 4 + 8 * index) for index in range(3))
            start = block * _SECTOR + offset
            _fix_system_use(image, start, start + size)
        position += length


def _little(image: bytearray, offset: int) -> int:
    number: int = struct.unpack_from("<I", image, offset)[0]
    return number
