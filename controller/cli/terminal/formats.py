"""Prints JSON and YAML on stdout, with ``format_version``, in the API's format.

Text that a guest sent is complete, but its control characters are escaped as the format does it: a
program reads the original text, and a terminal is not steered by it.
"""

import json
import re
from typing import Any

from controller.cli.client.options import Output
from controller.cli.terminal.output import write
from controller.web import FORMAT_VERSION


def dump(content: dict[str, Any], output: Output) -> None:
    """Print ``content`` with ``format_version`` in front."""
    document = {"format_version": FORMAT_VERSION, **content}
    if output is Output.YAML:
        import yaml

        text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
        if not text.replace("\n", "").isprintable():
            text = yaml.safe_dump(document, sort_keys=False, allow_unicode=False)
    else:
        text = _ODD.sub(_escaped, json.dumps(document, indent=2, ensure_ascii=False)) + "\n"
    write(text)


def dump_line(item: dict[str, Any]) -> None:
    """Print one item of a stream as a line of JSON."""
    write(json.dumps({"format_version": FORMAT_VERSION, "item": item}) + "\n")


_ODD = re.compile(r"[^\n -~]")


def _escaped(odd: re.Match[str]) -> str:
    return odd[0] if odd[0].isprintable() else json.dumps(odd[0])[1:-1]
