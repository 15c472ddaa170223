"""Managed save: drops a saved run whose files the definition no longer names.

``libvirt-guests`` saves running domains when their host shuts down, and the next start restores
them. A restored run uses the files it had, whatever the definition says by then. Files that the
definition does not name may have been deleted since, or belong to another guest. So a run is
restored only while the definition still names all its files.
"""

import xml.etree.ElementTree as ET

import libvirt
import structlog

log = structlog.get_logger(__name__)

_GONE = frozenset({libvirt.VIR_ERR_NO_STORAGE_POOL, libvirt.VIR_ERR_NO_STORAGE_VOL})
_SOURCES = ("file", "dev", "dir", "name")


def drop_outdated(connection: libvirt.virConnect, domain: libvirt.virDomain, host: str) -> None:
    """Removes a saved run with a file that the definition lacks (``virDomainManagedSaveRemove``).

    The guest then boots as after a power cut. A saved run that is incomplete and so cannot be read
    is removed too, as libvirt does when it starts the domain. For a domain that is off.
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
    """The files that a domain opens itself: disks, media, kernel, initrd. No backing files."""
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
    """The volume's path, as a saved run may name it; POOL/VOLUME if the volume is gone."""
    try:
        path: str = connection.storagePoolLookupByName(pool).storageVolLookupByName(volume).path()
    except libvirt.libvirtError as error:
        if error.get_error_code() not in _GONE:
            raise
        return f"{pool}/{volume}"
    return path
