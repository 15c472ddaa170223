"""The JSON API: its shapes, which scripts rely on, and its answers to what is wrong."""

import threading
import time
from dataclasses import replace

import httpx
import pytest

from controller.errors import HostUnreachableError, PermanentError
from controller.web.server import WebServer
from tests.unit.web.support import World, lost_host, now_healthy, unable_to_start
from tests.waiting import wait_until


def get(http: httpx.Client, path: str, **parameters: object) -> dict:  # type: ignore[type-arg]
    answer = http.get(f"/api/v1/{path}", params=parameters)  # type: ignore[arg-type]
    assert answer.status_code == 200, answer.text
    assert answer.json()["format_version"] == 1
    return answer.json()


# --- guests ---------------------------------------------------------------------------------------


def test_guests_are_listed_by_name_with_those_not_looked_at_and_orphans(http: httpx.Client) -> None:
    items = get(http, "guests")["items"]
    assert [(item["name"], item["printable"]) for item in items] == [
        ("db1", "Unknown"),
        ("old1", "Unknown"),
        ("web1", "Healthy"),
        ("web2", "Degraded"),
    ]


def test_every_guest_has_the_same_keys_whether_it_was_looked_at_or_not(http: httpx.Client) -> None:
    for view in ("full", "conditions", "summary"):
        keys = {frozenset(item) for item in get(http, "guests", view=view)["items"]}
        assert len(keys) == 1


def test_a_summary_is_a_part_of_the_full_view(http: httpx.Client) -> None:
    full = {item["name"]: item for item in get(http, "guests")["items"]}
    for item in get(http, "guests", view="summary")["items"]:
        assert item.items() <= full[item["name"]].items()


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ("tier=web", ["web1", "web2"]),
        ("tier!=web", ["db1", "old1"]),
        ("tier", ["db1", "web1", "web2"]),
        ("!tier", ["old1"]),
        ("tier==db,tier", ["db1"]),
    ],
)
def test_labels_select(http: httpx.Client, selector: str, found: list[str]) -> None:
    assert [item["name"] for item in get(http, "guests", labels=selector)["items"]] == found


def test_a_selector_that_cannot_be_read_is_refused_with_an_example(http: httpx.Client) -> None:
    answer = http.get("/api/v1/guests", params={"labels": "a,,b"})
    assert answer.status_code == 400
    assert "tier=web" in answer.json()["error"]["message"]


def test_names_select(http: httpx.Client) -> None:
    assert [item["name"] for item in get(http, "guests", name=["web2"])["items"]] == ["web2"]


def test_a_guest_is_told_whole(http: httpx.Client) -> None:
    item = get(http, "guests/web1")["item"]
    assert item["sync"] == "Synced"
    assert item["health"] == "Healthy"
    assert item["ready"] == "True"
    assert item["sentence"] == "nothing to do: it is as wanted and healthy"
    assert item["forwards"] == ["127.0.0.1:18080:80/tcp"]
    assert item["addresses"] == ["10.0.2.15"]
    assert item["origin"] == {"file": "guests.yaml", "line": 1}
    assert item["generation"] == 1
    assert item["digest"] == item["applied_digest"]
    assert item["domain"]["state"] == "running"
    assert item["domain"]["disks"][0]["name"] == "disk-system"
    assert {c["type"]: c["status"] for c in item["conditions"]}["Ready"] == "True"
    assert all(c["since"].endswith("Z") for c in item["conditions"])
    service = item["services"][0]
    assert service["name"] == "web"
    assert service["ready"] is True
    assert service["files"] == ["/var/www/html/index.html"]
    assert [(p["name"], p["status"], p["asks"]) for p in service["probes"]] == [
        ("http", "Success", "http://127.0.0.1:18080/"),
        ("unit", "Success", "nginx.service in the guest"),
    ]


def test_what_failed_and_when_it_is_tried_again_is_told(http: httpx.Client, world: World) -> None:
    unable_to_start(world)
    item = get(http, "guests/web2")["item"]
    assert item["printable"] == "Degraded"
    assert item["failure"]["message"] == "no room"
    assert item["failure"]["attempts"] == 2
    assert item["recheck_at"] is not None


def test_an_unknown_guest_is_not_found_with_a_suggestion(http: httpx.Client) -> None:
    answer = http.get("/api/v1/guests/wbe1")
    assert answer.status_code == 404
    assert answer.json()["error"]["message"] == "no guest is named `wbe1`; did you mean `web1`?"


def test_file_contents_are_in_no_answer(http: httpx.Client) -> None:
    assert "hello" not in http.get("/api/v1/guests").text


# --- the other lists ------------------------------------------------------------------------------


def test_images_are_listed_with_their_pools(http: httpx.Client) -> None:
    (image,) = get(http, "images")["items"]
    assert image["name"] == "debian12"
    assert image["guests"] == 3
    assert image["pools"][0]["state"] == "Ready"


def test_services_count_the_guests_in_which_they_are_ready(http: httpx.Client) -> None:
    spare, web = get(http, "services")["items"]
    assert (spare["name"], spare["shared"], spare["total"]) == ("spare", True, 0)
    assert (web["name"], web["ready"], web["total"]) == ("web", 1, 2)


def test_hosts_and_problems_are_listed(http: httpx.Client) -> None:
    assert get(http, "hosts")["items"][0]["reachable"] is True
    assert get(http, "problems")["items"][0]["text"] == (
        "web2.yaml:7: spec.memory.size: must be a size such as 512Mi"
    )


def test_the_status_counts(http: httpx.Client) -> None:
    status = get(http, "status")
    assert status["guests"] == 4
    assert status["printable"] == {"Degraded": 1, "Healthy": 1, "Unknown": 1}
    assert status["revision"] == "abc123"
    assert status["daemon_version"] == "9.9.9"


# --- doing ----------------------------------------------------------------------------------------


def test_reconcile_puts_a_known_guest_on_the_queue(http: httpx.Client, world: World) -> None:
    assert http.post("/api/v1/guests/web1/reconcile").status_code == 202
    assert world.reconciled == ["web1"]
    assert http.post("/api/v1/guests/nobody/reconcile").status_code == 404
    assert http.get("/api/v1/guests/web1/reconcile").status_code == 405


LONG = 55.0
"""Seconds: less than the waits ask for, more than any machine needs."""


# --- long polls -----------------------------------------------------------------------------------


def test_a_wait_ends_when_something_moves(http: httpx.Client, world: World) -> None:
    version = get(http, "guests")["version"]
    later = threading.Timer(0.2, now_healthy, (world, "web2"))
    later.start()
    began = time.monotonic()
    assert get(http, "wait", version=version, timeout=60)["version"] > version
    assert time.monotonic() - began < LONG
    later.join()


def test_a_wait_without_change_ends_in_time(http: httpx.Client) -> None:
    version = get(http, "guests")["version"]
    began = time.monotonic()
    assert get(http, "wait", version=version, timeout=0.3)["version"] == version
    assert 0.25 < time.monotonic() - began < LONG


def test_a_wait_for_what_has_happened_already_ends_at_once(http: httpx.Client) -> None:
    began = time.monotonic()
    get(http, "wait", version=0, timeout=60)
    assert time.monotonic() - began < LONG


def test_a_hundred_watchers_do_not_hold_up_a_request(
    server: WebServer, http: httpx.Client, directory, world: World
) -> None:
    version = get(http, "guests")["version"]
    answers: list[int] = []

    def watch() -> None:
        transport = httpx.HTTPTransport(uds=str(directory / "gk.sock"))
        with httpx.Client(transport=transport, base_url="http://x", timeout=120) as client:
            answers.append(get(client, "wait", version=version, timeout=60)["version"])

    threads = [threading.Thread(target=watch) for _ in range(100)]
    for thread in threads:
        thread.start()
    get(http, "guests")
    assert answers == [], "they still wait"
    now_healthy(world, "web2")
    for thread in threads:
        thread.join(60)
    assert answers == [version + 1] * 100


def test_a_number_that_is_none_is_refused(http: httpx.Client) -> None:
    assert http.get("/api/v1/wait", params={"timeout": "soon"}).status_code == 400
    assert http.get("/api/v1/events", params={"after": "-1"}).status_code == 400


# --- events ---------------------------------------------------------------------------------------


def test_events_are_listed_oldest_first_and_by_guest(http: httpx.Client) -> None:
    assert [event["reason"] for event in get(http, "events")["items"]] == [
        "DomainStarted",
        "ProbeFailed",
    ]
    (event,) = get(http, "events", guest="web2")["items"]
    assert event["warning"] is True
    assert event["message"] == "web/http: connection refused"


def test_following_events_waits_for_the_next_of_that_guest(
    http: httpx.Client, world: World
) -> None:
    last = get(http, "events")["last"]

    def happen() -> None:
        world.journal.record("web1", "Noise", "not asked for")
        world.journal.record("web2", "DomainStarted", "it crashed")

    later = threading.Timer(0.2, happen)
    later.start()
    answer = get(http, "events", guest="web2", after=last, wait=10)
    later.join()
    assert [event["message"] for event in answer["items"]] == ["it crashed"]
    assert answer["last"] == answer["items"][0]["id"]


def test_following_without_an_event_ends_in_time(http: httpx.Client) -> None:
    last = get(http, "events")["last"]
    answer = get(http, "events", after=last, wait=0.3)
    assert (answer["items"], answer["last"]) == ([], last)


# --- console --------------------------------------------------------------------------------------


def test_the_console_is_streamed_and_closed(http: httpx.Client, world: World) -> None:
    assert http.get("/api/v1/guests/web1/console").text == "login: "
    assert world.consoles_closed == 1


def test_a_follower_who_leaves_closes_the_console(http: httpx.Client, world: World) -> None:
    with http.stream("GET", "/api/v1/guests/web1/console?follow=1") as answer:
        assert next(answer.iter_raw()) == b"login: "
    wait_until(lambda: world.consoles_closed == 1, 60, "the console is closed")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (PermanentError("domain web1 is not running", reason="NotRunning"), 409),
        (HostUnreachableError("host local does not answer"), 503),
    ],
)
def test_a_console_that_cannot_be_opened_says_why(
    http: httpx.Client, world: World, error: Exception, status: int
) -> None:
    world.console_error = error
    answer = http.get("/api/v1/guests/web1/console")
    assert answer.status_code == status
    assert answer.json()["error"]["message"] == str(error)


# --- what scrapers read ---------------------------------------------------------------------------


def test_metrics_and_health_are_on_tcp_and_the_api_is_not(server: WebServer) -> None:
    assert server.address is not None
    base = f"http://127.0.0.1:{server.address[1]}"
    with httpx.Client(base_url=base, trust_env=False) as tcp:
        assert tcp.get("/metrics").text == "guestkeeper_up 1\n"
        assert tcp.get("/metrics").headers["content-type"] == "text/plain; version=0.0.4"
        assert tcp.get("/healthz").text == "the loop makes progress\n"
        assert tcp.get("/api/v1/guests").status_code == 404
        assert tcp.post("/api/v1/guests/web1/reconcile").status_code == 404


def test_ill_health_is_a_503_with_its_reason(http: httpx.Client, world: World) -> None:
    world.health = (False, "no worker was free for 61 s")
    world.readiness = (False, "2 guests were not looked at yet")
    assert (http.get("/healthz").status_code, http.get("/healthz").text) == (
        503,
        "no worker was free for 61 s\n",
    )
    assert http.get("/readyz").status_code == 503


def test_a_lost_host_is_unknown_everywhere(http: httpx.Client, world: World) -> None:
    lost_host(world)
    item = get(http, "guests/web1")["item"]
    assert (item["sync"], item["health"], item["ready"]) == ("Unknown", "Unknown", "Unknown")
    assert item["domain"] is None
    assert get(http, "hosts")["items"][0]["why"] == "connection refused"


def test_text_that_is_no_unicode_is_replaced_and_costs_no_answer(
    http: httpx.Client, world: World
) -> None:
    world.hosts[0] = replace(world.hosts[0], why="gone: \udcff")
    assert get(http, "hosts")["items"][0]["why"] == "gone: ?"
    world.health = (False, "thread \udcff has ended")
    assert http.get("/healthz").text == "thread ? has ended\n"


@pytest.mark.parametrize(
    "path",
    [
        "guests/%00", "guests/%ff", "guests/..%2f..%2fetc", "guests/%ED%A0%80", "%ED%A0%80",
        "guests?labels=%ff%00,,=!", "guests?view=%ff", "guests?name=%ED%A0%80",
        "events?after=1e400", "events?after=nan", "events?limit=1e14", "events?guest=%ff%ED%A0%80",
        "wait?version=inf&timeout=0",
    ],
)  # fmt: skip
def test_an_odd_address_is_answered(http: httpx.Client, path: str) -> None:
    answer = http.get(f"/api/v1/{path}")
    assert answer.status_code < 500
    assert answer.json()["format_version"] == 1
