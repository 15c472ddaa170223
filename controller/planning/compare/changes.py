"""Compares wanted and observed field by field; each difference has a class that says what it takes
to carry it out.

Three comparisons: the spec that was last applied with the one wanted now (what the user changed),
the domain's definition with the wanted one (drift, and what is not carried out yet), and the
inside of the guest with its services.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from controller.desired.effective import EffectiveGuest, EffectiveImage, EffectiveService
from controller.desired.schema.fields import Change
from controller.desired.schema.json_schema import change_class
from controller.desired.schema.quantities import format_size
from controller.observed.domain import DiskConfig, DomainConfig, IoTune, NicConfig
from controller.observed.inside import InsideView
from controller.planning.wanted.domain import SEED, SYSTEM


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field that differs. ``old`` and ``new`` are as in a document; '' for nothing."""

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
        # How it is installed does not describe the result; the digest of the whole does.
        fields = {"os_family", "cloud_init"}
        return {
            **spec.model_dump(mode="json", by_alias=True, include=fields),
            "content": image.content,
        }
    # The URL is not part of an image's identity (its sha256 is), and may hold a password; how the
    # image is rolled out is not part of it either.
    exclude: dict[str, Any] = {"source": {"url"}, "rollout": True}
    return spec.model_dump(mode="json", by_alias=True, exclude=exclude)


def spec_changes(last: str, guest: EffectiveGuest) -> tuple[FieldChange, ...]:
    """Fields that differ from ``last`` (a ``spec_document``); () if nothing was ever applied."""
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
        return ()  # written by another version or by hand: not usable
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
    """The class of a change in the image document: a cold boot changes the kernel, anything else
    needs another disk.
    """
    return Change.RESTART if path.startswith("image.boot") else Change.REPLACE


def _walk(path: str, old: Any, new: Any) -> Iterator[tuple[str, str, str]]:
    if old == new:
        return
    if isinstance(old, list) and isinstance(new, list):
        old, new = _by_name(old), _by_name(new)
    if isinstance(old, dict) and isinstance(new, dict):
        keyed = _is_keyed(path)
        # A field that only one of them has comes from another version of the daemon: no change.
        for key in sorted({*old, *new} if keyed else old.keys() & new.keys()):
            inner = f"{path}[{key}]" if keyed else f"{path}.{key}".lstrip(".")
            yield from _walk(inner, old.get(key), new.get(key))
        return
    yield path, _written(path, old), _written(path, new)


_KEYED = (
    "disks", "cdroms", "interfaces", "forwards", "services", "files", "packages",
    "sshAuthorizedKeysFrom", "maintenanceWindows",
)  # fmt: skip


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
    if isinstance(value, int) and path.endswith(("size", "memory.max", "BytesSec")):
        return format_size(value)
    if isinstance(value, str):
        return value[:19] if value.startswith("sha256:") else value
    return json.dumps(value, sort_keys=True)


def config_changes(has: DomainConfig, wanted: DomainConfig) -> tuple[FieldChange, ...]:
    """Fields of the domain's definition that are not as wanted, by their path in the document.

    The class says what the change takes on a running domain with the config ``has``.
    """
    return _config_changes(has, wanted) if has != wanted else ()


@lru_cache(maxsize=4096)
def _config_changes(has: DomainConfig, wanted: DomainConfig) -> tuple[FieldChange, ...]:
    pairs = (
        *_scalars(has, wanted),
        *_all_disks(has, wanted),
        *_all_nics(has, wanted),
    )
    return tuple(change for change in pairs if change.old != change.new)


def _scalars(has: DomainConfig, wanted: DomainConfig) -> Iterator[FieldChange]:
    yield FieldChange("title", has.title, wanted.title, Change.LIVE)
    yield FieldChange("description", has.description, wanted.description, Change.LIVE)
    # vCPUs can be added to a running domain up to its maximum; their removal may never succeed.
    more = has.vcpus <= wanted.vcpus <= has.max_vcpus
    vcpus = Change.LIVE if more else Change.RESTART
    yield FieldChange("cpu.vcpus", str(has.vcpus), str(wanted.vcpus), vcpus)
    if (has.vcpus, wanted.vcpus) != (has.max_vcpus, wanted.max_vcpus):
        maximum = str(has.max_vcpus), str(wanted.max_vcpus)
        yield FieldChange("cpu.max", *maximum, Change.RESTART)
    grows = wanted.memory > has.max_memory
    memory = Change.RESTART if grows or not has.around.balloon else Change.LIVE
    sizes = format_size(has.memory), format_size(wanted.memory)
    yield FieldChange("memory.size", *sizes, memory)
    if (has.memory, wanted.memory) != (has.max_memory, wanted.max_memory):
        sizes = format_size(has.max_memory), format_size(wanted.max_memory)
        yield FieldChange("memory.max", *sizes, Change.RESTART)
    yield FieldChange("firmware", has.firmware, wanted.firmware, Change.RESTART)
    yield FieldChange("accelerator", has.accelerator, wanted.accelerator, Change.RESTART)
    kernels = _kernel(has), _kernel(wanted)
    yield FieldChange("image.boot.kernel", *kernels, Change.RESTART)
    yield FieldChange("image.boot.args", _args(has), _args(wanted), Change.RESTART)
    # Not fields of a document: every domain of ours has these values, so that the daemon decides.
    for name in ("on_poweroff", "on_reboot", "on_crash"):
        words = getattr(has, name), getattr(wanted, name)
        yield FieldChange(f"domain.{name}", *words, Change.RESTART)
    channels = _present(has.agent_channel), _present(wanted.agent_channel)
    yield FieldChange("domain.agentChannel", *channels, Change.RESTART)


def _present(there: bool) -> str:
    return "present" if there else ""


def _kernel(config: DomainConfig) -> str:
    boot = config.boot
    return " ".join(path for path in (boot.kernel, boot.initrd) if path) if boot else ""


def _args(config: DomainConfig) -> str:
    return config.boot.args if config.boot else ""


def disk_path(alias: str) -> str:
    """The path of a disk in a document: ``disks[data]`` for ``disk-data``."""
    if alias == SYSTEM:
        return "systemDisk"
    if alias == SEED:
        return "domain.seed"
    kind, _, name = alias.partition("-")
    return f"disks[{name}]" if kind == "disk" else f"cdroms[{name}]"


def nic_path(alias: str) -> str:
    """The path of an interface in a document: ``interfaces[lan]`` for ``nic-lan``."""
    return f"interfaces[{alias.removeprefix('nic-')}]"


def _all_disks(has: DomainConfig, wanted: DomainConfig) -> Iterator[FieldChange]:
    old = {disk.alias: disk for disk in has.disks}
    new = {disk.alias: disk for disk in wanted.disks}
    for alias in sorted({*old, *new}):
        yield from _disk_changes(disk_path(alias), old.get(alias), new.get(alias))


def _disk_changes(
    path: str, old: DiskConfig | None, new: DiskConfig | None
) -> Iterator[FieldChange]:
    cdrom = "cdrom" in ((old and old.device), (new and new.device))
    # libvirt cannot hotplug CD-ROM drives, and the system disk cannot be unplugged.
    plug = Change.RESTART if cdrom or path == "systemDisk" else Change.LIVE
    if cdrom and old is not None and new is not None:
        media = medium(old), medium(new)
        yield FieldChange(f"{path}.volume", *media, Change.LIVE)
        yield FieldChange(path, old.target, new.target, plug)
        return
    exchanged = old is not None and new is not None
    yield FieldChange(path, _disk(old), _disk(new), Change.RESTART if exchanged else plug)
    if old is not None and new is not None:
        yield FieldChange(f"{path}.cache", old.cache, new.cache, Change.RESTART)
        yield FieldChange(f"{path}.ioTune", _limits(old.io_tune), _limits(new.io_tune), Change.LIVE)


def _disk(disk: DiskConfig | None) -> str:
    if disk is None:
        return ""
    return f"{disk.pool}/{disk.volume or 'empty'} as {disk.target} ({disk.format} {disk.device})"


def medium(disk: DiskConfig) -> str:
    """The volume of a disk or drive, for people."""
    return "/".join(part for part in (disk.pool, disk.volume) if part) or "empty"


def _limits(limits: IoTune) -> str:
    return " ".join(f"{name}={value}" for name, value in asdict(limits).items() if value)


def _all_nics(has: DomainConfig, wanted: DomainConfig) -> Iterator[FieldChange]:
    old = {nic.alias: nic for nic in has.nics}
    new = {nic.alias: nic for nic in wanted.nics}
    for alias in sorted({*old, *new}):
        yield from _nic_changes(nic_path(alias), old.get(alias), new.get(alias))


def _nic_changes(path: str, old: NicConfig | None, new: NicConfig | None) -> Iterator[FieldChange]:
    # QEMU's own user networking is in its arguments, which are fixed while it runs.
    user = "user" in ((old and old.kind), (new and new.kind))
    change = Change.RESTART if user else Change.LIVE
    if old is None or new is None:
        yield FieldChange(path, _nic(old), _nic(new), change)
        return
    yield FieldChange(f"{path}.{new.kind}", _network(old), _network(new), change)
    yield FieldChange(f"{path}.mac", old.mac, new.mac, change)
    yield FieldChange(f"{path}.model", old.model, new.model, change)
    yield FieldChange(f"{path}.link", old.link, new.link, change)


def _network(nic: NicConfig) -> str:
    return " ".join(word for word in (nic.kind, nic.source, *nic.forwards) if word)


def _nic(nic: NicConfig | None) -> str:
    return f"{_network(nic)} {nic.mac}" if nic is not None else ""


def inside_changes(guest: EffectiveGuest, inside: InsideView) -> dict[str, list[FieldChange]]:
    """Differences inside the guest: service name ('' for identity) -> fields."""
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
    """``inside_changes`` as one flat tuple."""
    return tuple(change for group in inside_changes(guest, inside).values() for change in group)


def covers(guest: EffectiveGuest, inside: InsideView) -> bool:
    """True if the look inside covered everything that the guest's services name now."""
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
        running = unit is not None and unit.active in ("active", "activating", "reloading")
        if not running and (unit is None or not unit.ran):
            yield f"unit[{service.unit}]", unit.active if unit else "", "active"
        if unit is None or unit.enabled not in _ENABLED:
            yield f"unit[{service.unit}].enabled", unit.enabled if unit else "", "enabled"
