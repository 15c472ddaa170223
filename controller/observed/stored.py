"""Read and write dataclasses as JSON in a domain's metadata, whatever happened to the values.

What one version of the daemon writes is read by another, and an operator may edit it. So a value
that does not fit is left out and becomes the field's default: a broken value costs only itself,
never the guest or build that it is about. Pure.
"""

import json
import types
import typing
from collections.abc import Hashable
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from functools import cache
from sys import intern
from typing import Any


def stored_fields(kind: type[Any], text: str) -> dict[str, Any]:
    """The fields of the dataclass ``kind`` that the JSON object ``text`` has good values for.

    Keys that the class does not know and values of another type are left out; so are the parts of a
    tuple that do not fit. {} if ``text`` is not an object.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return _known(kind, document) if isinstance(document, dict) else {}


def stored_text(value: Any) -> str:
    """The dataclass ``value`` as JSON that ``stored_fields`` reads; defaults are left out."""
    return json.dumps(_document(value), sort_keys=True, separators=(",", ":"))


def _document(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_document(part) for part in value]
    if not is_dataclass(value):
        return value
    return {
        field.name: _document(part)
        for field in fields(value)
        if (part := getattr(value, field.name)) != _default(field)
    }


def _default(field: Field[Any]) -> Any:
    """The default of ``field``; ``MISSING``, which equals nothing, if it has none."""
    return field.default if field.default_factory is MISSING else field.default_factory()


def _known(kind: type[Any], document: dict[str, Any]) -> dict[str, Any]:
    hints = _hints(kind)  # type: ignore[arg-type] # a class is hashable, whatever mypy says
    known: dict[str, Any] = {}
    for field in fields(kind):
        if field.name in document:
            fits, value = _fit(hints[field.name], document[field.name])
            if fits:
                known[field.name] = value
    return known


@cache
def _hints(kind: Hashable) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _fit(hint: Any, value: Any) -> tuple[bool, Any]:
    """Whether ``value`` fits ``hint``, and its form: lists become tuples, words enum members."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        for choice in typing.get_args(hint):
            fits, fitted = _fit(choice, value)
            if fits:
                return True, fitted
        return False, None
    if origin is tuple:
        item = typing.get_args(hint)[0]
        found = [_fit(item, part) for part in value] if isinstance(value, list) else []
        return isinstance(value, list), tuple(part for fits, part in found if fits)
    if hint is type(None):
        return value is None, None
    if hint is float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return (True, float(value)) if number and _in_range(value) else (False, None)
    if hint is int:
        whole = isinstance(value, int) and not isinstance(value, bool)
        return whole and _in_range(value), value
    if isinstance(hint, type) and issubclass(hint, Enum):
        known = [member for member in hint if member.value == value]
        return (True, known[0]) if known else (False, None)
    if isinstance(hint, type) and is_dataclass(hint):
        return _fit_whole(hint, value)
    fits = isinstance(hint, type) and isinstance(value, hint)
    return fits, intern(value) if fits and isinstance(value, str) else value


def _fit_whole(kind: type[Any], value: Any) -> tuple[bool, Any]:
    """Fit a nested dataclass; not if a field without a default is missing or broken."""
    known = _known(kind, value) if isinstance(value, dict) else {}
    if any(field.name not in known and _default(field) is MISSING for field in fields(kind)):
        return False, None
    return isinstance(value, dict), kind(**known)


def _in_range(number: int | float) -> bool:
    """Whether calculations can use it: no nan, no infinity, no integer beyond 64 bits."""
    return -(2.0**63) < number < 2.0**63
