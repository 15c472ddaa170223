"""What shows of a guest: inside it, or in libvirt's words; each as one line of text."""

from collections.abc import Callable

import libvirt

from tests.e2e.life import Life

LIVE = libvirt.VIR_DOMAIN_AFFECT_LIVE
CONFIG = libvirt.VIR_DOMAIN_AFFECT_CONFIG


def memory(life: Life, name: str) -> str:
    """Of the guest's record, in steps of 16 MiB above what it began with."""
    total = int(life.inside(name, "awk '/^MemTotal/ {print $2}' /proc/meminfo"))
    return str(total // 16384)


def disks(life: Life, name: str) -> str:
    """The sizes of data disks in KiB; what the kernel calls one depends on who was there before."""
    return life.inside(name, "awk '/vd[b-z]$/ {print $3}' /proc/partitions").replace("\n", " ")


def title(kind: int) -> Callable[[Life, str], str]:
    def look(life: Life, name: str) -> str:
        texts = set()
        for where in (LIVE, CONFIG):
            try:
                texts.add(life.domain(name).metadata(kind, None, where))
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN_METADATA:
                    raise
                texts.add("")
        return " ".join(sorted(texts))

    return look


def medium(life: Life, name: str) -> str:
    """The label of what is in the drive."""
    sector = "dd if=/dev/sr0 bs=2048 skip=16 count=1 2>/dev/null"
    label = f"{sector} | dd bs=1 skip=40 count=5 2>/dev/null"
    return life.inside(name, label + "; true")


def vcpus(life: Life, name: str) -> str:
    return life.inside(name, "nproc")
