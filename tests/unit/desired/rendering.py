"""Renders what it is given, in a process of its own: for tests that compare two of them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from controller.desired.catalog.catalog import load_paths
from controller.desired.templates.sandbox import TemplateError, render


def rendered(cases: list[str], variables: dict[str, Any]) -> list[str]:
    """Each case's text, or what is wrong with it."""
    found = []
    for text in cases:
        try:
            found.append(render(text, variables).hex())
        except TemplateError as error:
            found.append(f"! {error}")
    return found


def digests(paths: list[str]) -> dict[str, str]:
    """Of all guests and images that the documents at ``paths`` give."""
    found = {}
    for path in paths:
        snapshot = load_paths([Path(path)], None)
        found |= {f"{path} guest {name}": one.digest for name, one in snapshot.guests.items()}
        found |= {f"{path} image {name}": one.content for name, one in snapshot.images.items()}
    return found


def in_process(seed: int, cases: list[str], variables: dict[str, Any], paths: list[str]) -> Any:
    """``rendered`` and ``digests`` by a new process with that hash seed."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit.desired.rendering"],
        input=json.dumps([cases, variables, paths]),
        env={**os.environ, "PYTHONHASHSEED": str(seed)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return json.loads(done.stdout)


if __name__ == "__main__":
    cases, variables, paths = json.load(sys.stdin)
    json.dump([rendered(cases, variables), digests(paths)], sys.stdout)
