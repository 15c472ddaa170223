"""Asking a person before something is done that takes something away."""

import sys

import typer

from controller.cli.errors import INVALID, CliError


def confirm(question: str, *, yes: bool, undone: str = "nothing was done") -> None:
    """Raises ``CliError`` where nobody says yes; ``undone`` begins its message."""
    if yes:
        return
    if not somebody_is_there():
        message = f"{undone}: nobody can be asked here; add --yes where that is meant"
        raise CliError(message, INVALID)
    if not typer.confirm(question, err=True):
        raise CliError(undone)


def somebody_is_there() -> bool:
    """Can a person be asked?"""
    return sys.stdin.isatty() and sys.stderr.isatty()
