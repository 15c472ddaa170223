"""Whatever is written into the directory, the catalog answers with problems or with the truth."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.desired.schema.guest import GuestSpec
from controller.desired.schema.tree import fields
from controller.desired.templates.sandbox import TemplateError, render
from controller.desired.text.parse import read_documents
from controller.desired.text.problems import Problem
from controller.desired.text.yaml_errors import YamlSyntaxError

from .support import (
    BASE,
    DATA,
    catalog,
    copy_into,
    empty,
    guest,
    image,
    make_directory,
    put,
    service,
    settle,
)

SEEDS = [path.read_bytes() for path in sorted((DATA / "valid").rglob("*.yaml"))]
FRAGMENTS = [
    *b"\t \n \" ' { } [ ] # % ~ \r \0 \xff".split(b" "),
    *(b"- ", b": ", b"? ", b"&a ", b"*a", b"!!int ", b"---\n", b"<<: *a\n", b"|\n"),
    *(b"0644", b"yes", b"null", b"1e999", b"9" * 50, b"\\ud800", b"\xe2\x80\xa8", b"\xc3\xa9"),
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A valid file, damaged in a few places."""
    text = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 12)))
        text[start:end] = draw(st.sampled_from(FRAGMENTS) | st.binary(max_size=4))
    return bytes(text)


@given(st.binary(max_size=300) | mutated())
@settings(max_examples=600, deadline=None)
def test_any_bytes_give_documents_or_problems(content: bytes) -> None:
    try:
        documents = read_documents(content, "x.yaml")
    except YamlSyntaxError as error:
        assert error.line >= 1
        assert error.message
        return
    lines = content.count(b"\n") + content.count(b"\r") + content.count(b"\xe2\x80\xa8") + 2
    for document in documents:
        assert (document.model is None) == bool(document.problems)
        for problem in document.problems:
            assert isinstance(problem, Problem)
            assert problem.message
            assert 1 <= problem.line <= lines
            assert "\n" not in str(problem)


DATA_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "size", "user", "forwards", "use", "x"]), children
        )
    ),
    max_leaves=6,
)
PATHS = st.sampled_from([name for name in fields(GuestSpec) if name != "remediation"])


@given(st.dictionaries(PATHS, DATA_VALUES, max_size=3))
@settings(max_examples=400, deadline=None)
def test_any_values_of_any_fields_give_documents_or_problems(spec: dict[str, object]) -> None:
    document = {
        "apiVersion": "guestkeeper/v1alpha1",
        "kind": "Guest",
        "metadata": {"name": "a"},
        "spec": {"image": "i", "memory": {"size": "1Gi"}, **spec},
    }
    try:
        read_documents(json.dumps(document).encode(), "x.yaml")
    except YamlSyntaxError as error:
        assert error.message


PIECES = [
    *[
        "{{",
        "}}",
        "{%",
        "%}",
        "|",
        "upper",
        "(",
        ")",
        "[",
        "]",
        "'",
        "*",
        "+",
        "7",
        "~",
        ".",
        "range",
        "x",
        "endfor",
        "endif",
    ],
    *(" values.a ", " guest.name ", " if ", " for x in ", " is "),
]


@given(st.lists(st.sampled_from(PIECES), max_size=12))
@settings(max_examples=400, deadline=None)
def test_any_template_renders_or_is_a_template_error(parts: list[str]) -> None:
    try:
        content = render("".join(parts), {"guest": {"name": "a"}, "values": {"a": [1]}})
    except TemplateError as error:
        assert error.message
    else:
        assert isinstance(content, bytes)


STATES = st.dictionaries(
    st.sampled_from(["a", "b", "c"]),
    st.sampled_from(["256Mi", "512Mi", "1Gi"]),
    min_size=1,
)


@contextmanager
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield make_directory(Path(name) / "desired")


def write(root: Path, state: dict[str, str]) -> None:
    empty(root)
    copy_into(BASE, root)
    for name, memory in state.items():
        put(root / f"{name}.yaml", guest(name, memory=memory))


@given(STATES, STATES, STATES)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_scanning_through_states_ends_where_scanning_the_last_one_does(
    first: dict[str, str], second: dict[str, str], third: dict[str, str]
) -> None:
    with directory() as root:
        subject = catalog(root)
        for state in (first, second, third):
            write(root, state)
            settle(subject)
        fresh = catalog(root).scan().snapshot
        through = subject.snapshot
        assert through.guests == fresh.guests
        assert through.images == fresh.images
        assert through.services == fresh.services
        assert set(through.orphans) == {*first, *second} - {*third}
        assert through.problems == fresh.problems == ()


@given(STATES, mutated(), STATES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_damaged_file_in_between_harms_nothing(
    first: dict[str, str], damage: bytes, last: dict[str, str]
) -> None:
    with directory() as root:
        subject = catalog(root)
        write(root, first)
        good = subject.scan().snapshot
        put(root / "damaged.yaml", damage)
        during = subject.scan().snapshot
        assert set(good.guests) <= set(during.guests)
        assert not during.orphans
        write(root, last)
        settle(subject)
        assert subject.snapshot.guests == catalog(root).scan().snapshot.guests


@pytest.mark.parametrize("order", [("a.yaml", "z.yaml"), ("z.yaml", "a.yaml")])
def test_digests_do_not_depend_on_names_or_order_of_files(
    tmp_path: Path, order: tuple[str, str]
) -> None:
    root = make_directory(tmp_path / "desired")
    put(root / order[0], image() + "---\n" + service())
    put(root / order[1], "# moved\n" + guest("g", spec="  services: [{use: app}]\n"))
    digest = catalog(root).scan().snapshot.guests["g"].digest
    # Written out: it may not depend on anything but the documents, nor change by accident.
    assert digest == "252d81f28fbff4e0208ca0b8da28bb332b52a06567b8fb185e68dd6842edd072"
