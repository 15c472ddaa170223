"""docs/reference/settings.md: every setting of the daemon."""

from pathlib import Path
from typing import Any

from controller.settings import DEFAULT_FILE, ENVIRONMENT_FILE, HostSettings, Settings
from docs.generating.markdown import code, page, table

_HEAD = f"""
One TOML file: `--config FILE`, else `${ENVIRONMENT_FILE}`, else `{DEFAULT_FILE}`
if it is there, else the defaults. A setting from the environment wins over the file. An unknown
setting in the file is an error. A running daemon takes up a changed `log_level` on SIGHUP,
everything else when it is started again.
"""
_HOSTS = """
## `[hosts.NAME]`

One section for each libvirt connection. A guest's `host:` names it; a guest that says nothing is on
`local`. A file that has any `[hosts.*]` replaces the default host, so name `local` there too if
guests should be on it.
"""


def text() -> str:
    """The page."""
    prefix = str(Settings.model_config.get("env_prefix", ""))
    rows = [
        (code(name), _kind(field.annotation), _default(field.default), code(prefix + name.upper()),
         _meaning(field))
        for name, field in Settings.model_fields.items()
        if name != "hosts"
    ]  # fmt: skip
    hosts = [
        (code(name), _kind(field.annotation), _default(field.default), _meaning(field))
        for name, field in HostSettings.model_fields.items()
    ]
    return page(
        "Settings",
        _HEAD,
        table(("Setting", "Type", "Default", "Environment", "Meaning"), rows),
        _HOSTS,
        table(("Setting", "Type", "Default", "Meaning"), hosts),
    )


def _kind(annotation: Any) -> str:
    if annotation is Path:
        return "path"
    words = {str: "text", int: "whole number", float: "number", list[str]: "list of text"}
    return words.get(annotation, "table of name = path")


def _default(value: Any) -> str:
    if value == "" or value == {}:
        return ""
    if isinstance(value, float):
        return code(f"{value:g}")
    return code(str(value))


def _meaning(field: Any) -> str:
    bounds = [
        words.format(value)
        for mark in field.metadata
        for attribute, words in (("ge", "at least {}"), ("le", "at most {}"))
        if (value := getattr(mark, attribute, None)) is not None
    ]
    meaning = f"{field.description[:1].upper()}{field.description[1:]}."
    return f"{meaning} {'; '.join(bounds).capitalize()}." if bounds else meaning
