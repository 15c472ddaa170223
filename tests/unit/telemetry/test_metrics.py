"""What a scrape shows: the present, counted things, and nothing of what is gone."""

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace

import pytest

from controller.telemetry.catalog import DEFINITIONS, Definition
from controller.telemetry.metrics import Metrics
from controller.telemetry.samples import (
    DesiredSample,
    GuestSample,
    ImageSample,
    ProbeSample,
    QueueSample,
    Snapshot,
)
from tests.growing import ABOUT_AS_MUCH, cost_of_ten_times

GUEST = GuestSample(
    guest="web-1",
    host="local",
    image="debian",
    sync="Synced",
    health="Healthy",
    conditions=(("Ready", "True"), ("Synced", "True"), ("Stalled", "False")),
    services=(("web", True), ("db", False), ("new", None)),
    probes=(
        ProbeSample("web", "http", True, 0.012),
        ProbeSample("web", "unit", None, 1.5),
        ProbeSample("db", "tcp", False, None),
    ),
)


def everything(guests: Callable[[], list[GuestSample]] = lambda: [GUEST]) -> Metrics:
    """Each metric with at least one series."""
    metrics = Metrics(
        "0.1.0",
        Snapshot(
            guests=guests,
            images=lambda: [
                ImageSample("debian", "local", "default", "Preparing", 10, 100, "uploading"),
                ImageSample("debian", "local", "fast", "Preparing", 20, 100, "uploading"),
            ],
            hosts=lambda: {"local": True, "far": False},
            desired=lambda: DesiredSample({"Guest": 2, "Image": 1}, 1, 1_700_000_000.0, "abc123"),
            deletions_blocked=lambda: 2,
            queues=lambda: {"guests": QueueSample(3, 1.5, 1.25)},
            events_dropped=lambda: 7,
            probes_shed=lambda: 4,
        ),
    )
    metrics.host_call("local", "domain_create", "ok", 0.35)
    metrics.reconciled("success", 0.002)
    metrics.reconcile_panicked()
    metrics.queue_added("guests")
    metrics.queue_retried("guests")
    metrics.queue_waited("guests", 0.001)
    metrics.queue_worked("guests", 0.01)
    metrics.phase_reached("Running", 4.2)
    metrics.guest_restarted("web-1", "DomainCrashed")
    metrics.guest_replaced("web-1", "success")
    metrics.guest_start_failed("web-1")
    metrics.drift_found("web-1", "memory")
    metrics.service_applied("web-1", "web", ok=True)
    metrics.image_built("debian", "local", 312.0)
    metrics.image_build_failed("fedora", "local", "InstallFailed")
    return metrics


def scrape(metrics: Metrics) -> dict[str, float]:
    body, content_type = metrics.render()
    assert content_type.startswith("text/plain")
    lines = [line for line in body.decode().splitlines() if not line.startswith("#")]
    series = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}
    assert len(series) == len(lines), "Prometheus takes one of two values of a series"
    return series


def test_a_guest_is_shown_with_its_conditions_services_and_probes() -> None:
    series = scrape(everything())
    info = 'guest="web-1",health="Healthy",host="local",image="debian",sync="Synced"'
    found = {
        re.sub(r"\{(.*)\}", lambda m: "{" + ",".join(sorted(m[1].split(","))) + "}", name): value
        for name, value in series.items()
    }
    assert found[f"guestkeeper_guest_info{{{info}}}"] == 1
    condition = 'guestkeeper_guest_condition{guest="web-1",status="%s",type="%s"}'
    assert found[condition % ("True", "Ready")] == 1
    assert found[condition % ("False", "Stalled")] == 1
    assert condition % ("False", "Ready") not in found
    ready = 'guestkeeper_service_ready{guest="web-1",service="%s"}'
    assert (found[ready % "web"], found[ready % "db"]) == (1, 0)
    assert ready % "new" not in found
    probe = '{guest="web-1",probe="%s",service="%s"}'
    assert found["guestkeeper_probe_success" + probe % ("http", "web")] == 1
    assert found["guestkeeper_probe_success" + probe % ("tcp", "db")] == 0
    assert "guestkeeper_probe_success" + probe % ("unit", "web") not in found
    assert found["guestkeeper_probe_duration_seconds" + probe % ("unit", "web")] == 1.5


def test_the_series_of_a_guest_end_with_it() -> None:
    guests = [GUEST, replace(GUEST, guest="web-2")]
    metrics = everything(lambda: guests)
    metrics.guest_restarted("web-2", "DomainCrashed")
    assert any("web-2" in name for name in scrape(metrics))
    del guests[1]
    metrics.forget_guest("web-2")
    metrics.forget_guest("never-was")
    assert not any("web-2" in name for name in scrape(metrics))
    assert any("guest_restarts_total" in name and "web-1" in name for name in scrape(metrics))
    metrics.guest_restarted("web-2", "DomainCrashed")
    assert any("web-2" in name for name in scrape(metrics))


def test_the_rest_of_the_present_is_shown() -> None:
    series = scrape(everything())
    assert series['guestkeeper_host_up{host="far"}'] == 0
    place = 'host="local",image="debian",pool="default"'
    assert series[f"guestkeeper_image_prepare_done_bytes{{{place}}}"] == 10
    assert series['guestkeeper_desired_documents{kind="Guest"}'] == 2
    assert series["guestkeeper_desired_last_scan_timestamp_seconds"] == 1_700_000_000
    assert series['guestkeeper_desired_revision_info{revision="abc123"}'] == 1
    assert series['guestkeeper_workqueue_unfinished_work_seconds{name="guests"}'] == 1.5
    assert series["guestkeeper_deletions_blocked"] == 2
    assert series["guestkeeper_journal_events_dropped_total"] == 7
    assert series["process_resident_memory_bytes"] > 1e6


def test_two_daemons_in_one_process_count_apart() -> None:
    one, two = Metrics("1"), Metrics("2")
    one.reconcile_panicked()
    assert scrape(one)["guestkeeper_reconcile_panics_total"] == 1
    assert scrape(two)["guestkeeper_reconcile_panics_total"] == 0


def test_the_snapshot_may_come_later() -> None:
    metrics = Metrics("1")
    assert not any("guest_info" in name for name in scrape(metrics))
    metrics.snapshot = Snapshot(guests=lambda: [GUEST])
    assert any("guest_info" in name for name in scrape(metrics))


def test_a_scraper_that_asks_for_openmetrics_gets_it() -> None:
    body, content_type = everything().render("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


def test_the_reference_lists_exactly_what_is_scraped() -> None:
    body, _ = everything().render()
    types = dict(re.findall(r"^# TYPE (guestkeeper_\S+) (\S+)$", body.decode(), re.MULTILINE))
    helps = dict(re.findall(r"^# HELP (guestkeeper_\S+) (.+)$", body.decode(), re.MULTILINE))
    assert types == {row.name: row.kind for row in DEFINITIONS}
    assert helps == {row.name: row.help for row in DEFINITIONS}
    for row in DEFINITIONS:
        labels = re.search(rf"^{row.name}(?:_count)?(?:{{(.*)}})? ", body.decode(), re.MULTILINE)
        assert labels is not None, row.name
        assert set(re.findall(r'(\w+)="', labels[1] or "")) == set(row.labels), row.name


@pytest.mark.parametrize("row", DEFINITIONS, ids=lambda row: row.name)
def test_every_metric_names_its_unit(row: Definition) -> None:
    name, words = row.name, row.help
    if name.endswith("_seconds"):
        assert "seconds" in words
    if name.endswith("_bytes"):
        assert "Bytes" in words
    assert words.endswith(".")


def test_promtool_has_nothing_to_complain_of() -> None:
    promtool = shutil.which("promtool")
    assert promtool, "promtool is missing: apt-get install prometheus (deploy/setup.sh does)"
    body, _ = everything().render()
    done = subprocess.run(
        [promtool, "check", "metrics"], input=body, capture_output=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_what_a_scrape_costs_grows_with_the_guests_and_no_faster() -> None:
    def scraping(count: int) -> Callable[[], None]:
        conditions = tuple((f"Condition{number}", "True") for number in range(10))
        guests = [replace(GUEST, guest=f"guest-{n}", conditions=conditions) for n in range(count)]
        metrics = everything(lambda: guests)

        def scrape() -> None:
            body, _ = metrics.render()
            assert body.count(b"guestkeeper_guest_condition{") == 10 * count

        return scrape

    assert cost_of_ten_times(scraping, 100) < ABOUT_AS_MUCH
