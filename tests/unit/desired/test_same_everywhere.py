"""The same documents give the same state in every process, byte for byte."""

import re
from pathlib import Path
from typing import Any

import pytest

from controller.desired.templates.sandbox import TemplateError, render, sandbox

from .rendering import in_process
from .support import DATA

CHECKOUT = Path(__file__).parents[3]
VARIABLES: dict[str, Any] = {
    "guest": {"name": "web1", "labels": {"tier": "web", "zone": "b", "rack": "r9"}},
    "service": {"name": "app"},
    "values": {
        "t": "some text",
        "n": 7,
        "f": 1.5,
        "l": ["bert", "anna", "zoe", "carl"],
        "d": {"one": 1, "two": 2, "three": 3, "four": 4},
        "rows": [{"k": "a", "v": 1}, {"k": "b", "v": 2}, {"k": "a", "v": 3}],
    },
}
WAYS = (
    "{{ %s }}",
    "{{ (%s) ~ '' }}",
    "{{ (%s) | string }}",
    "{{ '%%s' %% (%s,) }}",
    "{{ '{}'.format(%s) }}",
    "{{ [%s] }}",
    "{{ {'k': %s} }}",
    "{{ [%s] | join }}",
    "{{ (%s) | list }}",
    "{{ (%s) | pprint }}",
    "{%% set it = %s %%}{{ it }}",
    "{%% for it in %s %%}{{ it }},{%% endfor %%}",
)
"""To text, of which there are many."""


def things() -> list[str]:
    """Everything that a template can get hold of: attributes, called and not, filters, globals."""
    environment = sandbox()
    found = ["range", "dict", "self", "values", "guest", "values.d.keys() - ['one']"]
    found += ["values.d.keys() - values.l", "values.d.items() - []", "{'b', 'a'}"]
    for value in ("t", "n", "f", "l", "d"):
        names = [name for name in dir(VARIABLES["values"][value]) if not name.startswith("_")]
        found += [f"values.{value}.{name}" for name in names]
        found += [f"values.{value}['{name}']" for name in names]
        found += [f"values.{value}.{name}()" for name in names]
        found += [f"values.{value} | {name}" for name in sorted(environment.filters)]
        found += [f"values.{value} is {name}" for name in sorted(environment.tests)]
    found += [f"values.l | map('{name}')" for name in sorted(environment.filters)]
    found += [f"{name}('a', 'b')" for name in sorted(environment.globals)]
    found += [f"{name}()" for name in sorted(environment.globals)]
    found += ["values.l | map(attribute='upper')", "values.rows | map(attribute='k')"]
    found += ["values.rows | groupby('k')", "values.l | batch(2)", "values.l | slice(2)"]
    found += ["values.l | map('attr', 'upper') | first", "values.t | attr('upper')"]
    found += ["values.l | unique", "values.l | select", "values.rows | selectattr('v')"]
    found += ["cycler('a').next", "joiner(',')()", "values.t is sameas values.t", "self.b"]
    return found


CASES = [
    *(WAYS[1] % thing for thing in things()),
    *(way % thing for thing in things()[::7] for way in WAYS),
    *(way % "values.t.upper" for way in WAYS),
    *(way % "values.l | map('upper')" for way in WAYS),
    *(way % "cycler('a')" for way in WAYS),
    "{% for i in values.l %}{{ loop }}{% endfor %}",
    "{% for i in values.l %}{{ loop.cycle }}{% endfor %}",
    "{% macro m() %}{{ caller }}{% endmacro %}{% call m() %}x{% endcall %}",
    "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, a=2) }}{{ m }}",
    "{% block b %}x{% endblock %}{{ self.b }}",
]
DOCUMENTS = [str(CHECKOUT / "desired-state"), str(DATA / "valid" / "base")]


@pytest.fixture(scope="module")
def both() -> tuple[Any, Any]:
    """What two processes with different hash seeds make of it all."""
    one, other = (in_process(seed, CASES, VARIABLES, DOCUMENTS) for seed in (1, 4242))
    return one, other


def test_whatever_a_template_does_it_gives_the_same_in_every_process(
    both: tuple[Any, Any],
) -> None:
    (first, _), (second, _) = both
    assert len(first) == len(CASES)
    different = [
        (case, one, other)
        for case, one, other in zip(CASES, first, second, strict=True)
        if one != other
    ]
    assert different == []
    texts = [bytes.fromhex(text).decode() for text in first if not text.startswith("!")]
    assert len(texts) > 500
    assert not [text for text in texts if re.search(r"\bat 0x[0-9a-f]+", text)]


def test_the_digests_of_documents_are_the_same_in_every_process(both: tuple[Any, Any]) -> None:
    (_, first), (_, second) = both
    assert len(first) >= 3
    assert first == second


@pytest.mark.parametrize(
    ("template", "remedy"),
    [
        ("{{ values.l | random }}", "write out what you want"),
        ("{% if values.n > 1 %}{{ values.l | random }}{% endif %}", "write out what you want"),
        ("{{ values.t.upper }}", "call it: upper()"),
        ("{{ values.t.upper ~ '' }}", "call it: upper()"),
        ("{{ '%s' % values.t.upper }}", "call it: upper()"),
        ("{{ '{0.upper}'.format(values.t) }}", "call it: upper()"),
        ("{% for k in values.d.items %}{{ k }}{% endfor %}", "call it: items()"),
        ("{{ values.l | map('upper') }}", "add | list, or | join(...)"),
        ("{{ values.l | map('upper') ~ '' }}", "add | list, or | join(...)"),
        ("{{ values.l | reverse }}", "add | list, or | join(...)"),
        ("{{ values.d.keys() }}", "add | list, or | join(...)"),
        ("{{ range(3) }}", "add | list, or | join(...)"),
        ("{{ cycler('a', 'b') }}", "write .next() or .current"),
        ("{{ cycler('a', 'b') ~ '' }}", "write .next() or .current"),
        ("{{ joiner() }}", "call it"),
        ("{{ namespace(a=1) }}", "name one of its attributes"),
        ("{{ range }}", "call it"),
        ("{{ [1, [values.t.upper]] }}", "call it: upper()"),
    ],
)
def test_what_has_no_text_is_refused_with_what_to_write(template: str, remedy: str) -> None:
    with pytest.raises(TemplateError) as caught:
        render(f"one\n{template}\n", VARIABLES)
    assert remedy in caught.value.message
    assert caught.value.line == 2


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ values.t.upper() }}", "SOME TEXT"),
        ("{{ values.l | map('upper') | join(' ') }}", "BERT ANNA ZOE CARL"),
        ("{{ values.l | map('upper') | first }}", "BERT"),
        ("{% for i in values.l | map('upper') %}{{ i }}{{ loop.length }}{% endfor %}",
         "BERT4ANNA4ZOE4CARL4"),
        ("{{ values.l | reverse | list }}", "['carl', 'zoe', 'anna', 'bert']"),
        ("{{ values.d | items | list | length }}", "4"),
        ("{{ values.d.keys() | list }}", "['one', 'two', 'three', 'four']"),
        ("{{ values.d.keys() - ['two', 'one'] }}", "['three', 'four']"),
        ("{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.current }}", "aba"),
        ("{% set j = joiner(',') %}{{ j() }}a{{ j() }}b", "a,b"),
        ("{% set n = namespace(a=1) %}{% set n.a = n.a + 1 %}{{ n.a }}", "2"),
        ("{% for i in [1, 2] %}{{ loop.cycle('a', 'b') }}{% endfor %}", "ab"),
        ("{{ none }} {{ true }} {{ 1.5 }} {{ [1, 'a'] }} {{ {'a': 1} }}",
         "None True 1.5 [1, 'a'] {'a': 1}"),
        ("{{ values.t is sameas 'other' }}{{ true is sameas true }}", "FalseTrue"),
    ],
)  # fmt: skip
def test_what_has_text_has_it_as_ever(template: str, text: str) -> None:
    assert render(template, VARIABLES).decode() == text
