"""Small types that schema fields are made of: names, paths, ports, addresses, change classes.

Each refuses what does not fit with a message for a person, and gives the JSON Schema the same rule.
Pure: nothing here looks at the clock, the disk or the network; the machine's time zones count as
constants.
"""

import re
import unicodedata
from datetime import UTC, datetime, tzinfo
from enum import StrEnum
from functools import cache, lru_cache
from typing import Annotated, Any, LiteralString
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import CoreSchema, PydanticCustomError
from pydantic_core.core_schema import no_info_after_validator_function


class Change(StrEnum):
    """What it takes to carry out a change of a field on an existing guest."""

    GUEST = "guest"  # applied inside the guest
    LIVE = "live"  # applied to the running domain
    RESTART = "restart"  # needs a cold boot; a guest's own reboot does not apply it
    REPLACE = "replace"  # needs a new system disk
    IMMUTABLE = "immutable"  # refused with the reason
    CONTROLLER = "controller"  # changes what the daemon does, nothing on the guest


def _refuse(_value: Any) -> Any:
    raise PydanticCustomError("not_supported_yet", "is not supported yet; remove it")


NotYet = BeforeValidator(_refuse)


class Only:
    """Accepts only the values ``allowed``; the field's other values are not implemented yet."""

    def __init__(self, *allowed: str) -> None:
        self.allowed = allowed

    def _check(self, value: Any) -> Any:
        if str(value) not in self.allowed:
            raise PydanticCustomError(
                "not_supported_yet",
                "{value} is not supported yet; write {words}",
                {"value": str(value), "words": " or ".join(self.allowed)},
            )
        return value

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return no_info_after_validator_function(self._check, handler(source))


class Matching:
    """Text that matches ``pattern`` as a whole; the JSON Schema gets the same pattern."""

    def __init__(self, pattern: str, error: LiteralString, message: LiteralString) -> None:
        self._pattern = re.compile(pattern)
        self._error = PydanticCustomError(error, message)

    def _check(self, value: str) -> str:
        if self._pattern.fullmatch(value) is None:
            raise self._error
        return value

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        schema = dict(handler(core))
        pattern = f"^(?:{self._pattern.pattern})$"
        if "pattern" in schema:
            schema.setdefault("allOf", []).append({"pattern": pattern})
        else:
            schema["pattern"] = pattern
        return schema


_JOINERS = frozenset("\u00ad\u200c\u200d\u2060") | {chr(tag) for tag in range(0xE0020, 0xE0080)}
"""Soft hyphen, zero-width (non-)joiner, word joiner; the tags that end a flag's emoji."""


class Printable:
    """Text without characters that control a terminal or break XML; outer white space is dropped.

    ``lines``: whether several lines are allowed.
    """

    def __init__(self, *, lines: bool) -> None:
        self.lines = lines

    def _check(self, value: str) -> str:
        value = value.strip()
        if not self.lines and "\n" in value:
            raise PydanticCustomError("one_line", "must be one line of text")
        if not all(self._may_stand(char) for char in value):
            raise PydanticCustomError("printable", "must have printable characters only")
        return value

    def _may_stand(self, char: str) -> bool:
        """Whether ``char`` is allowed: also spaces of all widths, joiners in words and emojis."""
        return (
            char.isprintable()
            or (self.lines and char in "\n\t")
            or unicodedata.category(char) == "Zs"
            or char in _JOINERS
        )

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return no_info_after_validator_function(self._check, handler(source))


Name = Annotated[
    str,
    Matching(
        r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?",
        "name",
        "must be 1 to 63 lower-case letters, digits or '-', beginning and ending with a letter"
        " or digit",
    ),
]
Title = Annotated[str, Field(max_length=255), Printable(lines=False)]
Description = Annotated[str, Field(max_length=4096), Printable(lines=True)]
_TITLE: TypeAdapter[str] = TypeAdapter(Title)
_DESCRIPTION: TypeAdapter[str] = TypeAdapter(Description)


@lru_cache(maxsize=4096)
def can_be_said(text: str, *, lines: bool) -> bool:
    """Whether a document may have ``text`` as title or, with ``lines``, as description."""
    try:
        (_DESCRIPTION if lines else _TITLE).validate_python(text)
    except ValidationError:
        return False
    return True


LabelValue = Annotated[str, Field(max_length=63)]
AbsolutePath = Annotated[
    str,
    Matching(r"(/[^/\0\n]+)+", "absolute_path", "must be an absolute path such as /etc/app.conf"),
    Matching(r"(?!.*/\.\.?(/|$)).*", "absolute_path", "must not contain . or .. parts"),
]
UnitName = Annotated[
    str,
    Matching(
        r"[A-Za-z0-9:_.\\@-]+\.(service|socket|timer|target|path|mount)",
        "unit",
        "must be a systemd unit name with its suffix, such as nginx.service",
    ),
]
PackageName = Annotated[
    str, Matching(r"[A-Za-z0-9][A-Za-z0-9+._:~-]*", "package", "must be a package name")
]
Port = Annotated[int, Field(ge=1, le=65535)]
Mac = Annotated[
    str,
    Matching(
        r"[0-9a-f][02468ace](:[0-9a-f]{2}){5}",
        "mac",
        "must be a unicast MAC address in lower case, such as 52:54:00:12:34:56",
    ),
]
Sha256 = Annotated[
    str,
    Matching(r"[0-9a-f]{64}", "sha256", "must be the 64 hex digits that sha256sum prints"),
]
FileMode = Annotated[
    str,
    Matching(r"0?[0-7]{3,4}", "mode", 'must be an octal mode in quotes, such as "0644"'),
]
PoolName = Annotated[
    str, Matching(r"[A-Za-z0-9_.-]+", "pool", "must be the name of a storage pool")
]
# Names that libvirt allows for a volume or a network: ISO images have spaces and brackets.
_NAMED = r"(?!\.{1,2}$)[^/\s\x00-\x1f\x7f-\x9f]([^/\x00-\x1f\x7f-\x9f]*[^/\s\x00-\x1f\x7f-\x9f])?"
VolumeName = Annotated[
    str,
    Field(max_length=255),
    Matching(_NAMED, "volume", "must be the name of a volume in its pool"),
    Printable(lines=False),
]
NetworkName = Annotated[
    str,
    Field(max_length=255),
    Matching(_NAMED, "network", "must be the name of a libvirt network"),
    Printable(lines=False),
]
BridgeName = Annotated[
    str, Matching(r"[A-Za-z0-9_.-]{1,15}", "bridge", "must be the name of a bridge, such as br0")
]
User = Annotated[str, Matching(r"[A-Za-z_][A-Za-z0-9_.-]*", "user", "must be a user's name")]

RelativeFile = Annotated[
    str,
    Matching(
        r"(?!/)(?!.*(^|/)\.\.(/|$))[^\0\n]+",
        "relative_file",
        "must be a path inside the images directory of the settings, without ..",
    ),
]
FileOrUrl = Annotated[
    str,
    Matching(
        r"https?://[!-~]+|(?!https?:)(?!/)(?!.*://)(?!.*(^|/)\.\.(/|$))[^\0\n]+",
        "file_or_url",
        "must be an http:// or https:// address, or a path inside the images directory of the"
        " settings, without ..",
    ),
]
TemplateFile = Annotated[
    str,
    Matching(
        r"(?!/)(?!.*(^|/)\.\.(/|$))[^\0\n]+",
        "template_file",
        "must be a path relative to the document, or the name of a template that comes with"
        " guestkeeper, without ..",
    ),
]
KickstartVersion = Annotated[
    str,
    Matching(
        r"(RHEL|FC?)[0-9]+",
        "kickstart_version",
        "must be a version as ksvalidator -l lists them, such as RHEL9 or F41",
    ),
]
KernelArguments = Annotated[
    str, Matching(r"[ -~]*", "kernel_arguments", "must be one line of printable ASCII text")
]
Url = Annotated[str, Matching(r"https?://[!-~]+", "url", "must be an http:// or https:// address")]
OpenUrl = Annotated[
    Url,
    Matching(
        r"[^/]*//[^/?#@]*([/?#].*)?",
        "open_url",
        "must be without user and password: it stands in the installer's kernel arguments, which"
        " everybody on the host may read",
    ),
]


@cache
def time_zone(name: str) -> tzinfo:
    """The time zone ``name``; raises ``LookupError`` if this machine does not have it."""
    if name == "UTC":
        return UTC  # also where no time zones are installed
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError) as error:
        raise LookupError(name) from error


def _check_time_zone(name: str) -> str:
    try:
        time_zone(name)
    except LookupError:
        raise PydanticCustomError(
            "time_zone", "must be a time zone that this machine has, such as Europe/Berlin"
        ) from None
    return name


_CRON_FIELDS = {
    "minute": "0 to 59",
    "hour": "0 to 23",
    "day-of-month": "a day that its months have, 1 to 31 or L",
    "month": "1 to 12, or JAN to DEC",
    "day-of-week": "0 to 7, or SUN to SAT",
}


def _check_cron(text: str) -> str:
    try:
        CronSim(text, datetime(2000, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        part = str(error).removeprefix("Bad ")
        raise PydanticCustomError(
            "cron_field",
            "has a wrong {part} (MINUTE HOUR DAY MONTH WEEKDAY); write {wanted}",
            {"part": part, "wanted": _CRON_FIELDS[part]},
        ) from None
    return text


TimeZone = Annotated[str, AfterValidator(_check_time_zone)]
Cron = Annotated[
    str,
    Matching(
        r"[0-9A-Za-z*/,#-]{1,99}( +[0-9A-Za-z*/,#-]{1,99}){4}",
        "cron",
        "must be five fields, MINUTE HOUR DAY MONTH WEEKDAY, such as 0 3 * * 0",
    ),
    AfterValidator(_check_cron),
]
