"""A page that says which test shows a thing is right about there being one."""

import ast
import re

import pytest

from tests.unit.docs.pages import ROOT

PAGE = ROOT / "docs/explanation/reliability.md"
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE.read_text("utf-8"))))


def test_there_are_many() -> None:
    assert len(NAMED) > 40


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_the_test_that_a_page_names_is_there(file: str, name: str) -> None:
    tree = ast.parse((ROOT / file).read_text("utf-8"))
    tests = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert any(test.startswith("test_") for test in tests)
    assert not name or name in tests
