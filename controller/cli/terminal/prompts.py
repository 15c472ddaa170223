"""Asks for confirmation before something is taken away."""

import sys

import typer

from controller.cli.errors import INVALID, CliError


def confirm(question: str, *, yes: bool, undone: str = "nothing was done") -> None:
    """Ask the question; raises ``CliError`` without a yes, with a message that begins ``undone``.

    ``yes`` skips the question.
    """
    if yes:
        return
    if not somebody_is_there():
        message = f"{undone}: nobody can be asked here; add --yes where that is meant"
        raise CliError(message, INVALID)
    if not typer.confirm(question, err=True):
        raise CliError(undone)


def somebody_is_there() -> bool:
    """Are stdin and stderr terminals, so that a person can be asked?"""
    return sys.stdin.isatty() and sys.stderr.isatty()
