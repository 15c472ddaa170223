"""Read the template of an answer file and every snippet that it includes.

A file beside the document wins over the one of the same name that comes with guestkeeper, so that a
snippet can be replaced without copying the template. All files are known before anything is
rendered: an include must name its file literally, and an edited snippet is noticed like a document.
"""

import functools
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

import jinja2
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from controller.desired.answers.shipped import NAME, shipped_directory, shipped_names
from controller.desired.files.referenced import Source, SourceReader
from controller.desired.files.trusted_read import Trust
from controller.desired.templates.plain_comments import PlainComments
from controller.desired.templates.sandbox import RAISED, TOO_DEEP, TemplateError, syntax_message
from controller.desired.text.problems import suggestion

MAX_DEPTH: Final = 8
"""Most levels of snippets that include snippets."""
MAX_INCLUDES: Final = 200
"""Most includes of one template in total; those of a snippet count each time."""
# Only parses, with the syntax of desired/templates/sandbox; nothing is rendered by it.
_PARSER = ImmutableSandboxedEnvironment(extensions=[PlainComments])


@dataclass(frozen=True, slots=True)
class TemplateFile:
    """One template; ``label`` is its name in messages."""

    label: str
    text: str


@dataclass(frozen=True, slots=True)
class TemplateSet:
    """A template with all its includes, by name; ``flaw`` is why it is not complete.

    ``looked`` are all sources that were read for it: if they are equal, nothing changed.
    """

    root: str
    files: Mapping[str, TemplateFile]
    flaw: TemplateError | None
    looked: tuple[Source, ...]


class TemplateReader:
    """Reads the files of templates for one directory of documents; not thread-safe."""

    def __init__(self, sources: SourceReader, shipped: Path | None = None) -> None:
        self._sources = sources
        self._directory = shipped or shipped_directory()
        self._shipped = SourceReader(linked=True)

    def begin(self) -> None:
        """Begin a pass; to be called after ``begin`` of the documents' sources."""
        self._shipped.begin(str(self._directory.absolute()), Trust(None))

    def end(self) -> None:
        """Forget the files that the pass did not read."""
        self._shipped.end()

    def read(self, base: str, template: str) -> TemplateSet:
        """The template and its includes, for a document in the directory ``base``."""
        reading = _Reading(self, base)
        try:
            reading.follow(template, (), None)
            flaw = None
        except TemplateError as error:
            flaw = error
        files = MappingProxyType(reading.files)
        return TemplateSet(template, files, flaw, tuple(reading.looked))

    def look(self, base: str, name: str) -> tuple[str, list[Source]]:
        """The label of ``name``, and the sources that were read for it; the last one counts."""
        beside = self._sources.read(base, name)
        if not beside.missing:
            return name, [beside]
        shipped = self._shipped.read("", name)
        return f"{NAME}/{name}", [beside, shipped]

    def unknown(self, name: str) -> str:
        """The message about a name that exists nowhere."""
        under = posixpath.dirname(name)
        known = shipped_names(self._directory, under) or shipped_names(self._directory)
        tip = suggestion(name, known, listing="that has")
        return f"there is no {name} beside the document or in guestkeeper's {NAME}; {tip}"


class _Reading:
    """Reads one template with all its includes."""

    def __init__(self, reader: TemplateReader, base: str) -> None:
        self._reader = reader
        self._base = base
        self.files: dict[str, TemplateFile] = {}
        self.looked: list[Source] = []
        self._includes = 0

    def follow(self, name: str, above: tuple[str, ...], include: "_Include | None") -> None:
        """Reads ``name`` and what it includes; raises ``TemplateError``."""
        if name not in self.files:
            label, found = self._reader.look(self._base, name)
            self.looked += found
            source = found[-1]
            if source.text is None:
                if include is not None and include.optional and source.missing:
                    return
                flaw = source.flaw or ""
                raise TemplateError(self._reader.unknown(name) if source.missing else flaw)
            self.files[name] = TemplateFile(label, source.text)
        file = self.files[name]
        includes = _includes(file.text)
        if includes.flaw:
            raise TemplateError(includes.flaw, includes.line, file.label)
        chain = (*above, name)
        for item in includes.items:
            self._includes += 1
            try:
                if item.name in chain:
                    raise TemplateError(f"{item.name} includes itself; remove one include")
                if len(chain) > MAX_DEPTH:
                    raise TemplateError(f"includes more than {MAX_DEPTH} levels deep; flatten it")
                if self._includes > MAX_INCLUDES:
                    raise TemplateError(f"comes to more than {MAX_INCLUDES} includes; use fewer")
                self.follow(item.name, chain, item)
            except TemplateError as error:
                if error.file:
                    raise
                raise TemplateError(error.message, item.line, file.label) from error


@dataclass(frozen=True, slots=True)
class _Include:
    name: str
    line: int
    optional: bool


@dataclass(frozen=True, slots=True)
class _Includes:
    items: tuple[_Include, ...] = ()
    flaw: str = ""
    line: int = 0


@functools.lru_cache(maxsize=512)
def _includes(text: str) -> _Includes:
    """The includes of a template, or why they cannot be known."""
    try:
        tree = _PARSER.parse(text)
        for other in tree.find_all((nodes.Import, nodes.FromImport, nodes.Extends)):
            word = "extends" if isinstance(other, nodes.Extends) else "import"
            flaw = f'{word} is not supported; write {{% include "snippets/NAME" %}} instead'
            return _Includes(flaw=flaw, line=other.lineno)
        items = []
        for node in tree.find_all(nodes.Include):
            name = node.template.value if isinstance(node.template, nodes.Const) else None
            if not isinstance(name, str):
                flaw = 'include takes one name in quotes, such as "snippets/NAME"; write it out'
                return _Includes(flaw=flaw, line=node.lineno)
            if not name or name.startswith("/") or {"", ".", ".."} & set(name.split("/")):
                flaw = f"{name!r} is not a path below the document's directory; write such a path"
                return _Includes(flaw=flaw, line=node.lineno)
            items.append(_Include(name, node.lineno, node.ignore_missing))
    except jinja2.TemplateSyntaxError as error:
        return _Includes(flaw=syntax_message(error), line=error.lineno)
    except RAISED:
        return _Includes(flaw=TOO_DEEP, line=1)
    return _Includes(tuple(items))
