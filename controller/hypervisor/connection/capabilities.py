"""Can this host do KVM? And which versions does it run?

An openable ``/dev/kvm`` proves nothing: under some hypervisors it is there and guests hang. So on
x86 the host's CPU must show hardware virtualisation as well.
"""

import xml.etree.ElementTree as ET
from dataclasses import dataclass

import libvirt

from controller.hypervisor.errors.translate import lost


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a host told about itself when it was connected. Versions as 'major.minor.release'."""

    kvm: bool
    libvirt_version: str
    hypervisor_version: str


def read_capabilities(connection: libvirt.virConnect) -> Capabilities:
    """``virConnectGetCapabilities``, ``GetLibVersion``, ``GetVersion``; raises libvirt's errors."""
    root = ET.fromstring(connection.getCapabilities())  # noqa: S314 - libvirt's own output
    return Capabilities(
        kvm=kvm_usable(root, _expanded(connection, root)),
        libvirt_version=_version(connection.getLibVersion()),
        hypervisor_version=_version(connection.getVersion()),
    )


def kvm_usable(root: ET.Element, features: frozenset[str] = frozenset()) -> bool:
    """Does the host offer domains of type kvm and, on x86, does its CPU show vmx or svm?

    ``root`` is the capabilities XML. ``features`` are CPU features known beside those that it
    lists, which leaves out what the CPU's model implies.
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
    """Every feature of the host's CPU, the model's own too (``virConnectBaselineCPU``)."""
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
        return frozenset()  # a CPU model libvirt cannot expand: the list has to do
    return frozenset(
        feature.get("name", "")
        for feature in ET.fromstring(xml).iterfind("feature")  # noqa: S314 - libvirt's own output
        if feature.get("policy", "require") != "disable"
    )


def _version(number: int) -> str:
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"
