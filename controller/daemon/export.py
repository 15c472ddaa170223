"""``guestkeeper export``: writes the Guest document of an existing domain, without a daemon."""

from controller.daemon.house import House
from controller.daemon.once import opened
from controller.desired.text.problems import suggestion
from controller.errors import HostUnreachableError, PermanentError
from controller.loop.look import volumes_there
from controller.observed.domain import DomainView
from controller.observed.host import HostView
from controller.observed.kept import kept
from controller.planning.adoption.export import (
    disk_volumes,
    export,
    fitting_images,
)
from controller.planning.adoption.exported import Exported
from controller.settings import Settings


def export_once(settings: Settings, name: str, host: str | None, image: str | None) -> Exported:
    """Export the domain, looked for on ``host`` or else on all hosts; changes nothing.

    ``image`` None takes the image that the domain's recorded spec names, else the only one that
    boots as the domain does. Raises ``PermanentError`` where there is no such domain, several, or
    it cannot be written as a document, and ``HostUnreachableError``.
    """
    with opened(settings, read_only=True) as house:
        where, domain = _found(house, name, host)
        volumes = volumes_there(house.hypervisor, where, disk_volumes(domain, where))
        left = kept(house.hypervisor.domain_xml(where.name, name))
        try:
            return export(domain, where, _image(house, domain, image), volumes, left)
        except ValueError as error:
            raise PermanentError(
                f"domain {name} on host {where.name}: {error}", reason="NotExported"
            ) from error


def _found(house: House, name: str, host: str | None) -> tuple[HostView, DomainView]:
    hosts = [host] if host is not None else list(house.hypervisor.hosts())
    views = [house.hypervisor.host(one) for one in hosts]
    found = [
        (view, domain)
        for view in views
        if view.reachable and (domain := house.hypervisor.domain(view.name, name)) is not None
    ]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(view.name for view, _ in found)
        raise PermanentError(f"hosts {names} have a domain {name} each; name one with --host")
    for view in views:
        if not view.reachable:
            why = f" ({view.why})" if view.why else ""
            raise HostUnreachableError(f"host {view.name} is not reachable{why}")
    raise PermanentError(
        f"no domain is named {name} on {', '.join(hosts)}; see: virsh list --all",
        reason="DomainMissing",
    )


def _image(house: House, domain: DomainView, image: str | None) -> str | None:
    images = house.catalog.snapshot.images
    if image is not None:
        if image not in images:
            tip = suggestion(image, images, listing="there are")
            raise PermanentError(f"no image is named `{image}`; {tip}", reason="UnknownImage")
        return image
    owner = domain.ownership
    if domain.ours and owner is not None and owner.spec:
        return None
    fitting = fitting_images(images, domain)
    if len(fitting) == 1:
        return fitting[0]
    there = ", ".join(fitting or sorted(images)) or "none; write an Image document first"
    which = "several images fit" if fitting else "no image boots as it does"
    raise PermanentError(
        f"{which}; name the one that its system disk was made from, or is to be replaced by, with"
        f" --image (there are: {there})",
        reason="ImageUnknown",
    )
