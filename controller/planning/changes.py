"""What differs, field by field, with the class that says what carrying it out takes.

Three comparisons: the spec that was last applied with the one wanted now (what the user changed),
the domain's definition with the wanted one (drift, and what is not carried out yet), and the
inside of the guest with its services.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from controller.desired.effective import EffectiveGuest, EffectiveImage, EffectiveService
from controller.desired.json_schema import change_class
from controller.desired.quantities import format_size
from controller.desired.schema import Change
from controller.observed.domain import DiskConfig, DomainConfig, NicConfig
from controller.observed.inside import InsideView


@dataclass(frozen=True, slots=True)
class FieldChange:
    """``old`` and ``new`` are as a document would write them; '' where there is nothing."""

    path: str
    old: str
    new: str
    change: Change


def spec_document(guest: EffectiveGuest) -> str:
    """The effective spec as canonical JSON, for the domain's metadata: no file contents."""
    spec = guest.spec.model_dump(mode="json", by_alias=True, exclude={"services"})
    services = {
        service.name: {
            "packages": list(service.packages),
            "files": {file.path: f"sha256:{file.sha256}" for file in service.files},
            "unit": service.unit,
        }
        for service in guest.services
    }
    document = {"spec": {**spec, "services": services}, "image": _image_document(guest.image)}
    return json.dumps(document, sort_keys=True, separators=(",", ":"))


def _image_document(image: EffectiveImage) -> dict[str, Any]:
    """The part of an image that disks made from it depend on."""
    spec = image.spec
    if image.install is not None:
        # How it is installed says nothing of what is; the digest of the whole does.
        fields = {"os_family", "cloud_init"}
        return {
            **spec.model_dump(mode="json", by_alias=True, include=fields),
            "content": image.content,
        }
    # An address is no part of what an image is (its sha256 is), and may hold a password.
    return spec.model_dump(mode="json", by_alias=True, exclude={"source": {"url"}})


def spec_changes(last: str, guest: EffectiveGuest) -> tuple[FieldChange, ...]:
    """Fields that differ from ``last`` (a ``spec_document``); () where nothing was ever applied."""
    if not last:
        return ()
    return _spec_changes(last, spec_document(guest))


@lru_cache(maxsize=4096)
def _spec_changes(last: str, wanted: str) -> tuple[FieldChange, ...]:
    new = json.loads(wanted)
    try:
        old = json.loads(last)
        old_spec, old_image = dict(old["spec"]), dict(old["image"])
    except (ValueError, KeyError, TypeError):
        return ()  # another version wrote it, or somebody by hand: it says nothing
    changes = [
        FieldChange(path, before, after, change_class(path))
        for path, before, after in _walk("", old_spec, new["spec"])
    ]
    if old_spec.get("image") == new["spec"]["image"]:
        changes += [
            FieldChange(path, was, now, _image_class(path))
            for path, was, now in _walk("image", old_image, new["image"])
        ]
    return tuple(changes)


def _image_class(path: str) -> Change:
    """Of an image only the kernel's arguments can be changed without another system disk."""
    return Change.RESTART if path == "image.boot.args" else Change.REPLACE


def _walk(path: str, old: Any, new: Any) -> Iterator[tuple[str, str, str]]:
    if old == new:
        return
    if isinstance(old, list) and isinstance(new, list):
        old, new = _by_name(old), _by_name(new)
    if isinstance(old, dict) and isinstance(new, dict):
        keyed = _is_keyed(path)
        # A field that only one of them knows is of another version of the daemon: no change.
        for key in sorted({*old, *new} if keyed else old.keys() & new.keys()):
            inner = f"{path}[{key}]" if keyed else f"{path}.{key}".lstrip(".")
            yield from _walk(inner, old.get(key), new.get(key))
        return
    yield path, _written(path, old), _written(path, new)


_KEYED = ("disks", "interfaces", "services", "files", "packages", "sshAuthorizedKeysFrom")


def _is_keyed(path: str) -> bool:
    return path.rpartition(".")[2].rpartition("]")[2] in _KEYED


def _by_name(items: list[Any]) -> dict[str, Any]:
    return {
        str(item.get("name", index)) if isinstance(item, dict) else str(item): item
        for index, item in enumerate(items)
    }


def _written(path: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, int) and path.endswith(("size", "memory.max")):
        return format_size(value)
    if isinstance(value, str):
        return value[:19] if value.startswith("sha256:") else value
    return json.dumps(value, sort_keys=True)


@lru_cache(maxsize=16384)
def config_changes(has: DomainConfig, wanted: DomainConfig) -> tuple[FieldChange, ...]:
    """Fields of the domain's definition that are not as wanted, by their path in the document."""
    if has == wanted:
        return ()
    return tuple(
        FieldChange(path, old, new, _class(path, has, wanted))
        for path, old, new in _config_pairs(has, wanted)
        if old != new
    )


def _class(path: str, has: DomainConfig, wanted: DomainConfig) -> Change:
    """Up to its maximum a running domain can get more memory and vCPUs; an unplug may not end."""
    beyond = {
        "memory.size": wanted.memory > has.max_memory,
        "cpu.vcpus": not has.vcpus <= wanted.vcpus <= has.max_vcpus,
    }
    if path.startswith("image."):
        return _image_class(path)
    return Change.RESTART if beyond.get(path) else change_class(path)


def _config_pairs(has: DomainConfig, wanted: DomainConfig) -> Iterator[tuple[str, str, str]]:
    yield "cpu.vcpus", str(has.vcpus), str(wanted.vcpus)
    if (has.vcpus, wanted.vcpus) != (has.max_vcpus, wanted.max_vcpus):
        yield "cpu.max", str(has.max_vcpus), str(wanted.max_vcpus)
    yield "memory.size", format_size(has.memory), format_size(wanted.memory)
    if (has.memory, wanted.memory) != (has.max_memory, wanted.max_memory):
        yield "memory.max", format_size(has.max_memory), format_size(wanted.max_memory)
    yield "firmware", has.firmware, wanted.firmware
    yield "accelerator", has.accelerator, wanted.accelerator
    yield "image.boot.args", has.boot.args if has.boot else "", _args(wanted)
    disks = {disk.alias: disk for disk in has.disks}, {disk.alias: disk for disk in wanted.disks}
    for alias in sorted({*disks[0], *disks[1]}):
        name = alias.removeprefix("disk-")
        path = "image" if name == "system" else f"disks[{name}]"
        yield path, _disk(disks[0].get(alias)), _disk(disks[1].get(alias))
    nics = {nic.alias: nic for nic in has.nics}, {nic.alias: nic for nic in wanted.nics}
    for alias in sorted({*nics[0], *nics[1]}):
        path = f"interfaces[{alias.removeprefix('nic-')}]"
        yield path, _nic(nics[0].get(alias)), _nic(nics[1].get(alias))


def _args(config: DomainConfig) -> str:
    return config.boot.args if config.boot else ""


def _disk(disk: DiskConfig | None) -> str:
    if disk is None:
        return ""
    return f"{disk.pool}/{disk.volume or 'empty'} as {disk.target} ({disk.format} {disk.device})"


def _nic(nic: NicConfig | None) -> str:
    if nic is None:
        return ""
    return " ".join((nic.kind, nic.source, nic.mac, *nic.forwards)).replace("  ", " ")


def inside_changes(guest: EffectiveGuest, inside: InsideView) -> dict[str, list[FieldChange]]:
    """What is not as it should be in the guest: service name ('' for identity) -> fields."""
    found: dict[str, list[FieldChange]] = {}
    identity = list(_identity(guest, inside))
    if identity:
        found[""] = identity
    for service in guest.services:
        changes = [
            FieldChange(f"services[{service.name}].{path}", old, new, Change.GUEST)
            for path, old, new in _service(service, inside)
        ]
        if changes:
            found[service.name] = changes
    return found


def all_inside_changes(guest: EffectiveGuest, inside: InsideView) -> tuple[FieldChange, ...]:
    """``inside_changes`` without their groups."""
    return tuple(change for group in inside_changes(guest, inside).values() for change in group)


def covers(guest: EffectiveGuest, inside: InsideView) -> bool:
    """Has the look asked about everything the guest's services name now?"""
    return all(
        all(package in inside.packages for package in service.packages)
        and all(file.path in inside.files for file in service.files)
        and (service.unit is None or service.unit in inside.units)
        for service in guest.services
    )


def _identity(guest: EffectiveGuest, inside: InsideView) -> Iterator[FieldChange]:
    if inside.hostname != guest.hostname:
        yield FieldChange("hostname", inside.hostname, guest.hostname, Change.GUEST)
    if inside.missing_ssh_keys:
        missing = f"{inside.missing_ssh_keys} missing"
        yield FieldChange("sshAuthorizedKeysFrom", missing, "all present", Change.GUEST)


_ENABLED = ("enabled", "enabled-runtime", "static", "alias", "generated", "indirect", "linked")


def _service(service: EffectiveService, inside: InsideView) -> Iterator[tuple[str, str, str]]:
    for package in service.packages:
        if inside.packages.get(package) is None:
            yield f"packages[{package}]", "", "installed"
    for file in service.files:
        has = inside.files.get(file.path)
        path = f"files[{file.path}]"
        if has is None or has.sha256 != file.sha256:
            old = f"sha256:{has.sha256[:12]}" if has is not None and has.sha256 else ""
            yield path, old, f"sha256:{file.sha256[:12]}"
        elif (has.owner, has.group, has.mode) != (file.owner, file.group, file.mode):
            old = f"{has.owner}:{has.group} {has.mode:04o}"
            yield path, old, f"{file.owner}:{file.group} {file.mode:04o}"
    if service.name in inside.pending:
        yield "onChange", "owed", service.on_change.value
    if service.unit is not None:
        unit = inside.units.get(service.unit)
        if unit is None or unit.active not in ("active", "activating", "reloading"):
            yield f"unit[{service.unit}]", unit.active if unit else "", "active"
        if unit is None or unit.enabled not in _ENABLED:
            yield f"unit[{service.unit}].enabled", unit.enabled if unit else "", "enabled"
