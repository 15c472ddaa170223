"""Whether the place of a missing document is still what it was when the document was there.

Removing a file leaves its directory as it was. But an unmounted sub-directory, a symlink without
its target, or a disk that ran full while a file was written leave a place that is gone, empty or
another one, and say nothing about what somebody wanted.
"""

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from controller.desired.catalog.loader import Load
from controller.desired.files.trusted_read import kind_of
from controller.desired.text.parse import Key


@dataclass(frozen=True, slots=True)
class Loss:
    """A place that is not what it was: its name relative to the root, and what it is now."""

    place: str
    why: str


class Places:
    """Keeps what is known of the directories with documents. Not thread-safe.

    ``mounts`` are those that were separate file systems when an earlier daemon last saw them.
    """

    def __init__(self, mounts: Collection[str] = ()) -> None:
        self._devices: dict[str, int] = {}
        self._mounts = frozenset(mounts)

    @property
    def mounts(self) -> frozenset[str]:
        """Directories on another file system than the root."""
        return self._mounts

    def lost(self, root: str, loads: Sequence[Load], missing: Mapping[Key, str]) -> dict[Key, Loss]:
        """The ``missing`` documents, given with their files, whose absence proves nothing.

        Documents in what cannot be read at all are not among them: that is a separate problem.
        """
        now = {place: device for load in loads for place, device in load.places.items()}
        files = {file for load in loads for file in load.files}
        filled = {one.origin.file for load in loads for one in load.documents}
        cut = {file for load in loads for file in load.cut}
        broken = {name for load in loads for name in load.broken_files}
        lost = {}
        unseen = set()
        for key, file in missing.items():
            if covering(file, broken) is not None:
                unseen.add(_parent(file))
                continue
            loss = self._loss(root, file, now, files, filled, cut)
            if loss is not None:
                lost[key] = loss
        self._remember(now, unseen | {_parent(missing[key]) for key in lost})
        return lost

    def _loss(
        self,
        root: str,
        file: str,
        now: Mapping[str, int],
        files: Collection[str],
        filled: Collection[str],
        cut: Collection[str],
    ) -> Loss | None:
        place = _parent(file)
        if file in files:
            if file not in filled:
                return Loss(file, "has no document any more")
            return Loss(file, "ends in the middle of a line") if file in cut else None
        if place not in now:
            return _gone(root, place, now)
        if self._moved(place, now):
            return Loss(place, "is on another file system than before")
        if not any(_within(other, place) for other in filled):
            return Loss(place or root, "has no documents any more")
        if os.path.lexists(f"{root}/{file}"):
            return Loss(file, f"is {_kind(f'{root}/{file}')} now")
        return None

    def _moved(self, place: str, now: Mapping[str, int]) -> bool:
        before = self._devices.get(place)
        if before is not None:
            return before != now[place]
        return place in self._mounts and now[place] == now.get("")

    def _remember(self, now: Mapping[str, int], lost: Collection[str]) -> None:
        kept = {place: device for place, device in self._devices.items() if place in lost}
        self._devices = {**now, **kept}
        mounts = {place for place, device in now.items() if device != now.get("")}
        self._mounts = frozenset(mounts.difference(lost) | self._mounts.intersection(lost))


def covering(file: str, broken: Collection[str]) -> str | None:
    """The broken file or directory that is or contains ``file``; None if there is none."""
    if file in broken:
        return file
    parts = file.split("/")
    for length in range(len(parts) - 1, 0, -1):
        parent = "/".join(parts[:length])
        if parent in broken:
            return parent
    return None


def _gone(root: str, place: str, now: Mapping[str, int]) -> Loss:
    """The loss of the highest directory above a document that is not read any more."""
    parts = place.split("/")
    for length in range(1, len(parts) + 1):
        above = "/".join(parts[:length])
        if above not in now:
            break
    path = f"{root}/{above}"
    if not os.path.lexists(path):
        return Loss(above, "is gone")
    if not os.path.exists(path):  # noqa: PTH110 - paths are plain text here
        return Loss(above, "is a symlink that leads nowhere")
    return Loss(above, f"is {_kind(path)} now, from which nothing is read")


def _kind(path: str) -> str:
    try:
        return kind_of(os.lstat(path).st_mode)
    except OSError:
        return "something that cannot be looked at"


def _parent(file: str) -> str:
    return file.rpartition("/")[0]


def _within(file: str, place: str) -> bool:
    return not place or file.startswith(f"{place}/")
