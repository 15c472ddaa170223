"""A run that libvirt saved on the host's disk, and that the next start would go on with.

``libvirt-guests`` saves what runs when its host shuts down. Such a run goes on with the files it
had, whatever the definition says by then; and what the definition does not name may have been
deleted since, or have got another owner. So it is gone on with only while the definition still
names every file of it.
"""

import xml.etree.ElementTree as ET

import libvirt
import structlog

log = structlog.get_logger(__name__)

_GONE = frozenset({libvirt.VIR_ERR_NO_STORAGE_POOL, libvirt.VIR_ERR_NO_STORAGE_VOL})
_SOURCES = ("file", "dev", "dir", "name")


def drop_outdated(connection: libvirt.virConnect, domain: libvirt.virDomain, host: str) -> None:
    """``virDomainManagedSaveRemove``, where the saved run has a file the definition lacks.

    Its guest then boots as after a power cut. One that cannot be read because it is not whole is
    removed, too, as libvirt itself does when it starts the domain. For a domain that is off.
    """
    if not domain.hasManagedSaveImage(0):
        return
    try:
        saved = domain.managedSaveGetXMLDesc(0)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_OPERATION_FAILED:
            raise
        why = error.get_error_message() or str(error)
    else:
        defined = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        outdated = _files(connection, saved) - _files(connection, defined)
        if not outdated:
            return
        why = f"it has what the definition does not name: {', '.join(sorted(outdated))}"
    log.warning("saved run dropped: the guest boots anew", host=host, domain=domain.name(), why=why)
    domain.managedSaveRemove(0)


def _files(connection: libvirt.virConnect, xml: str) -> set[str]:
    """What a domain opens by itself: disks, media, its kernel. Not what a disk stands on."""
    root = ET.fromstring(xml)  # noqa: S314 - libvirt's own output
    files = {text for tag in ("kernel", "initrd") if (text := root.findtext(f"os/{tag}"))}
    for source in root.iterfind("devices/disk/source"):
        pool, volume = source.get("pool", ""), source.get("volume", "")
        if pool:
            files.add(_path(connection, pool, volume))
        else:
            files.update(name for key in _SOURCES if (name := source.get(key)))
    return files


def _path(connection: libvirt.virConnect, pool: str, volume: str) -> str:
    """The volume's path, which a running domain may have instead; pool/volume where it is gone."""
    try:
        path: str = connection.storagePoolLookupByName(pool).storageVolLookupByName(volume).path()
    except libvirt.libvirtError as error:
        if error.get_error_code() not in _GONE:
            raise
        return f"{pool}/{volume}"
    return path
