"""JSON values that all views share: the ``Json`` type, times."""

from datetime import UTC, datetime
from typing import Any

Json = dict[str, Any]


def when(seconds: float | None) -> str | None:
    """Epoch seconds as RFC 3339 with milliseconds: ``2026-01-31T12:00:00.000Z``."""
    if seconds is None:
        return None
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
