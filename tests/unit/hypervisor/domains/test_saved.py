"""Which saved runs are gone on with."""

# ruff: noqa: N802 - libvirt's names

from typing import cast

import libvirt
import pytest

from controller.hypervisor.domains.saved_state import drop_outdated


class Error(libvirt.libvirtError):
    def __init__(self, code: int) -> None:
        Exception.__init__(self, "save image is incomplete")
        self.err = (code, 0, "save image is incomplete", 2, "", "", "", 0, 0)


class Pool:
    def __init__(self, volumes: set[str]) -> None:
        self._volumes = volumes

    def storageVolLookupByName(self, name: str) -> "Pool":
        if name not in self._volumes:
            raise Error(libvirt.VIR_ERR_NO_STORAGE_VOL)
        self._name = name
        return self

    def path(self) -> str:
        return f"/pool/{self._name}"


class Connection:
    def storagePoolLookupByName(self, name: str) -> Pool:
        if name != "gk":
            raise Error(libvirt.VIR_ERR_NO_STORAGE_POOL)
        return Pool({"a", "b"})


class Domain:
    def __init__(self, saved: str | int | None, defined: str = "") -> None:
        self._saved, self._defined = saved, defined
        self.removed = False

    def name(self) -> str:
        return "web1"

    def hasManagedSaveImage(self, _flags: int) -> int:
        return int(self._saved is not None)

    def managedSaveGetXMLDesc(self, _flags: int) -> str:
        if isinstance(self._saved, int):
            raise Error(self._saved)
        return f"<domain>{self._saved}</domain>"

    def managedSaveRemove(self, _flags: int) -> None:
        self.removed = True

    def XMLDesc(self, _flags: int) -> str:
        return f"<domain>{self._defined}</domain>"


def disks(*sources: str) -> str:
    return f"<devices>{''.join(f'<disk><source {one}/></disk>' for one in sources)}</devices>"


def kernel(path: str) -> str:
    return f"<os><kernel>{path}</kernel></os>"


def dropped(domain: Domain) -> bool:
    drop_outdated(cast(libvirt.virConnect, Connection()), cast(libvirt.virDomain, domain), "local")
    return domain.removed


A, B = "pool='gk' volume='a'", "pool='gk' volume='b'"
GONE = "pool='gk' volume='gone'"


@pytest.mark.parametrize(
    ("saved", "defined", "drop"),
    [
        (disks(A), disks(A), False),
        (disks("file='/pool/a'"), disks(A), False),
        (disks("file='/elsewhere/a'"), disks(A), True),
        (disks(A), disks(B), True),
        (disks(A), disks(A, B), False),
        (disks(A, B), disks(A), True),
        (disks(A, B), disks(B, A), False),
        (disks(GONE), disks(GONE), False),
        (disks(GONE), disks(A), True),
        (disks("pool='off' volume='a'"), disks("pool='off' volume='a'"), False),
        (disks("dev='/dev/vg/a'"), disks("dev='/dev/vg/b'"), True),
        ("<devices><disk device='cdrom'/></devices>", disks(A), False),
        (kernel("/pool/vmlinuz-1") + disks(A), kernel("/pool/vmlinuz-2") + disks(A), True),
    ],
)
def test_it_is_dropped_where_the_definition_lacks_a_file_of_it(
    saved: str, defined: str, drop: bool
) -> None:
    assert dropped(Domain(saved, defined)) is drop


def test_what_a_disk_stands_on_is_no_file_of_its_own() -> None:
    layered = (
        "<devices><disk><source file='/pool/a'/>"
        "<backingStore type='file'><source file='/pool/base'/></backingStore></disk></devices>"
    )
    assert not dropped(Domain(layered, disks(A)))


def test_none_is_fine_and_one_that_is_not_whole_is_dropped() -> None:
    assert not dropped(Domain(None))
    assert dropped(Domain(libvirt.VIR_ERR_OPERATION_FAILED))


def test_one_that_cannot_be_read_now_is_kept() -> None:
    domain = Domain(libvirt.VIR_ERR_SYSTEM_ERROR)
    with pytest.raises(libvirt.libvirtError):
        dropped(domain)
    assert not domain.removed
