"""A directory of documents to write into, with modes that do not depend on the umask."""

import itertools
import os
import shutil
from dataclasses import replace
from pathlib import Path

from controller.desired.answers.installs import KSVALIDATOR
from controller.desired.catalog.catalog import Catalog
from controller.desired.catalog.loader import Loader
from controller.desired.catalog.snapshot import ScanResult, Snapshot

DATA = Path(__file__).parents[2] / "data"
BASE = DATA / "valid" / "base"
SHIPPED = DATA / "kickstart-templates"
"""Stands for the templates that come with guestkeeper, which may change."""
HEADER = "apiVersion: guestkeeper/v1alpha1\n"


def put(path: Path, content: str | bytes, mode: int = 0o644) -> Path:
    """Writes ``path`` as a user would have, directories included."""
    make_directory(path.parent)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    return path


def make_directory(path: Path) -> Path:
    if not path.is_dir():
        make_directory(path.parent)
        path.mkdir()
        path.chmod(0o755)
    return path


def copy_into(source: Path, target: Path) -> None:
    """Copies the documents of a case, without its expectation."""
    for path in sorted(source.rglob("*")):
        if path.is_file() and path.name != "expected.txt":
            put(target / path.relative_to(source), path.read_bytes())


def empty(directory: Path) -> None:
    for path in directory.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def age(directory: Path, seconds: float = 60) -> None:
    """Makes every file look written ``seconds`` ago (its ctime stays now)."""
    for path in directory.rglob("*"):
        os.utime(path, follow_symlinks=False)
        then = path.lstat().st_mtime - seconds
        os.utime(path, (then, then), follow_symlinks=False)


def guest(
    name: str = "web1", *, image: str = "debian12", spec: str = "", memory: str = "1Gi"
) -> str:
    return (
        f"{HEADER}kind: Guest\nmetadata: {{name: {name}}}\n"
        f"spec:\n  image: {image}\n  memory: {{size: {memory}}}\n{spec}"
    )


def image(name: str = "debian12", *, file: str = "debian12.qcow2") -> str:
    return (
        f"{HEADER}kind: Image\nmetadata: {{name: {name}}}\n"
        f"spec: {{osFamily: debian, source: {{file: {file}}}}}\n"
    )


def service(name: str = "app", spec: str = "  unit: app.service\n") -> str:
    return f"{HEADER}kind: Service\nmetadata: {{name: {name}}}\nspec:\n{spec}"


def messages(snapshot: Snapshot, root: Path) -> list[str]:
    """The problems as an operator reads them; what differs from place to place made the same.

    That is the directory's own path, and the versions that the installed pykickstart knows.
    """
    texts = [
        str(problem).replace(str(root), "ROOT").replace(str(root.parent), "PARENT")
        for problem in snapshot.problems
    ]
    if any("pykickstart knows no version" in text for text in texts):
        known = ", ".join(KSVALIDATOR.versions())
        texts = [text.replace(known, "VERSIONS") for text in texts]
    return texts


def catalog(root: Path, *, shipped: Path = SHIPPED, remembered: Path | None = None) -> Catalog:
    """Its clock goes on by ten seconds from scan to scan."""
    return Catalog(
        root,
        ["local"],
        loaders=[Loader(root, shipped=shipped)],
        monotonic=itertools.count(100.0, 10.0).__next__,
        remembered=remembered,
    )


def settle(subject: Catalog) -> ScanResult:
    """Scans as often as the daemon would until it knows what is missing; all that changed."""
    first = result = subject.scan()
    for _ in range(9):
        if not result.again:
            return result
        result = subject.scan()
        result = replace(
            result,
            changed=first.changed | result.changed,
            images_changed=first.images_changed | result.images_changed,
        )
        first = result
    raise AssertionError("it never knows what is missing")
