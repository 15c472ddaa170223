"""Remedies that depend on what was written: ``4GB`` should be ``4Gi``.

Every hint begins with ``; write ...`` (or ``, not ...; write ...``) and follows the rule that was
broken. A hint is given only if it is clear what was meant.
"""

import posixpath
import re
from collections.abc import Callable
from typing import Any

_SIZE_SLIP = re.compile(r"([0-9]+)(?:\.([0-9]+))?\s*([kKmMgGtT])(?:i?[bB]?|i)", re.ASCII)
_BARE_SIZE = re.compile(r"[0-9]+\s*[bB]")
_SMALLER = {"T": "Gi", "G": "Mi", "M": "Ki"}
_DURATION_SLIP = re.compile(r"([0-9]+)\s*([a-zA-Z]+)", re.ASCII)
_DURATION_WORDS = {
    "s": ("s", "sec", "secs", "second", "seconds"),
    "m": ("m", "min", "mins", "minute", "minutes"),
    "h": ("h", "hr", "hrs", "hour", "hours"),
    "d": ("d", "day", "days"),
}
_DOCKER_PORTS = re.compile(r"([0-9]{1,5}):([0-9]{1,5})(/tcp|/udp)?", re.ASCII)
_CRON_WORDS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_LONGEST = 60


def as_written(value: Any, raw: str | None = None) -> str:
    """``value`` as it is written in the document, shortened."""
    if raw is not None:
        return _short(raw)
    if isinstance(value, str):
        return f'"{_short(value)}"'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "a list"
    return "a mapping" if isinstance(value, dict) else _short(str(value))


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def remedy(type_: str, value: Any, raw: str | None) -> str | None:
    """The end of the message for an error of pydantic's ``type_``; None if there is no hint."""
    if isinstance(value, str):
        instead = _instead_of_text(type_, value)
        written = as_written(value)
        if instead is None:
            return None
        joint = "" if type_ in _WRONG_TYPE else f", not {written}"
        return f"{joint}; write {instead}" + ("" if joint else f" instead of {written}")
    if type_ == "string_type" and raw is not None:
        return f'; write "{_short(raw)}" instead of {_short(raw)}'
    if type_ == "int_from_float" or (type_ == "int_type" and isinstance(value, float)):
        return f"; write {int(value)} instead of {raw or value}"
    if type_ == "list_type":
        what = "the mapping" if isinstance(value, dict) else as_written(value, raw)
        return f"; begin each item with '- ', also if {what} is the only one"
    if type_ in ("dict_type", "model_type", "model_attributes_type") and isinstance(value, list):
        return "; remove the '- ' before its fields"
    if type_ == "mode" and raw is not None:
        return f', not {raw}; write "0{raw}"'
    return None


_WRONG_TYPE = frozenset(
    {"int_type", "float_type", "bool_type", "list_type", "dict_type", "model_type", "string_type"}
)


def _instead_of_text(type_: str, value: str) -> str | None:
    text = value.strip()
    simple: dict[str, Callable[[], str | None]] = {
        "int_type": lambda: text if re.fullmatch(r"-?[0-9]{1,18}", text, re.ASCII) else None,
        "float_type": lambda: _number(text),
        "bool_type": lambda: _boolean(text),
        "list_type": lambda: (
            f"[{', '.join(text.split())}]" if re.fullmatch(r"[\w./ =+-]+", text) else None
        ),
        "name": lambda: _name(text),
        "size": lambda: _size(text),
        "duration": lambda: _duration(text),
        "mac": lambda: _mac(text),
        "sha256": lambda: text.lower() if re.fullmatch(r"[0-9A-Fa-f]{64}", text) else None,
        "unit": lambda: f"{text}.service" if re.fullmatch(r"[A-Za-z0-9:_@-]+", text) else None,
        "forward": lambda: _forward(text),
        "kickstart_version": lambda: _version(text),
        "cron": lambda: _cron(text),
        "absolute_path": lambda: posixpath.normpath(f"/{text}".replace("//", "/")),
        "path": lambda: f"/{text}" if re.fullmatch(r"[!-.0-~][!-~]*", text) else None,
    }
    rule = simple.get(type_)
    return rule() if rule is not None else None


def _number(text: str) -> str | None:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*(?:s|sec|seconds)?", text, re.ASCII)
    return match[1] if match is not None else None


def _boolean(text: str) -> str | None:
    if text.lower() in ("true", "yes", "on", "1"):
        return "true"
    return "false" if text.lower() in ("false", "no", "off", "0") else None


def _name(text: str) -> str | None:
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:63].strip("-")
    return name or None


def _size(text: str) -> str | None:
    if _BARE_SIZE.fullmatch(text):
        return text.rstrip("bB ").strip()
    match = _SIZE_SLIP.fullmatch(text)
    if match is None:
        return None
    whole, fraction, unit = match[1], match[2], match[3].upper()
    if not fraction:
        return f"{whole}{unit}i" if int(whole[:16]) else None
    smaller = _SMALLER.get(unit)
    if smaller is None or len(whole) > 6 or len(fraction) > 6:
        return None
    return f"{round(float(f'{whole}.{fraction}') * 1024)}{smaller}"


def _duration(text: str) -> str | None:
    match = _DURATION_SLIP.fullmatch(text)
    if match is None:
        return None
    for unit, words in _DURATION_WORDS.items():
        if match[2].lower() in words:
            return f"{match[1]}{unit}"
    return None


def _mac(text: str) -> str | None:
    digits = re.sub(r"[-:.]", "", text).lower()
    if not re.fullmatch(r"[0-9a-f][02468ace][0-9a-f]{10}", digits):
        return None
    return ":".join(digits[index : index + 2] for index in range(0, 12, 2))


def _version(text: str) -> str | None:
    match = re.fullmatch(r"(rhel|centos|rocky|alma|f|fc|fedora)[ -]?([0-9]{1,2})", text.lower())
    if match is None:
        return None
    return f"{'F' if match[1].startswith('f') else 'RHEL'}{match[2]}"


def _cron(text: str) -> str | None:
    words = _CRON_WORDS.get(text.lower())
    return f'"{words}"' if words is not None else None


def _forward(text: str) -> str | None:
    match = _DOCKER_PORTS.fullmatch(text)
    return f"127.0.0.1:{match[1]}:{match[2]}{match[3] or '/tcp'}" if match else None
