"""Templates are strict, sandboxed and bounded."""

import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from controller.desired.templates.sandbox import TemplateError, render

VARIABLES = {
    "guest": {"name": "web1", "labels": {"tier": "web"}},
    "service": {"name": "app"},
    "values": {"items": [1, 2], "text": "x", "n": {"a": 1}},
}


def test_renders_with_guest_service_and_values() -> None:
    text = "{{ guest.name }} {{ guest.labels.tier }} {{ service.name }} {{ values.n.a }}\n"
    assert render(text, VARIABLES) == b"web1 web app 1\n"


def test_a_value_named_like_a_method_is_the_value() -> None:
    assert render("{% for i in values.items %}{{ i }}{% endfor %}", VARIABLES) == b"12"


def test_plain_text_stays_byte_for_byte() -> None:
    text = "a\r\n  é $x {x} % \n\n"
    assert render(text, VARIABLES) == text.encode()


def test_a_template_changes_nothing_outside_itself() -> None:
    with pytest.raises(TemplateError):
        render("{{ values.items.append(3) }}", VARIABLES)
    with pytest.raises(TemplateError):
        render("{{ values.update({'text': 'y'}) }}", VARIABLES)
    assert VARIABLES["values"] == {"items": [1, 2], "text": "x", "n": {"a": 1}}


@pytest.mark.parametrize(
    "template",
    [
        "{{ 'a' * 10**9 }}",
        "{{ [0] * 10**9 }}",
        "{{ 9 ** (9 ** 9) }}",
        "{{ 'a'.ljust(10**9) }}",
        "{{ 'a' | center(1000000000) }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '%1000000000d' | format(1) }}",
        "{{ '{:>1000000000}'.format(1) }}",
        "{{ range(10**9) | list }}",
        "{{ lipsum(1000000) }}",
        "{% set ns = namespace(x='a') %}{% for i in range(40) %}{% set ns.x = ns.x + ns.x %}"
        "{% endfor %}{{ ns.x }}",
        "{% for i in range(90000) %}{{ 'x' * 1000 }}{% endfor %}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ self.__init__.__globals__ }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}",
        "{{ undefined }}",
        "{{ [undefined] }}",
        "{{ {'a': [undefined]} }}",
        "{{ values.nothing }}",
        "{{ values.n.b.c }}",
        "{{ values.items['a'] }}",
        "{{ 1 / 0 }}",
        "{{ 'a' + 1 }}",
        "{{ {}['a'] }}",
        "{% if %}",
        "{{ 'a' | nofilter }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{{ " + "(" * 500 + "1" + ")" * 500 + " }}",
        "{% for a in [1] %}" * 30 + "{% endfor %}" * 30,
        "{{ '\\ud800' }}",
    ],
)
def test_what_goes_wrong_is_a_template_error(template: str) -> None:
    with pytest.raises(TemplateError):
        render(template, VARIABLES)


def test_an_error_names_the_templates_own_line() -> None:
    with pytest.raises(TemplateError) as caught:
        render("one\n\n{{ values.limit }}\n", VARIABLES)
    assert caught.value.line == 3
    assert "values.limit is undefined" in str(caught.value)


# --- A template's own text ------------------------------------------------------------------------

PIECES = st.sampled_from(
    ["\r\n", "\r", "\n", "\t", " ", "a", "é", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x1f",
     "\x85", "\u2028", "\ufeff", "\0", "$", "{", "}", "%", "#}", "#", "\\n"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=12).map("".join), st.lists(PIECES, max_size=12).map("".join))
@settings(max_examples=300, deadline=None)
def test_bytes_outside_of_tags_stay_as_they_are(before: str, after: str) -> None:
    assume(not any(tag in f"{before}!{after}" for tag in ("{{", "{%", "{#")))
    assume(not before.endswith("{"))
    text = f"{before}{{{{ 'x' }}}}{after}"
    assert render(text, {}).decode() == f"{before}x{after}"
    raw = f"{before}{{% raw %}}{after}{{% endraw %}}"
    assert render(raw, {}).decode() == before + after


def test_a_file_of_windows_keeps_its_line_ends_with_tags_and_without() -> None:
    text = "[app]\r\nname=%s\r\n\r\n; a lone \r here\r\n"
    assert render(text % "web1", VARIABLES) == (text % "web1").encode()
    assert render(text % "{{ guest.name }}", VARIABLES) == (text % "web1").encode()
    loop = "{% for i in values['items'] -%}\r\n{{ i }}\r\n{% endfor %}"
    assert render(loop, VARIABLES) == b"1\r\n2\r\n"


SHELL = [
    "n=${#a[@]}\necho $n\n",
    "n=${#a[@]} m=${#b}\n",
    "[ ${#1} -gt 3 ] && echo ${2%#}\n",
    "${#} args ${x#}\n",
    "echo ${#@} ${#*} ${#-} ${##} ${#?} ${x##*#}\n",
    'case "${#1}" in 0) ;; esac # ${1%%#}\n',
    "awk '{#x\n}' # ends in #}\n",
    "\\newcommand{\\x}[1]{#1} \\newcommand{\\y}[1]{#1#}\n",
    "echo {#",
]


@pytest.mark.parametrize("script", SHELL)
def test_text_that_looks_like_a_comment_is_refused_until_the_remedy_is_written(
    script: str,
) -> None:
    """As often as the message says so; then nothing of it is lost."""
    text = f"#!/bin/sh\necho {{{{ guest.name }}}}\n{script}"
    for _ in range(8):
        try:
            content = render(text, VARIABLES)
        except TemplateError as error:
            assert "`{#` begins a comment" in error.message
            told = re.search(r"if `(.+?)` is text, write ({% raw %}\1{% endraw %})", error.message)
            assert told is not None, error.message
            *before, line = text.split("\n")[: error.line]
            words = re.split(rf"(?<!raw %}})({re.escape(told[1])})", line, maxsplit=1)
            words[1] = told[2]
            text = "\n".join((*before, "".join(words), *text.split("\n")[error.line :]))
        else:
            break
    assert "{% raw %}" in text
    assert content.decode() == f"#!/bin/sh\necho web1\n{script}"


@pytest.mark.parametrize(
    "comment",
    ["{# one #}", "{#- one -#}", "{##}", "{#\n several\n lines\n#}", "{#### one ####}", "{#=== #}",
     "{# costs $5 #}", "{# `${x}` is the name #}", "{#-#}"],
)  # fmt: skip
def test_a_plain_comment_is_one(comment: str) -> None:
    assert render(f"a{comment}b", VARIABLES) == b"ab"


def test_a_comment_that_the_shell_ends_early_is_refused() -> None:
    with pytest.raises(TemplateError, match="begins a comment") as caught:
        render("a\n{# strips: ${2%#} and more #}\n", VARIABLES)
    assert caught.value.line == 2
