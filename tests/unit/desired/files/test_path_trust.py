"""Who could put another directory in the place of the documents' is as good as root."""

import grp
import os
import pwd
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from controller.desired.catalog.catalog import load_paths
from controller.desired.files.path_trust import check_path
from controller.desired.files.trusted_read import Trust, UnusableFileError
from tests.unit.desired.support import BASE, catalog, copy_into, make_directory, put

OTHER = 54321
NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = make_directory(tmp_path / "data" / "site" / "desired")
    copy_into(BASE, root)
    return root


def refusal(root: Path) -> str:
    """The one problem, and nothing of the directory is read."""
    snapshot = catalog(root).scan().snapshot
    assert not snapshot.guests
    assert snapshot.uncertain
    (problem,) = snapshot.problems
    return problem.message


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o757, 0o2775])
@pytest.mark.parametrize("above", [1, 2])
def test_a_directory_above_that_others_can_write_is_refused(
    root: Path, mode: int, above: int
) -> None:
    parent = root.parents[above - 1]
    if not mode & 0o002:
        if os.geteuid() != 0:
            pytest.skip("only root can give files to a group that it is not in")
        os.chown(parent, -1, OTHER)
    parent.chmod(mode)
    who = "everybody" if mode & 0o002 else "its group"
    told = refusal(root)
    assert f"lies in {parent}, which can be written by {who} (mode {mode:04o})" in told
    command = f"chmod go-w {parent}"
    assert f"run {command};" in told
    assert os.system(command) == 0  # noqa: S605 - what it says is what helps
    assert catalog(root).scan().snapshot.problems == ()


@pytest.mark.parametrize(
    ("members", "others", "group", "fine"),
    [
        ([], [], "me", True),
        (["me"], [], "me", True),
        (["me", "you"], [], "me", False),
        ([], [("you", 4711)], "me", False),
        ([], [], "staff", False),
    ],
    ids=["nobody else", "named as well", "another member", "another's first", "not its own"],
)
def test_a_group_that_only_its_owner_is_in_may_write_above(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    members: list[str],
    others: list[tuple[str, int]],
    group: str,
    fine: bool,
) -> None:
    """As it is for a checkout that was made with a umask of 002."""
    root.parent.chmod(0o775)
    status = root.parent.stat()
    me = SimpleNamespace(pw_name="me", pw_uid=status.st_uid, pw_gid=status.st_gid)
    rest = [SimpleNamespace(pw_name=n, pw_uid=u, pw_gid=status.st_gid) for n, u in others]
    monkeypatch.setattr(pwd, "getpwuid", lambda _: me)
    monkeypatch.setattr(pwd, "getpwall", lambda: [me, *rest])
    found = SimpleNamespace(gr_name=group, gr_mem=members)
    monkeypatch.setattr(grp, "getgrgid", lambda _: found)
    if fine:
        assert set(catalog(root).scan().snapshot.guests) == {"web1", "db1"}
    else:
        assert "can be written by its group" in refusal(root)


def test_a_sticky_directory_above_is_fine_where_what_is_in_it_is_ours(root: Path) -> None:
    root.parent.chmod(0o1777)
    assert set(catalog(root).scan().snapshot.guests) == {"web1", "db1"}


@NEEDS_ROOT
def test_in_a_sticky_directory_what_belongs_to_another_is_refused(root: Path) -> None:
    root.parent.chmod(0o1777)
    for path in (root, *root.iterdir()):
        os.chown(path, OTHER, -1)  # it is whole, but can go and come back as another's
    told = refusal(root)
    assert f"there {root} belongs to uid {OTHER}" in told
    assert f"run chown root {root}," in told


@NEEDS_ROOT
def test_a_sticky_directory_of_another_is_refused(root: Path) -> None:
    """Its owner may rename what is in it all the same."""
    root.parent.chmod(0o1777)
    os.chown(root.parent, OTHER, -1)
    assert f"which belongs to uid {OTHER}" in refusal(root)


@NEEDS_ROOT
def test_a_directory_above_of_somebody_else_is_refused(root: Path) -> None:
    os.chown(root.parents[1], OTHER, -1)
    told = refusal(root)
    assert f"lies in {root.parents[1]}, which belongs to uid {OTHER}" in told
    assert f"chown root {root.parents[1]}" in told


@NEEDS_ROOT
def test_the_home_of_who_owns_the_documents_is_fine(root: Path) -> None:
    home = root.parents[1]
    for path in (home, *home.rglob("*")):
        os.chown(path, OTHER, -1)
    assert set(catalog(root).scan().snapshot.guests) == {"web1", "db1"}


def absolute(link: Path, root: Path) -> None:
    link.symlink_to(root)


def relative(link: Path, root: Path) -> None:
    link.symlink_to(f"../{root.parents[1].name}/./site/desired")


def two_steps(link: Path, root: Path) -> None:
    (link.parent / "next").symlink_to(root.parent)
    link.symlink_to("next/desired")


@pytest.mark.parametrize("how", [absolute, relative, two_steps], ids=lambda how: how.__name__)
def test_a_link_to_it_is_as_good_as_the_directories_it_leads_through(
    root: Path, tmp_path: Path, how: Callable[[Path, Path], None]
) -> None:
    link = make_directory(tmp_path / "links") / "current"
    how(link, root)
    assert set(catalog(link).scan().snapshot.guests) == {"web1", "db1"}
    for parent in (link.parent, root.parent, root.parents[1]):
        parent.chmod(0o777)
        assert f"lies in {parent}, which can be written by everybody" in refusal(link)
        parent.chmod(0o755)
    assert catalog(link).scan().snapshot.problems == ()


def test_links_that_lead_in_a_circle_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links"):
        check_path(str(tmp_path / "a"), Trust(frozenset({0, os.geteuid()})))


def test_a_relative_path_is_looked_at_from_the_top(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    trust = Trust(frozenset({0, os.geteuid()}))
    check_path("../desired", trust)
    root.parents[1].chmod(0o777)
    with pytest.raises(UnusableFileError, match="can be written by everybody"):
        check_path("../desired", trust)


def test_a_parent_turned_writable_ends_nobody(root: Path) -> None:
    subject = catalog(root)
    good = subject.scan().snapshot.guests
    root.parent.chmod(0o777)
    (root / "db.yaml").unlink()
    for _ in range(4):
        snapshot = subject.scan().snapshot
        assert snapshot.guests == good
        assert "can be written by everybody" in snapshot.uncertain


def test_a_checkout_that_is_only_validated_may_lie_anywhere(root: Path) -> None:
    root.parent.chmod(0o777)
    put(root / "more.yaml", (BASE / "db.yaml").read_text().replace("db1", "db2"))
    assert load_paths([root], ["local"]).problems == ()
