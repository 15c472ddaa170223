"""Parse YAML into plain data with line numbers, and refuse what is ambiguous or dangerous.

``yaml.safe_load`` loses line numbers, silently takes the last of two equal keys, reads ``no`` as
false and ``0644`` as 420, turns dates into objects and expands alias bombs. So documents are built
here from the parser's events: iteratively, bounded in depth and in what aliases add, and every
surprise is refused with a message that says what to write instead. Scalars follow YAML 1.2's core
schema, minus the spellings that YAML 1.1 and 1.2 read differently.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from controller.desired.text.yaml_errors import YamlSyntaxError, explain

MAX_DEPTH: Final = 40
"""Levels of nesting a document may have."""
MAX_ALIASED_NODES: Final = 10_000
"""Nodes (and 64-byte pieces of text) that the aliases of one document may stand for, together."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INT = re.compile(r"[-+]?[0-9]+")
_BASED_INT = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL_FLOAT = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"true", "True", "TRUE"})
_FALSE = frozenset({"false", "False", "FALSE"})
_YAML11_TRUE = frozenset({"yes", "Yes", "YES", "on", "On", "ON"})
_YAML11_FALSE = frozenset({"no", "No", "NO", "off", "Off", "OFF"})
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
_STANDARD_TAGS = {
    "tag:yaml.org,2002:str": yaml.ScalarEvent,
    "tag:yaml.org,2002:map": yaml.MappingStartEvent,
    "tag:yaml.org,2002:seq": yaml.SequenceStartEvent,
}

Path = tuple[str | int, ...]


@dataclass(slots=True)
class Lines:
    """The line of a value; a tree of these has the same shape as the data.

    ``raw`` is the text of an unquoted scalar that is not text (a number, true, null), so that a
    message can quote it as it was written.
    """

    line: int
    raw: str | None = None
    children: dict[str, "Lines"] | list["Lines"] | None = None

    def at(self, path: Path) -> "Lines":
        """The node at ``path``, or the nearest one above that exists."""
        node = self
        for part in path:
            child = node._child(part)
            if child is None:
                break
            node = child
        return node

    def has(self, path: Path) -> bool:
        """Whether the document has something at ``path``."""
        node: Lines | None = self
        for part in path:
            node = None if node is None else node._child(part)
        return node is not None

    def _child(self, part: str | int) -> "Lines | None":
        children = self.children
        if isinstance(part, str):
            return children.get(part) if isinstance(children, dict) else None
        return children[part] if isinstance(children, list) and part < len(children) else None


@dataclass(frozen=True, slots=True)
class Flaw:
    """Something that a document may not contain, found while its data were built."""

    path: Path
    line: int
    message: str


@dataclass(frozen=True, slots=True)
class RawDocument:
    """One YAML document as plain data. With ``flaws`` its data may be incomplete."""

    line: int
    data: Any
    lines: Lines
    flaws: tuple[Flaw, ...]


@dataclass(slots=True)
class _Frame:
    data: dict[str, Any] | list[Any]
    node: Lines
    anchor: str | None
    size: int = 1
    key: str | None = None
    key_line: int = 0
    merges: list[tuple[Any, Lines]] = field(default_factory=list)
    skipping: bool = False


def decode(content: bytes) -> str:
    """The text of a file; raises ``YamlSyntaxError`` if it is not UTF-8 text."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise YamlSyntaxError(1, "is UTF-16 text; save it as UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise YamlSyntaxError(
            line, f"is not UTF-8 text (byte 0x{content[error.start]:02x}); save the file as UTF-8"
        ) from error
    found = _CONTROL.search(text)
    if found is not None:
        line = text.count("\n", 0, found.start()) + 1
        what = "a NUL byte" if found[0] == "\0" else f"the control character U+{ord(found[0]):04X}"
        raise YamlSyntaxError(line, f"contains {what}; it is not a text file, or it is damaged")
    return text


def parse(text: str) -> tuple[RawDocument, ...]:
    """All documents of ``text`` that are not empty; raises ``YamlSyntaxError``."""
    documents = []
    builder: _Builder | None = None
    try:
        for event in _events(text):
            if isinstance(event, yaml.DocumentStartEvent):
                builder = _Builder()
            elif isinstance(event, yaml.DocumentEndEvent):
                if builder is not None and builder.root is not None:
                    data, lines = builder.root
                    if data is not None:
                        line = builder.first_line or lines.line
                        documents.append(RawDocument(line, data, lines, tuple(builder.flaws)))
                builder = None
            elif builder is not None:
                builder.add(event)
    except yaml.YAMLError as error:
        raise explain(error, text) from error
    return tuple(documents)


def _events(text: str) -> Iterator[yaml.Event]:
    loader = _LOADER(text)
    try:
        while loader.check_event():
            yield loader.get_event()
    finally:
        loader.dispose()


class _Builder:
    """Builds one document from events, without recursion."""

    def __init__(self) -> None:
        self.root: tuple[Any, Lines] | None = None
        self.first_line = 0
        self.flaws: list[Flaw] = []
        self._stack: list[_Frame] = []
        self._anchors: dict[str, tuple[Any, Lines, int] | None] = {}
        self._aliased = 0

    def add(self, event: Any) -> None:
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            self._alias(str(event.anchor), line)
        elif isinstance(event, yaml.ScalarEvent):
            self._scalar(event, line)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            self._open(event, line)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            self._close()

    def _open(self, event: Any, line: int) -> None:
        mapping = isinstance(event, yaml.MappingStartEvent)
        if self._expects_key():
            raise YamlSyntaxError(
                line,
                "has a mapping or list where the name of a field belongs; a value that begins"
                " with { or [ (such as a template {{ ... }}) must stand in quotes",
            )
        if len(self._stack) >= MAX_DEPTH:
            raise YamlSyntaxError(line, f"is nested more than {MAX_DEPTH} levels deep; flatten it")
        self._check_tag(event, line)
        frame = _Frame(
            {} if mapping else [], Lines(line, None, {} if mapping else []), event.anchor
        )
        if event.anchor is not None:
            self._anchors[event.anchor] = None  # known, but not finished
        self._stack.append(frame)

    def _close(self) -> None:
        frame = self._stack.pop()
        for value, node in frame.merges:
            self._merge(frame, value, node)
        if frame.anchor is not None:
            self._anchors[frame.anchor] = (frame.data, frame.node, frame.size)
        self._put(frame.data, frame.node, frame.size)

    def _scalar(self, event: Any, line: int) -> None:
        text: str = event.value
        if self._expects_key():
            self._key(text, line, plain=not event.style)
            return
        self._check_tag(event, line)
        node = Lines(line)
        value: Any = text
        if _CONTROL.search(text):
            self._flaw(line, "contains a control character; remove its \\x or \\u escape")
        elif not event.style and event.tag in (None, "!"):
            value = self._plain(text, line)
            if not isinstance(value, str):
                node.raw = text
        size = 1 + len(text) // 64
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, node, size)
        self._put(value, node, size)

    def _plain(self, text: str, line: int) -> Any:
        if text in _NULLS:
            return None
        if text in _TRUE or text in _FALSE:
            return text in _TRUE
        if text in _YAML11_TRUE or text in _YAML11_FALSE:
            word = "true" if text in _YAML11_TRUE else "false"
            self._flaw(
                line,
                f"{text} means {word} to some YAML readers and text to others;"
                f' write {word}, or "{text}" in quotes for the text',
            )
            return text
        if _LEADING_ZERO.fullmatch(text):
            plain = text.lstrip("+-0") or "0"
            self._flaw(
                line,
                f"{text} is octal to some YAML readers and decimal to others;"
                f' write "{text}" in quotes (file modes), or {plain} for the number',
            )
            return text
        if _INT.fullmatch(text) or _BASED_INT.fullmatch(text):
            if len(text) <= 30:
                return int(text, 0)
            self._flaw(line, 'is a number of more than 30 digits; write "..." quotes around it')
            return text
        if _SPECIAL_FLOAT.fullmatch(text):
            self._flaw(line, f"{text} is not a usable number; write a finite one")
            return text
        if _FLOAT.fullmatch(text):
            number = float(text)
            if math.isfinite(number):
                return number
            self._flaw(line, 'is a number too large to hold; write "..." quotes around it')
        return text

    def _key(self, text: str, line: int, *, plain: bool) -> None:
        frame = self._stack[-1]
        assert isinstance(frame.data, dict) and isinstance(frame.node.children, dict)  # noqa: S101
        frame.key, frame.key_line = text, line
        if not self.first_line:
            self.first_line = line
        if plain and text == "<<":
            return
        if text in frame.data:
            first = frame.node.children[text].line
            self._flaw(line, f"is given twice, on lines {first} and {line}; keep one of them")
            frame.skipping = True

    def _alias(self, anchor: str, line: int) -> None:
        if self._expects_key():
            raise YamlSyntaxError(line, f"uses *{anchor} as the name of a field; write the name")
        if anchor not in self._anchors:
            raise YamlSyntaxError(
                line,
                f"uses *{anchor}, but there is no &{anchor} above it in this document;"
                " define it first, or put text that begins with * in quotes",
            )
        target = self._anchors[anchor]
        if target is None:
            raise YamlSyntaxError(line, f"*{anchor} stands inside &{anchor} itself; write it out")
        value, node, size = target
        self._aliased += size
        if self._aliased > MAX_ALIASED_NODES:
            raise YamlSyntaxError(
                line,
                f"its aliases stand for more than {MAX_ALIASED_NODES} values;"
                " write the values out instead",
            )
        self._put(value, Lines(line, node.raw, node.children), size)

    def _put(self, value: Any, node: Lines, size: int) -> None:
        if not self._stack:
            self.root = (value, node)
            return
        frame = self._stack[-1]
        frame.size += size
        if isinstance(frame.data, list):
            frame.data.append(value)
            assert isinstance(frame.node.children, list)  # noqa: S101
            frame.node.children.append(node)
            return
        key = frame.key
        frame.key = None
        if frame.skipping or key is None:
            frame.skipping = False
        elif key == "<<":
            frame.merges.append((value, node))
        else:
            node.line = frame.key_line
            frame.data[key] = value
            assert isinstance(frame.node.children, dict)  # noqa: S101
            frame.node.children[key] = node

    def _merge(self, frame: _Frame, value: Any, node: Lines) -> None:
        """Merge YAML 1.1's ``<<`` into a mapping; keys that it has itself win."""
        sources = value if isinstance(value, list) else [value]
        nodes = node.children if isinstance(value, list) else [node]
        assert isinstance(nodes, list) and isinstance(frame.node.children, dict)  # noqa: S101
        for source, place in zip(sources, nodes, strict=True):
            if not isinstance(source, dict) or not isinstance(place.children, dict):
                self._flaw(place.line, "<< takes a mapping; write <<: *NAME of one")
                return
            assert isinstance(frame.data, dict)  # noqa: S101
            for key, item in source.items():
                if key not in frame.data:
                    frame.data[key] = item
                    frame.node.children[key] = place.children[key]

    def _expects_key(self) -> bool:
        return bool(
            self._stack and isinstance(self._stack[-1].data, dict) and self._stack[-1].key is None
        )

    def _check_tag(self, event: Any, line: int) -> None:
        tag = event.tag
        if tag in (None, "!") or isinstance(event, _STANDARD_TAGS.get(tag, ())):
            return
        short = tag.replace("tag:yaml.org,2002:", "!!")
        self._flaw(line, f"has the YAML tag {short}, which is not supported; remove the tag")

    def _flaw(self, line: int, message: str) -> None:
        path: list[str | int] = []
        for frame in self._stack:
            if isinstance(frame.data, list):
                path.append(len(frame.data))
            elif frame.key is not None:
                path.append(frame.key)
        self.flaws.append(Flaw(tuple(path), line, message))
