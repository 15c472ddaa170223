"""Problems of the desired state, worded so that the author of a document can correct them.

A problem names the file, the line, the field and the remedy. Pydantic's errors are translated here:
they are about Python types, ours are about what to write instead.
"""

import difflib
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from controller.desired.schema.tree import allowed_fields, home_of
from controller.desired.text.hints import as_written, remedy
from controller.desired.text.yaml_nodes import Lines, Path

MAX_PROBLEMS = 20
"""Most problems reported for one document; more would hide the first."""

_EXAMPLES = {
    "apiVersion": "apiVersion: guestkeeper/v1alpha1",
    "kind": "kind: Guest",
    "metadata": "metadata: {name: web1}",
    "name": "name: web1",
    "spec": "spec:",
    "image": "image: debian12",
    "memory": "memory: {size: 512Mi}",
    "size": "size: 4Gi",
    "osFamily": "osFamily: debian",
    "source": "source: {file: debian12.qcow2}",
    "path": "path: /etc/app.conf",
    "port": "port: 80",
    "command": "command: [/usr/bin/true]",
    "unit": "unit: nginx.service",
    "kernel": "kernel: vmlinuz",
    "template": "template: rhel9-minimal.ks.j2",
    "version": "version: RHEL9",
    "location": 'location: {tree: "https://..."}',
    "volume": "volume: rocky9.iso",
    "cron": 'cron: "0 3 * * 0"',
    "duration": "duration: 2h",
    "rootPasswordHashFrom": "{file: /etc/guestkeeper/secrets/root.hash}",
}


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """``file:line: field: message``; the message contains what to write instead.

    ``line`` is 1-based, 0 where the problem is the file or the directory as a whole; ``field`` is a
    path such as ``spec.disks[0].size``, empty where no field is meant.
    """

    file: str
    line: int
    field: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        text = ": ".join(part for part in (place, self.field, self.message) if part)
        # Names of files and fields are the user's: keep one line without control characters.
        return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def format_path(path: Iterable[str | int]) -> str:
    """``("spec", "disks", 0, "size")`` as ``spec.disks[0].size``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif not part.replace("-", "_").isidentifier():
            text += f"[{as_written(part)}]"
        else:
            text += f".{part}" if text else part
    return text


def closest(word: str, known: Collection[str]) -> str | None:
    """The known word that was probably meant; None if none is similar enough."""
    lower = {name.lower(): name for name in sorted(known)}
    squeezed = word.lower().replace("_", "").replace("-", "")
    if squeezed in lower:
        return lower[squeezed]
    close = difflib.get_close_matches(word.lower(), list(lower), n=1, cutoff=0.6)
    return lower[close[0]] if close else None


def suggestion(word: str, known: Collection[str], *, listing: str = "known are") -> str:
    """``did you mean `x`?``, or the list of the known words."""
    meant = closest(word, known)
    if meant is not None:
        return f"did you mean `{meant}`?"
    if not known:
        return "there are none"
    names = sorted(known)
    more = f" and {len(names) - 24} more" if len(names) > 24 else ""
    return f"{listing} {', '.join(names[:24])}{more}"


def translate(errors: Sequence[Any], file: str, lines: Lines, document: type) -> list[Problem]:
    """Pydantic's ``errors()`` of one ``document`` as problems, in the file's order."""
    problems = []
    misspelt = {_meant(error["loc"], document) for error in errors if _is_unknown(error)}
    for error in errors:
        if error["type"] == "missing" and error["loc"] in misspelt:
            continue  # reported once, at the misspelt field
        location: Path = tuple(part for part in error["loc"] if part != "[key]")
        if "field" in error.get("ctx", {}):  # our own error, about several fields
            location = (*location, error["ctx"]["field"])
        path = location
        known = _existing(lines, location)
        if error["type"] not in ("missing", "extra_forbidden"):
            path = known
        problems.append(
            Problem(
                file,
                lines.at(location).line,
                format_path(path),
                _message(error, location, lines, document),
            )
        )
    problems.sort()
    if len(problems) > MAX_PROBLEMS:
        rest = len(problems) - MAX_PROBLEMS
        last = problems[MAX_PROBLEMS].line
        more = Problem(file, last, "", f"{rest} more problems in this document; fix these first")
        problems = [*problems[:MAX_PROBLEMS], more]
    return problems


def _existing(lines: Lines, location: Path) -> Path:
    """The part of ``location`` that exists in the document."""
    for length in range(len(location), 0, -1):
        if lines.has(location[:length]):
            return location[:length]
    return ()


def _message(error: Any, location: Path, lines: Lines, document: type) -> str:
    type_, value, context = error["type"], error["input"], error.get("ctx", {})
    raw = lines.at(location).raw
    if type_ == "missing":
        name = str(location[-1])
        example = _EXAMPLES.get(name)
        return f"is required; add {example}" if example else "is required; add it"
    if type_ == "extra_forbidden":
        return _unknown_field(location, document)
    if value is None and type_ not in ("not_supported_yet",):
        remove = "" if location[-1] in _EXAMPLES else ", or remove the line"
        return f"is empty; write {_wanted(type_, context)}{remove}"
    # A secret that was written in place of a reference to it must not be quoted into a log.
    secret = any(str(part).endswith("From") for part in location) or _LOGIN.search(str(value))
    written = "what is there" if secret else as_written(value, raw)
    if type_ in _TYPES:
        hint = remedy(type_, value, raw)
        if hint is None:
            hint = f"; write {_example(type_, location)} instead of {written}"
        return f"must be {_TYPES[type_]}, not {_is(value)}{hint}"
    if type_ in ("enum", "literal_error"):
        allowed = [part.strip("'") for part in _choices(context.get("expected", ""))]
        if isinstance(value, str):
            tip = suggestion(value, allowed, listing="write one of")
            return f"{written} is not allowed here; {tip}" + _list_unless(tip, allowed)
        return f"must be one of {', '.join(allowed)}, not {written}"
    bound = _bound(type_, context)
    if bound is not None:
        return f"{bound}, not {_count(type_, value, written)}"
    message = str(error["msg"])
    hint = remedy(type_, value, raw)
    if hint is not None:
        return f"{message}{hint}"
    if message.startswith("must ") and not secret and not isinstance(value, dict | list):
        return f"{message}, not {written}"
    return message


_LOGIN = re.compile(r"://[^/?#\s]*@")

_TYPES = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "dict_type": "a mapping of 'name: value' lines",
    "model_type": "a mapping of 'field: value' lines",
    "model_attributes_type": "a mapping of 'field: value' lines",
}


def _example(type_: str, location: Path) -> str:
    known = _EXAMPLES.get(str(location[-1]), "")
    if type_.startswith(("model", "dict")):
        return f"such as {known}" if "{" in known else "its fields, each on a line of its own,"
    examples = {"bool_type": "true or false", "string_type": "text", "list_type": "a list [a, b]"}
    return examples.get(type_, "a number such as 2")


def _is(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return "a number"
    if isinstance(value, float):
        return "a number with a fraction"
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, list) else "a mapping"


def _wanted(type_: str, context: dict[str, Any]) -> str:
    if type_ in ("enum", "literal_error"):
        return "one of " + ", ".join(_choices(context.get("expected", "")))
    known = {"size": "a size such as 4Gi", "duration": "a duration such as 5m"}
    return _TYPES.get(type_) or known.get(type_) or "a value"


def _choices(expected: str) -> list[str]:
    return [part.strip().strip("'") for part in expected.replace(" or ", ", ").split(",")]


def _list_unless(tip: str, allowed: Sequence[str]) -> str:
    return f" (allowed: {', '.join(allowed)})" if tip.startswith("did you") else ""


def _number(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _bound(type_: str, context: dict[str, Any]) -> str | None:
    if type_ == "greater_than_equal":
        return f"must be at least {_number(context['ge'])}"
    if type_ == "less_than_equal":
        return f"must be at most {_number(context['le'])}"
    if type_ == "string_too_long":
        return f"must have at most {context['max_length']} characters"
    if type_ == "too_long":
        return f"must have at most {context['max_length']} items"
    if type_ == "too_short":
        return f"must have at least {context['min_length']} items"
    return None


def _count(type_: str, value: Any, written: str) -> str:
    if type_ in ("string_too_long", "too_long", "too_short") and isinstance(value, str | list):
        return str(len(value))
    return written


def _is_unknown(error: Any) -> bool:
    return bool(error["type"] == "extra_forbidden")


def _meant(location: Path, document: type) -> Path:
    """The path of the known field that an unknown one was probably meant to be."""
    known = allowed_fields(document, location[:-1])
    return (*location[:-1], closest(str(location[-1]), known) or "")


def _unknown_field(location: Path, document: type) -> str:
    name, parents = str(location[-1]), location[:-1]
    allowed = allowed_fields(document, parents)
    tip = suggestion(name, allowed, listing="allowed here are")
    if not tip.startswith("did you"):
        home = home_of(document, name, allowed)
        if home is not None and home != parents:
            where = format_path(home)
            return (
                f"does not belong here; move it under {where}"
                if where
                else ("does not belong here; it stands at the top of the document")
            )
    return f"unknown field; {tip}"
