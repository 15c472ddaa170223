"""docs/reference/metrics.md: every metric, from the catalog that the daemon exports from."""

from controller.telemetry.catalog import DEFINITIONS
from docs.generating.markdown import code, page, table

_HEAD = """
`http://ADDRESS/metrics`, where ADDRESS is `listen` of the settings. Gauges are read off the present
state when somebody scrapes. Beside these, `process_*` of the Python client tells memory, CPU and
file descriptors of the daemon.
"""


def text() -> str:
    """The page."""
    rows = [
        (code(one.name), one.kind, ", ".join(code(label) for label in one.labels), one.help)
        for one in DEFINITIONS
    ]
    buckets = [
        (code(one.name), " ".join(f"{limit:g}" for limit in one.buckets))
        for one in DEFINITIONS
        if one.buckets
    ]
    return page(
        "Metrics",
        _HEAD,
        table(("Name", "Type", "Labels", "Meaning"), rows),
        "## Buckets of the histograms",
        table(("Name", "Upper bounds, in seconds"), buckets),
    )
