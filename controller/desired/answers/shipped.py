"""Locate the templates of answer files that come with guestkeeper.

In a checkout they are beside the package, where they are edited; an installed guestkeeper has them
among its data files. They are trusted like its code.
"""

import sys
from pathlib import Path
from typing import Final

NAME: Final = "kickstart-templates"
_PACKAGE = Path(__file__).parents[2]


def shipped_directory(package: Path = _PACKAGE, prefix: Path | None = None) -> Path:
    """The directory of the templates for this ``package`` and ``prefix`` (``sys.prefix``)."""
    beside = package.parent / NAME
    if beside.is_dir():
        return beside
    return (prefix or Path(sys.prefix)) / "share" / "guestkeeper" / NAME


def shipped_names(directory: Path, under: str = "") -> tuple[str, ...]:
    """Names, as an include writes them, of the templates in ``directory``, or ``under`` it."""
    folder = directory / under
    if not folder.is_dir():
        return ()
    return tuple(
        sorted(f"{under}/{path.name}" if under else path.name for path in folder.glob("*.j2"))
    )
