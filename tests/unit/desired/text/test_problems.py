"""A problem reads as one line that says where and what to write instead."""

import pytest

from controller.desired.text.hints import remedy
from controller.desired.text.problems import Problem, closest, format_path, suggestion


def test_a_problem_is_file_line_field_and_message() -> None:
    assert str(Problem("a.yaml", 3, "spec.image", "m")) == "a.yaml:3: spec.image: m"
    assert str(Problem("a.yaml", 3, "", "m")) == "a.yaml:3: m"
    assert str(Problem("a.yaml", 0, "", "m")) == "a.yaml: m"


def test_paths_read_as_they_are_written() -> None:
    assert format_path(("spec", "disks", 0, "size")) == "spec.disks[0].size"
    assert format_path(("metadata", "labels", "a.b/c")) == 'metadata.labels["a.b/c"]'


def test_a_problem_is_one_line_whatever_names_the_user_chose() -> None:
    assert str(Problem("a\n\x1b[31m.yaml", 1, "", "m")) == "a??[31m.yaml:1: m"
    assert format_path(("spec", "a\nb " + "x" * 100)) == 'spec["a b ' + "x" * 53 + '..."]'


def test_suggestions_know_spelling_case_and_snakes() -> None:
    known = ["runStrategy", "memory", "cpu"]
    assert closest("run_strategy", known) == "runStrategy"
    assert closest("MEMORY", known) == "memory"
    assert closest("memroy", known) == "memory"
    assert suggestion("colour", known) == "known are cpu, memory, runStrategy"
    assert suggestion("colour", []) == "there are none"


@pytest.mark.parametrize(
    ("type_", "value", "wanted"),
    [
        ("size", "4GB", "4Gi"),
        ("size", "1.5G", "1536Mi"),
        ("size", "512 mb", "512Mi"),
        ("size", "4096b", "4096"),
        ("duration", "5min", "5m"),
        ("duration", "10 seconds", "10s"),
        ("mac", "52-54-00-AB-CD-EF", "52:54:00:ab:cd:ef"),
        ("forward", "8080:80", "127.0.0.1:8080:80/tcp"),
        ("name", "My Server", "my-server"),
        ("bool_type", "off", "false"),
        ("unit", "sshd", "sshd.service"),
    ],
)
def test_what_was_plainly_meant_is_offered(type_: str, value: str, wanted: str) -> None:
    assert f"write {wanted}" in (remedy(type_, value, None) or "")


@pytest.mark.parametrize(
    ("type_", "value"), [("size", "large"), ("duration", "soon"), ("mac", "01:00:5e:00:00:01")]
)
def test_nothing_is_offered_where_it_would_be_a_guess(type_: str, value: str) -> None:
    assert remedy(type_, value, None) is None
