"""Writes documents as YAML that people can edit and that every YAML version reads the same way."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from controller.desired.schema.model import API_VERSION

_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./-]*|[0-9]+[KMGT]i?")
"""Text that, apart from a few words, every YAML reader takes for a string without quotes."""


_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def document_text(name: str, spec: dict[str, Any], comments: Sequence[str]) -> str:
    """A Guest document in block style, with ``comments`` above it."""
    lines = [
        *(f"# {_shown(line)}" for comment in comments for line in comment.splitlines()),
        f"apiVersion: {API_VERSION}",
        "kind: Guest",
        "metadata:",
        *_block({"name": name}),
        "spec:",
        *_block(spec),
    ]
    return "\n".join(lines) + "\n"


def quoted(text: str) -> str:
    """``text`` as a YAML value, valid also between braces."""
    if _PLAIN.fullmatch(text) and isinstance(yaml.safe_load(text), str):
        return text
    return '"' + _shown(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def guest_name(domain: str) -> str:
    """The guest's name for a domain: the domain's own if that is valid, else one made from it."""
    if _NAME.fullmatch(domain):
        return domain
    plain = unicodedata.normalize("NFKD", domain.replace("ß", "ss")).encode("ascii", "ignore")
    words = re.sub(r"[^a-z0-9]+", "-", plain.decode().lower())[:63].strip("-")
    return words or "guest"


class _Dumper(yaml.SafeDumper):
    """Quotes strings that some YAML version would read as something else (``1e3``)."""


def _represented(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None if _PLAIN.fullmatch(text) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represented)


def _block(mapping: dict[str, Any]) -> Iterator[str]:
    text: str = yaml.dump(
        mapping,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=False,
        width=10**6,
    )
    # Characters that are escaped here are in double quotes, where YAML has the same escapes.
    for line in text.rstrip("\n").split("\n"):
        yield f"  {_shown(line)}" if line else line


def _shown(line: str) -> str:
    """``line`` with escapes for characters that YAML forbids or that control a terminal."""
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else _escaped(ord(c)) for c in line)


def _escaped(code: int) -> str:
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
