"""Bad input gives exactly the message that says how to put it right, and harms nothing."""

import os
from pathlib import Path

import pytest

from .recipes import NEEDS_ROOT, RECIPES
from .support import BASE, DATA, catalog, copy_into, empty, make_directory, messages, put, settle

INVALID = DATA / "invalid"
STORED = sorted(
    path.name for path in INVALID.iterdir() if path.is_dir() and path.name != "generated"
)


def _skip_unless_possible(case: str) -> None:
    if case in NEEDS_ROOT and os.geteuid() != 0:
        pytest.skip("only root can give files away")


def _write(case: str, root: Path) -> Path:
    """Puts a case into ``root``; the place of its expectation."""
    if case in RECIPES:
        (root / "web.yaml").unlink(missing_ok=True)
        RECIPES[case](root)
        return INVALID / "generated" / f"{case}.txt"
    copy_into(INVALID / case, root)
    return INVALID / case / "expected.txt"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_directory(tmp_path / "desired")


@pytest.mark.parametrize("case", [*STORED, *RECIPES])
def test_gives_exactly_the_expected_message(
    case: str, root: Path, request: pytest.FixtureRequest
) -> None:
    _skip_unless_possible(case)
    put(root / "base.yaml", (BASE / "base.yaml").read_text())
    golden = _write(case, root)
    text = "\n".join(messages(catalog(root).scan().snapshot, root)) + "\n"
    if request.config.getoption("--update-golden", default=False):
        put(golden, text)
    assert text.strip(), "a bad document must give a message"
    assert text == golden.read_text()


@pytest.mark.parametrize("case", [*STORED, *RECIPES])
def test_keeps_the_last_good_state_of_everything(case: str, root: Path) -> None:
    _skip_unless_possible(case)
    copy_into(BASE, root)
    subject = catalog(root)
    good = subject.scan().snapshot
    assert not good.problems
    _write(case, root)
    bad = subject.scan().snapshot
    assert bad.problems
    assert {name: guest.digest for name, guest in good.guests.items()}.items() <= {
        name: guest.digest for name, guest in bad.guests.items()
    }.items()
    assert dict(good.images).items() <= dict(bad.images).items()
    assert dict(good.services).items() <= dict(bad.services).items()
    assert not bad.orphans
    assert not subject.scan().changed, "the same bad input twice is no news"

    if root.is_dir():
        root.chmod(0o755)
        empty(root)
    else:
        root.unlink(missing_ok=True)
    copy_into(BASE, root)
    again = settle(subject).snapshot
    assert again.problems == ()
    assert again.guests == good.guests


def test_the_corpus_is_as_large_as_promised() -> None:
    assert len(STORED) + len(RECIPES) >= 60
