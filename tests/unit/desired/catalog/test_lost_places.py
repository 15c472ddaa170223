"""What is missing with the place that it was in is no evidence that anybody wants it gone."""

import errno
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from controller.desired.catalog.catalog import Catalog
from controller.desired.catalog.snapshot import Snapshot
from controller.errors import PermanentError
from tests.unit.desired.support import (
    BASE,
    catalog,
    copy_into,
    empty,
    guest,
    image,
    make_directory,
    put,
    settle,
)

NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two documents in the directory itself, two in ``team``, one below that."""
    root = make_directory(tmp_path / "desired")
    copy_into(BASE, root)
    put(root / "team" / "one.yaml", guest("one"))
    put(root / "team" / "two.yaml", guest("two"))
    put(root / "team" / "sub" / "three.yaml", guest("three"))
    return root


ALL = {"web1", "db1", "one", "two", "three"}


@contextmanager
def mounted(at: Path) -> Iterator[None]:
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0755", "none", at], check=False)
    if made.returncode:
        pytest.skip("nothing may be mounted here")
    try:
        yield
    finally:
        if os.path.ismount(at):
            unmount(at)


def unmount(at: Path) -> None:
    subprocess.run(["umount", at], check=True)


def kept(subject: Catalog, *names: str) -> Snapshot:
    """However often it is looked at, nothing is believed to be gone; ``names`` are told of."""
    for _ in range(5):
        snapshot = settle(subject).snapshot
        assert set(snapshot.guests) == ALL
        assert not snapshot.orphans
        assert snapshot.uncertain
    assert snapshot.lost == set(names)
    for name in names:
        problems = [one for one in snapshot.document_problems(name) if f" {name} " in one.message]
        assert "guestkeeper approve --deletions" in problems[0].message
    return snapshot


# --- The ways to lose a place ---------------------------------------------------------------------


def gone(root: Path) -> None:
    shutil.rmtree(root / "team")


def renamed(root: Path) -> None:
    (root / "team").rename(root / ".team")


def emptied(root: Path) -> None:
    empty(root / "team")


def a_file(root: Path) -> None:
    gone(root)
    (root / "team").write_text("x")


def a_fifo(root: Path) -> None:
    gone(root)
    os.mkfifo(root / "team")


def a_socket(root: Path) -> None:
    gone(root)
    here = Path.cwd()
    os.chdir(root)  # a socket's path is short
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind("team")
    finally:
        os.chdir(here)


def a_dangling_link(root: Path) -> None:
    renamed(root)
    (root / "team").symlink_to("elsewhere")


LOSSES: dict[Callable[[Path], None], tuple[str, str]] = {
    gone: ("team", "is gone"),
    renamed: ("team", "is gone"),
    emptied: ("team", "has no documents any more"),
    a_file: ("team", "is a file now"),
    a_fifo: ("team", "is a FIFO now"),
    a_socket: ("team", "is a socket now"),
    a_dangling_link: ("team", "is a symlink that leads nowhere"),
}


@pytest.mark.parametrize("lose", LOSSES, ids=lambda lose: lose.__name__)
def test_documents_that_went_with_their_directory_are_kept_and_so_is_every_other(
    root: Path, lose: Callable[[Path], None]
) -> None:
    subject = catalog(root)
    subject.scan()
    place, why = LOSSES[lose]
    lose(root)
    (root / "db.yaml").unlink()  # may have been moved to where nobody looks now
    snapshot = kept(subject, "one", "two", "three")
    assert f"{place}: {why}" in snapshot.uncertain or f"sub: {why}" in snapshot.uncertain
    assert "guestkeeper approve --deletions" in snapshot.uncertain
    assert snapshot.held == {"db1", "one", "two", "three"}
    assert "were lost it is kept" in snapshot.document_problems("db1")[0].message


@pytest.mark.parametrize("lose", LOSSES, ids=lambda lose: lose.__name__)
def test_that_holds_for_a_daemon_that_never_saw_them(
    root: Path, tmp_path: Path, lose: Callable[[Path], None]
) -> None:
    memory = tmp_path / "documents.json"
    catalog(root, remembered=memory).scan()
    lose(root)
    for _ in range(3):  # and for the one after it
        snapshot = settle(catalog(root, remembered=memory)).snapshot
        assert set(snapshot.guests) == {"web1", "db1"}
        assert snapshot.lost == {"one", "two", "three"}
        assert "guestkeeper approve --deletions" in snapshot.uncertain


@pytest.mark.parametrize("lose", LOSSES, ids=lambda lose: lose.__name__)
def test_it_is_over_when_the_documents_are_back(root: Path, lose: Callable[[Path], None]) -> None:
    subject = catalog(root)
    good = subject.scan().snapshot
    shutil.copytree(root / "team", root.parent / "copy")
    lose(root)
    settle(subject)
    lost = root / "team"
    if lost.is_dir() and not lost.is_symlink():
        shutil.rmtree(lost)
    else:
        lost.unlink(missing_ok=True)
    shutil.copytree(root.parent / "copy", lost)
    snapshot = settle(subject).snapshot
    assert snapshot.guests == good.guests
    assert (snapshot.uncertain, snapshot.problems, snapshot.lost) == ("", (), frozenset())
    (root / "team" / "one.yaml").unlink()
    assert set(settle(subject).snapshot.orphans) == {"one"}


def test_a_linked_directory_whose_target_is_removed_lost_its_documents(root: Path) -> None:
    (root / "team").rename(root / ".revision1")
    (root / "team").symlink_to(".revision1")
    subject = catalog(root)
    assert set(subject.scan().snapshot.guests) == ALL
    shutil.rmtree(root / ".revision1")
    assert "team: is a symlink that leads nowhere" in kept(subject, "one", "two", "three").uncertain


def test_a_linked_directory_that_is_flipped_lets_the_removed_document_go(root: Path) -> None:
    (root / "team").rename(root / ".revision1")
    shutil.copytree(root / ".revision1", root / ".revision2")
    (root / ".revision2" / "one.yaml").unlink()
    (root / "team").symlink_to(".revision1")
    subject = catalog(root)
    subject.scan()
    (root / "next").symlink_to(".revision2")
    (root / "next").rename(root / "team")
    shutil.rmtree(root / ".revision1")
    assert set(settle(subject).snapshot.orphans) == {"one"}


@NEEDS_ROOT
@pytest.mark.parametrize("below", ["nothing", "other documents"])
@pytest.mark.parametrize("daemon", ["same", "next"])
def test_an_unmounted_sub_directory_lost_its_documents(
    root: Path, tmp_path: Path, below: str, daemon: str
) -> None:
    shutil.move(root / "team", tmp_path / "away")
    make_directory(root / "team")
    if below != "nothing":
        put(root / "team" / "old.yaml", guest("old"))
    memory = tmp_path / "documents.json"
    with mounted(root / "team"):
        shutil.copytree(tmp_path / "away", root / "team", dirs_exist_ok=True)
        subject = catalog(root, remembered=memory)
        assert set(settle(subject).snapshot.guests) == ALL
        unmount(root / "team")
        if daemon == "next":
            subject = catalog(root, remembered=memory)
        snapshot = settle(subject).snapshot
        assert snapshot.lost == {"one", "two", "three"}
        told = " ".join(str(problem) for problem in snapshot.problems)
        assert "team: is on another file system than before" in told
        assert not snapshot.orphans
        assert settle(subject).snapshot.uncertain
        assert ("old" in snapshot.guests) is (below != "nothing")


@NEEDS_ROOT
def test_another_file_system_with_all_documents_is_nothing(root: Path, tmp_path: Path) -> None:
    subject = catalog(root)
    good = subject.scan().snapshot.guests
    shutil.copytree(root / "team", tmp_path / "copy")
    with mounted(root / "team"):
        shutil.copytree(tmp_path / "copy", root / "team", dirs_exist_ok=True)
        assert settle(subject).snapshot.guests == good
        assert subject.snapshot.uncertain == ""
        (root / "team" / "one.yaml").unlink()
        assert set(settle(subject).snapshot.orphans) == {"one"}


@pytest.mark.parametrize("how", ["unreadable", "failing", "writable"])
def test_a_sub_directory_that_cannot_be_read_keeps_its_documents(
    root: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = catalog(root)
    subject.scan()
    real = os.scandir

    def scandir(path: str) -> object:
        if path == str(root / "team"):
            number = errno.EACCES if how == "unreadable" else errno.EIO
            raise OSError(number, os.strerror(number))
        return real(path)

    if how == "writable":
        (root / "team").chmod(0o777)
    else:
        monkeypatch.setattr(os, "scandir", scandir)
    for _ in range(4):
        snapshot = settle(subject).snapshot
        assert set(snapshot.guests) == ALL
        assert snapshot.uncertain.startswith("not everything in it can be used (team: ")
        assert snapshot.document_problems("one")
    with pytest.raises(PermanentError, match="nothing is approved"):
        subject.approve_missing(["one"])
    monkeypatch.undo()
    (root / "team").chmod(0o755)
    assert settle(subject).snapshot.problems == ()


# --- One file -------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "\n \n", "# only\n# comments\n", "---\n", "# a\n---\n# b\n"])
def test_a_file_that_is_still_there_and_has_nothing_left_was_not_removed(
    root: Path, text: str
) -> None:
    """A disk that ran full, or an editor that died, leaves the same."""
    subject = catalog(root)
    subject.scan()
    put(root / "team" / "one.yaml", text)
    snapshot = kept(subject, "one")
    assert "team/one.yaml: has no document any more" in snapshot.uncertain
    (root / "team" / "one.yaml").unlink()  # which is plain
    assert set(settle(subject).snapshot.orphans) == {"one"}


def test_every_file_truncated_at_once_loses_nobody(root: Path) -> None:
    subject = catalog(root)
    subject.scan()
    for path in root.rglob("*.yaml"):
        path.write_bytes(b"")
    kept(subject, *ALL)


def test_a_file_whose_last_line_has_no_end_may_have_lost_the_rest_of_it(root: Path) -> None:
    """A write that was cut off within the second of three documents can leave a good one."""
    subject = catalog(root)
    both = put(root / "both.yaml", guest("one") + "---\n" + guest("two"))
    shutil.copy(both, root / ".both")
    for name in ("one", "two"):
        (root / "team" / f"{name}.yaml").unlink()
    assert set(settle(subject).snapshot.guests) == ALL
    whole = both.read_text()
    put(both, whole[: whole.index("---")].rstrip("\n"))
    assert "both.yaml: ends in the middle of a line" in kept(subject, "two").uncertain
    put(both, whole[: whole.index("---")])
    assert set(settle(subject).snapshot.orphans) == {"two"}


@pytest.mark.parametrize("what", ["directory", "fifo", "socket", "device", "link", "alias"])
def test_what_took_the_place_of_a_file_says_nothing_of_its_document(root: Path, what: str) -> None:
    subject = catalog(root)
    good = subject.scan().snapshot.guests
    path = root / "one.yaml"
    put(path, (root / "team" / "one.yaml").read_text())
    (root / "team" / "one.yaml").unlink()
    assert settle(subject).snapshot.guests == {**good, "one": subject.snapshot.guests["one"]}
    path.unlink()
    if what == "directory":
        path.mkdir()
    elif what == "fifo":
        os.mkfifo(path)
    elif what == "socket":
        with socket.socket(socket.AF_UNIX) as one:
            here = Path.cwd()
            os.chdir(root)
            try:
                one.bind(path.name)
            finally:
                os.chdir(here)
    elif what == "device":
        path.symlink_to("/dev/zero")
    elif what == "link":
        path.symlink_to("nowhere.yaml")
    else:
        path.symlink_to("web.yaml")
    for _ in range(4):
        snapshot = settle(subject).snapshot
        assert set(snapshot.guests) == ALL
        assert snapshot.uncertain
        assert snapshot.document_problems("one")


# --- What is plain --------------------------------------------------------------------------------


def removed(root: Path) -> None:
    (root / "team" / "one.yaml").unlink()


def disabled(root: Path) -> None:
    (root / "team" / "one.yaml").rename(root / "team" / "one.yaml.off")


def edited_out(root: Path) -> None:
    two = root / "team" / "two.yaml"
    put(two, two.read_text() + "---\n" + (root / "team" / "one.yaml").read_text())
    (root / "team" / "one.yaml").unlink()
    put(two, two.read_text().partition("---\n")[0])


def one_of_its_kind(root: Path) -> None:
    """The others of its directory are in one below."""
    (root / "team" / "two.yaml").rename(root / "team" / "sub" / "two.yaml")
    (root / "team" / "one.yaml").unlink()


def checked_out(root: Path) -> None:
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-C", root]
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all"],
                      ["rm", "-q", "team/one.yaml"], ["commit", "-qm", "less"],
                      ["checkout", "-q", "HEAD~1"], ["checkout", "-q", "-"]):  # fmt: skip
        subprocess.run([*git, *arguments], check=True, capture_output=True)


@pytest.mark.parametrize(
    "act",
    [removed, disabled, edited_out, one_of_its_kind, checked_out],
    ids=lambda act: act.__name__,
)
def test_a_removed_document_is_gone_after_a_few_quiet_looks(
    root: Path, act: Callable[[Path], None]
) -> None:
    subject = catalog(root)
    subject.scan()
    act(root)
    snapshot = settle(subject).snapshot
    assert (set(snapshot.orphans), snapshot.uncertain) == ({"one"}, "")
    assert snapshot.problems == ()


def test_a_renamed_directory_is_nothing(root: Path) -> None:
    subject = catalog(root)
    good = subject.scan().snapshot.guests
    (root / "team").rename(root / "squad")
    snapshot = settle(subject).snapshot
    assert {name: one.digest for name, one in snapshot.guests.items()} == {
        name: one.digest for name, one in good.items()
    }
    assert (snapshot.uncertain, snapshot.problems) == ("", ())


def test_what_is_no_guest_is_kept_with_its_place_and_forbids_nothing(root: Path) -> None:
    put(root / "images" / "other.yaml", image("other"))
    subject = catalog(root)
    subject.scan()
    shutil.rmtree(root / "images")
    (root / "db.yaml").unlink()
    snapshot = settle(subject).snapshot
    assert "other" in snapshot.images
    assert [problem.file for problem in snapshot.problems] == ["images", "images/other.yaml"]
    assert (set(snapshot.orphans), snapshot.uncertain) == ({"db1"}, "")


# --- Quiet passes ---------------------------------------------------------------------------------


def test_one_pass_that_misses_a_document_is_believed_by_nobody(root: Path) -> None:
    """Whoever renames a file while the directory is listed may hide it from that listing."""
    subject = catalog(root)
    good = subject.scan().snapshot.guests
    path = root / "db.yaml"
    for _ in range(5):
        path.rename(root / ".db")
        result = subject.scan()
        assert (result.snapshot.guests, result.changed, result.again) == (good, frozenset(), True)
        (root / ".db").rename(path)
        assert not subject.scan().changed
    assert not settle(subject).changed


def test_a_directory_that_is_being_changed_lets_nothing_go(root: Path) -> None:
    subject = catalog(root)
    subject.scan()
    (root / "db.yaml").unlink()
    for number in range(5):
        put(root / "busy.yaml", guest("busy", memory=f"{number + 1}Gi"))
        assert "db1" in subject.scan().snapshot.guests
    assert set(settle(subject).snapshot.orphans) == {"db1"}


def test_quiet_passes_within_a_moment_are_one(root: Path) -> None:
    now = [100.0]
    subject = Catalog(root, None, monotonic=lambda: now[0])
    subject.scan()
    (root / "db.yaml").unlink()
    for _ in range(9):
        assert "db1" in subject.scan().snapshot.guests
    now[0] += 1.0
    assert set(subject.scan().snapshot.orphans) == {"db1"}


def test_what_was_never_there_is_known_after_a_few_looks_too(root: Path) -> None:
    subject = catalog(root)
    assert not subject.scan().snapshot.quiet
    assert settle(subject).snapshot.quiet


# --- An operator's word ---------------------------------------------------------------------------


def test_guests_whose_place_is_lost_go_by_their_names(root: Path, tmp_path: Path) -> None:
    memory = tmp_path / "documents.json"
    subject = catalog(root, remembered=memory)
    subject.scan()
    gone(root)
    settle(subject)
    subject.approve_missing(["one"])
    snapshot = settle(subject).snapshot
    assert (set(snapshot.orphans), set(snapshot.guests)) == ({"one"}, ALL - {"one"})
    assert snapshot.lost == {"one", "two", "three"}, "the end of each needs the word for it"
    assert snapshot.uncertain
    after = settle(catalog(root, remembered=memory)).snapshot
    assert after.lost == {"one", "two", "three"}
    subject.approve_missing(["two", "three"])
    snapshot = settle(subject).snapshot
    assert (set(snapshot.guests), snapshot.uncertain) == ({"web1", "db1"}, "")
    assert snapshot.problems == ()
    after = settle(catalog(root, remembered=memory)).snapshot
    assert (after.uncertain, after.lost) == ("", {"one", "two", "three"})


def test_the_word_ends_when_the_document_is_back(root: Path, tmp_path: Path) -> None:
    memory = tmp_path / "documents.json"
    subject = catalog(root, remembered=memory)
    subject.scan()
    for _ in range(2):
        gone(root)
        assert settle(subject).snapshot.uncertain
        assert set(subject.snapshot.guests) == ALL
        subject.approve_missing(["one", "two", "three"])
        assert settle(subject).snapshot.uncertain == ""
        for name, text in (("one", "one"), ("two", "two"), ("sub/three", "three")):
            put(root / "team" / f"{name}.yaml", guest(text))
        assert set(settle(subject).snapshot.guests) == ALL


def test_nothing_is_approved_while_something_else_is_in_doubt(root: Path) -> None:
    subject = catalog(root)
    subject.scan()
    gone(root)
    put(root / "other.yaml", "kind: [")
    subject.scan()
    with pytest.raises(PermanentError, match=r"nothing is approved.*other\.yaml"):
        subject.approve_missing(["one"])


def test_a_memory_that_is_broken_or_of_another_directory_is_none(
    root: Path, tmp_path: Path
) -> None:
    memory = tmp_path / "documents.json"
    for text in ("{", "[]", '{"root": 1}'):
        memory.write_text(text)
        assert settle(catalog(root, remembered=memory)).snapshot.uncertain == ""
    other = make_directory(tmp_path / "other")
    copy_into(BASE, other)
    assert settle(catalog(other, remembered=memory)).snapshot.lost == frozenset()


def test_a_memory_that_cannot_be_written_is_written_later(root: Path, tmp_path: Path) -> None:
    memory = tmp_path / "state" / "documents.json"
    subject = catalog(root, remembered=memory)
    assert set(settle(subject).snapshot.guests) == ALL
    memory.parent.mkdir()
    put(root / "new.yaml", guest("new"))
    subject.scan()
    gone(root)
    after = settle(catalog(root, remembered=memory)).snapshot
    assert after.lost == {"one", "two", "three"}


def test_a_look_without_a_daemon_knows_what_was_there_and_writes_nothing(
    root: Path, tmp_path: Path
) -> None:
    memory = tmp_path / "documents.json"
    Catalog(root, None, remembered=memory, patient=False).scan()
    assert not memory.exists()
    catalog(root, remembered=memory).scan()
    before = memory.read_bytes()
    gone(root)
    looked = Catalog(root, None, remembered=memory, patient=False).scan()
    assert looked.snapshot.lost == {"one", "two", "three"}
    assert memory.read_bytes() == before
