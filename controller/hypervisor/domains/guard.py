"""The check before every write to a guest's domain: is the domain ours?

Ours is a domain whose ownership element has its UUID and name: a clone has the original's element.
"""

import libvirt

from controller.hypervisor.domains.guarded_writes import Guard, element_of
from controller.hypervisor.errors.refusals import conflict
from controller.observed.domain import NAMESPACE
from controller.observed.domain_xml import parse_ownership


def guest_guard(host: str) -> Guard:
    """The guard for guests' domains: an ownership element must be there and be the domain's own."""

    def guard(domain: libvirt.virDomain) -> None:
        xml, name = element_of(domain, NAMESPACE), domain.name()
        if xml is None:
            raise conflict(host, name, "is not Guestkeeper's")
        owner = parse_ownership(xml)
        if owner is None or (owner.uid, owner.name) != (domain.UUIDString(), name):
            raise conflict(host, name, "carries the mark of another domain, as a clone does,")

    return guard
