"""libvirt calls for pools and volumes, and their XML.

Each function runs in a worker, under a deadline; none of them knows its host.
"""

import re
import shlex
import xml.etree.ElementTree as ET
from sys import intern

import libvirt
import structlog

from controller.errors import PermanentError
from controller.hypervisor.errors.translate import lost
from controller.observed.host import PoolView, VolumeView

log = structlog.get_logger(__name__)


def ensure_pool(connection: libvirt.virConnect, name: str, path: str) -> None:
    """Creates and starts a pool (``virStoragePoolDefineXML``, ``Build``, ``Create``).

    An existing pool is only started. One that is not at ``path`` is not the pool of the settings,
    and is not started: raises ``PermanentError``.
    """
    try:
        pool = connection.storagePoolLookupByName(name)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_POOL:
            raise
        if not path:
            log.warning("pool missing", pool=name)
            return
        root = ET.Element("pool", type="dir")
        ET.SubElement(root, "name").text = name
        ET.SubElement(ET.SubElement(root, "target"), "path").text = path
        pool = connection.storagePoolDefineXML(ET.tostring(root, encoding="unicode"), 0)
        pool.build(libvirt.VIR_STORAGE_POOL_BUILD_NEW)
        pool.setAutostart(1)
    has = _view(pool).path
    if other_path(has, path):
        raise PermanentError(f"it is at {has}, not at {path}")
    if not pool.isActive():
        pool.create(0)


def other_path(has: str, wanted: str) -> bool:
    """Whether the paths, as written, are two different directories; '' as ``wanted`` means any."""
    return wanted != "" and _plain(has) != _plain(wanted)


def _plain(path: str) -> str:
    return re.sub("//+", "/", path).rstrip("/")


def read_pools(connection: libvirt.virConnect) -> dict[str, PoolView]:
    """All pools; the view of one that cannot be read says why, and the others are still read."""
    views = {}
    for pool in connection.listAllStoragePools(0):
        name = pool.name()
        try:
            views[name] = _view(pool)
        except libvirt.libvirtError as error:
            if lost(error, connection):
                raise
            if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_POOL:
                why = error.get_error_message() or str(error)
                views[name] = PoolView(name, "", active=False, capacity=0, available=0, why=why)
    return views


def _view(pool: libvirt.virStoragePool) -> PoolView:
    root = ET.fromstring(pool.XMLDesc(0))  # noqa: S314 - libvirt's own output
    return PoolView(
        name=pool.name(),
        path=root.findtext("target/path", ""),
        active=bool(pool.isActive()),
        capacity=int(root.findtext("capacity", "0")),
        available=int(root.findtext("available", "0")),
    )


def scan(pool: libvirt.virStoragePool) -> bool:
    """Scans the pool (``virStoragePoolRefresh``); False if that is not possible just now.

    libvirt refuses it while it creates or fills a volume there; then only known volumes are found.
    """
    try:
        pool.refresh(0)
    except libvirt.libvirtError as error:
        if "asynchronous jobs running" in str(error):
            return False
        raise
    return True


def in_the_way(error: libvirt.libvirtError) -> bool:
    """Whether a volume was refused because a file of its name exists, known to libvirt or not."""
    code = error.get_error_code()
    return code == libvirt.VIR_ERR_STORAGE_VOL_EXIST or (
        code == libvirt.VIR_ERR_OPERATION_INVALID and "already exists" in str(error)
    )


HEAD = 0x9000
"""Bytes at the start of a file that are enough to detect its format, as libvirt would."""


def format_of(head: bytes) -> str:
    """The format of a file that begins with ``head``: one of those that are ever uploaded."""
    if head.startswith(b"QFI\xfb"):
        return "qcow2"
    return "iso" if head[0x8001:0x8006] == b"CD001" else "raw"


def lookup(pool: libvirt.virStoragePool, pool_name: str, name: str) -> VolumeView | None:
    try:
        return view_of(pool_name, pool.storageVolLookupByName(name))
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_STORAGE_VOL:
            return None
        raise


def delete_known(pool: libvirt.virStoragePool, name: str) -> bool:
    """Deletes the volume (``virStorageVolDelete``); False if libvirt knows no such volume."""
    try:
        pool.storageVolLookupByName(name).delete(0)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_STORAGE_VOL:
            return False
        raise
    return True


def list_all(pool: libvirt.virStoragePool, pool_name: str) -> list[VolumeView]:
    """All volumes by name (``virStoragePoolListAllVolumes``), without those deleted meanwhile."""
    views = []
    for volume in pool.listAllVolumes(0):
        try:
            views.append(view_of(pool_name, volume))
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_VOL:
                raise
    return sorted(views, key=lambda view: view.name)


def view_of(pool: str, volume: libvirt.virStorageVol) -> VolumeView:
    root = ET.fromstring(volume.XMLDesc(0))  # noqa: S314 - libvirt's own output
    format_ = root.find("target/format")
    backing = root.findtext("backingStore/path")
    return VolumeView(  # interned, because views of many guests repeat the same texts
        pool=intern(pool),
        name=intern(volume.name()),
        path=intern(root.findtext("target/path") or volume.path()),
        format=intern(format_.get("type", "raw")) if format_ is not None else "raw",
        capacity=int(root.findtext("capacity", "0")),
        allocation=int(root.findtext("allocation", "0")),
        backing=intern(backing) if backing else None,
        modified=_seconds(root.findtext("target/timestamps/mtime")),
    )


def _seconds(text: str | None) -> float:
    try:
        return float(text or 0)
    except ValueError:
        return 0.0


def volume_xml(name: str, capacity: int, format: str, backing: tuple[str, str] | None) -> str:
    root = ET.Element("volume")
    ET.SubElement(root, "name").text = name
    ET.SubElement(root, "capacity", unit="bytes").text = str(capacity)
    ET.SubElement(root, "allocation", unit="bytes").text = "0"
    target = ET.SubElement(root, "target")
    ET.SubElement(target, "format", type=format)
    if format == "qcow2":
        ET.SubElement(target, "compat").text = "1.1"
    if backing is not None:
        store = ET.SubElement(root, "backingStore")
        ET.SubElement(store, "path").text = backing[0]
        ET.SubElement(store, "format", type=backing[1])
    return ET.tostring(root, encoding="unicode")


def as_asked(found: VolumeView, format: str, backing: tuple[str, str] | None) -> VolumeView:
    wanted = backing[0] if backing is not None else None
    if (found.format, found.backing) == (format, wanted):
        return found
    pool, name = shlex.quote(found.pool), shlex.quote(found.name)
    raise PermanentError(
        f"volume {found.pool}/{found.name} exists and is {found.format} on "
        f"{found.backing or 'no base'}, not {format} on {wanted or 'no base'}: move it away: virsh"
        f" vol-clone {name} NAME --pool {pool}; then virsh vol-delete {name} --pool {pool}",
        reason="VolumeConflict",
    )
