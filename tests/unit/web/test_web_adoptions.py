"""The API of adoptions: what is shown, what is asked for, and errors that say what to do."""

import httpx
import pytest

from controller.errors import PermanentError
from tests.unit.web.adoptions import UUID, FakeAdoptions
from tests.unit.web.support import World

pytestmark = pytest.mark.usefixtures("server")
PATH = "/api/v1/guests/db1/adoption"


@pytest.fixture(autouse=True)
def adoptions(world: World) -> FakeAdoptions:
    made = FakeAdoptions(world)
    world.adoptions = made
    return made


def test_what_it_would_change_is_shown_field_by_field(http: httpx.Client) -> None:
    item = http.get(PATH).json()["item"]
    assert (item["name"], item["host"], item["uuid"]) == ("db1", "local", UUID)
    assert (item["state"], item["adopted"], item["problems"]) == ("running", False, [])
    assert item["devices"] == [{"place": "vda", "is": "default/db1.img", "field": "systemDisk"}]
    assert item["changes"] == [
        {
            "path": "title",
            "old": "old",
            "new": "",
            "class": "live",
            "disruption": "none, applied to the running guest",
            "needs": None,
        },
        {
            "path": "cpu.max",
            "old": "4",
            "new": "1",
            "class": "restart",
            "disruption": "cold boot",
            "needs": "guestkeeper restart db1",
        },
    ]
    assert item["inside"] == "seen"
    assert [step["name"] for step in item["then"]] == ["DefineDomain", "SetTitle"]


def test_adopting_passes_on_what_was_shown(http: httpx.Client, adoptions: FakeAdoptions) -> None:
    answer = http.post(PATH)
    assert answer.status_code == 400
    assert "digest is missing" in answer.json()["error"]["message"]
    answer = http.post(PATH, params={"digest": "abc"})
    assert answer.status_code == 200
    assert answer.json()["item"]["adopted"] is True
    assert adoptions.adopted == [("db1", "abc")]


def test_a_name_that_nobody_has_is_not_found(http: httpx.Client) -> None:
    answer = http.get("/api/v1/guests/db2/adoption")
    assert answer.status_code == 404
    assert "did you mean `db1`" in answer.json()["error"]["message"]


def test_a_refusal_is_told_with_its_reason(http: httpx.Client, adoptions: FakeAdoptions) -> None:
    adoptions.error = PermanentError("it is Guestkeeper's already", reason="NothingToAdopt")
    answer = http.post(PATH, params={"digest": "abc"})
    assert answer.status_code == 409
    assert answer.json()["error"] == {
        "reason": "NothingToAdopt",
        "message": "it is Guestkeeper's already",
    }
