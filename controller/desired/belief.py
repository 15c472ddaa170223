"""Whether a document that is missing is really gone.

Guests are stopped and deleted for it, so it is believed only of a directory that was read whole and
is the one it was before. An empty one is believed only once an operator says that it is meant: it
looks just like one that lost its mount.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from controller.desired.loader import Load
from controller.desired.problems import Problem
from controller.errors import PermanentError


@dataclass(frozen=True, slots=True)
class Verdict:
    """``doubt`` says why nothing missing is believed to be gone; '' where it is.

    ``empty``: the directory is there and has no documents. ``moved`` is a problem of its own: it is
    on another file system than before, and lacks documents.
    """

    doubt: str = "the directory was not read yet"
    empty: bool = False
    moved: Problem | None = None


class Belief:
    """What is remembered about the directory from pass to pass. Not thread-safe."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._devices: tuple[int | None, ...] | None = None
        self._approved = False
        self._last = Verdict()

    def judge(self, loads: Sequence[Load], problems: Sequence[Problem], missing: int) -> Verdict:
        """``problems`` are all of the pass; ``missing`` counts known documents not there now."""
        empty = all(load.empty for load in loads)
        self._approved = self._approved and empty
        self._last = self._judge(loads, problems, missing, empty=empty)
        return self._last

    def approve(self) -> None:
        """An operator says that an empty directory is meant; so it is until it has documents again.

        Raises ``PermanentError(reason="DirectoryUncertain")`` for one that is not there, may be
        unmounted, or was not read whole.
        """
        doubt = self._last.doubt if not self._last.empty else ""
        if not self._root.is_dir():
            doubt = f"{self._root} is not there; create or mount it"
        if doubt:
            message = f"nothing is approved, as what is missing cannot be known to be gone: {doubt}"
            raise PermanentError(message, reason="DirectoryUncertain")
        self._approved = True

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
            return Verdict("" if self._approved else str(problems[0]), empty=True)
        if problems:
            return Verdict(f"not everything in it can be used ({problems[0]})")
        if any(load.unsettled for load in loads):
            return Verdict("a file in it is still being written")
        return Verdict("")

    def _moved(self, missing: int) -> Problem:
        message = (
            f"the directory is on another file system than before, and lacks {missing} of its"
            " documents; mount it again, or restart the daemon to have it taken as it is; until"
            " then every guest stays as it is"
        )
        return Problem(str(self._root), 0, "", message)
