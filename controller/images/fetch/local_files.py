"""Find files in the images directory; no document may name a file outside of it."""

import os
from pathlib import Path

from controller.desired.files.trusted_read import Trust, UnusableFileError
from controller.errors import PermanentError

EVERYBODY = Trust(None)
"""For files that the daemon itself has written."""


def resolve(images_dir: Path, relative: str) -> Path:
    """The path of ``relative`` in the images directory, symlinks resolved.

    Raises ``PermanentError``: ``ImageNotFound``, or ``ImageRefused`` for a path outside.
    """
    try:
        root = images_dir.resolve()
        path = (root / relative).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: a loop of symlinks
        raise PermanentError(
            f"the image file {relative} cannot be found: {error}", reason="ImageNotFound"
        ) from error
    if not path.is_relative_to(root):
        raise PermanentError(
            f"the image file {relative} leads out of the images directory {root}; put the"
            " file itself there",
            reason="ImageRefused",
        )
    return path


def trusted(images_dir: Path, path: Path) -> Trust:
    """Who may have written ``path``, as ``resolve`` returned it: as for documents, root, the
    daemon's user and the owner of the images directory. An image's content becomes a machine, and
    a file that its header names would be read as root.

    Raises ``PermanentError(reason="ImageRefused")`` where others can write a directory that it is
    in, and so put another file in its place.
    """
    root = images_dir.resolve()
    folders = [folder for folder in path.parents if folder.is_relative_to(root)]
    try:
        trust = Trust.of_directory(root.stat())
        for folder in folders:
            check_trusted(trust, folder.stat(), f"the directory {folder} of images ")
    except OSError as error:
        raise PermanentError(
            f"the image file {path} cannot be found: {error}", reason="ImageNotFound"
        ) from error
    return trust


def check_trusted(trust: Trust, status: os.stat_result, what: str) -> None:
    """Raise ``PermanentError(reason="ImageRefused")`` where others could write ``what``."""
    try:
        trust.check(status, what)
    except UnusableFileError as error:
        raise PermanentError(str(error), reason="ImageRefused") from error
