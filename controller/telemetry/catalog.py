"""The list of all metrics: name, type, labels, help text with its unit, buckets.

The code and the generated reference both read it.
"""

from dataclasses import dataclass
from typing import Literal

PREFIX = "guestkeeper_"
Kind = Literal["counter", "gauge", "histogram"]

_CALLS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_WORK = (0.0001, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300)
_PHASES = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 10800)


@dataclass(frozen=True, slots=True)
class Definition:
    """One metric: ``name`` as scraped, ``help`` with the unit, ``buckets`` in that unit."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] = ()


def _counter(name: str, labels: str, help: str) -> Definition:
    return Definition(PREFIX + name, "counter", tuple(labels.split()), help)


def _gauge(name: str, labels: str, help: str) -> Definition:
    return Definition(PREFIX + name, "gauge", tuple(labels.split()), help)


def _histogram(name: str, labels: str, help: str, buckets: tuple[float, ...]) -> Definition:
    return Definition(PREFIX + name, "histogram", tuple(labels.split()), help, buckets)


BUILD_INFO = _gauge("build_info", "version", "The daemon's version; always 1.")
HOST_UP = _gauge("host_up", "host", "Whether the host's libvirt answers: 1 or 0.")
HOST_CALLS = _counter(
    "host_calls_total", "host operation code", "Calls to libvirt, by outcome; code ok or an error."
)
HOST_CALL_DURATION = _histogram(
    "host_call_duration_seconds", "host operation", "Time of calls to libvirt, in seconds.", _CALLS
)

RECONCILE = _counter(
    "reconcile_total", "result", "Reconciles: success, error, requeue or requeue_after."
)
RECONCILE_DURATION = _histogram(
    "reconcile_duration_seconds", "", "Time of one reconcile of one guest, in seconds.", _WORK
)
RECONCILE_PANICS = _counter(
    "reconcile_panics_total",
    "",
    "Reconciles and long actions that ended in an unexpected error: bugs.",
)

QUEUE_DEPTH = _gauge("workqueue_depth", "name", "Items waiting in the work queue.")
QUEUE_ADDS = _counter("workqueue_adds_total", "name", "Items added to the work queue.")
QUEUE_RETRIES = _counter("workqueue_retries_total", "name", "Items added again after an error.")
QUEUE_WAIT = _histogram(
    "workqueue_queue_duration_seconds", "name", "Time an item waited, in seconds.", _WORK
)
QUEUE_WORK = _histogram(
    "workqueue_work_duration_seconds", "name", "Time an item was worked on, in seconds.", _WORK
)
QUEUE_UNFINISHED = _gauge(
    "workqueue_unfinished_work_seconds",
    "name",
    "Sum of the time that items being worked on have taken so far, in seconds.",
)
QUEUE_LONGEST = _gauge(
    "workqueue_longest_running_processor_seconds",
    "name",
    "Time that the longest item being worked on has taken so far, in seconds.",
)

GUEST_INFO = _gauge(
    "guest_info",
    "guest host image sync health",
    "A guest; always 1. sync: Synced, OutOfSync, Unknown. health: Healthy, Progressing, Degraded,"
    " Missing, Suspended, Unknown.",
)
GUEST_CONDITION = _gauge(
    "guest_condition",
    "guest type status",
    "A guest's condition; 1 for the status it has, the other statuses are absent.",
)
PHASE_TRANSITION = _histogram(
    "guest_phase_transition_seconds",
    "phase",
    "Time until a guest reached a phase, in seconds. Ready: since it was first wanted. Replacing:"
    " from the beginning of a replacement of its system disk until its end, either way.",
    _PHASES,
)
RESTARTS = _counter(
    "guest_restarts_total",
    "guest reason",
    "Times the daemon started a guest again. reason: restart, replace (it was stopped for that), or"
    " why it was off: shutdown, crashed, destroyed, failed, other and the like.",
)
REPLACEMENTS = _counter(
    "guest_replacements_total",
    "guest result",
    "Replacements of a guest's system disk that ended. result: success, failed (the old disk came"
    " back by itself), rolled-back (an operator wanted the old disk), cancelled (before the swap).",
)
START_FAILURES = _counter("guest_start_failures_total", "guest", "Starts of a guest that failed.")
DRIFT = _counter(
    "guest_drift_total", "guest field", "Differences found that no change of a document explains."
)

SERVICE_READY = _gauge(
    "service_ready", "guest service", "Whether a service is ready: 1 or 0; absent while unknown."
)
SERVICE_APPLIES = _counter(
    "service_config_applies_total",
    "guest service result",
    "Times a service's configuration was applied: success or error.",
)
PROBE_SUCCESS = _gauge(
    "probe_success",
    "guest service probe",
    "Whether a probe's latest check succeeded: 1 or 0; absent while nothing was learnt.",
)
PROBE_DURATION = _gauge(
    "probe_duration_seconds",
    "guest service probe",
    "Time of a probe's latest check, in seconds.",
)

IMAGE_INFO = _gauge(
    "image_info",
    "image host pool state",
    "An image in a pool of a host; always 1. state: Missing, Preparing, Ready, Failed.",
)
IMAGE_DONE = _gauge(
    "image_prepare_done_bytes", "image host pool", "Bytes fetched or uploaded of an image so far."
)
IMAGE_SIZE = _gauge(
    "image_prepare_size_bytes", "image host pool", "Bytes to fetch or upload of an image in all."
)
IMAGE_PHASE = _gauge(
    "image_prepare_phase",
    "image host pool phase",
    "An image being prepared; always 1. phase: waiting, downloading, checking, uploading,"
    " installing.",
)
IMAGE_BUILD_SECONDS = _histogram(
    "image_build_seconds",
    "image host",
    "Time of an attempt that ended in a base, from its start, in seconds.",
    _PHASES,
)
IMAGE_BUILD_FAILURES = _counter(
    "image_build_failures_total",
    "image host reason",
    "Attempts to install an image that failed, by reason.",
)

DOCUMENTS = _gauge("desired_documents", "kind", "Valid documents in the directory.")
DELETIONS_BLOCKED = _gauge(
    "deletions_blocked",
    "",
    "Guests without a document that are stopped or deleted only once an operator approves.",
)
INVALID_DOCUMENTS = _gauge(
    "desired_invalid_documents", "", "Documents refused; their last good version stays in force."
)
LAST_SCAN = _gauge(
    "desired_last_scan_timestamp_seconds",
    "",
    "When the directory was last read, in seconds since 1970.",
)
REVISION_INFO = _gauge(
    "desired_revision_info", "revision", "The directory's git revision; always 1."
)
EVENTS_DROPPED = _counter(
    "journal_events_dropped_total", "", "Events the journal lost because too many came at once."
)
PROBES_SHED = _counter(
    "probes_shed_total", "", "Checks that were not made, or not judged, for lack of time."
)

DEFINITIONS: tuple[Definition, ...] = tuple(
    value for value in list(globals().values()) if isinstance(value, Definition)
)
