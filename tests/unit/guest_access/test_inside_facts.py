"""The parser of what the scripts print: what it reads, and what it refuses."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.observed.inside_facts import Applied, Asked, FactsError, parse_apply, parse_look

ASKED = Asked(
    "web", ("libc6", "libc6:i386", "gone", "vim.x86_64"), ("/a b", "/x\\y"), ("a.service",)
)
HASH = "0" * 64
LOOK = "\n".join(
    [
        "guestkeeper-look\t1",
        "package\tlibc6\tinstalled\tamd64\t2.36",
        "package\tlibc6\tinstalled\ti386\t2.35",
        "package\tgone\tconfig-files\tamd64\t1",
        "package\tvim\tinstalled\tx86_64\t9",
        "boot\tb",
        "hostname\tweb\tweb ",
        "stat\t81a4\tdomain users\tdomain users\t/a b",
        "stat\t21b6\troot\troot\t/x\\y",
        f"{HASH}  /a b",
        "Names=b.service a.service",
        "ActiveState=active",
        "UnitFileState=",
        "",
        "look-end",
        "",
    ]
)


def test_a_look_is_read() -> None:
    view = parse_look(LOOK, ASKED, 5.0)
    assert view.packages == {"libc6": "2.36", "libc6:i386": "2.35", "gone": None, "vim.x86_64": "9"}
    assert view.files["/a b"].sha256 == HASH
    assert view.files["/a b"].group == "domain users"
    assert view.files["/a b"].mode == 0o644
    assert view.files["/x\\y"].sha256 is None
    unit = view.units["a.service"]
    assert (unit.active, unit.enabled) == ("active", "")
    assert (view.hostname, view.looked_at) == ("web", 5.0)


def test_an_escaped_path_is_unescaped() -> None:
    text = LOOK.replace("stat\t21b6", "stat\t81a4").replace(
        "look-end", f"\\{HASH}  /x\\\\y\nlook-end"
    )
    assert parse_look(text, ASKED, 0.0).files["/x\\y"].sha256 == HASH


def test_output_that_is_cut_off_anywhere_is_refused() -> None:
    end = LOOK.index("look-end") + len("look-end")
    for length in range(end):
        with pytest.raises(FactsError):
            parse_look(LOOK[:length], ASKED, 0.0)
        with pytest.raises(FactsError):
            parse_apply("guestkeeper-apply\t1\n" + LOOK[:length], ASKED, 0.0)


@pytest.mark.parametrize(
    "line", ["hello", "stat\tzz\ta\tb\t/c", "stat\t81a4", "keys-missing\tx", "inet6\tx", "error\ta"]
)
def test_a_line_that_the_scripts_do_not_print_is_refused(line: str) -> None:
    with pytest.raises(FactsError):
        parse_look(LOOK.replace("boot\tb", line), ASKED, 0.0)
    with pytest.raises(FactsError):
        parse_apply(f"guestkeeper-apply\t1\n{line}\n{LOOK}", ASKED, 0.0)


def test_an_applys_failures_carry_the_last_lines_cleaned() -> None:
    lines = "\n".join(f"output\t0%\r{n}\x1b[1m" for n in range(30))
    text = f"guestkeeper-apply\t1\nerror\tapp\t100\tinstall\n{lines}\n{LOOK}"
    applied = parse_apply(text, ASKED, 0.0)
    (failure,) = applied.failures
    assert (failure.service, failure.action, failure.exit_code) == ("app", "install", 100)
    assert failure.output.splitlines() == [str(n) for n in range(10, 30)]
    assert applied.view is not None


ODD = st.text(st.characters(), max_size=12)  # surrogates, too
WORDS = st.one_of(
    ODD,
    st.integers().map(str),
    st.sampled_from(["installed", "libc6", "/a b", "a.service", "81a4", "result", "10.0.0.1"]),
    st.sampled_from(["9" * 40, "f" * 32, "\x1b[2J", "\u202e", "\udcff", f"{HASH}  /a b"]),
)
TAGS = [
    *("boot", "hostname", "address", "inet6", "cloud-init", "cloud-json", "pending", "stat"),
    *("keys-missing", "package", "error", "output", "busy", "guestkeeper-look", "look-end"),
]
LINES = st.one_of(
    WORDS,
    st.tuples(st.sampled_from(TAGS), st.lists(WORDS, max_size=4)).map(
        lambda line: "\t".join([line[0], *line[1]])
    ),
    st.tuples(st.sampled_from(["Names", "ActiveState", "UnitFileState"]), WORDS).map("=".join),
)


def _fits(text: str) -> bool:
    return text.isprintable() and len(text) <= 300


@given(st.lists(LINES, max_size=6).map("\n".join))
@settings(max_examples=500, deadline=None)
def test_whatever_is_printed_the_facts_are_refused_or_can_be_shown(text: str) -> None:
    apply = f"guestkeeper-apply\t1\n{text}\n{LOOK}"
    look = LOOK.replace("look-end", f"{text}\nlook-end")
    for parse, output in ((parse_apply, apply), (parse_look, look), (parse_look, text)):
        try:
            found = parse(output, ASKED, 0.0)
        except FactsError as error:
            assert _fits(str(error))
            continue
        if isinstance(found, Applied):
            for failure in found.failures:
                lines = failure.output.splitlines()
                assert all(map(_fits, [failure.service, failure.action, *lines]))
            view = found.view
        else:
            view = found
        if view is None:
            continue
        assert view.packages.keys() == set(ASKED.packages)
        assert view.files.keys() == set(ASKED.files)
        assert view.units.keys() == set(ASKED.units)
        units = [word for unit in view.units.values() for word in (unit.active, unit.enabled)]
        owners = [word for file in view.files.values() for word in (file.owner, file.group)]
        versions = [version for version in view.packages.values() if version is not None]
        words = [view.boot_id, view.hostname, view.cloud_init, *view.addresses, *view.pending]
        assert all(map(_fits, [*units, *owners, *versions, *words]))
