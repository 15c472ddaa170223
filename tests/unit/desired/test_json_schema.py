"""The JSON Schema and the change classes say what the models say."""

import json

import pytest

from controller.desired.json_schema import change_class, json_schema
from controller.desired.schema import Change


@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("memory.size", Change.LIVE),
        ("memory.max", Change.RESTART),
        ("cpu.max", Change.RESTART),
        ("image", Change.REPLACE),
        ("host", Change.IMMUTABLE),
        ("disks", Change.LIVE),
        ("disks[data]", Change.LIVE),
        ("disks[data].pool", Change.IMMUTABLE),
        ("interfaces[lan].mac", Change.LIVE),
        ("interfaces[lan].user.forwards[0]", Change.RESTART),
        ("services[web].files[/etc/a.conf]", Change.GUEST),
        ("services[web].values.a.b", Change.GUEST),
        ("spec.updatePolicy.restart", Change.CONTROLLER),
    ],
)
def test_the_change_class_is_the_nearest_declared_one(path: str, change: Change) -> None:
    assert change_class(path) is change


@pytest.mark.parametrize("path", ["nothing", "memory.colour", "memory", "", "disks[data"])
def test_a_path_without_a_class_is_an_error(path: str) -> None:
    with pytest.raises(KeyError):
        change_class(path)


def test_the_schema_covers_all_kinds_and_is_json() -> None:
    schema = json.loads(json.dumps(json_schema()))
    assert set(schema["discriminator"]["mapping"]) == {"Guest", "Image", "Service"}
    assert len(schema["oneOf"]) == 3


def test_fields_say_their_change_class_and_whether_they_are_built() -> None:
    definitions = json_schema()["$defs"]
    guest = definitions["GuestSpec"]["properties"]
    assert guest["image"]["x-guestkeeper-change"] == "replace"
    assert guest["remediation"]["x-guestkeeper-supported"] is False
    assert guest["deletionPolicy"]["x-guestkeeper-supported"] == ["Retain"]
    assert definitions["UserNetwork"]["properties"]["forwards"]["items"]["type"] == "string"
    assert "runStrategy" in guest
    assert "run_strategy" not in guest


def test_an_image_by_install_is_described_with_its_parts() -> None:
    definitions = json_schema()["$defs"]
    kickstart = definitions["Kickstart"]["properties"]
    assert {"template", "version", "location", "delivery", "rootPasswordHashFrom"} <= set(kickstart)
    assert set(definitions["Kickstart"]["required"]) == {"template", "location", "version"}
    assert "version" not in definitions["Preseed"]["properties"]
    assert definitions["Delivery"]["enum"] == ["initrd", "oemdrv"]
    assert definitions["InstallLocation"]["properties"]["kernelSha256"]["anyOf"][0]["pattern"]
    image = definitions["ImageSpec"]["properties"]
    assert {"disk", "builder", "timeout", "stallTimeout", "keepFailedBuilder"} <= set(image)
    for name in ("ImageSource", "Kickstart", "Preseed", "Autoinstall", "ImageBuilder"):
        for field in definitions[name]["properties"].values():
            assert "x-guestkeeper-supported" not in field
