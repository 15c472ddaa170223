"""Operators' requests about images: list them by host and pool, build, retry, read build logs.

Guests' documents say where their images are wanted. An image that is built by hand may be used by
no guest yet, and is listed all the same.
"""

import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

import structlog

from controller.desired.catalog.snapshot import Snapshot
from controller.desired.effective import EffectiveImage
from controller.desired.text.problems import suggestion
from controller.errors import GuestkeeperError, HostUnreachableError, PermanentError
from controller.images.images import Images
from controller.images.progress import ImageProgress
from controller.observed.host import HostView
from controller.observed.image import ImageState, ImageView
from controller.operator.answers import RefusedError

log = structlog.get_logger(__name__)
LOG_BYTES = 16 << 20
"""Bytes that are shown of the end of an installer's log."""


@dataclass(frozen=True, slots=True, order=True)
class Place:
    host: str
    pool: str


def guest_places(
    snapshot: Snapshot, pools: Mapping[str, str]
) -> dict[tuple[str, Place], EffectiveImage]:
    """The images of guests' system disks, by image name and place.

    ``pools`` are the default pools by host; guests on hosts that are not in it are left out.
    """
    found: dict[tuple[str, Place], EffectiveImage] = {}
    for guest in snapshot.guests.values():
        host = guest.spec.host
        if host in pools:
            place = Place(host, guest.spec.system_disk.pool or pools[host])
            found[guest.image.name, place] = guest.image
    return found


def build_places(
    snapshot: Snapshot, pools: Mapping[str, str], image: str, host: str | None, pool: str | None
) -> list[Place]:
    """Where to build an image: where the operator says, else where its guests want it, else on the
    first host. ``pools`` as in ``guest_places``, in the settings' order.

    Raises ``RefusedError`` for an unknown host.
    """
    if host is not None and host not in pools:
        tip = suggestion(host, pools, listing="there are")
        raise RefusedError(f"no host is named `{host}`; {tip}")
    wanted = sorted(place for name, place in guest_places(snapshot, pools) if name == image)
    wanted = [place for place in wanted if host in (None, place.host)]
    if not wanted:
        first = host if host is not None else next(iter(pools))
        wanted = [Place(first, pools[first])]
    if pool is not None:
        wanted = [Place(name, pool) for name in sorted({place.host for place in wanted})]
    return wanted


class ImageRequests:
    """Implements ``web.application.Images``. Thread-safe.

    ``hosts`` gives all hosts of the settings, reachable or not, in the settings' order.
    """

    def __init__(
        self,
        images: Images,
        snapshot: Callable[[], Snapshot],
        hosts: Callable[[], Collection[HostView]],
    ) -> None:
        self._images = images
        self._snapshot = snapshot
        self._hosts = hosts
        self._lock = threading.Lock()
        self._asked: set[tuple[str, Place]] = set()

    def views(self, name: str | None = None) -> list[ImageView]:
        """Every image (or the one of that ``name``) in each pool that has it, or is to have it."""
        snapshot = self._snapshot()
        pools = {host.name: host.default_pool for host in self._hosts()}
        places = guest_places(snapshot, pools)
        with self._lock:
            asked = set(self._asked)
        asked |= {(one.image, Place(one.host, one.pool)) for one in self._images.progress()}
        for image, place in asked:
            if image in snapshot.images and place.host in pools:
                places.setdefault((image, place), snapshot.images[image])
        placed = {image for image, _ in places}
        views = [
            self._view(place, image)
            for (_, place), image in sorted(places.items(), key=lambda item: item[0])
            if name in (None, image.name)
        ]
        # An image that no guest uses may have been installed earlier, into a default pool. Ready
        # disks are not looked for: that would read files and volumes at each request.
        strays = [
            self._view(Place(host, pool), image)
            for image in snapshot.images.values()
            if image.install is not None and image.name not in placed and name in (None, image.name)
            for host, pool in pools.items()
        ]
        views += [view for view in strays if view and view.state is not ImageState.MISSING]
        return [view for view in views if view is not None]

    def progress(self) -> tuple[ImageProgress, ...]:
        """The preparations that are under way."""
        return self._images.progress()

    def build(
        self, name: str, host: str | None, pool: str | None, *, refresh: bool
    ) -> list[ImageView]:
        """Start a build by hand; returns the image's state at each of the places.

        Raises ``RefusedError`` for an unknown host or pool, and what ``Images.build`` raises.
        """
        snapshot = self._snapshot()
        image = _existing(snapshot, name)
        hosts = {one.name: one for one in self._hosts()}
        pools = {one.name: one.default_pool for one in hosts.values()}
        places = build_places(snapshot, pools, name, host, pool)
        for place in places:
            _check_pool(hosts[place.host], place.pool)
        return self._build(image, places, refresh=refresh)

    def retry(self, name: str) -> list[ImageView] | None:
        """Forget the failure and build anew; returns the states then, None if nothing had failed.

        Raises ``HostUnreachableError`` where a host that cannot be reached may have a failed
        build, ``PermanentError`` for a ready disk, and what ``Images.build`` raises.
        """
        image = _existing(self._snapshot(), name)
        if image.install is None:
            raise PermanentError(
                f"image {name} is a ready disk, which is tried again by itself; see: guestkeeper"
                f" describe image/{name}",
                reason="NoInstall",
            )
        failed = [view for view in self.views(name) if view.state is ImageState.FAILED]
        hosts = self._hosts()
        if not self._images.retry(image, [one.name for one in hosts if one.reachable]):
            for one in hosts:
                if not one.reachable:
                    why = f" ({one.why})" if one.why else ""
                    raise HostUnreachableError(
                        f"whether image {name} failed on host {one.name} cannot be known: it is not"
                        f" reachable{why}"
                    )
            return None
        return self._build(image, [Place(view.host, view.pool) for view in failed], refresh=False)

    def log(self, name: str, *, follow: bool) -> Iterator[bytes]:
        """The output of the image's installer; see ``Images.build_log``."""
        return self._images.build_log(name, LOG_BYTES, follow=follow)

    def _build(
        self, image: EffectiveImage, places: Collection[Place], *, refresh: bool
    ) -> list[ImageView]:
        views = []
        for place in places:
            view = self._images.build(place.host, place.pool, image, refresh=refresh)
            views.append(view)
            with self._lock:
                known = self._snapshot().images
                self._asked = {one for one in self._asked if one[0] in known}
                self._asked.add((image.name, place))
        return views

    def _view(self, place: Place, image: EffectiveImage) -> ImageView | None:
        try:
            return self._images.view(place.host, place.pool, image)
        except GuestkeeperError as error:
            host, why = place.host, str(error)
            log.debug("image cannot be looked at", image=image.name, host=host, why=why)
            return None


def _existing(snapshot: Snapshot, name: str) -> EffectiveImage:
    image = snapshot.images.get(name)
    if image is None:
        raise PermanentError(f"no image is named `{name}` any more", reason="UnknownImage")
    return image


def _check_pool(host: HostView, pool: str) -> None:
    if host.reachable and pool not in host.pools:
        tip = suggestion(pool, host.pools, listing="it has")
        raise RefusedError(f"host {host.name} has no pool `{pool}`; {tip}")
