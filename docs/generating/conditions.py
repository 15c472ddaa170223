"""docs/reference/conditions.md: the words a guest's status is told in."""

from collections.abc import Mapping

from controller.planning.conditions import ConditionType, Health, Printable, Status, Sync
from docs.generating.markdown import code, page, table
from docs.generating.words import (
    BUILD_REASONS,
    CONDITION_REASONS,
    CONDITIONS,
    EVENT_REASONS,
    HEALTH,
    STATUSES,
    STEP_REASONS,
    SYNC,
    Reason,
)

_HEAD = f"""
A condition has a type, a status ({", ".join(f"`{status.value}`" for status in Status)}), a
reason, a message, and since when the status is as it is. A type that is not there counts as
Unknown. `guestkeeper describe NAME` shows all of them;
`guestkeeper wait NAME --for=condition=TYPE` waits for one.
"""
_BUILDS = """
Each failed attempt of an unattended install is an event of `image/NAME` with one of these reasons,
and counts in `guestkeeper_image_build_failures_total`. After the last attempt the guests that wait
for the image have it as the reason of `Ready` and of `Stalled`. What keeps an attempt from being
begun has a reason of the next table, and is tried again by itself. See
[debug a failed install](../how-to/debug-a-failed-install.md).
"""
_STEPS = """
A step that failed is tried again: after 2 s, 4 s, 8 s, … up to 5 minutes where it may work later,
after 10 s, 20 s, … where something has to change first, at once when the document changes.
Meanwhile the guest's `Ready` or `Synced` has the failure's reason, or `describe` shows it as last
failure; events and the label `code` of `guestkeeper_host_calls_total` use the same words.
"""


def text() -> str:
    """The page."""
    return page(
        "Conditions, reasons, statuses",
        _HEAD,
        "## Types",
        table(("Type", "True means"), _known(ConditionType, CONDITIONS)),
        "## Reasons in conditions",
        table(("Reason", "Meaning", "What to do"), _reasons(CONDITION_REASONS)),
        "## Reasons of failed installs",
        _BUILDS,
        table(("Reason", "Meaning", "What to do"), _reasons(BUILD_REASONS)),
        "## Reasons of failed steps and commands",
        _STEPS,
        table(("Reason", "Meaning", "What to do"), _reasons(STEP_REASONS)),
        "## Reasons of other events",
        "An event also has the reason of the condition `Ready` when that becomes False.",
        table(("Reason", "Meaning"), [(code(k), v) for k, v in sorted(EVENT_REASONS.items())]),
        "## The one word of a list",
        "`guestkeeper get guests` shows it as STATUS: the first that fits, in this order.",
        table(("Status", "Meaning"), _known(Printable, STATUSES)),
        "## Sync and health",
        "Two questions that are never mixed: is it as the documents say, and does it do its work?",
        table(("Sync", "Meaning"), _known(Sync, SYNC)),
        table(("Health", "Meaning"), _known(Health, HEALTH)),
    )


def _known(
    words: type[ConditionType] | type[Printable] | type[Sync] | type[Health],
    meanings: Mapping[str, str],
) -> list[tuple[str, str]]:
    return [(code(word.value), meanings[word.value]) for word in words]


def _reasons(reasons: Mapping[str, Reason]) -> list[tuple[str, str, str]]:
    return [(code(name), one.meaning, one.remedy) for name, one in sorted(reasons.items())]
