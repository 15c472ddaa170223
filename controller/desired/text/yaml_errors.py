"""Translate the YAML parser's errors for the person who has to fix the file.

libyaml says "did not find expected key"; the person needs to know that an indentation or a quote is
wrong, and where.
"""

import re

import yaml

_EXPLANATIONS = (
    (
        "mapping values are not allowed",
        "has a ':' where no field can begin; check this line's indentation and the line above,"
        " and put text that contains ': ' in quotes",
    ),
    (
        "block sequence entries are not allowed",
        "has a '- ' where no list can begin; begin the list on a line of its own",
    ),
    (
        "could not find expected ':'",
        "has a line that is neither 'field: value' nor '- item'; add the ':',"
        " or finish the half-written line",
    ),
    (
        "did not find expected key",
        "is not a field of the mapping it stands in; check the indentation and the quotes"
        " of this line and the lines around it",
    ),
    (
        "did not find expected '-' indicator",
        "is not an item of the list above it; begin it with '- ' or correct its indentation",
    ),
    (
        "did not find expected ',' or ']'",
        "has a list in [ ] that is not closed; add the missing ',' or ']'",
    ),
    (
        "did not find expected ',' or '}'",
        "has a mapping in { } that is not closed; add the missing ',' or '}'",
    ),
    (
        "did not find expected node content",
        "ends inside a [ ] or { }, or has a stray ',' there; close or remove it",
    ),
    (
        "did not find expected <document start>",
        "has text after the document's end; begin the next document with ---",
    ),
    ("unknown escape character", 'has an unknown \\ escape in "..."; use single quotes, or \\\\'),
    (
        "invalid Unicode character escape code",
        'has a \\u escape in "..." that is no character; correct it',
    ),
    (
        "did not find expected alphabetic or numeric character",
        "has text that begins with * or &; put the text in quotes",
    ),
    ("exceeded maximum nesting depth", "is nested far too many levels deep; flatten it"),
    ("found incompatible YAML document", "asks for another YAML version; remove the %YAML line"),
)


class YamlSyntaxError(ValueError):
    """The file cannot be read as YAML; nothing of it can be used."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message


def explain(error: yaml.YAMLError, text: str) -> YamlSyntaxError:
    """The parser's ``error`` as one sentence with the line to look at and the remedy."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return YamlSyntaxError(1, f"is not valid YAML: {_first_line(str(error))}")
    lines = text.splitlines()
    last = max(len(lines), 1)
    line = min(error.problem_mark.line + 1, last)
    problem = error.problem or ""
    tab = _tab_line(lines, line)
    if tab is not None:
        return YamlSyntaxError(
            tab, "is indented with a tab, which YAML forbids; indent with spaces"
        )
    if "unexpected end of stream" in problem and error.context_mark is not None:
        start = error.context_mark.line + 1
        return YamlSyntaxError(start, "opens a quote that is never closed; add the closing quote")
    if "cannot start any token" in problem:
        column = error.problem_mark.column
        character = lines[line - 1][column : column + 1] if line <= len(lines) else ""
        return YamlSyntaxError(
            line, f"has text that begins with {character}; put the text in quotes"
        )
    for words, explanation in _EXPLANATIONS:
        if words in problem:
            return YamlSyntaxError(line, explanation)
    context = f"{error.context}: " if error.context else ""
    return YamlSyntaxError(line, f"is not valid YAML: {context}{_first_line(problem)}")


def _tab_line(lines: list[str], line: int) -> int | None:
    """The line with a tab in its indentation, at the error or just above it."""
    for number in (line, line - 1):
        if 0 < number <= len(lines) and re.match(r" *\t", lines[number - 1]):
            return number
    return None


def _first_line(message: str) -> str:
    return message.splitlines()[0] if message else "unknown error"
