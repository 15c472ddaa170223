"""Changes the number of vCPUs in a definition, with its topology and tuning.

libvirt refuses a definition whose number contradicts the topology, or that pins a vCPU which no
longer exists; so these are adapted. All else that an operator tuned stays.
"""

import xml.etree.ElementTree as ET
from math import prod

from controller.observed.surroundings import cpu_numbers

_NUMBERED = ("vcpupin", "vcpusched", "cachetune", "memorytune")
_DIMENSIONS = ("sockets", "dies", "clusters", "cores", "threads")


def update_vcpus(root: ET.Element, count: int, maximum: int) -> None:
    """Gives the ``<domain>`` ``maximum`` vCPUs, of which ``count`` are present at its start."""
    element = root.find("vcpu")
    if element is None:
        element = ET.SubElement(root, "vcpu")
    many = element.text != str(maximum)
    element.text = str(maximum)
    element.set("current", str(count))
    for each in root.findall("vcpus"):  # state of each vCPU; libvirt creates it anew
        root.remove(each)
    if many:
        _tuning(root, maximum)
        for topology in root.findall("cpu/topology"):
            _topology(topology, maximum)


def _tuning(root: ET.Element, maximum: int) -> None:
    """Removes vCPUs that no longer exist from the elements that name them."""
    for tune in root.findall("cputune"):
        for element in list(tune):
            key = "vcpu" if element.tag == "vcpupin" else "vcpus"
            if element.tag not in _NUMBERED or key not in element.attrib:
                continue
            named = cpu_numbers(element.get(key, ""))
            left = {number for number in named if number < maximum}
            if not left:
                tune.remove(element)
            elif left != named:
                element.set(key, ",".join(str(number) for number in sorted(left)))
        if not len(tune):
            root.remove(tune)


def _topology(topology: ET.Element, maximum: int) -> None:
    """Adapts the topology to ``maximum`` vCPUs: changes the number of cores per socket if it has
    several, else the number of sockets. Threads per core stay if ``maximum`` is divisible by them.
    """
    has = {name: _int(topology.get(name)) for name in _DIMENSIONS}
    order = ("cores", "sockets") if has["cores"] > 1 else ("sockets", "cores")
    for shape in (has, {**has, "threads": 1}, dict.fromkeys(_DIMENSIONS, 1)):
        for name in order:
            others = prod(number for other, number in shape.items() if other != name)
            if maximum % others == 0:
                for one, number in {**shape, name: maximum // others}.items():
                    if one in topology.attrib or number > 1:
                        topology.set(one, str(number))
                return


def _int(text: str | None) -> int:
    return int(text) if text is not None and text.isdecimal() and int(text) else 1
