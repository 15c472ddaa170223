"""Writes docs/reference from the code: ``python -m docs.generate``.

``--check`` writes nothing, names the pages that are stale and exits 1 if there are any.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from docs.generating import changes, commands, conditions, documents, metrics, settings

REFERENCE: Final = Path(__file__).resolve().parent / "reference"
PAGES: Final[dict[str, Callable[[], str]]] = {
    "documents.md": documents.text,
    "changes.md": changes.text,
    "commands.md": commands.text,
    "conditions.md": conditions.text,
    "metrics.md": metrics.text,
    "settings.md": settings.text,
}


def stale(directory: Path = REFERENCE) -> list[str]:
    """Names of pages that are missing, differ from what the code gives, or have no generator."""
    names = [name for name, text in PAGES.items() if _read(directory / name) != text()]
    left_over = {file.name for file in directory.glob("*.md")} - PAGES.keys()
    return sorted((*names, *left_over))


def write(directory: Path = REFERENCE) -> list[str]:
    """Writes the pages that differ; their names. What has no generator is removed."""
    directory.mkdir(parents=True, exist_ok=True)
    names = stale(directory)
    for name in names:
        if name in PAGES:
            (directory / name).write_text(PAGES[name](), encoding="utf-8")
        else:
            (directory / name).unlink()
    return names


def _read(file: Path) -> str | None:
    return file.read_text(encoding="utf-8") if file.exists() else None


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m docs.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="only name stale pages")
    if parser.parse_args(arguments).check:
        names = stale()
        for name in names:
            sys.stderr.write(f"docs/reference/{name} is stale; run: python -m docs.generate\n")
        return 1 if names else 0
    for name in write():
        sys.stdout.write(f"docs/reference/{name} written\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
