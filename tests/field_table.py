"""A row for every field of the schema: what it takes to change it on a running guest.

``libvirt/test_every_field.py`` holds it against the schema, so that a field without a row, or with
another class than is declared beside it, is an error. What does not take what the schema says of
the field is a row of its own, with the reason in ``why``.
"""

from collections.abc import Iterator

from tests.field_images import IMAGE_ROWS
from tests.field_rows import (
    DATA,
    DMZ,
    LAN,
    MAC,
    OTHER_MAC,
    OTHER_PORT,
    On,
    Row,
    Takes,
    row,
)
from tests.field_services import GUEST_SERVICE_ROWS, SERVICE_ROWS

MIB = 2**20
BOTH = (On.TEST, On.QEMU)
QEMU = (On.QEMU,)
WINDOW = {"cron": "0 3 * * *", "duration": "1h"}
_LIMITS = {
    "totalBytesSec": ("4Mi", "total_bytes_sec", 4 * MIB),
    "readBytesSec": ("5Mi", "read_bytes_sec", 5 * MIB),
    "writeBytesSec": ("6Mi", "write_bytes_sec", 6 * MIB),
    "totalIopsSec": (7000, "total_iops_sec", 7000),
    "readIopsSec": (8000, "read_iops_sec", 8000),
    "writeIopsSec": (9000, "write_iops_sec", 9000),
}

METADATA = [
    row("Guest.apiVersion", Takes.REFUSED, {"apiVersion": "guestkeeper/v2"}, says="v1alpha1"),
    row("Guest.kind", Takes.REFUSED, {"kind": "Server"}, says="Server"),
    row("Guest.metadata.name", Takes.ANOTHER, {"metadata": {"name": "another"}}),
    row("Guest.metadata.labels", Takes.CONTROLLER, {"metadata": {"labels": {"tier": "front"}}}),
    row("Guest.metadata.annotations", Takes.CONTROLLER, {"metadata": {"annotations": {"a": "b"}}}),
]

MACHINE = [
    row(
        "host",
        Takes.IMMUTABLE,
        {"host": "other"},
        named="host",
    ),
    row(
        "title",
        Takes.LIVE,
        {"title": "Ledger"},
        on=BOTH,
        shows=lambda seen: seen.live.title == seen.domain.config.title == "Ledger",
    ),
    row(
        "description",
        Takes.LIVE,
        {"description": "Of the accounts"},
        on=BOTH,
        shows=lambda seen: seen.live.description == seen.domain.config.description != "",
    ),
    row(
        "runStrategy",
        Takes.CONTROLLER,
        {"runStrategy": "Manual"},
        shows=lambda seen: seen.guest.spec.run_strategy == "Manual",
    ),
    row(
        "autostart",
        Takes.LIVE,
        {"autostart": True},
        on=BOTH,
        shows=lambda seen: seen.domain.autostart,
    ),
    row(
        "memory.size",
        Takes.LIVE,
        {"memory": {"size": "144Mi"}},
        on=BOTH,
        named="memory.size",
        shows=lambda seen: seen.live.memory == seen.domain.config.memory == 144 * MIB,
        # In steps of 16 MiB, of which the kernel keeps some for itself.
        inside=("awk '/^MemTotal/ {print int(($2 + 8192) / 16384)}' /proc/meminfo", "7"),
    ),
    row(
        "memory.size",
        Takes.RESTART,
        {"memory": {"size": "192Mi", "max": "192Mi"}},
        named="memory.max",
        shows=lambda seen: seen.live.memory == 192 * MIB,
        why="beyond the maximum",
    ),
    row(
        "memory.max",
        Takes.RESTART,
        {"memory": {"max": "176Mi"}},
        on=BOTH,
        named="memory.max",
        shows=lambda seen: seen.live.max_memory == 176 * MIB,
    ),
    row(
        "cpu.vcpus",
        Takes.LIVE,
        {"cpu": {"vcpus": 2}},
        on=BOTH,
        named="cpu.vcpus",
        shows=lambda seen: seen.live.vcpus == seen.domain.config.vcpus == 2,
        inside=("nproc", "2"),
        back=Takes.RESTART,
    ),
    row(
        "cpu.vcpus",
        Takes.RESTART,
        {"cpu": {"vcpus": 1}},
        before={"cpu": {"vcpus": 2}},
        named="cpu.vcpus",
        shows=lambda seen: seen.live.vcpus == 1,
        back=Takes.LIVE,
        why="down",
    ),
    row(
        "cpu.vcpus",
        Takes.RESTART,
        {"cpu": {"vcpus": 3, "max": 3}},
        named="cpu.vcpus",
        shows=lambda seen: seen.live.vcpus == 3,
        why="beyond the maximum",
    ),
    row(
        "cpu.max",
        Takes.RESTART,
        {"cpu": {"max": 3}},
        on=BOTH,
        named="cpu.max",
        shows=lambda seen: seen.live.max_vcpus == 3,
        inside=("cat /sys/devices/system/cpu/possible", "0-2"),
    ),
    row(
        "firmware",
        Takes.RESTART,
        {"firmware": "efi"},
        on=QEMU,
        named="firmware",
        shows=lambda seen: seen.live.firmware == "efi",
        inside=("test -d /sys/firmware/efi && echo efi", "efi"),
    ),
    row(
        "accelerator",
        Takes.RESTART,
        {"accelerator": "kvm"},
        on=(On.FAKE,),
        named="accelerator",
        shows=lambda seen: seen.live.accelerator == "kvm",
    ),
    row(
        "accelerator",
        Takes.CONTROLLER,
        {"accelerator": "tcg"},
        why="what auto came to",
    ),
    row(
        "hostname",
        Takes.GUEST,
        {"hostname": "ledger"},
        shows=lambda seen: seen.inside is not None and seen.inside.hostname == "ledger",
    ),
    row("sshAuthorizedKeysFrom[]", Takes.GUEST, {"sshAuthorizedKeysFrom": [{"file": "/k/a"}]}),
    row(
        "sshAuthorizedKeysFrom[].file",
        Takes.GUEST,
        {"sshAuthorizedKeysFrom": [{"file": "/k/b"}]},
        before={"sshAuthorizedKeysFrom": [{"file": "/k/a"}]},
    ),
    row(
        "sshAuthorizedKeysFrom[].credential",
        Takes.GUEST,
        {"sshAuthorizedKeysFrom": [{"credential": "b"}]},
        before={"sshAuthorizedKeysFrom": [{"credential": "a"}]},
    ),
    row("image", Takes.REPLACE, {"image": "two"}, on=BOTH, named="image"),
]


def _limits(path: str, alias: str, where: str) -> Iterator[Row]:
    for name, (written, attribute, value) in _LIMITS.items():
        tuned = {"ioTune": {name: written}}
        yield row(
            f"{path}.ioTune.{name}",
            Takes.LIVE,
            {"systemDisk": tuned} if where == "systemDisk" else {"disks": [DATA | tuned]},
            on=QEMU,
            shows=lambda seen, attribute=attribute, value=value: (  # type: ignore[misc]
                getattr(seen.disk(alias).io_tune, attribute) == value
            ),
        )


DISKS = [
    *_limits("systemDisk", "disk-system", "systemDisk"),
    row(
        "systemDisk.size",
        Takes.LIVE,
        {"systemDisk": {"size": "64Mi"}},
        on=QEMU,
        shows=lambda seen: seen.capacities["disk-system"] == 64 * MIB,
        inside=("cat /sys/block/vda/size", "131072"),
        back=Takes.CONTROLLER,  # what it has grown to is what it is left at
    ),
    row(
        "systemDisk.pool",
        Takes.IMMUTABLE,
        {"systemDisk": {"pool": "spare"}},
        named="systemDisk.pool",
    ),
    row(
        "systemDisk.cache",
        Takes.RESTART,
        {"systemDisk": {"cache": "writethrough"}},
        on=BOTH,
        named="systemDisk.cache",
        shows=lambda seen: seen.disk("disk-system").cache == "writethrough",
        inside=("cat /sys/block/vda/cache_type", "write through"),
    ),
    *_limits("disks[]", "disk-data", "disks"),
    row(
        "disks[]",
        Takes.LIVE,
        {"disks": [DATA, {"name": "extra", "size": "8Mi"}]},
        on=QEMU,
        shows=lambda seen: seen.disk("disk-extra") is not None,
        inside=("awk '/vd[b-z]$/ {print $3}' /proc/partitions", "16384\n8192"),
    ),
    row(
        "disks[].name",
        Takes.LIVE,
        {"disks": [{"name": "papers", "size": "8Mi"}]},
        on=QEMU,
        shows=lambda seen: (
            {disk.alias for disk in seen.live.disks if disk.device == "disk"}
            == {"disk-system", "disk-papers"}
        ),
        inside=("awk '/vd[b-z]$/ {print $3}' /proc/partitions", "8192"),
    ),
    row(
        "disks[].size",
        Takes.LIVE,
        {"disks": [{"name": "data", "size": "24Mi"}]},
        on=QEMU,
        named="disks[data].size",
        shows=lambda seen: seen.capacities["disk-data"] == 24 * MIB,
        inside=("awk '/vd[b-z]$/ {print $3}' /proc/partitions", "24576"),
        back=Takes.IMMUTABLE,
    ),
    row(
        "disks[].size",
        Takes.IMMUTABLE,
        {"disks": [{"name": "data", "size": "8Mi"}]},
        named="disks[data].size",
        says="smaller",
        why="down",
    ),
    row(
        "disks[].pool",
        Takes.IMMUTABLE,
        {"disks": [DATA | {"pool": "spare"}]},
        named="disks[data].pool",
    ),
    row(
        "disks[].cache",
        Takes.RESTART,
        {"disks": [DATA | {"cache": "directsync"}]},
        on=BOTH,
        named="disks[data].cache",
        shows=lambda seen: seen.disk("disk-data").cache == "directsync",
    ),
    row(
        "cdroms[]",
        Takes.RESTART,
        {"cdroms": [{"name": "drive", "volume": "tools.iso"}, {"name": "second"}]},
        on=BOTH,
        named="cdroms[second]",
        shows=lambda seen: seen.disk("cdrom-second") is not None,
        inside=("cd /sys/block && echo sr*", "sr0 sr1"),
    ),
    row(
        "cdroms[].name",
        Takes.RESTART,
        {"cdroms": [{"name": "tray", "volume": "tools.iso"}]},
        named="cdroms[tray]",
        shows=lambda seen: seen.disk("cdrom-tray") is not None and seen.disk("cdrom-drive") is None,
    ),
    row(
        "cdroms[].volume",
        Takes.LIVE,
        {"cdroms": [{"name": "drive", "volume": "other.iso"}]},
        on=QEMU,
        shows=lambda seen: seen.disk("cdrom-drive").volume == "other.iso",
        inside=("dd if=/dev/sr0 bs=1 skip=32808 count=5 2>/dev/null", "OTHER"),
    ),
    row(
        "cdroms[].pool",
        Takes.LIVE,
        {"cdroms": [{"name": "drive", "pool": "spare", "volume": "tools.iso"}]},
        on=QEMU,
        shows=lambda seen: seen.disk("cdrom-drive").pool == "spare",
        inside=("dd if=/dev/sr0 bs=1 skip=32808 count=5 2>/dev/null", "SPARE"),
    ),
]

_CARDS = "cd /sys/class/net && for i in eth*; do cat $i/address; done | tail -n +2"


def _forward(path: str, written: str, *, before: str = "", on: tuple[On, ...] = (On.TEST,)) -> Row:
    first = LAN["user"]["forwards"]  # type: ignore[index]
    old = [*first, before] if before else first
    return row(
        f"interfaces[].user.{path}",
        Takes.RESTART,
        {"interfaces": [LAN | {"user": {"forwards": [*first, written]}}, DMZ]},
        before={"interfaces": [LAN | {"user": {"forwards": old}}, DMZ]},
        on=on,
        named="interfaces[lan].user",
        # On QEMU the host's ports are others.
        shows=lambda seen: (
            seen.nic("nic-lan").forwards[1:] == (written,)
            if On.QEMU not in on
            else len(seen.nic("nic-lan").forwards) == 2
        ),
    )


_SECOND = f"127.0.0.1:{OTHER_PORT}:81/tcp"
INTERFACES = [
    row(
        "interfaces[]",
        Takes.LIVE,
        {"interfaces": [LAN, DMZ, {"name": "third", "mac": OTHER_MAC, "network": "net-one"}]},
        on=QEMU,
        shows=lambda seen: seen.nic("nic-third") is not None,
        inside=(_CARDS, f"{MAC}\n{OTHER_MAC}"),
    ),
    row(
        "interfaces[].name",
        Takes.LIVE,
        {"interfaces": [LAN, {"name": "edge", "mac": OTHER_MAC, "network": "net-one"}]},
        on=QEMU,
        shows=lambda seen: (seen.nic("nic-dmz"), seen.nic("nic-edge") is None) == (None, False),
        inside=(_CARDS, OTHER_MAC),
    ),
    row(
        "interfaces[].mac",
        Takes.LIVE,
        {"interfaces": [LAN, DMZ | {"mac": OTHER_MAC}]},
        on=QEMU,
        shows=lambda seen: seen.nic("nic-dmz").mac == OTHER_MAC,
        inside=(_CARDS, OTHER_MAC),
    ),
    row(
        "interfaces[].network",
        Takes.LIVE,
        {"interfaces": [LAN, DMZ | {"network": "net-two"}]},
        on=QEMU,
        shows=lambda seen: "two" in seen.nic("nic-dmz").source,
    ),
    row(
        "interfaces[].bridge",
        Takes.LIVE,
        {"interfaces": [LAN, DMZ | {"network": None, "bridge": "br-two"}]},
        on=QEMU,
        shows=lambda seen: seen.nic("nic-dmz").kind == "bridge",
    ),
    row(
        "interfaces[].link",
        Takes.LIVE,
        {"interfaces": [LAN, DMZ | {"link": "down"}]},
        on=QEMU,
        shows=lambda seen: seen.nic("nic-dmz").link == "down",
        inside=("cat /sys/class/net/eth1/carrier", "0"),
    ),
    row(
        "interfaces[].model",
        Takes.LIVE,
        {"interfaces": [LAN, DMZ | {"model": "e1000e"}]},
        on=QEMU,
        shows=lambda seen: seen.nic("nic-dmz").model == "e1000e",
        # The micro guest has no driver of that, but it has the card.
        inside=("cat /sys/bus/pci/devices/*/device | grep -c 0x10d3", "1"),
    ),
    _forward("forwards[]", _SECOND, on=BOTH),
    _forward("forwards[].address", f"127.0.0.2:{OTHER_PORT}:81/tcp", before=_SECOND),
    _forward("forwards[].host_port", "127.0.0.1:18082:81/tcp", before=_SECOND),
    _forward("forwards[].guest_port", f"127.0.0.1:{OTHER_PORT}:82/tcp", before=_SECOND),
    _forward("forwards[].protocol", f"127.0.0.1:{OTHER_PORT}:81/udp", before=_SECOND),
    row(
        "interfaces[]",
        Takes.RESTART,
        {"interfaces": [LAN, DMZ, {"name": "nat", "user": {}}]},
        named="interfaces[nat]",
        shows=lambda seen: seen.nic("nic-nat") is not None,
        why="of QEMU's own network",
    ),
    row(
        "interfaces[].network",
        Takes.RESTART,
        {"interfaces": [LAN, DMZ | {"network": None, "user": {}}]},
        named="interfaces[dmz]",
        shows=lambda seen: seen.nic("nic-dmz").kind == "user",
        why="to QEMU's own network",
    ),
]


def _windows(**change: str) -> dict[str, object]:
    return {"updatePolicy": {"maintenanceWindows": [WINDOW | change]}}


POLICIES = [
    row("driftInterval", Takes.CONTROLLER, {"driftInterval": "7m"}),
    row("shutdownTimeout", Takes.CONTROLLER, {"shutdownTimeout": "17s"}),
    row("updatePolicy.restart", Takes.CONTROLLER, {"updatePolicy": {"restart": "Automatic"}}),
    row("updatePolicy.replace", Takes.CONTROLLER, {"updatePolicy": {"replace": "Automatic"}}),
    row("updatePolicy.maintenanceWindows[]", Takes.CONTROLLER, _windows()),
    row(
        "updatePolicy.maintenanceWindows[].cron",
        Takes.CONTROLLER,
        _windows(cron="0 4 * * *"),
        before=_windows(),
    ),
    row(
        "updatePolicy.maintenanceWindows[].duration",
        Takes.CONTROLLER,
        _windows(duration="2h"),
        before=_windows(),
    ),
    row(
        "updatePolicy.maintenanceWindows[].timeZone",
        Takes.CONTROLLER,
        _windows(timeZone="Europe/Berlin"),
        before=_windows(),
    ),
    row(
        "updatePolicy.retiredDiskTTL", Takes.CONTROLLER, {"updatePolicy": {"retiredDiskTTL": "1d"}}
    ),
    row(
        "updatePolicy.progressDeadline",
        Takes.CONTROLLER,
        {"updatePolicy": {"progressDeadline": "5m"}},
    ),
    row("remediation", Takes.REFUSED, {"remediation": {}}, says="not supported yet"),
    row(
        "deletionPolicy",
        Takes.CONTROLLER,
        {"deletionPolicy": "Stop"},
        shows=lambda seen: seen.domain.ownership.record.deletion_policy == "Stop",
    ),
    row("guestAccess", Takes.CONTROLLER, {"guestAccess": "agent"}),
    row(
        "guestAccess",
        Takes.REFUSED,
        {"guestAccess": "ssh"},
        says="not supported yet",
        why="by SSH",
    ),
]

ROWS: tuple[Row, ...] = (
    *METADATA,
    *MACHINE,
    *DISKS,
    *INTERFACES,
    *POLICIES,
    *GUEST_SERVICE_ROWS,
    *IMAGE_ROWS,
    *SERVICE_ROWS,
)
