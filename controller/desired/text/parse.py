"""Parse the text of one file into its documents, each valid or with its problems.

No file system here: the result depends only on the text and the file's name, so the loader can keep
it for as long as the text stays the same.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from sys import intern
from typing import Any

from pydantic import ValidationError

from controller.desired.catalog.sharing import share_parts
from controller.desired.effective import EffectiveInstall, InstallKind, Origin
from controller.desired.schema.documents import (
    DOCUMENTS,
    Document,
    GuestDocument,
    ImageDocument,
    ServiceDocument,
)
from controller.desired.schema.model import API_VERSION
from controller.desired.schema.service import File
from controller.desired.text.problems import Problem, format_path, suggestion, translate
from controller.desired.text.yaml_errors import YamlSyntaxError
from controller.desired.text.yaml_nodes import Path, RawDocument, decode, parse

Key = tuple[str, str]
"""A document's identity: kind and name."""


@dataclass(frozen=True, slots=True)
class LoadedDocument:
    """One document. ``model`` is None if there are ``problems``.

    ``kind`` and ``name`` are empty if the document does not state them well enough. ``lines`` has
    the lines of the fields that other documents can make wrong; ``sources`` the text of the files
    that it names; ``install`` the rendered unattended install of an Image.
    """

    kind: str
    name: str
    origin: Origin
    model: Document | None
    problems: tuple[Problem, ...]
    lines: Mapping[str, int]
    sources: Mapping[str, str]
    install: EffectiveInstall | None = None

    @property
    def key(self) -> Key:
        return (self.kind, self.name)

    def problem(self, field: str, message: str) -> Problem:
        """A problem of this document at the line of ``field``."""
        return Problem(self.origin.file, self.lines.get(field, self.origin.line), field, message)


def read_documents(content: bytes, file: str) -> tuple[LoadedDocument, ...]:
    """Every document in ``content``; raises ``YamlSyntaxError`` if none of it can be used."""
    return tuple(_load(raw, file) for raw in parse(decode(content)))


def syntax_problem(error: YamlSyntaxError, file: str) -> Problem:
    return Problem(file, error.line, "", error.message)


def _load(raw: RawDocument, file: str) -> LoadedDocument:
    origin = Origin(file, raw.line)
    kind, name = _identity(raw.data)
    problems = [
        Problem(file, flaw.line, format_path(flaw.path), flaw.message) for flaw in raw.flaws
    ]
    model: Document | None = None
    found = _envelope(raw, file)
    problems += found
    if not found:
        schema = DOCUMENTS[raw.data["kind"]]
        flawed = {flaw.path for flaw in raw.flaws}
        try:
            model = schema.model_validate(raw.data, by_alias=True, by_name=False)
            share_parts(model.spec)
        except ValidationError as error:
            errors = [
                item
                for item in error.errors(include_url=False)
                if not flawed.intersection(_prefixes(item["loc"]))
            ]
            problems += translate(errors, file, raw.lines, schema)
    if problems or model is None:
        problems.sort()
        return LoadedDocument(kind, name, origin, None, tuple(problems), {}, {})
    lines = {intern(format_path(path)): raw.lines.at(path).line for path in _watched(model)}
    return LoadedDocument(kind, name, origin, model, (), lines, {})


def _prefixes(location: Path) -> set[Path]:
    return {location[:length] for length in range(1, len(location) + 1)}


def _identity(data: Any) -> Key:
    if not isinstance(data, dict):
        return ("", "")
    kind, metadata = data.get("kind"), data.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(kind, str) or kind not in DOCUMENTS or not isinstance(name, str):
        return ("", "")
    return (kind, name)


def _envelope(raw: RawDocument, file: str) -> list[Problem]:
    """Problems that must be corrected before the fields of a kind can be checked."""
    data, lines = raw.data, raw.lines
    if not isinstance(data, dict):
        what = "a list" if isinstance(data, list) else "plain text"
        return [
            Problem(
                file,
                raw.line,
                "",
                f"is {what}, not a document; begin it with apiVersion: {API_VERSION}"
                " (documents in one file are divided by ---)",
            )
        ]
    problems = []
    version = data.get("apiVersion")
    if version != API_VERSION:
        wrong = "is required" if version is None else f"unknown version {_word(version)}"
        problems.append(
            Problem(
                file,
                lines.at(("apiVersion",)).line,
                "apiVersion",
                f"{wrong}; write apiVersion: {API_VERSION}",
            )
        )
    kind = data.get("kind")
    if kind is None:
        message = f"is required; write one of {', '.join(DOCUMENTS)}"
        problems.append(Problem(file, raw.line, "kind", message))
    elif not isinstance(kind, str):
        message = f"must be text; write one of {', '.join(DOCUMENTS)}"
        problems.append(Problem(file, lines.at(("kind",)).line, "kind", message))
    elif kind not in DOCUMENTS:
        tip = suggestion(kind, DOCUMENTS, listing="write one of")
        message = f"unknown kind {_word(kind)}; {tip}"
        problems.append(Problem(file, lines.at(("kind",)).line, "kind", message))
    return problems


def _word(value: Any) -> str:
    if isinstance(value, dict | list):
        return "(a mapping or list)"
    return repr(str(value)[:60]).replace("'", '"')


def _watched(model: Document) -> Iterator[Path]:
    """Paths whose lines are needed later, because other documents or files can make them wrong."""
    yield ("metadata", "name")
    if isinstance(model, ServiceDocument):
        yield from _files(model.spec.files, ("spec",))
    elif isinstance(model, ImageDocument):
        yield from _install(model)
    elif isinstance(model, GuestDocument):
        yield ("spec", "host")
        yield ("spec", "image")
        yield ("spec", "firmware")
        yield ("spec", "systemDisk", "size")
        for index, service in enumerate(model.spec.services):
            here: Path = ("spec", "services", index)
            yield here
            if service.use is not None:
                yield (*here, "use")
                for key in service.values:
                    yield (*here, "values", key)
            yield from _files(service.files, here)
        for index, interface in enumerate(model.spec.interfaces):
            here = ("spec", "interfaces", index)
            if interface.mac is not None:
                yield (*here, "mac")
            if interface.user is not None:
                for number in range(len(interface.user.forwards)):
                    yield (*here, "user", "forwards", number)


def _install(model: ImageDocument) -> Iterator[Path]:
    install = model.spec.source.install
    for kind in InstallKind:
        if install is not None and getattr(model.spec.source, kind.value) is install:
            here: Path = ("spec", "source", kind.value)
            yield (*here, "template")
            yield (*here, "version")
            for key in install.values:
                yield (*here, "values", key)


def _files(files: list[File], here: Path) -> Iterator[Path]:
    for index, file in enumerate(files):
        yield (*here, "files", index, "path")
        yield (*here, "files", index, "source" if file.source is not None else "content")


def named_sources(model: Document) -> Iterator[tuple[str, str]]:
    """Field and value of every ``source:`` of a document."""
    if isinstance(model, ServiceDocument):
        yield from _sources(model.spec.files, "spec")
    elif isinstance(model, GuestDocument):
        for index, service in enumerate(model.spec.services):
            yield from _sources(service.files, f"spec.services[{index}]")


def named_template(model: Document) -> str | None:
    """The template of an Image's unattended install."""
    install = model.spec.source.install if isinstance(model, ImageDocument) else None
    return install.template if install is not None else None


def _sources(files: list[File], here: str) -> Iterator[tuple[str, str]]:
    for index, file in enumerate(files):
        if file.source is not None:
            yield f"{here}.files[{index}].source", file.source
