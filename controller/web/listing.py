"""Lists of guests, services, hosts and problems as JSON, from statuses, the catalog and hosts."""

import difflib
from collections import Counter, defaultdict
from collections.abc import Collection

from controller.desired.catalog.snapshot import Snapshot
from controller.journal.database import Event
from controller.loop.status import GuestStatus
from controller.web.answers import ApiError
from controller.web.application import Application
from controller.web.selector import parse_selector
from controller.web.values import Json, when
from controller.web.views import (
    Detail,
    guest_conditions,
    guest_summary,
    guest_view,
    host_view,
    pending_view,
    problem_view,
)


def names(application: Application) -> list[str]:
    """The names of guests that have a document or a status, sorted."""
    known = {status.name for status in application.statuses.all()}
    return sorted(known | set(application.catalog().guests))


def known(application: Application, name: str) -> str:
    """``name`` itself; raises ``ApiError`` 404 where no guest has it."""
    if name not in names(application):
        raise ApiError(404, "NotFound", unknown_guest(application, name))
    return name


def unknown_guest(application: Application, name: str) -> str:
    """The message for a name that no guest has, with the closest name where there is one."""
    images = application.catalog().images
    if name in images:
        return f"`{name}` is an image, not a guest; see: guestkeeper describe image/{name}"
    known = names(application)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"no guest is named `{name}`; did you mean `{close[0]}`?"
    if close := difflib.get_close_matches(name, images, n=1, cutoff=0.6):
        return f"no guest is named `{name}`; did you mean the image `{close[0]}`?"
    if not known:
        return (
            f"no guest is named `{name}`; there are none yet: put a Guest document into the"
            " desired-state directory"
        )
    return f"no guest is named `{name}`; see: guestkeeper get guests"


def scanned(snapshot: Snapshot) -> Json:
    """When the directory was last scanned; None before the first scan."""
    return {"scanned_at": when(snapshot.scanned_at or None)}


def guests(
    application: Application, *, names: Collection[str], labels: str, detail: Detail
) -> list[Json]:
    """The guests that ``labels`` selects, by name; ``names`` empty: of all guests.

    Raises ``SelectorError``.
    """
    selected = parse_selector(labels)
    snapshot = application.catalog()
    statuses = {status.name: status for status in application.statuses.all()}
    found = []
    for name in sorted(set(names) if names else {*statuses, *snapshot.guests}):
        view = _view(statuses.get(name), name, snapshot, detail)
        if view is not None and selected(view["labels"]):
            found.append(view)
    return found


def guest(application: Application, name: str) -> Json | None:
    """Everything about one guest; None where no guest has that name."""
    snapshot = application.catalog()
    return _view(application.statuses.get(name), name, snapshot, Detail.FULL)


def _view(status: GuestStatus | None, name: str, snapshot: Snapshot, detail: Detail) -> Json | None:
    if status is None:
        wanted = snapshot.guests.get(name)
        return pending_view(wanted, detail) if wanted is not None else None
    if detail is Detail.SUMMARY:
        return guest_summary(status)
    if detail is Detail.CONDITIONS:
        return guest_conditions(status)
    return guest_view(status, snapshot.document_problems(name))


def services(application: Application) -> list[Json]:
    """Services by name, with their guests: shared ones, also unused, and inline ones."""
    snapshot = application.catalog()
    members: dict[str, list[Json]] = defaultdict(list)
    units: dict[str, set[str]] = defaultdict(set)
    for name in sorted(snapshot.guests):
        status = application.statuses.get(name)
        ready = dict(status.plan.services_ready) if status is not None else {}
        for service in snapshot.guests[name].services:
            members[service.name].append({"guest": name, "ready": ready.get(service.name)})
            if service.unit:
                units[service.name].add(service.unit)
    return [
        {
            "name": name,
            "shared": name in snapshot.services,
            "units": sorted(units[name]),
            "ready": sum(1 for member in members[name] if member["ready"]),
            "total": len(members[name]),
            "guests": members[name],
        }
        for name in sorted({*snapshot.services, *members})
    ]


def hosts(application: Application) -> list[Json]:
    """The hosts (libvirt connections) by name, each with the number of its guests."""
    used = Counter(guest.spec.host for guest in application.catalog().guests.values())
    return [
        host_view(host, used[host.name])
        for host in sorted(application.hosts(), key=lambda host: host.name)
    ]


def problems(application: Application) -> list[Json]:
    """The problems of the documents, sorted."""
    return [problem_view(problem) for problem in sorted(application.catalog().problems)]


def event_view(event: Event) -> Json:
    """An event; ``at`` is when it last happened, ``first_at`` when it first did."""
    return {
        "id": event.id,
        "at": when(event.time),
        "first_at": when(event.first_time),
        "count": event.count,
        "guest": event.guest,
        "reason": event.reason,
        "message": event.message,
        "warning": event.warning,
    }
