"""Which files are read, how often, and what a flip of a symlink does."""

import os
import shutil
from pathlib import Path

import pytest

from controller.desired.catalog import loader as loader_module
from controller.desired.catalog.loader import Load, Loader
from tests.unit.desired.support import age, guest, image, make_directory, put, service


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_directory(tmp_path / "desired")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the document files that were opened."""
    opened: list[str] = []
    real = loader_module.read_file

    def counting(path, limit, trust):  # type: ignore[no-untyped-def]
        opened.append(Path(path).name)
        return real(path, limit, trust)

    monkeypatch.setattr(loader_module, "read_file", counting)
    return opened


def names(load: Load) -> list[str]:
    return [f"{document.origin.file}:{document.name}" for document in load.documents]


def test_reads_yaml_files_and_nothing_an_editor_left(root: Path) -> None:
    for name in ("a.yaml", "b.yml", "team/c.yaml"):
        put(root / name, guest(name.replace("/", "-").split(".")[0]))
    for name in (
        ".d.yaml",
        "e.yaml~",
        "f.yaml.swp",
        "#g.yaml#",
        "h.txt",
        ".git/i.yaml",
        "j.yaml.bak",
    ):
        put(root / name, "not: read")
    assert names(Loader(root).load()) == ["a.yaml:a", "b.yml:b", "team/c.yaml:team-c"]


def test_a_config_map_loads_each_file_once(root: Path) -> None:
    put(root / "..2024_1" / "web.yaml", guest("web1"))
    (root / "..data").symlink_to("..2024_1")
    (root / "web.yaml").symlink_to("..data/web.yaml")
    subject = Loader(root)
    load = subject.load()
    assert (names(load), load.problems) == (["web.yaml:web1"], ())

    put(root / "..2024_2" / "web.yaml", guest("web2"))
    (root / "..data_tmp").symlink_to("..2024_2")
    (root / "..data_tmp").rename(root / "..data")
    shutil.rmtree(root / "..2024_1")
    assert names(subject.load()) == ["web.yaml:web2"]


def test_a_git_sync_flip_of_the_root_is_followed(tmp_path: Path) -> None:
    put(tmp_path / "rev1" / "web.yaml", guest("web1"))
    put(tmp_path / "rev2" / "web.yaml", guest("web2"))
    root = tmp_path / "current"
    root.symlink_to("rev1")
    subject = Loader(root)
    assert names(subject.load()) == ["web.yaml:web1"]
    root.unlink()
    root.symlink_to("rev2")
    assert names(subject.load()) == ["web.yaml:web2"]


def test_a_linked_directory_inside_is_followed_once_and_loops_end(root: Path) -> None:
    put(root / ".worktrees" / "abc" / "web.yaml", guest("web1"))
    (root / "current").symlink_to(".worktrees/abc")
    (root / "again").symlink_to("current")
    (root / ".worktrees" / "abc" / "loop").symlink_to("..")
    assert names(Loader(root).load()) == ["again/web.yaml:web1"]


def test_an_unchanged_file_is_not_opened_again(root: Path, reads: list[str]) -> None:
    put(root / "web.yaml", guest())
    age(root)
    subject = Loader(root)
    first = subject.load()
    reads.clear()
    # Its ctime is still young, so it may have been written within the same tick: read, not parsed.
    second = subject.load()
    assert reads == ["web.yaml"]
    assert not second.changed
    assert second.documents[0] is first.documents[0]

    for file in subject._files.values():
        file.settled = True
    reads.clear()
    assert not subject.load().changed
    assert reads == []


def test_equal_size_and_mtime_do_not_hide_a_change(root: Path) -> None:
    path = put(root / "web.yaml", guest("web1"))
    then = path.stat().st_mtime_ns
    subject = Loader(root)
    subject.load()
    path.write_text(guest("web2"))
    os.utime(path, ns=(then, then))
    assert names(subject.load()) == ["web.yaml:web2"]


def test_an_edited_source_is_a_change_of_its_document(root: Path) -> None:
    put(root / "app" / "app.yaml", service(spec="  files: [{path: /etc/a, source: a.j2}]\n"))
    put(root / "app" / "a.j2", "one")
    subject = Loader(root)
    assert subject.load().documents[0].sources == {"a.j2": "one"}
    assert not subject.load().changed
    put(root / "app" / "a.j2", "two")
    load = subject.load()
    assert load.changed
    assert load.documents[0].sources == {"a.j2": "two"}


def test_a_file_that_may_still_be_written_waits(root: Path) -> None:
    path = put(root / "web.yaml", guest("web1"))
    subject = Loader(root)
    load = subject.load(settle=60)
    assert (load.unsettled, names(load)) == (True, [])
    os.utime(path, (0, 0))
    assert names(subject.load(settle=60)) == ["web.yaml:web1"]
    put(path, guest("web2")[:40])
    load = subject.load(settle=60)
    assert (load.unsettled, names(load)) == (True, ["web.yaml:web1"])


def test_an_unreadable_file_leaves_the_others(root: Path) -> None:
    put(root / "a.yaml", image("one"))
    put(root / "b.yaml", "a: [")
    load = Loader(root).load()
    assert names(load) == ["a.yaml:one"]
    assert [problem.file for problem in load.problems] == ["b.yaml"]
