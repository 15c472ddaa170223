"""The API of images: what is shown of each, and what can be asked for."""

import httpx
import pytest

from controller.errors import HostUnreachableError
from controller.images.progress import MIB, Phase
from controller.operator.answers import RefusedError
from tests.unit.web.images import TAIL, ready, stalled
from tests.unit.web.support import World, with_install

pytestmark = pytest.mark.usefixtures("server")


@pytest.fixture(autouse=True)
def install(world: World) -> None:
    with_install(world)


def item(http: httpx.Client, name: str = "rocky9") -> dict:  # type: ignore[type-arg]
    answer = http.get(f"/api/v1/images/{name}")
    assert answer.status_code == 200, answer.text
    return answer.json()["item"]


def test_an_image_tells_what_it_is_made_by_and_who_uses_it(http: httpx.Client) -> None:
    made = item(http)
    assert (made["source_kind"], made["template"], made["version"], made["location"]) == (
        "kickstart",
        "rhel9-minimal.ks.j2",
        "RHEL9",
        "vmlinuz",
    )
    assert (made["guests"], made["used_by"]) == (1, ["web3"])
    assert (made["state"], made["pools"]) == (None, [])
    disk = item(http, "debian12")
    assert (disk["source_kind"], disk["source"], disk["state"]) == (
        "file",
        "debian12.qcow2",
        "Ready",
    )


def test_the_list_has_the_same_keys_and_words_for_every_image(http: httpx.Client) -> None:
    listed = http.get("/api/v1/images").json()["items"]
    assert [one["name"] for one in listed] == ["debian12", "rocky9"]
    assert listed[1] == item(http)
    assert len({frozenset(one) for one in listed}) == 1


def test_an_address_is_shown_without_its_login(http: httpx.Client, world: World) -> None:
    kernel = "http://me:PASSWORD@127.0.0.1:8000/vmlinuz?token=TOKEN"
    location = {"kernel": kernel, "kernelSha256": "0" * 64, "initrd": "initrd"}
    with_install(world, kickstart={"location": location})
    assert item(http)["location"] == "http://127.0.0.1:8000/vmlinuz"


def test_what_is_under_way_has_its_phase_and_bytes(http: httpx.Client, world: World) -> None:
    world.images.works(Phase.UPLOADING, 30 * MIB, 120 * MIB)
    made = item(http)
    (pool,) = made["pools"]
    assert (made["state"], pool["state"], pool["phase"]) == ("Preparing", "Preparing", "uploading")
    assert (pool["done"], pool["total"]) == (30 * MIB, 120 * MIB)
    assert pool["message"] == "uploading 30 of 120 MiB (25 %)"
    assert pool["since"].endswith("Z")


def test_an_installer_at_work_counts_no_bytes(http: httpx.Client, world: World) -> None:
    world.images.installing()
    (pool,) = item(http)["pools"]
    assert (pool["phase"], pool["detail"]) == ("installing", "attempt 1 of 2: packages")
    assert (pool["done"], pool["total"]) == (None, None)


def test_a_stalled_build_tells_reason_log_and_remedy(http: httpx.Client, world: World) -> None:
    world.images.shows(stalled())
    made = item(http)
    (pool,) = made["pools"]
    assert made["state"] == "Stalled"
    assert (pool["state"], pool["stalled"], pool["reason"]) == ("Failed", True, "InstallFailed")
    assert pool["log_tail"] == TAIL
    assert "guestkeeper retry rocky9" in pool["remedy"]
    assert "guestkeeper logs image/rocky9" in pool["remedy"]


def test_the_worst_of_its_pools_is_an_images_state(http: httpx.Client, world: World) -> None:
    world.images.shows(ready(), stalled())
    assert item(http)["state"] == "Stalled"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("rocky8", "no image is named `rocky8`; did you mean `rocky9`?"),
        ("web1", "`web1` is a guest, not an image; its image is `debian12`"),
    ],
)
def test_an_unknown_image_is_not_found_with_a_suggestion(
    http: httpx.Client, name: str, told: str
) -> None:
    for answer in (
        http.get(f"/api/v1/images/{name}"),
        http.get(f"/api/v1/images/{name}/log"),
        http.post(f"/api/v1/images/{name}/build"),
        http.post(f"/api/v1/images/{name}/retry"),
    ):
        assert (answer.status_code, answer.json()["error"]["message"]) == (404, told)


def test_an_images_name_where_a_guests_is_wanted_is_told(http: httpx.Client) -> None:
    def told(name: str) -> str:
        return str(http.get(f"/api/v1/guests/{name}").json()["error"]["message"])

    assert told("rocky9") == (
        "`rocky9` is an image, not a guest; see: guestkeeper describe image/rocky9"
    )
    assert told("rokcy9") == "no guest is named `rokcy9`; did you mean the image `rocky9`?"


def test_a_build_is_begun_and_how_it_stands_is_answered(http: httpx.Client, world: World) -> None:
    world.images.on_build = world.images.installing
    parameters = {"host": "local", "pool": "default", "refresh": "1"}
    answer = http.post("/api/v1/images/rocky9/build", params=parameters)
    assert answer.status_code == 202
    assert [pool["state"] for pool in answer.json()["pools"]] == ["Preparing"]
    assert world.images.asked == [("rocky9", "local", "default", True)]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RefusedError("no host is named `x`; there are local"), 400),
        (HostUnreachableError("no answer"), 503),
    ],
)
def test_what_cannot_be_built_says_whose_fault_it_is(
    http: httpx.Client, world: World, error: Exception, status: int
) -> None:
    def fail() -> None:
        raise error

    world.images.on_build = fail
    answer = http.post("/api/v1/images/rocky9/build")
    assert (answer.status_code, answer.json()["error"]["message"]) == (status, str(error))


def test_a_retry_says_whether_anything_had_failed(http: httpx.Client, world: World) -> None:
    world.images.shows(ready())
    assert http.post("/api/v1/images/rocky9/retry").json()["had_failed"] is False
    world.images.shows(stalled())
    answer = http.post("/api/v1/images/rocky9/retry").json()
    assert answer["had_failed"] is True
    assert [pool["state"] for pool in answer["pools"]] == ["Preparing"]


def test_an_installers_log_is_streamed_to_its_end(http: httpx.Client, world: World) -> None:
    rest = iter([b"two\n", b"", b"three\n", None])
    world.images.blocks = [b"one\n", b""]
    world.images.more = lambda: next(rest)
    assert http.get("/api/v1/images/rocky9/log").text == "one\n"
    followed = http.get("/api/v1/images/rocky9/log", params={"follow": "1"})
    assert followed.text == "one\ntwo\nthree\n"
