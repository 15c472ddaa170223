"""docs/reference/commands.md: every command with its arguments and options, from the program."""

from collections import defaultdict
from collections.abc import Iterator
from enum import Enum
from typing import Any

from typer.main import get_command

from controller.cli.app import app
from docs.generating.markdown import anchor, cell, code, page, table

_HEAD = """
`--config FILE` may stand before the command or behind it. Data goes to stdout, messages to stderr.
`NO_COLOR` turns colours off.

| Exit code | Meaning |
|---|---|
| 0 | done |
| 1 | `plan` found differences; a condition was not met; a name is not there |
| 2 | usage, settings or documents are wrong |
| 3 | the daemon or a host does not answer |
| 130 | Ctrl-C |

`plan --detailed-exitcode` gives 0 for no changes, 1 for an error, 2 for changes.
`-o json` and `-o yaml` carry `format_version`, now 1.
"""


def command_tree() -> Any:
    """The program's commands (Click's classes, wherever this Typer keeps them)."""
    return get_command(app)


def text() -> str:
    """The page."""
    group = command_tree()
    panels: dict[str, list[tuple[str, Any]]] = defaultdict(list)
    for name, command in group.commands.items():
        if not command.hidden:
            panel = getattr(command, "rich_help_panel", None) or "Other"
            panels[panel] += _with_those_below(name, command)
    overview = [
        f"**{panel}**: " + ", ".join(f"[`{name}`](#{anchor(name)})" for name, _ in commands)
        for panel, commands in panels.items()
    ]
    parts = ["\n\n".join(overview)]
    parts += [_command(name, command) for found in panels.values() for name, command in found]
    return page("Commands", _HEAD, *parts)


def _with_those_below(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    """The command; of a group its commands, by all their words."""
    below = getattr(command, "commands", None)
    if below is None:
        yield name, command
        return
    for word, inner in below.items():
        yield from _with_those_below(f"{name} {word}", inner)


def _command(name: str, command: Any) -> str:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option"]
    usage = " ".join(["guestkeeper", name, *(_metavar(one) for one in arguments), "[OPTIONS]"])
    lines = [f"## {name}", str(command.help or "").strip(), f"```\n{usage}\n```"]
    rows = [(code(_metavar(one)), _default(one), one.help or "") for one in arguments if one.help]
    rows += [
        (", ".join(code(o) for o in (*one.opts, *one.secondary_opts)) + _value(one),
         _default(one), _help(one))
        for one in options
        if not one.hidden and "--help" not in one.opts
    ]  # fmt: skip
    if rows:
        lines.append(table(("Argument or option", "Default", "Meaning"), rows))
    return "\n\n".join(lines)


def _metavar(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper())


def _value(option: Any) -> str:
    if getattr(option, "is_flag", False):
        return ""
    if option.metavar:
        return f" {code(option.metavar)}"
    if isinstance(option.default, Enum):
        return " " + code("|".join(member.value for member in type(option.default)))
    return f" {code(option.name.upper())}"


def _help(option: Any) -> str:
    return cell(option.help or "")


def _default(parameter: Any) -> str:
    default = parameter.default
    if isinstance(default, Enum):
        default = default.value
    if default in (None, "", False) or getattr(parameter, "is_flag", False):
        return ""
    return code(str(default))
