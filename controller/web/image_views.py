"""Images as JSON: source, guests that use it, and state in each pool."""

import difflib
from collections import defaultdict
from collections.abc import Sequence

from controller.desired.effective import EffectiveImage
from controller.desired.schema.image import InstallLocation, Kickstart
from controller.images.fetch.redirects import shown
from controller.images.progress import ImageProgress
from controller.observed.image import ImageState, ImageView
from controller.web.application import Application
from controller.web.values import Json, when

_WORST = ("Stalled", "Failed", "Preparing", "Missing", "Ready")


def images(application: Application) -> list[Json]:
    """All images by name, each with the pools that have it or are to have it."""
    views = defaultdict(list)
    for view in application.images.views():
        views[view.name].append(view)
    known = application.catalog().images
    return [_image(application, name, views[name]) for name in sorted({*known, *views})]


def image(application: Application, name: str) -> Json | None:
    """Everything about one image; None where no image has that name."""
    views = application.images.views(name)
    if name not in application.catalog().images and not views:
        return None
    return _image(application, name, views)


def unknown_image(application: Application, name: str) -> str:
    """The message for a name that no image has, with the closest name where there is one."""
    snapshot = application.catalog()
    if name in snapshot.guests:
        used = snapshot.guests[name].image.name
        return f"`{name}` is a guest, not an image; its image is `{used}`"
    close = difflib.get_close_matches(name, snapshot.images, n=1, cutoff=0.6)
    if close:
        return f"no image is named `{name}`; did you mean `{close[0]}`?"
    if snapshot.problems:
        return (
            f"no image is named `{name}`; if there is a document of it, see what is wrong with it:"
            " guestkeeper get problems"
        )
    if not snapshot.images:
        return (
            f"no image is named `{name}`; there are none yet: put an Image document into the"
            " desired-state directory"
        )
    return f"no image is named `{name}`; see: guestkeeper get images"


def pool_views(application: Application, views: Sequence[ImageView]) -> list[Json]:
    """The state of an image in each pool."""
    ongoing = {(now.image, now.host, now.pool): now for now in application.images.progress()}
    return [
        _pool(view, ongoing.get((view.name, view.host, view.pool)))
        for view in sorted(views, key=lambda view: (view.host, view.pool))
    ]


def _image(application: Application, name: str, views: Sequence[ImageView]) -> Json:
    snapshot = application.catalog()
    image = snapshot.images.get(name)
    used = sorted(guest.name for guest in snapshot.guests.values() if guest.spec.image == name)
    words = {"Stalled" if view.stalled else str(view.state) for view in views}
    return {
        "name": name,
        "state": next((word for word in _WORST if word in words), None),
        "guests": len(used),
        "used_by": used,
        "os_family": str(image.spec.os_family) if image is not None else None,
        "cloud_init": image.spec.cloud_init if image is not None else None,
        **_source(image),
        "digest": image.digest if image is not None else None,
        "content": image.content if image is not None else None,
        "pools": pool_views(application, views),
    }


def _source(image: EffectiveImage | None) -> Json:
    """``source`` is a file, URL or template; ``source_kind`` is the document's field for it."""
    if image is None:
        return dict.fromkeys(("source", "source_kind", "template", "version", "location"))
    source, kinds = image.spec.source, ("file", "url", "kickstart", "preseed", "autoinstall")
    install, made_from = source.install, source.file
    if source.url is not None:
        made_from = shown(source.url)
    elif install is not None:
        made_from = install.template
    return {
        "source": made_from,
        "source_kind": next((kind for kind in kinds if getattr(source, kind) is not None), None),
        "template": install.template if install is not None else None,
        "version": install.version if isinstance(install, Kickstart) else None,
        "location": _location(install.location) if install is not None else None,
    }


def _location(location: InstallLocation) -> str:
    """Where the installer comes from; URLs without the parts that may hold secrets."""
    if location.tree is not None:
        return shown(location.tree)
    if location.iso is not None:
        pool = f"{location.iso.pool}/" if location.iso.pool is not None else ""
        return f"volume {pool}{location.iso.volume}"
    kernel = location.kernel or ""
    return shown(kernel) if "://" in kernel else kernel


def _pool(view: ImageView, now: ImageProgress | None) -> Json:
    return {
        "host": view.host,
        "pool": view.pool,
        "state": str(view.state),
        "message": view.message,
        "reason": view.reason or None,
        "remedy": _remedy(view),
        "stalled": view.stalled,
        "log_tail": view.log_tail or None,
        "phase": str(now.phase) if now is not None else None,
        "detail": (now.detail or None) if now is not None else None,
        "done": now.done if now is not None and now.done + (now.total or 0) else None,
        "total": now.total if now is not None else None,
        "since": when(now.since) if now is not None else None,
        "base": view.base,
        "capacity": view.capacity or None,
        "retry_at": when(view.retry_at),
    }


def _remedy(view: ImageView) -> str | None:
    """What to do about a failure, in addition to its message; None where nothing failed."""
    if view.state is not ImageState.FAILED:
        return None
    if view.stalled:
        return (
            f"correct what made it fail, then: guestkeeper retry {view.name}; a change of its"
            f" document is tried by itself. The whole log: guestkeeper logs image/{view.name}"
        )
    return "correct what made it fail; as long as a guest waits for it, it is tried again by itself"
