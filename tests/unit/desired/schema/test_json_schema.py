"""The JSON Schema and the change classes say what the models say."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from controller.desired.schema.fields import Change
from controller.desired.schema.guest import GuestSpec
from controller.desired.schema.json_schema import change_class, json_schema
from controller.desired.schema.tree import fields, item, unwrap


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
        ("disks[data].cache", Change.RESTART),
        ("disks[data].ioTune", Change.LIVE),
        ("disks[data].ioTune.readIopsSec", Change.LIVE),
        ("systemDisk.ioTune.totalBytesSec", Change.LIVE),
        ("cdroms", Change.RESTART),
        ("cdroms[tools]", Change.RESTART),
        ("cdroms[tools].volume", Change.LIVE),
        ("title", Change.LIVE),
        ("description", Change.LIVE),
        ("autostart", Change.LIVE),
        ("interfaces[lan].link", Change.LIVE),
        ("interfaces[lan].model", Change.LIVE),
        ("interfaces[lan].mac", Change.LIVE),
        ("interfaces[lan].user.forwards[0]", Change.RESTART),
        ("interfaces[lan].user.forwards.0.host_port", Change.RESTART),
        ("services[web].files[/etc/a.conf]", Change.GUEST),
        ("services[web].values.a.b", Change.GUEST),
        ("services[web].probes[http].httpGet.port", Change.CONTROLLER),
        ("spec.updatePolicy.restart", Change.CONTROLLER),
        ("updatePolicy.maintenanceWindows[0].timeZone", Change.CONTROLLER),
        ("updatePolicy.maintenanceWindows.0.cron", Change.CONTROLLER),
        ("updatePolicy.retiredDiskTTL", Change.CONTROLLER),
        ("deletionPolicy", Change.CONTROLLER),
    ],
)
def test_the_change_class_is_the_nearest_declared_one(path: str, change: Change) -> None:
    assert change_class(path) is change


def _paths(model: Any, before: str = "") -> Iterator[str]:
    """Every field below ``model``, lists by the name of an item."""
    for name, field in fields(model).items():
        path = f"{before}{name}"
        is_list = item(field.annotation) is not unwrap(field.annotation)
        inner = list(_paths(item(field.annotation), f"{path}[x]." if is_list else f"{path}."))
        yield from inner or [path]


def test_every_field_of_a_guest_that_is_built_has_a_change_class() -> None:
    without = []
    for path in _paths(GuestSpec):
        try:
            change_class(path)
        except KeyError:
            without.append(path)
    assert without == ["remediation"]


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
    assert guest["guestAccess"]["x-guestkeeper-supported"] == ["auto", "agent"]
    for name in ("deletionPolicy", "updatePolicy"):
        assert "x-guestkeeper-supported" not in guest[name]
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


def test_what_a_guest_says_about_its_later_life_is_described() -> None:
    definitions = json_schema()["$defs"]
    policy = definitions["UpdatePolicy"]["properties"]
    assert policy["restart"]["enum"] == ["Staged", "Automatic"]
    assert policy["progressDeadline"]["anyOf"][1] == {
        "type": "number",
        "minimum": 30,
        "maximum": 3650 * 86400,
    }
    window = definitions["MaintenanceWindow"]
    assert set(window["required"]) == {"cron", "duration"}
    assert window["properties"]["duration"]["anyOf"][1]["maximum"] == 7 * 86400
    assert window["properties"]["cron"]["pattern"].startswith("^(?:")
    assert window["properties"]["timeZone"]["default"] == "UTC"
    assert set(definitions["IoTune"]["properties"]) == {
        f"{kind}{unit}Sec" for kind in ("total", "read", "write") for unit in ("Bytes", "Iops")
    }
    assert definitions["Cdrom"]["required"] == ["name"]
    assert definitions["Interface"]["properties"]["link"]["enum"] == ["up", "down"]
    assert definitions["Rollout"]["properties"]["maxParallel"]["minimum"] == 1
    title = definitions["GuestSpec"]["properties"]["title"]
    assert (title["anyOf"][0]["maxLength"], title["x-guestkeeper-change"]) == (255, "live")
