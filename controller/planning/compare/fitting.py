"""Finds changes that the rest of the definition does not allow, so that they are reported, not
tried.

The rest was set by an operator, so both it and the field stay; the message names both.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from controller.desired.schema.fields import Change
from controller.desired.schema.quantities import format_size
from controller.observed.domain import DomainConfig, DomainView
from controller.planning.compare.changes import FieldChange, disk_path, nic_path

Unfit = tuple[FieldChange, str]
"""A change that is not carried out, and why."""
_NATIVE = ("none", "directsync")


def fitted(domain: DomainView, wanted: DomainConfig) -> tuple[DomainConfig, tuple[Unfit, ...]]:
    """``wanted``, but with impossible changes left as they are in the definition of ``domain``; and
    those changes.
    """
    has = domain.config
    changes: dict[str, Any] = {}
    unfit: list[Unfit] = []
    for rule in (_memory, _vcpus, _firmware, _disks, _nics):
        for kept, told in rule(has, wanted):
            changes |= kept
            unfit.append(told)
    return (replace(wanted, **changes) if changes else wanted), tuple(unfit)


def unballooned(domain: DomainView, live: DomainConfig, wanted: DomainConfig) -> DomainConfig:
    """``live``, with the wanted memory if neither it nor the definition has a balloon: such a guest
    always has its maximum, and a cold boot would not change that.
    """
    never = not (live.around.balloon or domain.config.around.balloon)
    full = live.memory == live.max_memory == wanted.max_memory
    return replace(live, memory=wanted.memory) if never and full else live


def _kept(path: str, old: str, new: str, why: str) -> Unfit:
    return FieldChange(path, old, new, Change.IMMUTABLE), f"{path}: {why}"


def _memory(has: DomainConfig, wanted: DomainConfig) -> Iterator[tuple[dict[str, Any], Unfit]]:
    around = has.around
    if around.cell_memory and wanted.max_memory != has.max_memory:
        path = "memory.max" if wanted.memory != wanted.max_memory else "memory.size"
        size = format_size(has.max_memory)
        why = (
            f"its NUMA cells say how much memory it has: change <cell memory=…> (virsh edit"
            f" {has.name}), or write {size}"
        )
        told = _kept(path, size, format_size(wanted.max_memory), why)
        yield {"memory": has.memory, "max_memory": has.max_memory}, told
    elif not around.balloon and wanted.memory < wanted.max_memory:
        size = format_size(wanted.max_memory)
        why = (
            f"it has no memory balloon, so it has all of its maximum: write {size}, or give it a"
            f" <memballoon model='virtio'/> (virsh edit {has.name})"
        )
        same = has.max_memory == wanted.max_memory
        memory = has.memory if same else wanted.max_memory
        yield {"memory": memory}, _kept("memory.size", size, format_size(wanted.memory), why)


def _vcpus(has: DomainConfig, wanted: DomainConfig) -> Iterator[tuple[dict[str, Any], Unfit]]:
    cells = has.around.cell_vcpus
    if wanted.max_vcpus >= cells or wanted.max_vcpus == has.max_vcpus:
        return
    path = "cpu.max" if wanted.vcpus != wanted.max_vcpus else "cpu.vcpus"
    why = (
        f"its NUMA cells hold {cells} vCPUs: take some out of <cell cpus=…> (virsh edit"
        f" {has.name}), or write at least {cells}"
    )
    told = _kept(path, str(has.max_vcpus), str(wanted.max_vcpus), why)
    yield {"vcpus": has.vcpus, "max_vcpus": has.max_vcpus}, told


def _firmware(has: DomainConfig, wanted: DomainConfig) -> Iterator[tuple[dict[str, Any], Unfit]]:
    if wanted.firmware == has.firmware or wanted.firmware != "efi" or has.around.acpi:
        return
    why = f"UEFI needs ACPI: put <acpi/> into its <features> first (virsh edit {has.name})"
    yield {"firmware": has.firmware}, _kept("firmware", has.firmware, wanted.firmware, why)


def _disks(has: DomainConfig, wanted: DomainConfig) -> Iterator[tuple[dict[str, Any], Unfit]]:
    disks = list(wanted.disks)
    for index, disk in enumerate(disks):
        old = has.disk(disk.alias)
        if old is None or old.cache == disk.cache or old.target not in has.around.native_io:
            continue
        if disk.cache in _NATIVE or disk.device != "disk":
            continue
        disks[index] = replace(disk, cache=old.cache)
        why = (
            f"its io='native' needs none or directsync: write one of them, or take io='native' out"
            f" of its <driver> (virsh edit {has.name})"
        )
        told = _kept(f"{disk_path(disk.alias)}.cache", old.cache, disk.cache, why)
        yield {"disks": tuple(disks)}, told


def _nics(has: DomainConfig, wanted: DomainConfig) -> Iterator[tuple[dict[str, Any], Unfit]]:
    nics = list(wanted.nics)
    there = {nic.alias: nic for nic in has.nics}
    for index, nic in enumerate(nics):
        old = there.get(nic.alias)
        if old is None or old.model == nic.model or nic.model.startswith("virtio"):
            continue
        if old.mac not in has.around.virtio_only:
            continue
        nics[index] = replace(nic, model=old.model)
        why = (
            f"its <driver> has an option that only virtio has: write {old.model}, or take it out"
            f" (virsh edit {has.name})"
        )
        told = _kept(f"{nic_path(nic.alias)}.model", old.model, nic.model, why)
        yield {"nics": tuple(nics)}, told
