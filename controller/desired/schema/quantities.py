"""Parse and format quantities in documents: sizes ("512Mi", "4Gi"), durations ("45m", "2h").

Sizes have Kubernetes' suffixes (binary ``Ki Mi Gi Ti``, decimal ``K M G T``); durations have
those of systemd and Go (``s m h d``, may be combined: ``1h30m``).
"""

import re
from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, PydanticCustomError
from pydantic_core.core_schema import no_info_after_validator_function

_SIZE = re.compile(r"([0-9]{1,16})(Ki|Mi|Gi|Ti|K|M|G|T)?")
_FACTORS = {
    None: 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12,
    "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40,
}  # fmt: skip
_DURATION = re.compile(r"(?:([0-9]{1,9})d)?(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m)?(?:([0-9]{1,9})s)?")
_LARGEST_SIZE = 2**60  # 1 EiB: more is a mistake, and libvirt counts in 64 bits
LONGEST_DURATION = 10 * 365 * 86400.0


def parse_size(value: Any) -> int:
    """Bytes of ``value``; raises a pydantic error that says how to write it."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None or int(match[1]) == 0:
        raise PydanticCustomError(
            "size", "must be a size above zero such as 512Mi or 4Gi (Ki Mi Gi Ti, K M G T, bytes)"
        )
    size = int(match[1]) * _FACTORS[match[2]]
    if size > _LARGEST_SIZE:
        raise PydanticCustomError("size_large", "must be at most 1048576Ti")
    return size


def format_size(size: int) -> str:
    """``size`` bytes as the shortest exact quantity: 4294967296 -> ``4Gi``."""
    for suffix in ("Ti", "Gi", "Mi", "Ki"):
        if size and size % _FACTORS[suffix] == 0:
            return f"{size // _FACTORS[suffix]}{suffix}"
    return str(size)


def parse_duration(value: Any) -> float:
    """Seconds of ``value``; a bare number is seconds."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if 0 <= value <= LONGEST_DURATION:
            return float(value)
        value = None
    match = _DURATION.fullmatch(value) if isinstance(value, str) and value else None
    if match is None:
        raise PydanticCustomError("duration", "must be a duration such as 30s, 45m, 2h or 1h30m")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    duration = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    if duration > LONGEST_DURATION:
        raise PydanticCustomError("duration_long", "must be at most 3650d")
    return float(duration)


def format_duration(seconds: float) -> str:
    """Whole ``seconds`` in the largest unit that says them exactly: 5400 -> ``90m``."""
    whole = int(seconds)
    for suffix, factor in (("d", 86400), ("h", 3600), ("m", 60)):
        if whole and whole % factor == 0:
            return f"{whole // factor}{suffix}"
    return f"{whole}s"


class Lasting:
    """A duration of at least ``least`` and at most ``most`` seconds."""

    def __init__(self, least: float = 0.0, most: float = LONGEST_DURATION) -> None:
        self.least = least
        self.most = most

    def _check(self, value: float) -> float:
        if value < self.least:
            bound = {"least": format_duration(self.least)}
            raise PydanticCustomError("duration_short", "must be at least {least}", bound)
        if value > self.most:
            bound = {"most": format_duration(self.most)}
            raise PydanticCustomError("duration_long", "must be at most {most}", bound)
        return value

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        schema = dict(handler(core))
        text, number = schema["anyOf"]
        schema["anyOf"] = [text, {**number, "minimum": self.least, "maximum": self.most}]
        return schema


Size = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": "^[0-9]+(Ki|Mi|Gi|Ti|K|M|G|T)?$"},
                {"type": "integer", "minimum": 1},
            ],
            "examples": ["512Mi", "4Gi"],
        }
    ),
]
"""A size in bytes."""

Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": "^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$"},
                {"type": "number", "minimum": 0},
            ],
            "examples": ["30s", "45m", "2h"],
        }
    ),
]
"""A duration in seconds."""
