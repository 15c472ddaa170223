"""Answer files come from a template and its snippets, and a line of one leads back to those."""

from pathlib import Path
from typing import Any

import pytest

from controller.desired.answers.render import line_places, render_answer
from controller.desired.answers.shipped import shipped_directory, shipped_names
from controller.desired.answers.templates import TemplateReader, TemplateSet
from controller.desired.files.referenced import SourceReader
from controller.desired.files.trusted_read import Trust
from controller.desired.templates.sandbox import TemplateError
from tests.unit.desired.support import make_directory, put

VARIABLES: dict[str, Any] = {
    "values": {"text": "one\ntwo", "items": ["a", "b"]},
    "install": {"kind": "kickstart"},
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_directory(tmp_path / "desired")


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    return make_directory(tmp_path / "shipped")


def read(root: Path, shipped: Path, name: str = "main.j2", base: str = "") -> TemplateSet:
    sources = SourceReader()
    sources.begin(str(root), Trust(None))
    reader = TemplateReader(sources, shipped)
    reader.begin()
    return reader.read(base, name)


def rendered(root: Path, shipped: Path) -> str:
    templates = read(root, shipped)
    assert templates.flaw is None
    return render_answer(templates, VARIABLES)


# --- Where templates come from --------------------------------------------------------------------


def test_a_file_beside_the_document_wins_over_the_shipped_one(root: Path, shipped: Path) -> None:
    put(shipped / "main.j2", '{% include "snippets/a.j2" %} {% include "snippets/b.j2" %}')
    put(shipped / "snippets" / "a.j2", "shipped a")
    put(shipped / "snippets" / "b.j2", "shipped b")
    put(root / "snippets" / "b.j2", "own b")
    templates = read(root, shipped)
    assert render_answer(templates, VARIABLES) == "shipped a own b"
    assert {file.label for file in templates.files.values()} == {
        "kickstart-templates/main.j2",
        "kickstart-templates/snippets/a.j2",
        "snippets/b.j2",
    }


def test_names_are_relative_to_the_document_also_in_a_snippet(root: Path, shipped: Path) -> None:
    put(root / "team" / "main.j2", '{% include "snippets/a.j2" %}')
    put(root / "team" / "snippets" / "a.j2", 'a{% include "snippets/b.j2" %}')
    put(root / "team" / "snippets" / "b.j2", "b")
    assert render_answer(read(root, shipped, base="team"), VARIABLES) == "ab"


def test_a_refused_file_beside_the_document_is_not_replaced_by_the_shipped_one(
    root: Path, shipped: Path
) -> None:
    put(shipped / "main.j2", "shipped")
    (root / "main.j2").symlink_to("nowhere")
    templates = read(root, shipped)
    assert "main.j2 does not exist" in str(templates.flaw)
    assert not templates.files


def test_a_link_out_of_the_directory_is_refused_but_not_out_of_the_shipped_one(
    root: Path, shipped: Path, tmp_path: Path
) -> None:
    put(tmp_path / "elsewhere.j2", "from elsewhere")
    (shipped / "main.j2").symlink_to(tmp_path / "elsewhere.j2")
    assert rendered(root, shipped) == "from elsewhere"
    (root / "main.j2").symlink_to(tmp_path / "elsewhere.j2")
    assert "leaves the directory" in str(read(root, shipped).flaw)


def test_an_optional_include_may_be_missing(root: Path, shipped: Path) -> None:
    put(root / "main.j2", 'a{% include "extra.j2" ignore missing %}b')
    assert rendered(root, shipped) == "ab"
    put(root / "extra.j2", "-")
    assert rendered(root, shipped) == "a-b"


def test_a_snippet_may_be_included_twice_and_sees_what_is_set_before(
    root: Path, shipped: Path
) -> None:
    put(root / "main.j2", '{% set x = 1 %}{% include "a.j2" %}{% include "a.j2" %}')
    put(root / "a.j2", "{{ x }}")
    assert rendered(root, shipped) == "11"


def test_what_was_looked_at_is_equal_until_a_file_changes(root: Path, shipped: Path) -> None:
    put(root / "main.j2", '{% include "a.j2" %}')
    put(shipped / "a.j2", "1")
    before = read(root, shipped).looked
    assert read(root, shipped).looked == before
    put(shipped / "a.j2", "2")
    changed = read(root, shipped).looked
    assert changed != before
    put(root / "a.j2", "2")
    assert read(root, shipped).looked != changed, "another file, though of the same text"


def test_the_shipped_directory_is_beside_the_package_or_among_the_data_files(
    tmp_path: Path,
) -> None:
    package = make_directory(tmp_path / "lib" / "controller")
    installed = tmp_path / "share" / "guestkeeper" / "kickstart-templates"
    assert shipped_directory(package, tmp_path) == installed
    checkout = make_directory(tmp_path / "lib" / "kickstart-templates")
    assert shipped_directory(package, tmp_path) == checkout
    assert shipped_directory().is_dir()


def test_the_shipped_names_are_templates_as_they_are_written(shipped: Path) -> None:
    put(shipped / "a.ks.j2", "")
    put(shipped / "README.md", "")
    put(shipped / "snippets" / "b.j2", "")
    assert shipped_names(shipped) == ("a.ks.j2",)
    assert shipped_names(shipped, "snippets") == ("snippets/b.j2",)
    assert shipped_names(shipped / "nothing") == ()


# --- Rendering ------------------------------------------------------------------------------------


def test_text_is_encoded_in_base64(root: Path, shipped: Path) -> None:
    put(root / "main.j2", "{{ 'é' | b64encode }} {{ values.text | b64encode }}")
    assert rendered(root, shipped) == "w6k= b25lCnR3bw=="


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("{{ nothing }}", 1, "nothing is undefined; a template has values, image, install"),
        ("{{ nothing | b64encode }}", 1, "nothing is undefined"),
        ("\n{{ values.nothing }}", 2, "values.nothing is undefined"),
        ("\n\n{{ 1 / 0 }}", 3, "division by zero"),
        ("{{ 'a' * 10**9 }}", 1, "is not allowed"),
        ("{{ ''.__class__.__mro__ }}", 1, "is not allowed"),
        ("{{ 'a' | nofilter }}", 1, "no filter named"),
        ("\n{{ values['items'] | random }}", 2, "random would give another file"),
        ("\n{{ values.text.upper }}", 2, "call it: upper()"),
        ("\n{{ values.text.upper ~ '' }}", 2, "call it: upper()"),
        ("{{ cycler('a') }}", 1, "a cycler has no text"),
        ("\necho ${#a[@]}", 2, "write {% raw %}${#a[@]}{% endraw %}"),
        ("\n[ ${#1} ] && echo ${2%#}", 2, "write {% raw %}${#1}{% endraw %}"),
        ("{{ " + "(" * 500 + "1" + ")" * 500 + " }}", 1, "is nested too deeply"),
    ],
)
def test_an_error_names_the_snippet_and_its_line(
    root: Path, shipped: Path, text: str, line: int, words: str
) -> None:
    put(root / "main.j2", '\n\n\n{% include "a.j2" %}')
    put(root / "a.j2", text)
    templates = read(root, shipped)
    with pytest.raises(TemplateError) as caught:
        raise templates.flaw or _failure(templates)
    assert str(caught.value).startswith(f"a.j2 line {line}: ")
    assert words in str(caught.value)


def _failure(templates: TemplateSet) -> TemplateError:
    try:
        render_answer(templates, VARIABLES)
    except TemplateError as error:
        return error
    raise AssertionError("it was rendered")


# --- From a line back to its template -------------------------------------------------------------


def places(root: Path, shipped: Path) -> dict[str, tuple[str, int]] | None:
    """Where each line is from, by its text."""
    templates = read(root, shipped)
    answer = render_answer(templates, VARIABLES)
    found = line_places(templates, VARIABLES, answer)
    if found is None:
        return None
    return dict(zip(answer.split("\n"), found, strict=True))


def test_a_line_is_found_behind_loops_conditions_and_stripped_space(
    root: Path, shipped: Path
) -> None:
    put(
        root / "main.j2",
        "{# a comment #}\nfirst\n{% for i in values['items'] -%}\n  item {{ i }}\n{% endfor -%}\n"
        "{% if true %}\nyes\n{%- endif %}\nlast\n",
    )
    found = places(root, shipped)
    assert found is not None
    del found[""]  # several lines
    assert found == {
        "first": ("main.j2", 2),
        "item a": ("main.j2", 4),
        "item b": ("main.j2", 4),
        "yes": ("main.j2", 7),
        "last": ("main.j2", 9),
    }


def test_a_line_of_a_snippet_is_found_there(root: Path, shipped: Path) -> None:
    put(root / "main.j2", 'one\n{% include "a.j2" %}\n{% include "b.j2" %}\nlast')
    put(root / "a.j2", "# note\nfrom a")
    put(shipped / "b.j2", "{{ 'from b' }}")
    assert places(root, shipped) == {
        "one": ("main.j2", 1),
        "# note": ("a.j2", 1),
        "from a": ("a.j2", 2),
        "from b": ("kickstart-templates/b.j2", 1),
        "last": ("main.j2", 4),
    }


def test_every_line_of_a_value_is_from_where_it_is_put(root: Path, shipped: Path) -> None:
    put(root / "main.j2", "a\n{{ values.text }} end\nb")
    assert places(root, shipped) == {
        "a": ("main.j2", 1),
        "one": ("main.j2", 2),
        "two end": ("main.j2", 2),
        "b": ("main.j2", 3),
    }


def test_an_indented_snippet_keeps_its_lines(root: Path, shipped: Path) -> None:
    text = '{% filter indent(2, first=true) %}{% include "a.j2" %}{% endfilter %}\nb'
    put(root / "main.j2", text)
    put(root / "a.j2", "one\n\nthree")
    assert places(root, shipped) == {
        "  one": ("a.j2", 1),
        "": ("a.j2", 2),
        "  three": ("a.j2", 3),
        "b": ("main.j2", 2),
    }


def test_captured_text_is_from_where_it_is_put(root: Path, shipped: Path) -> None:
    put(
        root / "main.j2",
        "{% set script %}echo\n\necho{% endset -%}\n{% set n | upper %}x{% endset -%}\n"
        "{% for line in script.splitlines() %}#{{ ' ' if line }}{{ line }}\n{% endfor -%}\n"
        "{{ script | b64encode }} {{ n }}",
    )
    found = places(root, shipped)
    assert found is not None
    assert found["# echo"] == found["#"] == ("main.j2", 5)
    assert found["ZWNobwoKZWNobw== X"] == ("main.j2", 7)


def test_where_marks_would_change_the_text_no_line_is_told(root: Path, shipped: Path) -> None:
    macro = "{% macro m() %}x{% endmacro %}"
    put(root / "main.j2", macro + "{% if m() == 'x' %}a{% else %}b{% endif %}")
    assert places(root, shipped) is None


def test_private_characters_of_the_user_are_no_marks(root: Path, shipped: Path) -> None:
    put(root / "main.j2", "\ue0006d:7\ue001 text")
    assert places(root, shipped) is None
    assert rendered(root, shipped) == "\ue0006d:7\ue001 text"
