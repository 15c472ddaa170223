"""What a message or a page tells somebody to type is executed by a test, or it may destroy."""

import re
import shutil
import subprocess

import pytest
from typer.main import get_command

from controller.cli.app import app
from tests.unit.docs import printed
from tests.unit.docs.printed import BY_HAND, EXECUTED, LOOKS, SAID_OF_OTHERS

FOUND = sorted({*printed.of_code(), *printed.of_pages()})
COMMANDS = sorted({command for _, command in FOUND})


def test_every_printed_command_that_changes_something_is_executed_by_a_test() -> None:
    known = {*EXECUTED, *LOOKS, *SAID_OF_OTHERS, *BY_HAND}
    new = [f"{place}: {command}" for place, command in FOUND if command not in known]
    assert new == [], "execute it in a test, in the state that shows it, and enter it in printed.py"


def test_no_entry_is_of_a_command_that_nobody_prints_any_more() -> None:
    known = {*EXECUTED, *LOOKS, *SAID_OF_OTHERS, *BY_HAND}
    assert known - set(COMMANDS) == set()


@pytest.mark.parametrize(("command", "test"), EXECUTED.items())
def test_the_test_of_a_printed_command_is_there_and_names_it(command: str, test: str) -> None:
    source = printed.source_of(test)
    assert re.search(rf"\b{command.split()[1]}\b", source), f"{test} does not execute {command}"


def test_a_command_that_loses_an_option_is_another_command() -> None:
    whole = "To merge: virsh blockcommit web1 vda --base /pool/a --active --wait --pivot"
    assert list(printed.commands(whole)) == ["virsh blockcommit --active --base --pivot --wait"]
    less = whole.replace("--base /pool/a ", "")
    assert not set(printed.commands(less)) & set(EXECUTED)


def test_messages_are_read_whole_and_comments_are_not() -> None:
    assert list(printed.commands("see (virsh vol-clone), then virsh vol-delete X --pool P; x")) == [
        "virsh vol-clone",
        "virsh vol-delete --pool",
    ]
    line = "export URI=x    # so that virsh needs no -c"
    assert list(printed.commands(printed._ASIDE.sub(" ", line))) == []
    assert ("controller/planning/compare/moved_disks.py", "virsh edit") in FOUND, (
        "an f-string of many lines"
    )


@pytest.mark.skipif(shutil.which("virsh") is None, reason="virsh is not installed")
@pytest.mark.parametrize("command", [one for one in COMMANDS if one.startswith("virsh ")])
def test_virsh_has_the_subcommand_and_each_option(command: str) -> None:
    _, name, *options = command.split()
    done = subprocess.run(
        ["virsh", "help", name], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 0, done.stderr
    for option in options:
        assert re.search(rf"(?<!\S)\[?{option}\b", done.stdout), f"{name} has no {option}"


SENTENCES = ("holds", "does", "do", "uploads", "template>", "export found it", "takes it over")
"""What begins as a command of ours does in a message, and tells of the program."""


def test_every_command_of_ours_in_a_message_is_one_that_the_program_takes() -> None:
    shown = 0
    for place, words in printed.own_commands():
        if " ".join(words).startswith(SENTENCES):
            continue
        shown += 1
        command, name = get_command(app), "guestkeeper"
        rest = words[: words.index(">")] if ">" in words else words
        while hasattr(command, "commands"):
            assert rest[0] in command.commands, f"{place}: no command {rest[0]}"
            command, name, rest = command.commands[rest[0]], rest[0], rest[1:]
        if rest or name != "retry":  # told as a word: what it takes stands beside it
            command.make_context(name, list(rest))
    assert shown > 50
