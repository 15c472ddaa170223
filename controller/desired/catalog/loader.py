"""Read the documents of a directory, and only the files that changed.

File events are only hints, so all files are scanned again every 30 s. That must cost next to
nothing: a file with the same inode, size and times is not opened, and one with the same content is
not parsed. What a problem means for a guest is decided by the catalog.
"""

import hashlib
import os
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from controller.desired.answers.installs import KSVALIDATOR, LoadedInstall, load_install
from controller.desired.answers.ksvalidator import Ksvalidator
from controller.desired.answers.templates import TemplateReader
from controller.desired.catalog.resolve import check_templates
from controller.desired.files.path_trust import check_path
from controller.desired.files.referenced import Source, SourceReader, is_settled
from controller.desired.files.trusted_read import (
    MAX_DOCUMENT_BYTES,
    Signature,
    Trust,
    UnusableFileError,
    read_file,
    signature,
    unusable,
)
from controller.desired.files.walk import Found, Walk, is_document, walk
from controller.desired.text.parse import (
    LoadedDocument,
    named_sources,
    named_template,
    read_documents,
    syntax_problem,
)
from controller.desired.text.problems import Problem
from controller.desired.text.yaml_errors import YamlSyntaxError


@dataclass(frozen=True, slots=True)
class Load:
    """The result of one pass over a directory.

    ``problems`` are those of files and directories; documents have their own. ``usable`` is false
    if the directory as a whole gave nothing, ``empty`` true if that is because it exists but has no
    documents. ``unsettled``: a file was left for the next pass because somebody may still be
    writing it. ``device`` is the directory's file system (``st_dev``). ``places`` are the
    directories that were read, each with its device, and ``files`` the documents' files, both named
    as in the documents' origins; ``cut`` are files whose last line has no newline.
    """

    documents: tuple[LoadedDocument, ...]
    problems: tuple[Problem, ...]
    broken_files: frozenset[str]
    usable: bool
    unsettled: bool
    changed: bool
    empty: bool = False
    device: int | None = None
    places: Mapping[str, int] = field(default_factory=dict)
    files: frozenset[str] = frozenset()
    cut: frozenset[str] = frozenset()


@dataclass(slots=True)
class _File:
    signature: Signature
    settled: bool
    digest: bytes
    parsed: tuple[LoadedDocument, ...]
    documents: tuple[LoadedDocument, ...]
    sources: tuple[Source, ...]
    problem: Problem | None
    used: tuple[tuple[str, str, int], ...]
    """Field and name of each source, and the index of its document in the file."""
    templates: tuple[tuple[str, int], ...]
    """The template of each unattended install, and the index of its document in the file."""
    cut: bool
    """The last line has no newline."""


class Loader:
    """Loads one directory or, with ``only``, one file of it. Not thread-safe.

    ``prefix`` is put before every file's name in problems; ``check_permissions=False`` is for
    checkouts whose modes mean nothing (``guestkeeper validate`` in a CI job). ``shipped`` is the
    directory of the templates that come with guestkeeper.
    """

    def __init__(
        self,
        root: Path,
        *,
        prefix: str = "",
        only: str | None = None,
        check_permissions: bool = True,
        shipped: Path | None = None,
        validator: Ksvalidator = KSVALIDATOR,
    ) -> None:
        self.root = root
        self._prefix = prefix
        self._only = only
        self._check = check_permissions
        self._files: dict[str, _File] = {}
        self._sources = SourceReader()
        self._templates = TemplateReader(self._sources, shipped)
        self._validator = validator
        self._trust = Trust(None)
        self._last: Load | None = None
        self._changed = True

    def load(self, *, settle: float = 0.0) -> Load:
        """Read what changed. A file written less than ``settle`` seconds ago is left for later."""
        self._changed = False
        try:
            walked, trust, root, device = self._walk()
        except OSError as error:
            return self._finish((), (self._directory_problem(str(unusable(error))),), usable=False)
        except UnusableFileError as error:
            return self._finish((), (self._directory_problem(str(error)),), usable=False)
        if trust != self._trust:
            self._files.clear()
            self._trust = trust
        if not walked.files and not walked.refused:
            message = "has no documents (*.yaml); put them there or mount it"
            problems = (self._directory_problem(message),)
            return self._finish((), problems, usable=False, empty=True, device=device)
        return self._read(walked, root, device, time.time_ns(), int(settle * 1e9))

    def _walk(self) -> tuple[Walk, Trust, str, int]:
        root = os.path.realpath(self.root, strict=True)
        status = os.stat(root)  # noqa: PTH116 - the walk's paths are plain text
        if not stat.S_ISDIR(status.st_mode):
            raise UnusableFileError("is a file, not a directory; correct the path")
        trust = Trust.of_directory(status) if self._check else Trust(None)
        check_path(str(self.root), trust)
        if self._only is None:
            return walk(root, trust), trust, root, status.st_dev
        walked = Walk()
        path = os.path.realpath(f"{root}/{self._only}", strict=True)
        walked.files[path] = Found(self._only, path, os.stat(path))  # noqa: PTH116
        return walked, trust, root, status.st_dev

    def _read(self, walked: Walk, root: str, device: int, now_ns: int, settle_ns: int) -> Load:
        problems = [Problem(self._prefix + name, 0, "", text) for name, text in walked.refused]
        files: dict[str, _File] = {}
        unsettled = False
        self._sources.begin(root, self._trust)
        self._templates.begin()
        for found in sorted(walked.files.values(), key=lambda item: item.name):
            old = self._files.get(found.name)
            fresh = signature(found.status)
            if old is not None and old.settled and old.signature == fresh:
                file = old
            elif (
                settle_ns
                and 0 <= now_ns - found.status.st_mtime_ns < settle_ns
                and (old is None or old.signature != fresh)
            ):
                unsettled = True
                if old is None:
                    continue
                file = old
            else:
                file = self._open(found, old, now_ns)
            if file.used or file.templates:
                self._attach(file, os.path.dirname(found.name))  # noqa: PTH120
            files[found.name] = file
            if file.problem is not None:
                problems.append(file.problem)
        self._sources.end()
        self._templates.end()
        if files.keys() != self._files.keys():
            self._changed = True
        self._files = files
        documents = tuple(document for file in files.values() for document in file.documents)
        return self._finish(
            documents,
            tuple(problems),
            usable=True,
            unsettled=unsettled,
            device=device,
            places={(self._prefix + name).rstrip("/"): at for name, at in walked.places.items()},
            files=frozenset(self._prefix + name for name in files),
            cut=frozenset(self._prefix + name for name, file in files.items() if file.cut),
        )

    def _open(self, found: Found, old: _File | None, now_ns: int) -> _File:
        name = self._prefix + found.name
        status = found.status
        try:
            content, status = read_file(found.path, MAX_DOCUMENT_BYTES, self._trust)
            digest = hashlib.sha256(content).digest()
            if old is not None and old.digest == digest:
                old.signature, old.settled = signature(status), is_settled(status, now_ns)
                return old
            documents = read_documents(content, name)
            problem = None
        except UnusableFileError as error:
            content, documents, digest = b"", (), b""
            problem = Problem(name, 0, "", str(error))
        except YamlSyntaxError as error:
            documents = ()
            problem = syntax_problem(error, name)
        if not (old is not None and old.problem == problem and not documents + old.documents):
            self._changed = True
        used = tuple(
            (field, source, index)
            for index, document in enumerate(documents)
            if document.model is not None
            for field, source in named_sources(document.model)
        )
        templates = tuple(
            (template, index)
            for index, document in enumerate(documents)
            if document.model is not None
            and (template := named_template(document.model)) is not None
        )
        settled = is_settled(status, now_ns) and bool(digest)
        checked = documents
        if not used and not templates:
            checked = tuple(_checked(document) for document in documents)
        cut = bool(content) and not content.endswith(b"\n")
        return _File(
            signature(status),
            settled,
            digest,
            documents,
            checked,
            (),
            problem,
            used,
            templates,
            cut,
        )

    def _attach(self, file: _File, base: str) -> None:
        """Attach the texts of sources and the installs to the documents that name them."""
        named = [self._sources.read(base, source) for _, source, _ in file.used]
        sets = {index: self._templates.read(base, name) for name, index in file.templates}
        sources = (*named, *(source for each in sets.values() for source in each.looked))
        if len(sources) == len(file.sources) and all(
            new is old or new == old for new, old in zip(sources, file.sources, strict=True)
        ):
            return
        self._changed = True
        file.sources = sources
        texts: list[dict[str, str]] = [{} for _ in file.parsed]
        flaws: list[list[Problem]] = [[] for _ in file.parsed]
        for (place, name, index), source in zip(file.used, named, strict=True):
            if source.text is not None:
                texts[index][name] = source.text
            else:
                flaws[index].append(file.parsed[index].problem(place, source.flaw or ""))
        documents = [
            _checked(_with_sources(document, text, flaw))
            for document, text, flaw in zip(file.parsed, texts, flaws, strict=True)
        ]
        for index, templates in sets.items():
            loaded = load_install(documents[index], templates, self._validator)
            documents[index] = _with_install(documents[index], loaded)
            if loaded.again:
                file.sources = ()  # so that the next pass asks again, even without a change
        file.documents = tuple(documents)

    def _directory_problem(self, message: str) -> Problem:
        name = f"{self._prefix}{self._only}" if self._only is not None else str(self.root)
        if self._only is not None:
            return Problem(name, 0, "", message)
        message = message.removeprefix("the directory ")
        return Problem(
            name, 0, "", f"the directory {message}; until then every guest stays as it is"
        )

    def _finish(
        self,
        documents: tuple[LoadedDocument, ...],
        problems: tuple[Problem, ...],
        *,
        usable: bool,
        unsettled: bool = False,
        empty: bool = False,
        device: int | None = None,
        places: Mapping[str, int] = MappingProxyType({}),
        files: frozenset[str] = frozenset(),
        cut: frozenset[str] = frozenset(),
    ) -> Load:
        last = self._last
        changed = (
            last is None
            or self._changed
            or (last.usable, last.problems, last.device) != (usable, problems, device)
            or last.places != places
        )
        broken = frozenset(problem.file for problem in problems) | frozenset(
            document.origin.file for document in documents if not document.name
        )
        self._last = Load(
            documents,
            problems,
            broken,
            usable,
            unsettled,
            changed,
            empty,
            device,
            places,
            files,
            cut,
        )
        return self._last


def _with_sources(
    document: LoadedDocument, texts: Mapping[str, str], flaws: list[Problem]
) -> LoadedDocument:
    if not texts and not flaws:
        return document
    model = None if flaws else document.model
    return replace(document, model=model, problems=tuple(flaws), sources=texts)


def _with_install(document: LoadedDocument, loaded: LoadedInstall) -> LoadedDocument:
    model = None if loaded.problems else document.model
    return replace(document, model=model, problems=loaded.problems, install=loaded.install)


def _checked(document: LoadedDocument) -> LoadedDocument:
    problems = check_templates(document) if document.model is not None else []
    return replace(document, model=None, problems=tuple(problems)) if problems else document


def loaders_of(paths: list[Path], *, check_permissions: bool) -> list[Loader]:
    """A loader for each path, a file or a directory; no file is loaded twice."""
    loaders: list[Loader] = []
    directories = {path.resolve() for path in paths if path.is_dir()}
    seen: set[Path] = set()
    for path in paths:
        real = path.resolve()
        covered = any(directory in real.parents for directory in directories) and (
            path.is_dir() or is_document(path.name)
        )
        if real in seen or covered:
            continue
        seen.add(real)
        if path.is_dir():
            prefix = "" if str(path) == "." else f"{str(path).rstrip('/')}/"
            loaders.append(Loader(path, prefix=prefix, check_permissions=check_permissions))
        else:
            parent = "" if str(path.parent) == "." else f"{path.parent}/".replace("//", "/")
            loaders.append(
                Loader(
                    path.parent, prefix=parent, only=path.name, check_permissions=check_permissions
                )
            )
    return loaders
