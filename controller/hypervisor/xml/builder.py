"""Renders the XML of a builder domain, in which one unattended installation runs.

It is like a guest's domain in most ways, so that the installer finds the devices that guests have.
The differences: it stops where a guest would reboot, it has the ports through which an installer
reports instead of the guest agent's, and its UEFI does not require signed kernels.

Its disk has QEMU's default cache mode. ``unsafe`` would make installs faster, but with it neither
the installer's nor QEMU's own last flush reaches the disk, and libvirt has no call to make up for
it. A host that loses power right after the base got its marker would keep a broken base that looks
good. With the default mode, all data is on the disk when QEMU has ended.
"""

import hashlib
import string
import xml.etree.ElementTree as ET
from collections.abc import Sequence

from controller.errors import PermanentError
from controller.hypervisor.xml.render import Dialect, domain_tree, text_of
from controller.observed.build import MARKER_CHANNEL, BuilderConfig, BuildRecord
from controller.observed.build_xml import BUILD_NAMESPACE, build_element
from controller.observed.domain import BootConfig, DiskConfig, DomainConfig, NicConfig

ET.register_namespace("gkb", BUILD_NAMESPACE)


def render_builder(
    config: BuilderConfig,
    record: BuildRecord,
    uuid: str,
    dialect: Dialect = Dialect.QEMU,
    *,
    channels: Sequence[str] = (MARKER_CHANNEL,),
) -> str:
    """The domain XML for ``virDomainDefineXMLFlags`` or ``virDomainCreateXML``, to be validated.

    With the installer if ``config`` has one. ``channels`` as in ``domain_tree``. Raises
    ``PermanentError`` if ``config`` cannot be expressed in XML. libvirt keeps no log of the serial
    port, as an installer may print secrets of its answer file; the build keeps a log without them.
    """
    root = domain_tree(
        _machine(config, uuid),
        build_element(record, name=config.name, uuid=uuid),
        dialect,
        None,
        channels=channels,
    )
    os = root.find("os")
    if os is not None and os.find("firmware") is None and config.firmware == "efi":
        # Installers' kernels are signed with many keys; the build only needs them to boot.
        firmware = ET.Element("firmware")
        ET.SubElement(firmware, "feature", enabled="no", name="secure-boot")
        os.insert(1, firmware)  # after <type>, for readers; the schema allows any order
    return text_of(root)


def render_record(record: BuildRecord, *, name: str, uuid: str) -> str:
    """The build record as XML for ``virDomainSetMetadata``."""
    element = build_element(record, name=name, uuid=uuid, namespaced=False)
    return ET.tostring(element, encoding="unicode")


def _machine(config: BuilderConfig, uuid: str) -> DomainConfig:
    if len(config.drives) > len(string.ascii_lowercase):
        raise PermanentError(f"{len(config.drives)} CD-ROMs are more than a builder has room for")
    drives = (
        DiskConfig(f"cdrom-{letter}", drive.pool, drive.volume, "raw", "cdrom", f"sd{letter}")
        for letter, drive in zip(string.ascii_lowercase, config.drives, strict=False)
    )
    boot = None
    if config.kernel:
        boot = BootConfig(config.kernel, config.initrd or None, config.args)
    return DomainConfig(
        name=config.name,
        uuid=uuid,
        accelerator=config.accelerator,
        vcpus=config.vcpus,
        max_vcpus=config.vcpus,
        memory=config.memory,
        max_memory=config.memory,
        firmware=config.firmware,
        boot=boot,
        disks=(DiskConfig("disk-system", config.pool, config.disk), *drives),
        nics=(_nic(config, uuid),),
        on_reboot="destroy",  # the reboot at the end of an installation ends the domain
        agent_channel=False,
        title=f"Guestkeeper builds an image: {config.name}",
    )


def _nic(config: BuilderConfig, uuid: str) -> NicConfig:
    """The interface. Its MAC depends on the domain's UUID, as the name is the same on all hosts."""
    digest = hashlib.sha256(uuid.encode()).hexdigest()
    mac = "52:54:00:" + ":".join((digest[0:2], digest[2:4], digest[4:6]))
    if config.network is not None:
        return NicConfig("nic-build", "network", config.network, mac)
    if config.bridge is not None:
        return NicConfig("nic-build", "bridge", config.bridge, mac)
    return NicConfig("nic-build", "user", "", mac)
