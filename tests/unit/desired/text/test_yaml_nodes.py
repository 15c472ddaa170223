"""YAML becomes plain data with lines, and nothing surprising."""

import pytest

from controller.desired.text.yaml_errors import YamlSyntaxError
from controller.desired.text.yaml_nodes import MAX_ALIASED_NODES, RawDocument, decode, parse


def one(text: str) -> RawDocument:
    (document,) = parse(text)
    return document


def test_scalars_follow_yaml_1_2() -> None:
    data = one(
        "a: 1\nb: 1.5\nc: true\nd: null\ne: 2024-05-01\nf: 12:30:00\ng: 0x1f\nh: 0o17\ni: 1e3\n"
        "j: -3\nk: ~\nl: 1_000\nm: '7'\n"
    ).data
    assert data == {
        "a": 1, "b": 1.5, "c": True, "d": None, "e": "2024-05-01", "f": "12:30:00", "g": 31,
        "h": 15, "i": 1000.0, "j": -3, "k": None, "l": "1_000", "m": "7",
    }  # fmt: skip


def test_names_of_fields_are_text_whatever_they_look_like() -> None:
    assert one("on: 1\n1: 2\nnull: 3\n").data == {"on": 1, "1": 2, "null": 3}


def test_every_value_knows_its_line_and_how_it_was_written() -> None:
    lines = one("a:\n  - 1\n  - b: 0x10\n").lines
    assert lines.at(("a",)).line == 1
    assert lines.at(("a", 0)).line == 2
    assert (lines.at(("a", 1, "b")).line, lines.at(("a", 1, "b")).raw) == (3, "0x10")
    assert lines.at(("a", 7, "x")).line == 1, "the nearest thing above that exists"


def test_several_documents_in_one_file_and_empty_ones_skipped() -> None:
    documents = parse("# nothing\n---\na: 1\n---\n---\n# nothing\n---\nb: 2\n")
    assert [(document.line, document.data) for document in documents] == [
        (3, {"a": 1}),
        (8, {"b": 2}),
    ]


def test_aliases_and_merge_keys_work_and_what_is_written_wins() -> None:
    data = one("base: &b {x: 1, y: 2}\nmore: {<<: *b, y: 3}\nlist: {<<: [*b, {z: 4}]}\n").data
    assert data["more"] == {"x": 1, "y": 3}
    assert data["list"] == {"x": 1, "y": 2, "z": 4}


def test_a_few_aliases_are_fine_and_many_are_not() -> None:
    small = "a: &a [" + "x, " * 50 + "]\nb: [" + "*a, " * 100 + "]\n"
    assert len(one(small).data["b"]) == 100
    times = MAX_ALIASED_NODES // 51 + 1
    with pytest.raises(YamlSyntaxError, match="write the values out"):
        parse("a: &a [" + "x, " * 50 + "]\nb: [" + "*a, " * times + "]\n")


def test_aliases_of_long_text_count_by_their_length() -> None:
    with pytest.raises(YamlSyntaxError, match="aliases"):
        parse("a: &a " + "x" * 100_000 + "\nb: [" + "*a, " * 20 + "]\n")


def test_a_flaw_does_not_hide_the_rest_of_its_document_or_other_documents() -> None:
    first, second = parse("a: 1\na: 2\nb: 3\n---\nc: 4\n")
    assert first.data == {"a": 1, "b": 3}
    assert [flaw.path for flaw in first.flaws] == [("a",)]
    assert second.flaws == ()


@pytest.mark.parametrize("word", ["yes", "No", "ON", "off"])
def test_words_that_yaml_readers_disagree_on_are_refused(word: str) -> None:
    (flaw,) = one(f"a: {word}\n").flaws
    assert f'"{word}" in quotes' in flaw.message


def test_the_same_words_in_quotes_are_text() -> None:
    document = one("a: 'yes'\nb: \"0644\"\n")
    assert (document.data, document.flaws) == ({"a": "yes", "b": "0644"}, ())


def test_a_byte_order_mark_is_no_harm() -> None:
    assert decode(b"\xef\xbb\xbfa: 1\n") == "a: 1\n"


def test_windows_line_ends_are_no_harm() -> None:
    document = one("a: 1\r\nb:\r\n  c: 2\r\n")
    assert document.data == {"a": 1, "b": {"c": 2}}
    assert document.lines.at(("b", "c")).line == 3


def test_deep_brackets_are_refused_quickly() -> None:
    with pytest.raises(YamlSyntaxError, match="levels deep"):
        parse("[" * 100_000)
