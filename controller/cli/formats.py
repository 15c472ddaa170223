"""JSON and YAML on stdout. Both carry ``format_version``; the shapes are the API's."""

import json
import sys
from typing import Any

from controller.cli.options import Output
from controller.web import FORMAT_VERSION


def dump(content: dict[str, Any], output: Output) -> None:
    """Prints ``content`` with ``format_version`` in front."""
    document = {"format_version": FORMAT_VERSION, **content}
    if output is Output.YAML:
        import yaml

        sys.stdout.write(yaml.safe_dump(document, sort_keys=False, allow_unicode=True))
    else:
        sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    sys.stdout.flush()
