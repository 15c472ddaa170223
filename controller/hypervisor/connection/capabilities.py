"""Whether a host can use KVM, and its versions of libvirt and of the hypervisor.

That ``/dev/kvm`` can be opened proves nothing: under some hypervisors it can, and guests hang. So
on x86 the host's CPU must show hardware virtualisation as well.
"""

import xml.etree.ElementTree as ET
from dataclasses import dataclass

import libvirt

from controller.hypervisor.errors.translate import lost


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What was read from the host when it was connected. Versions as 'major.minor.release'."""

    kvm: bool
    libvirt_version: str
    hypervisor_version: str


def read_capabilities(connection: libvirt.virConnect) -> Capabilities:
    """Calls ``virConnectGetCapabilities``, ``GetLibVersion``, ``GetVersion``; raises its errors."""
    root = ET.fromstring(connection.getCapabilities())  # noqa: S314 - libvirt's own output
    return Capabilities(
        kvm=kvm_usable(root, _expanded(connection, root)),
        libvirt_version=_version(connection.getLibVersion()),
        hypervisor_version=_version(connection.getVersion()),
    )


def kvm_usable(root: ET.Element, features: frozenset[str] = frozenset()) -> bool:
    """Whether the host offers domains of type kvm and, on x86, its CPU shows vmx or svm.

    ``root`` is the capabilities XML. ``features`` are further CPU features: the XML does not list
    those that the CPU's model implies.
    """
    arch = root.findtext("host/cpu/arch", "")
    offered = any(
        domain.get("type") == "kvm"
        for guest in root.iterfind("guest/arch")
        if guest.get("name") == arch
        for domain in guest.iterfind("domain")
    )
    if arch not in ("x86_64", "i686"):
        return offered
    listed = {feature.get("name") for feature in root.iterfind("host/cpu/feature")}
    return offered and not {"vmx", "svm"}.isdisjoint(listed | features)


def _expanded(connection: libvirt.virConnect, root: ET.Element) -> frozenset[str]:
    """All features of the host's CPU, with those of its model (``virConnectBaselineCPU``)."""
    cpu = root.find("host/cpu")
    if cpu is None or cpu.find("model") is None:
        return frozenset()
    try:
        xml = connection.baselineCPU(
            [ET.tostring(cpu, encoding="unicode")],
            libvirt.VIR_CONNECT_BASELINE_CPU_EXPAND_FEATURES,
        )
    except libvirt.libvirtError as error:
        if lost(error, connection):
            raise
        return frozenset()  # libvirt cannot expand this CPU model: only the list is used
    return frozenset(
        feature.get("name", "")
        for feature in ET.fromstring(xml).iterfind("feature")  # noqa: S314 - libvirt's own output
        if feature.get("policy", "require") != "disable"
    )


def _version(number: int) -> str:
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"
