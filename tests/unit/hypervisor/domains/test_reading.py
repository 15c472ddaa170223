"""What one reading of a domain makes of libvirt's answers."""

# ruff: noqa: N802 - libvirt's names

from collections.abc import Sequence
from typing import cast

import libvirt
import pytest

from controller.hypervisor.domains.reading import Listed, Read, read_many, reason_of
from controller.observed.domain import StateReason

XML = """<domain type='qemu'><name>web1</name><devices>
<disk type='file' device='disk'><source file='/x'/>{}<target dev='vda'/></disk>
</devices></domain>"""
MIRROR = "<mirror type='file' job='copy'><source file='/y'/></mirror>"
NO_JOB, BACKUP = (libvirt.VIR_DOMAIN_JOB_NONE, 0), (libvirt.VIR_DOMAIN_JOB_UNBOUNDED, 0)
RUNNING = (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_BOOTED)


class Domain:
    def __init__(self, *, active: bool, mirror: str = "", job: Sequence[int] = NO_JOB) -> None:
        self._active, self._mirror, self._job = active, mirror, job

    def name(self) -> str:
        return "web1"

    def isActive(self) -> int:
        return int(self._active)

    def ID(self) -> int:
        return 7 if self._active else -1

    def UUIDString(self) -> str:
        return "2fd0e4f3-78ef-4486-bef9-87d1ce58fb6e"

    def XMLDesc(self, flags: int) -> str:
        return XML.format("" if flags & libvirt.VIR_DOMAIN_XML_INACTIVE else self._mirror)

    def jobInfo(self) -> Sequence[int]:
        return self._job


def read(domain: Domain, raw: tuple[int, int]) -> Read:
    listed = Listed("web1", cast(libvirt.virDomain, domain), raw, True, False)
    ((name, found),) = read_many(cast(libvirt.virConnect, None), [listed])
    assert (name, isinstance(found, Read)) == ("web1", True), found
    return cast(Read, found)


@pytest.mark.parametrize("active", [True, False])
def test_a_crashed_domain_may_have_its_qemu_still(active: bool) -> None:
    crashed = (libvirt.VIR_DOMAIN_CRASHED, libvirt.VIR_DOMAIN_CRASHED_PANICKED)
    found = read(Domain(active=active), crashed)
    assert found.identity == (7 if active else -1)
    assert (found.live is not None) is active


@pytest.mark.parametrize(
    ("mirror", "job", "runs"),
    [("", NO_JOB, False), ("", BACKUP, True), (MIRROR, NO_JOB, True)],
    ids=["none", "backup", "copy of a disk"],
)
def test_a_job_is_told_whoever_of_libvirt_knows_of_it(
    mirror: str, job: Sequence[int], runs: bool
) -> None:
    assert read(Domain(active=True, mirror=mirror, job=job), RUNNING).job is runs


@pytest.mark.parametrize(
    ("reason", "panicked", "told"),
    [
        (libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED, False, StateReason.MIGRATED),
        (libvirt.VIR_DOMAIN_SHUTOFF_SAVED, False, StateReason.SAVED),
        (libvirt.VIR_DOMAIN_SHUTOFF_FROM_SNAPSHOT, False, StateReason.OTHER),
        (libvirt.VIR_DOMAIN_SHUTOFF_UNKNOWN, False, StateReason.OTHER),
        (libvirt.VIR_DOMAIN_SHUTOFF_CRASHED, False, StateReason.CRASHED),
        (libvirt.VIR_DOMAIN_SHUTOFF_CRASHED, True, StateReason.PANICKED),
    ],
)
def test_why_it_is_off(reason: int, panicked: bool, told: StateReason) -> None:
    assert reason_of((libvirt.VIR_DOMAIN_SHUTOFF, reason), panicked) is told
