"""Whatever guests, servers and hosts say: no command lets it steer the terminal that it is on."""

import ast
import io
import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

import controller.cli as room
from controller.cli.client.client import Client
from controller.cli.commands import follow
from controller.cli.terminal import output as terminal
from controller.errors import PermanentError
from controller.observed.guest_text import ConsoleText, harmless
from controller.web.server import WebServer
from tests.unit.cli.conftest import Cli
from tests.unit.web.support import World

EVIL = "\x1b]0;title\x07\x1b]52;c;cm0=\x07\x1b[2J\x9b2J\u202egpj\x08\x7f\u2066"
STRUCTURE = frozenset(
    [
        "name",
        "guest",
        "kind",
        "status",
        "type",
        "health",
        "sync",
        "printable",
        "host",
        "pool",
        "image",
        "format_version",
        "version",
        "at",
        "since",
        "updated_at",
        "recheck_at",
        "retry_at",
        "last_seen",
        "step",
        "state",
        "digest",
        "file",
        "items",
    ]
)
"""Words and times of the API's own, which guests have no part in."""


def steers(text: str) -> list[str]:
    """What in it is no text: control, format and private characters, surrogates."""
    odd = {char for char in text if unicodedata.category(char)[0] == "C" and char != "\n"}
    return sorted(map(repr, odd))


def hostile(value: Any, key: str = "") -> Any:
    """The API's answer, with something evil behind everything that somebody else may have said."""
    if isinstance(value, dict):
        return {name: hostile(each, name) for name, each in value.items()}
    if isinstance(value, list):
        return [hostile(each, key) for each in value]
    timely = isinstance(value, str) and value[:2] == "20" and value.endswith("Z")
    if isinstance(value, str) and value and key not in STRUCTURE and not timely:
        return value + EVIL
    return value


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, daemon: WebServer) -> None:
    """Every answer is hostile, and somebody looks at a terminal."""
    get, post = Client.get, Client.post
    monkeypatch.setattr(Client, "get", lambda *a, **b: hostile(get(*a, **b)))
    monkeypatch.setattr(Client, "post", lambda *a, **b: hostile(post(*a, **b)))
    monkeypatch.setattr(terminal, "person_looks", lambda: True)


COMMANDS = [
    *(f"get {kind}" for kind in ("guests", "images", "services", "hosts", "problems", "volumes")),
    *(f"get guests -o {output}" for output in ("wide", "json", "yaml", "name")),
    *("get images -o wide", "get hosts -o yaml", "get hosts -o json"),
    *("describe web1", "describe web2", "explain web1", "explain web2", "events"),
    *("events -o json", "events -f --timeout 0.1", "events -f -o json --timeout 0.1"),
    *("wait web1 --timeout 1s", "wait web2 --timeout 0.2", "suspend web1", "logs web1"),
]


@pytest.mark.usefixtures("said")
@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_passes_on_what_steers_a_terminal(cli: Cli, world: World, command: str) -> None:
    world.blocks = [b"login" + EVIL.encode() + b"\x1b[31m", b"mred\x1b[0m\r\n", b"end"]
    world.journal.record("web1", "ProbeFailed", f"it said {EVIL}")
    result = cli(*command.split())
    assert result.stdout + result.stderr
    assert steers(result.stdout + result.stderr) == []


@pytest.mark.usefixtures("said")
@pytest.mark.parametrize("output", ["json", "yaml"])
def test_a_program_still_reads_what_was_said(cli: Cli, output: str) -> None:
    text = cli("get", "hosts", "-o", output).stdout
    read = json.loads(text) if output == "json" else yaml.safe_load(text)
    assert read["items"][0]["uri"].endswith(EVIL)


@pytest.mark.usefixtures("daemon")
def test_an_error_is_harmless_too(cli: Cli, world: World) -> None:
    world.console_error = PermanentError(f"it is off {EVIL}")
    result = cli("logs", "web1")
    assert result.exit_code != 0
    assert "it is off" in result.stderr
    assert steers(result.stderr) == []


@pytest.mark.usefixtures("daemon")
def test_logs_are_harmless_also_in_a_pipe_and_raw_where_that_is_asked_for(
    cli: Cli, world: World
) -> None:
    world.blocks = [b"\x1b[1mDebian\x1b[0m\r\n", b"\xff\x1b]0;x\x07login: \x1b"]
    assert cli("logs", "web1").stdout == "Debian\n\ufffdlogin: \ufffd"
    assert cli("logs", "web1", "--raw").stdout_bytes == b"".join(world.blocks)


def test_what_is_drawn_again_and_again_is_harmless_too() -> None:
    out = io.StringIO()
    console = terminal.stdout(file=out, force_terminal=False)
    with Live(console=console, auto_refresh=False) as live:
        live.update(Group(Text(f"a{EVIL}b"), f"c{EVIL}"), refresh=True)
    assert "a" in out.getvalue()
    assert steers(out.getvalue()) == []


def test_colours_of_our_own_stay() -> None:
    out = io.StringIO()
    terminal.stdout(file=out, force_terminal=True, color_system="standard").print(Text("x", "red"))
    assert out.getvalue() == "\x1b[31mx\x1b[0m\n"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("a\x1b[31;1mred\x1b[0m", "ared"),
        ("a\x1b]52;c;cm0=\x07b", "ab"),
        ("a\x1b]0;title\x1b\\b", "ab"),
        ("a\x1bP1$r\x1b\\b\x1b_x\x9cc", "abc"),
        ("a\x1b(Bb\x1b7c\x1bMd", "abcd"),
        ("a\x9b2Jb", "ab"),
        ("10 %\r20 %\r\nnext\r\r\n", "10 %\n20 %\nnext\n"),
        ("a\x00b\tc", "ab\tc"),
        ("a\u202eb\x07", "a\ufffdb\ufffd"),
        ("tür\u00a0日本", "tür\u00a0日本"),
        ("\x1b]0;never ends\nnext", "\ufffd]0;never ends\nnext"),
        ("\x1b[" + "1;" * 4000, "\ufffd[" + "1;" * 4000),
    ],
)
def test_a_console_is_read_as_lines(said: str, shown: str) -> None:
    whole = ConsoleText()
    assert whole.feed(said.encode()) + whole.end() == shown


PIECES = st.lists(
    st.one_of(
        st.sampled_from(
            ["\x1b", "\x1b[", "31m", "\x1b]0;", "\x07", "\x1b\\", "\r", "\n", "\x9b", "ü"]
        ),
        st.text(max_size=3),
    ),
    max_size=12,
)


@given(PIECES, st.lists(st.integers(0, 60), max_size=6))
def test_however_a_console_is_cut_it_reads_the_same_and_steers_nothing(
    pieces: list[str], cuts: list[int]
) -> None:
    data = "".join(pieces).encode(errors="replace")
    whole, cut = ConsoleText(), ConsoleText()
    wanted = whole.feed(data) + whole.end()
    got, before = "", 0
    for at in [*sorted(cuts), len(data)]:
        got += cut.feed(data[before:at])
        before = max(before, at)
    assert got + cut.end() == wanted
    assert steers(wanted.replace("\t", "")) == []


def test_what_is_written_out_says_what_it_was() -> None:
    assert harmless("a\x1b[2J\u202e") == "a\\x1b[2J\\u202e"
    assert harmless("no\u00a0break", "") == "no\u00a0break"


def test_all_output_of_the_commands_goes_through_one_place() -> None:
    """Else somebody forgets."""
    strays = []
    for path in Path(room.__path__[0]).rglob("*.py"):
        if path == Path(terminal.__file__):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            if called in ("print", "Console", "rich.print") or called.startswith(
                ("sys.stdout.write", "sys.stderr.write", "sys.stdout.buffer")
            ):
                strays.append(f"{path.name}:{node.lineno} {called}")
            if called == "typer.echo" and "__version__" not in ast.unparse(node):
                strays.append(f"{path.name}:{node.lineno} {called}")
    assert strays == []
    assert follow.write is terminal.write
    assert issubclass(type(terminal.stderr()), Console)
