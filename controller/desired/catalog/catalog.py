"""The desired state of a directory, and its last good state while somebody edits it.

People, git and configuration management write into the directory, so it is wrong now and then. No
error in it may reach a guest: a document with an error keeps its last good content, and no document
counts as removed in a pass that could not read everything.
"""

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from controller.desired.catalog.conflicts import find_clashes
from controller.desired.catalog.loader import Load, Loader, loaders_of
from controller.desired.catalog.places import covering
from controller.desired.catalog.remembered import RememberedFile
from controller.desired.catalog.resolve import GuestResolver, effective_image
from controller.desired.catalog.snapshot import ScanResult, Snapshot, changed_guests, changed_images
from controller.desired.catalog.vanished import Absence, Verdict
from controller.desired.effective import EffectiveGuest, EffectiveImage
from controller.desired.files.git_revision import revision_of
from controller.desired.schema.documents import DOCUMENTS, GuestDocument, ServiceDocument
from controller.desired.text.parse import Key, LoadedDocument
from controller.desired.text.problems import Problem, suggestion


@dataclass(slots=True)
class _Pass:
    """What one pass over the directory found, before it is judged."""

    loads: list[Load]
    seen: dict[Key, list[LoadedDocument]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    by_document: dict[Key, list[Problem]] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)
    good: dict[Key, LoadedDocument] = field(default_factory=dict)
    invalid: int = 0
    verdict: Verdict = field(default_factory=Verdict)

    def blame(self, key: Key, *problems: Problem) -> None:
        self.problems.extend(problems)
        self.by_document.setdefault(key, []).extend(problems)


@dataclass(frozen=True, slots=True)
class _Resolved:
    inputs: tuple[object, ...]
    guest: EffectiveGuest | None
    problems: tuple[Problem, ...]

    def is_of(self, inputs: tuple[object, ...]) -> bool:
        return len(inputs) == len(self.inputs) and all(
            new is old for new, old in zip(inputs, self.inputs, strict=True)
        )


class Catalog:
    """Scans one directory; thread-safe. ``hosts`` are the settings' hosts; ``None`` allows any.

    ``remembered`` is the file that tells the next daemon where documents were. ``patient=False`` is
    for callers that never end a guest: the first pass is believed, and nothing is written.
    """

    def __init__(
        self,
        root: Path,
        hosts: Collection[str] | None,
        *,
        check_permissions: bool = True,
        loaders: Sequence[Loader] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        remembered: Path | None = None,
        patient: bool = True,
    ) -> None:
        self.root = root
        self._hosts = frozenset(hosts) if hosts is not None else None
        self._loaders = (
            list(loaders)
            if loaders is not None
            else [Loader(root, check_permissions=check_permissions)]
        )
        self._monotonic = monotonic
        self._lock = threading.Lock()
        file = RememberedFile(root, remembered, writable=patient)
        self._absence = Absence(root, file, patient=patient)
        self._snapshot = Snapshot()
        self._documents: dict[Key, LoadedDocument] = {}
        self._images: dict[str, tuple[LoadedDocument, EffectiveImage]] = {}
        self._resolved: dict[str, _Resolved] = {}
        self._resolver = GuestResolver()
        self._stale = True
        self._present: frozenset[str] = frozenset()
        self._gone: Mapping[str, float] = MappingProxyType({})
        self._believed_since: float | None = None

    @property
    def snapshot(self) -> Snapshot:
        """The state as of the last scan."""
        return self._snapshot

    def approve_missing(self, names: Collection[str] = ()) -> None:
        """Record an operator's approval that the directory is empty; the next scan believes it.

        It also believes that the Guests ``names`` are gone if the places of their documents were
        lost; other names have no effect. Raises ``PermanentError`` if it cannot be known whether
        missing documents are gone; see ``Absence.approve``.
        """
        with self._lock:
            self._absence.approve(names)
            self._stale = True

    def scan(self, *, settle: float = 0.0) -> ScanResult:
        """Scan the directory and replace the snapshot; nothing in a file makes it raise.

        A file written within the last ``settle`` seconds is left for the next scan.
        """
        with self._lock:
            loads = [loader.load(settle=settle) for loader in self._loaders]
            unsettled = any(load.unsettled for load in loads)
            old = self._snapshot
            revision, now = revision_of(self.root), time.time()
            if not (self._stale or unsettled or any(load.changed for load in loads)):
                self._snapshot = replace(old, revision=revision, scanned_at=now)
                anything = revision != old.revision
                return ScanResult(self._snapshot, frozenset(), frozenset(), anything, unsettled)
            current = _Pass(loads)
            new = replace(self._build(current), revision=revision, scanned_at=now)
            again = current.verdict.again
            self._stale = unsettled or again
            self._snapshot = new
            anything = replace(new, scanned_at=old.scanned_at) != old
            return ScanResult(
                new, changed_guests(old, new), changed_images(old, new), anything, unsettled, again
            )

    # --- One pass: documents, then images and services, then guests ------------------------------

    def _build(self, current: _Pass) -> Snapshot:
        _collect(current)
        self._judge(current)
        self._keep_missing(current)
        self._documents = current.good
        self._resolve_images(current)
        self._prune_resolver()
        old = self._snapshot
        last = {**old.orphans, **old.guests}
        names = sorted({name for kind, name in (*current.good, *current.seen) if kind == "Guest"})
        resolved: dict[str, _Resolved] = {}
        candidates: dict[str, tuple[EffectiveGuest, LoadedDocument]] = {}
        for name in names:
            document = current.good.get(("Guest", name))
            if document is None:
                continue
            result = resolved[name] = self._resolve(name, document, current)
            current.blame(document.key, *result.problems)
            if result.guest is not None:
                candidates[name] = (result.guest, document)
        self._resolved = resolved
        held = {name: last[name] for name in names if name in last}
        clashes = find_clashes(candidates, held)
        for name, problems in clashes.items():
            current.blame(("Guest", name), *problems)
        guests: dict[str, EffectiveGuest] = {}
        for name in names:
            if name in candidates and name not in clashes:
                guests[name] = candidates[name][0]
            elif name in last:
                guests[name] = last[name]
        present = frozenset(names)
        self._note_absences(present, current.verdict)
        orphans = {name: guest for name, guest in sorted(last.items()) if name not in present}
        return self._picture(current, guests, orphans)

    def _note_absences(self, present: frozenset[str], verdict: Verdict) -> None:
        """Note since when names are gone, by the monotonic clock that grace periods use."""
        now = self._monotonic()
        if self._believed_since is None and not verdict.doubt:
            self._believed_since = now
        if present != self._present:
            gone = {name: at for name, at in self._gone.items() if name not in present}
            gone |= dict.fromkeys(self._present - present, now)
            self._gone = MappingProxyType(gone)
            self._present = present

    def _judge(self, current: _Pass) -> None:
        seen = {key: documents[0].origin.file for key, documents in current.seen.items()}
        verdict = current.verdict = self._absence.judge(
            current.loads, current.problems, seen, self._monotonic()
        )
        current.problems.extend(verdict.problems)
        if verdict.moved is not None:
            current.problems.append(verdict.moved)
        elif verdict.empty and not verdict.doubt:  # approved by an operator
            current.problems, current.invalid = [], 0

    def _keep_missing(self, current: _Pass) -> None:
        """Keep documents that were there and are missing, unless they are believed to be gone."""
        verdict = current.verdict
        usable = all(load.usable for load in current.loads)
        broken = {name for load in current.loads for name in load.broken_files}
        by_file: dict[str, list[Problem]] = {}
        for problem in current.problems:
            by_file.setdefault(problem.file, []).append(problem)
        notices = []
        for key, document in self._documents.items():
            if key in current.seen:
                if key not in current.good:
                    current.good[key] = document
                continue
            if key in verdict.gone:
                continue
            current.good[key] = document
            if not (usable and (verdict.doubt or key in verdict.lost)):
                continue
            place = covering(document.origin.file, broken)
            if place is not None:
                current.by_document.setdefault(key, []).extend(by_file.get(place, ()))
            elif current.problems:
                notices.append((key, document))
        for key, document in notices:
            message = f"the document of {key[0]} {key[1]} is gone, but {_kept(key, verdict)}"
            current.blame(key, Problem(document.origin.file, 0, "", message))
            if key[0] == "Guest":
                current.held.add(key[1])

    def _resolve_images(self, current: _Pass) -> None:
        images: dict[str, tuple[LoadedDocument, EffectiveImage]] = {}
        for (kind, name), document in current.good.items():
            if kind != "Image":
                continue
            known = self._images.get(name)
            if known is None or known[0] is not document:
                fresh = effective_image(document)
                same = known is not None and known[1].digest == fresh.digest
                known = (document, known[1] if known is not None and same else fresh)
            images[name] = known
        self._images = images

    def _resolve(self, name: str, document: LoadedDocument, current: _Pass) -> _Resolved:
        model = document.model
        assert isinstance(model, GuestDocument)  # noqa: S101
        spec = model.spec
        problems: list[Problem] = []
        if self._hosts is not None and spec.host not in self._hosts:
            tip = suggestion(spec.host, self._hosts, listing="write one they have:")
            message = (
                f"the daemon's settings have no host {spec.host}; {tip},"
                f" or add [hosts.{spec.host}] to the settings"
            )
            problems.append(document.problem("spec.host", message))
        image = self._images.get(spec.image)
        if image is None:
            problems.append(_unknown(document, "spec.image", "Image", spec.image, current))
        used: dict[str, LoadedDocument] = {}
        for index, item in enumerate(spec.services):
            if item.use is None:
                continue
            service = current.good.get(("Service", item.use))
            if service is None:
                field_ = f"spec.services[{index}].use"
                problems.append(_unknown(document, field_, "Service", item.use, current))
            else:
                used[item.use] = service
        if problems or image is None:
            return _Resolved((), None, tuple(problems))
        inputs = (document, image[1], *used.values())
        known = self._resolved.get(name)
        if known is not None and known.guest is not None and known.is_of(inputs):
            return known
        guest, found = self._resolver.resolve(document, image[1], used)
        return _Resolved(inputs, guest, found)

    def _prune_resolver(self) -> None:
        if self._resolver.size > 8 * len(self._documents) + 1000:
            self._resolver = GuestResolver()

    def _picture(
        self,
        current: _Pass,
        guests: Mapping[str, EffectiveGuest],
        orphans: Mapping[str, EffectiveGuest],
    ) -> Snapshot:
        services: dict[str, ServiceDocument] = {}
        counts = dict.fromkeys(DOCUMENTS, 0)
        for (kind, name), document in sorted(current.good.items(), key=lambda item: item[0]):
            counts[kind] += 1
            if isinstance(document.model, ServiceDocument):
                services[name] = document.model
        return Snapshot(
            guests=MappingProxyType(dict(guests)),
            images=MappingProxyType({name: self._images[name][1] for name in sorted(self._images)}),
            services=MappingProxyType(services),
            orphans=MappingProxyType(dict(orphans)),
            held=frozenset(current.held),
            uncertain=current.verdict.doubt,
            empty=current.verdict.empty,
            problems=tuple(sorted(set(current.problems))),
            guest_problems=MappingProxyType(_guest_problems(current)),
            documents=MappingProxyType(counts),
            invalid=current.invalid,
            gone=self._gone,
            believed_since=self._believed_since,
            lost=current.verdict.by_word,
            quiet=current.verdict.quiet,
        )


def _collect(current: _Pass) -> None:
    """Sort a pass's documents into good ones and problems."""
    for load in current.loads:
        current.problems.extend(load.problems)
        current.invalid += len(load.problems)
        for document in load.documents:
            if document.name:
                current.seen.setdefault(document.key, []).append(document)
                current.by_document.setdefault(document.key, []).extend(document.problems)
            current.problems.extend(document.problems)
            current.invalid += bool(document.problems)
    for key, documents in current.seen.items():
        if len(documents) > 1:
            for document in documents:
                others = ", ".join(
                    str(other.origin) for other in documents if other is not document
                )
                message = (
                    f"{key[0]} {key[1]} is also written at {others};"
                    " neither is used: remove one or give it another name"
                )
                current.blame(key, document.problem("metadata.name", message))
                current.invalid += not document.problems
        elif documents[0].model is not None:
            current.good[key] = documents[0]


def _kept(key: Key, verdict: Verdict) -> str:
    """The message why a missing document is kept, and what to do about it."""
    loss = verdict.lost.get(key)
    if loss is not None:
        kept = f"as {loss.place} {loss.why} it is kept as it was; put it back"
        if key[0] == "Guest":
            kept += ", or, if the guest is meant to go: guestkeeper approve --deletions"
        return kept
    if verdict.moved is not None:
        return "as the directory may be unmounted it is kept as it was; put it back"
    why = f"of {verdict.problems[0].file} were lost" if verdict.problems else "have errors"
    return f"as others {why} it is kept as it was; correct those to let it go, or put it back"


def _unknown(
    document: LoadedDocument, field_: str, kind: str, name: str, current: _Pass
) -> Problem:
    broken = current.seen.get((kind, name))
    if broken:
        message = f"{kind} {name} has errors ({broken[0].origin}); correct them first"
        return document.problem(field_, message)
    known = [other for other_kind, other in current.good if other_kind == kind]
    tip = suggestion(name, known, listing="the directory has")
    return document.problem(field_, f"there is no {kind} {name}; {tip}")


def _guest_problems(current: _Pass) -> dict[str, tuple[Problem, ...]]:
    """Each guest's problems: its own, and those of the image and the services it names."""
    found: dict[str, set[Problem]] = {}
    trouble = {key: problems for key, problems in current.by_document.items() if problems}
    if not trouble:
        return {}
    for (kind, name), document in current.good.items():
        if isinstance(document.model, GuestDocument):
            spec = document.model.spec
            named = [("Image", spec.image)]
            named += [("Service", item.use) for item in spec.services if item.use is not None]
            for key in named:
                if key in trouble:
                    found.setdefault(name, set()).update(trouble[key])
        if kind == "Guest" and (kind, name) in trouble:
            found.setdefault(name, set()).update(trouble[kind, name])
    for (kind, name), problems in trouble.items():
        if kind == "Guest":
            found.setdefault(name, set()).update(problems)
    return {name: tuple(sorted(problems)) for name, problems in sorted(found.items())}


def load_paths(
    paths: Sequence[Path], hosts: Collection[str] | None, *, check_permissions: bool = False
) -> Snapshot:
    """The state that files and directories describe, without a daemon (``validate``, ``plan``).

    Names in problems begin with the paths as given. ``hosts=None`` allows any host's name.
    Permissions are checked only on request, because the modes in a checkout mean nothing.
    """
    loaders = loaders_of(list(paths), check_permissions=check_permissions)
    first = paths[0] if paths else Path()
    root = first if first.is_dir() else first.parent
    return Catalog(root, hosts, loaders=loaders, patient=False).scan().snapshot
