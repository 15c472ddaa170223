"""The revision is read from git's own files, never by running git."""

from pathlib import Path

from controller.desired.files.git_revision import revision_of

ONE, TWO = "1" * 40, "2" * 40


def repository(path: Path, head: str) -> Path:
    git = path / ".git"
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "HEAD").write_text(head)
    return git


def test_no_repository_has_no_revision(tmp_path: Path) -> None:
    assert revision_of(tmp_path) is None


def test_a_branch_and_a_directory_below_the_root_of_the_checkout(tmp_path: Path) -> None:
    git = repository(tmp_path, "ref: refs/heads/main\n")
    (git / "refs" / "heads" / "main").write_text(f"{ONE}\n")
    (tmp_path / "desired-state").mkdir()
    assert revision_of(tmp_path / "desired-state") == ONE


def test_a_detached_head(tmp_path: Path) -> None:
    repository(tmp_path, f"{TWO}\n")
    assert revision_of(tmp_path) == TWO


def test_a_packed_branch(tmp_path: Path) -> None:
    git = repository(tmp_path, "ref: refs/heads/main\n")
    (git / "packed-refs").write_text(
        f"# pack-refs\n{TWO} refs/heads/other\n{ONE} refs/heads/main\n"
    )
    assert revision_of(tmp_path) == ONE


def test_a_work_tree_of_git_sync(tmp_path: Path) -> None:
    git = repository(tmp_path / "repo", "ref: refs/heads/main\n")
    (git / "refs" / "heads" / "sync").write_text(ONE)
    tree = git / "worktrees" / "x"
    tree.mkdir(parents=True)
    (tree / "HEAD").write_text("ref: refs/heads/sync\n")
    (tree / "commondir").write_text("../..\n")
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / ".git").write_text("gitdir: ../repo/.git/worktrees/x\n")
    assert revision_of(tmp_path / "x") == ONE


def test_nonsense_is_no_revision(tmp_path: Path) -> None:
    git = repository(tmp_path, "ref: ../../etc/passwd\n")
    assert revision_of(tmp_path) is None
    (git / "HEAD").write_bytes(b"\xff\xfe\x00")
    assert revision_of(tmp_path) is None
