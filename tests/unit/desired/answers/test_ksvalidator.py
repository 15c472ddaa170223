"""ksvalidator is run as a program: once for a text, within a time, with what it needs to run."""

import os
from pathlib import Path

import pytest

from controller.desired.answers.ksvalidator import Ksvalidator, ValidatorError, find_program

GOOD = "lang en_US.UTF-8\npoweroff\n%packages\n@core\n%end\n"


def program(path: Path, script: str) -> Path:
    """A program in ksvalidator's place that leaves a line in ``ran`` each time."""
    path.write_text(f"#!/bin/sh\necho ran >>{path.parent}/ran\n{script}\n")
    path.chmod(0o755)
    return path


def runs(directory: Path) -> int:
    ran = directory / "ran"
    return len(ran.read_text().splitlines()) if ran.exists() else 0


def test_finds_the_program_that_comes_with_the_dependency() -> None:
    found = find_program()
    assert found is not None
    assert os.access(found, os.X_OK)


def test_a_good_kickstart_has_no_complaints() -> None:
    assert Ksvalidator().check(GOOD, "RHEL9").complaints == ()


def test_every_complaint_has_its_line() -> None:
    text = "foo\n" + GOOD + "clearpart --bar\n"
    found = Ksvalidator().check(text, "RHEL9").complaints
    assert [complaint.line for complaint in found] == [1, 7]
    assert found[0].message == "Unknown command: foo (ksvalidator, RHEL9); correct it"


def test_what_stops_it_is_a_complaint_without_a_line() -> None:
    (complaint,) = Ksvalidator().check('lang "en\n', "RHEL9").complaints
    assert complaint.line == 0
    assert "No closing quotation" in complaint.message


def test_what_is_only_going_to_be_deprecated_is_no_complaint() -> None:
    assert Ksvalidator().check(GOOD + "authconfig --enableshadow\n", "RHEL7").complaints == ()


def test_an_unknown_version_is_told_apart_and_the_known_ones_listed() -> None:
    assert Ksvalidator().check(GOOD, "RHEL99").unknown_version
    assert {"RHEL9", "RHEL10", "F41"} <= set(Ksvalidator().versions())


@pytest.mark.parametrize("where", ["%ksappend FILE\n", "%post\n  %ksappend FILE\n%end\n"])
def test_no_other_file_is_taken_in(tmp_path: Path, where: str) -> None:
    subject = Ksvalidator(lambda: program(tmp_path / "ksvalidator", "exit 0"))
    (complaint,) = subject.check(GOOD + where.replace("FILE", "/etc/passwd"), "RHEL9").complaints
    assert "%ksappend takes in text" in complaint.message
    assert runs(tmp_path) == 0


def test_the_same_text_is_checked_once_for_each_version(tmp_path: Path) -> None:
    fake = program(tmp_path / "ksvalidator", "exit 0")
    subject = Ksvalidator(lambda: fake)
    for _ in range(3):
        subject.check(GOOD, "RHEL9")
    assert runs(tmp_path) == 1
    subject.check(GOOD, "RHEL10")
    subject.check(GOOD + "\n", "RHEL9")
    assert runs(tmp_path) == 3


def test_a_run_without_an_end_is_ended(tmp_path: Path) -> None:
    fake = program(tmp_path / "ksvalidator", "exec sleep 600")
    with pytest.raises(ValidatorError, match="no answer within"):
        Ksvalidator(lambda: fake, timeout=0.2).check(GOOD, "RHEL9")


def test_a_program_that_is_missing_or_broken_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(ValidatorError, match="pip install pykickstart"):
        Ksvalidator(lambda: None).check(GOOD, "RHEL9")
    with pytest.raises(ValidatorError, match="does not run"):
        Ksvalidator(lambda: tmp_path / "gone").check(GOOD, "RHEL9")


def test_a_failure_without_words_is_a_complaint_all_the_same(tmp_path: Path) -> None:
    fake = program(tmp_path / "ksvalidator", "exit 1")
    (complaint,) = Ksvalidator(lambda: fake).check(GOOD, "RHEL9").complaints
    assert "refused without a reason" in complaint.message


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    Ksvalidator().check(GOOD, "RHEL9")
    assert list(tmp_path.iterdir()) == []
