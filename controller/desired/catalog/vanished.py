"""Decide whether a missing document is really gone.

Guests are stopped and deleted because of it, so absence needs evidence: the directory was read
completely and is the same as before, the place of the missing file is still what it was, and this
holds for several quiet passes in a row. An empty directory, and a place below it that was lost with
its documents, look just like a lost mount; they are believed only after an operator's approval.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from controller.desired.catalog.loader import Load
from controller.desired.catalog.places import Loss, Places
from controller.desired.catalog.remembered import Remembered, RememberedFile
from controller.desired.text.parse import Key
from controller.desired.text.problems import Problem
from controller.errors import PermanentError

QUIET_PASSES: Final = 2
"""Passes without a change, after the one that missed a document, before it counts as gone."""
QUIET_SECONDS: Final = 1.0
"""Least time between the first and the last of these passes."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """``doubt`` says why no missing document is believed to be gone; '' if there is no doubt.

    ``empty``: the directory exists and has no documents. ``moved`` is a problem: the directory is
    on another file system than before, and lacks documents. ``lost`` are documents whose place is
    not what it was, and ``problems`` are about these places. ``gone`` are documents that are
    believed to be gone; every other missing one is kept. ``by_word`` names the guests whose end
    needs an operator's approval, given or not. ``again`` asks for another pass soon; ``quiet``:
    enough passes were made to tell what was never there from what one pass overlooked.
    """

    doubt: str = "the directory was not read yet"
    empty: bool = False
    moved: Problem | None = None
    lost: Mapping[Key, Loss] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    gone: frozenset[Key] = frozenset()
    by_word: frozenset[str] = frozenset()
    again: bool = False
    quiet: bool = False


@dataclass(slots=True)
class _Count:
    """Since when something is unchanged, and how many quiet passes found it so."""

    since: float
    passes: int = 0

    def enough(self, now: float) -> bool:
        return self.passes >= QUIET_PASSES and now - self.since >= QUIET_SECONDS


class Absence:
    """Tracks missing documents from pass to pass. Not thread-safe.

    ``patient=False`` believes the first pass: for callers that never end a guest.
    """

    def __init__(self, root: Path, file: RememberedFile, *, patient: bool = True) -> None:
        self._root = root
        self._file = file
        self._patient = patient
        self._devices: tuple[int | None, ...] | None = None
        self._approved = False
        self._last = Verdict()
        known = file.read()
        self._known: dict[Key, str] = {("Guest", name): at for name, at in known.guests.items()}
        self._released: set[Key] = {("Guest", name) for name in known.released}
        self._places = Places(known.mounts)
        self._missed: dict[Key, _Count] = {}
        self._since: _Count | None = None

    def judge(
        self,
        loads: Sequence[Load],
        problems: Sequence[Problem],
        seen: Mapping[Key, str],
        now: float,
    ) -> Verdict:
        """Judge a pass. ``problems`` are all of the pass; ``seen`` are the documents found, each
        with its file; ``now`` is monotonic seconds.
        """
        empty = all(load.empty for load in loads)
        self._approved = self._approved and empty
        missing = {key: file for key, file in self._known.items() if key not in seen}
        verdict = self._judge(loads, problems, len(missing), empty=empty)
        lost: dict[Key, Loss] = {}
        if verdict.moved is None and all(load.usable for load in loads):
            lost = self._places.lost(str(self._root), loads, missing)
        self._released.intersection_update(missing)
        held = {key: loss for key, loss in lost.items() if key not in self._released}
        told = tuple(_told(held))
        doubt = verdict.doubt
        if not doubt and any(kind == "Guest" for kind, _ in held):
            doubt = str(told[0])
        quiet = not any(load.changed or load.unsettled for load in loads)
        gone = self._gone(missing, held, doubt, quiet=quiet, now=now, empty=empty)
        self._known = {
            key: file for key, file in self._known.items() if key in lost or key not in gone
        } | dict(seen)
        self._write()
        self._last = Verdict(
            doubt,
            empty=empty and verdict.moved is None,
            moved=verdict.moved,
            lost=MappingProxyType(held),
            problems=told,
            gone=gone,
            by_word=frozenset(name for kind, name in lost if kind == "Guest"),
            again=not doubt and not (missing.keys() <= gone | held.keys() and self._is_quiet(now)),
            quiet=self._is_quiet(now),
        )
        return self._last

    def approve(self, names: Collection[str]) -> None:
        """Record an operator's approval of an empty directory, valid until it has documents again.

        If it has documents: of the Guests ``names`` being gone together with the places of their
        documents. Raises ``PermanentError(reason="DirectoryUncertain")`` for a directory that
        does not exist, may be unmounted, or was not read completely.
        """
        last = self._last
        ours = last.empty or (last.problems and last.doubt == str(last.problems[0]))
        doubt = "" if ours else last.doubt
        if not self._root.is_dir():
            doubt = f"{self._root} is not there; create or mount it"
        if doubt:
            message = f"nothing is approved, as what is missing cannot be known to be gone: {doubt}"
            raise PermanentError(message, reason="DirectoryUncertain")
        self._approved = last.empty
        self._released |= {("Guest", name) for name in names} & last.lost.keys()
        if not any(kind == "Guest" for kind, _ in last.lost.keys() - self._released):
            self._released |= last.lost.keys()  # and so are the Images and Services
        self._write()

    def _judge(
        self, loads: Sequence[Load], problems: Sequence[Problem], missing: int, *, empty: bool
    ) -> Verdict:
        devices = tuple(load.device for load in loads)
        if all(load.usable or load.empty for load in loads):
            if missing and self._devices not in (None, devices):
                moved = self._moved(missing)
                return Verdict(str(moved), moved=moved)
            if not empty:
                self._devices = devices
        if empty:
            return Verdict("" if self._approved else str(problems[0]))
        if problems:
            return Verdict(f"not everything in it can be used ({problems[0]})")
        if any(load.unsettled for load in loads):
            return Verdict("a file in it is still being written")
        return Verdict("")

    def _gone(
        self,
        missing: Mapping[Key, str],
        held: Collection[Key],
        doubt: str,
        *,
        quiet: bool,
        now: float,
        empty: bool,
    ) -> frozenset[Key]:
        """The missing documents that were missing for long enough, or are approved to be gone."""
        released = frozenset(self._released)
        if doubt:
            self._missed, self._since = {}, None
            return released
        for count in (*self._missed.values(), *([self._since] if self._since else [])):
            count.passes += quiet
        self._since = self._since or _Count(now)
        counts = {key: self._missed.get(key, _Count(now)) for key in missing if key not in held}
        self._missed = counts
        if empty or not self._patient:  # approved by an operator, or it ends no guest
            return frozenset(counts) | released
        return released | {key for key, count in counts.items() if count.enough(now)}

    def _is_quiet(self, now: float) -> bool:
        return not self._patient or (self._since is not None and self._since.enough(now))

    def _write(self) -> None:
        guests = {name: file for (kind, name), file in self._known.items() if kind == "Guest"}
        released = frozenset(name for kind, name in self._released if kind == "Guest")
        self._file.write(Remembered(guests, released, self._places.mounts))

    def _moved(self, missing: int) -> Problem:
        message = (
            f"the directory is on another file system than before, and lacks {missing} of its"
            " documents; mount it again, or restart the daemon to have it taken as it is; until"
            " then every guest stays as it is"
        )
        return Problem(str(self._root), 0, "", message)


def _told(held: Mapping[Key, Loss]) -> list[Problem]:
    """A problem for each place that was lost; those with Guests come first."""
    by_place: dict[Loss, list[Key]] = {}
    for key, loss in sorted(held.items(), key=lambda item: item[0]):
        by_place.setdefault(loss, []).append(key)
    found = []
    for loss, keys in by_place.items():
        first = " ".join(keys[0])
        which = f"{first} and {len(keys) - 1} more" if len(keys) > 1 else first
        documents = "documents" if len(keys) > 1 else "document"
        message = f"{loss.why}, and had the {documents} of {which}; put it back or mount it"
        if any(kind == "Guest" for kind, _ in keys):
            message += ", or, if the guests are meant to go: guestkeeper approve --deletions"
        found.append((not any(kind == "Guest" for kind, _ in keys), message, loss.place))
    return [Problem(place, 0, "", message) for _, message, place in sorted(found)]
