"""Exports an existing domain as a Guest document; adopting it with that document changes nothing.

The reverse of ``planning.wanted.domain``, which makes a domain from a document. The document's
comments name what a document cannot express, and what a person has to decide.
"""

import json
import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from pydantic import ValidationError

from controller.desired.effective import EffectiveImage
from controller.desired.schema.documents import GuestDocument
from controller.desired.schema.guest import GuestSpec, RunStrategy
from controller.desired.schema.model import API_VERSION
from controller.desired.schema.quantities import format_size
from controller.observed.domain import DiskConfig, DomainConfig, DomainView, IoTune
from controller.observed.host import HostView, VolumeView
from controller.observed.kept_devices import Kept
from controller.observed.locating import located_view
from controller.planning.adoption.device_words import (
    interface_words,
    medium_words,
    told_interface,
    why_no_interface,
)
from controller.planning.adoption.exported import Exported
from controller.planning.adoption.match import in_no_pool, same_mac
from controller.planning.adoption.yaml_text import document_text, guest_name
from controller.planning.wanted.domain import SEED, SYSTEM

Spec = dict[str, Any]
_OF_DOMAIN = frozenset(
    {
        "host", "title", "description", "autostart", "cpu", "memory", "firmware", "accelerator",
        "systemDisk", "disks", "cdroms", "interfaces", "services",
    }
)  # fmt: skip
"""Fields read from the domain itself; all others come from the spec last applied to it."""
_CAN_BE_LEFT_OUT = frozenset({"title", "description"})
_FIRST = ("host", "image", "title", "description", "runStrategy", "autostart", "hostname")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,18}[a-z0-9])?")


def fitting_images(images: Mapping[str, EffectiveImage], domain: DomainView) -> list[str]:
    """Names of the images whose guests boot in the same way as this domain."""
    return sorted(
        name
        for name, image in images.items()
        if (image.spec.boot is None) == (domain.config.boot is None)
        and (image.install is None or image.install.firmware == domain.config.firmware)
    )


def export(
    domain: DomainView,
    host: HostView,
    image: str | None,
    volumes: Mapping[tuple[str, str], VolumeView],
    kept: Sequence[Kept] = (),
) -> Exported:
    """The document of ``domain``, a foreign one or one of ours.

    ``image`` None takes the image that was last applied. ``volumes`` by (pool, name) are those of
    its disks; ``kept`` are the parts of its definition that documents cannot express
    (``observed.kept``). If a line of the document is not valid, a note says which, and why. Raises
    ``ValueError`` with what to do if no document can be made.
    """
    try:
        return _Export(located_view(domain, host.pools), host, image, volumes, kept).made()
    except _NoDocumentError as error:
        raise ValueError(str(error)) from error


def disk_volumes(domain: DomainView, host: HostView) -> list[tuple[str, str]]:
    """(pool, volume) of every disk that is in a pool of the host."""
    config = located_view(domain, host.pools).config
    return [(disk.pool, disk.volume) for disk in config.disks if disk.pool and disk.volume]


class _NoDocumentError(Exception):
    """No document can be written."""


class _Export:
    """Makes one document."""

    def __init__(
        self,
        domain: DomainView,
        host: HostView,
        image: str | None,
        volumes: Mapping[tuple[str, str], VolumeView],
        kept: Sequence[Kept],
    ) -> None:
        self._domain = domain
        self._config = domain.config
        self._host = host
        self._image = image
        self._volumes = volumes
        self._kept = list(kept)
        self._notes: list[str] = []
        self._name = guest_name(domain.name)
        self._pools: dict[str, str | None] = {}
        """Alias -> pool in the last-applied spec: a pool that it left out is left out again."""

    def made(self) -> Exported:
        domain, config = self._domain, self._config
        applied = self._applied()
        image = self._image or applied.pop("image", None)
        if not image:
            raise _NoDocumentError("its image is not known; name one with --image")
        applied.pop("image", None)
        always = RunStrategy.ALWAYS if domain.state.active else RunStrategy.MANUAL
        spec: Spec = {
            "host": self._host.name,
            "image": image,
            **({"title": config.title} if config.title else {}),
            **({"description": config.description} if config.description else {}),
            "runStrategy": always.value,
            **({"autostart": True} if domain.autostart else {}),
            **applied,
            **self._machine(),
            **self._disks(),
            **self._drives(),
            **self._nics(),
        }
        self._remark()
        spec = self._sayable({key: spec[key] for key in sorted(spec, key=_order)})
        made = self._written(spec)
        problems = made.problems()
        if problems:
            self._notes += problems
            made = self._written(spec)
        return made

    # --- What was applied to it -------------------------------------------------------------------

    def _applied(self) -> Spec:
        """The fields of the last-applied spec that the domain does not show: policies, files."""
        owner = self._domain.ownership
        if owner is None or not self._domain.ours or not owner.spec:
            return {}
        try:
            last = json.loads(owner.spec)["spec"]
            own = {key: value for key, value in last.items() if key not in _OF_DOMAIN}
            own = {key: value for key, value in own.items() if value is not None}
            spec = GuestSpec.model_validate({"memory": {"size": "1Gi"}, **own})
            named = list(last.get("services", {}))
            self._pools = {f"disk-{one['name']}": one["pool"] for one in last["disks"]}
            self._pools[SYSTEM] = last["systemDisk"]["pool"]
        except (ValueError, KeyError, TypeError, AttributeError):
            self._notes.append(
                "the spec that was last applied to it is another version's: policies are left out"
            )
            return {}
        if named:
            self._notes.append(
                f"its services ({', '.join(named)}) are not known whole, only what they are called;"
                " without them in the document they are left in the guest, and not looked after"
            )
        self._notes.append("labels and annotations are not kept in a domain; write them anew")
        written = spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return {key: _short(value) for key, value in written.items() if key not in _OF_DOMAIN}

    # --- The machine ------------------------------------------------------------------------------

    def _machine(self) -> Spec:
        config = self._config
        cpu: Spec = {"vcpus": config.vcpus}
        if config.max_vcpus != config.vcpus:
            cpu["max"] = config.max_vcpus
        memory: Spec = {"size": format_size(config.memory)}
        if config.max_memory != config.memory:
            memory["max"] = format_size(config.max_memory)
        return {
            "cpu": cpu,
            "memory": memory,
            "firmware": config.firmware,
            "accelerator": config.accelerator,
        }

    def _disks(self) -> Spec:
        disks = [disk for disk in self._config.disks if disk.device == "disk"]
        system = next((disk for disk in disks if disk.alias == SYSTEM), None)
        if system is None and self._config.boot_doubt:
            raise _NoDocumentError(self._config.boot_doubt)
        if system is None:
            boots = [disk for disk in disks if disk.target == self._config.boot_disk]
            system = next(iter(boots or disks), None)
        if system is None:
            raise _NoDocumentError("it has no disk, and a guest has a system disk at least")
        found: Spec = {}
        if self._in_pool(system):
            found["systemDisk"] = self._disk(system)
        data = [disk for disk in disks if disk is not system]
        written = [
            {"name": self._called(disk.alias, "disk-", disk.target), **self._disk(disk)}
            for disk in data
            if self._in_pool(disk)
        ]
        return found | ({"disks": written} if written else {})

    def _in_pool(self, disk: DiskConfig) -> bool:
        if disk.pool:
            return True
        self._notes.append(f"{in_no_pool(disk, self._host)}; so it is not in this document")
        return False

    def _disk(self, disk: DiskConfig) -> Spec:
        view = self._volumes.get((disk.pool, disk.volume or ""))
        if view is None:
            raise _NoDocumentError(
                f"volume {disk.pool}/{disk.volume} of its disk {disk.target} is not to be found, so"
                " its size is not known; if its file is there, have the pool look again, and export"
                f" again: virsh pool-refresh {shlex.quote(disk.pool)}"
            )
        pool = self._pools.get(disk.alias, disk.pool)
        found: Spec = {**({"pool": pool} if pool else {}), "size": format_size(view.capacity)}
        if disk.cache:
            found["cache"] = disk.cache
        limits = _limits(disk.io_tune)
        if limits:
            found["ioTune"] = limits
        return found

    def _drives(self) -> Spec:
        written: list[Spec] = []
        for drive in self._config.disks:
            if drive.device != "cdrom" or drive.alias == SEED:
                continue
            medium = medium_words(drive)
            if medium is None:
                self._kept.append(Kept("CD-ROM drive", f"{drive.target} ({drive.volume})"))
                self._notes.append(
                    f"drive {drive.target} can be managed once the CD in it lies in a pool of host"
                    f" {self._host.name}, or is taken out"
                )
                continue
            written.append({"name": self._called(drive.alias, "cdrom-", drive.target), **medium})
        return {"cdroms": written} if written else {}

    def _nics(self) -> Spec:
        written: list[Spec] = []
        for mac, number in Counter(nic.mac for nic in self._config.nics).items():
            if number > 1:
                self._notes.append(same_mac(mac, number, self._config))
        macs: set[str] = set()
        for nic in self._config.nics:
            words = interface_words(nic)
            if words is None:
                why = f"{told_interface(nic)}: {why_no_interface(nic)}"
                self._kept.append(Kept("interface", f"{nic.mac} ({why})"))
            elif nic.mac not in macs:
                macs.add(nic.mac)
                name = self._called(nic.alias, "nic-", f"net{len(written)}")
                written.append({"name": name, **words})
        return {"interfaces": written} if written else {}

    def _called(self, alias: str, prefix: str, other: str) -> str:
        """A device's name: from its alias in a domain of ours, else ``other``."""
        own = alias.removeprefix(prefix)
        return own if alias != own and _NAME.fullmatch(own) else other

    # --- Words ------------------------------------------------------------------------------------

    def _remark(self) -> None:
        """Adds notes about what adoption changes although the document cannot express it."""
        config, usual = self._config, DomainConfig.__dataclass_fields__
        for field in ("on_poweroff", "on_reboot", "on_crash"):
            has, wanted = getattr(config, field), usual[field].default
            if has != wanted:
                self._notes.append(
                    f"{field} is {has} and becomes {wanted}: Guestkeeper decides itself"
                    " whether a guest is started again"
                )
        if not config.agent_channel:
            self._notes.append(
                "it has no channel for the guest agent; it gets one with its next cold boot"
            )
        self._notes += [
            f"its interface on {one.place} has no MAC address, so nobody can tell which it is: it"
            " stays as it is; to have it managed, write mac=... into that argument: virsh edit"
            f" {shlex.quote(self._domain.name)}"
            for one in self._kept
            if one.kind == "interface without a MAC address"
        ]
        if self._name != self._domain.name:
            self._notes.append(
                f"no guest can be named {self._domain.name!r}: names are 1 to 63 lower-case"
                " letters, digits or '-'; so rename the domain while it is off: virsh domrename"
                f" {shlex.quote(self._domain.name)} {self._name}"
            )
        if not self._domain.ours:
            self._notes.append(
                f"inside, the guest's name becomes {self._name}; where it has another, write it as"
                " hostname"
            )

    def _sayable(self, spec: Spec) -> Spec:
        """``spec`` without optional fields whose values are not valid in a document."""
        document = {
            "apiVersion": API_VERSION,
            "kind": "Guest",
            "metadata": {"name": self._name},
            "spec": spec,
        }
        try:
            GuestDocument.model_validate(document)
        except ValidationError as error:
            for problem in error.errors():
                place = [part for part in problem["loc"] if part != "spec"]
                if _leave_out(spec, place):
                    words = ".".join(str(part) for part in place)
                    self._notes.append(f"{words} is left out, and stays: {problem['msg']}")
        return spec

    def _written(self, spec: Spec) -> Exported:
        domain = self._domain
        whose = "Guestkeeper's" if domain.ours else "a foreign one"
        made = Exported("", tuple(self._notes), not domain.ours, self._name, tuple(self._kept))
        kept = [f"  {line}" for line in made.kept_lines]
        text = document_text(
            self._name,
            spec,
            [
                f"Domain {domain.name} ({domain.uuid}, {whose}) of host {self._host.name}, as"
                " guestkeeper export found it.",
                *(f"- {note}" for note in self._notes),
                *(("- kept as it is, and not managed:", *kept) if kept else ()),
            ],
        )
        return replace(made, text=text)


def _order(key: str) -> tuple[int, str]:
    """Sort key of fields: those that people look for first, then the machine's, then policies."""
    order = [*_FIRST, *GuestSpec.model_fields]
    names = {field.alias: name for name, field in GuestSpec.model_fields.items() if field.alias}
    word = key if key in order else names.get(key, key)
    return (order.index(word) if word in order else len(order)), key


def _short(value: Any) -> Any:
    """``value`` with whole seconds written without ``.0``."""
    if isinstance(value, dict):
        return {key: _short(one) for key, one in value.items()}
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _limits(io_tune: IoTune) -> Spec:
    """The ``ioTune`` fields of a document (``total_bytes_sec`` becomes ``totalBytesSec``)."""
    found: Spec = {}
    for name, value in asdict(io_tune).items():
        if value:
            first, *rest = name.split("_")
            key = first + "".join(word.capitalize() for word in rest)
            found[key] = format_size(value) if name.endswith("bytes_sec") else value
    return found


def _leave_out(spec: Spec, place: Sequence[int | str]) -> bool:
    """Removes the field at ``place`` if it is optional; True if it did."""
    part: Any = spec
    for key in place:
        if key in _CAN_BE_LEFT_OUT and isinstance(part, dict):
            return part.pop(key, None) is not None
        try:
            part = part[key]
        except (KeyError, IndexError, TypeError):
            return False
    return False
